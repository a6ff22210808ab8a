"""Delay lines of many shapes: every delay that they have, gaps, resets."""

from pathlib import Path

import pytest

from sgq_hw.render import render_unit
from tests.rtl.attention_units import delay_line
from tests.rtl.unit_runs import UnitRun, expect_failure_of, mutated, run_unit

SHAPES = {
    "smallest": (1, 4),
    "small": (5, 8),
    "typical": (67, 32),
    "deep": (9, 128),
    "wide": (1030, 16),
}
"""Name to the bits of a word and the words of the memory."""


def job(name: str) -> UnitRun:
    parameters = delay_line(*SHAPES[name])
    return UnitRun("delay_line", render_unit("delay_line", parameters), parameters)


@pytest.mark.parametrize("name", list(SHAPES))
def test_shapes_on_icarus(name: str, tmp_path: Path) -> None:
    run_unit(job(name), "icarus", tmp_path)


@pytest.mark.parametrize("name", ["smallest", "typical"])
def test_power_up_states_on_verilator(name: str, tmp_path: Path) -> None:
    run_unit(job(name), "verilator", tmp_path)


def test_a_line_takes_its_shape_from_its_parameters(tmp_path: Path) -> None:
    # Lines of a design share a module; the width of the delay follows from the depth.
    parameters = delay_line(20, 16)
    texts = render_unit("delay_line", delay_line(3, 4))
    run = UnitRun("delay_line", texts, parameters, parameters=parameters)
    run_unit(run, "icarus", tmp_path)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("SHORTEST = 2", "SHORTEST = 1"),
        ("place_reg + 1'b1 - delay", "place_reg - delay"),
        ("place_reg + 1'b1;", "place_reg + in_valid;"),
        ("{1'b0, waiting_reg[DEPTH-3:1]}", "{waiting_reg[0], waiting_reg[DEPTH-3:1]}"),
        ("waiting_reg[DEPTH-3:1]} | entry", "waiting_reg[DEPTH-3:1]}"),
        (".we    (in_valid)", ".we    (in_valid && place_reg != 3'd5)"),
        (".re    (waiting_reg[0])", ".re    (valid_reg)"),
        ("        waiting_reg <= {(DEPTH-2){1'b0}};\n", ""),
        ("        valid_reg   <= 1'b0;\n", ""),
        ("        place_reg   <= {DELAY_BITS{1'b0}};\n", ""),
    ],
)
def test_a_planted_fault_is_found(old: str, new: str, tmp_path: Path) -> None:
    expect_failure_of(mutated(job("small"), old, new), tmp_path)
