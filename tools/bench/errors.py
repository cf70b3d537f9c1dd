"""What keeps a measurement from being made."""

__all__ = ["BenchError"]


class BenchError(RuntimeError):
    """A measurement that cannot be made; the message is one line for the user."""
