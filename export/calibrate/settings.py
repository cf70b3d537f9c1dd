"""How much is calibrated with, and what is measured."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, fields

from mindir_llm.export.errors import ExportError

__all__ = ["CalibrationSettings", "add_calibration_arguments", "calibration_settings"]


@dataclass(frozen=True)
class CalibrationSettings:
    """samples: sequences at most. length: tokens of each at most. second_moment: collect X^T X of every
    input (needed by GPTQ). drift: collect X^T (X of the float network - X) too, for which the float network
    runs beside the one that a visitor changes. sample_rows: rows of every input to keep, drawn at random, the
    same tokens for all layers. keep_samples: in the results too, after the visitor has seen them. seed: of
    that draw. ExportError names the flag of a value out of range.
    """

    samples: int = 128
    length: int = 512
    second_moment: bool = False
    drift: bool = False
    sample_rows: int = 0
    keep_samples: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        for flag, value, low in (
            ("--calibration-samples", self.samples, 1),
            ("--calibration-length", self.length, 2),
            ("sample_rows", self.sample_rows, 0),
            ("seed", self.seed, 0),
        ):
            if isinstance(value, bool) or not isinstance(value, int) or value < low:
                raise ExportError(f"{flag}: {value!r} is not an integer of at least {low}")


def add_calibration_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of calibration to a command's parser."""
    default = {field.name: field.default for field in fields(CalibrationSettings)}
    group = parser.add_argument_group("calibration")
    group.add_argument(
        "--calibration",
        metavar="FILE",
        help="text to run the network on: UTF-8, split at <|endoftext|> or else at blank lines, or .jsonl"
        " with text or messages",
    )
    group.add_argument(
        "--calibration-samples",
        type=int,
        metavar="N",
        help=f"sequences at most (default: {default['samples']})",
    )
    group.add_argument(
        "--calibration-length",
        type=int,
        metavar="N",
        help=f"tokens of a sequence at most (default: {default['length']})",
    )
    group.add_argument(
        "--work-dir",
        metavar="DIR",
        help="keep finished layers here: an export that was stopped continues, one that is repeated with"
        " another --target does not calibrate again (default: a folder that is removed)",
    )


def calibration_settings(args: argparse.Namespace) -> CalibrationSettings | None:
    """What the flags of add_calibration_arguments() say, None where they say nothing."""
    given = {"samples": args.calibration_samples, "length": args.calibration_length}
    chosen = {name: value for name, value in given.items() if value is not None}
    return CalibrationSettings(**chosen) if chosen else None
