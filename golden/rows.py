"""Matrices in CSR form: exact products, and reductions over rows."""

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from sgq_hw.golden.fixed_point import MAX_BITS, IntArray, exact_type


def csr_matrix(
    indptr: IntArray,
    indices: IntArray,
    values: IntArray | None,
    columns: int,
    bound: int = 1 << MAX_BITS,
) -> sparse.csr_array:
    """Return a matrix [rows, columns] of codes, in the fastest type whose products are exact.

    Args:
        indptr: int64 [rows + 1], row starts.
        indices: int64 [entries], columns; no entry twice.
        values: int64 [entries], or None where every entry is 1.
        columns: Width.
        bound: Proved bound of the sum of absolute products of one result.
    """
    # Half as wide indices are read twice as fast, and products are bound by reading them.
    small = max(columns, len(indices)) <= np.iinfo(np.int32).max
    places = np.int32 if small else np.int64
    kind = exact_type(bound)
    data = np.ones(len(indices), kind) if values is None else values.astype(kind)
    return sparse.csr_array(
        (data, indices.astype(places), indptr.astype(places)), shape=(len(indptr) - 1, columns)
    )


def exact_product(matrix: sparse.csr_array, dense: IntArray, bound: int) -> IntArray:
    """Compute `matrix @ dense` exactly.

    Args:
        matrix: Codes [rows, inner], of any type that holds them exactly.
        dense: int64 [inner, channels].
        bound: Proved bound of the sum of absolute products of one result, below 2**62.

    Returns:
        int64 [rows, channels].
    """
    kind = exact_type(bound)
    data: npt.NDArray[Any] = matrix.data.astype(kind, copy=False)
    typed = sparse.csr_array((data, matrix.indices, matrix.indptr), shape=matrix.shape, copy=False)
    return np.asarray(typed @ dense.astype(kind), np.int64)


def reduce_rows(
    indptr: npt.NDArray[np.int64], values: npt.NDArray[Any], operation: np.ufunc
) -> npt.NDArray[Any]:
    """Reduce values [entries, ...] to [rows, ...] of the same type; rows without entries give 0.

    Args:
        indptr: Row starts, int64 [rows + 1].
        values: One or several values for each entry.
        operation: For example `np.add` or `np.maximum`.
    """
    result = np.zeros((len(indptr) - 1, *values.shape[1:]), values.dtype)
    # reduceat misreads an empty segment, and starts of the others delimit them completely.
    filled = np.flatnonzero(np.diff(indptr))
    if filled.size:
        result[filled] = operation.reduceat(values, indptr[filled], axis=0)
    return result
