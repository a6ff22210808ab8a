"""The golden layout in slices: what is read is what was stored, in the rows that it should take."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pytest

from sgq_hw.golden.feature_buffer import feature_buffer, feature_slices, positions, read_slices
from sgq_hw.golden.fixed_point import code_range

PES = (1, 2, 4, 8)


@dataclass(frozen=True)
class Part:
    low: int
    high: int
    first: int
    end: int
    rows: int


def test_positions_count_the_bounds_that_are_reached() -> None:
    places = np.arange(7)
    assert positions(places, [2, 2, 5]).tolist() == [0, 0, 2, 2, 2, 3, 3]
    assert positions(places, [0, 9]).tolist() == [1] * 7


@pytest.mark.parametrize("pes", PES)
@pytest.mark.parametrize("signed", [False, True])
def test_reading_gives_the_words_back(pes: int, signed: bool) -> None:
    rng = np.random.default_rng(pes)
    for _ in range(40):
        buckets = int(rng.integers(2, 9))
        counts = rng.integers(0, 12, buckets)
        nodes, channels, lanes = int(counts.sum()), int(rng.integers(1, 8)), 3
        bounds = np.cumsum(counts)[:-1].tolist()
        widths = rng.integers(2, 17, buckets)
        exponents = rng.integers(0, 16, buckets)
        places = rng.permutation(nodes)
        position = positions(places, bounds)
        assert np.bincount(position, minlength=buckets).tolist() == counts.tolist()
        limits = np.array([code_range(int(bits), signed) for bits in widths])[position]
        codes = rng.integers(limits[:, :1], limits[:, 1:], (nodes, channels), endpoint=True)
        cuts = sorted({0, int(widths.max()), *rng.integers(1, widths.max() + 1, 2).tolist()})
        slices = []
        for low, high in pairwise(cuts):
            wide = np.flatnonzero(widths > low)
            slices.append(Part(low, high, int(wide[0]), int(wide[-1]) + 1, nodes + 1))
        stored = feature_slices(codes, lanes, pes, places, bounds, slices)
        words = read_slices(
            stored, channels, pes, places, bounds, slices, exponents.tolist(), signed
        )
        assert np.array_equal(words, codes << exponents[position][:, np.newaxis])


def test_rows_are_those_of_the_places() -> None:
    # Of three rounds of four banks, position 1 begins in the first one and position 2 in the last.
    codes = np.arange(12)[:, np.newaxis] + np.array([[0, 16, 96]])
    slices = [Part(0, 4, 0, 3, 3), Part(4, 6, 1, 3, 3), Part(6, 7, 2, 3, 1)]
    low, middle, high = feature_slices(codes, 2, 2, np.arange(12), [3, 9], slices)
    # Two words of a node, a bank in four: PE 0 even and odd rows, PE 1 even and odd rows.
    assert low[:, :3, 0].tolist() == [[0, 4, 8], [2, 6, 10], [1, 5, 9], [3, 7, 11]]
    assert middle[:, :3, 1].tolist() == [[-1, 1, 1], [-1, 1, 1], [-1, 1, 1], [1, 1, 1]]
    assert middle[:, 3:, 0].tolist() == [[-1, 2, 2], [-1, 2, 2], [-1, 2, 2], [2, 2, 2]]
    assert high.tolist() == [[[-1, -1], [-1, -1]]] + [[[0, 0], [1, 0]]] * 3


def test_one_slice_of_all_positions_is_the_plain_layout() -> None:
    codes = np.arange(20).reshape(5, 4)
    (words,) = feature_slices(codes, 3, 1, np.arange(5), [2, 2], [Part(0, 5, 0, 3, 6)])
    plain = feature_buffer(codes, 3, 6).reshape(2, 6, 3)
    assert np.array_equal(words.reshape(2, 6, 3)[:, :5], plain[:, :5])
    assert (words.reshape(2, 6, 3)[:, 5] == -1).all()
