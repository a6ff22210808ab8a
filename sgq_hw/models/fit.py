"""The training loop: Adam on the training nodes, the best validation epoch kept."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from sgq_hw.errors import InputError
from sgq_hw.graphs import Graph
from sgq_hw.models import Recipe
from sgq_hw.models.gcn import GCN, Array, GCNInputs
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


@dataclass(frozen=True)
class _Epoch:
    """How good the parameters after an epoch are; a later epoch must be strictly better."""

    accuracy: float = -1.0
    loss: float = float("inf")
    number: int = 0

    def better_than(self, other: "_Epoch") -> bool:
        return (self.accuracy, -self.loss) > (other.accuracy, -other.loss)


def fit(network: GCN, inputs: GCNInputs, graph: Graph, recipe: Recipe, *, progress: bool) -> int:
    """Train `network` in place, leave it with its best parameters, return that epoch (from 1).

    The best epoch has the highest validation accuracy; of equals, the lowest validation loss.

    Raises:
        InputError: the loss becomes infinite or NaN.
    """
    labels = torch.from_numpy(graph.y)
    train_nodes, val_nodes = (
        torch.from_numpy(np.flatnonzero(graph.labelled(mask)))
        for mask in ("train_mask", "val_mask")
    )
    optimizer = _optimizer(network, recipe)
    best, best_parameters = _Epoch(), network.state_dict()
    with progress_bar(f"train {graph.name}", recipe.epochs, enabled=progress) as advance:
        for number in range(1, recipe.epochs + 1):
            network.train()
            optimizer.zero_grad()
            loss = cross_entropy(network(inputs)[train_nodes], labels[train_nodes])
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()

            output = predict_logits(network, inputs)
            val_loss = cross_entropy(torch.from_numpy(output)[val_nodes], labels[val_nodes])
            if not torch.isfinite(loss) or not torch.isfinite(val_loss):
                raise InputError(f"train: lr: {recipe.lr} makes training diverge, epoch {number}")
            epoch = _Epoch(accuracy_percent(output, graph, "val_mask"), float(val_loss), number)
            if epoch.better_than(best):
                best = epoch
                best_parameters = {k: v.clone() for k, v in network.state_dict().items()}
            advance()
    network.load_state_dict(best_parameters)
    return best.number


def _optimizer(network: GCN, recipe: Recipe) -> torch.optim.Adam:
    """Return Adam with weight decay on the first layer only, as Kipf & Welling 2017 have it."""
    rest = [*list(network.weights)[1:], *list(network.biases)[1:]]
    groups: list[dict[str, Any]] = [
        {"params": [network.weights[0], network.biases[0]], "weight_decay": recipe.weight_decay},
        {"params": rest},
    ]
    return torch.optim.Adam(groups, lr=recipe.lr)


def predict_logits(network: GCN, inputs: GCNInputs) -> Array:
    """Return the logits without dropout, float32 [n, classes]."""
    network.eval()
    with torch.no_grad():
        logits: Array = network(inputs).numpy()
    return logits


def accuracy_percent(logits: Array, graph: Graph, mask: str) -> float:
    """Return the percentage of the labelled nodes of `mask` whose class is right."""
    nodes = graph.labelled(mask)
    labels = np.full(graph.num_nodes, -1) if graph.y is None else graph.y
    # NumPy's argmax takes the lowest index of equals, as the hardware does; PyTorch's need not.
    return 100.0 * float(np.mean(logits[nodes].argmax(axis=1) == labels[nodes]))
