"""Integer primitives of the arithmetic contract: round once, half up, and saturate.

All functions take and return integers (NumPy int64 arrays). Real numbers appear only in `encode`
and `decode`. No intermediate may need more than `MAX_BITS` bits; `check_bound` proves it before
the work starts, so that int64 never wraps.
"""

import numpy as np
import numpy.typing as npt

from sgq_hw.errors import SgqError

IntArray = npt.NDArray[np.int64]

MAX_BITS = 62
"""Largest two's complement width of an intermediate: leaves int64 a guard bit for rounding."""


class BoundError(SgqError, ValueError):
    """An intermediate could exceed the width that was declared for it."""


def code_range(bits: int, signed: bool) -> tuple[int, int]:
    """Return the smallest and largest code of a format.

    Args:
        bits: Width, at least 1 for unsigned and 2 for signed codes.
        signed: Two's complement if true.
    """
    if signed:
        return -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    return 0, (1 << bits) - 1


def signed_bits(low: int, high: int) -> int:
    """Return the two's complement width, at least 1, that holds every integer in [low, high]."""
    # A negative number and its complement (~x = -x - 1) need the same width.
    return max((value if value >= 0 else ~value).bit_length() for value in (low, high)) + 1


def check_bound(bits: int, what: str) -> None:
    """Refuse a two's complement intermediate wider than `MAX_BITS`.

    Raises:
        BoundError: with `what` in its message.
    """
    if bits > MAX_BITS:
        raise BoundError(f"{what} needs {bits} bits, more than the {MAX_BITS} supported")


def exact_type(bound: int) -> type[np.float32 | np.float64 | np.int64]:
    """Return the fastest type whose sums are exact, in whatever order they are added.

    Integers up to 2**24 are exact in float32 and up to 2**53 in float64.

    Args:
        bound: Proved bound of the sum of absolute products.
    """
    if bound <= 1 << 24:
        return np.float32
    return np.float64 if bound <= 1 << 53 else np.int64


def check_range(values: IntArray, low: int, high: int, what: str) -> None:
    """Assert that a computed tensor keeps its proved bound.

    Raises:
        BoundError: some value lies outside [low, high].
    """
    if values.size and (int(values.min()) < low or int(values.max()) > high):
        raise BoundError(f"{what} left its proved range [{low}, {high}]")


def round_shift(values: IntArray, shift: int) -> IntArray:
    """Divide by 2**shift and round half up: `(v + (1 << (shift - 1))) >> shift`.

    The shift is arithmetic (floor); `shift` 0 leaves the values unchanged.

    Args:
        values: int64, any shape, at most `MAX_BITS` bits.
        shift: 0 to `MAX_BITS`.
    """
    if shift == 0:
        return values
    return (values + (np.int64(1) << np.int64(shift - 1))) >> np.int64(shift)


def round_shift_by(values: IntArray, shifts: IntArray) -> IntArray:
    """Apply `round_shift` with a shift of its own for each value.

    Args:
        values: int64, any shape, at most `MAX_BITS` bits with their rounding constants.
        shifts: int64, broadcastable to `values`, 0 to `MAX_BITS` each.
    """
    return (values + ((np.int64(1) << shifts) >> np.int64(1))) >> shifts


def saturate(values: IntArray, bits: int, signed: bool) -> IntArray:
    """Clamp to the code range of a format; never wraps."""
    low, high = code_range(bits, signed)
    return np.clip(values, low, high)


def encode(values: npt.NDArray[np.floating], scale: float, bits: int, signed: bool) -> IntArray:
    """Turn real numbers into codes: `floor(x / scale + 0.5)`, saturated.

    Args:
        values: Finite real numbers, any shape.
        scale: Real value of one least significant bit, positive.
        bits: Width of the code.
        signed: Two's complement if true.
    """
    low, high = code_range(bits, signed)
    # Clip as reals first: a huge quotient would not fit int64. Then as integers: the limits of
    # formats above 53 bits are no float64.
    rounded = np.clip(np.floor(np.asarray(values, np.float64) / scale + 0.5), low, high)
    return np.clip(rounded.astype(np.int64), low, high)


def decode(codes: IntArray, scale: float) -> npt.NDArray[np.float64]:
    """Return the real value of codes: `code * scale`. Code 0 is always real 0."""
    return codes.astype(np.float64) * scale
