"""The front end of combinations: streamed elements and walked rows, operation by operation."""

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

NODES = 9
DESIGNS: dict[str, dict[str, object]] = {
    "lanes1": {"lanes": 1, "layers": 2, "hidden": 5, "max_bits": 6},
    "lanes3-deep": {"lanes": 3, "layers": 3, "features": 11, "max_bits": 16},
    "lanes8": {"lanes": 8, "layers": 2, "hidden": 20, "features": 7, "inputs": "signed"},
    "stream-only": {"lanes": 4, "layers": 1, "classes": 7, "features": 13},
}


def job(name: str, draws: int = 16) -> UnitRun:
    design = random_design(31, nodes=NODES, **DESIGNS[name])
    walked = [step.in_channels for step in design.passes if step.front == "combine_buffer"]
    settings = {
        "nodes": NODES,
        "draws": draws,
        "stream_inputs": design.passes[0].in_channels,
        "walk_inputs": max(walked, default=0),
    }
    return unit_run("combination_unit", design, settings)


@pytest.mark.parametrize("name", list(DESIGNS))
def test_designs_on_icarus(name: str, tmp_path: Path) -> None:
    run_unit(job(name), "icarus", tmp_path)


def test_power_up_states_on_verilator(tmp_path: Path) -> None:
    run_unit(job("lanes3-deep"), "verilator", tmp_path)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("weight_base + index_wide", "weight_base - index_wide"),
        ("stride_wide + 1'b1", "stride_wide"),
        ("fetch_row_reg + 1'b1 != num_rows", "fetch_row_reg != num_rows"),
        ("last_input - fetch_index_reg < WORD_STEP", "last_input - fetch_index_reg <= WORD_STEP"),
        ("element_valid && !finished_reg", "element_valid"),
        ("source_valid && !hold;", "source_valid;"),
        ("op_valid_reg <= 1'b0;", "op_valid_reg <= issue;"),
    ],
)
def test_a_planted_fault_is_found(old: str, new: str, tmp_path: Path) -> None:
    expect_failure_of(mutated(job("lanes3-deep"), old, new), tmp_path)
