"""Compiled loops of attention in the quantised network: rounded weights, and the golden integers.

Arrays are as in `sgq_hw.models.kernels`. The integer sums restate `sgq_hw.golden.attention_unit`,
fused so that no value of an edge is ever stored; features and numerators are of any type that
holds these sums exactly.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from sgq_hw.models.kernels import Floats, Indices, compiled

IntArray = npt.NDArray[np.int64]
Codes = npt.NDArray[Any]


@compiled
def rounded_weights(indptr: Indices, weights: Floats, largest_code: int) -> Floats:
    """Return softmax weights as they are after rounding exponentials to codes.

    Args:
        indptr: Row starts.
        weights: Of the edges.
        largest_code: Of the exponential 1, which the largest weight of a row and head has.
    """
    heads = weights.shape[1]
    result = np.empty_like(weights)
    factors, sums = np.empty(heads, weights.dtype), np.empty(heads, weights.dtype)
    for i in range(len(indptr) - 1):
        factors[:] = 0
        sums[:] = 0
        for e in range(indptr[i], indptr[i + 1]):
            for h in range(heads):
                factors[h] = max(factors[h], weights[e, h])
        for h in range(heads):
            factors[h] = largest_code / factors[h]
        for e in range(indptr[i], indptr[i + 1]):
            for h in range(heads):
                code = np.floor(weights[e, h] * factors[h] + 0.5)
                sums[h] += code
                result[e, h] = code
        for h in range(heads):
            factors[h] = 1 / sums[h]
        for e in range(indptr[i], indptr[i + 1]):
            for h in range(heads):
                result[e, h] *= factors[h]
    return result


@compiled
def gat_sums(
    indptr: Indices,
    indices: Indices,
    targets: IntArray,
    sources: IntArray,
    floors: IntArray,
    slope_code: int,
    slope_shift: int,
    table: IntArray,
    index_shift: int,
    features: Codes,
) -> tuple[Codes, IntArray]:
    """Return the numerators [rows, heads, channels] and denominators [rows, heads] of GAT.

    The bound of a row's logits is that of its largest source score, or of a larger `floors`.

    Args:
        indptr: Row starts.
        indices: Columns.
        targets: Score codes [rows, heads].
        sources: Score codes [nodes, heads].
        floors: Source score of every head that bounds use at least, [heads].
        slope_code: Leaky slope times `2**slope_shift`.
        slope_shift: Fraction bits of the slope.
        table: Weights of index 0, 1, ...; every later index has weight 0.
        index_shift: Of a difference to the bound.
        features: Codes [nodes, heads, channels].
    """
    _, heads, channels = features.shape
    half = (1 << index_shift) >> 1
    numerators = np.zeros((len(indptr) - 1, heads, channels), features.dtype)
    denominators = np.zeros((len(indptr) - 1, heads), np.int64)
    bounds = np.empty(heads, np.int64)
    for i in range(len(indptr) - 1):
        bounds[:] = floors
        for e in range(indptr[i], indptr[i + 1]):
            for h in range(heads):
                bounds[h] = max(bounds[h], sources[indices[e], h])
        for h in range(heads):
            score = targets[i, h] + bounds[h]
            bounds[h] = half + (score << slope_shift if score >= 0 else score * slope_code)
        for e in range(indptr[i], indptr[i + 1]):
            j = indices[e]
            for h in range(heads):
                score = targets[i, h] + sources[j, h]
                logit = score << slope_shift if score >= 0 else score * slope_code
                index = (bounds[h] - logit) >> index_shift
                if index < len(table):
                    denominators[i, h] += table[index]
                    weight = features.dtype.type(table[index])
                    for c in range(channels):
                        numerators[i, h, c] += weight * features[j, h, c]
    return numerators, denominators


@compiled
def agnn_sums(
    indptr: Indices,
    indices: Indices,
    mantissas: IntArray,
    exponents: IntArray,
    fraction: int,
    beta: int,
    table: IntArray,
    index_shift: int,
    features: Codes,
) -> tuple[Codes, IntArray]:
    """Return the numerators [rows, 1, channels] and denominators [rows, 1] of AGNN.

    Args:
        indptr: Row starts.
        indices: Columns.
        mantissas: Of the reciprocal norms, [nodes].
        exponents: Of the reciprocal norms, [nodes].
        fraction: Fraction bits of a product of two mantissas.
        beta: Code of the factor; its magnitude bounds every logit.
        table: Weights of index 0, 1, ...; every later index has weight 0.
        index_shift: Of a difference to the bound.
        features: Codes [nodes, 1, channels].
    """
    channels = features.shape[2]
    half = (1 << index_shift) >> 1
    bound = abs(beta) + half
    numerators = np.zeros((len(indptr) - 1, 1, channels), features.dtype)
    denominators = np.zeros((len(indptr) - 1, 1), np.int64)
    for i in range(len(indptr) - 1):
        scaled = mantissas[i] * beta
        for e in range(indptr[i], indptr[i + 1]):
            j = indices[e]
            dot = features.dtype.type(0)
            for c in range(channels):
                dot += features[i, 0, c] * features[j, 0, c]
            shift = fraction + exponents[i] + exponents[j]
            product = np.int64(dot) * scaled * mantissas[j]
            logit = (product + ((np.int64(1) << shift) >> 1)) >> shift
            index = (bound - logit) >> index_shift
            if index < len(table):
                denominators[i, 0] += table[index]
                weight = features.dtype.type(table[index])
                for c in range(channels):
                    numerators[i, 0, c] += weight * features[j, 0, c]
    return numerators, denominators
