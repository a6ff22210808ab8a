"""AGNN's logits equal their golden function, for rows in one slot and in two."""

from pathlib import Path

import pytest

from tests.rtl.attention_units import agnn_scores, unit_job
from tests.rtl.unit_runs import UnitRun, expect_failure_of, mutated, run_unit

CASES = {
    # lanes, channels, low, high, bits of a factor and of a mantissa, trials a cycle, slots,
    # bits of a feature (0: as few as possible)
    "one-slot": (4, 11, -128, 127, 12, 12, 2, 1, 8),
    "two-slots": (4, 11, 0, 255, 12, 12, 3, 2, 0),
    "one-word": (3, 3, -2, 1, 4, 3, 3, 2, 2),
    "one-lane": (1, 5, -1, 1, 2, 2, 1, 1, 0),
    "one-feature": (2, 1, 0, 1, 3, 2, 1, 2, 0),
    "wide": (16, 40, 0, 4095, 16, 9, 4, 2, 14),
    "odd": (5, 64, -32, 31, 8, 9, 9, 1, 7),
}
DRAWS = 40
ABSENT = {
    "one-slot": ["change of slot", "tie"],
    "two-slots": ["tie"],
    "one-word": ["chunks"],
    "one-lane": ["change of slot"],
    "one-feature": ["chunks"],
    "wide": ["tie"],
    "odd": ["change of slot", "tie"],
}
"""Corners that a case does not have; ties are rare but with few bits."""


def job(name: str, draws: int = DRAWS) -> UnitRun:
    lanes, channels, low, high, beta_bits, norm_bits, steps, slots, feature_bits = CASES[name]
    magnitude = max(-low, high)
    parameters = agnn_scores(
        lanes, channels, magnitude, beta_bits, norm_bits, steps, slots, feature_bits
    )
    return unit_job(
        "agnn_scores", parameters, channels=channels, low=low, high=high, magnitude=magnitude,
        draws=draws, absent=ABSENT.get(name, []),
    )  # fmt: skip


@pytest.mark.parametrize("name", list(CASES))
def test_logits_on_icarus(name: str, tmp_path: Path) -> None:
    run_unit(job(name), "icarus", tmp_path)


def test_power_up_states_on_verilator(tmp_path: Path) -> None:
    run_unit(job("two-slots"), "verilator", tmp_path)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("own_reg ? word_reg : kept_word", "kept_word"),
        ("own_reg  <= in_first", "own_reg  <= own_reg"),
        ("{in_slot, in_chunk}", "{1'b0, in_chunk}"),
        ("{in_slot, in_chunk}", "{in_slot, {CHUNK_BITS{1'b0}}}"),
        ("in_valid && in_first)", "in_valid)"),
        ("in_chunk == {CHUNK_BITS{1'b0}}", "in_last_chunk"),
        ("{start_reg[SUM_LATENCY-2:0]", "{{SUM_LATENCY-1{in_chunk == 0}}"),
        ("(start ? {DOT_BITS{1'b0}} : sum_dot_reg)", "sum_dot_reg"),
        ("(start ? {SQUARE_BITS{1'b0}} : sum_square_reg)", "{SQUARE_BITS{1'b0}}"),
        ("if (valid_reg[SUM_LATENCY-1]) begin", "if (1'b1) begin"),
        ("valid_reg[SUM_LATENCY-1] && end_reg[SUM_LATENCY-1]", "valid_reg[SUM_LATENCY-1]"),
        ("{ {FEATURE_BITS{own[FEATURE_BITS-1]}}, own }", "{ {FEATURE_BITS{1'b0}}, own }"),
        ("own_wide * other_wide", "other_wide * other_wide"),
        ("other_wide * other_wide", "own_wide * other_wide"),
        ("{(SUM_BITS-WIDTH){dot_reg[WIDTH-1]}}", "{(SUM_BITS-WIDTH){1'b0}}"),
        ("dots[(2*node+2)*SUM_BITS +: WIDTH]", "dots[(2*node+1)*SUM_BITS +: WIDTH]"),
        ("LEVELS - level;", "1;"),
        ("first_reg ? factor_reg : kept_factor", "kept_factor"),
        ("first_reg ? exponent_reg : kept_exponent", "kept_exponent"),
        ("slot_reg ? factor1_reg : factor0_reg", "!slot_reg ? factor1_reg : factor0_reg"),
        ("slot_reg ? exponent1_reg : exponent0_reg", "exponent0_reg"),
        ("first_reg && slot_reg)", "slot_reg)"),
        ("product_valid_reg[0] && first_reg && !slot", "first_reg && !slot"),
        ("{ {NORM_BITS{beta[BETA_BITS-1]}}, beta }", "{ {NORM_BITS{1'b0}}, beta }"),
        ("beta[BETA_BITS-1] ? -{1'b1, beta}", "1'b0 ? -{1'b1, beta}"),
        ("<< index_shift) >> 1", "<< index_shift)"),
        ("aligned = aligned >>>", "aligned = aligned >>"),
        ("step = NORM_EXPONENT_BITS; step", "step = NORM_EXPONENT_BITS - 1; step"),
        ("{1'b0, row_exponent} + {1'b0, exponent_reg}", "{1'b0, row_exponent} << 1"),
        ("1'b0}}, aligned_reg[FRACTION-1] }", "1'b0}}, 1'b0 }"),
        ("scaled_reg        <= dot_wide", "scaled_reg        <= scaled_reg ^ dot_wide"),
        ("        product_valid_reg <= 4'd0", "        product_valid_reg[0] <= 1'b0"),
        ("        valid_reg <= {SUM_LATENCY{1'b0}}", "        valid_reg[0] <= 1'b0"),
        ("    if (rst) begin\n        sum_valid_reg <= 1'b0;\n    end\n", ""),
    ],
)
def test_a_planted_fault_is_found(old: str, new: str, tmp_path: Path) -> None:
    expect_failure_of(mutated(job("two-slots"), old, new), tmp_path)


def test_a_product_above_its_proved_width_is_lost(tmp_path: Path) -> None:
    """The proof is tight: the widest formats need the bits that it grants, but two."""
    wide = job("two-slots")
    parameters = {**wide.settings, "PRODUCT_BITS": wide.settings["PRODUCT_BITS"] - 3}
    expect_failure_of(unit_job("agnn_scores", parameters), tmp_path)
