"""The performance counters, cycle by cycle."""

from pathlib import Path

import pytest

from tests.rtl.unit_runs import (
    UnitRun,
    expect_failure_of,
    mutated,
    random_design,
    run_unit,
    unit_run,
)

UNIT = "performance_counters"


def job(lanes: int) -> UnitRun:
    return unit_run(UNIT, random_design(1, lanes=lanes, nodes=8, layers=1))


@pytest.mark.parametrize("lanes", [1, 5, 16])
def test_on_icarus(lanes: int, tmp_path: Path) -> None:
    run_unit(job(lanes), "icarus", tmp_path)


def test_on_verilator(tmp_path: Path) -> None:
    run_unit(job(12), "verilator", tmp_path)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("ALL_LANES - op_lanes", "ALL_LANES + op_lanes"),
        ("!input_stall && !output_stall;", "!input_stall || !output_stall;"),
        ("clear || rst", "clear && rst"),
    ],
)
def test_a_planted_fault_is_found(old: str, new: str, tmp_path: Path) -> None:
    expect_failure_of(mutated(job(5), old, new), tmp_path)
