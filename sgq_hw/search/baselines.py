"""Random and exhaustive search: what a cleverer method must beat, and what is certain."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from sgq_hw.search.space import Point, Space
from sgq_hw.search.strategy import generator_for
from sgq_hw.search.trial import Trial

BATCH = 32
"""Without feedback a batch only bounds what is in flight; large ones keep more workers busy."""


@dataclass(frozen=True)
class RandomSearch:
    """Draws points uniformly, none twice."""

    space: Space
    seed: int

    def propose(self, history: Sequence[Trial]) -> list[Point]:
        """Return random points that were not measured."""
        measured = {trial.point for trial in history}
        return self.space.sample(generator_for(self.seed, history), BATCH, measured)


@dataclass(frozen=True)
class ExhaustiveSearch:
    """Takes every point in the order of the space."""

    space: Space

    def propose(self, history: Sequence[Trial]) -> list[Point]:
        """Return the points that follow those measured."""
        return list(islice(self.space, len(history), len(history) + BATCH))
