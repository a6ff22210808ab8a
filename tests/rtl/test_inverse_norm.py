"""Reciprocal norms of every sum of squares of 14 bits, and of corners of wider ones."""

from pathlib import Path

import pytest

from tests.rtl.attention_units import inverse_norm, unit_job
from tests.rtl.unit_runs import UnitRun, expect_failure_of, mutated, run_unit

DENSE = 9
"""Of wider sums, those of so many bits are all tried."""


def job(square_bits: int, norm_bits: int, steps: int, dense: int = DENSE) -> UnitRun:
    return unit_job("inverse_norm", inverse_norm(square_bits, norm_bits, steps), dense=dense)


@pytest.mark.full
def test_every_sum_of_squares(tmp_path: Path) -> None:
    run_unit(job(14, 12, 3, dense=14), "verilator", tmp_path, seeds=(1,))


@pytest.mark.parametrize("steps", [1, 2, 3, 5, 11, 12])
def test_trials_a_cycle(steps: int, tmp_path: Path) -> None:
    run_unit(job(19, 12, steps), "icarus", tmp_path)


@pytest.mark.parametrize(
    ("square_bits", "norm_bits", "steps"),
    [(3, 2, 1), (4, 2, 2), (8, 4, 3), (9, 16, 4), (28, 16, 4), (38, 11, 2)],
)
def test_widths(square_bits: int, norm_bits: int, steps: int, tmp_path: Path) -> None:
    run_unit(job(square_bits, norm_bits, steps), "icarus", tmp_path)


def test_power_up_states_on_verilator(tmp_path: Path) -> None:
    run_unit(job(19, 12, 2, dense=5), "verilator", tmp_path)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("LEVELS - 1; coarse_level", "LEVELS - 2; coarse_level"),
        ("fine << (2 << fine_level)", "fine << (1 << fine_level)"),
        ("zeros[fine_level] = 1'b1", "zeros[fine_level] = 1'b0"),
        ("one                        = !distance[DISTANCE_BITS-1]", "one = nonzero"),
        ("{distance, 1'b1} +", "{distance, 1'b0} +"),
        ("2'b11} -", "2'b00} -"),
        ("!one} + square_term", "1'b0} + square_term"),
        ("{(NORM_BITS+2){!nonzero}}", "{(NORM_BITS+2){1'b0}}"),
        ("nonzero ? PAIRS", "1'b1 ? PAIRS"),
        ("LEFT < STEPS ? LEFT", "LEFT < STEPS ? STEPS"),
        ("valid_reg <= {LATENCY{1'b0}}", "valid_reg[0] <= 1'b0"),
    ],
)
def test_a_planted_fault_is_found(old: str, new: str, tmp_path: Path) -> None:
    expect_failure_of(mutated(job(8, 10, 3, dense=8), old, new), tmp_path)
