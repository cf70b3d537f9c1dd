"""Conversations: LLM.chat, what is kept of a conversation, and the terminal command."""

from __future__ import annotations

import io
import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from fake_backend import ByteTokenizer, FakeModel, Next, says
from processes import read_to_the_end

from mindir_llm.runtime import (
    LLM,
    BundleError,
    CapacityError,
    InvalidArgumentError,
    SamplingParams,
    chat,
    cli,
)
from mindir_llm.runtime.conversation import Conversation

GREEDY = SamplingParams(temperature=0, max_tokens=None)
HELLO = [{"role": "user", "content": "Hello"}]


def speaker(text: str, **options: Any) -> LLM:
    return LLM.from_backend(FakeModel(says(text), **options), ByteTokenizer())


def prompt_text(output: Any) -> str:
    return ByteTokenizer().decode(output.prompt_token_ids)


# -- LLM.chat


def test_one_conversation_and_several() -> None:
    llm = speaker("hi")
    (output,) = llm.chat(HELLO, GREEDY)
    assert (prompt_text(output), output.outputs[0].text) == ("u:Hello|", "hi")
    assert 1 not in output.prompt_token_ids, "the template writes the begin token where it wants one"
    other = [{"role": "system", "content": "é"}, {"role": "user", "content": "x"}]
    params = [GREEDY, SamplingParams(temperature=0, max_tokens=1)]
    outputs = llm.chat([HELLO, other], params)
    assert [prompt_text(one) for one in outputs] == ["u:Hello|", "s:é|u:x|"]
    assert [one.outputs[0].text for one in outputs] == ["hi", "h"]


def test_template_options() -> None:
    llm = speaker("hi")
    template = (
        "{{ bos_token }}{{ messages[0].content }}{{ tools | tojson }}{{ add_generation_prompt }}{{ extra }}"
        "{{ strftime_now('%Y') }}|"
    )
    (output,) = llm.chat(
        HELLO, GREEDY, chat_template=template, tools=[{"a": 1}], extra=5, now=datetime(1999, 1, 1)
    )
    assert prompt_text(output) == '<s>Hello[{"a": 1}]True51999|'
    (output,) = llm.chat(
        HELLO, GREEDY, chat_template="{{ add_generation_prompt }}|", add_generation_prompt=False
    )
    assert prompt_text(output) == "False|"


def test_an_answer_that_comes_in_pieces() -> None:
    llm = speaker("héllo")
    stream = llm.chat(HELLO, GREEDY, stream=True, chat_template="{{ messages[0].content }}{{ x }}|", x=1)
    pieces = list(stream)
    assert "".join(pieces) == "héllo" and len(pieces) > 1
    (output,) = llm.chat(HELLO, GREEDY, chat_template="{{ messages[0].content }}{{ x }}|", x=1)
    assert stream.output.outputs == output.outputs
    assert stream.output.prompt_token_ids == output.prompt_token_ids
    with pytest.raises(InvalidArgumentError, match="stream=True takes one conversation, not 2"):
        llm.chat([HELLO, HELLO], GREEDY, stream=True)  # type: ignore[call-overload]
    with pytest.raises(InvalidArgumentError, match="a stream is one text"):
        llm.chat(HELLO, SamplingParams(n=2), stream=True)


def test_context_policies() -> None:
    llm = speaker("hi", max_seq_len=32)
    turns = [
        {"role": "system", "content": "S"},
        {"role": "user", "content": "one 789012345"},
        {"role": "assistant", "content": "two"},
        {"role": "user", "content": "three"},
    ]
    with pytest.raises(CapacityError, match="max_seq_len"):
        llm.chat(turns, GREEDY)
    with pytest.raises(InvalidArgumentError, match="context_full is 'roll', expected 'stop' or 'drop'"):
        llm.chat(HELLO, GREEDY, context_full="roll")  # type: ignore[call-overload]
    (answer,) = llm.chat(turns, GREEDY, context_full="drop")
    assert (prompt_text(answer), answer.outputs[0].text) == ("s:S|u:three|", "hi")
    stream = llm.chat(turns, GREEDY, stream=True, context_full="drop")
    assert "".join(stream) == "hi" and prompt_text(stream.output) == "s:S|u:three|"
    # Each of several conversations by itself; what fits stays whole.
    outputs = llm.chat([HELLO, turns], GREEDY, context_full="drop")
    assert [prompt_text(one) for one in outputs] == ["u:Hello|", "s:S|u:three|"]
    with pytest.raises(CapacityError, match="the conversation has"):
        llm.chat([{"role": "user", "content": "x" * 40}], GREEDY, context_full="drop")
    with pytest.raises(InvalidArgumentError):
        llm.chat([1, 2], GREEDY, context_full="drop")  # type: ignore[call-overload]


def test_complaints() -> None:
    llm = speaker("hi")
    with pytest.raises(InvalidArgumentError, match=r"^chat template: line 1: no$"):
        llm.chat(HELLO, GREEDY, chat_template="{{ raise_exception('no') }}")
    with pytest.raises(BundleError, match=r"^chat template: line 1: .*endif"):
        llm.chat(HELLO, GREEDY, chat_template="{% if x %}")
    for wrong in ("Hello", {"role": "user"}, 5):
        with pytest.raises(InvalidArgumentError, match="expected a list of"):
            llm.chat(wrong, GREEDY)  # type: ignore[arg-type]
    with pytest.raises(CapacityError, match="conversation 1 has"):
        llm.chat([HELLO, [{"role": "user", "content": "x" * 99}]], GREEDY)


# -- Conversation


def conversation(next_logits: Next, max_seq_len: int = 64, **options: Any) -> tuple[Conversation, FakeModel]:
    model = FakeModel(next_logits, max_seq_len=max_seq_len)
    return Conversation(LLM.from_backend(model, ByteTokenizer()), GREEDY, **options), model


def ask(talk: Conversation, text: str) -> str:
    return "".join(talk.ask(text))


def test_only_the_new_turn_is_computed() -> None:
    talk, model = conversation(says("yes"), system="Be kind")
    assert ask(talk, "One?") == "yes"
    assert ask(talk, "Two?") == "yes"
    assert [one["content"] for one in talk.messages] == ["Be kind", "One?", "yes", "Two?", "yes"]
    decoded = [
        ByteTokenizer().decode(ids) for feed in model.sessions[0].feeds for _, ids in feed if len(ids) > 1
    ]
    # The template names the speaker in front of the answer, which the model did not.
    assert decoded == ["s:Be kind|u:One?|", "a:yes|u:Two?|"]
    assert talk.output is not None and talk.output.metrics.cached_tokens == len("s:Be kind|u:One?|")


def test_a_full_context_stops() -> None:
    talk, _ = conversation(says("0123456789"), max_seq_len=38)
    assert ask(talk, "12345") == "0123456789"
    assert not talk.is_full()
    assert ask(talk, "12345") == "012345678", "as much as fits"
    assert talk.is_full()
    before = list(talk.messages)
    with pytest.raises(CapacityError, match=r"conversation has 49 tokens and the bundle's context holds 38"):
        ask(talk, "12345")
    assert talk.messages == before
    talk.reset()
    assert ask(talk, "12345") == "0123456789"


def test_a_full_context_drops_the_oldest_turns() -> None:
    talk, model = conversation(says("0123456789"), max_seq_len=60, system="S", context_full="drop")
    seen = []
    for turn in range(6):
        assert ask(talk, f"turn{turn}") == "0123456789"
        assert talk.output is not None
        seen.append(prompt_text(talk.output))
    assert seen[1] == "s:S|u:turn0|a:0123456789|u:turn1|"
    assert seen[2] == "s:S|u:turn1|a:0123456789|u:turn2|", "a quarter of the context stays free"
    assert seen[5] == "s:S|u:turn4|a:0123456789|u:turn5|"
    assert len(talk.messages) == 13 and talk.dropped == 8, "nothing said is forgotten by the transcript"
    with pytest.raises(CapacityError, match="tokens and the bundle's context holds 60"):
        ask(talk, "x" * 60)
    assert len(talk.messages) == 13
    # One long turn alone may use what room there is.
    assert ask(talk, "x" * 50) == "012"
    assert all(len(slot) <= 60 for session in model.sessions for slot in session.slots)


def test_an_answer_that_is_stopped_is_kept() -> None:
    talk, _ = conversation(says("one two three"))
    pieces = talk.ask("Say")
    assert [next(pieces) for _ in range(3)] == ["o", "n", "e"]
    pieces.close()  # type: ignore[attr-defined]
    assert talk.messages[-1] == {"role": "assistant", "content": "one"}
    assert talk.output is None and not talk.is_full()
    assert ask(talk, "Again") == "one two three"


def test_saved_and_loaded(tmp_path: Path) -> None:
    talk, _ = conversation(says("é"), system="S")
    ask(talk, "x")
    talk.save(tmp_path / "talk.json")
    other, _ = conversation(says("é"))
    other.load(tmp_path / "talk.json")
    assert other.messages == talk.messages
    for content, message in [
        ("{", "not a saved conversation: "),
        ("[1]", "expected a list"),
        ("{}", "expected a list"),
    ]:
        (tmp_path / "bad").write_text(content)
        with pytest.raises(InvalidArgumentError, match=message):
            other.load(tmp_path / "bad")
    other.set_system("T")
    assert [one["role"] for one in other.messages] == ["system", "user", "assistant"]
    other.reset()
    assert other.messages == [{"role": "system", "content": "T"}]
    other.set_system("")
    assert other.messages == []


# -- the terminal


class Pipe(io.TextIOWrapper):
    def __init__(self, text: str) -> None:
        super().__init__(io.BytesIO(text.encode()), encoding="ascii")


def talk_through(
    text: str, next_logits: Next, with_stats: bool = False, **options: Any
) -> tuple[str, str, Conversation]:
    talk, _ = conversation(next_logits, **options)
    out, notes = io.BytesIO(), io.StringIO()
    chat.run(chat.Terminal(Pipe(text), out, notes), talk, with_stats)
    return out.getvalue().decode(), notes.getvalue(), talk


def test_a_pipe_is_one_turn_a_line() -> None:
    out, notes, talk = talk_through("Hello é\n\n  \nAgain\r\n", says("hi 你"))
    assert (out, notes) == ("hi 你\nhi 你\n", "")
    assert [one["content"] for one in talk.messages] == ["Hello é", "hi 你", "Again", "hi 你"]


@pytest.mark.parametrize(
    ("typed", "turns"),
    [
        ("a\\\nb\\\n\nc\n", ["a\nb\n", "c"]),
        ('"""a\n\n  b"""\nc\n', ["a\n\n  b", "c"]),
        ('"""\na\n"""\n', ["a"]),
        ('"""one line"""\n', ["one line"]),
        ('"""never closed\nx', ["never closed\nx"]),
        ("a\\", ["a"]),
        ("last line without end", ["last line without end"]),
        (" /not a command\n", [" /not a command"]),
    ],
)
def test_turns_of_several_lines(typed: str, turns: list[str]) -> None:
    assert list(chat.Terminal(Pipe(typed), io.BytesIO(), io.StringIO()).turns()) == turns


def test_commands(tmp_path: Path) -> None:
    file = tmp_path / "talk.json"
    typed = f"/system Be brief\nHello\n/save {file}\n/reset\nNew\n/help\n/load {file}\nOn\n/exit\nnever\n"
    out, notes, talk = talk_through(typed, says("ok"), with_stats=True)
    assert out == "ok\n" * 3
    assert [one["content"] for one in talk.messages] == ["Be brief", "Hello", "ok", "On", "ok"]
    assert "(3 messages written to " in notes and "/save FILE" in notes
    assert notes.count("decode 2 tokens, ") == 3 and "tokens and " in notes
    assert json.loads(file.read_text()) == talk.messages[:3]


@pytest.mark.parametrize(
    ("typed", "error", "message"),
    [
        ("/frobnicate\n", InvalidArgumentError, "unknown command /frobnicate; /help lists them"),
        ("/save\n", InvalidArgumentError, "/save needs a file name"),
        ("/load /nowhere\n", FileNotFoundError, "/nowhere"),
        ("x" * 99 + "\n", CapacityError, "start anew"),
    ],
)
def test_errors_end_a_pipe_but_not_a_conversation(
    typed: str, error: type[Exception], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(error, match=message):
        talk_through(typed + "Hello\n", says("ok"))
    out, notes, _ = interactive(typed + "Hello\n", says("ok"), monkeypatch)
    assert out == "ok\n\n" and notes.startswith("error: ") and message in notes


def interactive(
    typed: str, next_logits: Next, monkeypatch: pytest.MonkeyPatch, **options: Any
) -> tuple[str, str, Conversation]:
    """As at a terminal: `input` reads, "^C" stands for the key."""
    lines = iter(typed.splitlines())

    def read(prompt: str) -> str:
        assert prompt in ("> ", ". ")
        line = next(lines, None)
        if line is None:
            raise EOFError
        if line == "^C":
            raise KeyboardInterrupt
        return line

    monkeypatch.setattr("builtins.input", read)
    talk, _ = conversation(next_logits, **options)
    out, notes = io.BytesIO(), io.StringIO()
    terminal = chat.Terminal(Pipe(""), out, notes)
    terminal.is_interactive = True
    chat.run(terminal, talk, False)
    return out.getvalue().decode(), notes.getvalue(), talk


def test_ctrl_c_gives_up_the_line(monkeypatch: pytest.MonkeyPatch) -> None:
    out, notes, talk = interactive("^C\nHello\n", says("ok"), monkeypatch)
    assert out == "\nok\n\n" and "Ctrl-D or /exit leaves" in notes
    assert talk.messages[0]["content"] == "Hello"


def test_ctrl_c_stops_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = says("a long answer")

    def next_logits(context: list[int]) -> Any:
        if context[-1] == 3 + ord("o") and len(context) < 20:
            signal.raise_signal(signal.SIGINT)
        return plain(context)

    before = signal.getsignal(signal.SIGINT)
    out, _, talk = interactive("Say\nAnd now?\n", next_logits, monkeypatch)
    assert out == "a lon\na long answer\n\n"
    assert [one["content"] for one in talk.messages] == ["Say", "a lon", "And now?", "a long answer"]
    assert signal.getsignal(signal.SIGINT) is before


def test_a_second_ctrl_c_ends_the_program() -> None:
    def next_logits(context: list[int]) -> Any:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        raise AssertionError("the second one does not come back")

    with pytest.raises(KeyboardInterrupt):
        talk_through("Say\n", next_logits)


def test_notes_about_a_full_context(monkeypatch: pytest.MonkeyPatch) -> None:
    _, notes, _ = interactive("12345\n12345\n", says("0123456789"), monkeypatch, max_seq_len=38)
    assert "the context is full: /reset starts anew" in notes
    _, notes, _ = interactive(
        "12345\n" * 3, says("0123456789"), monkeypatch, max_seq_len=60, context_full="drop"
    )
    assert notes.count("the oldest turns no longer fit") == 1


# -- the command


def test_flags_reach_the_model(monkeypatch: pytest.MonkeyPatch, capsysbinary: Any, tmp_path: Path) -> None:
    asked: list[Any] = []

    class Speaker(LLM):
        def stream(self, prompt: Any, sampling_params: SamplingParams | None = None) -> Any:
            asked.append((ByteTokenizer().decode(prompt["prompt_token_ids"]), sampling_params))
            return super().stream(prompt, sampling_params)

    def make(bundle: str, **options: Any) -> LLM:
        asked.append(options)
        return Speaker.from_backend(FakeModel(says("ok")), ByteTokenizer())

    monkeypatch.setattr("mindir_llm.runtime.llm.LLM", make)
    monkeypatch.setattr("sys.stdin", Pipe("Hello\n"))
    (tmp_path / "template").write_text("<{{ messages[0].content }}>{{ messages[-1].content }}|\n")
    arguments = [
        "chat",
        "bundle",
        "--system",
        "S",
        "--temperature",
        "0",
        "--stop",
        "x",
        "--threads",
        "2",
        "--stats",
        "--max-memory",
        "2G",
        "--cores",
        "0",
        "--priority",
        "low",
    ]
    assert cli.main([*arguments, "--chat-template", str(tmp_path / "template")]) == 0
    captured = capsysbinary.readouterr()
    assert captured.out == b"ok\n" and b"decode 2 tokens, " in captured.err
    resources = {"max_memory": "2G", "cores": "0", "priority": "low", "progress": True}
    assert asked == [
        {"threads": 2, "exact": False, **resources},
        ("<S>Hello|", SamplingParams(temperature=0, max_tokens=1024, stop=("x",))),
    ]


def test_the_real_command(
    tiny_bundle: Path, tmp_path: Path, capsysbinary: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["chat", str(tiny_bundle), "--temperature", "0", "--max-tokens", "5", "--stats"]
    monkeypatch.setattr("sys.stdin", Pipe("The fox\nThe red ball\n"))
    assert cli.main(arguments) == 2
    assert b"has no chat template; give one with --chat-template FILE" in capsysbinary.readouterr().err
    template = tmp_path / "template"
    template.write_text("{% for m in messages %}{{ m.content }}\n{% endfor %}")
    assert cli.main([*arguments, "--chat-template", str(template)]) == 0
    captured = capsysbinary.readouterr()
    assert captured.out.count(b"\n") >= 2
    assert b" from the cache, " in captured.err.splitlines()[1]


def test_at_a_real_terminal(tiny_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "template").write_text("{{ messages[-1].content }}")
    command = [sys.executable, "-m", "mindir_llm.runtime.cli", "chat", str(tiny_bundle), "--max-tokens", "3"]
    ours, theirs = pty.openpty()
    running = subprocess.Popen(
        [*command, "--chat-template", str(tmp_path / "template")], stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    os.write(ours, b"The fox\n/nonsense\n/exit\n")
    shown = read_to_the_end(ours)
    assert running.wait() == 0
    assert b"> " in shown and b"error: unknown command /nonsense" in shown


KINDS = [{"dtype": "float32"}, {"quant": "a16w8"}, {"quant": "a16w8", "kv_dtype": "int8"}]


@pytest.mark.parametrize("choices", KINDS)
def test_results_with_and_without_reuse(
    choices: dict[str, Any], tiny_checkpoint: Path, exported: Callable[..., Path]
) -> None:
    """The engine itself: a prompt that begins in the KV cache continues as one computed anew."""
    params = SamplingParams(temperature=0, max_tokens=6, ignore_eos=True, logprobs=3)
    turns = [
        "The fox",
        "The fox found a red ball",
        "The fox found a little ball and said",
        "Once",
        "The fox found",
    ]
    bundle = exported(tiny_checkpoint, prefill_chunk=8, **choices)
    with LLM(bundle) as reusing, LLM(bundle, prefix_reuse=False) as fresh:
        cached = []
        for text in turns:
            (found,), (expected,) = reusing.generate(text, params), fresh.generate(text, params)
            assert found.outputs == expected.outputs
            cached.append(found.metrics.cached_tokens)
        assert cached[0] == 0 and min(cached[1:3]) >= 3 and expected.metrics.cached_tokens == 0
