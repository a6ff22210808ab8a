"""The output stream: words become beats; the queue is used to the full and never overflows."""

from pathlib import Path
from typing import Any

import pytest

from tests.attention_designs import design_of
from tests.rtl.unit_runs import (
    UnitRun,
    expect_failure_of,
    mutated,
    random_design,
    run_unit,
    unit_run,
)

UNIT = "output_stream"
DESIGNS: dict[str, dict[str, Any]] = {
    "one-beat": {"lanes": 4, "classes": 7, "stream_bits": 128},
    "three-chunks": {"lanes": 3, "classes": 7, "stream_bits": 64},
    "many-beats": {"lanes": 16, "classes": 9, "stream_bits": 32},
    "short-end": {"lanes": 6, "classes": 8, "stream_bits": 32},
    "4-pes": {"pes": 4, "lanes": 3, "classes": 7, "stream_bits": 32},
    "windows": {"lanes": 3, "classes": 7, "stream_bits": 64, "buckets": 3, "windows": True},
}


WHOLE_RECORDS = ("agnn-last", "agnn-last-long")
"""Networks whose words of a record go out one after the other."""


def job(name: str) -> UnitRun:
    if name in WHOLE_RECORDS:
        design = design_of(name)
    else:
        # The first layer makes results wider than the codes that are sent.
        design = random_design(len(name), layers=2, nodes=8, **DESIGNS[name])
    last = design.manifest.steps()[-1]
    chunks = -(-last.channels // design.lanes)
    return unit_run(
        UNIT,
        design,
        {
            "chunks": chunks,
            "last_lanes": last.channels - (chunks - 1) * design.lanes,
            "signed": last.epilogue.output.signed,
            "collects": design.collects,
        },
    )


@pytest.mark.parametrize("name", [*DESIGNS, *WHOLE_RECORDS])
def test_on_icarus(name: str, tmp_path: Path) -> None:
    run_unit(job(name), "icarus", tmp_path)


def test_on_verilator(tmp_path: Path) -> None:
    run_unit(job("short-end"), "verilator", tmp_path)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("credit_reg[ADDR_BITS:1] == {ADDR_BITS{1'b0}}", "credit_reg == {(ADDR_BITS+1){1'b0}}"),
        ("head_last && last_beat", "head_last || last_beat"),
        ("!valid_reg || m_axis_tready", "!valid_reg && m_axis_tready"),
        ("read_reg + 1'b1", "read_reg - 1'b1"),
        (" || credit_reg == {(ADDR_BITS+1){1'b1}}", ""),
        ("CAPACITY - count_next - (open_next", "CAPACITY - count_reg - (open_next"),
        ("(word_valid ? !word_last : open_reg && !push_cut)", "(open_reg && !push_cut)"),
        (" || (cut_reg && !push_cut)", ""),
        ("!word_valid && count_reg != CAPACITY", "!word_valid"),
        ("{2'b11, {WORD_BITS{1'b0}}}", "{2'b01, {WORD_BITS{1'b0}}}"),
    ],
)
def test_a_planted_fault_is_found(old: str, new: str, tmp_path: Path) -> None:
    expect_failure_of(mutated(job("short-end"), old, new), tmp_path)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("credit_reg <= RESERVE", "credit_reg < RESERVE"),
        ("credit_reg <= RESERVE", "credit_reg <= RESERVE + 3'd5"),
        ("= 6'd4;", "= 6'd3;"),
    ],
)
def test_a_planted_fault_of_whole_records_is_found(old: str, new: str, tmp_path: Path) -> None:
    expect_failure_of(mutated(job("agnn-last"), old, new), tmp_path)
