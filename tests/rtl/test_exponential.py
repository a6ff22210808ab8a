"""Weights of every difference to the table's end and beyond: tables of many shapes, any shift."""

from pathlib import Path
from typing import Any

import pytest

from tests.rtl.attention_units import exponential, unit_job
from tests.rtl.unit_runs import UnitRun, expect_failure_of, mutated, run_unit

EVENTS = ("negative", "equal", "last", "beyond", "far")
CASES: dict[str, dict[str, Any]] = {
    # All bounds with all logits; with shift 6 no index is beyond the table.
    "small": {"sizes": (8, 6, 3, 4, 3), "shifts": [0, 1, 2, 3, 4, 5, 6], "events": EVENTS},
    "long table": {"sizes": (4, 5, 8, 12), "shifts": [0, 1, 5], "events": ("negative", "equal")},
    "typical": {"sizes": (16, 19, 8, 8), "shifts": [0, 3, 6], "events": EVENTS},
    "wide": {"sizes": (16, 25, 10, 16, 2), "shifts": [0, 1, 12, 13, 25], "events": EVENTS},
}
DENSE = 1 << 15


def job(name: str) -> UnitRun:
    case = CASES[name]
    settings = {"shifts": case["shifts"], "events": case["events"], "dense": DENSE}
    return unit_job("exponential", exponential(*case["sizes"]), **settings)


@pytest.mark.parametrize("name", list(CASES))
def test_differences_on_icarus(name: str, tmp_path: Path) -> None:
    run_unit(job(name), "icarus", tmp_path)


def test_power_up_states_on_verilator(tmp_path: Path) -> None:
    run_unit(job("small"), "verilator", tmp_path)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("wide >> index_shift", "wide >> (index_shift + 1'b1)"),
        ("negative_reg ? {INDEX_BITS{1'b0}}", "!negative_reg ? {INDEX_BITS{1'b0}}"),
        ("!negative_reg && shifted", "shifted"),
        ("shifted[WIDE_BITS-1:INDEX_BITS] != 0", "shifted[INDEX_BITS]"),
        ("beyond_s3_reg ?", "beyond_s2_reg ?"),
        ("{2{logit[LOGIT_BITS-1]}}", "{2{1'b0}}"),
        ("{table_select, index_reg}", "{ {TABLE_BITS{1'b0}}, index_reg}"),
        (".re    (valid_reg[1])", ".re    (valid_reg[2])"),
        ("valid_reg <= {LATENCY{1'b0}}", "valid_reg[0] <= 1'b0"),
    ],
)
def test_a_planted_fault_is_found(old: str, new: str, tmp_path: Path) -> None:
    expect_failure_of(mutated(job("small"), old, new), tmp_path)
