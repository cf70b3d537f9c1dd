"""Chat templates on the exporting host: jinja2 under Hugging Face's settings."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pytest

from mindir_llm.tokenizer import TokenizerError
from mindir_llm.tokenizer.chat_template import render_chat_template

MESSAGES = [{"role": "user", "content": "Hi <b> é"}]


def test_blocks_are_trimmed_and_json_is_not_escaped_for_html() -> None:
    template = (
        "{% for message in messages %}\n    {% if true %}\n{{ message | tojson }}\n    {% endif %}\n"
        "{% endfor %}\n"
    )
    assert render_chat_template(template, MESSAGES) == '{"role": "user", "content": "Hi <b> é"}\n'


def test_loop_controls_and_variables() -> None:
    template = (
        "{% for m in messages %}{% if loop.index == 2 %}{% break %}{% endif %}"
        "{{ bos_token }}{{ m.role }}{% endfor %}"
    )
    assert render_chat_template(template, MESSAGES * 3, bos_token="<s>") == "<s>user"


def test_a_template_s_own_complaint_comes_through() -> None:
    with pytest.raises(TokenizerError, match="chat template: roles must alternate"):
        render_chat_template("{{ raise_exception('roles must alternate') }}", MESSAGES)


def test_a_broken_or_hostile_template_is_an_error() -> None:
    with pytest.raises(TokenizerError, match="chat template"):
        render_chat_template("{% if %}", MESSAGES)
    with pytest.raises(TokenizerError, match="unsafe"):
        render_chat_template("{{ ''.__class__.__mro__ }}", MESSAGES)


def test_dates() -> None:
    assert render_chat_template("{{ strftime_now('%Y') }}", MESSAGES) == datetime.now().strftime("%Y")


def test_real_templates(shared_data: Path) -> None:
    template = (shared_data / "chat_templates" / "meta-llama-Llama-3.1-8B-Instruct.jinja").read_text()
    text = render_chat_template(
        template, MESSAGES, tools=None, add_generation_prompt=True, bos_token="<|begin_of_text|>"
    )
    assert text.startswith(
        "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date"
    )
    assert text.endswith(
        "<|start_header_id|>user<|end_header_id|>\n\nHi <b> é<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n"
    )
    template = (shared_data / "chat_templates" / "Qwen-Qwen2.5-7B-Instruct.jinja").read_text()
    assert render_chat_template(template, MESSAGES, tools=None, add_generation_prompt=True) == (
        "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\n"
        "<|im_start|>user\nHi <b> é<|im_end|>\n<|im_start|>assistant\n"
    )
