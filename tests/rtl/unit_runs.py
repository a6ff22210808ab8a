"""Runs of the unit benches: one rendered unit, a bench `sim/cocotb_<unit>.py`, two simulators.

Icarus starts every register at X. Verilator starts them at random values, a run for each of
`SEEDS`, all of one build.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sgq_hw.design import Design
from sgq_hw.generate import design_for
from sgq_hw.render import parameters, render
from sgq_hw.sim.bench import SETTINGS_VARIABLE
from sgq_hw.sim.runner import (
    COVERAGE_VARIABLE,
    Build,
    RunResult,
    SimulationError,
    Simulator,
    build,
    run,
)
from tests.random_networks import random_bundle

SIMULATORS: tuple[Simulator, ...] = ("icarus", "verilator")
SEEDS = (1, 2, 3)
ONE_SEED_AND_THE_OTHERS = pytest.mark.parametrize(
    "seeds",
    [pytest.param(SEEDS[:1], id="one"), pytest.param(SEEDS[1:], id="more", marks=pytest.mark.full)],
)
"""For benches that are long: the small matrix has one power-up state."""
TIMEOUT_SECONDS = 300
REWRITTEN = {"COCOTB_REWRITE_ASSERTION_FILES": "cocotb_*.py"}
"""cocotb lets pytest rewrite the assertions of every module that is imported, NumPy and SciPy too,
which costs 2 s a run. The benches are enough."""
FIRST_FAILURE = {"COCOTB_MAX_FAILURES": "1"}
"""A fault is found as soon as one test fails; the others need not run."""
DESIGN_OPTIONS = ("pes", "streamed", "lanes", "stream_bits", "sparse_input", "rom", "capacity",
                  "inputs_on_chip")  # fmt: skip


@cache
def _design(seed: int, options: str) -> Design:
    chosen = json.loads(options)
    drawing = {name: value for name, value in chosen.items() if name not in DESIGN_OPTIONS}
    sizing = {name: value for name, value in chosen.items() if name in DESIGN_OPTIONS}
    return design_for(random_bundle(np.random.default_rng(seed), **drawing), **sizing)


def random_design(seed: int, **options: Any) -> Design:
    """Return the design of a random network; options of `random_bundle` and `design_for`."""
    return _design(seed, json.dumps(options, sort_keys=True))


@dataclass(frozen=True)
class UnitRun:
    """One unit as it is built, and what its bench is told.

    Attributes:
        unit: Name of the unit and of its bench.
        texts: File name to Verilog text.
        settings: For the bench; the unit's parameters are in it.
        top: Verilog module, `sgq_<unit>` unless it is given.
        parameters: Verilog parameters that differ from the text's.
        files: Further files in the folder where the simulation runs, name to text.
        testcase: Only this test of the bench.
    """

    unit: str
    texts: Mapping[str, str]
    settings: Mapping[str, Any]
    top: str = ""
    parameters: Mapping[str, int] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    testcase: str | None = None


def unit_run(unit: str, design: Design, settings: Mapping[str, Any] | None = None) -> UnitRun:
    """Return the run of a unit of a design; the bench gets all of the design's parameters."""
    texts = render(design, "unit", unit=unit)
    known = {"windows": design.buckets > 1, **parameters(design)}
    return UnitRun(unit, texts, {**known, **(settings or {})})


def _build(job: UnitRun, simulator: Simulator, folder: Path) -> Build:
    """Write the Verilog and build it, once for each content."""
    sources = folder / "rtl"
    sources.mkdir(parents=True, exist_ok=True)
    for name, text in job.texts.items():
        (sources / name).write_text(text)
    return build(
        [sources / name for name in job.texts],
        job.top or f"sgq_{job.unit}",
        simulator=simulator,
        parameters=job.parameters,
        defines={"SGQ_CHECKS": "1"},
        lint=COVERAGE_VARIABLE not in os.environ,
    )


def _run(
    job: UnitRun, built: Build, folder: Path, seed: int, env: Mapping[str, str] = {}
) -> RunResult:
    """Run the bench; power-up values follow the seed, or are X on Icarus."""
    test_dir = folder / "run"
    test_dir.mkdir(parents=True, exist_ok=True)
    for name, text in job.files.items():
        (test_dir / name).write_text(text)
    return run(
        built,
        module=f"sgq_hw.sim.cocotb_{job.unit}",
        test_dir=test_dir,
        env={SETTINGS_VARIABLE: json.dumps(job.settings), **REWRITTEN, **env},
        seed=seed,
        random_init=True,
        timeout_seconds=TIMEOUT_SECONDS,
        testcase=job.testcase,
    )


def run_unit(
    job: UnitRun, simulator: Simulator, folder: Path, seeds: tuple[int, ...] = SEEDS
) -> None:
    """Run all tests of a bench: once on Icarus, from each random power-up state on Verilator.

    While coverage is counted every bench runs on Verilator, which counts it, and once.
    """
    if COVERAGE_VARIABLE in os.environ:
        simulator, seeds = "verilator", seeds[:1]
    built = _build(job, simulator, folder)
    for seed in seeds if simulator == "verilator" else seeds[:1]:
        result = _run(job, built, folder, seed)
        assert not result.failed, (simulator, seed, result.messages, result.log)


def mutated(job: UnitRun, old: str, new: str) -> UnitRun:
    """Return the run with every `old` in its Verilog replaced by `new`."""
    assert any(old in text for text in job.texts.values()), f"{job.unit}: no '{old}'"
    texts = {name: text.replace(old, new) for name, text in job.texts.items()}
    return replace(job, texts=texts)


def failure_of(job: UnitRun, simulator: Simulator, folder: Path) -> tuple[str, str]:
    """Run a bench up to its first failure.

    Returns:
        What it complains of, "" if all is well, and its log.

    Raises:
        SourceError: the Verilog is not legal.
    """
    built = _build(job, simulator, folder)
    try:
        result = _run(job, built, folder, SEEDS[0], FIRST_FAILURE)
    except SimulationError as error:  # a check in the Verilog ended the simulation
        return str(error), error.log.read_text()
    reason = result.messages[0] if result.failed else ""
    return reason, result.log.read_text()


def expect_failure_of(job: UnitRun, folder: Path) -> str:
    """Run a faulty unit or bench on Icarus, which must be reported as failed; return its log."""
    reason, log = failure_of(job, "icarus", folder)
    assert reason, f"{job.unit}: the planted fault was not found, see {folder}"
    return log
