"""Which steps a bundle is measured in, and the numbers that follow from their seconds."""

from __future__ import annotations

import json
import platform
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mindir_llm.tools.bench.accounting import Costs, costs
from mindir_llm.tools.bench.errors import BenchError
from mindir_llm.tools.bench.processes import ignore, run_worker
from mindir_llm.tools.bench.report import FORMAT, FORMAT_VERSION

__all__ = [
    "Plan",
    "Sample",
    "full_plan",
    "machine_facts",
    "measure",
    "quick_plan",
    "run_profile",
    "write_json",
]

Runner = Callable[[dict[str, Any], Callable[[int], None]], dict[str, Any]]


@dataclass(frozen=True)
class Plan:
    """How much to measure: prompt lengths and contexts in tokens, decode steps per repetition, repetitions,
    and the prompt and decode steps of the memory step."""

    prefill: tuple[int, ...]
    contexts: tuple[int, ...]
    decode_steps: int
    repeat: int
    memory_prompt: int
    memory_steps: int

    def fitting(self, max_seq_len: int) -> tuple[Plan, list[str]]:
        """The part that a cache of max_seq_len rows holds, and one line for everything left out."""
        notes = []
        prefill = tuple(tokens for tokens in self.prefill if tokens <= max_seq_len)
        contexts = tuple(c for c in self.contexts if c + self.decode_steps <= max_seq_len)
        for what, all_of_them, kept in (
            ("prefill of", self.prefill, prefill),
            ("decode at context", self.contexts, contexts),
        ):
            notes += [
                f"{what} {number}: left out, it does not fit max_seq_len {max_seq_len}"
                for number in all_of_them
                if number not in kept
            ]
        if not prefill or not contexts:
            raise BenchError(f"max_seq_len of the bundle is {max_seq_len}: too little to measure")
        steps = min(self.memory_steps, max_seq_len - 1)
        prompt = min(self.memory_prompt, max_seq_len - steps)
        if (prompt, steps) != (self.memory_prompt, self.memory_steps):
            notes.append(f"peak memory: after {prompt} prompt tokens and {steps} decode steps")
        return Plan(prefill, contexts, self.decode_steps, self.repeat, prompt, steps), notes

    @property
    def units(self) -> int:
        """What the speed step reports as progress, in tokens."""
        deepest = max(self.contexts) - 1
        return self.repeat * (sum(self.prefill) + deepest + len(self.contexts) * self.decode_steps)


def _ignore_text(_: str) -> None:
    """For those who do not read notes."""


def _ignore(_: int, __: int) -> None:
    """The progress callback of those who do not look."""


def full_plan(repeat: int | None = None) -> Plan:
    return Plan((32, 128, 512, 1536), (16, 512, 1024, 1900), 32, repeat or 5, 512, 64)


def quick_plan(repeat: int | None = None) -> Plan:
    """Enough to see whether something works, too little for a claim."""
    return Plan((32, 128), (16, 256), 8, repeat or 2, 128, 16)


@dataclass(frozen=True)
class Sample:
    """Repetitions of one number: what the report shows is their median and their range."""

    median: float
    low: float
    high: float
    count: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Sample:
        return cls(statistics.median(values), min(values), max(values), len(values))

    def to_json(self) -> dict[str, float | int]:
        return {"median": self.median, "low": self.low, "high": self.high, "count": self.count}


def _describe(base: dict[str, Any], runner: Runner, note: Callable[[str], None]) -> dict[str, Any]:
    """What the bundle is, once opened; `note` is told what a limit of memory has led to."""
    facts = runner({**base, "step": "describe"}, ignore)
    if facts.get("memory"):
        note(f"memory: {facts['memory']}")
    return facts


def measure(
    bundle: str | Path,
    plan: Plan,
    *,
    threads: int | None = None,
    exact: bool = False,
    resources: dict[str, Any] | None = None,
    note: Callable[[str], None] = _ignore_text,
    progress: Callable[[int, int], None] = _ignore,
    runner: Runner = run_worker,
) -> dict[str, Any]:
    """Run every step and return the report as a JSON object; sizes in bytes, Samples where repeated.

    plan: lengths that do not fit the bundle are left out and noted. threads: None: one per physical core.
    resources: max_memory, cores and priority, as LLM takes them. note: is told in a line what they led to.
    progress: is told of tokens done since its last call, and of all there are. BenchError: a step that
    failed, with the worker's reason.
    """
    base = {"bundle": str(bundle), "threads": threads, "exact": exact, "resources": resources or {}}
    facts = _describe(base, runner, note)
    threads = int(facts["threads"])
    base["threads"] = threads
    plan, notes = plan.fitting(facts["max_seq_len"])
    memory = runner(
        {**base, "step": "memory", "tokens": plan.memory_prompt, "decode_steps": plan.memory_steps}, ignore
    )
    total = plan.units + plan.memory_prompt + plan.memory_steps
    progress(plan.memory_prompt + plan.memory_steps, total)
    # The steps before have read every file, so the page cache is as warm as it gets.
    loads = [runner({**base, "step": "load"}, ignore)["seconds"] for _ in range(plan.repeat)]
    speed = runner(
        {
            **base,
            "step": "speed",
            "prefill": plan.prefill,
            "contexts": plan.contexts,
            "decode_steps": plan.decode_steps,
            "repeat": plan.repeat,
        },
        lambda tokens: progress(tokens, total),
    )
    cost = costs(facts["manifest"], facts["parameters"])
    if memory["peak"] is None:
        notes.append("the system does not tell peak memory")
    manifest = facts["manifest"]
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "machine": {**machine_facts(), "threads": threads, **_machine_speed(speed["machine"])},
        "bundle": {
            "path": str(bundle),
            "producer": manifest["producer"],
            "target": manifest["target"],
            "scheme": manifest["quantization"]["scheme"],
            "dtype": manifest["dtype"],
            "kv_dtype": manifest["kv_dtype"],
            "max_seq_len": facts["max_seq_len"],
            "prefill_chunk": facts["prefill_chunk"],
            "file_bytes": sum(one["size"] for one in manifest["files"].values()),
            "exact": exact,
        },
        "prefill": [_prefill(one, cost) for one in speed["prefill"]],
        "decode": [_decode(one, cost) for one in speed["decode"]],
        "first_token": _first_token(speed),
        "load_seconds": Sample.of(loads).to_json(),
        "memory": {
            **memory,
            "floor": facts["weight_bytes"] + facts["kv_cache_bytes"],
            "weight_bytes": facts["weight_bytes"],
            "kv_cache_bytes": facts["kv_cache_bytes"],
            "prompt_tokens": plan.memory_prompt,
            "decode_steps": plan.memory_steps,
        },
        "notes": notes,
    }


def run_profile(
    bundle: str | Path,
    plan: Plan,
    *,
    threads: int | None = None,
    exact: bool = False,
    resources: dict[str, Any] | None = None,
    note: Callable[[str], None] = _ignore_text,
    runner: Runner = run_worker,
) -> dict[str, Any]:
    """The engine's profile of one prompt and some decode steps (the plan's memory step), with what the report
    needs to tell bytes: {"report", "parameters", "prompt_tokens", "decode_steps"}."""
    base = {"bundle": str(bundle), "threads": threads, "exact": exact, "resources": resources or {}}
    facts = _describe(base, runner, note)
    plan, _ = plan.fitting(facts["max_seq_len"])
    request = {**base, "step": "profile", "tokens": plan.memory_prompt, "decode_steps": plan.memory_steps}
    return {
        "report": runner(request, ignore),
        "parameters": facts["parameters"],
        "prompt_tokens": plan.memory_prompt,
        "decode_steps": plan.memory_steps,
    }


def machine_facts() -> dict[str, Any]:
    """What kind of computer this is."""
    return {"cpu": _cpu_name(), "system": platform.system(), "python": platform.python_version()}


def _cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _machine_speed(machine: list[dict[str, float]]) -> dict[str, Any]:
    names = ("read_bandwidth", "int8_macs", "matrix_macs")
    return {name: Sample.of([one[name] for one in machine]).to_json() for name in names}


def _prefill(one: dict[str, Any], cost: Costs) -> dict[str, Any]:
    tokens, seconds = one["tokens"], one["seconds"]
    macs = cost.prefill_macs(tokens)
    shares = [macs / (s * peak) for s, peak in zip(seconds, one["peak_macs"], strict=True)]
    return {
        "tokens": tokens,
        "tokens_per_second": Sample.of([tokens / s for s in seconds]).to_json(),
        "macs": macs,
        "share_of_peak": Sample.of(shares).to_json(),
    }


def _decode(one: dict[str, Any], cost: Costs) -> dict[str, Any]:
    context, rounds = one["context"], one["step_seconds"]
    steps = len(rounds[0])
    # Step i attends to context + i + 1 tokens; this is their mean.
    nbytes = cost.decode_bytes(context + (steps + 1) / 2)
    return {
        "context": context,
        "tokens_per_second": Sample.of([steps / sum(times) for times in rounds]).to_json(),
        "bytes_per_token": nbytes,
        "weight_bytes_per_token": cost.weight_bytes,
        "share_of_read_bandwidth": Sample.of(
            [steps * nbytes / readable for readable in one["readable_bytes"]]
        ).to_json(),
    }


def _first_token(speed: dict[str, Any]) -> dict[str, Any]:
    shallow = min(speed["decode"], key=lambda one: one["context"])
    steps = [statistics.median(times) for times in shallow["step_seconds"]]
    ratios = [first / step for first, step in zip(speed["first_token"], steps, strict=True)]
    return {
        "seconds": Sample.of(speed["first_token"]).to_json(),
        "decode_steps": Sample.of(ratios).to_json(),
    }


def write_json(report: dict[str, Any], path: Path) -> None:
    path.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
