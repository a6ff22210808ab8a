"""Choosing power-of-two scales: the least squared error over a few exponents."""

import math

import numpy as np
import numpy.typing as npt

from sgq_hw.golden.fixed_point import code_range, decode, encode

FloatArray = npt.NDArray[np.float64]

CLIPPING_EXPONENTS = 8
"""How many halvings of the clip-free scale are tried: clipping pays at few bits."""


def power_of_two_at_least(value: float) -> float:
    """Return the smallest power of two that is not below a positive value."""
    mantissa, exponent = math.frexp(value)
    return math.ldexp(1.0, exponent - 1 if mantissa == 0.5 else exponent)


def best_scale(
    values: FloatArray, bits: int, signed: bool, smallest: float = 0.0, largest: float = math.inf
) -> float:
    """Return the power-of-two scale with the least squared rounding and clipping error.

    Ties go to the larger scale. A tensor of zeros gets the scale whose range is about 1.

    Args:
        values: Real samples, any shape.
        bits: Width of the code.
        signed: Two's complement if true.
        smallest: Lower limit of the scale: a stage cannot resolve more than its exact sum does.
        largest: Upper limit of the scale.
    """
    high = code_range(bits, signed)[1]
    peak = float(np.abs(values).max(initial=0.0))
    if not signed:
        peak = float(values.max(initial=0.0))
    start = power_of_two_at_least((peak if peak > 0 else 1.0) / high)
    start = min(max(start, smallest), largest)
    best, best_error = start, math.inf
    for halvings in range(CLIPPING_EXPONENTS + 1):
        scale = math.ldexp(start, -halvings)
        if scale < smallest:
            break
        # Unsigned formats stand for ReLU: what is below zero is not an error.
        target = values if signed else np.maximum(values, 0.0)
        error = float(np.square(decode(encode(target, scale, bits, signed), scale) - target).sum())
        if error < best_error:
            best, best_error = scale, error
    return best
