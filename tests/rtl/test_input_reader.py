"""The input reader: words out of the input memory, at every pace, of every number."""

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

UNIT = "input_reader"
DESIGNS: dict[str, dict[str, Any]] = {
    "binary": {"inputs": "binary", "features": 19, "capacity": {"input_words": 64}},
    "dense": {"inputs": "signed", "input_bits": 12, "features": 5, "sparse_input": False},
    "one-word": {"inputs": "binary", "features": 1, "nodes": 1, "sparse_input": False},
    "pes4": {"pes": 4, "inputs": "multi-bit", "features": 9, "capacity": {"input_words": 37}},
    "pes8-dense": {"pes": 8, "inputs": "signed", "features": 40, "sparse_input": False},
}


def job(name: str) -> UnitRun:
    options = {
        "layers": 1, "nodes": 4, "lanes": 4, "sparse_input": True, "inputs_on_chip": True,
        **DESIGNS[name],
    }  # fmt: skip
    design = random_design(len(name), **options)
    return unit_run(UNIT, design, {"input_words": design.capacity.input_words})


@pytest.mark.parametrize("name", [name for name in DESIGNS if name != "one-word"])
def test_on_icarus(name: str, tmp_path: Path) -> None:
    run_unit(job(name), "icarus", tmp_path)


def test_power_up_states_on_verilator(tmp_path: Path) -> None:
    run_unit(job("pes4"), "verilator", tmp_path)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("start || next", "next"),
        ("start || next", "start || take"),
        ("start ? {ADDR_BITS{1'b0}} : fetched_reg", "fetched_reg"),
        ("take && !final_reg", "valid_reg && !final_reg"),
        ("valid_reg <= !final_reg", "valid_reg <= 1'b1"),
        ("fetched_reg + ONE", "fetched_reg + ONE + ONE"),
        ("fetched_next == num_words", "fetched_reg == num_words"),
        ("num_words == ONE", "1'b0"),
        ("fetched_reg <= ONE", "fetched_reg <= fetched_reg"),
        ("word_data   = memory_data", "word_data   = ~memory_data"),
    ],
)
def test_a_planted_fault_is_found(old: str, new: str, tmp_path: Path) -> None:
    expect_failure_of(mutated(job("pes4"), old, new), tmp_path)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("fetched_reg[1:0] == 2'd0", "fetched_reg[1:0] == 2'd1"),
        ("fetched_reg[1:0] == 2'd0", "1'b1"),
        ("memory_data[part_reg*WORD_BITS", "memory_data[(3-part_reg)*WORD_BITS"),
        ("part_reg    <= fetched_reg[1:0]", "part_reg    <= part_reg"),
        ("part_reg    <= 2'd0", "part_reg    <= part_reg"),
    ],
)
def test_a_planted_fault_in_packed_words_is_found(old: str, new: str, tmp_path: Path) -> None:
    expect_failure_of(mutated(job("dense"), old, new), tmp_path)
