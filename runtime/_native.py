"""The C interface of the engine (runtime/engine/include/mindir_llm.h), for ctypes.

Everything here mirrors that header by name; a test reads the header and compares. Nothing is loaded before
`library()` is called.
"""

from __future__ import annotations

import ctypes
import os
import sys
from ctypes import (
    POINTER,
    c_char_p,
    c_double,
    c_float,
    c_int32,
    c_int64,
    c_size_t,
    c_uint32,
    c_uint64,
    c_void_p,
)
from functools import lru_cache
from pathlib import Path
from typing import Any

from . import errors

ABI_VERSION = 1

STATUS = {
    "MLLM_OK": 0,
    "MLLM_ERROR_INVALID_ARGUMENT": 1,
    "MLLM_ERROR_IO": 2,
    "MLLM_ERROR_FORMAT": 3,
    "MLLM_ERROR_UNSUPPORTED": 4,
    "MLLM_ERROR_OUT_OF_MEMORY": 5,
    "MLLM_ERROR_CAPACITY": 6,
    "MLLM_ERROR_INTERNAL": 7,
    "MLLM_ERROR_BUSY": 8,
    "MLLM_ERROR_CANCELLED": 9,
}

DTYPE = {
    "MLLM_DTYPE_BOOL": 0,
    "MLLM_DTYPE_INT8": 1,
    "MLLM_DTYPE_UINT8": 2,
    "MLLM_DTYPE_INT16": 3,
    "MLLM_DTYPE_INT32": 4,
    "MLLM_DTYPE_INT64": 5,
    "MLLM_DTYPE_FLOAT16": 6,
    "MLLM_DTYPE_BFLOAT16": 7,
    "MLLM_DTYPE_FLOAT32": 8,
    "MLLM_DTYPE_FLOAT64": 9,
    "MLLM_DTYPE_QINT4X2": 10,
    "MLLM_DTYPE_UINT16": 11,
    "MLLM_DTYPE_UINT32": 12,
    "MLLM_DTYPE_UINT64": 13,
}

TOKEN_KIND = {"MLLM_TOKEN_TEXT": 0, "MLLM_TOKEN_BYTE": 1, "MLLM_TOKEN_SPECIAL": 2}
ENCODE_FLAGS = {"MLLM_ENCODE_ADD_SPECIAL": 1, "MLLM_ENCODE_PARSE_SPECIAL": 2}
LOG_LEVEL = {"MLLM_LOG_INFO": 0, "MLLM_LOG_WARNING": 1}
MEMORY_KIND = {"MLLM_MEMORY_WEIGHTS": 0, "MLLM_MEMORY_CACHE": 1, "MLLM_MEMORY_ACTIVATIONS": 2}
FINISH_REASON = {"MLLM_FINISH_STOP": 1, "MLLM_FINISH_LENGTH": 2, "MLLM_FINISH_CANCELLED": 3}
PRIORITY = {"MLLM_PRIORITY_NORMAL": 0, "MLLM_PRIORITY_LOW": 1, "MLLM_PRIORITY_HIGH": 2}
CONTEXT_FULL = {"MLLM_CONTEXT_STOP": 0, "MLLM_CONTEXT_DROP": 1}

GRAMMAR_KIND = {"MLLM_GRAMMAR_GBNF": 0, "MLLM_GRAMMAR_JSON_SCHEMA": 1, "MLLM_GRAMMAR_JSON_OBJECT": 2}

_EXCEPTION: dict[int, type[errors.MindirLLMError]] = {
    STATUS["MLLM_ERROR_INVALID_ARGUMENT"]: errors.InvalidArgumentError,
    STATUS["MLLM_ERROR_IO"]: errors.BundleError,
    STATUS["MLLM_ERROR_FORMAT"]: errors.BundleError,
    STATUS["MLLM_ERROR_UNSUPPORTED"]: errors.UnsupportedError,
    STATUS["MLLM_ERROR_OUT_OF_MEMORY"]: errors.OutOfMemoryError,
    STATUS["MLLM_ERROR_CAPACITY"]: errors.CapacityError,
    STATUS["MLLM_ERROR_INTERNAL"]: errors.MindirLLMError,
    STATUS["MLLM_ERROR_BUSY"]: errors.InvalidArgumentError,
    STATUS["MLLM_ERROR_CANCELLED"]: errors.MindirLLMError,
}


class Tensor(ctypes.Structure):
    """mllm_tensor"""

    _fields_ = (
        ("name", c_char_p),
        ("dtype", ctypes.c_int),
        ("rank", c_int32),
        ("dims", POINTER(c_int64)),
        ("data", c_void_p),
        ("nbytes", c_size_t),
    )


ProgressCallback = ctypes.CFUNCTYPE(None, c_void_p, c_uint64, c_uint64)


class ModelOptions(ctypes.Structure):
    """mllm_model_options"""

    _fields_ = (
        ("struct_size", c_uint32),
        ("threads", c_int32),
        ("verify_weights", c_int32),
        ("exact", c_int32),
        ("max_memory", c_uint64),
        ("cores", c_char_p),
        ("priority", ctypes.c_int),
        ("tokens_only", c_int32),
        ("on_progress", ProgressCallback),
        ("user", c_void_p),
    )


class ModelMemory(ctypes.Structure):
    """mllm_model_memory"""

    _fields_ = (
        ("struct_size", c_uint32),
        ("context", c_int32),
        ("bundle_context", c_int32),
        ("prefill_chunk", c_int32),
        ("bundle_prefill_chunk", c_int32),
        ("max_memory", c_uint64),
        ("peak", c_uint64),
        ("text", c_char_p),
    )


class ModelInfo(ctypes.Structure):
    """mllm_model_info"""

    _fields_ = (
        ("batch_size", c_int32),
        ("max_seq_len", c_int32),
        ("prefill_chunk", c_int32),
        ("vocab_size", c_int32),
        ("num_layers", c_int32),
        ("threads", c_int32),
        ("fused", c_int32),
        ("weight_bytes", c_size_t),
        ("kv_cache_bytes", c_size_t),
    )


class Segment(ctypes.Structure):
    """mllm_segment"""

    _fields_ = (("slot", c_int32), ("tokens", POINTER(c_int32)), ("n_tokens", c_int32))


class SamplingParams(ctypes.Structure):
    """mllm_sampling_params"""

    _fields_ = (
        ("struct_size", c_uint32),
        ("temperature", c_float),
        ("top_k", c_int32),
        ("top_p", c_float),
        ("min_p", c_float),
        ("repetition_penalty", c_float),
        ("presence_penalty", c_float),
        ("frequency_penalty", c_float),
        ("seed", c_uint64),
    )


class TemplateOptions(ctypes.Structure):
    """mllm_template_options"""

    _fields_ = (("struct_size", c_uint32), ("local_time", c_int64))


class MachineSpeed(ctypes.Structure):
    """mllm_machine_speed"""

    _fields_ = (("read_bandwidth", c_double), ("int8_macs", c_double), ("matrix_macs", c_double))


class TokenizerInfo(ctypes.Structure):
    """mllm_tokenizer_info"""

    _fields_ = (
        ("vocab_size", c_int32),
        ("bos_token_id", c_int32),
        ("eos_token_id", c_int32),
        ("add_bos_token", c_int32),
        ("add_eos_token", c_int32),
    )


class Token(ctypes.Structure):
    """mllm_token"""

    _fields_ = (
        ("kind", ctypes.c_int),
        ("piece", c_char_p),
        ("piece_bytes", c_size_t),
        ("text", c_char_p),
        ("text_bytes", c_size_t),
    )


LogCallback = ctypes.CFUNCTYPE(None, c_void_p, ctypes.c_int, c_char_p)
AllocateCallback = ctypes.CFUNCTYPE(c_void_p, c_void_p, ctypes.c_int, c_size_t, c_size_t)
ReleaseCallback = ctypes.CFUNCTYPE(None, c_void_p, ctypes.c_int, c_void_p, c_size_t)


class Allocator(ctypes.Structure):
    """mllm_allocator"""

    _fields_ = (
        ("struct_size", c_uint32),
        ("allocate", AllocateCallback),
        ("release", ReleaseCallback),
        ("user", c_void_p),
    )


class LogitBias(ctypes.Structure):
    """mllm_logit_bias"""

    _fields_ = (("token", c_int32), ("bias", c_float))


class Piece(ctypes.Structure):
    """mllm_piece"""

    _fields_ = (
        ("text", c_char_p),
        ("text_bytes", c_size_t),
        ("token", c_int32),
        ("logprob", c_float),
        ("logits", POINTER(c_float)),
    )


PieceCallback = ctypes.CFUNCTYPE(c_int32, c_void_p, POINTER(Piece))


class GenerateOptions(ctypes.Structure):
    """mllm_generate_options"""

    _fields_ = (
        ("struct_size", c_uint32),
        ("max_tokens", c_int32),
        ("min_tokens", c_int32),
        ("ignore_eos", c_int32),
        ("random_seed", c_int32),
        ("no_reuse", c_int32),
        ("sampling", POINTER(SamplingParams)),
        ("stop", POINTER(c_char_p)),
        ("n_stop", c_size_t),
        ("stop_tokens", POINTER(c_int32)),
        ("n_stop_tokens", c_size_t),
        ("bad_words", POINTER(c_char_p)),
        ("n_bad_words", c_size_t),
        ("logit_bias", POINTER(LogitBias)),
        ("n_logit_bias", c_size_t),
        ("grammar", c_void_p),
        ("on_piece", PieceCallback),
        ("user", c_void_p),
    )


class Generation(ctypes.Structure):
    """mllm_generation"""

    _fields_ = (
        ("struct_size", c_uint32),
        ("finish_reason", ctypes.c_int),
        ("stop_token", c_int32),
        ("stop_index", c_int32),
        ("is_full", c_int32),
        ("prompt_tokens", c_int32),
        ("cached_tokens", c_int32),
        ("dropped_messages", c_int32),
        ("text", c_char_p),
        ("text_bytes", c_size_t),
        ("tokens", POINTER(c_int32)),
        ("n_tokens", c_size_t),
        ("prompt_seconds", c_double),
        ("decode_seconds", c_double),
    )


class ChatOptions(ctypes.Structure):
    """mllm_chat_options"""

    _fields_ = (
        ("struct_size", c_uint32),
        ("context_full", ctypes.c_int),
        ("system", c_char_p),
        ("chat_template", c_char_p),
        ("variables", c_char_p),
        ("local_time", c_int64),
    )


STRUCTS: dict[str, type[ctypes.Structure]] = {
    "mllm_tensor": Tensor,
    "mllm_model_options": ModelOptions,
    "mllm_model_memory": ModelMemory,
    "mllm_model_info": ModelInfo,
    "mllm_segment": Segment,
    "mllm_sampling_params": SamplingParams,
    "mllm_machine_speed": MachineSpeed,
    "mllm_tokenizer_info": TokenizerInfo,
    "mllm_token": Token,
    "mllm_template_options": TemplateOptions,
    "mllm_allocator": Allocator,
    "mllm_logit_bias": LogitBias,
    "mllm_piece": Piece,
    "mllm_generate_options": GenerateOptions,
    "mllm_generation": Generation,
    "mllm_chat_options": ChatOptions,
}

# Handles are opaque pointers. _CHECK stands for the result type of functions that return mllm_status.
_HANDLE = c_void_p
_CHECK = object()

PROTOTYPES: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "mllm_abi_version": (c_uint32, ()),
    "mllm_version": (c_char_p, ()),
    "mllm_last_error": (c_char_p, ()),
    "mllm_set_log": (None, (LogCallback, c_void_p)),
    "mllm_set_allocator": (_CHECK, (POINTER(Allocator),)),
    "mllm_graph_open": (_CHECK, (c_char_p, c_int32, POINTER(_HANDLE))),
    "mllm_graph_close": (None, (_HANDLE,)),
    "mllm_graph_input_count": (c_size_t, (_HANDLE,)),
    "mllm_graph_output_count": (c_size_t, (_HANDLE,)),
    "mllm_graph_input": (_CHECK, (_HANDLE, c_size_t, POINTER(Tensor))),
    "mllm_graph_output": (_CHECK, (_HANDLE, c_size_t, POINTER(Tensor))),
    "mllm_graph_run": (_CHECK, (_HANDLE, POINTER(Tensor), c_size_t, POINTER(Tensor), c_size_t)),
    "mllm_graph_describe": (_CHECK, (_HANDLE, POINTER(c_char_p))),
    "mllm_model_open": (_CHECK, (c_char_p, POINTER(ModelOptions), POINTER(_HANDLE))),
    "mllm_model_close": (None, (_HANDLE,)),
    "mllm_model_get_info": (_CHECK, (_HANDLE, POINTER(ModelInfo))),
    "mllm_model_get_memory": (_CHECK, (_HANDLE, POINTER(ModelMemory))),
    "mllm_model_manifest": (c_char_p, (_HANDLE,)),
    "mllm_session_create": (_CHECK, (_HANDLE, POINTER(_HANDLE))),
    "mllm_session_close": (None, (_HANDLE,)),
    "mllm_session_feed": (_CHECK, (_HANDLE, POINTER(Segment), c_size_t)),
    "mllm_session_cancel": (None, (_HANDLE,)),
    "mllm_session_position": (_CHECK, (_HANDLE, c_int32, POINTER(c_int32))),
    "mllm_session_rewind": (_CHECK, (_HANDLE, c_int32, c_int32)),
    "mllm_session_logits": (_CHECK, (_HANDLE, c_int32, POINTER(POINTER(c_float)))),
    "mllm_session_save": (_CHECK, (_HANDLE, c_int32, POINTER(c_void_p), POINTER(c_size_t))),
    "mllm_session_restore": (_CHECK, (_HANDLE, c_int32, c_void_p, c_size_t)),
    "mllm_session_set_profiling": (_CHECK, (_HANDLE, c_int32)),
    "mllm_session_profile": (_CHECK, (_HANDLE, POINTER(c_char_p))),
    "mllm_template_open": (_CHECK, (c_char_p, c_size_t, POINTER(_HANDLE))),
    "mllm_template_close": (None, (_HANDLE,)),
    "mllm_template_render": (
        _CHECK,
        (_HANDLE, c_char_p, POINTER(TemplateOptions), POINTER(c_char_p), POINTER(c_size_t)),
    ),
    "mllm_measure_machine": (_CHECK, (c_int32, POINTER(MachineSpeed))),
    "mllm_sampling_params_init": (None, (POINTER(SamplingParams),)),
    "mllm_sampler_create": (_CHECK, (POINTER(SamplingParams), c_int32, POINTER(_HANDLE))),
    "mllm_sampler_close": (None, (_HANDLE,)),
    "mllm_sampler_add_prompt": (_CHECK, (_HANDLE, POINTER(c_int32), c_size_t)),
    "mllm_sampler_sample": (
        _CHECK,
        (_HANDLE, POINTER(c_float), POINTER(c_int32), c_size_t, POINTER(c_int32), POINTER(c_float)),
    ),
    "mllm_top_logprobs": (_CHECK, (POINTER(c_float), c_int32, c_int32, POINTER(c_int32), POINTER(c_float))),
    "mllm_tokenizer_open": (_CHECK, (c_char_p, POINTER(_HANDLE))),
    "mllm_tokenizer_close": (None, (_HANDLE,)),
    "mllm_tokenizer_get_info": (_CHECK, (_HANDLE, POINTER(TokenizerInfo))),
    "mllm_tokenizer_stop_tokens": (_CHECK, (_HANDLE, POINTER(POINTER(c_int32)), POINTER(c_size_t))),
    "mllm_tokenizer_encode": (
        _CHECK,
        (_HANDLE, c_char_p, c_size_t, c_uint32, POINTER(POINTER(c_int32)), POINTER(c_size_t)),
    ),
    "mllm_tokenizer_decode": (
        _CHECK,
        (_HANDLE, POINTER(c_int32), c_size_t, c_int32, POINTER(c_char_p), POINTER(c_size_t)),
    ),
    "mllm_tokenizer_token": (_CHECK, (_HANDLE, c_int32, POINTER(Token))),
    "mllm_tokenizer_find": (_CHECK, (_HANDLE, c_char_p, c_size_t, POINTER(c_int32))),
    "mllm_decoder_create": (_CHECK, (_HANDLE, c_int32, POINTER(_HANDLE))),
    "mllm_decoder_close": (None, (_HANDLE,)),
    "mllm_decoder_push": (_CHECK, (_HANDLE, c_int32, POINTER(c_char_p), POINTER(c_size_t))),
    "mllm_decoder_flush": (_CHECK, (_HANDLE, POINTER(c_char_p), POINTER(c_size_t))),
    "mllm_grammar_compile": (_CHECK, (_HANDLE, ctypes.c_int, c_char_p, c_size_t, POINTER(_HANDLE))),
    "mllm_grammar_close": (None, (_HANDLE,)),
    "mllm_matcher_create": (_CHECK, (_HANDLE, POINTER(c_int32), c_size_t, POINTER(_HANDLE))),
    "mllm_matcher_copy": (_CHECK, (_HANDLE, POINTER(_HANDLE))),
    "mllm_matcher_close": (None, (_HANDLE,)),
    "mllm_matcher_mask": (_CHECK, (_HANDLE, POINTER(POINTER(c_uint32)), POINTER(c_size_t))),
    "mllm_matcher_accept": (_CHECK, (_HANDLE, c_int32)),
    "mllm_matcher_accept_text": (_CHECK, (_HANDLE, c_char_p, c_size_t, POINTER(c_size_t))),
    "mllm_matcher_progress": (_CHECK, (_HANDLE, POINTER(c_int32), POINTER(c_int32))),
    "mllm_sampler_sample_matching": (
        _CHECK,
        (_HANDLE, _HANDLE, POINTER(c_float), POINTER(c_int32), c_size_t, POINTER(c_int32), POINTER(c_float)),
    ),
    "mllm_generator_create": (_CHECK, (_HANDLE, POINTER(_HANDLE))),
    "mllm_generator_close": (None, (_HANDLE,)),
    "mllm_generator_cancel": (None, (_HANDLE,)),
    "mllm_generate_text": (
        _CHECK,
        (_HANDLE, c_char_p, c_size_t, POINTER(GenerateOptions), POINTER(Generation)),
    ),
    "mllm_generate_tokens": (
        _CHECK,
        (_HANDLE, POINTER(c_int32), c_size_t, POINTER(GenerateOptions), POINTER(Generation)),
    ),
    "mllm_chat_create": (_CHECK, (_HANDLE, POINTER(ChatOptions), POINTER(_HANDLE))),
    "mllm_chat_close": (None, (_HANDLE,)),
    "mllm_chat_ask": (
        _CHECK,
        (_HANDLE, c_char_p, c_size_t, POINTER(GenerateOptions), POINTER(Generation)),
    ),
    "mllm_chat_answer": (_CHECK, (_HANDLE, POINTER(GenerateOptions), POINTER(Generation))),
    "mllm_chat_reset": (_CHECK, (_HANDLE,)),
    "mllm_chat_set_system": (_CHECK, (_HANDLE, c_char_p)),
    "mllm_chat_messages": (_CHECK, (_HANDLE, POINTER(c_char_p), POINTER(c_size_t))),
    "mllm_chat_load": (_CHECK, (_HANDLE, c_char_p, c_size_t)),
}


@lru_cache(maxsize=1)
def library() -> ctypes.CDLL:
    """The loaded engine, with prototypes set; functions that return a status raise instead.

    MINDIR_LLM_LIBRARY names the file to load; without it, it lies beside this package. LibraryError where
    there is none, or where it was built from another version of the header.
    """
    path = _find()
    try:
        loaded = ctypes.CDLL(str(path))
    except OSError as error:
        raise errors.LibraryError(f"{path}: cannot load the engine: {error}") from None
    try:
        _declare(loaded, "mllm_abi_version")
        found = loaded.mllm_abi_version()
        if found != ABI_VERSION:
            raise errors.LibraryError(
                f"{path}: the engine has ABI version {found}, this package needs {ABI_VERSION}; "
                "reinstall mindir-llm"
            )
        for name in PROTOTYPES:
            _declare(loaded, name)
    except AttributeError as error:
        raise errors.LibraryError(f"{path}: not a mindir-llm engine: {error}") from None
    return loaded


def path_bytes(path: str | os.PathLike[str]) -> bytes:
    """A path as the C interface takes it."""
    encoded = os.fsencode(path)
    if b"\0" in encoded:
        raise errors.InvalidArgumentError(f"path {os.fspath(path)!r} contains a NUL character")
    return encoded


def _find() -> Path:
    override = os.environ.get("MINDIR_LLM_LIBRARY")
    if override:
        if not Path(override).is_file():
            raise errors.LibraryError(f"MINDIR_LLM_LIBRARY={override}: no such file")
        return Path(override)
    name = {"darwin": "libmindir_llm.dylib", "win32": "mindir_llm.dll"}.get(sys.platform, "libmindir_llm.so")
    # An editable install keeps compiled files in site-packages and Python files in the checkout: both are
    # entries of the package's path.
    folders = [Path(folder) for folder in sys.modules[__package__].__path__] if __package__ else []
    for folder in folders:
        if (folder / name).is_file():
            return folder / name
    raise errors.LibraryError(
        f"the engine ({name}) is in none of {', '.join(map(str, folders))}: install mindir-llm with pip, "
        "or set MINDIR_LLM_LIBRARY to the library that CMake built"
    )


def _declare(loaded: ctypes.CDLL, name: str) -> None:
    function = getattr(loaded, name)
    result, arguments = PROTOTYPES[name]
    function.argtypes = arguments
    if result is _CHECK:
        function.restype = ctypes.c_int
        function.errcheck = _raise
    else:
        function.restype = result


def _raise(status: int, function: Any, arguments: Any) -> int:
    if status != 0:
        message = library().mllm_last_error().decode("utf-8", "replace")
        if not message:
            message = f"{function.__name__} failed with status {status} and gave no reason"
        raise _EXCEPTION.get(status, errors.MindirLLMError)(message)
    return status
