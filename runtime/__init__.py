"""Run MindIR graphs and bundles on a device. Needs numpy and the engine's library; no MindSpore.

from mindir_llm.runtime import LLM, Graph, SamplingParams
"""

from __future__ import annotations

from .backend import ModelInfo
from .errors import (
    BundleError,
    CapacityError,
    InvalidArgumentError,
    LibraryError,
    MindirLLMError,
    OutOfMemoryError,
    UnsupportedError,
)
from .graph import Graph, TensorInfo
from .llm import LLM, TextStream
from .outputs import CompletionOutput, Logprob, Metrics, RequestOutput
from .sampling import SamplingParams
from .tokenizer import EngineTokenizer

__all__ = [
    "LLM",
    "BundleError",
    "CapacityError",
    "CompletionOutput",
    "EngineTokenizer",
    "Graph",
    "InvalidArgumentError",
    "LibraryError",
    "Logprob",
    "Metrics",
    "MindirLLMError",
    "ModelInfo",
    "OutOfMemoryError",
    "RequestOutput",
    "SamplingParams",
    "TensorInfo",
    "TextStream",
    "UnsupportedError",
]
