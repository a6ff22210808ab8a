"""The row tracker: row and first record, one row open at a time and two, at any number of PEs."""

from pathlib import Path

import pytest

from sgq_hw.design import Design
from sgq_hw.layers import Layer
from tests.attention_designs import SIGNED, agnn, gat, linear, network, sized
from tests.rtl.unit_runs import UnitRun, expect_failure_of, mutated, run_unit, unit_run

UNIT = "row_tracker"
AGNN: tuple[Layer, ...] = (linear(3, 4), agnn(4, SIGNED))
GAT: tuple[Layer, ...] = (gat(3, 4, 2),)
CASES: dict[str, tuple[tuple[Layer, ...], int, int]] = {
    # layers, processing elements, nodes
    "one": (GAT, 1, 9),
    "one-node": (AGNN, 1, 1),
    "two": (AGNN, 2, 11),
    "four": (GAT, 4, 37),
    # Counts of rows that fill their bits.
    "two-full": (GAT, 2, 14),
    "eight": (AGNN, 8, 50),
    "few-nodes": (GAT, 16, 9),
}


def design(name: str) -> Design:
    layers, pes, nodes = CASES[name]
    return sized(network(layers), lanes=2, pes=pes, nodes=nodes)


def job(name: str, draws: int = 12) -> UnitRun:
    return unit_run(UNIT, design(name), {"draws": draws})


@pytest.mark.parametrize("name", list(CASES))
def test_on_icarus(name: str, tmp_path: Path) -> None:
    run_unit(job(name), "icarus", tmp_path)


@pytest.mark.parametrize("name", ["one", "four"])
def test_power_up_states_on_verilator(name: str, tmp_path: Path) -> None:
    run_unit(job(name), "verilator", tmp_path)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("row_reg[0] == op_slot[pe]", "row_reg[0] != op_slot[pe]"),
        ("row_reg : row_reg + 1'b1", "row_reg : row_reg - 1'b1"),
        ("= !open_reg[op_slot[pe]]", "= !open_reg[0]"),
        ("op_end && (op_mac", "(op_mac"),
        ("op_end && (op_mac[pe] || op_last[pe])", "op_end"),
        ("(op_mac[pe] || op_last[pe])", "op_mac[pe]"),
        ("(op_mac[pe] || op_last[pe])", "(op_mac[0] || op_last[pe])"),
        ("<= !op_last[pe]", "<= 1'b1"),
        ("row_reg <= row_reg + 1'b1", "row_reg <= row_reg + 2'd2"),
        ("row_reg  <= {ROW_BITS{1'b0}}", "row_reg  <= row_reg"),
        ("open_reg <= 2'b00", "open_reg <= 2'b01 & open_reg"),
    ],
)
def test_a_planted_fault_is_found(old: str, new: str, tmp_path: Path) -> None:
    expect_failure_of(mutated(job("four"), old, new), tmp_path)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("op_first[pe] = !open_reg", "op_first[pe] = 1'b1"),
        ("open_reg <= !op_last[pe]", "open_reg <= op_mac[pe]"),
        ("open_reg <= 1'b0", "open_reg <= open_reg"),
    ],
)
def test_a_planted_fault_of_one_slot_is_found(old: str, new: str, tmp_path: Path) -> None:
    expect_failure_of(mutated(job("one"), old, new), tmp_path)
