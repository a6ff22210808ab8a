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

DESIGNS: dict[str, dict[str, object]] = {
    "lanes1": {"lanes": 1, "inputs": "binary", "max_bits": 4, "bias": False},
    "lanes3": {"lanes": 3, "max_bits": 16, "bias": True},
    "lanes16": {"lanes": 16, "max_bits": 8, "multipliers": ["channel"]},
}
DRAWS = 40


def job(name: str, addend_factor: int = 0) -> UnitRun:
    design = random_design(11, **DESIGNS[name])
    settings: dict[str, object] = {
        "accumulator": max(step.bound.accumulator for step in design.passes),
        "draws": DRAWS,
    }
    if addend_factor:
        settings |= addend_parameters(design, addend_factor)
    plain = unit_run("requantize", design, settings)
    texts = render(design, "unit", unit="requantize", addend_factor=addend_factor)
    return replace(plain, texts=texts)


@pytest.mark.parametrize("name", list(DESIGNS))
def test_formats_on_icarus(name: str, tmp_path: Path) -> None:
    run_unit(job(name), "icarus", tmp_path)


@pytest.mark.parametrize("simulator", SIMULATORS)
def test_with_an_addend(simulator: Simulator, tmp_path: Path) -> None:
    run_unit(job("lanes3", addend_factor=5), simulator, tmp_path)


def test_with_a_negative_addend(tmp_path: Path) -> None:
    run_unit(job("lanes1", addend_factor=-3), "icarus", tmp_path)


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
