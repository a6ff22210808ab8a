"""Power-of-two scales: against every other power of two."""

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sgq_hw.quantize.scales import best_scale, power_of_two_at_least

FORMATS = [(bits, False) for bits in (1, 2, 3, 4, 8, 16)]
FORMATS += [(bits, True) for bits in (2, 3, 4, 8, 16)]


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
