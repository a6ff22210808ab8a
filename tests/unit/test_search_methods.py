"""The three methods, on a synthetic objective, and the Pareto front."""

import statistics
from itertools import pairwise
from pathlib import Path

import pytest

from sgq_hw.search.abs import BATCH, AutoBitSelection
from sgq_hw.search.baselines import ExhaustiveSearch, RandomSearch
from sgq_hw.search.loop import run_trials
from sgq_hw.search.pareto import draw_pareto, pareto_front
from sgq_hw.search.space import Dimension, Space
from sgq_hw.search.strategy import Strategy
from sgq_hw.search.trial import Goal, Measured, Outcome, Trial
from tests.search_objectives import GOAL, SPACE, ReversedWorkers, Separable, journal_at, loss, price

OPTIMUM = min(price(point) for point in SPACE if loss(point) <= GOAL.max_drop)
SEEDS = range(5)


def trials_needed(strategy: Strategy) -> int:
    """Return after how many trials the point of least memory that meets the goal is measured."""
    evaluate = Separable()
    history: list[Trial] = []
    while points := strategy.propose(history):
        for point in points:
            history.append(Trial(len(history), point, evaluate(point)))
            if loss(point) <= GOAL.max_drop and price(point) == OPTIMUM:
                return len(history)
    raise AssertionError("not found in the whole space")


def test_abs_needs_half_the_trials_of_random_search() -> None:
    """Of 1440 points, 82 meet the goal and one is best."""
    abs_trials = [trials_needed(AutoBitSelection(SPACE, s, GOAL, price)) for s in SEEDS]
    random_trials = [trials_needed(RandomSearch(SPACE, s)) for s in SEEDS]
    print(f"trials until the optimum: ABS {abs_trials}, random {random_trials}")
    assert statistics.median(abs_trials) <= statistics.median(random_trials) / 2


@pytest.mark.parametrize("name", ["abs", "random"])
def test_proposals_do_not_depend_on_the_order_of_results(tmp_path: Path, name: str) -> None:
    strategy: Strategy = RandomSearch(SPACE, 3)
    if name == "abs":
        strategy = AutoBitSelection(SPACE, 3, GOAL, price)
    evaluate = Separable()
    history: list[Trial] = []
    while len(history) < 30:
        points = strategy.propose(history)
        assert not {trial.point for trial in history} & set(points)
        history += [Trial(len(history) + i, p, evaluate(p)) for i, p in enumerate(points)]
    with journal_at(tmp_path / "trials.jsonl") as journal:
        workers = ReversedWorkers()
        found = run_trials(strategy, evaluate, workers, journal, 30, lambda _: None)
    assert found == history[:30]


def test_abs_goes_on_without_a_measurement_and_to_the_last_point() -> None:
    space = Space((Dimension("a", (1, 2, 3, 4)), Dimension("b", (1, 2, 3, 4))))
    goal = Goal(80.0, 0.0)
    strategy = AutoBitSelection(space, 0, goal, sum)
    history: list[Trial] = []
    while points := strategy.propose(history):
        outcome = Outcome(seconds=0.0, failure="cannot be built")
        history += [Trial(len(history) + i, p, outcome) for i, p in enumerate(points)]
    assert sorted(trial.point for trial in history) == list(space)
    assert goal.best(history) is None


def test_abs_measures_cheaper_points_once_it_has_a_good_one() -> None:
    evaluate = Separable()
    point = (4, 3, 5, 2, 3)
    history = [Trial(0, point, evaluate(point))]
    points = AutoBitSelection(SPACE, 0, GOAL, price).propose(history)
    assert len(points) == BATCH
    assert all(price(p) < price(point) for p in points)


def test_exhaustive_search_takes_every_point(tmp_path: Path) -> None:
    space = Space(tuple(Dimension(name, tuple(range(4))) for name in "abc"))
    strategy = ExhaustiveSearch(space)
    outcome = Outcome(seconds=0.0, failure="no")
    with journal_at(tmp_path / "trials.jsonl") as journal:
        trials = run_trials(
            strategy, lambda _: outcome, ReversedWorkers(), journal, 1000, lambda _: None
        )
    assert [trial.point for trial in trials] == list(space)


def measured(trial_id: int, memory_bits: int, val: float) -> Trial:
    measurement = Measured(val=val, test=0.0, memory_bits=memory_bits, compression={})
    return Trial(trial_id, (trial_id,), Outcome(seconds=0.0, measured=measurement))


def test_the_best_trial() -> None:
    goal = Goal(81.0, 0.4)
    # 81.0 - 80.6 is above 0.4 in binary floating point.
    exact = measured(3, 90, 80.6)
    trials = [measured(0, 80, 80.5), measured(1, 90, 80.6), measured(2, 95, 90.0), exact]
    assert goal.best(trials) == trials[1]
    assert goal.best([*trials, measured(4, 90, 80.8)]) == measured(4, 90, 80.8)
    assert goal.best([trials[0], Trial(1, (1,), Outcome(seconds=0.0, failure="no"))]) is None


def test_the_pareto_front_and_its_picture(tmp_path: Path) -> None:
    trials = [
        measured(0, 100, 70.0), measured(1, 100, 71.0), measured(2, 90, 71.0),
        measured(3, 80, 60.0), measured(4, 120, 71.0), measured(5, 130, 75.0),
        Trial(6, (6,), Outcome(seconds=0.0, failure="no")), measured(7, 90, 71.0),
    ]  # fmt: skip
    front = pareto_front(trials)
    assert [trial.id for trial in front] == [3, 2, 5]
    vals = [trial.outcome.measured.val for trial in front if trial.outcome.measured]
    assert all(low < high for low, high in pairwise(vals))
    for name in ("a.svg", "b.svg"):
        draw_pareto(tmp_path / name, trials, Goal(75.0, 4.0), "title")
    content = (tmp_path / "a.svg").read_bytes()
    assert content == (tmp_path / "b.svg").read_bytes()
    assert b"Pareto front" in content
    draw_pareto(tmp_path / "none.svg", trials[6:7], Goal(75.0, 4.0), "nothing to draw")
