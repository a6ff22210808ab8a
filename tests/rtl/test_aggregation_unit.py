"""The front end of aggregations: edge records, with and without values and empty rows."""

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

NODES = 11
DESIGNS: dict[str, dict[str, object]] = {
    "factored": {"normalisation": "factored", "self_loops": True, "lanes": 4, "hidden": 7},
    "edge-bubbles": {"normalisation": "edge", "self_loops": False, "lanes": 2, "hidden": 9},
    "bubbles-one-chunk": {"normalisation": "factored", "self_loops": False, "lanes": 16},
    "edge-wide": {"normalisation": "edge", "self_loops": True, "lanes": 5, "max_bits": 16},
    "one-node": {"nodes": 1, "lanes": 3, "normalisation": "factored", "self_loops": False},
}


def job(name: str, draws: int = 12) -> UnitRun:
    options: dict[str, object] = {"nodes": NODES, "layers": 2, **DESIGNS[name]}
    if options["nodes"] == NODES:
        options["capacity"] = {"edges": NODES * NODES, "row_edges": NODES}
    design = random_design(41, **options)
    settings = {
        "draws": draws,
        "nodes": design.capacity.nodes,
        "CHUNKS": max(step.chunks for step in design.passes if step.front == "aggregate"),
        "has_bubbles": design.edge_record.find("valid") is not None,
        "record": [(field.name, field.bits, field.low) for field in design.edge_record.fields],
    }
    return unit_run("aggregation_unit", design, settings)


@pytest.mark.parametrize("name", list(DESIGNS))
def test_designs_on_icarus(name: str, tmp_path: Path) -> None:
    run_unit(job(name), "icarus", tmp_path)


def test_power_up_states_on_verilator(tmp_path: Path) -> None:
    run_unit(job("edge-bubbles"), "verilator", tmp_path)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("feature_addr_reg + STRIDE", "feature_addr_reg - STRIDE"),
        ("fetched_reg + 1'b1", "fetched_reg + 2'd2"),
        ("record_valid_reg && !hold", "record_valid_reg"),
        ("issue && record_valid", "issue || record_valid"),
        ("first_reg        <= record_last", "first_reg        <= !record_last"),
        ("chunk_reg == last_chunk", "chunk_reg >= last_chunk - 1'b1"),
        ("op_valid_reg <= 1'b0;", "op_valid_reg <= issue;"),
    ],
)
def test_a_planted_fault_is_found(old: str, new: str, tmp_path: Path) -> None:
    expect_failure_of(mutated(job("edge-bubbles", 6), old, new), tmp_path)
