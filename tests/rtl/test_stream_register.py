"""The stream register: every pause pattern crossed, full rate, resets."""

from pathlib import Path

import pytest

from tests.rtl.unit_runs import (
    UnitRun,
    expect_failure_of,
    mutated,
    random_design,
    run_unit,
    unit_run,
)

UNIT = "stream_register"


def job(stream_bits: int) -> UnitRun:
    return unit_run(UNIT, random_design(1, stream_bits=stream_bits, lanes=2, layers=1))


@pytest.mark.parametrize("stream_bits", [32, 256])
def test_on_icarus(stream_bits: int, tmp_path: Path) -> None:
    run_unit(job(stream_bits), "icarus", tmp_path)


def test_on_verilator(tmp_path: Path) -> None:
    run_unit(job(64), "verilator", tmp_path)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("fire || !out_valid_reg", "fire && !out_valid_reg"),
        ("spare_valid_reg || accept", "spare_valid_reg && accept"),
        ("out_valid_reg && m_axis_tready", "out_valid_reg || m_axis_tready"),
        ("assign s_axis_tready                = ready_reg",
         "assign s_axis_tready                = ready_reg || m_axis_tready"),
    ],
)  # fmt: skip
def test_a_planted_fault_is_found(old: str, new: str, tmp_path: Path) -> None:
    expect_failure_of(mutated(job(32), old, new), tmp_path)
