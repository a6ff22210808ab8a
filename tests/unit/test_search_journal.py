"""The journal: kills, other searches, damage, the lock, and resuming."""

from pathlib import Path

import msgspec
import pytest

from sgq_hw.errors import InputError
from sgq_hw.search.baselines import RandomSearch
from sgq_hw.search.journal import open_journal
from sgq_hw.search.loop import run_trials
from sgq_hw.search.trial import Outcome, Trial
from tests.search_objectives import SPACE, ReversedWorkers, Separable, journal_at

TRIALS = 40


def search(path: Path, seed: int = 0, trials: int = TRIALS) -> tuple[list[Trial], int]:
    """Run a random search; return its trials and how many were measured now."""
    workers = ReversedWorkers()
    with journal_at(path) as journal:
        found = run_trials(
            RandomSearch(SPACE, seed), Separable(), workers, journal, trials, lambda _: None
        )
    return found, len(workers.calls)


def test_a_finished_search_is_only_read(tmp_path: Path) -> None:
    path = tmp_path / "trials.jsonl"
    first, calls = search(path)
    assert calls == TRIALS
    assert [trial.id for trial in first] == list(range(TRIALS))
    content = path.read_bytes()
    assert search(path) == (first, 0)
    assert path.read_bytes() == content


def test_every_kill_leaves_a_journal_that_goes_on(tmp_path: Path) -> None:
    """Cut at any byte: no finished trial is measured again, and the result is the same."""
    path = tmp_path / "trials.jsonl"
    trials, _ = search(path)
    content = path.read_bytes()
    complete = sorted(content.splitlines())
    header_end = content.index(b"\n")
    line_ends = [i for i, byte in enumerate(content) if byte == ord("\n")]
    cuts = [0, 1, header_end, header_end + 1, header_end + 2]
    cuts += [line_ends[10], line_ends[10] + 1, line_ends[20] + 40, len(content) - 1]
    for cut in cuts:
        path.write_bytes(content[:cut])
        whole_trials = max(content[:cut].count(b"\n") - 1, 0)
        assert search(path) == (trials, TRIALS - whole_trials), cut
        assert sorted(path.read_bytes().splitlines()) == complete


def test_more_trials_continue(tmp_path: Path) -> None:
    at_once, _ = search(tmp_path / "a.jsonl")
    search(tmp_path / "b.jsonl", trials=7)
    assert search(tmp_path / "b.jsonl") == (at_once, TRIALS - 7)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"seed": 1}, r"seed differs \(0, now 1\)"),
        ({"method": "abs"}, "method differs"),
        ({"float_hash": "1" * 64}, "float_hash differs;"),
        ({"space": SPACE.dimensions[1:]}, "space differs;"),
        ({"version": 2}, "version differs"),
        ({"epochs": 2}, "epochs differs"),
    ],
)
def test_another_header(tmp_path: Path, change: dict[str, object], reason: str) -> None:
    path = tmp_path / "trials.jsonl"
    search(path, trials=3)
    content = path.read_bytes()
    with pytest.raises(InputError, match=reason) as caught, journal_at(path, **change):
        pass
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"hello\n", "line 1: "),
        (b"[]\n", "line 1: not the journal of a search"),
        (b'{"format": "other"}\n', "line 1: not the journal of a search"),
    ],
)
def test_another_file(tmp_path: Path, text: bytes, reason: str) -> None:
    path = tmp_path / "trials.jsonl"
    path.write_bytes(text)
    with pytest.raises(InputError, match=reason), journal_at(path):
        pass
    assert path.read_bytes() == text


def test_damage_in_the_middle(tmp_path: Path) -> None:
    path = tmp_path / "trials.jsonl"
    search(path, trials=3)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:2], b"{}\n", lines[3]]))
    with pytest.raises(InputError, match="line 3: "), journal_at(path):
        pass
    path.write_bytes(b"".join([*lines, lines[1]]))
    with pytest.raises(InputError, match="line 5: trial 2 repeats"), journal_at(path):
        pass


def test_trials_of_another_order_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "trials.jsonl"
    search(path, trials=3)
    with pytest.raises(InputError, match="its point is not the one"):
        search(path, seed=1)


def test_one_search_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "trials.jsonl"
    with (
        journal_at(path),
        pytest.raises(InputError, match="another search is running"),
        open_journal(path),
    ):
        pass
    with journal_at(path):
        pass


def test_a_trial_is_never_counted_twice(tmp_path: Path) -> None:
    with journal_at(tmp_path / "trials.jsonl") as journal:
        trial = Trial(0, (0, 0, 0, 0, 0), Outcome(seconds=1.0, failure="no"))
        journal.append(trial)
        with pytest.raises(ValueError, match="recorded before"):
            journal.append(trial)
    lines = (tmp_path / "trials.jsonl").read_bytes().splitlines()
    assert msgspec.json.decode(lines[1], type=Trial) == trial


def test_a_search_refused_at_once_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "trials.jsonl"
    with pytest.raises(InputError), open_journal(path):
        raise InputError("no")
    assert not path.exists()
