"""AGNN's logits equal their golden function, for rows in one slot and in two."""

from pathlib import Path

import pytest

from tests.rtl.attention_units import agnn_scores, unit_job
from tests.rtl.unit_runs import UnitRun, expect_failure_of, mutated, run_unit

CASES = {
    # lanes, channels, low, high, bits of a factor and of a mantissa, trials a cycle, slots,
    # bits of a feature (0: as few as possible)
    "one-slot": (4, 11, 0, 255, 12, 12, 2, 1, 0),
    "two-slots": (4, 11, -128, 127, 12, 12, 3, 2, 8),
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
    "one-feature": ["chunks", "tie"],
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
        ("{in_slot, in_chunk}", "{1'b0, in_chunk}"),
        ("{in_slot, in_chunk}", "{in_slot, {CHUNK_BITS{1'b0}}}"),
        ("in_chunk == {CHUNK_BITS{1'b0}}", "in_last_chunk"),
        ("(start ? {SQUARE_BITS{1'b0}} : sum_square_reg)", "{SQUARE_BITS{1'b0}}"),
        ("if (valid_reg[SUM_LATENCY-1]) begin", "if (1'b1) begin"),
        ("own_wide * other_wide", "other_wide * other_wide"),
        ("{(SUM_BITS-WIDTH){dot_reg[WIDTH-1]}}", "{(SUM_BITS-WIDTH){1'b0}}"),
        ("dots[(2*node+2)*SUM_BITS +: WIDTH]", "dots[(2*node+1)*SUM_BITS +: WIDTH]"),
        ("LEVELS - level;", "1;"),
        ("first_reg ? factor_reg : kept_factor", "kept_factor"),
        ("slot_reg ? exponent1_reg : exponent0_reg", "exponent0_reg"),
        ("first_reg && slot_reg)", "slot_reg)"),
        ("beta[BETA_BITS-1] ? -{1'b1, beta}", "1'b0 ? -{1'b1, beta}"),
        ("{1'b0, row_exponent} + {1'b0, exponent_reg}", "{1'b0, row_exponent} << 1"),
        ("1'b0}}, aligned_reg[FRACTION-1] }", "1'b0}}, 1'b0 }"),
        ("        valid_reg <= {SUM_LATENCY{1'b0}}", "        valid_reg[0] <= 1'b0"),
    ],
)
def test_a_planted_fault_is_found(old: str, new: str, tmp_path: Path) -> None:
    expect_failure_of(mutated(job("two-slots"), old, new), tmp_path)


def test_a_product_above_its_proved_width_is_lost(tmp_path: Path) -> None:
    """The proof is tight: 8-bit features use all but two of the bits that it grants."""
    wide = job("two-slots")
    parameters = {**wide.settings, "PRODUCT_BITS": wide.settings["PRODUCT_BITS"] - 3}
    expect_failure_of(unit_job("agnn_scores", parameters), tmp_path)
