"""The front end of aggregations: edge words, with and without values and empty rows."""

from pathlib import Path

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

NODES = 11
DESIGNS: dict[str, dict[str, object]] = {
    "pe1-factored": {"normalisation": "factored", "self_loops": True, "lanes": 4, "hidden": 7},
    "pe1-edge-bubbles": {"normalisation": "edge", "self_loops": False, "lanes": 2, "hidden": 9},
    "pe1-one-node": {"nodes": 1, "lanes": 3, "normalisation": "factored", "self_loops": False},
    "pe2-edge": {
        "pes": 2, "normalisation": "edge", "self_loops": False, "lanes": 2, "hidden": 9,
    },
    "pe2-one-chunk": {"pes": 2, "normalisation": "factored", "self_loops": True, "lanes": 16},
    "pe8-edge": {
        "pes": 8, "normalisation": "edge", "lanes": 5, "max_bits": 16, "hidden": 12, "nodes": 21,
    },
    "pes2-streamed": {
        "pes": 2, "normalisation": "edge", "lanes": 3, "max_bits": 4, "hidden": 5, "streamed": True,
    },
    "streamed": {"normalisation": "factored", "lanes": 4, "streamed": True},
    "pe8-few-nodes": {"pes": 8, "normalisation": "factored", "lanes": 2, "nodes": 3},
}  # fmt: skip


ATTENTION = (
    "gat", "gat-heads", "gat-lanes3", "gat-streamed", "gat-windows", "mixed", "mixed-edges",
    "agnn", "agnn-last", "agnn-last-streamed",
)  # fmt: skip
"""Networks of `tests.attention_designs`."""


def job(name: str, draws: int = 12) -> UnitRun:
    if name in ATTENTION:
        design = design_of(name)
    else:
        options: dict[str, object] = {"nodes": NODES, "layers": 2, **DESIGNS[name]}
        nodes = options["nodes"]
        assert isinstance(nodes, int)
        # As many words as the fullest graph takes, with a record in each, and what is loosened.
        room = {"edges": nodes * nodes, "row_edges": nodes, "edge_words": 2 * nodes**2}
        design = random_design(41, **options, capacity=room)
    last, lanes = design.manifest.layers[-1], design.lanes
    settings = {
        "draws": draws,
        "nodes": design.capacity.nodes,
        "has_gat": design.has_gat,
        # A single PE sends the words of cosines as they are finished.
        "whole_records": design.pes == 1 and last.kind == "agnn" and last.out_channels > lanes,
        "CHUNKS": max(step.chunks for step in design.passes if step.front == "aggregate"),
        "streamed": design.streamed,
        "has_bubbles": design.edge_record.find("valid") is not None,
        "record": [(field.name, field.bits, field.low) for field in design.edge_record.fields],
    }
    return unit_run("aggregation_unit", design, settings)


@pytest.mark.parametrize("name", [*DESIGNS, *ATTENTION])
def test_designs_on_icarus(name: str, tmp_path: Path) -> None:
    run_unit(job(name), "icarus", tmp_path)


def test_power_up_states_on_verilator(tmp_path: Path) -> None:
    run_unit(job("pe2-edge"), "verilator", tmp_path)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("base_reg + STRIDE", "base_reg - STRIDE"),
        ("base_reg       <= {OPERAND_ADDR_BITS{1'b0}}", "base_reg       <= base_reg"),
        ("fetched_reg + 1'b1", "fetched_reg + 2'd2"),
        ("fetched_reg    <= {EDGE", "fetched_reg    <= fetched_reg | {EDGE"),
        ("word_valid_reg && !hold", "word_valid_reg"),
        ("word_valid_reg <= 1'b0", "word_valid_reg <= word_valid_reg"),
        ("assign step_valid      = active && ", "assign step_valid      = "),
        ("chunk_reg == last_chunk", "chunk_reg >= last_chunk - 1'b1"),
        ("word_final_reg && step_last_chunk", "word_final_reg"),
        ("fetched_next == num_words", "fetched_reg == num_words"),
        ("step_mac[pe]  = edge_valid", "step_mac[pe]  = 1'b1"),
        ("step_slot[pe] = edge_slot", "step_slot[pe] = !edge_slot"),
        ("edge_data[pe*RECORD_BITS", "edge_data[(PES-1-pe)*RECORD_BITS"),
    ],
)
def test_a_planted_fault_is_found(old: str, new: str, tmp_path: Path) -> None:
    expect_failure_of(mutated(job("pe2-edge", 6), old, new), tmp_path)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("more && word_valid && !hold", "active && word_valid && !hold"),
        ("left_reg - 1'b1", "left_reg"),
        ("left_reg       <= num_words", "left_reg       <= num_words - 1'b1"),
        ("more && !word_valid && !hold", "more && !word_valid"),
        ("assign word_ready      = take", "assign word_ready      = step_valid"),
    ],
)
def test_a_planted_fault_in_streaming_is_found(old: str, new: str, tmp_path: Path) -> None:
    expect_failure_of(mutated(job("pes2-streamed", 6), old, new), tmp_path)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("score_reg ? last_score_chunk : last_chunk", "score_reg ? last_chunk : last_score_chunk"),
        ("score_reg <= has_scores && !score_reg", "score_reg <= !score_reg"),
        ("score_reg <= has_scores && !score_reg", "score_reg <= has_scores"),
        ("score_reg      <= has_scores", "score_reg      <= 1'b0"),
        ("score_reg      <= has_scores", "score_reg      <= score_reg && has_scores"),
        ("chunk_reg == last_chunk && !score_reg", "chunk_reg == last_chunk"),
        ("step_score      = score_reg", "step_score      = !score_reg"),
        ("base_reg  <= part_end ?", "base_reg  <= step_last_chunk ?"),
        ("chunk_reg <= part_end ?", "chunk_reg <= step_last_chunk ?"),
    ],
)
def test_a_planted_fault_of_scores_is_found(old: str, new: str, tmp_path: Path) -> None:
    expect_failure_of(mutated(job("gat-heads", 6), old, new), tmp_path)


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("agnn-last", "hold && chunk_reg ==", "hold && chunk_reg !="),
        ("agnn-last", "!stop;", "!hold;"),
        ("agnn-last", "word_valid_reg && !stop;", "word_valid_reg;"),
        ("agnn-last-streamed", "!word_valid && !stop", "!word_valid"),
        ("agnn-last-streamed", "&& word_valid && !stop", "&& word_valid && !hold"),
    ],
)
def test_a_planted_fault_of_whole_records_is_found(
    name: str, old: str, new: str, tmp_path: Path
) -> None:
    expect_failure_of(mutated(job(name, 6), old, new), tmp_path)
