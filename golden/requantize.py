"""Golden function of the `requantize` unit: the epilogue that ends every pass."""

from collections.abc import Sequence

import numpy as np

from sgq_hw.formats import Window
from sgq_hw.golden.fixed_point import IntArray, code_range, round_shift, round_shift_by, saturate


def requantize(
    accumulator: IntArray,
    multiplier: IntArray,
    bias: IntArray,
    shift: int,
    bits: int,
    signed: bool,
    addend: IntArray | None = None,
    addend_factor: int = 0,
) -> IntArray:
    """Compute `sat(round_shift(acc * M + addend * A + bias, S))`.

    The result is rounded once, half up, from the exact sum. ReLU is saturation to an unsigned
    range. The caller has proved that the sum fits `fixed_point.MAX_BITS` bits.

    Args:
        accumulator: int64 [rows, channels], exact sums.
        multiplier: Unsigned M, broadcastable: scalar, [channels], or [rows, 1].
        bias: Broadcastable to [rows, channels], on the grid of `accumulator * multiplier`.
        shift: S >= 0.
        bits: Width of the result.
        signed: Whether the result is two's complement.
        addend: Optional second tensor [rows, channels].
        addend_factor: A, the constant factor of `addend`.

    Returns:
        Codes, int64 [rows, channels].
    """
    total = accumulator * multiplier + bias
    if addend is not None:
        total = total + addend * np.int64(addend_factor)
    return saturate(round_shift(total, shift), bits, signed)


def requantize_windows(
    accumulator: IntArray,
    multiplier: IntArray,
    bias: IntArray,
    shift: int | IntArray,
    windows: Sequence[Window],
    signed: bool,
    buckets: IntArray,
    addend: IntArray | None = None,
    addend_factor: int = 0,
) -> IntArray:
    """Requantise each row into the window of its degree bucket.

    A row of bucket k is rounded once with shift `S + e_k` and saturated to its bits; the consumer
    sees `code << e_k`. That second shift is the hardware's form of SGQuant's rematching (Feng et
    al. 2020, section III).

    Args:
        accumulator: int64 [rows, channels], exact sums.
        multiplier: Unsigned M, broadcastable: scalar, [channels], or [rows, 1].
        bias: Broadcastable to [rows, channels], on the grid of `accumulator * multiplier`.
        shift: S >= 0, broadcastable to [rows, channels].
        windows: One for each bucket.
        signed: Whether codes are two's complement.
        buckets: Bucket of each row, int64 [rows].
        addend: Optional second tensor [rows, channels].
        addend_factor: A, the constant factor of `addend`.

    Returns:
        Words as the consumer sees them, int64 [rows, channels].
    """
    limits = np.array([code_range(window.bits, signed) for window in windows], np.int64)[buckets]
    exponents = np.array([window.exponent for window in windows], np.int64)[buckets][:, np.newaxis]
    total = accumulator * multiplier + bias
    if addend is not None:
        total = total + addend * np.int64(addend_factor)
    codes = np.clip(round_shift_by(total, shift + exponents), limits[:, :1], limits[:, 1:])
    return np.asarray(codes << exponents, np.int64)
