"""Power-of-two scales and degree windows: codes, and every other power of two."""

import math
from typing import get_args

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from sgq_hw.golden.fixed_point import code_range, decode, encode
from sgq_hw.quantize.config import Calibration
from sgq_hw.quantize.scales import best_scale, best_windows, power_of_two_at_least, value_range

FORMATS = [(bits, False) for bits in (1, 2, 3, 4, 8, 16)]
FORMATS += [(bits, True) for bits in (2, 3, 4, 8, 16)]
CALIBRATIONS: tuple[Calibration, ...] = get_args(Calibration)


def squared_error(
    values: npt.NDArray[np.float64], scale: float, bits: int, signed: bool
) -> float:
    """Rounding and clipping error of a format; negative values of a ReLU tensor are no error."""
    low = -(2 ** (bits - 1)) if signed else 0
    wanted = values if signed else np.maximum(values, 0.0)
    codes = np.clip(np.floor(wanted / scale + 0.5), low, low + 2**bits - 1)
    return float(np.sum((codes * scale - wanted) ** 2))


def is_power_of_two(value: float) -> bool:
    return math.frexp(value)[0] == 0.5


@given(st.floats(1e-300, 1e300))
def test_power_of_two_at_least(value: float) -> None:
    result = power_of_two_at_least(value)
    assert is_power_of_two(result)
    assert result / 2 < value <= result


@given(
    st.lists(st.floats(-1000, 1000, width=32), min_size=1, max_size=60),
    st.sampled_from(FORMATS),
    st.integers(-20, 20),
)
def test_no_power_of_two_is_better(
    reals: list[float], fmt: tuple[int, bool], exponent: int
) -> None:
    values = np.array(reals, np.float64) * 2.0**exponent
    chosen = best_scale(values, *fmt)
    assert is_power_of_two(chosen)
    peak = np.abs(values).max() if fmt[1] else values.max(initial=0.0)
    if peak <= 0:
        return
    around = round(math.log2(peak))
    error = squared_error(values, chosen, *fmt)
    # Up to 60 values, halving the range more than 8 times loses more at the peak than it gains.
    candidates = [2.0**power for power in range(around - 28, around + 4)]
    best = min(squared_error(values, scale, *fmt) for scale in candidates)
    assert error <= best * (1 + 1e-9) + 1e-30 * peak**2


def test_clipping_pays_at_few_bits() -> None:
    """One outlier among many small values must not set the scale of a two-bit tensor."""
    values = np.concatenate([np.linspace(0.0, 1.0, 400), [8.0]])
    assert best_scale(values, 2, signed=False) * 3 < 4
    assert best_scale(values, 12, signed=False) * 4095 > 7.9


@pytest.mark.parametrize("halvings", range(9))
def test_up_to_eight_halvings_below_the_peak(halvings: int) -> None:
    """Clipping one value of 1 costs less than 1; the others cost 3 if the scale stays there."""
    values = np.concatenate([np.full(3 * 4**halvings, 2.0**-halvings), [1.0]])
    assert best_scale(values, 1, signed=False) == 2.0**-halvings


@pytest.mark.parametrize(("bits", "signed"), FORMATS)
def test_zeros_get_a_range_of_about_one(bits: int, signed: bool) -> None:
    high = 2 ** (bits - 1) - 1 if signed else 2**bits - 1
    for values in (np.zeros(5), np.zeros(0), np.zeros((2, 3))):
        scale = best_scale(values, bits, signed)
        assert is_power_of_two(scale)
        assert 1 <= scale * high < 2
    if not signed:
        assert best_scale(np.array([-3.0, -1.0]), bits, signed) == scale


@pytest.mark.parametrize(("bits", "signed"), FORMATS)
@pytest.mark.parametrize("exponent", [-9, 0, 6])
def test_powers_of_two_are_exact(bits: int, signed: bool, exponent: int) -> None:
    """A constant tensor of a power of two loses nothing, at the largest scale that holds it."""
    constant = np.full(7, 2.0**exponent)
    scale = best_scale(constant, bits, signed)
    assert squared_error(constant, scale, bits, signed) == 0
    high = 2 ** (bits - 1) - 1 if signed else 2**bits - 1
    assert scale <= 2.0**exponent <= scale * high


@pytest.mark.parametrize("smallest", [2.0**-3, 2.0**4])
def test_limits_are_kept(smallest: float) -> None:
    values = np.linspace(-1.0, 1.0, 33)
    assert best_scale(values, 8, signed=True, smallest=smallest) == smallest
    largest = 2.0**-12
    assert best_scale(values, 8, signed=True, largest=largest) <= largest


# ---- encode and decode --------------------------------------------------------------------------

formats = st.one_of(
    st.tuples(st.integers(1, 16), st.just(False)), st.tuples(st.integers(2, 16), st.just(True))
)
any_reals = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30)


@given(formats, st.integers(-20, 20), st.data())
def test_codes_come_back(fmt: tuple[int, bool], exponent: int, data: st.DataObject) -> None:
    low, high = code_range(*fmt)
    codes = np.array(data.draw(st.lists(st.integers(low, high), max_size=20)), np.int64)
    scale = 2.0**exponent
    assert encode(decode(codes, scale), scale, *fmt).tolist() == codes.tolist()
    # Anywhere within half a step, upper end excluded.
    assert encode(decode(codes, scale) - scale / 2, scale, *fmt).tolist() == codes.tolist()
    assert encode(decode(codes, scale) + scale * 0.49, scale, *fmt).tolist() == codes.tolist()


@given(formats, st.integers(-20, 20), any_reals)
def test_encoding_never_decreases(
    fmt: tuple[int, bool], exponent: int, values: list[float]
) -> None:
    low, high = code_range(*fmt)
    ordered = np.sort(values)
    codes = encode(ordered, 2.0**exponent, *fmt)
    assert np.all(np.diff(codes) >= 0)
    assert low <= codes.min() <= codes.max() <= high
    inside = (codes > low) & (codes < high)
    errors = np.abs(decode(codes, 2.0**exponent) - ordered)
    assert np.all(errors[inside] <= 2.0**exponent / 2)


@given(formats, st.integers(-40, 40))
def test_zero_is_code_zero_and_limits_saturate(fmt: tuple[int, bool], exponent: int) -> None:
    low, high = code_range(*fmt)
    scale = 2.0**exponent
    values = np.array([0.0, -0.0, 1e30, -1e30, (high + 1) * scale, (low - 1) * scale])
    assert encode(values, scale, *fmt).tolist() == [0, 0, high, low, high, low]
    assert decode(np.zeros(1, np.int64), scale)[0] == 0.0


# ---- all ways to choose a scale -----------------------------------------------------------------

samples = st.lists(st.floats(-1000, 1000, width=32), min_size=1, max_size=40)


@given(samples, formats)
def test_more_bits_never_lose(values: list[float], fmt: tuple[int, bool]) -> None:
    bits, signed = fmt
    tensor = np.array(values, np.float64)
    errors = [
        squared_error(tensor, best_scale(tensor, width, signed), width, signed)
        for width in (bits, bits + 1)
    ]
    assert errors[1] <= errors[0] * (1 + 1e-9)


@given(samples, formats, st.integers(-30, 30), st.sampled_from(CALIBRATIONS))
def test_scales_follow_the_unit(
    values: list[float], fmt: tuple[int, bool], exponent: int, method: Calibration
) -> None:
    tensor = np.array(values, np.float64)[:, None]
    assume(value_range(tensor, fmt[1], method) > 1e-30)
    unit = best_scale(tensor, *fmt, method=method)
    assert best_scale(tensor * 2.0**exponent, *fmt, method=method) == unit * 2.0**exponent


@given(samples, formats, st.sampled_from(["range", "row-range", "percentile"]))
def test_ranges_are_reached_and_no_more(
    values: list[float], fmt: tuple[int, bool], method: Calibration
) -> None:
    """The largest code reaches the range; half the scale would not."""
    tensor = np.array(values, np.float64)[:, None] * np.array([0.5, 1.0, -0.25])
    reach = value_range(tensor, fmt[1], method)
    assume(reach > 1e-30)
    high = code_range(*fmt)[1]
    scale = best_scale(tensor, *fmt, method=method)
    assert is_power_of_two(scale)
    assert scale * high / 2 < reach * (1 + 1e-12)
    assert scale * high >= reach * (1 - 1e-12)


def test_what_a_range_is() -> None:
    tensor = np.array([[1.0, -8.0], [3.0, 2.0], [0.0, 0.0]])
    assert value_range(tensor, True, "range") == value_range(tensor, True, "error") == 8.0
    assert value_range(tensor, False, "range") == 3.0
    assert value_range(tensor, True, "row-range") == (8 + 3 + 0) / 3
    assert value_range(tensor, False, "row-range") == (1 + 3 + 0) / 3
    outlier = np.concatenate([np.ones(10000), [1000.0]])
    assert value_range(outlier, True, "percentile") == 1.0
    for method in CALIBRATIONS:
        assert value_range(np.zeros((0, 3)), True, method) == 0.0


# ---- degree windows -----------------------------------------------------------------------------


@given(st.data(), st.booleans(), st.sampled_from(CALIBRATIONS), st.booleans())
def test_windows_are_the_scales_of_their_buckets(
    data: st.DataObject, signed: bool, method: Calibration, limited: bool
) -> None:
    """Each bucket keeps its own scale unless the word would exceed 16 bits."""
    bits = data.draw(
        st.lists(st.integers(2 if signed else 1, 16), min_size=2, max_size=5).map(tuple)
    )
    rows = data.draw(st.integers(1, 12))
    buckets = np.array(data.draw(
        st.lists(st.integers(0, len(bits) - 1), min_size=rows, max_size=rows)
    ))  # fmt: skip
    powers = data.draw(st.lists(st.integers(-8, 8), min_size=rows, max_size=rows))
    mantissas = data.draw(
        st.lists(st.floats(-2, 2, width=32), min_size=2 * rows, max_size=2 * rows)
    )
    values = np.array(mantissas).reshape(rows, 2) * 2.0 ** np.array(powers)[:, None]
    limits = (2.0**-6, 2.0**3) if limited else (0.0, math.inf)
    found = best_windows(values, buckets, bits, signed, *limits, method)

    assert (found.signed, len(found.windows)) == (signed, len(bits))
    assert tuple(window.bits for window in found.windows) == bits
    ends = [window.exponent + window.bits for window in found.windows]
    assert found.bits == max(ends) <= 16
    assert min(window.exponent for window in found.windows) == 0
    assert is_power_of_two(found.scale)

    wanted: list[float] = []
    for bucket, width in enumerate(bits):
        part = values[buckets == bucket]
        if len(part) or not wanted:
            part = part if len(part) else values
            wanted.append(best_scale(part, width, signed, *limits, method))
        else:
            wanted.append(wanted[-1])
    steps = [found.scale * 2.0**window.exponent for window in found.windows]
    for step, scale in zip(steps, wanted, strict=True):
        assert step == max(scale, found.scale)
        if step > scale:  # limited: the word is full
            assert found.bits == 16
    if limited:
        assert found.scale >= limits[0]


def test_a_full_word_costs_the_finest_bucket() -> None:
    values = np.array([[1.0], [2.0**-14]])
    found = best_windows(values, np.array([0, 1]), (8, 8), signed=False)
    assert found.bits == 16
    assert [window.exponent for window in found.windows] == [8, 0]
    assert found.scale * 2.0**8 == best_scale(values[:1], 8, signed=False)
    assert found.scale > best_scale(values[1:], 8, signed=False)


def test_a_bucket_without_nodes_takes_the_scale_below() -> None:
    values = np.array([[4.0], [0.25]])
    found = best_windows(values, np.array([0, 2]), (4, 4, 4), signed=False)
    exponents = [window.exponent for window in found.windows]
    assert exponents == [4, 4, 0]
    first_empty = best_windows(values, np.array([1, 1]), (4, 4), signed=False)
    assert [window.exponent for window in first_empty.windows] == [0, 0]
