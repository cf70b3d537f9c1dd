"""What keeps a package from being made."""

__all__ = ["PackageError"]


class PackageError(RuntimeError):
    """A package that cannot be made; the message is one line for the user."""
