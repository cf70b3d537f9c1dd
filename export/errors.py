"""The one exception of the host side that a user is meant to read."""

__all__ = ["ExportError"]


class ExportError(RuntimeError):
    """An input that cannot be exported; the message names the file, field or tensor, and what to do."""
