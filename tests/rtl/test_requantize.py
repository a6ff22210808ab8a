"""The epilogue equals its golden function on every corner, with and without an addend."""

from dataclasses import replace
from pathlib import Path

import pytest

from sgq_hw.render import addend_parameters, render
from sgq_hw.sim.runner import Simulator
from tests.rtl.unit_runs import (
    SIMULATORS,
    UnitRun,
    expect_failure_of,
    mutated,
    random_design,
    run_unit,
    unit_run,
)

WINDOWS: dict[str, object] = {"layers": 2, "nodes": 12, "windows": True}
DESIGNS: dict[str, dict[str, object]] = {
    "lanes1": {"lanes": 1, "inputs": "binary", "max_bits": 4, "bias": False},
    "lanes3": {"lanes": 3, "max_bits": 16, "bias": True},
    "lanes16": {"lanes": 16, "max_bits": 8, "multipliers": ["channel"]},
    "windows2": {"lanes": 3, "max_bits": 16, "bias": True, **WINDOWS, "buckets": 2},
    "windows8": {"lanes": 2, "max_bits": 6, "pes": 4, **WINDOWS, "buckets": 8},
}
DRAWS = 40


def job(name: str, factor_bits: int = 0) -> UnitRun:
    design = random_design(11, **DESIGNS[name])
    settings: dict[str, object] = {
        "accumulator": max(step.bound.accumulator for step in design.passes),
        "word_limits": design.buckets > 1,
        "draws": DRAWS,
    }
    changes: dict[str, object] = {}
    if factor_bits:
        settings |= addend_parameters(design, factor_bits)
        changes = {"has_addend": True, **addend_parameters(design, factor_bits)}
    plain = unit_run("requantize", design, settings)
    return replace(plain, texts=render(design, "unit", unit="requantize", changes=changes))


@pytest.mark.parametrize("name", list(DESIGNS))
def test_formats_on_icarus(name: str, tmp_path: Path) -> None:
    run_unit(job(name), "icarus", tmp_path)


@pytest.mark.parametrize("simulator", SIMULATORS)
@pytest.mark.parametrize("name", ["lanes3", "windows2"])
def test_with_an_addend(name: str, simulator: Simulator, tmp_path: Path) -> None:
    run_unit(job(name, factor_bits=5), simulator, tmp_path)


@pytest.mark.parametrize(("name", "factor_bits"), [("lanes1", 1), ("lanes1", 16), ("windows8", 9)])
def test_widths_of_the_addend(name: str, factor_bits: int, tmp_path: Path) -> None:
    run_unit(job(name, factor_bits), "icarus", tmp_path)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("product_total + bias_total", "product_total - bias_total"),
        ("total_reg + $signed(half)", "total_reg - $signed(half)"),
        ("shifted_reg < low", "shifted_reg < low - 1"),
        ("shifted_reg > high", "shifted_reg > high + 1"),
        (">>> shift", ">> shift"),
        ("valid_s3_reg <= 1'b0", "valid_s3_reg <= valid_s2_reg"),
        ("(one << shift) >> 1", "one << (shift - 1'b1)"),
    ],
)
def test_a_planted_fault_is_found(old: str, new: str, tmp_path: Path) -> None:
    expect_failure_of(mutated(job("lanes3"), old, new), tmp_path)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("shift_s2_reg <= shift_s1_reg", "shift_s2_reg <= in_shift"),
        ("(one << shift_s1_reg) >> 1", "(one << shift_s2_reg) >> 1"),
        ("(one << shift_s1_reg) >> 1", "one << (shift_s1_reg - 1'b1)"),
        ("low_s3_reg   <= low_s2_reg", "low_s3_reg   <= low_s1_reg"),
        ("high_s2_reg  <= high_s1_reg", "high_s2_reg  <= in_high"),
        ("limit_low  = low_s3_reg", "limit_low  = low_s2_reg"),
        ("limit_high = high_s3_reg", "limit_high = low_s3_reg"),
    ],
)
def test_a_planted_fault_of_windows_is_found(old: str, new: str, tmp_path: Path) -> None:
    expect_failure_of(mutated(job("windows2"), old, new), tmp_path)


@pytest.mark.parametrize("name", ["lanes3", "windows2"])
@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("bias_total + scaled_total", "bias_total"),
        ("bias_total + scaled_total", "bias_total - scaled_total"),
        ("{FACTOR_BITS{addend[ADDEND_BITS-1]}}", "{FACTOR_BITS{1'b0}}"),
        ("{ADDEND_BITS{1'b0}}, add", "{ADDEND_BITS{addend_factor[FACTOR_BITS-1]}}, add"),
        ("(TOTAL_BITS-SCALED_BITS){scaled_reg[SCALED_BITS-1]}", "(TOTAL_BITS-SCALED_BITS){1'b0}"),
        ("in_addend[lane*ADDEND_BITS +:", "in_addend[0 +:"),
    ],
)  # fmt: skip
def test_a_planted_fault_of_the_addend_is_found(
    name: str, old: str, new: str, tmp_path: Path
) -> None:
    expect_failure_of(mutated(job(name, factor_bits=5), old, new), tmp_path)
