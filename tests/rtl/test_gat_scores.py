"""Logits of GAT: one, two and all heads of a word a cycle, records of one word and of several."""

from pathlib import Path
from typing import Any

import pytest

from tests.rtl.attention_units import gat_scores, unit_job
from tests.rtl.unit_runs import UnitRun, expect_failure_of, mutated, run_unit

PASSES = 6
CASES: dict[str, dict[str, Any]] = {
    "one of eight": {"lanes": 8, "head_lanes": 1, "chunks": 1},
    "one of three, words": {"lanes": 3, "head_lanes": 1, "chunks": 3},
    "two of four, words": {"lanes": 4, "head_lanes": 2, "chunks": 4, "score_bits": 8},
    "two of six": {"lanes": 6, "head_lanes": 2, "chunks": 1, "slope_code": 0, "slope_shift": 3},
    "all": {"lanes": 4, "head_lanes": 4, "chunks": 1, "slope_code": 64},
    "all, words": {"lanes": 2, "head_lanes": 2, "chunks": 5, "score_bits": 16},
    "one lane": {"lanes": 1, "head_lanes": 1, "chunks": 3, "slope_code": 1, "slope_shift": 0},
    "few heads": {"lanes": 8, "head_lanes": 1, "chunks": 1, "heads": 2},
    "a word and a head": {"lanes": 4, "head_lanes": 2, "chunks": 2, "heads": 5, "chunk_bits": 3},
}


def job(name: str) -> UnitRun:
    case = CASES[name]
    heads = case.get("heads", case["lanes"] * case["chunks"])
    events = ["words", "gaps"] if case["chunks"] > 1 else []
    events += ["few heads"] if case["head_lanes"] > 1 else []
    return unit_job("gat_scores", gat_scores(**case), heads=heads, events=events, passes=PASSES)


@pytest.mark.parametrize("name", list(CASES))
def test_records_on_icarus(name: str, tmp_path: Path) -> None:
    run_unit(job(name), "icarus", tmp_path)


@pytest.mark.parametrize("name", ["two of four, words", "all, words"])
def test_power_up_states_on_verilator(name: str, tmp_path: Path) -> None:
    run_unit(job(name), "verilator", tmp_path)


WALK = "two of four, words"
THREE = "one of three, words"
STRAIGHT = "all, words"


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        (WALK, "busy_reg && word_reg <= come_reg", "busy_reg"),
        (WALK, "come_reg <= in_chunk[", "come_reg <= come_reg | in_chunk["),
        (WALK, "    if (in_valid) begin\n        tag_reg", "    begin\n        tag_reg"),
        (WALK, "word_target[part_reg*PART_WIDE", "word_target[0"),
        (WALK, "word_reg  <= {WORD_ADDR{1'b0}};", "word_reg  <= word_reg;"),
        (WALK, "if (word_end) begin", "begin"),
        (THREE, "word_end ? {PART_BITS{1'b0}} : ", ""),
        (WALK, "group_reg != last_group", "group_reg != {GROUP_BITS{1'b1}}"),
        (WALK, "group_reg <= {GROUP_BITS{1'b0}};", "group_reg <= {GROUP_BITS{step}};"),
        (WALK, "busy_reg  <= 1'b1;", "busy_reg  <= !step;"),
        (WALK, "{s[SCORE_BITS-1], s} + {most[SCORE_BITS-1], most}", "{1'b0, s} + {1'b0, most}"),
        (WALK, "{s[SCORE_BITS-1], s} + {t[", "{t[SCORE_BITS-1], t} + {t["),
        (WALK, "{top[LOGIT_BITS-1], top} + half", "{1'b0, top} + half"),
        (WALK, "<< index_shift) >> 1", ">> 1) << index_shift"),
        (WALK, "busy_reg <= 1'b0;", "busy_reg <= busy_reg;"),
        (WALK, "sum_valid_reg <= 1'b0;", "sum_valid_reg <= step;"),
        (WALK, "valid_out_reg <= 1'b0;", "valid_out_reg <= leaky_valid;"),
        (WALK, "({sum_group_reg, sum_tag_reg})", "({sum_group_reg, tag_reg})"),
        (STRAIGHT, "start ? {GROUP_BITS{1'b0}} : group_reg + 1'b1", "group_reg + 1'b1"),
        (STRAIGHT, "    if (in_valid) begin\n        group_reg", "    begin\n        group_reg"),
        (STRAIGHT, "valid_reg <= 1'b0;", "valid_reg <= in_valid;"),
    ],
)  # fmt: skip
def test_a_planted_fault_is_found(name: str, old: str, new: str, tmp_path: Path) -> None:
    expect_failure_of(mutated(job(name), old, new), tmp_path)
