"""Run MindIR graphs and bundles on a device. Needs numpy and the engine's library; no MindSpore.

from mindir_llm.runtime import LLM, Graph, SamplingParams
"""

from __future__ import annotations

from .backend import ModelInfo
from .errors import (
    BundleError,
    CapacityError,
    GrammarError,
    InvalidArgumentError,
    LibraryError,
    MindirLLMError,
    OutOfMemoryError,
    UnsupportedError,
)
from .grammar import Grammar, Matcher
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
    "Grammar",
    "GrammarError",
    "Graph",
    "InvalidArgumentError",
    "LibraryError",
    "Logprob",
    "Matcher",
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
