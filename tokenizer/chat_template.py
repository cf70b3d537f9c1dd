"""Chat templates on the exporting host: jinja2 set up the way Hugging Face does. The first use imports it.

On a device the engine renders them, to the same text and without jinja2 (mindir_llm.runtime.chat_template).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any

from .errors import TokenizerError


def render_chat_template(
    template: str, messages: Sequence[Mapping[str, Any]], now: datetime | None = None, **variables: Any
) -> str:
    """The prompt text of a conversation; TokenizerError carries the template's own complaint.

    now: what strftime_now writes; None is the current local time.
    """
    import jinja2

    try:
        return _compile(template).render(
            messages=messages, **{"strftime_now": (now or datetime.now()).strftime, **variables}
        )
    except jinja2.exceptions.TemplateError as error:
        raise TokenizerError(f"chat template: {error}") from None


@lru_cache(maxsize=8)
def _compile(template: str) -> Any:
    import jinja2
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    def raise_exception(message: str) -> None:
        raise jinja2.exceptions.TemplateError(message)

    def tojson(
        value: Any,
        ensure_ascii: bool = False,
        indent: int | None = None,
        separators: tuple[str, str] | None = None,
        sort_keys: bool = False,
    ) -> str:
        # jinja2's own filter escapes for HTML, which a prompt must not be.
        return json.dumps(
            value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
        )

    # A template comes with a downloaded model: it runs in the sandbox.
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = tojson
    environment.globals["raise_exception"] = raise_exception
    return environment.from_string(template)
