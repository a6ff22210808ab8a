"""Trials on real worker processes: local ones and Dask's, some killed on the way."""

import os
import signal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from sgq_hw.errors import InputError, SgqError, ToolError
from sgq_hw.search import executors
from sgq_hw.search.baselines import RandomSearch
from sgq_hw.search.loop import run_trials
from sgq_hw.search.space import Point
from sgq_hw.search.trial import Outcome, Trial
from tests.search_objectives import SPACE, ReversedWorkers, Separable, journal_at

TRIALS = 40
STRATEGY = RandomSearch(SPACE, 0)


def die(_: Point) -> Outcome:
    """Stand for a worker that runs out of memory."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def fail(_: Point) -> Outcome:
    """Stand for a fault of the program."""
    raise ZeroDivisionError("a fault")


def expected(tmp_path: Path) -> list[Trial]:
    with journal_at(tmp_path / "expected.jsonl") as journal:
        return run_trials(
            STRATEGY, Separable(), ReversedWorkers(), journal, TRIALS, lambda _: None
        )


def recorded_ids(path: Path) -> list[int]:
    lines = path.read_bytes().splitlines()[1:]
    return [msgspec.json.decode(line, type=Trial).id for line in lines]


def test_local_processes(tmp_path: Path) -> None:
    path = tmp_path / "trials.jsonl"
    with executors.local_workers(2) as workers, journal_at(path) as journal:
        found = run_trials(
            STRATEGY, Separable(0.01), workers, journal, TRIALS, lambda _: None
        )
        assert found == expected(tmp_path)
        with pytest.raises(ZeroDivisionError, match="a fault"):
            run_trials(STRATEGY, fail, workers, journal, TRIALS + 1, lambda _: None)
        with pytest.raises(ToolError, match="a worker process died"):
            run_trials(STRATEGY, die, workers, journal, TRIALS + 1, lambda _: None)
    assert sorted(recorded_ids(path)) == list(range(TRIALS))


def test_a_dask_worker_is_killed(tmp_path: Path) -> None:
    """Its trials run again elsewhere: none is lost, none is recorded twice."""
    from distributed import LocalCluster

    path, log = tmp_path / "trials.jsonl", tmp_path / "calls"
    seen: list[Trial] = []
    with LocalCluster(  # type: ignore[no-untyped-call]
        n_workers=2, threads_per_worker=1, processes=True, host="127.0.0.1",
        dashboard_address=":0",
    ) as cluster:  # fmt: skip
        victim = next(iter(cluster.workers.values())).process.pid

        def watch(trial: Trial) -> None:
            seen.append(trial)
            if len(seen) == 5:
                os.kill(victim, signal.SIGKILL)

        with (
            executors.dask_workers(cluster.scheduler_address) as workers,
            journal_at(path) as journal,
        ):
            found = run_trials(STRATEGY, Separable(0.1, log), workers, journal, TRIALS, watch)
            again = run_trials(STRATEGY, fail, workers, journal, TRIALS, lambda _: None)
            with pytest.raises(ZeroDivisionError, match="a fault"):
                run_trials(STRATEGY, fail, workers, journal, TRIALS + 1, lambda _: None)
    assert again == found  # all read, none measured
    with pytest.raises(ProcessLookupError):
        os.kill(victim, 0)
    assert found == expected(tmp_path)
    assert sorted(recorded_ids(path)) == list(range(TRIALS))
    assert sorted(trial.id for trial in seen) == list(range(TRIALS))
    assert set(log.read_text().splitlines()) == {str(trial.point) for trial in found}


def test_a_missing_scheduler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executors, "CONNECT_SECONDS", 0.5)
    for address in ("tcp://127.0.0.1:9", "nothing://127.0.0.1:9"):
        with (
            pytest.raises(InputError, match=f"--dask: {address}: no Dask scheduler"),
            executors.dask_workers(address),
        ):
            pass


def test_missing_optional_dependencies() -> None:
    with pytest.raises(SgqError, match=r"no_such_module is not installed: pip install 'sgq-hw\["):
        executors.require_extra("json", "no_such_module")


def test_trials_that_cannot_be_built(monkeypatch: pytest.MonkeyPatch) -> None:
    """Deliberate errors are outcomes; any other is raised."""
    from sgq_hw.quantize import pipeline
    from sgq_hw.search import trial

    error: Exception = InputError("layer 0: too\nwide")

    def refuse(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(pipeline, "quantize", refuse)
    monkeypatch.setattr(trial, "_load", lambda _: (None, None))
    monkeypatch.setattr(trial, "config_of", lambda *_: None)
    evaluate = trial.NetworkTrial(SPACE, ("gcn", "gcn"), b"", 1)
    outcome = evaluate((0, 0, 0, 0, 0))
    assert (outcome.measured, outcome.failure) == (None, "layer 0: too wide")
    error = ZeroDivisionError("a fault")
    with pytest.raises(ZeroDivisionError):
        evaluate((0, 0, 0, 0, 0))
