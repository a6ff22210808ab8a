"""The front end of combinations: streamed words and walked rows, step by step."""

from pathlib import Path

import pytest

from sgq_hw.golden.fixed_point import code_range
from tests.rtl.unit_runs import (
    UnitRun,
    expect_failure_of,
    mutated,
    random_design,
    run_unit,
    unit_run,
)

NODES = 19
DESIGNS: dict[str, dict[str, object]] = {
    "pe1-lanes1": {"lanes": 1, "layers": 2, "hidden": 5, "max_bits": 6},
    "pe1-lanes8-signed": {
        "lanes": 8, "layers": 2, "hidden": 20, "features": 7, "inputs": "signed",
    },
    "pe1-dense": {
        "lanes": 3, "layers": 2, "hidden": 7, "features": 6, "inputs": "binary",
        "sparse_input": False,
    },
    "pe2-lanes3-deep": {
        "pes": 2, "lanes": 3, "layers": 3, "features": 11, "max_bits": 16, "inputs": "signed",
    },
    "pe2-stream-only": {
        "pes": 2, "lanes": 4, "layers": 1, "classes": 7, "features": 13, "inputs": "binary",
    },
    "pe2-dense": {
        "pes": 2, "lanes": 2, "layers": 2, "hidden": 7, "features": 9, "inputs": "signed",
        "sparse_input": False,
    },
    "pe8-lanes4": {
        "pes": 8, "lanes": 4, "layers": 2, "hidden": 19, "features": 24, "inputs": "multi-bit",
    },
    "pe8-few-nodes": {"pes": 8, "lanes": 2, "layers": 2, "hidden": 5, "nodes": 3},
    "pe8-dense-stream-only": {
        "pes": 8, "lanes": 2, "layers": 1, "classes": 5, "features": 3, "inputs": "multi-bit",
        "sparse_input": False,
    },
}  # fmt: skip
SPARSE = {"sparse_input": True}


def job(name: str, draws: int = 16) -> UnitRun:
    design = random_design(31, **{"nodes": NODES, **SPARSE, **DESIGNS[name]})
    walked = [step.in_channels for step in design.passes if step.front == "combine_buffer"]
    spec = design.manifest.input
    ones = design.sparse_input and design.input_record.find("value") is None
    settings = {
        "nodes": design.capacity.nodes,
        "draws": draws,
        "sparse": design.sparse_input,
        "x_range": (1, 1) if ones else code_range(spec.bits, spec.signed),
        "record": [(field.name, field.bits, field.low) for field in design.input_record.fields],
        "stream_inputs": design.passes[0].in_channels,
        "walk_inputs": max(walked, default=0),
    }
    return unit_run("combination_unit", design, settings)


@pytest.mark.parametrize("name", list(DESIGNS))
def test_designs_on_icarus(name: str, tmp_path: Path) -> None:
    run_unit(job(name), "icarus", tmp_path)


def test_power_up_states_on_verilator(tmp_path: Path) -> None:
    run_unit(job("pe2-lanes3-deep"), "verilator", tmp_path)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        # The stream.
        ("word_valid && !finished_reg", "word_valid"),
        ("source_valid && !hold;", "source_valid;"),
        ("word_ready = take && !from_buffer", "word_ready = take"),
        ("!source_valid && !finished_reg &&", "!source_valid &&"),
        ("!finished_reg && !hold", "!finished_reg"),
        ("assign starved         = active && ", "assign starved         = "),
        ("finished_reg <= 1'b0", "finished_reg <= finished_reg"),
        ("source_end && step_last_chunk", "source_end"),
        ("? walked_end : word_final", "? walked_end : walked_end"),
        ("from_buffer ? row_reg[0] : input_slot", "row_reg[0]"),
        # Weights.
        ("step_last_chunk ? { {", "step_last_chunk ? ~{ {"),
        ("base_reg + {", "base_reg - {"),
        ("chunk_reg    <= {CHUNK_BITS{1'b0}}", "chunk_reg    <= chunk_reg"),
        ("base_reg     <= { ", "base_reg     <= ~{ "),
        # The walk.
        ("rows_left_reg <= fetch_row_reg != last_row", "rows_left_reg <= 1'b1"),
        ("last_input - fetch_index_reg < WORD_STEP", "last_input - fetch_index_reg <= WORD_STEP"),
        ("walked_last || lane_reg == LAST_LANE", "lane_reg == LAST_LANE"),
        ("walked_last && row_reg == last_row", "walked_last"),
        ("walked_node < ", "walked_node <= "),
        ("walk_parity = fetch_row_reg[0]", "walk_parity = row_reg[0]"),
        ("walked_word = row_reg[0]", "walked_word = !row_reg[0]"),
        ("fetch_base_reg + STRIDE", "fetch_base_reg - STRIDE"),
        ("walk_valid_reg  <= 1'b0", "walk_valid_reg  <= walk_valid_reg"),
    ],
)
def test_a_planted_fault_is_found(old: str, new: str, tmp_path: Path) -> None:
    expect_failure_of(mutated(job("pe2-lanes3-deep"), old, new), tmp_path)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("word_final != walked_end", "word_final && !walked_end"),
        ("word_final != walked_end", "!word_final && walked_end"),
        ("row_reg      <= {ROW_BITS{1'b0}}", "row_reg      <= row_reg"),
        ("here && walked_last", "walked_last"),
        ("= {row_reg, PE_WIDE[", "= {row_reg, ~PE_WIDE["),
    ],
)
def test_a_planted_fault_with_complete_rows_is_found(old: str, new: str, tmp_path: Path) -> None:
    expect_failure_of(mutated(job("pe2-dense"), old, new), tmp_path)
