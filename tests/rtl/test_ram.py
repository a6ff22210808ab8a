"""Memories of many shapes: a bit wide, a word deep, as wide as 64 lanes."""

from pathlib import Path

import pytest

from sgq_hw.design import address_bits
from sgq_hw.render import render
from tests.rtl.unit_runs import UnitRun, expect_failure_of, mutated, random_design, run_unit

SHAPES = [(1, 2, "auto"), (8, 16, "auto"), (37, 33, "block"), (1024, 5, "auto"), (6, 1, "auto")]


def job(width: int, depth: int, style: str = "auto", collide: bool = False) -> UnitRun:
    design = random_design(61, lanes=4, nodes=40, graph="random")
    top = f"sgq_ram_{style}"
    text = render(design, "unit", unit="requantize")[f"{top}.v"]
    shape = {"WIDTH": width, "DEPTH": depth, "ADDR_BITS": address_bits(depth)}
    return UnitRun(
        "ram", {f"{top}.v": text}, {**shape, "collide": collide}, top=top, parameters=shape
    )


@pytest.mark.parametrize(("width", "depth", "style"), SHAPES)
def test_shapes_on_icarus(width: int, depth: int, style: str, tmp_path: Path) -> None:
    run_unit(job(width, depth, style), "icarus", tmp_path)


def test_power_up_states_on_verilator(tmp_path: Path) -> None:
    run_unit(job(70, 45, "block"), "verilator", tmp_path)


def test_a_read_of_the_written_address_is_caught(tmp_path: Path) -> None:
    log = expect_failure_of(job(8, 16, collide=True), tmp_path)
    assert "SGQ_CHECK" in log
    assert "address 0 read and written in one cycle" in log


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("mem[waddr] <= wdata", "mem[waddr] <= ~wdata"),
        ("if (re)", "if (re || we)"),
        ("rdata_reg <= mem[raddr]", "rdata_reg <= mem[raddr ^ 1'b1]"),
    ],
)
def test_a_planted_fault_is_found(old: str, new: str, tmp_path: Path) -> None:
    expect_failure_of(mutated(job(8, 16), old, new), tmp_path)
