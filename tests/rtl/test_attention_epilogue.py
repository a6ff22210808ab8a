"""The epilogue of attention equals its golden function on every corner, hubs and windows too."""

from pathlib import Path

import pytest

from tests.rtl.attention_units import attention_epilogue, unit_job
from tests.rtl.unit_runs import UnitRun, expect_failure_of, mutated, run_unit

CASES = {
    # lanes, edges of a row, bits of a weight, magnitude, bits of the bias, largest shift, out bits
    "typical": (4, 4096, 8, 127, 26, 20, 8),
    "one neighbour": (1, 1, 1, 1, 19, 4, 2),
    "wide": (2, 60, 12, 4096, 30, 29, 16),
    "narrow": (8, 30, 4, 15, 24, 17, 3),
}
DRAWS = 60


def job(name: str) -> UnitRun:
    lanes, row_edges, att_bits, magnitude, bias_bits, largest_shift, out_bits = CASES[name]
    parameters = attention_epilogue(
        lanes, row_edges, att_bits, magnitude, bias_bits, largest_shift, out_bits
    )
    return unit_job(
        "attention_epilogue", parameters, draws=DRAWS, magnitude=magnitude,
        largest_den=row_edges * ((1 << att_bits) - 1), largest_shift=largest_shift,
    )  # fmt: skip


@pytest.mark.parametrize("name", list(CASES))
def test_formats_on_icarus(name: str, tmp_path: Path) -> None:
    run_unit(job(name), "icarus", tmp_path)


def test_power_up_states_on_verilator(tmp_path: Path) -> None:
    run_unit(job("typical"), "verilator", tmp_path)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("bias_wide + half", "bias_wide - half"),
        ("bias, 1'b0 }", "bias, 1'b1 }"),
        ("aligned = {product_reg, 1'b0}", "aligned = {product_reg, 1'b1}"),
        ("aligned = aligned >>>", "aligned = aligned >>"),
        ("aligned_wide + constant_s2_reg", "aligned_wide + constant_s1_reg"),
        ("shifted = total_reg >>> 1", "shifted = total_reg >> 1"),
        ("shifted = shifted >>>", "shifted = shifted >>"),
        ("place = EXPONENT_BITS - 1", "place = EXPONENT_BITS - 2"),
        ("shift_reg[(LATENCY-3)*SHIFT_BITS +:", "shift_reg[0 +:"),
        ("shifted_reg < low", "shifted_reg < low - 1"),
        ("shifted_reg > high", "shifted_reg > high + 1"),
        ("low_reg[(LATENCY-2)*OUT_BITS +:", "low_reg[0 +:"),
        ("valid_reg <= {LATENCY{1'b0}}", "valid_reg[0] <= 1'b0"),
    ],
)
def test_a_planted_fault_is_found(old: str, new: str, tmp_path: Path) -> None:
    expect_failure_of(mutated(job("narrow"), old, new), tmp_path)


def test_a_mean_above_its_proved_width_is_caught(tmp_path: Path) -> None:
    narrower = job("narrow")
    parameters = {**narrower.settings, "ALIGNED_BITS": narrower.settings["ALIGNED_BITS"] - 2}
    faulty = unit_job("attention_epilogue", parameters)
    log = expect_failure_of(faulty, tmp_path)
    assert "num * R left its proved width" in log
