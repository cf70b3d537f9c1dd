"""Every portable primitive of the engine against MindSpore: same MindIR, same inputs, same results.

`cases.py` draws uses of a primitive; several of them are exported as one graph, so that an example is cheap.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cases
import cells
import mindspore as ms
import numpy as np
import pytest
from cases import Case
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from mindspore import Tensor

from mindir_llm.runtime import Graph

EXAMPLES = 20 if os.environ.get("HYPOTHESIS_PROFILE") == "ci" else 4
KERNELS = Path(__file__).resolve().parents[2] / "runtime" / "engine" / "kernels" / "basic"

# Primitives with a test of their own below.
ELSEWHERE = {"Range", "ZerosLike", "OnesLike", "TensorMove"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    ms.set_context(mode=ms.GRAPH_MODE)
    if ms.get_context("device_target") != "CPU":  # refused once something ran
        ms.set_device("CPU")
    return tmp_path_factory.mktemp("graphs")


_numbers = itertools.count()


def export(net: ms.nn.Cell, tensors: Sequence[Tensor], folder: Path) -> Path:
    path = folder / f"graph{next(_numbers)}.mindir"
    ms.export(net, *tensors, file_name=str(path), file_format="MINDIR")
    return path


def flatten(outputs: Any) -> list[np.ndarray[Any, np.dtype[Any]]]:
    if isinstance(outputs, tuple | list):
        return [array for item in outputs for array in flatten(item)]
    return [outputs.asnumpy()]


def complaint(bound: cases.Bound, expected: Any, actual: Any) -> str | None:
    """Why two results do not agree, or None."""
    if actual.dtype != expected.dtype or actual.shape != expected.shape:
        return f"{actual.dtype}{actual.shape}, MindSpore has {expected.dtype}{expected.shape}"
    if expected.dtype.kind != "f":
        wrong = actual != expected
    else:
        with np.errstate(all="ignore"):
            same = (actual == expected) | (np.isnan(actual) & np.isnan(expected))
            if bound is None:
                wrong = ~same | ((expected == 0) & (np.signbit(actual) != np.signbit(expected)))
            else:
                apart = np.abs(actual.astype(np.float64) - expected.astype(np.float64))
                wrong = ~same & ~(apart <= bound(expected))
    if not wrong.any():
        return None
    where = tuple(int(i) for i in np.argwhere(wrong)[0])
    return (
        f"{int(wrong.sum())} of {wrong.size} differ, first at {where}: "
        f"{actual[where]!r}, expected {expected[where]!r}"
    )


def far_from_truth(case: Case, actual: Any) -> str | None:
    if case.truth is None:
        return None
    with np.errstate(all="ignore"):
        true = case.truth(*(x.astype(np.float64) for x in case.inputs)).astype(actual.dtype)
    problem = complaint(cases.ulps(4), true, actual)
    return problem and f"against float64: {problem}"


def check(drawn: Sequence[Case], primitive: str, folder: Path) -> bool:
    """Returns whether the graph uses the primitive: MindSpore drops those that change nothing."""
    net = cells.Several([case.cell() for case in drawn], [len(case.inputs) for case in drawn])
    tensors = [Tensor(x) for case in drawn for x in case.inputs]
    # Exported before it runs: running a cell that writes a parameter changes what would be exported.
    path = export(net, tensors, folder)
    wanted = net(*tensors)
    with Graph(path, threads=2) as graph:
        used = primitive in graph.describe()["operators"]
        arrays = [np.ascontiguousarray(x).reshape(x.shape) for case in drawn for x in case.inputs]
        results = iter(graph.run(arrays).values())
    problems = []
    for case, outputs in zip(drawn, wanted, strict=True):
        for expected in flatten(outputs):
            actual = next(results)
            problem = complaint(case.bound, expected, actual) or far_from_truth(case, actual)
            if problem:
                problems.append(f"{case}: {problem}")
    assert next(results, None) is None, "the engine returned more outputs than MindSpore"
    path.unlink()
    assert not problems, "\n".join(problems)
    return used


@pytest.mark.parametrize("primitive", sorted(cases.STRATEGIES))
def test_primitive(primitive: str, folder: Path) -> None:
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],  # a failing list already names the single case
        suppress_health_check=list(HealthCheck),
    )
    @given(st.lists(cases.STRATEGIES[primitive], min_size=4, max_size=8))
    def run(drawn: list[Case]) -> None:
        uses.append(check(drawn, primitive, folder))

    uses: list[bool] = []
    run()
    assert any(uses), "no exported graph uses the primitive"


@pytest.mark.parametrize("cell", [cells.RowNumbers, cells.ZerosLike, cells.OnesLike])
def test_dynamic_dimension(cell: type[ms.nn.Cell], folder: Path) -> None:
    """Primitives whose result depends on shapes alone: MindSpore folds them unless a dimension is unknown."""
    net = cell()
    path = export(net, [Tensor(shape=[None, 3], dtype=ms.float32)], folder)
    with Graph(path) as graph:
        for rows in (1, 4, 7):
            x = np.zeros((rows, 3), np.float32)
            (result,) = graph.run([x]).values()
            expected = net(Tensor(x)).asnumpy()
            assert result.dtype == expected.dtype
            np.testing.assert_array_equal(result, expected)
        wanted = "Range" if cell is cells.RowNumbers else cell.__name__
        assert wanted in graph.describe()["operators"]


def test_an_old_value_of_a_written_parameter(folder: Path) -> None:
    """MindSpore inserts TensorMove where a value is returned after the parameter it came from is written."""
    state = np.arange(6, dtype=np.float32).reshape(3, 2)
    net = cells.UpdateAndKeepOld(ms.ops.ScatterUpdate(), state)
    inputs = [np.array([1], np.int32), np.full((1, 2), -1, np.float32)]
    tensors = [Tensor(x) for x in inputs]
    path = export(net, tensors, folder)
    wanted = flatten(net(*tensors))
    with Graph(path) as graph:
        assert "TensorMove" in graph.describe()["operators"]
        for actual, expected in zip(graph.run(inputs).values(), wanted, strict=True):
            np.testing.assert_array_equal(actual, expected)


def test_every_primitive_of_the_engine_is_tested() -> None:
    """Reads the operator tables in the sources of kernels/basic."""
    names = set()
    for source in KERNELS.glob("*.cpp"):
        names |= set(re.findall(r'(?:\{|>\()"([A-Z]\w*)"\s*[,)]', source.read_text(encoding="utf-8")))
    assert "MatMul" in names, f"no operator tables found in {KERNELS}"
    assert names - set(cases.STRATEGIES) - ELSEWHERE == set(), "in the engine, but not tested"
    assert (set(cases.STRATEGIES) | ELSEWHERE) - names == set(), "tested, but not in the engine"
