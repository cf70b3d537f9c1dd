"""Statistics do not depend on how rows come in blocks; hidden states come back as they were stored."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from mindir_llm.export.calibrate.rows import RowStore
from mindir_llm.export.calibrate.statistics import Accumulator, InputStatistics


@settings(max_examples=60, derandomize=True, deadline=None, phases=[Phase.generate])
@given(
    lengths=st.lists(st.integers(1, 1100), min_size=1, max_size=4),
    width=st.integers(1, 9),
    seed=st.integers(0, 1000),
    scale=st.sampled_from([1e-6, 1.0, 1e6]),
    second_moment=st.booleans(),
)
def test_equal_to_the_plain_formulas(
    lengths: list[int], width: int, seed: int, scale: float, second_moment: bool
) -> None:
    rng = np.random.default_rng(seed)
    rows = (rng.standard_normal((sum(lengths), width)) * scale + scale / 3).astype(np.float32)
    sample = np.sort(rng.choice(len(rows), min(7, len(rows)), replace=False))
    accumulator = Accumulator(width, second_moment, sample)
    start = 0
    for length in lengths:
        accumulator.add(rows[start : start + length])
        start += length
    found = accumulator.finish()
    exact = rows.astype(np.float64)
    assert found.rows == len(rows)
    np.testing.assert_array_equal(found.channel_min, rows.min(axis=0))
    np.testing.assert_array_equal(found.channel_max, rows.max(axis=0))
    np.testing.assert_array_equal(found.max_abs, np.abs(rows).max(axis=0))
    np.testing.assert_allclose(found.mean_abs, np.abs(exact).mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(found.mean_square, (exact**2).mean(axis=0), rtol=1e-5)
    np.testing.assert_array_equal(found.sample, rows[sample])  # type: ignore[arg-type]
    if second_moment:
        moment = found.second_moment
        assert moment is not None and moment.dtype == np.float64
        np.testing.assert_allclose(moment, exact.T @ exact, atol=1e-5 * np.abs(exact.T @ exact).max())
        np.testing.assert_array_equal(moment, moment.T)
        assert found.without("second_moment").second_moment is None
    else:
        assert found.second_moment is None
    again = InputStatistics.from_arrays(found.arrays())
    for name, value in found.arrays().items():
        np.testing.assert_array_equal(again.arrays()[name], value)


@pytest.mark.parametrize("memory_limit", [0, 1 << 20])
def test_rows_come_back(tmp_path: Path, memory_limit: int) -> None:
    lengths = [3, 1, 5]
    store = RowStore(lengths, 4, memory_limit=memory_limit, folder=tmp_path)
    assert store.in_memory == (memory_limit > 0) and store.nbytes == 9 * 4 * 4
    parts = [
        np.random.default_rng(i).standard_normal((n, 4)).astype(np.float32) for i, n in enumerate(lengths)
    ]
    for index in (2, 0, 1):
        store.write(index, parts[index])
    for index, part in enumerate(parts):
        rows = store.read(index)
        np.testing.assert_array_equal(rows, part)
        rows[:] = 0  # what was read is the reader's own
        np.testing.assert_array_equal(store.read(index), part)
    content = b"".join(store.blocks())
    assert content == np.concatenate(parts).tobytes()
    other = RowStore(lengths, 4, memory_limit=memory_limit, folder=tmp_path)
    other.fill(io.BytesIO(content))
    assert b"".join(other.blocks()) == content
    with pytest.raises(EOFError, match="ends early"):
        other.fill(io.BytesIO(content[:-1]))
    with pytest.raises(ValueError, match="sequence 0 has 3 rows of 4"):
        store.write(0, parts[1])
    store.close()
    other.close()
    assert not list(tmp_path.iterdir()), "the file has no name"
