"""Golden functions of the `attention_unit`: softmax attention over CSR rows, in integers.

Edge scores become logits (`gat_logits`, `agnn_logits`), logits become unsigned weights through a
stored table of exponentials (`attention_weights`), and `attention_unit` forms each row's weighted
mean with one reciprocal a row and head and one rounding. docs/arithmetic.md derives the formulas.

Row i of the graph is target node i, its columns are the neighbours j; a self loop is an ordinary
entry. Every sum is exact, so the order of the entries within a row changes nothing. Only the
functions named `*_table` take real numbers: their results are data that a bundle stores.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from sgq_hw.formats import Window
from sgq_hw.golden.aggregation_unit import aggregation_unit
from sgq_hw.golden.fixed_point import (
    MAX_BITS,
    BoundError,
    IntArray,
    check_bound,
    check_range,
    code_range,
    round_shift,
    round_shift_by,
    saturate,
    signed_bits,
)
from sgq_hw.golden.requantize import requantize_windows
from sgq_hw.golden.rows import reduce_rows
from sgq_hw.layers import AgnnAttention, GatAttention

SCORE_BITS = 12
MAX_SCORE_BITS = 16
NORM_BITS = 12
SLOPE_CODE, SLOPE_SHIFT = 13, 6  # 13 / 64 = 0.203 stands for GAT's 0.2
TABLE_LENGTH = 256
RECIPROCAL_SHIFT = 15
"""A reciprocal has 16 bits, its top bit set: relative error below 2**-15."""


@dataclass(frozen=True, slots=True, eq=False)
class AttentionTable:
    """Exponentials as stored data: difference d from the row's bound to an unsigned weight.

    Attributes:
        codes: int64 [length], the weights of index 0, 1, ...; every later index has weight 0.
        index_shift: `index = round_shift(d, index_shift)`.
        bits: Width of a weight.
    """

    codes: IntArray
    index_shift: int
    bits: int


@dataclass(frozen=True, slots=True, eq=False)
class AttentionWeights:
    """Unnormalised attention of every edge.

    Attributes:
        codes: Unsigned weights, int64 [edges, heads].
        zeroed: How many pairs of row and head have neighbours but only weights of zero.
    """

    codes: IntArray
    zeroed: int


@dataclass(frozen=True, slots=True, eq=False)
class InverseNorms:
    """Reciprocal Euclidean norms: `1 / |h_i| ~ mantissa * 2**-(bits - 1 + exponent)`.

    Attributes:
        mantissa: int64 [nodes], `bits` bits with the top one set; 0 for a row of zeros.
        exponent: int64 [nodes], `2**(exponent - 1) <= |h_i| < 2**exponent`; 0 for a row of zeros.
        bits: Width of a mantissa.
    """

    mantissa: IntArray
    exponent: IntArray
    bits: int


@dataclass(frozen=True, slots=True)
class AgnnBound:
    """Widths in AGNN's logits.

    Attributes:
        square_bits: Sum of squares, unsigned, 3 at least; a dot product has one bit more, its sign.
        norm_exponent_bits: Exponent of a reciprocal norm, unsigned.
        product_bits: Two's complement `dot * r_i * r_j * beta` with its rounding constant.
    """

    square_bits: int
    norm_exponent_bits: int
    product_bits: int


@dataclass(frozen=True, slots=True)
class AttentionBound:
    """Two's complement widths in the weighted mean (the denominator is unsigned).

    Attributes:
        denominator_bits: Sum of a row's weights; also the largest exponent of a reciprocal.
        numerator_bits: Weighted sum of feature codes.
        total_bits: `num * R + (bias << e)` with its rounding constant.
    """

    denominator_bits: int
    numerator_bits: int
    total_bits: int


def _row_of(indptr: IntArray) -> IntArray:
    """Return the row of each edge, int64 [edges]."""
    return np.repeat(np.arange(len(indptr) - 1, dtype=np.int64), np.diff(indptr))


def _bit_length(values: IntArray) -> IntArray:
    """Return the bit length of non-negative integers of at most `MAX_BITS` bits; 0 for 0."""
    length = np.asarray(np.frexp(values.astype(np.float64))[1], np.int64)
    # Above 53 bits the conversion may have rounded up to the next power of two.
    rounded_up = (values > 0) & ((values >> np.maximum(length - 1, 0)) == 0)
    return np.where(rounded_up, length - 1, length)


def _square_root(values: IntArray) -> IntArray:
    """Return `floor(sqrt(v))` of non-negative integers of at most `MAX_BITS` bits, exactly."""
    root = np.floor(np.sqrt(values.astype(np.float64))).astype(np.int64)
    root -= root * root > values  # the floats are off by less than one in each direction
    return root + ((root + 1) * (root + 1) <= values)


# ---- logits -----------------------------------------------------------------------------------


def leaky(
    values: IntArray, slope_code: int = SLOPE_CODE, slope_shift: int = SLOPE_SHIFT
) -> IntArray:
    """Leaky ReLU without rounding: the result lies on a grid finer by `2**-slope_shift`.

    `e << slope_shift` for e >= 0, else `e * slope_code`: the slope is
    `slope_code / 2**slope_shift`, from 0 to 1, so the function never decreases.
    """
    if not 0 <= slope_code <= 1 << slope_shift:
        raise BoundError(f"leaky slope {slope_code} / 2**{slope_shift} is outside [0, 1]")
    return np.where(values >= 0, values << np.int64(slope_shift), values * np.int64(slope_code))


def _check_scores(target: IntArray, source: IntArray, score_bits: int, slope_shift: int) -> None:
    """Refuse scores outside their format and logits that would need too many bits."""
    check_bound(score_bits + 1 + slope_shift, "attention: logit")
    for scores, name in ((target, "target"), (source, "source")):
        check_range(scores, *code_range(score_bits, True), f"attention: {name} score")


def gat_logits(
    indptr: IntArray,
    indices: IntArray,
    target: IntArray,
    source: IntArray,
    score_bits: int = SCORE_BITS,
    slope_code: int = SLOPE_CODE,
    slope_shift: int = SLOPE_SHIFT,
) -> IntArray:
    """Compute GAT's logits `leaky(s_i + t_j)`, exact, on a grid `2**slope_shift` finer.

    Args:
        indptr: int64 [rows + 1].
        indices: int64 [edges].
        target: Signed score codes s, int64 [rows, heads], of the same scale as `source`.
        source: Signed score codes t, int64 [nodes, heads].
        score_bits: Width of both.
        slope_code: Leaky slope times `2**slope_shift`.
        slope_shift: Fraction bits of the slope.

    Returns:
        int64 [edges, heads].

    Raises:
        BoundError: a score outside its format, or logits above 62 bits.
    """
    _check_scores(target, source, score_bits, slope_shift)
    return leaky(target[_row_of(indptr)] + source[indices], slope_code, slope_shift)


def row_maxima(indptr: IntArray, indices: IntArray, source: IntArray) -> IntArray:
    """Return the largest source score of every row's neighbours, 0 without any.

    Args:
        indptr: int64 [rows + 1].
        indices: int64 [edges].
        source: Score codes, int64 [nodes, heads].

    Returns:
        int64 [rows, heads].
    """
    largest: IntArray = reduce_rows(indptr, source[indices], np.maximum)
    return largest


def gat_bounds(
    indptr: IntArray,
    indices: IntArray,
    target: IntArray,
    source: IntArray,
    kind: Literal["row", "global"] = "row",
    score_bits: int = SCORE_BITS,
    slope_code: int = SLOPE_CODE,
    slope_shift: int = SLOPE_SHIFT,
) -> IntArray:
    """Return an upper bound of the logits of every row.

    As `leaky` never decreases, it is `leaky(s_i + m)` where m is the largest source score: among
    the row's neighbours for `row` (the exact maximum: a maximum pass over the score columns), or
    among all nodes for `global` (no extra pass, but rows far below it may lose every weight).

    Args:
        indptr: int64 [rows + 1].
        indices: int64 [edges].
        target: Signed score codes, int64 [rows, heads].
        source: Signed score codes, int64 [nodes, heads].
        kind: Which maximum.
        score_bits: Width of the scores.
        slope_code: As in `gat_logits`.
        slope_shift: As in `gat_logits`.

    Returns:
        int64 [rows, heads], on the grid of `gat_logits`; without meaning for rows without edges.

    Raises:
        BoundError: as `gat_logits`.
    """
    _check_scores(target, source, score_bits, slope_shift)
    if kind == "row":
        largest = row_maxima(indptr, indices, source)
    else:
        largest = source.max(axis=0, initial=code_range(score_bits, True)[0])
    return leaky(target + largest, slope_code, slope_shift)


def inverse_norms(features: IntArray, magnitude: int, bits: int = NORM_BITS) -> InverseNorms:
    """Compute reciprocal norms of feature rows as mantissa and exponent.

    With n the exact sum of squares, the mantissa is the largest r of `bits` bits such that
    `r * r * n <= 2**(2 * (bits - 1 + exponent))`, which is
    `isqrt(floor(2**(2 * (bits - 1 + exponent)) / n))`, saturated. Being rounded down, no product
    `r_i * r_j * dot_ij` can exceed the cosine 1. The exponent keeps the relative error below
    `2**-(bits - 1)` for short and long rows alike.

    Args:
        features: Codes, int64 [nodes, channels].
        magnitude: Declared largest absolute code.
        bits: Width of a mantissa, at least 2.

    Raises:
        BoundError: a code above `magnitude`, or an intermediate above 62 bits.
    """
    check_range(features, -magnitude, magnitude, "attention: feature code")
    largest_exponent = _norm_exponent_bound(features.shape[1], magnitude)
    check_bound(2 * (bits - 1 + largest_exponent) + 2, "attention: dividend of the inverse norm")
    return inverse_norm(np.einsum("nc,nc->n", features, features), bits)


def inverse_norm(squares: IntArray, bits: int = NORM_BITS) -> InverseNorms:
    """Compute reciprocal norms from sums of squares, as `inverse_norms` says.

    Args:
        squares: Non-negative sums n, int64 [nodes].
        bits: Width of a mantissa, at least 2.

    Raises:
        BoundError: an intermediate above 62 bits.
    """
    exponent = (_bit_length(squares) + 1) >> 1
    largest_exponent = int(exponent.max(initial=0))
    check_bound(2 * (bits - 1 + largest_exponent) + 2, "attention: dividend of the inverse norm")
    dividend = np.int64(1) << (2 * (bits - 1 + exponent))
    root = _square_root(dividend // np.maximum(squares, 1))
    mantissa = np.where(squares > 0, saturate(root, bits, signed=False), 0)
    return InverseNorms(mantissa, exponent, bits)


def _norm_exponent_bound(channels: int, magnitude: int) -> int:
    return ((channels * magnitude * magnitude).bit_length() + 1) // 2


def fitting_norm_bits(channels: int, magnitude: int, score_bits: int) -> int:
    """Return the widest reciprocal norms, at most `NORM_BITS`, that `agnn_logits` has room for.

    Wide features leave less room below `MAX_BITS`. A result below 2 means that nothing fits.

    Args:
        channels: Of the features.
        magnitude: Declared largest absolute feature code.
        score_bits: Width of a logit.
    """
    room = MAX_BITS - score_bits - 2 * _norm_exponent_bound(channels, magnitude)
    return min(NORM_BITS, room // 2 + 1)


def agnn_bound(channels: int, magnitude: int, score_bits: int, norm_bits: int) -> AgnnBound:
    """Bound AGNN's logits from formats alone.

    By Cauchy and Schwarz `|dot_ij * r_i * r_j| <= 2**(2 * (norm_bits - 1) + f_i + f_j)`, and
    `2**(f - 1) <= |h|` bounds the exponents.

    Args:
        channels: Of the features.
        magnitude: Declared largest absolute feature code.
        score_bits: Width of `beta` and of a logit; the most negative code is not allowed.
        norm_bits: Width of the reciprocal norms.

    Raises:
        BoundError: an intermediate above 62 bits.
    """
    limit = code_range(score_bits, True)[1]
    widest = 2 * (norm_bits - 1) + 2 * _norm_exponent_bound(channels, magnitude)
    product = (limit << widest) + ((1 << widest) >> 1)
    product_bits = signed_bits(-product, product)
    check_bound(product_bits, "attention: dot * r_i * r_j * beta")
    square_bits = max((channels * magnitude * magnitude).bit_length(), 3)
    return AgnnBound(square_bits, ((square_bits + 1) // 2).bit_length(), product_bits)


def agnn_logits(
    indptr: IntArray,
    indices: IntArray,
    features: IntArray,
    magnitude: int,
    beta: int,
    score_bits: int = SCORE_BITS,
    norm_bits: int = NORM_BITS,
) -> IntArray:
    """Compute AGNN's logits `beta * cos(h_i, h_j)` on the grid of `beta`, rounded once.

    `round_shift(dot_ij * r_i * r_j * beta, 2 * (norm_bits - 1) + f_i + f_j)` with the mantissas r
    and exponents f of `inverse_norms`. By Cauchy and Schwarz, and because r is rounded down,
    `|logit| <= |beta|`: the format of `beta` holds every logit without saturation, and `|beta|` is
    an upper bound of every row. A row of zeros has logits 0.

    Args:
        indptr: int64 [nodes + 1].
        indices: int64 [edges].
        features: Codes, int64 [nodes, channels].
        magnitude: Declared largest absolute feature code.
        beta: Signed code of the layer's factor; its scale is the scale of the logits.
        score_bits: Width of `beta` and of the logits; the most negative code is not allowed.
        norm_bits: Width of the reciprocal norms.

    Returns:
        int64 [edges, 1].

    Raises:
        BoundError: a code outside its format, or an intermediate above 62 bits.
    """
    limit = code_range(score_bits, True)[1]
    if abs(beta) > limit:
        raise BoundError(f"attention: beta {beta} is outside [{-limit}, {limit}]")
    agnn_bound(features.shape[1], magnitude, score_bits, norm_bits)
    fraction = 2 * (norm_bits - 1)
    norms = inverse_norms(features, magnitude, norm_bits)
    rows = _row_of(indptr)
    dot = np.zeros(len(indices), np.int64)
    for column in np.ascontiguousarray(features.T):  # by channel: no [edges, channels] array
        dot += column[rows] * column[indices]
    scaled = norms.mantissa * np.int64(beta)
    shifts = fraction + norms.exponent[rows] + norms.exponent[indices]
    logits = round_shift_by(dot * scaled[rows] * norms.mantissa[indices], shifts)
    check_range(logits, -abs(beta), abs(beta), "attention: logit")
    return logits[:, np.newaxis]


def agnn_bounds(rows: int, beta: int) -> IntArray:
    """Return the bound `|beta|` of every row of `agnn_logits`, int64 [rows, 1]."""
    return np.full((rows, 1), abs(beta), np.int64)


# ---- weights ----------------------------------------------------------------------------------


def attention_table(
    bits: int,
    logit_scale: float,
    length: int = TABLE_LENGTH,
    largest_difference: int | None = None,
) -> AttentionTable:
    """Build the table of exponentials: `T[k] = floor((2**bits - 1) * exp(-k * step) + 0.5)`.

    `step = logit_scale << index_shift` with the smallest shift such that no index beyond the table
    can occur, or that the exponential beyond it rounds to 0 anyway: `length * step` covers
    `ln(2 * (2**bits - 1))`. The step limits what more `bits` are worth: 256 entries suit weights
    of up to 8 bits, 1024 wider ones (docs/results/attention.md).

    Args:
        bits: Width of a weight, 1 to 16.
        logit_scale: Real value of one LSB of the logits.
        length: Entries, a power of two.
        largest_difference: Largest possible d (AGNN: `2 * |beta|`); None where only the
            exponential limits it.
    """
    largest = (1 << bits) - 1
    shift = 0
    while (length << shift) * logit_scale < math.log(2 * largest):
        half = (1 << shift) >> 1
        if largest_difference is not None and largest_difference + half < length << shift:
            break
        shift += 1
    step = logit_scale * (1 << shift)
    codes = [math.floor(largest * math.exp(-k * step) + 0.5) for k in range(length)]
    return AttentionTable(np.array(codes, np.int64), shift, bits)


def exponential(differences: IntArray, table: AttentionTable) -> IntArray:
    """Return `T[round_shift(max(d, 0), index_shift)]`, 0 beyond the table.

    Args:
        differences: d, a row's bound less a logit, int64, any shape.
        table: Exponentials.
    """
    index = round_shift(np.maximum(differences, 0), table.index_shift)
    codes: IntArray = np.append(table.codes, 0)[np.minimum(index, len(table.codes))]
    return codes


def attention_weights(
    indptr: IntArray, logits: IntArray, bounds: IntArray, table: AttentionTable
) -> AttentionWeights:
    """Look up every edge's weight: `T[round_shift(max(bound_i - logit, 0), index_shift)]`.

    The index is rounded, not cut: cutting would favour all entries but the row's largest, whose
    difference of 0 no cut makes smaller. Hardware adds the half to the bound, once a row.

    Args:
        indptr: int64 [rows + 1].
        logits: int64 [edges, heads].
        bounds: Upper bounds of each row's logits, on their grid, int64 [rows, heads].
        table: Exponentials; an index beyond them has weight 0.
    """
    codes = exponential(bounds[_row_of(indptr)] - logits, table)
    lost = reduce_rows(indptr, codes, np.maximum)[np.diff(indptr) > 0] == 0
    return AttentionWeights(codes, int(np.count_nonzero(lost)))


# ---- weighted mean ----------------------------------------------------------------------------


def edge_weights(
    indptr: IntArray,
    indices: IntArray,
    attention: GatAttention | AgnnAttention,
    table: AttentionTable,
    features: IntArray,
    magnitude: int,
    scores: IntArray | None,
) -> AttentionWeights:
    """Compute the unnormalised weight of every edge as a layer's record says.

    Args:
        indptr: int64 [rows + 1].
        indices: int64 [edges].
        attention: The layer's record.
        table: Exponentials.
        features: Codes, int64 [nodes, heads * channels].
        magnitude: Declared largest absolute feature code.
        scores: GAT: codes as targets, then as sources, int64 [nodes, 2 * heads].
    """
    if isinstance(attention, AgnnAttention):
        logits = agnn_logits(
            indptr, indices, features, magnitude, attention.beta, attention.score_bits,
            attention.norm_bits,
        )  # fmt: skip
        bounds = agnn_bounds(len(indptr) - 1, attention.beta)
        return attention_weights(indptr, logits, bounds, table)
    assert scores is not None
    target, source = scores[:, : attention.heads], scores[:, attention.heads :]
    slope = {"slope_code": attention.slope_code, "slope_shift": attention.slope_shift}
    logits = gat_logits(indptr, indices, target, source, MAX_SCORE_BITS, **slope)
    bounds = gat_bounds(
        indptr, indices, target, source, attention.bound, MAX_SCORE_BITS, **slope
    )
    return attention_weights(indptr, logits, bounds, table)


def reciprocals(denominators: IntArray) -> tuple[IntArray, IntArray]:
    """Return exponents e and reciprocals R with `R / 2**(e + 15) ~ 1 / den`, rounded down.

    `e = bit_length(den)`, `R = (2**(e + 15) - 1) // den`: 2**15 <= R < 2**16, and
    `1 - 2**-15 < den * R / 2**(e + 15) < 1`. A denominator of 0 has e = 0 and R = 0.

    Args:
        denominators: Non-negative integers below 2**46, any shape.

    Raises:
        BoundError: the dividend could exceed 62 bits.
    """
    exponents = _bit_length(denominators)
    check_bound(int(exponents.max(initial=0)) + RECIPROCAL_SHIFT + 1, "attention: dividend")
    dividend = (np.int64(1) << (exponents + RECIPROCAL_SHIFT)) - 1
    quotient = dividend // np.maximum(denominators, 1)
    return exponents, np.where(denominators > 0, quotient, 0)


def attention_bound(
    max_row_edges: int, att_bits: int, magnitude: int, bias_bits: int, shift: int
) -> AttentionBound:
    """Bound the weighted mean from formats and capacities alone.

    `|num| <= magnitude * den` and `den * R < 2**(e + 15)`, so that
    `|num * R| < magnitude << (e + 15)`: dividing first gains nothing, the widths are the same.

    Args:
        max_row_edges: Capacity: most entries in one row.
        att_bits: Width of a weight.
        magnitude: Declared largest absolute feature code.
        bias_bits: Two's complement width of the bias; 0 without one.
        shift: S of the epilogue.

    Raises:
        BoundError: a width above 62 bits, naming the intermediate.
    """
    denominator = max_row_edges * ((1 << att_bits) - 1)
    exponent = denominator.bit_length()
    check_bound(exponent + RECIPROCAL_SHIFT + 1, "attention: dividend")
    numerator_bits = signed_bits(-denominator * magnitude, denominator * magnitude)
    check_bound(numerator_bits, "attention: numerator")
    total = magnitude << (exponent + RECIPROCAL_SHIFT)
    total += (1 << (bias_bits - 1) if bias_bits else 0) << exponent
    total += (1 << (shift + exponent)) >> 1
    total_bits = signed_bits(-total, total)
    check_bound(total_bits, "attention: num * R + bias")
    return AttentionBound(exponent, numerator_bits, total_bits)


def epilogue_bits(magnitude: int, bias_bits: int, shift: int) -> tuple[int, int]:
    """Bound what the `attention_epilogue` unit rounds: it shifts by e before it adds the bias.

    `sat((num * R + (bias << e) + half) >> (S + e))` is exactly
    `sat((((2 * num * R) >> e) + 2 * bias + (1 << S)) >> (S + 1))`: all summands but the first are
    whole, so that the fraction that is cut from it cannot carry.

    Args:
        magnitude: Declared largest absolute feature code.
        bias_bits: Two's complement width of the bias; 0 without one.
        shift: Largest S, with the exponent of a window.

    Returns:
        Two's complement widths of `(2 * num * R) >> e` and of the sum that is rounded.

    Raises:
        BoundError: a width above 62 bits.
    """
    aligned = magnitude << (RECIPROCAL_SHIFT + 1)
    total = aligned + ((1 << bias_bits) if bias_bits else 0) + (1 << shift)
    total_bits = signed_bits(-total, total)
    check_bound(total_bits, "attention: aligned mean")
    return signed_bits(-aligned, aligned), total_bits


def attention_sums(
    indptr: IntArray, indices: IntArray, weights: IntArray, features: IntArray
) -> tuple[IntArray, IntArray, IntArray]:
    """Return numerators, reciprocals R and their exponents e, each int64 [rows, heads * channels].

    Args:
        indptr: int64 [rows + 1].
        indices: int64 [edges].
        weights: Unsigned weights, int64 [edges, heads].
        features: Codes of one grid, int64 [nodes, heads * channels], head by head.
    """
    heads = weights.shape[1]
    channels = features.shape[1] // heads
    numerator = np.concatenate(
        [
            aggregation_unit(
                indptr,
                indices,
                weights[:, head],
                features[:, head * channels : (head + 1) * channels],
            )
            for head in range(heads)
        ],
        axis=1,
    )
    exponents, factors = reciprocals(reduce_rows(indptr, weights, np.add))
    exponents, factors = (np.repeat(table, channels, axis=1) for table in (exponents, factors))
    return numerator, factors, exponents


def round_means(
    totals: IntArray,
    exponents: IntArray,
    shift: int,
    *,
    bits: int,
    signed: bool,
    windows: Sequence[Window] = (),
    buckets: IntArray | None = None,
) -> IntArray:
    """Round weighted means once: `sat(round_shift(total, S + e))`, the epilogue of an attention.

    Args:
        totals: `num * R + (bias << e)`, int64 [rows, channels].
        exponents: e of the reciprocals, int64 [rows, channels].
        shift: S >= 0.
        bits: Width of the result, with windows of its word.
        signed: Whether the result is two's complement.
        windows: One for each degree bucket, where rows keep only those bits of the word.
        buckets: Bucket of each row, int64 [rows]; with windows only.

    Returns:
        Codes, or with windows words as the consumer sees them, int64 [rows, channels].
    """
    if not windows:
        return saturate(round_shift_by(totals, shift + exponents), bits, signed)
    assert buckets is not None
    one, no_bias = np.ones((), np.int64), np.zeros((), np.int64)
    return requantize_windows(totals, one, no_bias, shift + exponents, windows, signed, buckets)


def attention_unit(
    indptr: IntArray,
    indices: IntArray,
    weights: IntArray,
    features: IntArray,
    *,
    att_bits: int,
    magnitude: int,
    bias: IntArray,
    bias_bits: int,
    shift: int,
    bits: int,
    signed: bool,
    windows: Sequence[Window] = (),
    buckets: IntArray | None = None,
) -> IntArray:
    """Compute each row's weighted mean of neighbour features, per head, rounded once.

    `out = sat(round_shift(num * R + (bias << e), S + e))` with the exact sums
    `num = sum_j p_ij * h_jc` and `den = sum_j p_ij`, and `e, R` from `reciprocals`. On the grid of
    the features the mean is `num * R / 2**(e + 15)`; so `bias` lies on a grid finer than theirs by
    2**15, and `S = 15 + log2(output scale / feature scale)`. Where den is 0 (no neighbours, or
    all weights 0) num and e are 0 and the result is the bias alone. ReLU is saturation to an
    unsigned format.

    Args:
        indptr: int64 [rows + 1].
        indices: int64 [edges].
        weights: Unsigned weights, int64 [edges, heads].
        features: Codes of one grid, int64 [nodes, heads * channels], head by head.
        att_bits: Width of a weight.
        magnitude: Declared largest absolute feature code.
        bias: int64 [heads * channels] or a scalar.
        bias_bits: Two's complement width of the bias; 0 without one.
        shift: S >= 0.
        bits: As of `round_means`.
        signed: As of `round_means`.
        windows: As of `round_means`.
        buckets: As of `round_means`.

    Returns:
        Codes, or with windows words, int64 [rows, heads * channels].

    Raises:
        BoundError: an operand outside its format, or an intermediate above 62 bits.
    """
    last = shift + max((window.exponent for window in windows), default=0)
    attention_bound(int(np.diff(indptr).max(initial=0)), att_bits, magnitude, bias_bits, last)
    check_range(weights, *code_range(att_bits, False), "attention: weight")
    check_range(features, -magnitude, magnitude, "attention: feature code")
    check_range(bias, *(code_range(bias_bits, True) if bias_bits else (0, 0)), "attention: bias")
    numerator, factors, exponents = attention_sums(indptr, indices, weights, features)
    return round_means(
        numerator * factors + (bias << exponents), exponents, shift,
        bits=bits, signed=signed, windows=windows, buckets=buckets,
    )  # fmt: skip


# ---- activation -------------------------------------------------------------------------------


def elu_table(bits: int, scale: float) -> IntArray:
    """Build the table of ELU for signed codes: `floor(expm1(c * scale) / scale + 0.5)`, c < 0.

    Args:
        bits: Width of the codes, two's complement.
        scale: Real value of one LSB, of input and output alike.

    Returns:
        int64 [2**(bits - 1)]; the entry of code c is at its low `bits - 1` bits.
    """
    low, _ = code_range(bits, signed=True)
    codes = [math.floor(math.expm1(code * scale) / scale + 0.5) for code in range(low, 0)]
    return np.array(codes, np.int64)


def elu(codes: IntArray, table: IntArray) -> IntArray:
    """Apply ELU to signed codes: negative ones are looked up, others stay.

    Args:
        codes: int64, any shape, of the width that `table` was built for.
        table: From `elu_table`.

    Raises:
        BoundError: a code outside that width.
    """
    check_range(codes, -len(table), len(table) - 1, "elu: code")
    return np.where(codes >= 0, codes, table[codes & (len(table) - 1)])
