"""What every search method offers: the next points, given what has been measured."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from sgq_hw.search.space import Point
from sgq_hw.search.trial import Trial


class Strategy(Protocol):
    """A search method: a function of its own settings and of the trials so far.

    It keeps no state, so a search that was killed proposes the same points again, and it proposes
    in batches, so the order in which workers finish does not matter.
    """

    def propose(self, history: Sequence[Trial]) -> list[Point]:
        """Return the points of the next batch, none that was measured; empty if none is left.

        Args:
            history: All trials of the batches before, by ascending id.
        """
        ...


def generator_for(seed: int, history: Sequence[Trial]) -> np.random.Generator:
    """Return the random numbers of one batch: they depend on the seed and its first trial's id."""
    return np.random.default_rng([seed, len(history)])
