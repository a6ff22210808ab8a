"""Auto-bit selection (SGQuant, Feng et al. 2020, section on ABS), on scikit-learn's trees.

Measure some random points; then, in rounds, fit regression trees from the point to the loss of
accuracy, rank a large random sample by memory among those predicted to lose little enough, measure
the first ones and fit again. The paper's constants are not published with code; these are ours.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sgq_hw.search.space import Point, Space
from sgq_hw.search.strategy import generator_for
from sgq_hw.search.trial import Goal, Trial

START_TRIALS = 10
BATCH = 4
SAMPLE = 2000
TREES = 30
FAILURE_DROP = 100.0
"""Points lost by a network that cannot be built, for the trees: no accuracy is worse."""


@dataclass(frozen=True)
class AutoBitSelection:
    """The method of the paper.

    Candidates are a random sample and the neighbours of the best point so far, as far as they take
    less memory than that. Those predicted to meet the goal come first, by memory, then the others
    by predicted loss: so rounds go on where the trees believe that no better point is left.

    Attributes:
        space: The dimensions.
        seed: Of all draws.
        goal: The constraint on validation accuracy.
        price: Memory of any point, bits; exact enough to rank by.
    """

    space: Space
    seed: int
    goal: Goal
    price: Callable[[Point], int]

    def propose(self, history: Sequence[Trial]) -> list[Point]:
        """Return the start set, or the top batch of a round."""
        generator = generator_for(self.seed, history)
        if not history:
            return self.space.sample(generator, START_TRIALS)
        measured = {trial.point for trial in history}
        # A dictionary keeps the order in which points were drawn: sets of tuples have none to keep.
        candidates = dict.fromkeys(self.space.sample(generator, SAMPLE, measured))
        best = self.goal.best(history)
        if best is not None:
            near = [p for p in self.space.neighbours(best.point) if p not in measured]
            candidates |= dict.fromkeys(near)
            limit = self.price(best.point)
            cheaper = [point for point in candidates if self.price(point) < limit]
            candidates = dict.fromkeys(cheaper or candidates)
        points = list(candidates)
        if not points:
            return []
        drops = self._predict(generator, history, points)

        def rank(index: int) -> tuple[bool, float, float]:
            memory = float(self.price(points[index]))
            if drops[index] <= self.goal.max_drop:
                return False, memory, drops[index]
            return True, drops[index], memory

        return [points[index] for index in sorted(range(len(points)), key=rank)[:BATCH]]

    def _predict(
        self, generator: np.random.Generator, history: Sequence[Trial], points: list[Point]
    ) -> list[float]:
        """Return the predicted loss of accuracy of points, the mean of trees on bootstraps."""
        inputs = np.array([trial.point for trial in history])
        targets = np.array([self._drop(trial) for trial in history])
        wanted = np.array(points)
        total = np.zeros(len(points))
        for _ in range(TREES):
            rows = generator.integers(len(history), size=len(history))
            total += _tree_prediction(
                inputs[rows], targets[rows], wanted, int(generator.integers(1 << 31))
            )
        return [float(value) for value in total / TREES]

    def _drop(self, trial: Trial) -> float:
        measured = trial.outcome.measured
        return FAILURE_DROP if measured is None else self.goal.drop(measured)


def _tree_prediction(
    inputs: npt.NDArray[Any], targets: npt.NDArray[Any], wanted: npt.NDArray[Any], seed: int
) -> npt.NDArray[np.float64]:
    from sklearn.tree import DecisionTreeRegressor  # noqa: PLC0415 (slow to import)

    tree = DecisionTreeRegressor(random_state=seed).fit(inputs, targets)
    predicted: npt.NDArray[np.float64] = tree.predict(wanted)
    return predicted
