"""Runs: every way in which one can end, and what its seed decides."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from sgq_hw.sim.runner import RunResult, SimulationError, Simulator, build, run
from tests.sim.designs import COUNTER, write


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
def test_a_broken_run_raises(run_counter: Callable[..., RunResult], kind: str, said: str) -> None:
    with pytest.raises(SimulationError, match=said) as caught:
        run_counter(env={"KIND": kind})
    assert "\n" not in str(caught.value)
    assert caught.value.tail
    assert caught.value.log.is_file()


@pytest.mark.parametrize("kind", ["3", "4"], ids=["stop", "finish"])
def test_hdl_cannot_end_a_run_unnoticed(run_counter: Callable[..., RunResult], kind: str) -> None:
    try:
        failed = run_counter(env={"KIND": kind}).failed
    except SimulationError:
        return
    assert failed > 0


def test_a_run_is_stopped_in_time(run_counter: Callable[..., RunResult]) -> None:
    with pytest.raises(SimulationError, match="stopped after 3 s"):
        run_counter(env={"KIND": "97"}, timeout_seconds=3)


def test_no_test_is_a_failure(run_counter: Callable[..., RunResult], counter: Path) -> None:
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
    text = COUNTER.replace("+ STEP[15:0]", "+ STEP[15:0] + `TAKEN")
    source = write(counter.parent / "more.v", '`include "more.vh"\n' + text)
    header = write(counter.parent / "more.vh", "`define TAKEN (16'd2 * `GIVEN)\n")
    built = build(
        [source, header], "counter", simulator=simulator, parameters={"STEP": -3},
        defines={"GIVEN": "16'd7"},
    )  # fmt: skip
    result = run(
        built, module="counter_bench", test_dir=counter.parent, timeout_seconds=120,
        testcase="counts", python_path=[counter.parent / "benches"],
        env={"EXPECTED_STEP": "11", "EXPECTED_PARAMETER": "-3"},
    )  # fmt: skip
    assert (result.passed, result.messages) == (2, [])


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

    first = [drawn(seed) for seed in (0, 1)]
    assert first == [drawn(seed) for seed in (0, 1)]


def test_power_up_values(run_counter: Callable[..., RunResult], simulator: Simulator) -> None:
    def unreset(**arguments: object) -> str:
        log = run_counter(testcase="shows", **arguments).log.read_text()
        found = re.search(r"UNRESET (\S+)", log)
        assert found
        return found[1]

    if simulator == "icarus":
        assert unreset(seed=1, random_init=True) == "X" * 32
        return
    values = [unreset(seed=seed, random_init=True) for seed in (1, 2, 3)]
    assert len(set(values)) == 3
    assert unreset(seed=2, random_init=True) == values[1]
    assert unreset(seed=2) == "0" * 32
