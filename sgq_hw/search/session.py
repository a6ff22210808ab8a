"""One search in its folder: float network, journal, trials, winner and picture."""

import math
import os
import shlex
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np

from sgq_hw.errors import InputError
from sgq_hw.files import write_text
from sgq_hw.graph_sets import GraphSet
from sgq_hw.graphs import Graph
from sgq_hw.quantize.config import BitConfig, config_text, kinds_for
from sgq_hw.quantize.tuning import FineTuning
from sgq_hw.search.abs import AutoBitSelection
from sgq_hw.search.baselines import ExhaustiveSearch, RandomSearch
from sgq_hw.search.display import live_search
from sgq_hw.search.executors import Workers, dask_workers, local_workers, require_extra
from sgq_hw.search.journal import Header, open_journal
from sgq_hw.search.loop import run_trials
from sgq_hw.search.pareto import draw_pareto, measurements, pareto_front
from sgq_hw.search.price import Pricer
from sgq_hw.search.space import Inputs, Space, config_of, space_of
from sgq_hw.search.strategy import Strategy
from sgq_hw.search.trial import FINETUNE_SEED, Goal, NetworkTrial, Trial, file_hash
from sgq_hw.train import TrainedModel, load_trained, save_trained, train
from sgq_hw.trained import data_to_arrays

FLOAT_FILE = "float.npz"
JOURNAL_FILE = "trials.jsonl"
BEST_FILE = "best.toml"
PARETO_FILE = "pareto.svg"



class Method(Enum):
    """How points are chosen."""

    ABS = "abs"
    RANDOM = "random"
    EXHAUSTIVE = "exhaustive"



@dataclass(frozen=True, slots=True)
class Options:
    """What a search is asked for.

    Attributes:
        model: Kind of network.
        hidden: Its hidden channels; None takes the recipe.
        method: How points are chosen.
        max_drop: Allowed loss of validation accuracy, points.
        trials: How many points are measured.
        epochs: Steps of fine-tuning of each.
        seed: Of the float network and of the proposals.
        jobs: Local processes; None takes a process for each core.
        dask: Address of a Dask scheduler, or None.
    """

    model: str = "gcn"
    hidden: int | None = None
    method: Method = Method.ABS
    max_drop: float = 0.4
    trials: int = 40
    epochs: int = 150
    seed: int = 0
    jobs: int | None = None
    dask: str | None = None


@dataclass(frozen=True, slots=True)
class SearchResult:
    """A finished search.

    Attributes:
        folder: Where its files lie.
        goal: The constraint.
        space: What the points mean.
        kinds: Kinds of the network's layers.
        trials: All trials.
        winner: The best one, or None where no trial meets the goal.
        accuracy_float: Percent by node set.
        command: Command that makes the winner's bundle; empty without one.
    """

    folder: Path
    goal: Goal
    space: Space
    kinds: tuple[str, ...]
    trials: list[Trial]
    winner: Trial | None
    accuracy_float: dict[str, float]
    command: str

    @property
    def config(self) -> BitConfig | None:
        """The winner's bits."""
        return None if self.winner is None else config_of(self.space, self.kinds, self.winner.point)

    @property
    def front(self) -> list[Trial]:
        """The Pareto front of all trials."""
        return pareto_front(self.trials)

    def as_json(self) -> dict[str, Any]:
        """Return the result for other programs; test accuracy is given for the winner only."""
        winner = None
        for trial, measured in measurements([self.winner] if self.winner else []):
            winner = {
                "trial": trial.id,
                "choices": self.space.choices(trial.point),
                "accuracy": {"val": measured.val, "test": measured.test},
                "val_drop": self.goal.drop(measured),
                "memory_bits": measured.memory_bits,
                "compression": measured.compression,
            }
        return {
            "accuracy_float": self.accuracy_float,
            "max_drop": self.goal.max_drop,
            "trials": len(self.trials),
            "failures": len(self.trials) - len(measurements(self.trials)),
            "winner": winner,
            "command": self.command,
            "front": [
                {"trial": t.id, "memory_bits": m.memory_bits, "val_drop": self.goal.drop(m)}
                for t, m in measurements(self.front)
            ],
        }


def _float_network(path: Path, data: Graph | GraphSet, options: Options) -> TrainedModel:
    """Train the float network, or read it where an earlier call did."""
    if not path.is_file():
        trained = train(
            data, model=options.model, hidden=options.hidden, seed=options.seed, progress=True
        )
        save_trained(path, trained, data)
        return trained
    trained, stored = load_trained(path)
    ours = {
        "model": (trained.model, options.model),
        "hidden": (trained.recipe["hidden"], options.hidden or trained.recipe["hidden"]),
        "seed": (trained.seed, options.seed),
    }
    for name, (found, wanted) in ours.items():
        if found != wanted:
            raise InputError(f"{path}: {name}: {found}, now {wanted}; use another folder")
    before, now = data_to_arrays(stored), data_to_arrays(data)
    if before.keys() != now.keys() or any(
        not np.array_equal(before[name], now[name]) for name in now
    ):
        raise InputError(f"{path}: holds another graph than {data.name}; use another folder")
    return trained


def _inputs(data: Graph | GraphSet) -> Inputs:
    graph = data.union if isinstance(data, GraphSet) else data
    if graph.x_values is None:
        return "binary"
    return "signed" if bool((graph.x_values < 0).any()) else "unsigned"


def _strategy(
    options: Options, space: Space, goal: Goal, price: Pricer
) -> Strategy:
    if options.method is Method.RANDOM:
        return RandomSearch(space, options.seed)
    if options.method is Method.EXHAUSTIVE:
        return ExhaustiveSearch(space)
    return AutoBitSelection(space, options.seed, goal, price)


def _workers(options: Options) -> AbstractContextManager[Workers]:
    if options.dask is not None:
        return dask_workers(options.dask)
    return local_workers(options.jobs or len(os.sched_getaffinity(0)))


def _check(options: Options) -> None:
    if not (math.isfinite(options.max_drop) and options.max_drop >= 0):
        raise InputError(f"--max-drop: {options.max_drop} is not a finite number, 0 or more")
    FineTuning(epochs=options.epochs)
    for name in ("trials", "jobs"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise InputError(f"--{name}: {value} is less than 1")
    if options.jobs is not None and options.dask is not None:
        raise InputError("give at most one of --jobs and --dask: the cluster has its own workers")
    require_extra("sklearn", "matplotlib")


def _command(folder: Path, epochs: int) -> str:
    words = ["sgq-hw", "quantize", str(folder / FLOAT_FILE), "--config", str(folder / BEST_FILE)]
    words += ["--finetune", "--epochs", str(epochs), "-o", str(folder / "best.npz")]
    return shlex.join(words)


def search(data: Graph | GraphSet, folder: Path, options: Options) -> SearchResult:
    """Search the bits of a network on `data`, or go on with the search in `folder`.

    Writes `float.npz`, `trials.jsonl` (the journal), `pareto.svg` and, where a trial meets the
    goal, `best.toml`. Quantising the one with the other gives exactly the measured network.

    Raises:
        InputError: an option out of range, a graph that cannot be trained on, a folder that holds
            another search or is in use.
        ToolError: an optional dependency is missing, or the workers are gone.
    """
    _check(options)
    with open_journal(folder / JOURNAL_FILE) as journal:
        float_path = folder / FLOAT_FILE
        trained = _float_network(float_path, data, options)
        float_file = float_path.read_bytes()
        kinds = kinds_for(trained, data)
        space = space_of(kinds, _inputs(data))
        if options.method is Method.EXHAUSTIVE and space.size > options.trials:
            raise InputError(f"--trials: exhaustive search takes {space.size} here")
        goal = Goal(trained.accuracy["val"], options.max_drop)
        journal.begin(
            Header(
                float_hash=file_hash(float_file),
                graph=data.name,
                model=options.model,
                space=space.dimensions,
                method=options.method.value,
                seed=options.seed,
                max_drop=options.max_drop,
                epochs=options.epochs,
                finetune_seed=FINETUNE_SEED,
                tuning=repr(FineTuning(epochs=options.epochs)),
            )
        )
        strategy = _strategy(options, space, goal, Pricer(space, kinds, trained, data))
        evaluate = NetworkTrial(space, kinds, float_file, options.epochs)
        with live_search(options.trials, goal) as watch, _workers(options) as workers:
            trials = run_trials(strategy, evaluate, workers, journal, options.trials, watch)
        winner = goal.best(trials)
        result = SearchResult(
            folder=folder,
            goal=goal,
            space=space,
            kinds=kinds,
            trials=trials,
            winner=winner,
            accuracy_float=trained.accuracy,
            command="" if winner is None else _command(folder, options.epochs),
        )
        if result.config is None:
            # Fewer trials than in an earlier call may hold no winner.
            (folder / BEST_FILE).unlink(missing_ok=True)
        else:
            write_text(folder / BEST_FILE, config_text(result.config))
        title = f"{options.model} on {data.name}: {len(trials)} trials, {options.method.value}"
        draw_pareto(folder / PARETO_FILE, trials, goal, title)
    return result
