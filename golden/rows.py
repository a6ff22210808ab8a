"""Reductions over the rows of a CSR matrix."""

from typing import Any

import numpy as np
import numpy.typing as npt


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
