"""Builds: what makes one fail, and a cache that several processes use at once."""

import multiprocessing
import os
import subprocess
import sys
import time
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path

import pytest

from sgq_hw.errors import ToolError
from sgq_hw.sim.runner import Build, Simulator, build
from tests.sim.designs import COUNTER, write


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
    tolerated = build([counter], "counter", simulator=simulator, lint=False)
    assert "arning" in (tolerated.folder / "build.log").read_text()


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


def _build_in_process(source: Path, answers: Connection) -> None:
    built = build([source], "counter", simulator="verilator")
    answers.send((built.folder, built.cached))


def _start(source: Path) -> tuple[SpawnProcess, Connection]:
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    worker = context.Process(target=_build_in_process, args=(source, sender))
    worker.start()
    sender.close()
    return worker, receiver


def test_concurrent_builds(fresh_cache: Path, counter: Path) -> None:
    other = write(counter.parent / "other" / "counter.v", COUNTER + "// another\n")
    workers = [_start(source) for source in (counter, counter, other)]
    answers = [receiver.recv() for _, receiver in workers]
    for worker, _ in workers:
        worker.join()
        assert worker.exitcode == 0
    (first, one), (second, two), (third, three) = answers
    assert first == second != third
    assert (one + two, three) == (1, False)
    assert not list(fresh_cache.glob("*.tmp"))


def test_an_interrupted_build_is_done_again(fresh_cache: Path, counter: Path) -> None:
    worker, _ = _start(counter)
    while not list(fresh_cache.glob("verilator-*.tmp/build.log")):
        assert worker.is_alive()
        time.sleep(0.01)
    worker.kill()
    worker.join()
    assert list(fresh_cache.glob("verilator-*.tmp"))
    built = build([counter], "counter", simulator="verilator")
    assert not built.cached
    assert (built.folder / "simulation").is_file()
    assert not list(fresh_cache.glob("*.tmp"))


def test_a_plain_script_in_another_folder(
    counter: Path, repository_root: Path, simulator: Simulator
) -> None:
    script = (
        "import sys\nfrom pathlib import Path\n"
        f"sys.path.insert(0, {str(repository_root)!r})\n"
        "from sgq_hw.sim.runner import build, run\n"
        f"built = build([Path('counter.v')], 'counter', simulator={simulator!r})\n"
        "print(run(built, module='counter_bench', test_dir=Path('here'), timeout_seconds=60,\n"
        "          python_path=[Path('benches')]).passed)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=counter.parent, capture_output=True, text=True,
        check=False, timeout=120,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "4\n", "")
