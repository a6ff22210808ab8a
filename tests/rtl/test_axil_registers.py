"""The AXI4-Lite registers, with a maintained bus model and cycle by cycle."""

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

UNIT = "axil_registers"


def job(lanes: int, stream_bits: int = 64, pes: int = 1) -> UnitRun:
    layers = 1 + lanes % 3
    design = random_design(lanes, pes=pes, lanes=lanes, stream_bits=stream_bits, layers=layers)
    capacity = design.capacity
    return unit_run(
        UNIT, design, {"PASSES": 2 * layers, "NODES": capacity.nodes, "EDGES": capacity.edge_words}
    )


@pytest.mark.parametrize(("lanes", "stream_bits", "pes"), [(5, 32, 1), (16, 64, 4)])
def test_on_icarus(lanes: int, stream_bits: int, pes: int, tmp_path: Path) -> None:
    run_unit(job(lanes, stream_bits, pes), "icarus", tmp_path)


def test_on_verilator(tmp_path: Path) -> None:
    run_unit(job(3), "verilator", tmp_path)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("awaddr_reg == 6'h02 && wstrb_reg", "awaddr_reg == 6'h02 || wstrb_reg"),
        ("bvalid_reg && s_axil_bready", "bvalid_reg || s_axil_bready"),
        ("have_address && have_data", "have_address"),
        ("if (s_axil_rready) begin", "begin"),
        ("irq_status_reg & ~irq_clear", "irq_status_reg & irq_clear"),
        ("error && !error_clear_reg", "error"),
    ],
)
def test_a_planted_fault_is_found(old: str, new: str, tmp_path: Path) -> None:
    expect_failure_of(mutated(job(5, 32), old, new), tmp_path)
