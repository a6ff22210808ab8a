"""A bench that cannot fail proves nothing: each planted fault makes cosim exit 1."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from sgq_hw.bundle import save_bundle
from sgq_hw.generate import generate
from sgq_hw.graphs import load_graph
from sgq_hw.quantize.config import uniform_config
from sgq_hw.quantize.pipeline import quantize
from sgq_hw.train import train


@pytest.fixture(scope="module", params=[(1, 16), (4, 5)], ids=["1-pe", "4-pes"])
def pristine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    pes, lanes = request.param
    folder = tmp_path_factory.mktemp("faults")
    graph = load_graph("karate")
    trained = train(graph, epochs=20)
    save_bundle(folder / "q.npz", quantize(trained, graph, uniform_config(4, 2)))
    return generate(folder / "q.npz", folder / "rtl", pes=pes, lanes=lanes).folder


@pytest.fixture
def design(pristine: Path, tmp_path: Path) -> Path:
    target = tmp_path / "rtl"
    subprocess.run(["cp", "-r", str(pristine), str(target)], check=True)
    return target


def run(design: Path) -> tuple[int, dict[str, object], str]:
    report = design.parent / "cosim.json"
    command = [sys.executable, "-m", "sgq_hw", "cosim", str(design), "--json", str(report)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    return done.returncode, json.loads(report.read_text()), done.stdout


def expect_fault(design: Path) -> str:
    status, data, output = run(design)
    assert status == 1
    assert data["equal"] is False
    assert isinstance(data["mismatches"], int)
    assert data["mismatches"] > 0
    assert "reproduce with: sgq-hw cosim" in output
    return output


def change_digit(path: Path, line: int, column: int) -> None:
    lines = path.read_text().splitlines()
    old = lines[line]
    digit = "0" if old[column] != "0" else "1"
    lines[line] = old[:column] + digit + old[column + 1 :]
    path.write_text("\n".join(lines) + "\n")


def test_the_pristine_design_is_equal(design: Path) -> None:
    status, data, output = run(design)
    assert (status, data["equal"], data["mismatches"]) == (0, True, 0)
    assert "RTL equals golden model on every word" in output


def test_a_wrong_golden_word(design: Path) -> None:
    path = sorted((design / "golden").glob("results*.hex"))[-1]
    lines = path.read_text().splitlines()
    change_digit(path, len(lines) // 2, len(lines[len(lines) // 2]) - 1)
    assert f"golden/{path.name}" in expect_fault(design)


@pytest.mark.parametrize("place", ["first", "middle", "last"])
@pytest.mark.parametrize("image", ["load.hex", "input.hex"])
def test_a_wrong_digit_of_an_image(design: Path, image: str, place: str) -> None:
    path = design / "images" / image
    lines = path.read_text().splitlines()
    line = {"first": 0, "middle": len(lines) // 2, "last": len(lines) - 1}[place]
    change_digit(path, line, len(lines[line]) // 2)
    expect_fault(design)


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("sgq_requantize.v", "product_total + bias_total", "product_total - bias_total"),
        ("sgq_mac_array.v", "base + term", "base | term"),
        ("sgq_requantize.v", "acc_wide * multiplier_wide", "acc_wide + multiplier_wide"),
        ("sgq_mac_array.v", "row_reg + 1'b1", "row_reg - 1'b1"),
        ("sgq_pass_sequencer.v", "pass_reg != LAST_PASS", "pass_reg == LAST_PASS"),
    ],
)
def test_a_wrong_operator(design: Path, file: str, old: str, new: str) -> None:
    path = design / "rtl" / file
    text = path.read_text()
    assert text.count(old) >= 1
    path.write_text(text.replace(old, new))
    expect_fault(design)
