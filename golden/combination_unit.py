"""Golden function of the `combination_unit`: node features times weights, summed exactly."""

import numpy as np
from scipy import sparse

from sgq_hw.golden.fixed_point import IntArray

FLOAT64_EXACT_BITS = 53
"""Integers up to 2**53 are exact in float64, so a product bounded below it may use fast BLAS."""


def combination_unit(
    features: IntArray | sparse.csr_array, weights: IntArray, bound: int
) -> IntArray:
    """Compute the exact sums `features @ weights`.

    Args:
        features: Codes [rows, inputs], dense int64 or CSR with int64 data.
        weights: Codes [inputs, channels], int64.
        bound: Proved upper bound of the sum of absolute products of one output, below 2**62.

    Returns:
        int64 [rows, channels].
    """
    if isinstance(features, sparse.csr_array):
        return np.asarray(features @ weights, dtype=np.int64)
    if bound < 1 << FLOAT64_EXACT_BITS:
        # Every partial sum stays below 2**53 in magnitude, whatever order BLAS adds in.
        product = features.astype(np.float64) @ weights.astype(np.float64)
        return product.astype(np.int64)
    return features @ weights
