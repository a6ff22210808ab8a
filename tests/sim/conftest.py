"""Fixtures of the simulation tests."""

import re
from pathlib import Path

import pytest

from sgq_hw.errors import ToolError
from sgq_hw.sim.cache import cache_root
from sgq_hw.sim.runner import Simulator, build
from sgq_hw.sim.tools import find_icarus, find_verilator
from tests.sim.designs import BENCH, COUNTER, write

SIMULATORS: tuple[Simulator, ...] = ("verilator", "icarus")


def require(simulator: Simulator) -> None:
    try:
        find_verilator() if simulator == "verilator" else find_icarus()
    except ToolError as error:
        pytest.skip(str(error))


@pytest.fixture(params=SIMULATORS)
def simulator(request: pytest.FixtureRequest) -> Simulator:
    found: Simulator = request.param
    require(found)
    return found


@pytest.fixture
def counter(tmp_path: Path) -> Path:
    write(tmp_path / "benches" / "counter_bench.py", BENCH)
    return write(tmp_path / "counter.v", COUNTER)


@pytest.fixture
def fresh_cache(tmp_path: Path, counter: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, except for what belongs to the tools and takes long to make."""
    require("verilator")
    build([counter], "counter", simulator="verilator")
    fresh = tmp_path / "cache" / "sim"
    fresh.mkdir(parents=True)
    for folder in cache_root().iterdir():
        if folder.is_dir() and not re.match(r"(verilator|icarus)-|.*\.tmp$", folder.name):
            (fresh / folder.name).symlink_to(folder)
    monkeypatch.setenv("SGQ_HW_CACHE", str(tmp_path / "cache"))
    return fresh
