"""The degree window: bucket, shift and limits of every place, for any bounds and exponents."""

from pathlib import Path
from typing import Any

import pytest

from tests.rtl.unit_runs import (
    UnitRun,
    expect_failure_of,
    mutated,
    random_design,
    run_unit,
    unit_run,
)

UNIT = "degree_window"
DESIGNS: dict[str, dict[str, Any]] = {
    "two": {"pes": 1, "buckets": 2, "nodes": 24},
    "three": {"pes": 2, "buckets": 3, "nodes": 33},
    "four": {"pes": 4, "buckets": 4, "nodes": 24},
    "eight": {"pes": 8, "buckets": 8, "nodes": 61},
    # More places than a count of nodes has numbers, and a count of nodes with a bit more.
    "few-nodes": {"pes": 64, "buckets": 5, "nodes": 9},
    "full": {"pes": 1, "buckets": 3, "nodes": 16},
}
DRAWS = 60


def job(name: str) -> UnitRun:
    design = random_design(len(name), lanes=2, layers=2, windows=True, **DESIGNS[name])
    return unit_run(UNIT, design, {"nodes": design.capacity.nodes, "draws": DRAWS})


@pytest.mark.parametrize("name", list(DESIGNS))
def test_on_icarus(name: str, tmp_path: Path) -> None:
    run_unit(job(name), "icarus", tmp_path)


def test_on_verilator(tmp_path: Path) -> None:
    run_unit(job("eight"), "verilator", tmp_path)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("bound <= place_wide", "bound < place_wide"),
        ("& ~reached[BUCKETS:1]", "& reached[BUCKETS:1]"),
        ("reached[BUCKETS-1:0] & ~reached[BUCKETS:1]", "reached[BUCKETS-1:0]"),
        ("assign reached[BUCKETS] = 1'b0", "assign reached[BUCKETS] = reached[1]"),
        ("position = 1; position", "position = 2; position"),
        ("bounds[(position-1)*BOUND_BITS", "bounds[(BUCKETS-1-position)*BOUND_BITS"),
        ("exponents[q*EXPONENT_BITS", "exponents[(BUCKETS-1-q)*EXPONENT_BITS"),
        ("limits_high[q*OUT_BITS", "limits_low[q*OUT_BITS"),
        ("low_reg    <= low_next", "low_reg    <= high_next"),
        ("shift_reg  <= shift +", "shift_reg  <= shift -"),
        ("bucket_reg <= bucket_next", "bucket_reg <= ~bucket_next"),
    ],
)
def test_a_planted_fault_is_found(old: str, new: str, tmp_path: Path) -> None:
    expect_failure_of(mutated(job("four"), old, new), tmp_path)
