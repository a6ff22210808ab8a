"""The array adds up rows exactly, for both kinds of passes, with and without edge values."""

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

DESIGNS: dict[str, dict[str, object]] = {
    "lanes1-binary": {"lanes": 1, "inputs": "binary", "normalisation": "factored", "layers": 2},
    "lanes5-edge": {"lanes": 5, "normalisation": "edge", "max_bits": 16, "hidden": 12},
    "lanes16-one-chunk": {"lanes": 16, "hidden": 7, "normalisation": "factored", "max_bits": 8},
    "lanes8-edge-one-chunk": {"lanes": 8, "layers": 1, "classes": 8, "normalisation": "edge"},
}
CHUNKS = {"lanes1-binary": True, "lanes5-edge": True}


def job(name: str, draws: int = 12) -> UnitRun:
    design = random_design(21, nodes=20, **DESIGNS[name])
    edge_values = design.manifest.edge is not None
    assert (max(step.chunks for step in design.passes) > 1) == CHUNKS.get(name, False)
    return unit_run("mac_array", design, {"edge_values": edge_values, "draws": draws})


@pytest.mark.parametrize("name", list(DESIGNS))
def test_designs_on_icarus(name: str, tmp_path: Path) -> None:
    run_unit(job(name), "icarus", tmp_path)


def test_power_up_states_on_verilator(tmp_path: Path) -> None:
    run_unit(job("lanes5-edge"), "verilator", tmp_path)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("base + term", "base - term"),
        ("operand_product * value_product", "operand_product + value_product"),
        ("valid_s2_reg & last_s2_reg", "valid_s2_reg & first_s2_reg"),
        ("first_s2_reg[pe] ?", "!first_s2_reg[pe] ?"),
        ("row_reg + 1'b1", "row_reg + 2'd2"),
        ("valid_s3_reg <= {PES{1'b0}}", "valid_s3_reg <= valid_s2_reg & last_s2_reg"),
    ],
)
def test_a_planted_fault_is_found(old: str, new: str, tmp_path: Path) -> None:
    expect_failure_of(mutated(job("lanes5-edge", 4), old, new), tmp_path)
