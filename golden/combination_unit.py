"""Golden function of the `combination_unit`: node features times weights, summed exactly."""

import numpy as np
from scipy import sparse

from sgq_hw.golden.fixed_point import IntArray, exact_type
from sgq_hw.golden.rows import exact_product


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
        return exact_product(features, weights, bound)
    kind = exact_type(bound)
    # Floats go to BLAS; every partial sum is exact, whatever order it adds in.
    return np.asarray(features.astype(kind) @ weights.astype(kind), np.int64)
