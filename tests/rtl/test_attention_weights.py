"""Weights, their sums and reciprocals: one, two and many heads a cycle, one and two open rows."""

from pathlib import Path
from typing import Any

import pytest

from tests.rtl.attention_units import attention_weights, unit_job
from tests.rtl.unit_runs import UnitRun, expect_failure_of, mutated, run_unit

PASSES = 4
CASES: dict[str, dict[str, Any]] = {
    "one head": {"sizes": (1, 1, 1, 10, 3, 4, 12, 2), "shifts": [1, 3]},
    "one head, two rows": {"sizes": (1, 1, 2, 10, 4, 8, 12, 4), "shifts": [2]},
    "eight heads": {"sizes": (1, 8, 2, 12, 4, 8, 9, 2), "shifts": [3, 0]},
    "groups of two": {"sizes": (2, 3, 2, 12, 4, 8, 9, 7, 3), "shifts": [0, 3, 5]},
    "groups of four, one row": {"sizes": (4, 2, 1, 12, 4, 2, 20, 15), "shifts": [4, 12]},
    "five heads a cycle": {"sizes": (5, 1, 2, 19, 6, 12, 30, 1, 2), "shifts": [7]},
    "rows of one edge": {"sizes": (2, 2, 2, 8, 3, 4, 1, 5), "shifts": [2]},
    "one bit": {"sizes": (1, 3, 1, 8, 3, 1, 1, 5), "shifts": [1, 2]},
}


def job(name: str) -> UnitRun:
    case = CASES[name]
    sizes = case["sizes"]
    events = ["empty", "full", "zeroed"]
    events += ["interleaved"] if sizes[2] > 1 and sizes[6] > 1 else []
    settings = {"shifts": case["shifts"], "events": events, "row_edges": sizes[6]}
    return unit_job("attention_weights", attention_weights(*sizes), **settings, passes=PASSES)


@pytest.mark.parametrize("name", list(CASES))
def test_records_on_icarus(name: str, tmp_path: Path) -> None:
    run_unit(job(name), "icarus", tmp_path)


@pytest.mark.parametrize("name", ["one head", "groups of two"])
def test_power_up_states_on_verilator(name: str, tmp_path: Path) -> None:
    run_unit(job(name), "verilator", tmp_path)


TWO = "groups of two"
ONE = "one head"


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        (TWO, "valid && (mac || last)", "valid"),
        (TWO, "valid && (mac || last)", "valid && mac"),
        (TWO, "valid && (mac || last)", "mac || last"),
        (TWO, "& {WEIGHT_BITS{mac}}", ""),
        (TWO, "first ? {DEN_BITS{1'b0}} : den_reg", "mac && first ? {DEN_BITS{1'b0}} : den_reg"),
        (TWO, "set = {group, slot}", "set = {group, 1'b0}"),
        (TWO, "set = {group, slot}", "set = {{GROUP_BITS{1'b0}}, slot}"),
        (TWO, "end_reg       <= valid && last", "end_reg       <= last"),
        (TWO, "end_group_reg <= group", "end_group_reg <= in_group"),
        (TWO, "if (valid && group == GROUP)", "if (valid)"),
        (TWO, "if (valid && group == GROUP)", "if (group == GROUP)"),
        (TWO, "done && done_group == GROUP", "done_group == GROUP"),
        (TWO, "HEAD  = place * HEAD_LANES + head", "HEAD  = head * GROUPS + place"),
        (TWO, ".table_select (table_select)", ".table_select ({TABLE_BITS{1'b0}})"),
        (TWO, ".in_den         (end_den_reg)", ".in_den         (den)"),
        (TWO, "end_reg <= 1'b0", "end_reg <= end_reg"),
        (ONE, "first ? {DEN_BITS{1'b0}} : end_den_reg", "end_den_reg"),
        (ONE, "if (add) begin", "begin"),
    ],
)
def test_a_planted_fault_is_found(name: str, old: str, new: str, tmp_path: Path) -> None:
    expect_failure_of(mutated(job(name), old, new), tmp_path)


def test_a_sum_that_is_too_wide_is_reported(tmp_path: Path) -> None:
    """Denominators for rows of 4 edges, rows of 9 edges."""
    sizes = (2, 3, 2, 12, 4, 8, 4, 7, 3)
    settings = {"shifts": [0], "events": [], "row_edges": 9, "passes": PASSES}
    run = unit_job("attention_weights", attention_weights(*sizes), **settings)
    assert "a sum left its proved width" in expect_failure_of(run, tmp_path)
