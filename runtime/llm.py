"""Generate text with a bundle."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, overload

from . import sequence, session_file
from .backend import Model, ModelInfo
from .cached_session import CachedSession
from .chat_template import render_chat_template
from .context import ContextFull, Messages, check_policy, fit
from .errors import BundleError, CapacityError, InvalidArgumentError
from .generator import run
from .grammar import GrammarCache
from .outputs import RequestOutput
from .prompts import Prompt, parse_id_lists, parse_prompts
from .resources import Priority, Resources
from .sampling import SamplingParams, from_generate_keywords

if TYPE_CHECKING:
    from mindir_llm.tokenizer import Tokenizer


class LLM:
    """A bundle, ready to generate.

    model: the bundle's directory. threads: None takes one per physical core. verify_weights: check the weight
    files' sha256 as well. exact: keep activations in float32 where weights are quantized; otherwise they are
    rounded to int8 in groups of at most 512, and attention of prompts may multiply bfloat16, which costs less
    accuracy than the weights' own rounding and is faster. prefix_reuse: what a prompt has in common with an
    earlier one stays in the KV cache and is not computed again; it changes no result.

    max_memory: bytes, or a size such as "512M", that the process may have in memory with one call under way
    at a time; context and prefill chunk are made smaller to fit (`info`, `memory_text`), and OutOfMemoryError
    says what is needed at least. cores: processors to run on, such as "0-3,6". priority: "low", "normal" or
    "high". cores and priority also hold for the calling thread, which takes part in the work. progress: show
    on a terminal how far the loading is.

    Raises BundleError, UnsupportedError or OutOfMemoryError where it cannot be loaded.

        llm = LLM(model="bundle")
        for output in llm.generate(["I am", "Today is"], SamplingParams(temperature=0.0)):
            print(output.prompt, output.outputs[0].text)
    """

    def __init__(
        self,
        model: str | os.PathLike[str],
        threads: int | None = None,
        *,
        verify_weights: bool = False,
        exact: bool = False,
        prefix_reuse: bool = True,
        max_memory: int | str | None = None,
        cores: str | None = None,
        priority: Priority = "normal",
        progress: bool = False,
    ) -> None:
        from .native_backend import NativeModel

        resources = Resources(max_memory, cores, priority, progress)
        # Within a limit the tokenizer comes first: while it is read it takes more memory than afterwards.
        tokenizer = None if max_memory is None else _tokenizer_of(Path(model))
        self._setup(NativeModel(model, threads, verify_weights, exact, resources), Path(model), prefix_reuse)
        if tokenizer is not None:
            self._take(tokenizer)

    @classmethod
    def from_backend(cls, model: Model, tokenizer: Any = None, prefix_reuse: bool = True) -> LLM:
        """An LLM over another backend; tokenizer: None for token ids only."""
        llm = cls.__new__(cls)
        llm._setup(model, Path(), prefix_reuse)
        llm._tokenizer = tokenizer
        if tokenizer is not None:
            tokenizer.chat_renderer = render_chat_template
        return llm

    def _setup(self, model: Model, path: Path, prefix_reuse: bool) -> None:
        self._model = model
        self._path = path
        self._tokenizer: Tokenizer | None = None
        self._prefix_reuse = prefix_reuse
        self._idle_sessions: list[CachedSession] = []
        self._idle_lock = Lock()
        self._grammars = GrammarCache()
        self._closed = False

    @property
    def info(self) -> ModelInfo:
        """Sizes and limits of the bundle."""
        return self._model.info

    @property
    def manifest(self) -> dict[str, Any]:
        """The bundle's manifest.json."""
        return self._model.manifest

    def get_tokenizer(self) -> Tokenizer:
        """The bundle's tokenizer, loaded at the first call; a TokenizerError where it has none."""
        if self._tokenizer is None:
            from .tokenizer import EngineTokenizer

            self._take(EngineTokenizer(self._path))
        assert self._tokenizer is not None
        return self._tokenizer

    def _take(self, tokenizer: Tokenizer) -> None:
        """Use this tokenizer, if it is the model's."""
        if tokenizer.vocab_size > self.info.vocab_size:
            raise BundleError(
                f"{self._path}: the tokenizer has {tokenizer.vocab_size} tokens, but the model's "
                f"vocabulary only {self.info.vocab_size}; it belongs to another model"
            )
        tokenizer.chat_renderer = render_chat_template
        self._tokenizer = tokenizer

    @property
    def memory_text(self) -> str:
        """What max_memory has led to, in one line; empty without it."""
        return str(getattr(self._model, "memory_text", ""))

    def _context_text(self) -> tuple[str, str]:
        """What bounds the context, and what can be done about it."""
        positions = self.info.max_seq_len
        exported = self.manifest.get("max_seq_len", positions)
        if positions < exported:
            return (
                f"max_memory leaves a context of {positions} of the bundle's {exported}",
                "allow more memory",
            )
        return f"max_seq_len of the bundle is {positions}", "export with a larger --max-seq-len"

    def generate(
        self,
        prompts: Any,
        sampling_params: SamplingParams | Sequence[SamplingParams] | None = None,
        **generate_options: Any,
    ) -> Any:
        """Continue prompts.

        prompts: a string, {"prompt": text}, {"prompt_token_ids": ids}, or a list of these. sampling_params:
        one for all, or one per prompt; None takes the defaults. Returns a list of RequestOutput in the
        prompts' order. A prompt's result does not depend on the others.

        As in MindFormers, prompts may also be token ids (a list of ints, or several such lists) with
        max_new_tokens, do_sample, top_k … as keywords (see sampling.from_generate_keywords). Then the result
        is a list of id lists, each the prompt's ids followed by the generated ones, an end token included.

        InvalidArgumentError for a bad prompt, CapacityError for one that does not fit max_seq_len; both
        before anything is generated.
        """
        if generate_options:
            if sampling_params is not None:
                raise TypeError(
                    "generate() takes SamplingParams or keywords such as "
                    f"{next(iter(generate_options))}, not both"
                )
            params = from_generate_keywords(generate_options)
            id_prompts = parse_id_lists(prompts, self.info.vocab_size)
            outputs = self._generate(id_prompts, [params] * len(id_prompts))
            return [output.prompt_token_ids + output.outputs[0].token_ids for output in outputs]
        parsed = parse_prompts(prompts, self.info.vocab_size)
        return self._generate(parsed, _one_each(sampling_params, len(parsed)))

    @overload
    def chat(
        self,
        messages: Messages | Sequence[Messages],
        sampling_params: SamplingParams | Sequence[SamplingParams] | None = None,
        *,
        stream: Literal[False] = False,
        context_full: ContextFull = "stop",
        tools: Sequence[Any] | None = None,
        chat_template: str | None = None,
        add_generation_prompt: bool = True,
        **template_variables: Any,
    ) -> list[RequestOutput]: ...

    @overload
    def chat(
        self,
        messages: Messages,
        sampling_params: SamplingParams | None = None,
        *,
        stream: Literal[True],
        context_full: ContextFull = "stop",
        tools: Sequence[Any] | None = None,
        chat_template: str | None = None,
        add_generation_prompt: bool = True,
        **template_variables: Any,
    ) -> TextStream: ...

    def chat(
        self,
        messages: Messages | Sequence[Messages],
        sampling_params: SamplingParams | Sequence[SamplingParams] | None = None,
        *,
        stream: bool = False,
        context_full: ContextFull = "stop",
        tools: Sequence[Any] | None = None,
        chat_template: str | None = None,
        add_generation_prompt: bool = True,
        **template_variables: Any,
    ) -> list[RequestOutput] | TextStream:
        """Answer a conversation [{"role": "user", "content": …}, …], or several, written out by the template.

        stream: hand out the answer to one conversation as it comes, as `stream` does. context_full: "stop"
        makes a conversation that does not fit an error; "drop" leaves out its oldest turns, never the system
        message or the last turn, until a quarter of the context, or max_tokens if that is less, is free for
        the answer. tools: schemas of functions that the model may call, as its template wants them.
        chat_template: None takes the bundle's. Further keywords are variables of the template
        (enable_thinking=False, …), but for `now`, the datetime that it takes for the current one. What a
        conversation has in common with an earlier one, such as all turns but the last, is still in the KV
        cache and is not computed again.

        InvalidArgumentError carries the template's own complaint, such as roles that do not alternate;
        CapacityError for a conversation that does not fit.
        """
        check_policy(context_full)
        conversations: Any = messages if _are_several(messages) else [messages]
        params = _one_each(sampling_params, len(conversations))
        prompts = []
        for index, (conversation, one) in enumerate(zip(conversations, params, strict=True)):

            def ids_of(visible: Messages) -> list[int]:
                return self.chat_prompt(
                    visible,
                    tools=tools,
                    chat_template=chat_template,
                    add_generation_prompt=add_generation_prompt,
                    **template_variables,
                )

            name = "the conversation" if len(conversations) == 1 else f"conversation {index}"
            if context_full == "drop":
                ids, _ = fit(conversation, ids_of, self.info.max_seq_len, one.max_tokens, context_full)
            else:
                ids = ids_of(conversation)
            prompts.append(Prompt(name, None, ids))
        if not stream:
            return self._generate(prompts, params)
        if len(prompts) != 1:
            raise InvalidArgumentError(f"stream=True takes one conversation, not {len(prompts)}")
        return self._stream(prompts[0], params[0])

    def chat_prompt(self, messages: Messages, **options: Any) -> list[int]:
        """The token ids that `chat` continues, for one conversation and chat's keywords."""
        options = {"add_generation_prompt": True, **options}
        ids = self.get_tokenizer().apply_chat_template(messages, tokenize=True, **options)
        assert isinstance(ids, list)
        return ids

    def stream(self, prompt: Any, sampling_params: SamplingParams | None = None) -> TextStream:
        """Continue one prompt (a string or a dict as in `generate`) and hand out its text as it comes.

        The pieces never split a character, and hold back what may be the beginning of a stop string; together
        they equal `generate`'s text.
        """
        parsed = parse_prompts(prompt, self.info.vocab_size)
        if len(parsed) != 1:
            raise InvalidArgumentError(f"stream() takes one prompt, not {len(parsed)}")
        return self._stream(parsed[0], _one_each(sampling_params, 1)[0])

    def _stream(self, prompt: Prompt, params: SamplingParams) -> TextStream:
        if (params.best_of or params.n) > 1:
            raise InvalidArgumentError("a stream is one text; n and best_of are for what comes at once")
        return TextStream(self, self._sequences([prompt], [params])[0])

    def save_session(self, path: str | os.PathLike[str]) -> None:
        """Write what the last finished call left in the KV cache, so that another process can go on with it:
        a long system prompt, say, that need not be computed at every start. InvalidArgumentError before the
        first call."""
        with self._idle_lock:
            if not self._idle_sessions:
                raise InvalidArgumentError("there is no finished call whose KV cache could be saved")
            session_file.write(Path(path), self._idle_sessions[-1].save())

    def load_session(self, path: str | os.PathLike[str]) -> None:
        """Take over what `save_session` wrote. Prompts that begin like those before it reuse it.

        BundleError where the file is damaged or comes from another bundle.
        """
        if self._closed:
            raise InvalidArgumentError("the LLM is closed")
        slots = session_file.read(Path(path), self.info)
        session = CachedSession(self._model.new_session(), self.info.batch_size, self._prefix_reuse)
        try:
            session.restore(slots)
        except BaseException:
            session.close()
            raise
        with self._idle_lock:
            self._idle_sessions.append(session)

    def close(self) -> None:
        """Free weights and KV caches."""
        self._closed = True
        while self._idle_sessions:
            self._idle_sessions.pop().close()
        self._model.close()

    def __enter__(self) -> LLM:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _generate(self, prompts: list[Prompt], params: Sequence[SamplingParams]) -> list[RequestOutput]:
        sequences = self._sequences(prompts, params)
        with self._session(sequences) as session:
            for _ in run(session, self.info.batch_size, sequences):
                pass
        outputs = []
        for one in params:
            count = one.best_of or one.n
            outputs.append(_merged(sequences[:count], one.n))
            del sequences[:count]
        return outputs

    def _sequences(self, prompts: list[Prompt], params: Sequence[SamplingParams]) -> list[sequence.Sequence]:
        tokenizer = self._tokenizer
        if tokenizer is None and self.manifest.get("tokenizer") is not None:
            tokenizer = self.get_tokenizer()
        sequences = []
        for prompt, one in zip(prompts, params, strict=True):
            needs_text = one.stop or one.bad_words or one.structure
            if tokenizer is None and (prompt.ids is None or needs_text):
                what = f"{prompt.name} is text, which needs"
                if needs_text:
                    what = "stop strings need" if one.stop else "bad_words need"
                    if not one.stop and not one.bad_words:
                        what = "structured output needs"
                raise InvalidArgumentError(f"{self._path}: {what} a tokenizer, and the bundle has none")
            ids = prompt.ids
            if ids is None:
                assert tokenizer is not None and prompt.text is not None
                ids = tokenizer.encode(prompt.text)
            if not ids:
                raise InvalidArgumentError(f"{prompt.name} has no tokens; give at least one")
            room = self.info.max_seq_len - len(ids)
            if room < 1:
                limit, remedy = self._context_text()
                raise CapacityError(
                    f"{prompt.name} has {len(ids)} tokens; {limit}, so a prompt may have at most "
                    f"{self.info.max_seq_len - 1}: shorten it, or {remedy}"
                )
            for index in one.stop_token_ids:
                if index >= self.info.vocab_size:
                    raise InvalidArgumentError(
                        f"stop_token_ids has {index}, outside the vocabulary [0, {self.info.vocab_size})"
                    )
            for index in dict(one.logit_bias):
                if index >= self.info.vocab_size:
                    raise InvalidArgumentError(
                        f"logit_bias has {index}, outside the vocabulary [0, {self.info.vocab_size})"
                    )
            grammar = self._grammars.get(tokenizer, one)
            ends = () if tokenizer is None or one.ignore_eos else tokenizer.stop_token_ids
            sequences += [
                sequence.Sequence(
                    self._model,
                    tokenizer,
                    prompt.text,
                    ids,
                    one,
                    index,
                    None if grammar is None else grammar.matcher((*ends, *one.stop_token_ids)),
                )
                for index in range(one.best_of or one.n)
            ]
        return sequences

    @contextmanager
    def _session(self, sequences: list[sequence.Sequence]) -> Iterator[CachedSession]:
        """A session for one call. Calls may overlap (two streams, several threads): each has its own KV
        caches, which are kept for the next call that has a beginning in common."""
        if self._closed:
            raise InvalidArgumentError("the LLM is closed")
        session = self._idle_session(sequences)
        if session is None:
            session = CachedSession(self._model.new_session(), self.info.batch_size, self._prefix_reuse)
        try:
            yield session
        except GeneratorExit:  # a stream that was left early; what it computed may still be of use
            self._idle_sessions.append(session)
            raise
        except BaseException:
            session.close()
            raise
        if self._closed:
            session.close()
        else:
            self._idle_sessions.append(session)

    def _idle_session(self, sequences: list[sequence.Sequence]) -> CachedSession | None:
        with self._idle_lock:
            if not self._idle_sessions:
                return None
            overlaps = [
                sum(session.best(one.prompt_ids) for one in sequences) for session in self._idle_sessions
            ]
            return self._idle_sessions.pop(overlaps.index(max(overlaps)))


class TextStream:
    """Iterates over a text's pieces; `output` is the RequestOutput once they are through."""

    def __init__(self, llm: LLM, one: sequence.Sequence) -> None:
        self._sequence = one
        self._pieces = self._run(llm)

    @property
    def output(self) -> RequestOutput:
        """The whole result; InvalidArgumentError before the iteration has come to its end."""
        if self._sequence.finish_reason is None:
            raise InvalidArgumentError("the stream has not come to its end")
        return self._sequence.output()

    def __iter__(self) -> TextStream:
        return self

    def __next__(self) -> str:
        return next(self._pieces)

    def close(self) -> None:
        """Stop early."""
        self._pieces.close()

    def _run(self, llm: LLM) -> Any:
        with llm._session([self._sequence]) as session:
            for _, text in run(session, llm.info.batch_size, [self._sequence]):
                if text:
                    yield text


def _tokenizer_of(path: Path) -> Tokenizer | None:
    """The tokenizer of a bundle that has one. What is wrong with the bundle is found when it is opened."""
    from .tokenizer import EngineTokenizer

    try:
        manifest = json.loads((path / "manifest.json").read_text(encoding="utf-8"))
        has_one = manifest["tokenizer"] is not None
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return EngineTokenizer(path) if has_one else None


def _merged(texts: list[sequence.Sequence], n: int) -> RequestOutput:
    """The n most probable of a prompt's texts, in the order in which they were begun where all are wanted."""
    if len(texts) > n:
        texts = sorted(texts, key=lambda one: -one.cumulative_logprob)[:n]
    outputs = [one.output() for one in texts]
    first = outputs[0]
    if n == 1:
        return replace(first, outputs=[replace(first.outputs[0], index=0)])
    metrics = replace(
        first.metrics,
        decode_tokens=sum(one.metrics.decode_tokens for one in outputs),
        decode_seconds=sum(one.metrics.decode_seconds for one in outputs),
    )
    completions = [replace(one.outputs[0], index=index) for index, one in enumerate(outputs)]
    return replace(first, outputs=completions, metrics=metrics)


def _are_several(messages: Any) -> bool:
    """Whether it is a list of conversations rather than one."""
    if isinstance(messages, str | Mapping) or not isinstance(messages, Sequence):
        raise InvalidArgumentError(
            f'messages is {type(messages).__name__}, expected a list of {{"role": …, "content": …}}'
        )
    return bool(messages) and all(isinstance(one, Sequence) and not isinstance(one, str) for one in messages)


def _one_each(
    params: SamplingParams | Sequence[SamplingParams] | None, count: int
) -> Sequence[SamplingParams]:
    if params is None:
        return [SamplingParams()] * count
    if isinstance(params, SamplingParams):
        return [params] * count
    if not isinstance(params, Sequence) or not all(isinstance(one, SamplingParams) for one in params):
        raise InvalidArgumentError(
            f"sampling_params is {params!r}, expected SamplingParams or a list of them"
        )
    if len(params) != count:
        raise InvalidArgumentError(f"{len(params)} sampling_params for {count} prompts")
    return params
