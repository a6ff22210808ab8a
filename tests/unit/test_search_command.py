"""`sgq-hw search` as users call it: kills, the winner's bundle, refusals."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from sgq_hw.cli import main
from sgq_hw.search.journal import open_journal

TRIALS, EPOCHS = 12, 10
SEARCH = f"search karate --trials {TRIALS} --epochs {EPOCHS} --max-drop 13"


@pytest.fixture(scope="module")
def environment(repository_root: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(repository_root), "OMP_NUM_THREADS": "1"}


def command(arguments: str) -> list[str]:
    return [sys.executable, "-m", "sgq_hw", *arguments.split()]


def run(folder: Path, environment: dict[str, str], arguments: str) -> str:
    done = subprocess.run(
        command(arguments), cwd=folder, env=environment, capture_output=True, text=True,
        check=True, timeout=120,
    )  # fmt: skip
    assert done.stderr == ""
    return done.stdout


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str]) -> Path:
    """A folder in which a search ran from start to end: `s`, `s.json`, `s.txt`."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "s.txt").write_text(run(folder, environment, f"{SEARCH} --jobs 2 -o s --json s.json"))
    return folder


def call(
    folder: Path, arguments: str, patch: pytest.MonkeyPatch, capture: pytest.CaptureFixture[str]
) -> tuple[int, str, str]:
    """Return exit code, stdout and stderr of the entry point, run in this process."""
    patch.setattr(sys, "argv", ["sgq-hw", *arguments.split()])
    patch.chdir(folder)
    with pytest.raises(SystemExit) as caught:
        main()
    assert isinstance(caught.value.code, int)
    return caught.value.code, *capture.readouterr()


def trial_lines(path: Path) -> list[dict[str, Any]]:
    """Return header and trials by id, without the time that each took."""
    header, *trials = [json.loads(line) for line in path.read_text().splitlines()]
    for trial in trials:
        assert trial["outcome"].pop("seconds") > 0
    return [header, *sorted(trials, key=lambda trial: int(trial["id"]))]


def children(pid: int) -> list[int]:
    """Return the processes that a process started, and those started by them."""
    direct: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        direct += map(int, (task / "children").read_text().split())
    return direct + [below for child in direct for below in children(child)]


def running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until(condition: Any, what: str) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.005)


def test_killed_and_called_again(
    finished: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    journal = tmp_path / "s" / "trials.jsonl"
    process = subprocess.Popen(
        command(f"{SEARCH} --jobs 2 -o s"), cwd=tmp_path, env=environment,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip

    def recorded() -> int:
        return journal.read_bytes().count(b"\n") if journal.is_file() else 0

    wait_until(lambda: recorded() >= 4, "no trials were recorded")
    workers = children(process.pid)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    before = journal.read_bytes()
    assert 4 <= recorded() < 1 + TRIALS
    assert workers
    wait_until(lambda: not any(map(running, workers)), "workers outlive the search")

    # How many workers there are makes no difference.
    stdout = run(tmp_path, environment, f"{SEARCH} --jobs 1 -o s")
    assert journal.read_bytes().startswith(before[: before.rfind(b"\n") + 1])
    assert trial_lines(journal) == trial_lines(finished / "s" / "trials.jsonl")
    assert stdout == (finished / "s.txt").read_text()
    for name in ("float.npz", "best.toml", "pareto.svg"):
        assert (tmp_path / "s" / name).read_bytes() == (finished / "s" / name).read_bytes(), name


def test_the_printed_command_gives_the_reported_accuracy(
    finished: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    result = json.loads((finished / "s.json").read_text())
    printed = (finished / "s.txt").read_text().splitlines()
    assert printed[-1] == result["command"]
    winner = result["winner"]
    assert winner["val_drop"] <= 13
    assert "test" not in json.dumps(result["front"])
    quantize = result["command"].removeprefix("sgq-hw ")
    assert call(finished, f"{quantize} --json quantize.json", monkeypatch, capfd)[0] == 0
    assert call(finished, "golden s/best.npz --json golden.json", monkeypatch, capfd)[0] == 0
    accuracy = json.loads((finished / "golden.json").read_text())["accuracy"]
    assert {name: accuracy[name] for name in ("val", "test")} == winner["accuracy"]
    figures = json.loads((finished / "quantize.json").read_text())
    assert winner["memory_bits"] == figures["charged_bits"]
    for name, value in winner["compression"].items():
        assert figures[name] == value


def test_no_winner(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """The answer is no: exit code 1, and no configuration is left."""
    folder = tmp_path / "s"
    folder.mkdir()
    header, *trials = (finished / "s" / "trials.jsonl").read_text().splitlines()
    poor = []
    for line in trials:
        trial = json.loads(line)
        trial["outcome"]["measured"]["val"] = 10.0
        poor.append(json.dumps(trial))
    (folder / "float.npz").write_bytes((finished / "s" / "float.npz").read_bytes())
    (folder / "trials.jsonl").write_text("\n".join([header, *poor]) + "\n")
    (folder / "best.toml").write_text("left over")
    code, stdout, stderr = call(tmp_path, f"{SEARCH} --trials 5 -o s", monkeypatch, capfd)
    assert (code, stderr) == (1, "")
    assert "no winner" in stdout
    assert not (folder / "best.toml").exists()


BAD_CALLS = [
    ("--max-drop nan", "--max-drop: nan is not a finite number"),
    ("--max-drop -1", "--max-drop: -1.0 is not"),
    ("--trials 0", "--trials: 0 is less than 1"),
    ("--epochs 0", "--epochs: 0 is less than 1"),
    ("--jobs 0", "--jobs: 0 is less than 1"),
    ("--jobs 1 --dask tcp://h:1", "give at most one of --jobs and --dask"),
    ("--method best", "'best' is not one of"),
    ("--method exhaustive", "--trials: exhaustive search takes 36000 here"),
    ("--method random", "belongs to another search: method differs (abs, now random)"),
    ("--max-drop 1", "max_drop differs (13.0, now 1.0)"),
    ("--seed 1", "float.npz: seed: 0, now 1; use another folder"),
    ("--hidden 8", "float.npz: hidden: 16, now 8; use another folder"),
    ("--model gat", "float.npz: model: gcn, now gat"),
]


@pytest.mark.parametrize(("option", "reason"), BAD_CALLS)
def test_refusals(
    finished: Path, option: str, reason: str, monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """One line, exit code 2, and the finished search stays as it is."""
    before = {path: path.read_bytes() for path in (finished / "s").iterdir()}
    code, stdout, stderr = call(finished, f"{SEARCH} -o s {option}", monkeypatch, capfd)
    assert (code, stdout) == (2, "")
    assert stderr.startswith("sgq-hw: error: ")
    assert stderr.count("\n") == 1
    assert reason in stderr
    assert {path: path.read_bytes() for path in (finished / "s").iterdir()} == before


def test_more_refusals(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    with open_journal(finished / "s" / "trials.jsonl"):
        code, _, stderr = call(finished, f"{SEARCH} -o s", monkeypatch, capfd)
    assert (code, "another search is running in this folder" in stderr) == (2, True)
    (tmp_path / "file").write_text("")
    code, _, stderr = call(tmp_path, f"{SEARCH} -o file", monkeypatch, capfd)
    assert (code, stderr.count("\n"), "cannot write" in stderr) == (2, 1, True)
    code, _, stderr = call(tmp_path, "search nowhere -o t", monkeypatch, capfd)
    assert (code, stderr.count("\n")) == (2, 1)
    assert not (tmp_path / "t").exists()
