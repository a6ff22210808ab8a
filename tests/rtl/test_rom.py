"""Read-only memories give back the image that the packer's writer wrote."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sgq_hw.design import address_bits
from sgq_hw.host import pack_words
from sgq_hw.render import render
from sgq_hw.words import hex_lines
from tests.rtl.unit_runs import UnitRun, expect_failure_of, mutated, random_design, run_unit

SHAPES = [(1, 1), (5, 7), (16, 64), (300, 37)]
IMAGE = "image.hex"


def job(width: int, depth: int, style: str = "auto") -> UnitRun:
    design = random_design(71, lanes=4, nodes=40, graph="random", layers=1, rom=True)
    top = f"sgq_rom_{style}"
    text = render(design, "unit", (40, design.capacity.edges, 0), unit="requantize")[f"{top}.v"]
    bits = np.random.default_rng([width, depth]).integers(0, 2, (depth, width))
    image = hex_lines(pack_words(bits, 1), width)
    shape = {"WIDTH": width, "DEPTH": depth, "ADDR_BITS": address_bits(depth)}
    plain = UnitRun(
        "rom", {f"{top}.v": text}, {**shape, "image": image}, top=top, parameters=shape,
        files={IMAGE: "\n".join(image) + "\n"},
    )  # fmt: skip
    # A string is no parameter that every simulator takes from outside.
    return mutated(plain, 'INIT_FILE = ""', f'INIT_FILE = "{IMAGE}"')


@pytest.mark.parametrize(("width", "depth"), SHAPES)
def test_shapes_on_icarus(width: int, depth: int, tmp_path: Path) -> None:
    run_unit(job(width, depth, "block" if depth > 32 else "auto"), "icarus", tmp_path)


def test_power_up_states_on_verilator(tmp_path: Path) -> None:
    run_unit(job(67, 50, "block"), "verilator", tmp_path)


def test_a_wrong_digit_is_found(tmp_path: Path) -> None:
    right = job(16, 64)
    lines = list(right.settings["image"])
    lines[-1] = f"{int(lines[-1], 16) ^ 0x100:04x}"
    expect_failure_of(replace(right, files={IMAGE: "\n".join(lines) + "\n"}), tmp_path)


@pytest.mark.parametrize(
    ("old", "new"), [("if (re)", "if (!re)"), ("mem[raddr]", "mem[raddr ^ 1'b1]")]
)
def test_a_planted_fault_is_found(old: str, new: str, tmp_path: Path) -> None:
    expect_failure_of(mutated(job(16, 64), old, new), tmp_path)
