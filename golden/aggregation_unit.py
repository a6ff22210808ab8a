"""Golden function of the `aggregation_unit`: exact sums of neighbour rows over a CSR graph."""

import numpy as np
from scipy import sparse

from sgq_hw.golden.fixed_point import IntArray


def aggregation_unit(
    indptr: IntArray, indices: IntArray, values: IntArray | None, features: IntArray
) -> IntArray:
    """Compute `out[i] = sum over edges e of row i of value[e] * features[indices[e]]`.

    A row without edges gives zero.

    Args:
        indptr: int64 [rows + 1], row starts of the aggregation matrix.
        indices: int64 [edges], source node of each edge.
        values: Edge codes int64 [edges], or None where every edge counts once.
        features: Codes int64 [nodes, channels].

    Returns:
        int64 [rows, channels].
    """
    data = np.ones(len(indices), dtype=np.int64) if values is None else values
    shape = (len(indptr) - 1, len(features))
    matrix = sparse.csr_array((data, indices, indptr), shape=shape)
    return np.asarray(matrix @ features, dtype=np.int64)
