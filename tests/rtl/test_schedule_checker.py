"""The schedule checker: schedules that keep the rules, and every fault planted in them."""

from dataclasses import replace
from pathlib import Path

import pytest

from sgq_hw.render import render
from tests.rtl.unit_runs import (
    UnitRun,
    expect_failure_of,
    mutated,
    random_design,
    run_unit,
    unit_run,
)

UNIT = "schedule_checker"


def job(pes: int, nodes: int = 13, draws: int = 12, own_first: bool = False) -> UnitRun:
    """Return the run; short rows and few nodes, so that faults are at every limit.

    With `own_first` rows of the graph begin with their own nodes, as AGNN has them.
    """
    design = random_design(
        pes, pes=pes, lanes=4, nodes=3, layers=1, features=11, graph="one node",
        inputs="multi-bit", sparse_input=True,
        capacity={"nodes": nodes, "edges": 99, "row_edges": 5, "row_nonzeros": 11},
    )  # fmt: skip
    capacity = design.capacity
    settings = {
        "nodes": nodes, "row_edges": capacity.row_edges, "row_nonzeros": capacity.row_nonzeros,
        "draws": draws, "own_first": own_first,
    }  # fmt: skip
    run = unit_run(UNIT, design, settings)
    texts = render(design, "unit", unit=UNIT, changes={"has_agnn": own_first})
    return replace(run, texts=texts)


@pytest.mark.parametrize(("pes", "nodes"), [(1, 6), (2, 13), (8, 37), (8, 3)])
def test_on_icarus(pes: int, nodes: int, tmp_path: Path) -> None:
    run_unit(job(pes, nodes), "icarus", tmp_path)


@pytest.mark.parametrize(("pes", "nodes"), [(1, 6), (4, 13)])
def test_rows_begin_with_their_node(pes: int, nodes: int, tmp_path: Path) -> None:
    run_unit(job(pes, nodes, own_first=True), "icarus", tmp_path)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("is_aggregate && first", "first"),
        ("&& first && read != own", "&& mac && read != own"),
        ("slot == oldest_reg ? closed_reg : closed_reg + 1'b1", "closed_reg"),
        ("closes ? closed_reg + 1'b1", "closes ? closed_reg + 2'd2"),
        ("closed_reg         <= start ? {ROW_BITS{1'b0}} : ", "closed_reg         <= "),
        ("own_row, PE_WIDE[PE_BITS-1:0]}", "own_row, {PE_BITS{1'b0}}}"),
        ("any_own || ", ""),
        ("any_own ? ERR_OWN : any_length ? ERR_ROW_LENGTH", "any_length ? ERR_ROW_LENGTH"),
    ],
)
def test_a_planted_fault_of_own_nodes_is_found(old: str, new: str, tmp_path: Path) -> None:
    expect_failure_of(mutated(job(4, own_first=True), old, new), tmp_path)


@pytest.mark.parametrize(("pes", "nodes"), [(1, 5), (4, 16)])
def test_on_verilator(pes: int, nodes: int, tmp_path: Path) -> None:
    run_unit(job(pes, nodes), "verilator", tmp_path)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("num_nodes, 1'b0 }", "num_nodes, 1'b1 }"),
        ("index, is_aggregate }", "index, 1'b1 }"),
        ("{row, bank[0], bank[BANK_BITS-1:1]}", "{row, bank}"),
        ("one_more[pe] ?", "!one_more[pe] ?"),
        ("is_aggregate ? MAX_EDGES", "!is_aggregate ? MAX_EDGES"),
        ("length == max_length", "length_next == max_length"),
        ("left_reg == {", "1'b0 && left_reg == {"),
        ("step_final && unclosed", "step_final && !unclosed"),
        ("check && last && slot != oldest_reg", "check && mac && slot != oldest_reg"),
        ("oldest_reg <= !oldest_reg", "oldest_reg <= oldest_reg"),
        ("oldest_reg       <= 1'b0", "oldest_reg       <= oldest_reg"),
        ("length_slot1_reg <= {ROW_LENGTH_BITS{1'b0}}", "length_slot1_reg <= length_next"),
        ("any_slot ? ERR_SLOT : ", ""),
        (
            "any_index ? ERR_INDEX : any_slot ? ERR_SLOT",
            "any_slot ? ERR_SLOT : any_index ? ERR_INDEX",
        ),
        ("any_fault && !failed_reg", "any_fault"),
        ("step && enable", "step"),
        ("step && last && !done_reg", "last && !done_reg"),
        ("bad_index_reg[pe]  <= 1'b0", "bad_index_reg[pe]  <= bad_index_reg[pe]"),
    ],
)
def test_a_planted_fault_is_found(old: str, new: str, tmp_path: Path) -> None:
    expect_failure_of(mutated(job(4), old, new), tmp_path)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("owned = num_nodes", "owned = num_nodes + 1'b1"),
        ("beyond = done_reg", "beyond = 1'b0"),
        ("length_reg <= length_next", "length_reg <= length"),
        ("length_reg <= {", "length_reg <= length | {"),
    ],
)
def test_a_planted_fault_with_one_element_is_found(old: str, new: str, tmp_path: Path) -> None:
    expect_failure_of(mutated(job(1), old, new), tmp_path)
