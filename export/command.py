"""`mindir-llm export`."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
import warnings
from collections.abc import Iterator
from types import FrameType
from typing import Any

from mindir_llm.export.calibrate.settings import add_calibration_arguments, calibration_settings
from mindir_llm.export.errors import ExportError
from mindir_llm.export.quantize.config import METHODS, PRESETS, from_yaml

__all__ = ["register"]

_EXAMPLES = """\
examples:
  mindir-llm export TinyLlama-1.1B-Chat bundle --quant a16w8
      int8 weights for the engine on any CPU; the graphs also run in stock MindSpore
  mindir-llm export TinyLlama-1.1B-Chat bundle --quant a16w4 --group-size 64
      int4 weights: half the memory, less exact; larger groups have fewer scales
  mindir-llm export TinyLlama-1.1B-Chat bundle --quant a16w4 --method gptq --calibration text.txt
      int4 weights found by running the network over a text
  mindir-llm export TinyLlama-1.1B-Chat bundle --quant a16w4 --report report.html
      also a page that shows what each layer loses, and what became of its size
  mindir-llm export TinyLlama-1.1B-Chat bundle --dtype float32 --max-seq-len 512
      a float bundle that MindSpore Lite's converter takes as well
  mindir-llm export Llama-2-7b bundle --target ascend --quant a16w8
      the fused primitives of Ascend NPUs; the engine runs them on a CPU too
"""


def register(subparsers: Any) -> None:
    """Add the `export` subcommand to an argparse subparsers object."""
    parser = subparsers.add_parser(
        "export",
        help="turn a Hugging Face checkpoint into a bundle",
        description="Quantize a Hugging Face Llama-family checkpoint and trace it with MindSpore.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "checkpoint", metavar="CHECKPOINT", help="folder with config.json and safetensors files"
    )
    parser.add_argument("bundle", metavar="BUNDLE", help="folder to write; must not exist")
    parser.add_argument(
        "--quant",
        choices=tuple(PRESETS),
        default="none",
        help="a16w8: int8 weights, one scale per output channel; a16w4: int4 weights, one scale per"
        " --group-size inputs of an output channel; a8w8-dynamic: as a16w8, and the inputs of linear layers"
        " are rounded to int8, one scale per token; a8w8: the same with one calibrated scale (default: none)",
    )
    parser.add_argument(
        "--group-size",
        type=int,
        choices=(0, 32, 64, 128),
        default=None,
        help="inputs that share a scale; 0: all inputs of an output channel (default: 32 of int4)",
    )
    parser.add_argument(
        "--method",
        choices=tuple(METHODS),
        default=None,
        help="how integers are found: rounding to nearest; smoothquant, osl: inputs are smoothed for a8w8;"
        " awq: weights are scaled and clipped; gptq: errors are made up for (default: rtn)",
    )
    parser.add_argument(
        "--quant-config",
        metavar="FILE",
        default=None,
        help="YAML with all settings, also per layer, instead of --quant, --group-size and --method",
    )
    parser.add_argument(
        "--dtype",
        choices=("float16", "float32"),
        default="float16",
        help="type of weights that are not quantized (default: float16)",
    )
    parser.add_argument(
        "--kv-dtype",
        choices=("float16", "float32", "int8"),
        default=None,
        help="type of the KV caches; int8 halves what float16 takes (default: --dtype)",
    )
    parser.add_argument(
        "--kv-granularity",
        choices=("per_channel", "per_token"),
        default=None,
        help="of int8 caches: calibrated scales of the channels, or one for each token and head, made as it"
        " comes (default: per_token)",
    )
    parser.add_argument(
        "--target",
        choices=("cpu", "ascend"),
        default="cpu",
        help="operators: those of stock MindSpore and MindSpore Lite, or an NPU's (default: cpu)",
    )
    parser.add_argument(
        "--max-seq-len",
        type=int,
        default=None,
        metavar="N",
        help="tokens a sequence may have, prompt included (default: the model's limit, at most 2048)",
    )
    parser.add_argument(
        "--prefill-chunk", type=int, default=None, metavar="P", help="prompt tokens per call (default: 256)"
    )
    parser.add_argument("--batch", type=int, default=1, metavar="B", help="sequences per call (default: 1)")
    parser.add_argument(
        "--report",
        metavar="FILE.html",
        default=None,
        help="write a page about the export: settings, errors of every quantized layer, sizes, what stayed"
        " float, speed in the engine where that is installed",
    )
    parser.add_argument(
        "--force",
        action="store_true",
        help="replace BUNDLE if it is a bundle already, and the --report if it is one",
    )
    add_calibration_arguments(parser)
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    from mindir_llm.export.bundle import ExportOptions, export_bundle
    from mindir_llm.export.report import measure_speed

    try:
        from tqdm import tqdm
    except ModuleNotFoundError:
        raise ExportError("exporting needs tqdm and MindSpore: pip install 'mindir-llm[export]'") from None

    # MindSpore reports its own deprecations and device probing, about which a user of this command can do
    # nothing.
    os.environ.setdefault("GLOG_v", "3")
    options = ExportOptions(
        quant=args.quant,
        group_size=args.group_size,
        method=args.method,
        config=None if args.quant_config is None else from_yaml(args.quant_config),
        calibration=args.calibration,
        calibration_settings=calibration_settings(args),
        work_dir=args.work_dir,
        dtype=args.dtype,
        kv_dtype=args.kv_dtype,
        kv_granularity=args.kv_granularity,
        target=args.target,
        max_seq_len=args.max_seq_len,
        prefill_chunk=args.prefill_chunk,
        batch=args.batch,
        force=args.force,
        report=args.report,
    )
    with (
        _exit_on_terminate(),
        warnings.catch_warnings(record=True) as caught,
        _Bars(tqdm) as bars,
    ):
        warnings.simplefilter("always", UserWarning)
        bundle = export_bundle(
            args.checkpoint,
            args.bundle,
            options,
            bars.weights,
            calibration_progress=bars.calibration,
            measure=measure_speed,
        )
    for warning in caught:
        if issubclass(warning.category, UserWarning):
            print(f"mindir-llm: warning: {warning.message}", file=sys.stderr)
    size = sum(path.stat().st_size for path in bundle.rglob("*") if path.is_file())
    print(f"{bundle}: {size / 1e6:.1f} MB")
    if args.report is not None:
        print(f"{args.report}: report")
    return 0


class _Bars(contextlib.ExitStack):
    """The progress of a calibration and of the weights, each with a bar from its first report on."""

    def __init__(self, tqdm: Any) -> None:
        super().__init__()
        self._tqdm = tqdm
        self._shown: dict[str, Any] = {}

    def weights(self, done: int, total: int) -> None:
        self._show("weights", done, total, unit="B", unit_scale=True, unit_divisor=1000)

    def calibration(self, done: int, total: int, what: str) -> None:
        self._show("calibration", done, total, unit="").set_postfix_str(what, refresh=False)

    def _show(self, name: str, done: int, total: int, **style: Any) -> Any:
        if name not in self._shown:
            self._shown[name] = self.enter_context(self._tqdm(desc=name, total=total, disable=None, **style))
        bar = self._shown[name]
        bar.update(done - bar.n)
        return bar


@contextlib.contextmanager
def _exit_on_terminate() -> Iterator[None]:
    """Turn SIGTERM into an exception, so that a terminated export removes its half-written folder too."""

    def leave(number: int, _frame: FrameType | None) -> None:
        sys.exit(128 + number)

    previous = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
