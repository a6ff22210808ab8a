"""The feature buffer: layout, widths and signs of one and of two regions, in one bank and many."""

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
    "pe1-one-region": {"lanes": 4, "layers": 1, "classes": 7, "nodes": 10},
    "pe1-lanes1": {"lanes": 1, "layers": 2, "hidden": 5, "nodes": 12, "max_bits": 3},
    "pe1-lanes16-blocks": {"lanes": 16, "layers": 2, "hidden": 20, "nodes": 36},
    "pe1-one-node": {"lanes": 2, "layers": 2, "hidden": 6, "nodes": 1},
    "pe2-lanes3": {"pes": 2, "lanes": 3, "layers": 3, "nodes": 17, "max_bits": 16},
    "pe2-one-region": {"pes": 2, "lanes": 4, "layers": 1, "classes": 7, "nodes": 10},
    "pe2-one-node": {"pes": 2, "lanes": 2, "layers": 2, "hidden": 6, "nodes": 1},
    "pe8-lanes2": {"pes": 8, "lanes": 2, "layers": 2, "hidden": 7, "nodes": 43},
    "pe8-few-nodes": {"pes": 8, "lanes": 4, "layers": 2, "hidden": 7, "nodes": 3},
}


def job(name: str, draws: int = 6) -> UnitRun:
    design = random_design(51, **DESIGNS[name])
    regions = [(region.bits, region.signed, region.chunks) for region in design.program.regions]
    assert (len(regions) == 1) == name.endswith("one-region")
    settings = {"draws": draws, "regions": regions, "nodes": design.capacity.nodes}
    return unit_run("feature_buffer", design, settings)


@pytest.mark.parametrize("name", list(DESIGNS))
def test_designs_on_icarus(name: str, tmp_path: Path) -> None:
    run_unit(job(name), "icarus", tmp_path)


def test_power_up_states_on_verilator(tmp_path: Path) -> None:
    run_unit(job("pe2-lanes3"), "verilator", tmp_path)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("chunk_base_reg + CHUNK_STEP", "chunk_base_reg - CHUNK_STEP"),
        ("write_first_chunk ? {ADDR", "!write_first_chunk ? {ADDR"),
        ("if (write_step)", "if (1'b1)"),
        ("read_region == 1'd0 ?", "read_region != 1'd0 ?"),
        ("region0_rdata[lane*", "region0_rdata[(LANES-1-lane)*"),
        ("we && write_region ==", "we || write_region =="),
        ("read_re[bank] &&", ""),
        # Banks.
        ("row[0] == PARITY[0]", "row[0] != PARITY[0]"),
        (" && row[0] == PARITY[0]", ""),
        ("row[ROW_BITS-1:1]", "row[ROW_BITS-2:0]"),
        ("PE = bank / 2", "PE = bank % PES"),
        ("write_valid[PE]", "write_valid[0]"),
    ],
)
def test_a_planted_fault_is_found(old: str, new: str, tmp_path: Path) -> None:
    expect_failure_of(mutated(job("pe2-lanes3"), old, new), tmp_path)
