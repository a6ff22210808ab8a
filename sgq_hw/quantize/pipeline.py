"""From a trained float network to a bundle: calibrate, fine-tune, freeze."""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from sgq_hw.bundle import Bundle
from sgq_hw.errors import InputError
from sgq_hw.golden.network import run as run_golden
from sgq_hw.graph_sets import GraphSet
from sgq_hw.graphs import Graph
from sgq_hw.models.catalogue import network_for
from sgq_hw.models.fit import reproducible
from sgq_hw.models.layout import kinds_of
from sgq_hw.progress import progress_bar
from sgq_hw.quantize.config import BitConfig
from sgq_hw.quantize.freeze import freeze
from sgq_hw.quantize.network import QuantizedNetwork, Training
from sgq_hw.quantize.tuning import FineTuning
from sgq_hw.train import MAX_SEED, TrainedModel, predict

EXPONENT_LR = 0.03
"""Adam's learning rate of exponents of scales: half a step of the exponent is 17 epochs away."""


@torch.no_grad()
def _score(
    network: QuantizedNetwork, data: Graph | GraphSet, reference: torch.Tensor
) -> tuple[float, float]:
    """Return what is maximised: validation accuracy; of equals, closeness to the float network.

    Validation sets are small: many epochs are equal there. Closeness is the negative mean
    cross-entropy of all nodes against the float network's probabilities; no label is used in it.
    """
    examples = data.labelled("val_mask")
    if not examples.any():
        examples = data.labelled("train_mask")
    chosen, labels = _examples(data, examples)
    logits = network()
    # torch.argmax breaks ties arbitrarily; the lowest index wins everywhere else.
    predicted = torch.from_numpy(np.argmax(logits[chosen].numpy(), axis=1))
    accuracy = float((predicted == labels).double().mean())
    return accuracy, -float(functional.cross_entropy(logits, reference))


def _examples(
    data: Graph | GraphSet, selected: npt.NDArray[np.bool_]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return numbers and labels of the selected nodes, or graphs."""
    assert data.y is not None
    chosen = torch.from_numpy(np.flatnonzero(selected))
    return chosen, torch.from_numpy(data.y)[chosen]


def _protection(graph: Graph, protect: tuple[float, float]) -> npt.NDArray[np.float64]:
    """Return each node's probability: it grows with the share of nodes of lower in-degree."""
    low, high = protect
    ranks = np.searchsorted(np.sort(graph.degrees), graph.degrees, side="left")
    return low + (high - low) * ranks / max(1, graph.num_nodes - 1)


def _optimizer(
    network: QuantizedNetwork, trained: TrainedModel, options: FineTuning
) -> torch.optim.Adam:
    """Return Adam; of GCN only the first layer decays (Kipf and Welling 2017), else all do."""
    tuned = {name: value for name, value in network.named.items() if value.requires_grad}
    decaying = {n for n in tuned if trained.model != "gcn" or n == "layer0/combine/weight"}
    groups: list[dict[str, Any]] = [
        {
            "params": [value for name, value in tuned.items() if name in decaying],
            "weight_decay": trained.recipe["weight_decay"],
        },
        {"params": [value for name, value in tuned.items() if name not in decaying]},
    ]
    return torch.optim.Adam(groups, lr=trained.recipe["lr"] * options.lr_factor)


def fine_tune(
    network: QuantizedNetwork,
    trained: TrainedModel,
    data: Graph | GraphSet,
    options: FineTuning,
    seed: int,
    *,
    progress: bool,
) -> None:
    """Tune a network in place by straight-through gradients; keeps its best validation epoch.

    The weight decay is that of the float training.

    Raises:
        InputError: there are no training labels.
    """
    if data.y is None or not data.labelled("train_mask").any():
        raise InputError(f"{data.name}: train_mask: fine-tuning needs labels and a training mask")
    graph = data.union if isinstance(data, GraphSet) else data
    training = Training(
        dropout=float(trained.recipe["dropout"]) if options.dropout is None else options.dropout,
        protected=None if options.protect is None else _protection(graph, options.protect),
        generator=torch.Generator().manual_seed(seed),
    )
    optimizer = _optimizer(network, trained, options)
    chosen, labels = _examples(data, data.labelled("train_mask"))
    reference = torch.softmax(torch.from_numpy(predict(trained, data)).double(), dim=1)
    best = _score(network, data, reference)
    restore_best = network.snapshot()
    settled = min(options.settling_epochs, options.epochs // 4)
    with progress_bar("fine-tune", options.epochs, enabled=progress) as advance:
        for epoch in range(options.epochs):
            if epoch < settled and epoch % options.calibrate_every == 0:
                network.calibrate()
            if epoch == settled and options.clipping == "learned":
                learned = {"params": network.learn_scales(), "lr": EXPONENT_LR}
                optimizer.add_param_group({**learned, "weight_decay": 0.0})
            optimizer.zero_grad()
            logits = network(training)
            loss = functional.cross_entropy(logits[chosen], labels)
            if options.distill:
                loss = loss + options.distill * functional.cross_entropy(logits, reference)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            # Before that a score would belong to scales that change again.
            if epoch >= settled:
                score = _score(network, data, reference)
                if score > best:
                    best = score
                    restore_best = network.snapshot()
            advance()
    restore_best()


def quantized_network(
    trained: TrainedModel, data: Graph | GraphSet, config: BitConfig
) -> QuantizedNetwork:
    """Return the calibrated network, before any tuning.

    Raises:
        InputError: the configuration does not fit the network.
    """
    kinds = kinds_of(trained.model, trained.num_layers, of_graphs=isinstance(data, GraphSet))
    fixed = network_for(trained.model, data).FIXED
    return QuantizedNetwork(trained.parameters, kinds, data, config, fixed)


def quantize(
    trained: TrainedModel,
    data: Graph | GraphSet,
    config: BitConfig,
    *,
    tuning: FineTuning | None = None,
    seed: int = 0,
    progress: bool = False,
) -> Bundle:
    """Quantise a trained network.

    Args:
        trained: The float network.
        data: The graph, or set of graphs, it was trained on.
        config: Bits of every tensor.
        tuning: Fine-tuning options, or None for calibration alone.
        seed: Of the dropout draws.
        progress: Show a progress bar on a terminal.

    Raises:
        InputError: a configuration that does not fit the network, or a seed out of range.
    """
    if not 0 <= seed <= MAX_SEED:
        raise InputError(f"--seed: {seed} is outside 0 to 2**63 - 1")
    with reproducible(seed):
        network = quantized_network(trained, data, config)
        if tuning is not None:
            fine_tune(network, trained, data, tuning, seed, progress=progress)
        bundle = freeze(network)
        check_exact(network, bundle)
    return bundle


def check_exact(network: QuantizedNetwork, bundle: Bundle) -> None:
    """Refuse a network that was tuned on other codes than the integers give.

    Sums in torch are exact below 2**53; the integers go to 2**62.
    """
    trace = run_golden(bundle.network, bundle.workload)
    for (layer, stage), codes in network.stage_codes().items():
        if not np.array_equal(codes, trace[layer, stage]):
            raise InputError(
                f"layer {layer} {stage}: sums beyond 2**53 are not exact in training; "
                "use fewer bits for its operands"
            )
