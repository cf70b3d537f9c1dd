"""The engine as a backend of the token loop: thin objects over the C interface."""

from __future__ import annotations

import ctypes
import json
import os
import sys
import weakref
from collections.abc import Sequence
from ctypes import POINTER, byref, c_float, c_int32
from typing import Any

import numpy as np

from . import _native
from .backend import Logits, ModelInfo
from .errors import InvalidArgumentError
from .graph import check_threads
from .resources import Progress, Resources
from .sampling import SamplingParams


def _ids(tokens: Sequence[int]) -> Any:
    return (c_int32 * len(tokens))(*tokens)


def _pointer(logits: Logits) -> Any:
    return ctypes.cast(logits.ctypes.data, POINTER(c_float))


class _Handle:
    """An engine object that closes itself; `keep` is what must outlive it."""

    def __init__(self, what: str, handle: ctypes.c_void_p, close: Any, keep: Any = None) -> None:
        self._what = what
        self._raw: ctypes.c_void_p | None = handle
        self._finalizer = weakref.finalize(self, _close, close, handle, keep)

    @property
    def _handle(self) -> ctypes.c_void_p:
        if self._raw is None:
            raise InvalidArgumentError(f"the {self._what} is closed")
        return self._raw

    def close(self) -> None:
        """Free it now; using it afterwards is an InvalidArgumentError."""
        self._raw = None
        self._finalizer()


def _close(close: Any, handle: ctypes.c_void_p, keep: Any) -> None:
    close(handle)


class NativeModel(_Handle):
    """A bundle opened by the engine.

    threads: None takes one per physical core. verify_weights: also check the weight files' sha256, which
    reads them all. exact: activations stay float32 in products with quantized
    weights. resources: what it may take of the machine. BundleError and UnsupportedError say why a bundle
    cannot be opened.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        threads: int | None = None,
        verify_weights: bool = False,
        exact: bool = False,
        resources: Resources | None = None,
    ) -> None:
        resources = resources or Resources()
        self._library = _native.library()
        options = _native.ModelOptions(
            ctypes.sizeof(_native.ModelOptions),
            check_threads(threads),
            int(verify_weights),
            int(exact),
            resources.bytes,
            None if resources.cores is None else resources.cores.encode(),
            _native.PRIORITY[f"MLLM_PRIORITY_{resources.priority.upper()}"],
            1,  # tokenizers are opened on their own
        )
        handle = ctypes.c_void_p()
        progress = Progress() if resources.progress and sys.stderr.isatty() else None
        if progress is not None:
            shown = progress
            options.on_progress = _native.ProgressCallback(lambda _, done, total: shown.update(done, total))
        try:
            self._library.mllm_model_open(_native.path_bytes(path), byref(options), byref(handle))
        finally:
            if progress is not None:
                progress.end()
        super().__init__("model", handle, self._library.mllm_model_close)
        native = _native.ModelInfo()
        self._library.mllm_model_get_info(handle, byref(native))
        values = {name: getattr(native, name) for name, _ in _native.ModelInfo._fields_}
        self.info = ModelInfo(**{**values, "fused": bool(native.fused)})
        memory = _native.ModelMemory(ctypes.sizeof(_native.ModelMemory))
        self._library.mllm_model_get_memory(handle, byref(memory))
        self.memory_text = (memory.text or b"").decode()
        self.manifest: dict[str, Any] = json.loads(self._library.mllm_model_manifest(handle))

    def new_session(self) -> NativeSession:
        """Fresh KV caches, every slot empty. OutOfMemoryError where they do not fit."""
        return NativeSession(self)

    def new_sampler(self, params: SamplingParams, seed: int, prompt: Sequence[int]) -> NativeSampler:
        """A sampler for one sequence; `seed` is used where params has none."""
        return NativeSampler(params, seed, prompt, self.info.vocab_size)

    def top_logprobs(self, logits: Logits, count: int) -> list[tuple[int, float]]:
        tokens, values = (c_int32 * count)(), (c_float * count)()
        self._library.mllm_top_logprobs(_pointer(logits), len(logits), count, tokens, values)
        return list(zip(tokens, values, strict=True))


class NativeSession(_Handle):
    """KV caches and positions of the model's slots; keeps the model's memory alive."""

    def __init__(self, model: NativeModel) -> None:
        self._library = _native.library()
        self._vocab_size = model.info.vocab_size
        handle = ctypes.c_void_p()
        self._library.mllm_session_create(model._handle, byref(handle))
        super().__init__("session", handle, self._library.mllm_session_close, keep=model)

    def feed(self, segments: Sequence[tuple[int, Sequence[int]]]) -> None:
        native = (_native.Segment * len(segments))()
        tokens = [_ids(ids) for _, ids in segments]  # the pointers below do not own them
        for item, (slot, ids), array in zip(native, segments, tokens, strict=True):
            item.slot, item.n_tokens = slot, len(ids)
            item.tokens = ctypes.cast(array, POINTER(c_int32))
        self._library.mllm_session_feed(self._handle, native, len(segments))

    def position(self, slot: int) -> int:
        """How many tokens the slot holds."""
        position = c_int32()
        self._library.mllm_session_position(self._handle, slot, byref(position))
        return position.value

    def rewind(self, slot: int, position: int) -> None:
        self._library.mllm_session_rewind(self._handle, slot, position)

    def save(self, slot: int) -> bytes:
        data, size = ctypes.c_void_p(), ctypes.c_size_t()
        self._library.mllm_session_save(self._handle, slot, byref(data), byref(size))
        return ctypes.string_at(data.value or 0, size.value)

    def restore(self, slot: int, saved: bytes) -> None:
        self._library.mllm_session_restore(self._handle, slot, saved, len(saved))

    def logits(self, slot: int) -> Logits:
        pointer = POINTER(c_float)()
        self._library.mllm_session_logits(self._handle, slot, byref(pointer))
        return np.ctypeslib.as_array(pointer, (self._vocab_size,))

    def profile(self, on: bool) -> None:
        """Start to measure the time of every operator, from zero, or stop."""
        self._library.mllm_session_set_profiling(self._handle, int(on))

    def profile_report(self) -> dict[str, list[dict[str, Any]]]:
        """Time spent since `profile(True)`: {"prefill": [...], "decode": [...]}, an entry per operator in the
        order of execution with "operator", "name", "calls" and "seconds"."""
        text = ctypes.c_char_p()
        self._library.mllm_session_profile(self._handle, byref(text))
        report: dict[str, list[dict[str, Any]]] = json.loads(text.value or b"")
        return report


class NativeSampler(_Handle):
    """The engine's sampler, set up with a sequence's parameters and told about its prompt."""

    def __init__(self, params: SamplingParams, seed: int, prompt: Sequence[int], vocab_size: int) -> None:
        self._library = _native.library()
        native = _native.SamplingParams()
        self._library.mllm_sampling_params_init(byref(native))
        for name, _ in _native.SamplingParams._fields_:
            if name not in ("struct_size", "seed"):
                setattr(native, name, getattr(params, name))
        native.seed = seed if params.seed is None else params.seed
        handle = ctypes.c_void_p()
        self._library.mllm_sampler_create(byref(native), vocab_size, byref(handle))
        super().__init__("sampler", handle, self._library.mllm_sampler_close)
        self._library.mllm_sampler_add_prompt(handle, _ids(prompt), len(prompt))

    def sample(
        self, logits: Logits, banned: Sequence[int], with_logprob: bool, matcher: Any = None
    ) -> tuple[int, float | None]:
        token, logprob = c_int32(), c_float()
        arguments = (
            _pointer(logits),
            _ids(banned) if banned else None,
            len(banned),
            byref(token),
            byref(logprob) if with_logprob else None,
        )
        if matcher is None:
            self._library.mllm_sampler_sample(self._handle, *arguments)
        else:
            self._library.mllm_sampler_sample_matching(self._handle, matcher.handle, *arguments)
        return token.value, logprob.value if with_logprob else None
