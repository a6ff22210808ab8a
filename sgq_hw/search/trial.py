"""Trials: what is measured at a point, how it is measured, and which result is best."""

import hashlib
import tempfile
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from sgq_hw.compression import as_json, compression
from sgq_hw.errors import SgqError
from sgq_hw.search.space import Point, Space, config_of

if TYPE_CHECKING:
    from sgq_hw.graph_sets import GraphSet
    from sgq_hw.graphs import Graph
    from sgq_hw.train import TrainedModel

FINETUNE_SEED = 0
"""The seed that `quantize --finetune` takes by default, whatever the search's own seed is."""

DROP_TOLERANCE = 1e-9
"""Accuracies are ratios of whole numbers: a drop of exactly the limit must not fail by rounding."""


class Measured(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a trial measured.

    Attributes:
        val: Accuracy of the golden model on the validation nodes, percent.
        test: On the test nodes; never used to choose.
        memory_bits: Everything charged (`sgq_hw.compression.charged_memory`).
        compression: The figures of `sgq_hw.compression.as_json`.
    """

    val: float
    test: float
    memory_bits: int
    compression: dict[str, float | int | None]


class Outcome(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What evaluating a point gave: a measurement, or the reason why there is none.

    Attributes:
        seconds: Wall clock of the evaluation.
        measured: None where the point cannot be built.
        failure: Why not, one line.
    """

    seconds: float
    measured: Measured | None = None
    failure: str | None = None


class Trial(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A finished trial: `id` is its place in the order of proposals, from 0."""

    id: int
    point: Point
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Goal:
    """The constraint: validation accuracy at most `max_drop` points below `float_val` percent."""

    float_val: float
    max_drop: float

    def drop(self, measured: Measured) -> float:
        """Return the points lost on the validation nodes; negative where they were gained."""
        return self.float_val - measured.val

    def met_by(self, measured: Measured) -> bool:
        """Whether a measurement satisfies the constraint."""
        return self.drop(measured) <= self.max_drop + DROP_TOLERANCE

    def best(self, trials: Iterable[Trial]) -> Trial | None:
        """Return the trial of least memory that meets the goal.

        Of equals, the highest validation accuracy; of those, the first.
        """
        fit = [
            (measured.memory_bits, -measured.val, trial.id, trial)
            for trial in trials
            if (measured := trial.outcome.measured) is not None and self.met_by(measured)
        ]
        return min(fit)[-1] if fit else None


# A process evaluates one point at a time: PyTorch's thread count and random state are its own.
_one_at_a_time = threading.Lock()


@lru_cache(maxsize=1)
def _load(float_file: bytes) -> "tuple[TrainedModel, Graph | GraphSet]":
    from sgq_hw.train import load_trained  # noqa: PLC0415

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "float.npz"
        path.write_bytes(float_file)
        return load_trained(path)


@dataclass(frozen=True)
class NetworkTrial:
    """Evaluates points by quantising a float network with fine-tuning, in any process.

    It carries the network's file, since a remote worker may not see the folder of the search; a
    process reads it once.

    Attributes:
        space: What the points mean.
        kinds: Kinds of the network's layers, as in a bit configuration.
        float_file: Content of a file written by `sgq_hw.train.save_trained`.
        epochs: Steps of fine-tuning.
    """

    space: Space
    kinds: tuple[str, ...]
    float_file: bytes = field(repr=False)
    epochs: int

    def __call__(self, point: Point) -> Outcome:
        """Measure one point; a network that cannot be built is a failure, not an error."""
        from sgq_hw.golden.network import evaluate  # noqa: PLC0415
        from sgq_hw.quantize.pipeline import quantize  # noqa: PLC0415
        from sgq_hw.quantize.tuning import FineTuning  # noqa: PLC0415

        with _one_at_a_time:
            trained, graph = _load(self.float_file)
            begin = time.perf_counter()
            try:
                bundle = quantize(
                    trained,
                    graph,
                    config_of(self.space, self.kinds, point),
                    tuning=FineTuning(epochs=self.epochs),
                    seed=FINETUNE_SEED,
                )
                accuracy = evaluate(bundle)
                figures = compression(bundle)
            except SgqError as error:
                return Outcome(
                    seconds=time.perf_counter() - begin, failure=" ".join(str(error).split())
                )
            measured = Measured(
                val=accuracy["val"],
                test=accuracy["test"],
                memory_bits=figures.charged_bits,
                compression=as_json(figures),
            )
            return Outcome(seconds=time.perf_counter() - begin, measured=measured)


def file_hash(content: bytes) -> str:
    """Return the SHA-256 of a file's content, hexadecimal."""
    return hashlib.sha256(content).hexdigest()
