"""Calibration: run a checkpoint's float network over a text, layer by layer, and look at what its linear
layers take in.

`calibrate_text` (or `calibrate`, with token ids) returns statistics per linear layer. A `Visitor` also sees
every input's second moment and the float weights on the way, and may hand back other weights, whose errors
then reach the layers behind. Needs numpy only.
"""

from mindir_llm.export.calibrate.run import (
    Calibration,
    Progress,
    Site,
    VisitedLayers,
    Visitor,
    calibrate,
    calibrate_text,
)
from mindir_llm.export.calibrate.settings import CalibrationSettings
from mindir_llm.export.calibrate.statistics import InputStatistics
from mindir_llm.export.calibrate.texts import load_sequences

__all__ = [
    "Calibration",
    "CalibrationSettings",
    "InputStatistics",
    "Progress",
    "Site",
    "VisitedLayers",
    "Visitor",
    "calibrate",
    "calibrate_text",
    "load_sequences",
]
