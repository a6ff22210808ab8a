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


def job(pes: int, lanes: int) -> UnitRun:
    return unit_run(UNIT, random_design(1, pes=pes, lanes=lanes, nodes=8, layers=1))


@pytest.mark.parametrize(("pes", "lanes"), [(1, 1), (1, 5), (2, 16), (8, 5), (16, 3), (64, 64)])
def test_on_icarus(pes: int, lanes: int, tmp_path: Path) -> None:
    run_unit(job(pes, lanes), "icarus", tmp_path)


@pytest.mark.parametrize("pes", [1, 2, 8])
def test_on_verilator(pes: int, tmp_path: Path) -> None:
    run_unit(job(pes, 12), "verilator", tmp_path)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("ALL_LANES - lanes_s1_reg", "ALL_LANES + lanes_s1_reg"),
        ("~op_mac & (op_done | op_last)", "~op_mac & op_done"),
        ("~op_mac & (op_done | op_last)", "op_done | op_last"),
        ("~op_mac & ~(op_done | op_last)", "~op_mac & ~op_done"),
        ("busy && !rst", "busy"),
        ("{3'd0, flags[7]}", "4'd0"),
        ("mac_s2_next + {3'd0", "{3'd0"),
        ("imbalance_s1_reg[4*group +: 4]", "imbalance_s1_reg[3:0]"),
        ("!op_valid && input_stall", "input_stall"),
        ("!input_stall && output_stall", "output_stall"),
        ("!input_stall && !output_stall;", "!input_stall;"),
        ("clear_s2_reg || rst", "clear_s1_reg || rst"),
        ("clear_s2_reg || rst", "clear_s2_reg"),
        ("1'b0}}, busy_s3_reg }", "1'b0}}, busy_s2_reg }"),
        ("        conflict_s2_reg  <= {COUNT_BITS{1'b0}};\n", ""),
    ],
)  # fmt: skip
def test_a_planted_fault_is_found(old: str, new: str, tmp_path: Path) -> None:
    expect_failure_of(mutated(job(16, 5), old, new), tmp_path)
