"""Golden function of the `degree_window` unit: what the epilogue needs to know of a row."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from sgq_hw.golden.feature_buffer import positions
from sgq_hw.golden.fixed_point import IntArray


class RowWindows(NamedTuple):
    """The windows of some rows, int64 [rows] each.

    Attributes:
        position: Position of the row's degree bucket in the memory order.
        shift: Shift that rounds its sums.
        low, high: Saturation limits of its codes.
    """

    position: IntArray
    shift: IntArray
    low: IntArray
    high: IntArray


def degree_window(
    places: IntArray,
    bounds: Sequence[int],
    shift: int,
    exponents: Sequence[int],
    limits: Sequence[tuple[int, int]],
) -> RowWindows:
    """Find the degree bucket of rows and the window that their results have in a pass.

    The nodes of a bucket lie side by side, buckets in the memory order; positions count in it.

    Args:
        places: Places of the rows, `row * PES + PE`, int64 [rows].
        bounds: Nodes before each position but the first, rising.
        shift: S of the pass.
        exponents: Exponent of the window of each position; all 0 in a pass without windows.
        limits: Lowest and highest code of each position.
    """
    position = positions(places, bounds)
    low, high = np.asarray(limits, np.int64).T
    return RowWindows(
        position,
        shift + np.asarray(exponents, np.int64)[position],
        low[position],
        high[position],
    )
