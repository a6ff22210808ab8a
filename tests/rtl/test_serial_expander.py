"""The expander of unscheduled records: owner, bank, address and slot of each."""

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

UNIT = "serial_expander"
DESIGNS: dict[str, dict[str, Any]] = {
    "pes2-signed": {"pes": 2, "inputs": "signed", "normalisation": "edge", "features": 30,
                    "sparse_input": True},
    "pes4-binary": {"pes": 4, "inputs": "binary", "normalisation": "factored", "features": 19,
                    "sparse_input": True},
    "pes8-dense": {"pes": 8, "sparse_input": False, "inputs": "multi-bit"},
}  # fmt: skip


def job(name: str, passes: int = 25) -> UnitRun:
    design = random_design(3, nodes=40, layers=2, lanes=2, streamed=True, **DESIGNS[name])
    settings = {
        "passes": passes, "sparse": design.sparse_input,
        "edge_fields": [(f.name, f.bits, f.low) for f in design.edge_record.fields],
        "input_fields": [(f.name, f.bits, f.low) for f in design.input_record.fields],
    }  # fmt: skip
    return unit_run(UNIT, design, settings)


@pytest.mark.parametrize("name", list(DESIGNS))
def test_on_icarus(name: str, tmp_path: Path) -> None:
    run_unit(job(name), "icarus", tmp_path)


def test_on_verilator(tmp_path: Path) -> None:
    run_unit(job("pes2-signed"), "verilator", tmp_path)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("taken && last", "taken"),
        ("parity_reg <= !parity_reg", "parity_reg <= parity_reg"),
        ("pe_reg     <= {PE_BITS{1'b0}}", "pe_reg     <= pe_reg"),
        ("node[PE_BITS-1:0], node[PE_BITS]", "node[PE_BITS:1], node[0]"),
        ("if (is_aggregate) begin", "if (!is_aggregate) begin"),
        ("serial ? expanded : in_word", "expanded"),
        ("pe_reg == pe[PE_BITS-1:0]", "1'b1"),
    ],
)
def test_a_planted_fault_is_found(old: str, new: str, tmp_path: Path) -> None:
    expect_failure_of(mutated(job("pes2-signed", 10), old, new), tmp_path)
