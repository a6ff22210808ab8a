"""The one place that builds and runs simulations.

A simulation is built once for each content (`build`) and run many times (`run`): other data, other
seeds, other power-up states. Both are safe in several processes at once, and print nothing.
"""

import os
import re
import signal
import subprocess
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from xml.etree import ElementTree

from sgq_hw.errors import SgqError
from sgq_hw.sim.cache import cache_key, cached_folder, content_hash
from sgq_hw.sim.embedding import cocotb_environment, cocotb_libraries
from sgq_hw.sim.tools import IcarusTool, VerilatorTool, find_icarus, find_verilator
from sgq_hw.sim.verilate import (
    COMPILER_FLAGS,
    MAIN_SOURCE,
    MODEL_SOURCE,
    PROGRAM,
    VERILATOR_FLAGS,
    WAIVERS,
    complaint,
    execute,
    verilate,
)

__all__ = [
    "Build",
    "IcarusTool",
    "RunResult",
    "SimulationError",
    "Simulator",
    "VerilatorTool",
    "build",
    "find_icarus",
    "find_verilator",
    "run",
]

Simulator = Literal["verilator", "icarus"]

ICARUS_FLAGS = ("-g2005", "-Wall")
ICARUS_PROGRAM = "simulation.vvp"
WAVES_MODULE = "sgq_hw_waves"
TAIL_LINES = 30
MAX_SEED = 2**31 - 1
COVERAGE_VARIABLE = "SGQ_HW_COVERAGE"
"""Environment variable with a folder, for `make cover`. Verilator's builds then count lines and
toggles, and each run leaves there its counts (`.dat`) and the place of its sources (`.src`)."""

_PARAMETER_RANGE = range(-(2**31), 2**31)
_ERROR_LINE = re.compile(r"%Error|^(ERROR|FATAL): \S+:\d+:", re.MULTILINE)


class SimulationError(SgqError):
    """A simulation that came to no verdict: it crashed, was stopped, or ran no test.

    Attributes:
        log: What the simulator and the benches printed.
        tail: The last lines of it.
    """

    def __init__(self, message: str, log: Path, tail: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.log = log
        self.tail = list(tail)
        self.add_note(f"{log}, last lines:\n" + "\n".join(tail))


@dataclass(frozen=True, slots=True)
class Build:
    """A simulation that can be run.

    Attributes:
        folder: In the cache: sources, program, `build.log`.
        top: Top module.
        simulator: Which simulator it was built for.
        waves: Whether its runs write a waveform.
        coverage: Whether its runs count lines and toggles.
        cached: Whether it was found in the cache.
        seconds: Wall time that `build` took.
    """

    folder: Path
    top: str
    simulator: Simulator
    waves: bool
    coverage: bool
    cached: bool
    seconds: float


@dataclass(frozen=True, slots=True)
class RunResult:
    """The verdict of a run.

    Attributes:
        passed, failed: Number of cocotb tests.
        messages: `test: reason` for each failed test.
        seconds: Wall time.
        log: What the simulator and the benches printed.
        waves: The waveform, if the build writes one.
    """

    passed: int
    failed: int
    messages: list[str]
    seconds: float
    log: Path
    waves: Path | None


def build(
    sources: Sequence[Path],
    top: str,
    *,
    simulator: Simulator,
    parameters: Mapping[str, int] = {},
    defines: Mapping[str, str] = {},
    waves: bool = False,
    assertions: bool = True,
    lint: bool = True,
    visible: Sequence[str] = ("*",),
    clock: str | None = None,
) -> Build:
    """Build a simulation, or find it in the cache.

    The cache is keyed by the contents of all that goes in and by the versions of the tools. The
    build holds copies of the sources, so that editing the originals cannot change it.

    Args:
        sources: Verilog files; those ending in `.vh` or `.svh` can be included by the others.
        top: Top module. On Verilator cocotb sees its signals and parameters, nothing below.
        simulator: `verilator` or `icarus`.
        parameters: Of the top module.
        defines: Preprocessor macros, name to value.
        waves: Let every run write a waveform.
        assertions: Check SystemVerilog assertions.
        lint: Refuse Verilog that the simulator warns about.
        visible: Signals of the top module that cocotb sees on Verilator; the others may be
            optimised away, and logic that reads them is spared a look in every step.
        clock: An input of the top module that Verilator's main program toggles every nanosecond.
            Waits for signals may then end up to 2048 cycles late; waits for a time do not.

    Raises:
        ToolError: no usable simulator.
        SourceError: it has an error or (with `lint`) a warning; notes hold all of it.
        ValueError: two sources of one name, a parameter beyond 32 bits, or a `clock` on Icarus.
    """
    start = time.perf_counter()
    if clock is not None and simulator == "icarus":
        raise ValueError("Icarus has no main program of ours: the clock is made in Verilog there")
    contents = _read_sources(sources)
    if any(value not in _PARAMETER_RANGE for value in parameters.values()):
        raise ValueError(f"parameters beyond 32 bits are not portable: {dict(parameters)}")
    key: dict[str, object] = {
        "sources": [[name, content_hash(text)] for name, text in contents.items()],
        "top": top,
        "parameters": {name: int(value) for name, value in parameters.items()},
        "defines": dict(defines),
        "waves": waves,
        "assertions": assertions,
        "lint": lint,
        "visible": list(visible),
        "clock": clock,
    }
    coverage = simulator == "verilator" and COVERAGE_VARIABLE in os.environ
    if coverage:
        key["coverage"] = True
    tool = find_verilator() if simulator == "verilator" else find_icarus()
    key["tool"] = tool.identity
    if isinstance(tool, VerilatorTool):
        key["flags"] = [*VERILATOR_FLAGS, *COMPILER_FLAGS]
        key["files"] = [
            content_hash(path.read_bytes()) for path in (MAIN_SOURCE, MODEL_SOURCE, WAIVERS)
        ]
        key["libraries"] = str(cocotb_libraries())  # the program holds this path
    else:
        key["flags"] = ICARUS_FLAGS

    def fill(folder: Path) -> None:
        (folder / "src").mkdir()
        for name, text in contents.items():
            (folder / "src" / name).write_bytes(text)
        files = [f"src/{name}" for name in contents if not name.endswith((".vh", ".svh"))]
        options = [f"-D{name}={value}" for name, value in defines.items()] + ["-Isrc"]
        if isinstance(tool, VerilatorTool):
            options += [f"-G{name}={int(value)}" for name, value in parameters.items()]
            options += ["--assert" if assertions else "--no-assert"]
            options += [] if lint else ["-Wno-fatal"]
            verilate(
                tool, folder, files, top, options=options, visible=visible, clock=clock,
                waves=waves, coverage=coverage, cocotb_libraries=cocotb_libraries(),
            )  # fmt: skip
        else:
            options += [f"-P{top}.{name}={int(value)}" for name, value in parameters.items()]
            options += ["-gassertions" if assertions else "-gno-assertions"]
            output = _compile_icarus(tool, folder, files, top, options, waves)
            if lint and output.strip():  # Icarus has no way to make warnings fatal
                raise complaint(tool.executable.name, output)

    folder, cached = cached_folder(f"{simulator}-{cache_key(key)}", fill)
    return Build(folder, top, simulator, waves, coverage, cached, time.perf_counter() - start)


def run(
    build: Build,
    *,
    module: str,
    test_dir: Path,
    plusargs: Sequence[str] = (),
    env: Mapping[str, str] = {},
    seed: int = 0,
    random_init: bool = False,
    timeout_seconds: float | None,
    testcase: str | None = None,
    python_path: Sequence[Path] = (),
) -> RunResult:
    """Run the tests of a cocotb module.

    The simulation runs in `test_dir`, where it finds its data files and leaves
    `simulation_<seed>.log`, `results_<seed>.xml` and its waveform. Several runs, also at the same
    time, may share a folder if their seeds differ and they write no waveforms.

    Args:
        build: The simulation.
        module: Name of the Python module with the tests.
        test_dir: Working folder; made if it does not exist.
        plusargs: Arguments that Verilog reads with `$value$plusargs`.
        env: Environment variables, on top of this process's own.
        seed: Of cocotb's random numbers, of `$random`, and of the power-up values.
        random_init: Start registers and memories at random values instead of 0. Icarus always
            starts them at X.
        timeout_seconds: Stop after this time.
        testcase: Run only the tests of this name, with all of their parameters.
        python_path: Further folders in which Python modules are found.

    Returns:
        What passed and what failed.

    Raises:
        SimulationError: the simulator crashed, `$error` or `$fatal` was called, the time was over,
            or no test was executed.
        ToolError: cocotb or a shared library of Python is missing.
    """
    test_dir = test_dir.absolute()
    test_dir.mkdir(parents=True, exist_ok=True)
    log, results = test_dir / f"simulation_{seed}.log", test_dir / f"results_{seed}.xml"
    results.unlink(missing_ok=True)
    environment = cocotb_environment(
        top=build.top, module=module, results=results, seed=seed, testcase=testcase,
        python_path=python_path, env=env,
    )  # fmt: skip
    if build.simulator == "verilator":
        # As cocotb's own runner has it: Verilator applies writes at the right moment by itself.
        environment["COCOTB_TRUST_INERTIAL_WRITES"] = "1"
        # Without a seed of its own, or with 0, Verilator would draw one.
        command = [str(build.folder / PROGRAM), f"+verilator+seed+{seed % MAX_SEED + 1}"]
        command += ["+verilator+rand+reset+2"] if random_init else []
        command += _count_into(build) if build.coverage else []
    else:
        library = cocotb_libraries() / "libcocotbvpi_icarus.so"
        # -n: $stop ends the simulation instead of waiting for a person.
        command = [str(find_icarus().simulator), "-n", "-m", str(library)]
        command += [str(build.folder / ICARUS_PROGRAM), "-fst" if build.waves else "-none"]
    start = time.perf_counter()
    status = _call([*command, *plusargs], test_dir, environment, log, timeout_seconds)
    seconds = time.perf_counter() - start
    _check_end(status, log, results, build.simulator)
    passed, messages = _read_results(results)
    if passed + len(messages) == 0:
        raise SimulationError(f"{module}: no test was executed", log, _tail(log))
    waves = test_dir / ("dump.vcd" if build.simulator == "verilator" else "dump.fst")
    return RunResult(passed, len(messages), messages, seconds, log, waves if build.waves else None)


def _count_into(build: Build) -> list[str]:
    folder = Path(os.environ[COVERAGE_VARIABLE]).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    name = uuid.uuid4().hex
    (folder / f"{name}.src").write_text(str(build.folder), encoding="utf-8")
    return [f"+verilator+coverage+file+{folder / name}.dat"]


def _read_sources(sources: Sequence[Path]) -> dict[str, bytes]:
    contents: dict[str, bytes] = {}
    for path in sources:
        if path.name in contents:
            raise ValueError(f"two sources are named {path.name}")
        contents[path.name] = path.read_bytes()
    return contents


def _compile_icarus(
    tool: IcarusTool,
    folder: Path,
    files: Sequence[str],
    top: str,
    options: Sequence[str],
    waves: bool,
) -> str:
    command = [str(tool.executable), *ICARUS_FLAGS, *options, "-o", ICARUS_PROGRAM, "-s", top]
    if waves:
        text = (
            f"`timescale 1ns / 1ps\nmodule {WAVES_MODULE};\ninitial begin\n"
            f'    $dumpfile("dump.fst");\n    $dumpvars(0, {top});\nend\nendmodule\n'
        )
        (folder / f"{WAVES_MODULE}.v").write_text(text, encoding="utf-8")
        command += ["-s", WAVES_MODULE, f"{WAVES_MODULE}.v"]
    return execute([*command, *files], folder, os.environ)


def _call(
    command: Sequence[str],
    folder: Path,
    environment: Mapping[str, str],
    log: Path,
    timeout_seconds: float | None,
) -> int:
    with log.open("wb") as stream, subprocess.Popen(
        command, cwd=folder, env=dict(environment), stdin=subprocess.DEVNULL, stdout=stream,
        stderr=subprocess.STDOUT,
    ) as process:  # fmt: skip
        try:
            return process.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            raise SimulationError(
                f"the simulation was stopped after {timeout_seconds:g} s", log, _tail(log)
            ) from None
        finally:
            process.kill()  # does nothing to one that has ended


def _check_end(status: int, log: Path, results: Path, simulator: Simulator) -> None:
    text = log.read_text(encoding="utf-8", errors="replace")
    # After $error Icarus goes on and ends with status 0.
    complained = simulator == "icarus" and _ERROR_LINE.search(text) is not None
    if status == 0 and results.is_file() and not complained:
        return
    lines = [line for line in text.splitlines() if line.strip()]
    said = next((line for line in lines if _ERROR_LINE.search(line)), (lines or ["nothing"])[-1])
    how = "without results"
    if status < 0:
        how = f"by {signal.Signals(-status).name}"
    elif status > 0:
        how = f"with status {status}"
    elif complained:
        how = "after an error"
    raise SimulationError(f"the simulation ended {how}: {said.strip()}", log, _tail(log))


def _read_results(results: Path) -> tuple[int, list[str]]:
    passed, messages = 0, []
    for case in ElementTree.parse(results).iter("testcase"):
        bad = [element for kind in ("failure", "error") for element in case.iter(kind)]
        if bad:
            reason = bad[0].get("message") or bad[0].text or "failed"
            messages.append(f"{case.get('name')}: {reason}")
        elif case.find("skipped") is None:
            passed += 1
    return passed, messages


def _tail(log: Path) -> list[str]:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return [line for line in lines if line.strip()][-TAIL_LINES:]
