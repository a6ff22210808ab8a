"""The leaky slope equals its golden function on every sum of scores."""

from pathlib import Path

import pytest

from sgq_hw.sim.runner import Simulator
from tests.rtl.attention_units import leaky_slope, unit_job
from tests.rtl.unit_runs import SIMULATORS, UnitRun, expect_failure_of, mutated, run_unit


def job(lanes: int, score_bits: int, slope_code: int, slope_shift: int) -> UnitRun:
    return unit_job("leaky_slope", leaky_slope(lanes, score_bits, slope_code, slope_shift))


@pytest.mark.parametrize("simulator", SIMULATORS)
def test_every_sum(simulator: Simulator, tmp_path: Path) -> None:
    run_unit(job(4, 12, 13, 6), simulator, tmp_path)


@pytest.mark.parametrize(
    ("lanes", "score_bits", "slope_code", "slope_shift"),
    [(64, 16, 13, 6), (3, 8, 0, 4), (1, 6, 1, 0), (2, 5, 255, 8), (1, 7, 256, 8)],
)
def test_slopes_and_widths(
    lanes: int, score_bits: int, slope_code: int, slope_shift: int, tmp_path: Path
) -> None:
    run_unit(job(lanes, score_bits, slope_code, slope_shift), "icarus", tmp_path)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("place <= SLOPE_SHIFT", "place < 3"),
        ("scaled + (wide << place)", "scaled | (wide << place)"),
        ("{OUT_BITS{negative}}", "{OUT_BITS{1'b0}}"),
        ("negative ? scaled", "!negative ? scaled"),
        ("wide << SLOPE_SHIFT;", "wide;"),
        ("valid_reg <= 1'b0", "valid_reg <= in_valid"),
    ],
)
def test_a_planted_fault_is_found(old: str, new: str, tmp_path: Path) -> None:
    expect_failure_of(mutated(job(2, 8, 13, 6), old, new), tmp_path)
