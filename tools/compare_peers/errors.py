"""What keeps one engine, or the comparison, from being measured."""

__all__ = ["CompareError"]


class CompareError(RuntimeError):
    """The message is one line: a reason in the report, or the command's error."""
