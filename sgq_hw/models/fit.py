"""The training loop: Adam on the training examples, the best validation epoch kept."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn.functional import cross_entropy

from sgq_hw.errors import InputError
from sgq_hw.graph_sets import GraphSet
from sgq_hw.graphs import Graph
from sgq_hw.models import Recipe
from sgq_hw.models.catalogue import inputs_for
from sgq_hw.models.inputs import Array, Inputs
from sgq_hw.models.network import Network
from sgq_hw.node_sets import MASKS
from sgq_hw.progress import progress_bar


@contextmanager
def reproducible(seed: int) -> Iterator[None]:
    """Seed PyTorch and use one thread; both are put back afterwards.

    One thread makes sums independent of the machine's load and, at these sizes, is faster.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            yield
    finally:
        torch.set_num_threads(threads)


@dataclass(frozen=True, eq=False)
class Examples:
    """What is learnt from or tested on.

    Attributes:
        inputs: what the network reads.
        rows: int64 [examples], the rows of its logits that count.
        labels: int64 [examples], their classes.
    """

    inputs: Inputs
    rows: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int64]


def examples_of(network: type[Network], data: Graph | GraphSet) -> dict[str, Examples]:
    """Return the examples of every mask of `MASKS`.

    Nodes are classified inside the whole graph. Of a graph set, each part holds its own graphs
    only, so that the statistics of a training step never see a validation or test graph.
    """
    if isinstance(data, GraphSet):
        parts = {mask: data.subset(data.labelled(mask)) for mask in MASKS}
        return {
            mask: Examples(inputs_for(network, part), np.arange(part.num_graphs), part.y)
            for mask, part in parts.items()
        }
    assert data.y is not None
    inputs = inputs_for(network, data)
    rows = {mask: np.flatnonzero(data.labelled(mask)) for mask in MASKS}
    return {mask: Examples(inputs, nodes, data.y[nodes]) for mask, nodes in rows.items()}


@dataclass(frozen=True)
class _Epoch:
    """How good the parameters after an epoch are; a later epoch must be strictly better."""

    accuracy: float = -1.0
    loss: float = float("inf")
    number: int = 0

    def better_than(self, other: "_Epoch") -> bool:
        return (self.accuracy, -self.loss) > (other.accuracy, -other.loss)


def fit(
    network: Network, train: Examples, val: Examples, recipe: Recipe, *, name: str, progress: bool
) -> int:
    """Train `network` in place, leave it with its best parameters, return that epoch (from 1).

    The best epoch has the highest validation accuracy; of equals, the lowest validation loss.

    Args:
        network: a new network.
        train: the examples of the loss.
        val: the examples that choose the epoch.
        recipe: epochs, learning rate and weight decay.
        name: what the progress bar shows.
        progress: show a bar, if stderr is a terminal.

    Raises:
        InputError: the loss becomes infinite or NaN.
    """
    rows, labels = torch.from_numpy(train.rows), torch.from_numpy(train.labels)
    val_rows, val_labels = torch.from_numpy(val.rows), torch.from_numpy(val.labels)
    optimizer = _optimizer(network, recipe)
    best, best_state = _Epoch(), network.state_dict()
    with progress_bar(f"train {name}", recipe.epochs, enabled=progress) as advance:
        for number in range(1, recipe.epochs + 1):
            network.train()
            optimizer.zero_grad()
            loss = cross_entropy(network(train.inputs)[rows], labels)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()

            logits = predict_logits(network, val.inputs)
            val_loss = cross_entropy(torch.from_numpy(logits)[val_rows], val_labels)
            if not torch.isfinite(loss) or not torch.isfinite(val_loss):
                raise InputError(f"train: lr: {recipe.lr} makes training diverge, epoch {number}")
            epoch = _Epoch(accuracy_percent(logits, val), float(val_loss), number)
            if epoch.better_than(best):
                best = epoch
                best_state = {k: v.clone() for k, v in network.state_dict().items()}
            advance()
    network.load_state_dict(best_state)
    return best.number


def _optimizer(network: Network, recipe: Recipe) -> torch.optim.Adam:
    """Return Adam with weight decay on what the network lets decay."""
    decayed = [value for name, value in network.named.items() if network.decays(name)]
    chosen = set(map(id, decayed))
    groups: list[dict[str, Any]] = [
        {"params": decayed, "weight_decay": recipe.weight_decay},
        {"params": [value for value in network.parameters() if id(value) not in chosen]},
    ]
    return torch.optim.Adam(groups, lr=recipe.lr)


def predict_logits(network: Network, inputs: Inputs) -> Array:
    """Return the logits without dropout, float32 [n, classes] or [graphs, classes]."""
    network.eval()
    with torch.no_grad():
        logits: Array = network(inputs).numpy()
    return logits


def accuracy_percent(logits: Array, examples: Examples) -> float:
    """Return the percentage of the examples whose class is right."""
    # NumPy's argmax takes the lowest index of equals, as the hardware does; PyTorch's need not.
    return 100.0 * float(np.mean(logits[examples.rows].argmax(axis=1) == examples.labels))
