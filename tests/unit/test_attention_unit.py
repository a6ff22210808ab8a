"""Attention in integers: against scalar and dense second models, floats, and its proved bounds."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from sgq_hw.formats import Window
from sgq_hw.golden.attention_unit import (
    AttentionTable,
    agnn_bound,
    agnn_bounds,
    agnn_logits,
    attention_bound,
    attention_table,
    attention_unit,
    attention_weights,
    elu,
    elu_table,
    epilogue_bits,
    fitting_norm_bits,
    gat_bounds,
    gat_logits,
    inverse_norms,
    leaky,
    reciprocals,
)
from sgq_hw.golden.fixed_point import BoundError, IntArray, code_range, signed_bits

Csr = tuple[IntArray, IntArray]


def csr(rows: Sequence[Sequence[int]]) -> Csr:
    lengths = [len(row) for row in rows]
    flat = [column for row in rows for column in row]
    return np.cumsum([0, *lengths], dtype=np.int64), np.array(flat, np.int64)


def random_csr(rng: np.random.Generator, nodes: int, hub: int = 0) -> Csr:
    """Rows of up to six entries, a third of them empty; the last is a hub if asked for."""
    limit = min(nodes, 6)
    lengths = rng.integers(0, limit + 1, nodes) * (rng.random(nodes) > 1 / 3)
    rows = [rng.choice(nodes, length, replace=False).tolist() for length in lengths]
    if hub:
        rows[-1] = rng.choice(nodes, hub, replace=False).tolist()
    return csr(rows)


def rows_of(graph: Csr) -> list[list[tuple[int, int]]]:
    """For each row its (edge, column) pairs."""
    starts, columns = graph[0].tolist(), graph[1].tolist()
    return [
        [(edge, columns[edge]) for edge in range(starts[row], starts[row + 1])]
        for row in range(len(starts) - 1)
    ]


def in_range(
    rng: np.random.Generator, bits: int, signed: bool, shape: tuple[int, ...], extreme: bool
) -> IntArray:
    low, high = code_range(bits, signed)
    if extreme:
        return rng.choice(np.array([low, high], np.int64), shape)
    return rng.integers(low, high + 1, shape)


# ---- the scalar model: Python integers, one node at a time --------------------------------------


def scalar_round_shift(value: int, shift: int) -> int:
    return value if shift == 0 else (value + (1 << (shift - 1))) >> shift


def scalar_leaky(value: int, slope: int, k: int) -> int:
    return value << k if value >= 0 else value * slope


def scalar_norm(row: list[int], bits: int) -> tuple[int, int]:
    """Mantissa by the hardware's search: bit by bit, the largest whose square fits."""
    squares = sum(code * code for code in row)
    if squares == 0:
        return 0, 0
    exponent = 0
    while 4**exponent <= squares:
        exponent += 1
    mantissa = 0
    for bit in reversed(range(bits)):
        trial = mantissa | 1 << bit
        if trial * trial * squares <= 4 ** (bits - 1 + exponent):
            mantissa = trial
    return mantissa, exponent


def scalar_agnn(graph: Csr, features: IntArray, beta: int, norm_bits: int) -> list[int]:
    table = features.tolist()
    norms = [scalar_norm(row, norm_bits) for row in table]
    logits = []
    for i, row in enumerate(rows_of(graph)):
        for _, j in row:
            dot = sum(a * b for a, b in zip(table[i], table[j], strict=True))
            product = dot * norms[i][0] * norms[j][0] * beta
            shift = 2 * (norm_bits - 1) + norms[i][1] + norms[j][1]
            logits.append(scalar_round_shift(product, shift))
    return logits


def scalar_weight(difference: int, table: AttentionTable) -> int:
    index = scalar_round_shift(max(difference, 0), table.index_shift)
    return int(table.codes[index]) if index < len(table.codes) else 0


def scalar_mean(
    weights: list[int], codes: list[int], bias: int, shift: int, bits: int, signed: bool
) -> int:
    den = sum(weights)
    num = sum(w * h for w, h in zip(weights, codes, strict=True))
    e = den.bit_length()
    factor = ((1 << (e + 15)) - 1) // den if den else 0
    low, high = code_range(bits, signed)
    return min(max(scalar_round_shift(num * factor + (bias << e), shift + e), low), high)


# ---- whole attention against the scalar model ---------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    nodes=st.integers(1, 12),
    heads=st.integers(1, 4),
    channels=st.integers(1, 3),
    att_bits=st.sampled_from([1, 2, 4, 8, 12, 16]),
    score_bits=st.sampled_from([2, 6, 12, 16]),
    kind=st.sampled_from(["row", "global"]),
    extreme=st.booleans(),
    signed=st.booleans(),
    shift=st.sampled_from([0, 1, 12, 15, 19]),
)
def test_gat_equals_the_scalar_model(
    seed: int,
    nodes: int,
    heads: int,
    channels: int,
    att_bits: int,
    score_bits: int,
    kind: Literal["row", "global"],
    extreme: bool,
    signed: bool,
    shift: int,
) -> None:
    rng = np.random.default_rng(seed)
    graph = random_csr(rng, nodes)
    s, t = (in_range(rng, score_bits, True, (nodes, heads), extreme) for _ in range(2))
    features = in_range(rng, 8, True, (nodes, heads * channels), extreme)
    bias = in_range(rng, 20, True, (heads * channels,), extreme)
    table = attention_table(att_bits, 2.0 ** -(score_bits + 2), 64)

    logits = gat_logits(*graph, s, t, score_bits)
    bounds = gat_bounds(*graph, s, t, kind, score_bits)
    weights = attention_weights(graph[0], logits, bounds, table)
    result = attention_unit(
        *graph, weights.codes, features,
        att_bits=att_bits, magnitude=128, bias=bias, bias_bits=20, shift=shift, bits=9,
        signed=signed,
    )  # fmt: skip

    zeroed = 0
    for head in range(heads):
        for i, row in enumerate(rows_of(graph)):
            own = [scalar_leaky(int(s[i, head] + t[j, head]), 13, 6) for _, j in row]
            everywhere = max(scalar_leaky(int(s[i, head] + x), 13, 6) for x in t[:, head])
            bound = everywhere if kind == "global" else max(own, default=0)
            scalar = [scalar_weight(bound - logit, table) for logit in own]
            assert own == [int(logits[edge, head]) for edge, _ in row]
            assert scalar == [int(weights.codes[edge, head]) for edge, _ in row]
            zeroed += bool(row) and not any(scalar)
            for c in range(head * channels, (head + 1) * channels):
                codes = [int(features[j, c]) for _, j in row]
                assert result[i, c] == scalar_mean(scalar, codes, int(bias[c]), shift, 9, signed)
    assert weights.zeroed == zeroed
    if kind == "row":
        assert weights.zeroed == 0


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    nodes=st.integers(1, 12),
    channels=st.integers(1, 20),
    bits=st.integers(2, 8),
    beta=st.sampled_from([-2047, -300, -1, 0, 1, 77, 2047]),
    norm_bits=st.sampled_from([2, 5, 8, 12]),
    extreme=st.booleans(),
)
def test_agnn_equals_the_scalar_model(
    seed: int, nodes: int, channels: int, bits: int, beta: int, norm_bits: int, extreme: bool
) -> None:
    rng = np.random.default_rng(seed)
    graph = random_csr(rng, nodes)
    features = in_range(rng, bits, True, (nodes, channels), extreme)
    features[rng.random(nodes) < 0.2] = 0
    logits = agnn_logits(*graph, features, 1 << (bits - 1), beta, norm_bits=norm_bits)
    assert logits.shape == (len(graph[1]), 1)
    assert logits[:, 0].tolist() == scalar_agnn(graph, features, beta, norm_bits)
    assert (agnn_bounds(nodes, beta) == abs(beta)).all()
    assert np.abs(logits).max(initial=0) <= abs(beta)
    assert (logits[~features[graph[1]].any(axis=1)] == 0).all()


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_shifting_before_the_rounding_is_exact(data: st.DataObject) -> None:
    """What the `agnn_scores` unit does, with the widths that it is built for."""
    magnitude, channels = data.draw(st.integers(1, 255)), data.draw(st.integers(1, 5))
    score_bits, norm_bits = data.draw(st.integers(2, 12)), data.draw(st.integers(2, 12))
    code = st.one_of(st.sampled_from([-magnitude, magnitude]), st.integers(-magnitude, magnitude))
    own, other = (data.draw(st.lists(code, min_size=channels, max_size=channels)) for _ in range(2))
    limit = (1 << (score_bits - 1)) - 1
    beta = data.draw(st.one_of(st.sampled_from([-limit, limit]), st.integers(-limit, limit)))
    bound = agnn_bound(channels, magnitude, score_bits, norm_bits)
    norms = [scalar_norm(row, norm_bits) for row in (own, other)]
    dot = sum(a * b for a, b in zip(own, other, strict=True))
    product, aligned_shift = dot * norms[0][0] * norms[1][0] * beta, norms[0][1] + norms[1][1]
    fraction = 2 * (norm_bits - 1)
    aligned = product >> aligned_shift
    logit = (aligned >> fraction) + (aligned >> (fraction - 1) & 1)
    assert logit == scalar_round_shift(product, fraction + aligned_shift)
    assert sum(code * code for code in own).bit_length() <= bound.square_bits
    assert abs(dot).bit_length() <= bound.square_bits
    assert max(norms[0][1], norms[1][1]).bit_length() <= bound.norm_exponent_bits
    assert signed_bits(product, product) <= bound.product_bits
    # So many bits does the longest shift take off, and more are not above the aligned product.
    assert signed_bits(aligned, aligned) <= score_bits + fraction
    assert aligned_shift <= bound.product_bits - (score_bits + fraction)


def test_widths_of_agnn() -> None:
    bound = agnn_bound(64, 127, 12, 12)
    squares = 64 * 127**2
    assert bound.square_bits == squares.bit_length() == 20
    assert bound.norm_exponent_bits == 4
    assert bound.product_bits == 12 + 2 * 11 + 2 * 10
    assert agnn_bound(1, 1, 2, 2).square_bits == 3
    with pytest.raises(BoundError, match="dot"):
        agnn_bound(1 << 20, 1 << 10, 12, 12)


def test_negative_beta_prefers_the_opposite_direction() -> None:
    graph = csr([[0, 1, 2], [0], []])
    features = np.array([[100, 3], [-100, -3], [0, 0]], np.int64)
    assert agnn_logits(*graph, features, 127, -512)[:, 0].tolist() == [-512, 512, 0, 512]
    assert agnn_logits(*graph, features, 127, 512)[:, 0].tolist() == [512, -512, 0, -512]


# ---- the dense model, on larger graphs ----------------------------------------------------------


def dense_mean(graph: Csr, weights: IntArray, features: IntArray, shift: int) -> npt.NDArray[Any]:
    """The weighted mean by full matrices of Python integers, 16-bit signed, without bias."""
    n, heads = len(graph[0]) - 1, weights.shape[1]
    channels = features.shape[1] // heads
    result = np.zeros((n, features.shape[1]), object)
    for head in range(heads):
        part = slice(head * channels, (head + 1) * channels)
        shape = (n, len(features))
        matrix = sparse.csr_array((weights[:, head], graph[1], graph[0]), shape=shape).toarray()
        num = matrix.dot(features[:, part]).astype(object)
        for i, den in enumerate(matrix.sum(axis=1).tolist()):
            e = den.bit_length()
            factor = (2 ** (e + 15) - 1) // den if den else 0
            for c, value in enumerate(num[i]):
                rounded = scalar_round_shift(value * factor, shift + e)
                result[i, head * channels + c] = min(max(rounded, -32768), 32767)
    return result


@pytest.mark.parametrize(("nodes", "hub"), [(1, 0), (1, 1), (60, 0), (300, 300), (3100, 3000)])
@pytest.mark.parametrize("extreme", [False, True])
def test_unit_equals_the_dense_model(nodes: int, hub: int, extreme: bool) -> None:
    rng = np.random.default_rng(nodes + extreme)
    graph = random_csr(rng, nodes, hub)
    edges, heads = len(graph[1]), 2
    weights = in_range(rng, 12, False, (edges, heads), extreme)
    features = in_range(rng, 8, True, (nodes, heads * 2), extreme)
    result = attention_unit(
        *graph, weights, features,
        att_bits=12, magnitude=128, bias=np.int64(0) * np.arange(1), bias_bits=0, shift=9,
        bits=16, signed=True,
    )  # fmt: skip
    assert np.array_equal(result, dense_mean(graph, weights, features, 9))


def test_order_within_a_row_changes_nothing() -> None:
    rng = np.random.default_rng(7)
    indptr, indices = random_csr(rng, 400, 350)
    shuffled = np.concatenate([rng.permutation(indices[a:b]) for a, b in pairwise(indptr)])
    s, t = (in_range(rng, 12, True, (400, 3), False) for _ in range(2))
    features = in_range(rng, 8, True, (400, 6), False)
    table = attention_table(8, 2.0**-14)

    def attend(columns: IntArray) -> IntArray:
        logits = gat_logits(indptr, columns, s, t)
        weights = attention_weights(indptr, logits, gat_bounds(indptr, columns, s, t), table)
        return attention_unit(
            indptr, columns, weights.codes, features,
            att_bits=8, magnitude=128, bias=np.zeros(6, np.int64), bias_bits=0, shift=8, bits=16,
            signed=True,
        )  # fmt: skip

    assert np.array_equal(attend(indices), attend(shuffled))
    one, other = (agnn_logits(indptr, c, features, 128, 900) for c in (indices, shuffled))
    for a, b in pairwise(indptr):
        assert np.array_equal(np.sort(one[a:b], axis=0), np.sort(other[a:b], axis=0))


# ---- logits -------------------------------------------------------------------------------------


def test_leaky_is_exact_and_monotone() -> None:
    values = np.arange(-5000, 5000, dtype=np.int64)
    for slope, k in ((13, 6), (0, 3), (8, 3), (51, 8)):
        result = leaky(values, slope, k)
        assert (np.diff(result) >= 0).all()
        expected = np.where(values >= 0, values, values * (slope / 2**k)) * 2**k
        assert np.array_equal(result, expected)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(st.integers(-2048, 2047), min_size=1, max_size=9), min_size=1))
def test_inverse_norms_are_the_largest_that_fit(rows: list[list[int]]) -> None:
    features = np.zeros((len(rows), 9), np.int64)
    for i, row in enumerate(rows):
        features[i, : len(row)] = row
    norms = inverse_norms(features, 2048)
    got = list(zip(norms.mantissa.tolist(), norms.exponent.tolist(), strict=True))
    assert got == [scalar_norm(row, 12) for row in features.tolist()]
    length = np.sqrt((features**2).sum(axis=1))
    real = norms.mantissa * 2.0 ** -(11 + norms.exponent)
    assert (real * length <= 1).all()
    assert (real * length > 1 - 2.0**-11)[length > 0].all()


def test_inverse_norm_is_exact_beyond_float_precision() -> None:
    """Sums of squares above 2**53 and roots near 2**28 need more than a float's 53 bits."""
    rng = np.random.default_rng(0)
    high = 2**28 - 1
    features = high - rng.integers(0, 50, (200, 1))
    features[0] = high
    norms = inverse_norms(features, high, 3)
    got = list(zip(norms.mantissa.tolist(), norms.exponent.tolist(), strict=True))
    assert got == [scalar_norm(row, 3) for row in features.tolist()]


def test_agnn_logits_are_close_to_the_cosine() -> None:
    """Proved: both mantissas are low by less than 2**-11, and one rounding of half an LSB."""
    rng = np.random.default_rng(3)
    graph = random_csr(rng, 500)
    lengths = rng.choice([1, 8, 127], (500, 1))  # short rows keep their precision too
    features = np.rint(rng.standard_normal((500, 16)).clip(-1, 1) * lengths).astype(np.int64)
    logits = agnn_logits(*graph, features, 127, 1024)[:, 0]
    rows = np.repeat(np.arange(500), np.diff(graph[0]))
    norm = np.maximum(np.sqrt((features**2).sum(axis=1)), 1e-9)
    cosine = (features[rows] * features[graph[1]]).sum(axis=1) / norm[rows] / norm[graph[1]]
    assert np.abs(logits - 1024 * cosine).max() <= 0.5 + 1024 * 2 * 2.0**-11


# ---- tables -------------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", range(1, 17))
@pytest.mark.parametrize("length", [16, 256, 1024])
@pytest.mark.parametrize("grid", [4, 10, 18])
def test_table_starts_full_falls_and_ends_where_weights_vanish(
    bits: int, length: int, grid: int
) -> None:
    table = attention_table(bits, 2.0**-grid, length)
    assert len(table.codes) == length
    assert table.codes[0] == 2**bits - 1
    assert (np.diff(table.codes) <= 0).all()
    assert table.codes[-1] >= 0
    step = 2.0 ** (table.index_shift - grid)
    # The first weight left out rounds to zero, and half the step would not reach so far.
    assert (2**bits - 1) * math.exp(-length * step) < 0.5
    if table.index_shift:
        assert (2**bits - 1) * math.exp(-length * step / 2) > 0.5
    exact = (2**bits - 1) * np.exp(-step * np.arange(length))
    assert np.abs(table.codes - exact).max() <= 0.5


def test_table_of_a_limited_difference_is_finer() -> None:
    """AGNN's logits span 2 |beta|: the table covers no more, and none of them falls outside."""
    wide, fine = attention_table(8, 2.0**-10), attention_table(8, 2.0**-10, 256, 2 * 1024)
    assert fine.index_shift < wide.index_shift
    assert scalar_round_shift(2 * 1024, fine.index_shift) < 256
    assert scalar_round_shift(2 * 1024, fine.index_shift - 1) >= 256
    largest = attention_weights(
        np.array([0, 1]), np.array([[-1024]]), agnn_bounds(1, -1024), fine
    ).codes
    assert abs(int(largest[0, 0]) - 255 * math.exp(-2)) <= 0.5


def test_weights_beyond_the_table_and_above_the_bound() -> None:
    table = attention_table(4, 0.25, 16)
    assert table.index_shift == 0
    indptr = np.array([0, 4], np.int64)
    logits = np.array([[5], [0], [-15], [-16]], np.int64)
    weights = attention_weights(indptr, logits, np.array([[0]], np.int64), table)
    assert weights.codes[:, 0].tolist() == [15, 15, int(table.codes[15]), 0]


def test_zeroed_rows_are_counted() -> None:
    """A global bound far above a row removes all its weights: the row becomes the bias."""
    graph = csr([[1], [0], []])
    s = np.zeros((3, 1), np.int64)
    t = np.array([[-2048], [0], [2047]], np.int64)
    logits = gat_logits(*graph, s, t)
    table = attention_table(8, 2.0**-6)
    features = np.full((3, 1), 100, np.int64)

    def attend(kind: Literal["row", "global"]) -> tuple[int, list[int]]:
        weights = attention_weights(graph[0], logits, gat_bounds(*graph, s, t, kind), table)
        result = attention_unit(
            *graph, weights.codes, features,
            att_bits=8, magnitude=100, bias=np.array([5 << 15]), bias_bits=19, shift=15, bits=8,
            signed=True,
        )  # fmt: skip
        return weights.zeroed, result[:, 0].tolist()

    assert attend("row") == (0, [105, 105, 5])
    assert attend("global") == (2, [5, 5, 5])


# ---- reciprocal and mean ------------------------------------------------------------------------


def test_reciprocal_of_every_small_denominator() -> None:
    denominators = np.arange(1, 1 << 17, dtype=np.int64)
    exponents, factors = reciprocals(denominators)
    assert exponents.tolist() == [d.bit_length() for d in range(1, 1 << 17)]
    assert factors.min() == 1 << 15
    assert factors.max() == (1 << 16) - 1
    whole = np.int64(1) << (exponents + 15)
    # The largest R with den * R < 2**(e + 15).
    assert (denominators * factors < whole).all()
    assert (denominators * (factors + 1) >= whole).all()
    assert (denominators * factors > whole - (np.int64(1) << exponents)).all()


@given(st.integers(1, 2**46 - 1))
def test_reciprocal_of_any_denominator(denominator: int) -> None:
    exponents, factors = reciprocals(np.array([denominator]))
    e = denominator.bit_length()
    assert (exponents[0], factors[0]) == (e, (2 ** (e + 15) - 1) // denominator)


def test_reciprocal_of_zero() -> None:
    assert [array.tolist() for array in reciprocals(np.array([0]))] == [[0], [0]]


@pytest.mark.parametrize("degree", [1, 2, 7, 168, 3000])
@pytest.mark.parametrize("bits", [2, 8, 12])
def test_normalised_weights_sum_to_one(degree: int, bits: int) -> None:
    """Proved for every row, hubs included: the sum lies in (1 - 2**-15, 1)."""
    rng = np.random.default_rng(degree)
    weights = rng.integers(1, 1 << bits, (500, degree))
    exponents, factors = reciprocals(weights.sum(axis=1))
    total = weights.sum(axis=1) * factors * 2.0 ** -(exponents + 15)
    assert (total > 1 - 2.0**-15).all()
    assert (total < 1).all()
    # So the mean of equal codes is that code, up to 14 bits.
    graph = csr([list(range(degree))])
    for code in (-(1 << 13), -1, 0, 1, 8191):
        features = np.full((degree, 1), code, np.int64)
        result = attention_unit(
            *graph, weights[:1].T, features,
            att_bits=bits, magnitude=1 << 13, bias=np.zeros(1, np.int64), bias_bits=0, shift=15,
            bits=14, signed=True,
        )  # fmt: skip
        assert result.tolist() == [[code]]


def test_row_without_neighbours_is_the_rounded_bias() -> None:
    graph = csr([[], [], [1]])
    features = np.array([[1, 1], [1, 1], [1, 1]], np.int64)
    bias = np.array([(3 << 15) + (1 << 14), -(1 << 15) - (1 << 14) - 1], np.int64)

    def attend(signed: bool) -> Any:
        return attention_unit(
            *graph, np.array([[0]], np.int64), features,
            att_bits=4, magnitude=1, bias=bias, bias_bits=18, shift=15, bits=4, signed=signed,
        ).tolist()  # fmt: skip

    assert attend(True) == [[4, -2]] * 3
    assert attend(False) == [[4, 0]] * 3  # ReLU


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 7), st.integers(2, 8)), min_size=1, max_size=4),
    st.booleans(),
    st.integers(0, 2**32 - 1),
)
def test_windows_are_those_of_each_rows_bucket(
    pairs: list[tuple[int, int]], signed: bool, seed: int
) -> None:
    """Every row is what a unit without windows gives with that bucket's shift and width."""
    rng = np.random.default_rng(seed)
    graph = random_csr(rng, 20, 19)
    weights = rng.integers(0, 16, (len(graph[1]), 2))
    features = rng.integers(-128, 128, (20, 4))
    buckets = rng.integers(0, len(pairs), 20)
    fixed: dict[str, Any] = {
        "att_bits": 4, "magnitude": 128, "bias": rng.integers(-(2**18), 2**18, 4), "bias_bits": 19,
        "signed": signed,
    }  # fmt: skip
    windows = [Window(exponent=exponent, bits=bits) for exponent, bits in pairs]
    found = attention_unit(
        *graph, weights, features, shift=12, bits=15, windows=windows, buckets=buckets, **fixed
    )
    for bucket, (exponent, bits) in enumerate(pairs):
        plain = attention_unit(*graph, weights, features, shift=12 + exponent, bits=bits, **fixed)
        rows = buckets == bucket
        assert np.array_equal(found[rows], plain[rows] << exponent)


def test_windows_count_in_the_width_of_a_mean() -> None:
    """Without its exponent the rounding constant would fit."""
    graph = csr([[0]])
    one = np.ones((1, 1), np.int64)
    arguments: dict[str, Any] = {
        "att_bits": 1, "magnitude": 1, "bias": np.array([0]), "bias_bits": 0, "shift": 55,
        "bits": 16, "signed": False, "buckets": np.array([0]),
    }  # fmt: skip
    attention_unit(*graph, one, one, windows=[Window(exponent=0, bits=1)], **arguments)
    with pytest.raises(BoundError, match="num \\* R"):
        attention_unit(*graph, one, one, windows=[Window(exponent=8, bits=1)], **arguments)


def error_bound(step: float, bits: int, degree: IntArray, mass: npt.NDArray[np.float64]) -> Any:
    """Proved bound of the L1 distance of normalised weights from the softmax of the same logits.

    Weights before rounding are off by factors within exp(-step / 2) and exp(step / 2), which moves
    normalised weights by at most 2 tanh(step / 4). Rounding each by half an LSB adds degree over
    their sum in LSBs, which is at least the largest weight (the row's maximum has d = 0) and at
    least `mass`, the row's sum of exp(-d), times the least factor.
    """
    total = (2**bits - 1) * np.maximum(1, mass * math.exp(-step / 2))
    return 2 * math.tanh(step / 4) + degree / total


@pytest.mark.parametrize("att_bits", [2, 4, 8, 12, 16])
@pytest.mark.parametrize("length", [64, 256, 1024])
def test_error_against_float_softmax_keeps_the_proved_bound(att_bits: int, length: int) -> None:
    rng = np.random.default_rng(att_bits)
    nodes, scale, shift = 900, 2.0**-8, 8
    graph = random_csr(rng, nodes, 800)
    s, t = (np.rint(rng.normal(0, 1.2 / scale, (nodes, 2))).astype(np.int64) for _ in range(2))
    features = in_range(rng, 8, True, (nodes, 2), False)
    table = attention_table(att_bits, scale / 64, length)
    logits = gat_logits(*graph, s, t)
    bounds = gat_bounds(*graph, s, t)
    weights = attention_weights(graph[0], logits, bounds, table)
    result = attention_unit(
        *graph, weights.codes, features,
        att_bits=att_bits, magnitude=128, bias=np.zeros(2, np.int64), bias_bits=0, shift=shift,
        bits=16, signed=True,
    )  # fmt: skip
    rows = np.repeat(np.arange(nodes), np.diff(graph[0]))
    exponentials = np.exp((logits - bounds[rows]) * scale / 64)
    mass = np.zeros((nodes, 2))
    np.add.at(mass, rows, exponentials)
    exact = np.zeros((nodes, 2))
    np.add.at(exact, rows, exponentials / mass[rows] * features[graph[1]])
    step = scale / 64 * 2**table.index_shift
    degree = np.diff(graph[0])[:, np.newaxis]
    # Weights of both sides sum to 1, so an error moves codes across at most the range of 255.
    distance = error_bound(step, att_bits, degree, mass)
    allowed = distance * 127.5 + 128 * 2.0**-15 + 2.0 ** (shift - 16)
    assert (np.abs(result * 2.0 ** (shift - 15) - exact) <= allowed).all()


# ---- bounds -------------------------------------------------------------------------------------


def test_bounds_are_tight_for_extreme_operands() -> None:
    bound = attention_bound(3000, 12, 128, 24, 15)
    assert bound.denominator_bits == (3000 * 4095).bit_length()
    assert bound.numerator_bits == (3000 * 4095 * 128).bit_length() + 1
    e = bound.denominator_bits
    total = (128 << (e + 15)) + (1 << (23 + e)) + (1 << (14 + e))
    assert bound.total_bits == total.bit_length() + 1
    assert bound.total_bits <= 62


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        ((1 << 31, 16, 1, 0, 0), "dividend"),
        ((1 << 20, 16, 1 << 30, 0, 0), "numerator"),
        ((1 << 20, 16, 1 << 12, 0, 0), "num \\* R"),
        ((1 << 12, 8, 128, 45, 0), "num \\* R"),
        ((1 << 12, 8, 128, 0, 44), "num \\* R"),
    ],
)
def test_wide_means_are_refused(arguments: tuple[int, int, int, int, int], what: str) -> None:
    with pytest.raises(BoundError, match=what):
        attention_bound(*arguments)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_shifting_before_the_bias_is_exact(data: st.DataObject) -> None:
    """What the `attention_epilogue` unit does, with the widths that it is built for."""
    magnitude, den = data.draw(st.integers(1, 300)), data.draw(st.integers(0, 1 << 20))
    num = data.draw(st.integers(-magnitude * den, magnitude * den))
    bias_bits, shift = data.draw(st.integers(0, 26)), data.draw(st.integers(0, 20))
    limit = 1 << bias_bits >> 1
    bias = data.draw(st.integers(-limit, max(limit - 1, 0)))
    (e,), (factor,) = (part.tolist() for part in reciprocals(np.array([den])))
    aligned = 2 * num * factor >> e
    total = aligned + 2 * bias + (1 << shift)
    assert total >> (shift + 1) == (num * factor + (bias << e) + (1 << (shift + e) >> 1)) >> (
        shift + e
    )
    aligned_bits, total_bits = epilogue_bits(magnitude, bias_bits, shift)
    assert aligned.bit_length() < aligned_bits
    assert total.bit_length() < total_bits
    assert aligned_bits <= magnitude.bit_length() + 17


def test_wide_reciprocals_are_refused() -> None:
    with pytest.raises(BoundError, match="dividend"):
        reciprocals(np.array([1 << 46]))


def test_operands_outside_their_formats_are_refused() -> None:
    graph = csr([[0]])
    one = np.ones((1, 1), np.int64)
    arguments: dict[str, Any] = {
        "att_bits": 2, "magnitude": 4, "bias": np.array([0]), "bias_bits": 3, "shift": 15,
        "bits": 4, "signed": True,
    }  # fmt: skip
    assert attention_unit(*graph, one, one, **arguments).tolist() == [[1]]
    for name, values in (
        ("weight", {"weights": 4 * one, "features": one}),
        ("weight", {"weights": -one, "features": one}),
        ("feature", {"weights": one, "features": 5 * one}),
        ("bias", {"weights": one, "features": one, "bias": np.array([4])}),
        ("bias", {"weights": one, "features": one, "bias": np.array([1]), "bias_bits": 0}),
    ):
        with pytest.raises(BoundError, match=name):
            attention_unit(*graph, **(arguments | values))


def test_logits_outside_their_formats_are_refused() -> None:
    graph = csr([[0]])
    one = np.ones((1, 1), np.int64)
    for function in (gat_logits, gat_bounds):
        with pytest.raises(BoundError, match="target score"):
            function(*graph, 2048 * one, one)
        with pytest.raises(BoundError, match="source score"):
            function(*graph, one, -2049 * one)
        with pytest.raises(BoundError, match="logit"):
            function(*graph, one, one, score_bits=16, slope_shift=46)
    for slope in (-1, 65):
        with pytest.raises(BoundError, match="slope"):
            leaky(one, slope, 6)
    for beta in (-2048, 2048):
        with pytest.raises(BoundError, match="beta"):
            agnn_logits(*graph, one, 127, beta)
    with pytest.raises(BoundError, match="feature"):
        agnn_logits(*graph, 128 * one, 127, 1)
    with pytest.raises(BoundError, match="dot"):
        agnn_logits(*graph, one, 1 << 15, 1, score_bits=12, norm_bits=14)
    with pytest.raises(BoundError, match="inverse norm"):
        inverse_norms(one, 1 << 20, 12)


# ---- ELU ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", [2, 8, 12])
@pytest.mark.parametrize("scale", [0.5, 2.0**-4, 2.0**-9])
def test_elu_of_every_code(bits: int, scale: float) -> None:
    low, high = code_range(bits, signed=True)
    codes = np.arange(low, high + 1, dtype=np.int64)
    table = elu_table(bits, scale)
    assert len(table) == 1 << (bits - 1)
    result = elu(codes, table)
    assert (np.diff(result) >= 0).all()
    real = np.where(codes < 0, np.expm1(np.minimum(codes, 0) * scale), codes * scale)
    assert np.abs(result * scale - real).max() <= scale / 2
    assert np.array_equal(result[codes >= 0], codes[codes >= 0])
    assert [elu(np.array([[c]]), table)[0, 0] for c in codes] == result.tolist()
    with pytest.raises(BoundError, match="elu"):
        elu(np.array([high + 1]), table)


@pytest.mark.parametrize("score_bits", [2, 8, 12, 16])
@pytest.mark.parametrize("bits", [1, 4, 8, 12, 16])
@pytest.mark.parametrize("channels", [1, 7, 64, 500])
def test_norms_are_as_wide_as_there_is_room(channels: int, bits: int, score_bits: int) -> None:
    """One bit more would be refused; features at their limit, and the largest factor."""
    magnitude, beta = 2**bits - 1, 2 ** (score_bits - 1) - 1
    features = np.full((2, channels), magnitude)
    graph = csr([[0, 1], [0]])
    chosen = fitting_norm_bits(channels, magnitude, score_bits)
    assert 2 <= chosen <= 12
    logits = agnn_logits(*graph, features, magnitude, beta, score_bits, chosen)
    assert logits.ravel().tolist() == scalar_agnn(graph, features, beta, chosen)
    if chosen < 12:
        with pytest.raises(BoundError, match="62 supported"):
            agnn_logits(*graph, features, magnitude, beta, score_bits, chosen + 1)
