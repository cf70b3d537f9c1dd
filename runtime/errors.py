"""What the runtime raises. Every message is one line that names the file, field or value, and the fix."""

from __future__ import annotations


class MindirLLMError(RuntimeError):
    """Base of all errors below; raised as such only for a fault of the engine itself."""


class InvalidArgumentError(MindirLLMError, ValueError):
    """An argument is wrong: name, shape, dtype, or a value outside its range."""


class GrammarError(InvalidArgumentError):
    """A grammar or JSON schema is malformed, too large, or asks for what structured output cannot hold."""


class BundleError(MindirLLMError):
    """A bundle or MindIR file is missing, unreadable, corrupt, or of an unknown version."""


class UnsupportedError(MindirLLMError):
    """A valid graph that uses a primitive or form that the engine lacks."""


class OutOfMemoryError(MindirLLMError, MemoryError):
    """The machine has too little memory for the model or its KV cache."""


class CapacityError(MindirLLMError):
    """Prompt plus generated tokens do not fit max_seq_len of the bundle."""


class LibraryError(MindirLLMError):
    """The engine's shared library is missing, or not the one that this package was made for."""
