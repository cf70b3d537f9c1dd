"""Chat templates, rendered by the engine as jinja2 does under Hugging Face's settings."""

from __future__ import annotations

import ctypes
import json
from calendar import timegm
from collections.abc import Mapping, Sequence
from ctypes import byref, c_char_p, c_size_t, c_void_p
from datetime import datetime
from functools import lru_cache
from threading import Lock
from typing import Any

from . import _native
from .errors import InvalidArgumentError
from .native_backend import _Handle


class ChatTemplate:
    """A parsed template; `render` may be called from several threads.

    BundleError or UnsupportedError name the line of what is malformed or not known to the engine.
    """

    def __init__(self, source: str) -> None:
        self._library = _native.library()
        self._lock = Lock()  # the text belongs to the template until the next call
        try:
            content = source.encode("utf-8")
        except UnicodeEncodeError as error:
            raise InvalidArgumentError(
                f"chat template: lone surrogate {source[error.start]!r} at index {error.start}"
            ) from None
        raw = c_void_p()
        self._library.mllm_template_open(content, len(content), byref(raw))
        self._object = _Handle("chat template", raw, self._library.mllm_template_close)

    def render(
        self, messages: Sequence[Mapping[str, Any]], now: datetime | None = None, **variables: Any
    ) -> str:
        """The text of a conversation [{"role", "content"}, …]; further keywords are the template's variables.

        now: what strftime_now writes; None is the current local time. InvalidArgumentError carries the
        template's own complaint, such as roles that do not alternate.
        """
        values = {"messages": messages, **variables}
        try:
            content = json.dumps(values, allow_nan=False).encode()
        except (TypeError, ValueError, RecursionError) as error:
            raise InvalidArgumentError(
                f"chat template: messages and variables must be JSON: {error}"
            ) from None
        time = _native.TemplateOptions(
            ctypes.sizeof(_native.TemplateOptions), timegm((now or datetime.now()).timetuple())
        )
        text, size = c_char_p(), c_size_t()
        with self._lock:
            self._library.mllm_template_render(
                self._object._handle, content, byref(time), byref(text), byref(size)
            )
            address = ctypes.cast(text, c_void_p).value or 0
            return ctypes.string_at(address, size.value).decode("utf-8")

    def close(self) -> None:
        """Free it now."""
        self._object.close()


@lru_cache(maxsize=8)
def _parsed(template: str) -> ChatTemplate:
    return ChatTemplate(template)


def render_chat_template(
    template: str, messages: Sequence[Mapping[str, Any]], now: datetime | None = None, **variables: Any
) -> str:
    """`ChatTemplate(template).render(…)`; templates used before are not parsed again."""
    return _parsed(template).render(messages, now, **variables)
