"""The feature buffer: layout, widths and signs of one and of two regions."""

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
    "one-region": {"lanes": 4, "layers": 1, "classes": 7, "nodes": 10},
    "lanes1": {"lanes": 1, "layers": 2, "hidden": 5, "nodes": 12, "max_bits": 3},
    "lanes3": {"lanes": 3, "layers": 3, "nodes": 16, "max_bits": 16},
    "lanes16-blocks": {"lanes": 16, "layers": 2, "hidden": 20, "nodes": 36},
    "one-node": {"lanes": 2, "layers": 2, "hidden": 6, "nodes": 1},
}


def job(name: str, draws: int = 6) -> UnitRun:
    design = random_design(51, **DESIGNS[name])
    regions = [(region.bits, region.signed, region.chunks) for region in design.program.regions]
    assert (len(regions) == 1) == (name == "one-region")
    settings = {"draws": draws, "regions": regions, "nodes": design.capacity.nodes}
    return unit_run("feature_buffer", design, settings)


@pytest.mark.parametrize("name", list(DESIGNS))
def test_designs_on_icarus(name: str, tmp_path: Path) -> None:
    run_unit(job(name), "icarus", tmp_path)


def test_power_up_states_on_verilator(tmp_path: Path) -> None:
    run_unit(job("lanes3"), "verilator", tmp_path)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("write_addr_reg + CHUNK_STEP", "write_addr_reg - CHUNK_STEP"),
        ("write_first_chunk ? row_addr", "!write_first_chunk ? row_addr"),
        ("read_region == 1'd0 ?", "read_region != 1'd0 ?"),
        ("region0_rdata[lane*", "region0_rdata[(LANES-1-lane)*"),
        ("write_valid && write_region ==", "write_valid || write_region =="),
    ],
)
def test_a_planted_fault_is_found(old: str, new: str, tmp_path: Path) -> None:
    expect_failure_of(mutated(job("lanes3"), old, new), tmp_path)
