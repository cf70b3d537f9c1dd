"""Errors of the tokenizer package."""


class TokenizerError(RuntimeError):
    """A tokenizer file, a chat template or a token id that cannot be used; the message names it."""
