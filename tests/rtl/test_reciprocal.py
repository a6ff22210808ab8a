"""Reciprocals of every denominator of 17 bits, and of corners of wider ones."""

from pathlib import Path

import pytest

from tests.rtl.attention_units import reciprocal, unit_job
from tests.rtl.unit_runs import UnitRun, expect_failure_of, mutated, run_unit

DENSE = 12
"""Of wider denominators, those of so many bits are all tried."""


def job(den_bits: int, steps: int, dense: int = DENSE) -> UnitRun:
    return unit_job("reciprocal", reciprocal(den_bits, steps), dense=dense)


@pytest.mark.full
def test_every_denominator(tmp_path: Path) -> None:
    """0 to 2**17 - 1, in one unit."""
    run_unit(job(17, 2, dense=17), "verilator", tmp_path, seeds=(1,))


@pytest.mark.parametrize("steps", [1, 2, 4, 7, 15])
def test_steps_a_cycle(steps: int, tmp_path: Path) -> None:
    run_unit(job(20, steps, dense=9), "icarus", tmp_path)


@pytest.mark.parametrize("den_bits", [2, 3, 4, 5, 16, 31, 46])
def test_widths(den_bits: int, tmp_path: Path) -> None:
    run_unit(job(den_bits, 3), "icarus", tmp_path)


def test_power_up_states_on_verilator(tmp_path: Path) -> None:
    run_unit(job(20, 2, dense=5), "verilator", tmp_path)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("LEVELS - 1; coarse_level", "LEVELS - 2; coarse_level"),
        ("fine << (1 << fine_level)", "fine << 1"),
        ("zeros[fine_level] = 1'b1", "zeros[fine_level] = 1'b0"),
        ("1'b0, ~fine", "1'b0, ~fine ^ 1'b1"),
        ("subtract = !remainder[REM_BITS-1]", "subtract = 1'b1"),
        ("1'b1, 1'b1} + {term, subtract}", "1'b1, 1'b0} + {term, subtract}"),
        ("nonzero ? DEN_BITS", "fine[0] || nonzero ? 1'b1 + DEN_BITS"),
        ("{nonzero_reg[STAGES], quotient", "{1'b1, quotient"),
        ("LEFT < STEPS ? LEFT", "LEFT < STEPS ? STEPS"),
        ("valid_reg <= {LATENCY{1'b0}}", "valid_reg[0] <= 1'b0"),
    ],
)
def test_a_planted_fault_is_found(old: str, new: str, tmp_path: Path) -> None:
    expect_failure_of(mutated(job(12, 2), old, new), tmp_path)
