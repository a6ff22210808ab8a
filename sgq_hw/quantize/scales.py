"""Choosing power-of-two scales: by least squared error, or by the range of the values."""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from sgq_hw.formats import Format, Window
from sgq_hw.golden.fixed_point import code_range, decode, encode
from sgq_hw.quantize.config import Calibration

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

CLIPPING_EXPONENTS = 8
"""How many halvings of the clip-free scale are tried: clipping pays at few bits."""
PERCENTILE = 99.9
"""What Degree-Quant keeps of the values (Tailor et al. 2021, section 3.2: 0.1 % on each side)."""
MAX_WORD_BITS = 16


def power_of_two_at_least(value: float) -> float:
    """Return the smallest power of two that is not below a positive value."""
    mantissa, exponent = math.frexp(value)
    return math.ldexp(1.0, exponent - 1 if mantissa == 0.5 else exponent)


def value_range(values: FloatArray, signed: bool, method: Calibration) -> float:
    """Return the largest magnitude that codes should reach, 0 for a tensor without values.

    Args:
        values: Real samples [rows, channels].
        signed: Whether negative values count; they are ReLU's zeros otherwise.
        method: `range` and `error`: the largest; `row-range`: the mean of the rows' largest (the
            released SGQuant quantiser, which clips every row beyond it); `percentile`.
    """
    magnitudes = np.abs(values) if signed else np.maximum(values, 0.0)
    if not magnitudes.size:
        return 0.0
    if method == "row-range":
        return float(magnitudes.reshape(len(magnitudes), -1).max(axis=1).mean())
    if method == "percentile":
        return float(np.percentile(magnitudes, PERCENTILE))
    return float(magnitudes.max())


def best_scale(
    values: FloatArray,
    bits: int,
    signed: bool,
    smallest: float = 0.0,
    largest: float = math.inf,
    method: Calibration = "error",
) -> float:
    """Return the power-of-two scale that a method chooses.

    For `error`, the one with the least squared rounding and clipping error; ties go to the larger
    scale. For ranges, the smallest whose largest code reaches the range. A tensor of zeros gets the
    scale whose range is about 1.

    Args:
        values: Real samples, any shape; rows are the first axis.
        bits: Width of the code.
        signed: Two's complement if true.
        smallest: Lower limit of the scale: a stage cannot resolve more than its exact sum does.
        largest: Upper limit of the scale.
        method: How the values decide.
    """
    high = code_range(bits, signed)[1]
    peak = value_range(values, signed, method)
    start = power_of_two_at_least((peak if peak > 0 else 1.0) / high)
    start = min(max(start, smallest), largest)
    if method != "error":
        return start
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


def best_windows(
    values: FloatArray,
    buckets: IntArray,
    bits: tuple[int, ...],
    signed: bool,
    smallest: float = 0.0,
    largest: float = math.inf,
    method: Calibration = "error",
) -> Format:
    """Return a format whose windows suit each degree bucket: what SGQuant's TAQ calibrates.

    Every bucket chooses a scale of its own. The least of them is the word's; where the word would
    exceed 16 bits it is raised, which costs the bucket of the finest scale its lowest bits. A
    bucket without nodes takes the scale of the one below it.

    Args:
        values: Real samples [nodes, channels].
        buckets: Degree bucket of each node.
        bits: Width of each bucket's codes.
        signed: Two's complement if true.
        smallest: Lower limit of the word's scale.
        largest: Upper limit of every scale.
        method: As of `best_scale`.
    """
    scales: list[float] = []
    for bucket, width in enumerate(bits):
        rows = values[buckets == bucket]
        if not len(rows) and scales:
            scales.append(scales[-1])
            continue
        chosen = rows if len(rows) else values
        scales.append(best_scale(chosen, width, signed, smallest, largest, method))
    return windows_format(scales, bits, signed)


def windows_format(scales: Sequence[float], bits: Sequence[int], signed: bool) -> Format:
    """Return the format whose windows have these scales and widths, within a word of 16 bits.

    Args:
        scales: Real value of one step of each bucket's codes, powers of two.
        bits: Width of each bucket's codes.
        signed: Two's complement if true.
    """
    top = max(scale * 2.0**width for scale, width in zip(scales, bits, strict=True))
    base = max(min(scales), top / 2**MAX_WORD_BITS)
    windows = tuple(
        Window(exponent=max(0, round(math.log2(scale / base))), bits=width)
        for scale, width in zip(scales, bits, strict=True)
    )
    word = max(window.exponent + window.bits for window in windows)
    return Format(bits=word, signed=signed, scale=base, windows=windows)
