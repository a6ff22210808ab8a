"""Golden function of the `aggregation_unit`: exact sums of neighbour rows over a CSR graph."""

from sgq_hw.golden.fixed_point import MAX_BITS, IntArray
from sgq_hw.golden.rows import csr_matrix, exact_product


def aggregation_unit(
    indptr: IntArray,
    indices: IntArray,
    values: IntArray | None,
    features: IntArray,
    bound: int = 1 << MAX_BITS,
) -> IntArray:
    """Compute `out[i] = sum over edges e of row i of value[e] * features[indices[e]]`.

    A row without edges gives zero.

    Args:
        indptr: int64 [rows + 1], row starts of the aggregation matrix.
        indices: int64 [edges], source node of each edge.
        values: Edge codes int64 [edges], or None where every edge counts once.
        features: Codes int64 [nodes, channels].
        bound: Proved bound of the sum of absolute products of one result; tight ones are fast.

    Returns:
        int64 [rows, channels].
    """
    matrix = csr_matrix(indptr, indices, values, len(features), bound)
    return exact_product(matrix, features, bound)
