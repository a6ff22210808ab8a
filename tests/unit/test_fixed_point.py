"""The integer primitives against Python integers, fractions and `apytypes`."""

import math
from fractions import Fraction

import numpy as np
import numpy.typing as npt
import pytest
from apytypes import APyFixedArray, OverflowMode, QuantizationMode
from hypothesis import given
from hypothesis import strategies as st

from sgq_hw.golden.fixed_point import (
    MAX_BITS,
    BoundError,
    check_bound,
    check_range,
    code_range,
    decode,
    encode,
    round_shift,
    saturate,
    signed_bits,
)
from sgq_hw.golden.requantize import requantize

IntArray = npt.NDArray[np.int64]

BITS = 12
EVERY_CODE = np.arange(-(1 << (BITS - 1)), 1 << (BITS - 1), dtype=np.int64)
FORMATS = [(bits, False) for bits in range(1, 17)] + [(bits, True) for bits in range(2, 17)]


def half_up(value: Fraction) -> int:
    """The contract's rounding rule, as mathematics states it."""
    return math.floor(value + Fraction(1, 2))


def clamp(value: int, bits: int, signed: bool) -> int:
    """Saturation, with the limits found by counting: 2**bits codes, zero the lowest or central."""
    count: int = 2**bits
    lowest = -count // 2 if signed else 0
    return min(max(value, lowest), lowest + count - 1)


def expected_code(
    accumulator: int, multiplier: int, bias: int, shift: int, bits: int, signed: bool
) -> int:
    """The epilogue of DESIGN section 3, in exact rationals."""
    return clamp(half_up(Fraction(accumulator * multiplier + bias, 2**shift)), bits, signed)


@pytest.mark.parametrize("shift", range(BITS + 4))
def test_round_shift_of_every_code(shift: int) -> None:
    expected = [half_up(Fraction(int(code), 2**shift)) for code in EVERY_CODE]
    assert round_shift(EVERY_CODE, shift).tolist() == expected


@given(
    st.lists(st.integers(-(2 ** (MAX_BITS - 1)), 2 ** (MAX_BITS - 1) - 1), max_size=8),
    st.integers(0, MAX_BITS),
)
def test_round_shift_up_to_the_widest(values: list[int], shift: int) -> None:
    expected = [half_up(Fraction(value, 2**shift)) for value in values]
    assert round_shift(np.array(values, np.int64), shift).tolist() == expected


@pytest.mark.parametrize(("bits", "signed"), FORMATS)
def test_saturate_every_code(bits: int, signed: bool) -> None:
    values = EVERY_CODE * 17  # past both limits of every format but 16 bits unsigned
    expected = [clamp(int(value), bits, signed) for value in values]
    assert saturate(values, bits, signed).tolist() == expected
    low, high = code_range(bits, signed)
    assert (low, high) == (clamp(-(2**20), bits, signed), clamp(2**20, bits, signed))
    assert high - low + 1 == 2**bits


@pytest.mark.parametrize("shift", range(BITS + 3))
def test_rounding_and_saturation_against_apytypes(shift: int) -> None:
    """All 12-bit inputs, all shifts, all output widths, both signs."""
    bits = max(BITS, shift + 1)
    source = APyFixedArray(EVERY_CODE.tolist(), bits=bits, frac_bits=shift)
    rounded = round_shift(EVERY_CODE, shift)
    for width in range(1, BITS + 1):
        cast = source.cast(
            int_bits=width, frac_bits=0, quantization=QuantizationMode.RND,
            overflow=OverflowMode.SAT,
        )  # fmt: skip
        reference = cast.to_numpy().astype(np.int64)
        if width >= 2:
            assert np.array_equal(saturate(rounded, width, signed=True), reference)
        # apytypes has signed formats only; one bit less and no negative codes is the unsigned one.
        if width >= 2:
            unsigned = np.maximum(reference, 0)
            assert np.array_equal(saturate(rounded, width - 1, signed=False), unsigned)


@pytest.mark.parametrize("low", range(-20, 21))
def test_signed_bits_is_the_smallest_width(low: int) -> None:
    for high in range(low, 21):
        smallest = next(
            bits for bits in range(1, 10) if -(2**bits) // 2 <= low and high < 2**bits // 2
        )
        assert signed_bits(low, high) == smallest, (low, high)


@given(st.integers(0, 2**70))
def test_signed_bits_of_symmetric_intervals(bound: int) -> None:
    width = signed_bits(-bound, bound)
    assert bound < 2 ** (width - 1)
    assert width == 1 or bound >= 2 ** (width - 2)


def test_check_bound() -> None:
    check_bound(MAX_BITS, "fits")
    with pytest.raises(BoundError, match=rf"^stage x needs {MAX_BITS + 1} bits.* {MAX_BITS} "):
        check_bound(MAX_BITS + 1, "stage x")


@given(st.lists(st.integers(-9, 9), max_size=5), st.integers(-9, 9), st.integers(-9, 9))
def test_check_range(values: list[int], low: int, high: int) -> None:
    array = np.array(values, np.int64)
    if all(low <= value <= high for value in values):
        check_range(array, low, high, "stage x")
    else:
        with pytest.raises(BoundError, match=rf"^stage x .*\[{low}, {high}\]"):
            check_range(array, low, high, "stage x")


@pytest.mark.parametrize("exponent", [-20, -7, 0, 5])
@pytest.mark.parametrize(("bits", "signed"), FORMATS)
def test_encode_of_a_fine_grid(bits: int, signed: bool, exponent: int) -> None:
    """Sixteenths of a step around zero and around both limits."""
    scale = 2.0**exponent
    low, high = code_range(bits, signed)
    steps = [
        Fraction(16 * centre + offset, 16)
        for centre in (low, 0, high)
        for offset in range(-40, 41)
    ]
    reals = np.array([float(step) * scale for step in steps])
    expected = [clamp(half_up(step), bits, signed) for step in steps]
    assert encode(reals, scale, bits, signed).tolist() == expected


@pytest.mark.parametrize("scale", [1.0, 2.0**-30, 0.1, 3e-5, 1 / 255])
@pytest.mark.parametrize(("bits", "signed"), FORMATS)
def test_decode_then_encode_is_the_identity(bits: int, signed: bool, scale: float) -> None:
    low, high = code_range(bits, signed)
    codes = np.arange(low, high + 1, max(1, (high - low) // 500), dtype=np.int64)
    reals = decode(codes, scale)
    assert np.array_equal(encode(reals, scale, bits, signed), codes)
    assert reals[codes == 0].tolist() == [0.0] * int(np.sum(codes == 0))


@pytest.mark.parametrize("bits", [2, 16, 53, 54, 55, 56, 62])
def test_encode_saturates_huge_reals_at_the_very_limits(bits: int) -> None:
    """Also where the limit itself is no float64: bias codes are up to 56 bits wide."""
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    codes = encode(np.array([-1e300, 1e300, 0.0]), 2.0**-20, bits, signed=True)
    assert codes.tolist() == [low, high, 0]


@given(
    st.lists(st.floats(allow_nan=False, allow_infinity=False, width=32), max_size=6),
    st.integers(-30, 30),
    st.sampled_from(FORMATS),
)
def test_encode_any_finite_real(
    values: list[float], exponent: int, fmt: tuple[int, bool]
) -> None:
    scale = Fraction(2) ** exponent
    codes = encode(np.array(values, np.float64), float(scale), *fmt).tolist()
    for value, code in zip(values, codes, strict=True):
        exact = Fraction(value) / scale
        # `x / scale + 0.5` is one float64 addition: next to a tie its own rounding may decide.
        nearest = {half_up(exact + Fraction(nudge, 2**53)) for nudge in (-1, 0, 1)}
        assert code in {clamp(step, *fmt) for step in nearest}


@pytest.mark.parametrize("shift", range(5))
@pytest.mark.parametrize(("bits", "signed"), [(1, False), (3, False), (2, True), (4, True)])
def test_requantize_exhaustively(shift: int, bits: int, signed: bool) -> None:
    """Every 5-bit accumulator, 3-bit multiplier and 4-bit bias."""
    accumulators, biases = np.arange(-16, 16), np.arange(-8, 8)
    for multiplier in range(8):
        result = requantize(
            np.repeat(accumulators[:, None], 16, axis=1), np.array(multiplier), biases, shift,
            bits, signed,
        )  # fmt: skip
        expected = [
            [expected_code(acc, multiplier, bias, shift, bits, signed) for bias in range(-8, 8)]
            for acc in range(-16, 16)
        ]
        assert result.tolist() == expected


@st.composite
def epilogues(draw: st.DrawFn) -> tuple[IntArray, IntArray, IntArray, IntArray, int, int, int]:
    """Accumulators, M (scalar, a channel's, or a row's), bias, addend and its factor, shift."""
    rows, channels = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    shapes = [(), (channels,), (rows, 1)]
    shape = draw(st.sampled_from(shapes))

    def array(size: tuple[int, ...], low: int, high: int) -> IntArray:
        count = math.prod(size)
        values = draw(st.lists(st.integers(low, high), min_size=count, max_size=count))
        return np.array(values, np.int64).reshape(size)

    # Each of the three terms stays below 2**59, so their sum with rounding is below 2**61.
    return (
        array((rows, channels), -(2**43), 2**43),
        array(shape, 0, 2**16 - 1),
        array(draw(st.sampled_from([(), (channels,)])), -(2**55), 2**55),
        array((rows, channels), -(2**43), 2**43),
        draw(st.integers(0, 2**15)),
        draw(st.integers(0, 48)),
        draw(st.integers(2, 16)),
    )


@given(epilogues(), st.booleans(), st.booleans())
def test_requantize_with_every_operand(
    operands: tuple[IntArray, IntArray, IntArray, IntArray, int, int, int],
    signed: bool,
    with_addend: bool,
) -> None:
    accumulator, multiplier, bias, addend, factor, shift, bits = operands
    result = requantize(
        accumulator, multiplier, bias, shift, bits, signed,
        addend if with_addend else None, factor,
    )  # fmt: skip
    rows, channels = accumulator.shape
    for row in range(rows):
        for channel in range(channels):
            m = multiplier[row, 0] if multiplier.ndim == 2 else multiplier.reshape(-1)[
                channel if multiplier.ndim else 0
            ]
            b = int(bias[channel]) if bias.ndim else int(bias)
            if with_addend:
                b += int(addend[row, channel]) * factor
            want = expected_code(int(accumulator[row, channel]), int(m), b, shift, bits, signed)
            assert result[row, channel] == want
