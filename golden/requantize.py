"""Golden function of the `requantize` unit: the epilogue that ends every pass."""

import numpy as np

from sgq_hw.golden.fixed_point import IntArray, round_shift, saturate


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
