"""Synthetic objectives for tests of the search: cheap, exact, and picklable for workers."""

import time
from collections.abc import Collection, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sgq_hw.search.executors import Evaluate
from sgq_hw.search.journal import Header, Journal, open_journal
from sgq_hw.search.space import Dimension, Point, Space
from sgq_hw.search.trial import FINETUNE_SEED, Goal, Measured, Outcome

SPACE = Space(tuple(Dimension(f"d{i}", tuple(range(n))) for i, n in enumerate((5, 4, 6, 3, 4))))
GOAL = Goal(float_val=80.0, max_drop=1.0)
LOSSES = (
    (6, 2, 0.6, 0.2, 0),
    (3, 0.8, 0.2, 0),
    (5, 3, 1.2, 0.5, 0.2, 0),
    (0.5, 0.2, 0),
    (1.5, 0.7, 0.1, 0),
)
COSTS = (70, 110, 90, 40, 60)


def loss(point: Point) -> float:
    """Points of accuracy lost: a sum over dimensions, less with more bits."""
    return sum(table[index] for table, index in zip(LOSSES, point, strict=True))


def price(point: Point) -> int:
    """Memory, bits: a sum over dimensions."""
    return 1000 + sum(cost * index for cost, index in zip(COSTS, point, strict=True))


@dataclass(frozen=True)
class Separable:
    """Evaluates `loss` and `price`, after a while, and notes each call in a file."""

    seconds: float = 0.0
    log: Path | None = None

    def __call__(self, point: Point) -> Outcome:
        time.sleep(self.seconds)
        if self.log is not None:
            with self.log.open("a") as stream:
                stream.write(f"{point}\n")
        return Outcome(
            seconds=0.0,
            measured=Measured(
                val=GOAL.float_val - loss(point), test=0.0, memory_bits=price(point),
                compression={"features": 1.0, "hidden": None, "stored": 1.0, "total": 1.0},
            ),
        )  # fmt: skip


class ReversedWorkers:
    """Workers in this process that finish in the opposite order of submission."""

    def __init__(self) -> None:
        self.calls: list[Point] = []

    def submit(self, evaluate: Evaluate, point: Point) -> Future[Outcome]:
        self.calls.append(point)
        future: Future[Outcome] = Future()
        future.set_result(evaluate(point))
        return future

    def completed(self, pending: Collection[Any]) -> Iterator[Any]:
        return iter(list(pending)[::-1])


def header(**changes: Any) -> Header:
    """Return the header of a search with `Separable`."""
    values: dict[str, Any] = {
        "float_hash": "0" * 64, "graph": "karate", "model": "gcn", "space": SPACE.dimensions,
        "method": "random", "seed": 0, "max_drop": GOAL.max_drop, "epochs": 1,
        "finetune_seed": FINETUNE_SEED,
        "tuning": "none",
    }  # fmt: skip
    return Header(**(values | changes))


@contextmanager
def journal_at(path: Path, **changes: Any) -> Iterator[Journal]:
    """Open a journal and write or check its header."""
    with open_journal(path) as journal:
        journal.begin(header(**changes))
        yield journal
