"""The three ways to run a bundle's network, behind one interface: engine, stock MindSpore, float64 numpy.

Each keeps B contexts, one per batch slot, that grow in step. MindSpore is imported when its backend is made.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mindir_llm.tools.bundle_weights import BundleWeights
from mindir_llm.tools.reference import ReferenceLlama, Storage

__all__ = [
    "Backend",
    "BundleFolder",
    "EngineBackend",
    "MindSporeBackend",
    "ReferenceBackend",
    "VerifyError",
    "check_files",
    "load_encoder",
]

Ids = NDArray[np.int32]
Logits = NDArray[np.floating]
Progress = Callable[[int], None]


def ignore(_: int) -> None:
    """The progress callback of those who do not look."""


class VerifyError(RuntimeError):
    """Something that keeps a comparison from being made; the message names it and the way out."""


class Backend(Protocol):
    """A network with B contexts."""

    name: str

    def logits(self, ids: Ids, steps: Sequence[int], progress: Progress = ignore) -> Logits:
        """Feed ids [B, N] to empty contexts in pieces of steps[0], steps[1], … tokens, which add up to N.

        Returns [len(steps), B, vocab]: the logits that follow the last token of each piece. A piece is at
        most the prefill chunk; one of a single token is a decode step. progress is called with the number of
        tokens per context done since its last call.
        """


@dataclass(frozen=True)
class BundleFolder:
    """What the tools need to know of a bundle, from its manifest."""

    path: Path
    manifest: dict[str, Any]

    @classmethod
    def open(cls, path: str | Path) -> BundleFolder:
        """VerifyError: no manifest, or none of this format."""
        folder = Path(path)
        file = folder / "manifest.json"
        try:
            manifest = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise VerifyError(f"{file}: cannot read: {error}; is this a bundle?") from None
        if not isinstance(manifest, dict) or manifest.get("format") != "mindir-llm-bundle":
            raise VerifyError(f"{file}: not the manifest of a bundle")
        if manifest.get("format_version") != 1:
            version = manifest.get("format_version")
            raise VerifyError(f"{file}: format_version {version} is not supported (supported: 1)")
        return cls(folder, manifest)

    @property
    def target(self) -> str:
        return str(self.manifest["target"])

    @property
    def batch(self) -> int:
        return int(self.manifest["batch_size"])

    @property
    def chunk(self) -> int:
        return int(self.manifest["prefill_chunk"])

    @property
    def max_seq_len(self) -> int:
        return int(self.manifest["max_seq_len"])

    @property
    def vocab_size(self) -> int:
        return int(self.manifest["model"]["vocab_size"])

    @property
    def scheme(self) -> str:
        return str(self.manifest["quantization"]["scheme"])

    @property
    def rounds_activations(self) -> bool:
        """Whether the graphs themselves round activations to integers."""
        return any("activation_bits" in entry for entry in self._entries)

    @property
    def schemes(self) -> set[str]:
        """Those of all layers; 'none' of what stays float is not among them unless all does."""
        return {str(entry["scheme"]) for entry in self._entries}

    @property
    def _entries(self) -> list[dict[str, Any]]:
        quantization = self.manifest["quantization"]
        return [quantization, *(one for one in quantization.get("layers", {}).values() if one)]

    @property
    def storage(self) -> Storage:
        """How the bundle stores weights and caches."""
        manifest = self.manifest
        quantization = manifest["quantization"]
        return Storage(
            manifest["dtype"],
            manifest["kv_dtype"],
            weight_bits=quantization.get("weight_bits"),
            group_size=quantization.get("group_size", 0),
            activation_bits=quantization.get("activation_bits"),
            kv_scales=self._kv_scales(),
            held=self._held(),
        )

    @property
    def kv_storage(self) -> str:
        """Type of the caches, for people: 'int8 per_token'."""
        granularity = self.manifest.get("kv_granularity")
        return self.manifest["kv_dtype"] + (f" {granularity}" if granularity else "")

    def empty_caches(self) -> list[NDArray[Any]]:
        """Zeros for each cache input of the graphs, in their order."""
        model = self.manifest["model"]
        rows = (self.batch, model["num_key_value_heads"], self.max_seq_len)
        values = np.zeros((*rows, model["head_dim"]), self.manifest["kv_dtype"])
        scales = np.zeros((*rows, 1), np.float32)
        return [scales if "_scale." in name else values for name in self.manifest["inputs"][3:]]

    def _held(self) -> BundleWeights | None:
        """The bundle's own weights, where they do not follow from the checkpoint's."""
        entry = self.manifest["quantization"]
        is_plain = entry.get("method", "rtn") == "rtn" and entry.get("symmetric", True)
        is_plain = is_plain and "layers" not in entry and "activation_granularity" not in entry
        if is_plain and not (entry.get("weight_bits") == 8 and entry.get("group_size")):
            return None
        try:
            return BundleWeights(self.path, self.manifest["graphs"]["decode"], entry)
        except ImportError:
            raise VerifyError(
                "calibrated weights are read with MindSpore: pip install 'mindir-llm[export]'"
            ) from None

    def _kv_scales(self) -> dict[str, NDArray[np.float32]] | None:
        """Scales of the channels of int8 caches, by parameter."""
        if self.manifest.get("kv_granularity") != "per_channel":
            return None
        try:
            from mindspore.train import mind_ir_pb2
        except ImportError:
            raise VerifyError(
                "scales of the KV caches are read with MindSpore: pip install 'mindir-llm[export]'"
            ) from None
        model = mind_ir_pb2.ModelProto()
        model.ParseFromString((self.path / self.manifest["graphs"]["decode"]).read_bytes())
        scales = {}
        for tensor in model.graph.parameter:
            if tensor.name.endswith((".self_attn.key_scale", ".self_attn.value_scale")):
                place = tensor.external_data
                data = np.fromfile(self.path / place.location, "<f4", place.length // 4, offset=place.offset)
                scales[tensor.name] = data.reshape(tuple(tensor.dims))
        return scales


def check_files(bundle: BundleFolder, progress: Progress = ignore) -> list[str]:
    """Compare size and sha256 of each file with the manifest; one line per file that differs.

    progress is called with the number of bytes read since the last call.
    """
    problems = []
    for name, expected in sorted(bundle.manifest["files"].items()):
        digest, size = hashlib.sha256(), 0
        try:
            with (bundle.path / name).open("rb") as file:
                while block := file.read(1 << 20):
                    digest.update(block)
                    size += len(block)
                    progress(len(block))
        except OSError as error:
            problems.append(f"{name}: {error.strerror}")
            continue
        if size != expected["size"]:
            problems.append(f"{name}: {size} bytes, the manifest says {expected['size']}")
        elif digest.hexdigest() != expected["sha256"]:
            problems.append(f"{name}: sha256 {digest.hexdigest()}, the manifest says {expected['sha256']}")
    return problems


def load_encoder(folder: str | Path) -> Callable[[str], list[int]]:
    """Text -> token ids, with the BOS that the model wants, for a bundle or a checkpoint."""
    from mindir_llm.runtime import EngineTokenizer
    from mindir_llm.tokenizer import TokenizerError

    try:
        return EngineTokenizer(folder).encode
    except TokenizerError as error:
        raise VerifyError(str(error)) from None


# What an engine that rounds activations, as it does by default, is called.
INT8_ACTIVATIONS = "engine, int8 activations"


class EngineBackend:
    """A bundle in the native engine, through the session that every front end uses."""

    def __init__(self, bundle: BundleFolder, threads: int = 0, exact: bool = True) -> None:
        """threads: 0 takes one per physical core. exact: activations are not rounded. VerifyError: the engine
        cannot open the bundle."""
        from mindir_llm.runtime.errors import MindirLLMError
        from mindir_llm.runtime.native_backend import NativeModel

        self.name = "engine" if exact else INT8_ACTIVATIONS
        try:
            self._model = NativeModel(bundle.path, threads or None, exact=exact)
        except MindirLLMError as error:
            raise VerifyError(str(error)) from None

    def logits(self, ids: Ids, steps: Sequence[int], progress: Progress = ignore) -> Logits:
        session = self._model.new_session()
        results, position = [], 0
        try:
            for n in steps:
                rows = ids[:, position : position + n].tolist()
                session.feed(list(enumerate(rows)))
                results.append(np.stack([session.logits(slot) for slot in range(len(rows))]))
                position += n
                progress(n)
        finally:
            session.close()
        return np.stack(results)


class ReferenceBackend:
    """The checkpoint in numpy; with a storage, weights and caches are rounded as the bundle rounds them."""

    def __init__(self, checkpoint: str | Path, storage: Storage | None = None) -> None:
        self.name = "numpy" if storage is None else "numpy, rounded as stored"
        self._model = ReferenceLlama(checkpoint, storage)
        self.vocab_size = self._model.vocab_size

    def logits(self, ids: Ids, steps: Sequence[int], progress: Progress = ignore) -> Logits:
        # Nothing depends on how a text is cut, so each context is one pass.
        last = np.cumsum(steps) - 1
        slots = []
        for row in ids:
            self._model.reset()
            slots.append(self._model.feed_all(row, rows=last))
        progress(ids.shape[1])
        return np.stack(slots, axis=1)


class MindSporeBackend:
    """A bundle's two graphs in stock MindSpore on the CPU, loaded as they are with `ms.load`."""

    name = "MindSpore"

    def __init__(self, bundle: BundleFolder) -> None:
        """VerifyError: MindSpore is missing, or the bundle's operators do not run on a CPU."""
        if bundle.target != "cpu":
            raise VerifyError(f"stock MindSpore cannot run target {bundle.target} on a CPU")
        # MindSpore logs every probe for devices that are not there.
        os.environ.setdefault("GLOG_v", "3")
        try:
            import mindspore as ms
        except ImportError:
            raise VerifyError("verify needs MindSpore: pip install 'mindir-llm[export]'") from None
        self._ms = ms
        self._bundle = bundle
        ms.set_context(mode=ms.GRAPH_MODE)
        if (
            ms.get_context("device_target") != "CPU"
        ):  # refused once something ran, even where it changes nothing
            ms.set_device("CPU")
        self._graphs = {}
        for kind, file in bundle.manifest["graphs"].items():
            try:
                self._graphs[kind] = ms.nn.GraphCell(ms.load(str(bundle.path / file)))
            except (RuntimeError, ValueError) as error:
                raise VerifyError(
                    f"{bundle.path / file}: MindSpore cannot load it: {_first_line(error)}"
                ) from None

    def logits(self, ids: Ids, steps: Sequence[int], progress: Progress = ignore) -> Logits:
        tensor, batch = self._ms.Tensor, len(ids)
        caches = [tensor(cache) for cache in self._bundle.empty_caches()]
        results, position = [], 0
        for n in steps:
            kind, width = ("decode", 1) if n == 1 else ("prefill", self._bundle.chunk)
            padded = np.zeros((batch, width), np.int32)
            padded[:, :n] = ids[:, position : position + n]
            outputs = self._graphs[kind](
                tensor(padded),
                tensor(np.full(batch, position, np.int32)),
                tensor(np.full(batch, position + n, np.int32)),
                *caches,
            )
            caches = list(outputs[1:])
            results.append(outputs[0].asnumpy())
            position += n
            progress(n)
        return np.stack(results)


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
