"""Training float networks.

Standard recipe (Kipf & Welling 2017, section 5.2): Adam, lr 0.01, weight decay 5e-4, dropout 0.5,
200 epochs; `sgq_hw.models` holds where a model or a graph departs from it. The parameters kept are
those of the epoch with the highest validation accuracy; of equals, the one with the lowest
validation loss; of those, the first.
"""

import math
from collections.abc import Callable
from dataclasses import asdict, replace
from importlib.util import find_spec
from typing import Any, Final

from sgq_hw.errors import InputError, ToolError
from sgq_hw.graph_sets import GraphSet
from sgq_hw.graphs import Graph
from sgq_hw.models import GRAPH_MODELS, MODELS, recipe_for
from sgq_hw.models.layout import AGNN_LAYERS
from sgq_hw.node_sets import MASKS
from sgq_hw.trained import (
    MAX_LAYERS,
    MAX_SEED,
    Array,
    TrainedModel,
    load_trained,
    save_trained,
)

__all__ = ["MAX_SEED", "TrainedModel", "load_trained", "predict", "save_trained", "train"]

MAX_HIDDEN: Final = 65536


def train(
    data: Graph | GraphSet,
    *,
    model: str = "gcn",
    hidden: int | None = None,
    layers: int | None = None,
    epochs: int | None = None,
    seed: int = 0,
    lr: float | None = None,
    weight_decay: float | None = None,
    dropout: float | None = None,
    progress: bool = False,
) -> TrainedModel:
    """Train a network on the labelled training nodes of a graph, or training graphs of a set.

    The result depends only on the arguments: one thread is used, and PyTorch's own random state
    is left as it was. Test examples have no part in it, but for the accuracy reported.

    Args:
        data: needs labels, all three masks and all features. A set is for `gin` only.
        model: one of `sgq_hw.models.MODELS`.
        hidden: width of every hidden layer; of `gat`, channels of each of the 8 heads. None takes
            the recipe of the model and graph; so do the other numbers.
        layers: number of layers, 2 or more; of `agnn` 4.
        epochs: full steps of Adam.
        seed: 0 or more.
        lr: learning rate of Adam.
        weight_decay: of the first layer in `gcn`, of all parameters in the others.
        dropout: probability that an input of a layer is dropped, below 1.
        progress: show a bar, if stderr is a terminal.

    Raises:
        InputError: an argument out of range, data that cannot be trained on, or divergence.
        ToolError: PyTorch is not installed.
    """
    _check_model(model, data)
    given: dict[str, Any] = {
        "hidden": hidden, "layers": layers, "epochs": epochs,
        "lr": lr, "weight_decay": weight_decay, "dropout": dropout,
    }  # fmt: skip
    recipe = recipe_for(model, data.name, of_graphs=isinstance(data, GraphSet))
    recipe = replace(recipe, **{name: value for name, value in given.items() if value is not None})
    numbers = {name: value for name, value in asdict(recipe).items() if name != "batch_norm"}
    _check_numbers(model, numbers | {"seed": seed})
    _check_data(data)
    _require_torch()
    from sgq_hw.models.catalogue import NORMALISED, network_for  # noqa: PLC0415
    from sgq_hw.models.fit import (  # noqa: PLC0415
        accuracy_percent,
        examples_of,
        fit,
        predict_logits,
        reproducible,
    )

    network_type = network_for(model, data)
    with reproducible(seed):
        initial = network_type.initial(
            data.num_features, recipe.hidden, data.num_classes, recipe.layers
        )
        trained_type = NORMALISED[network_type] if recipe.batch_norm else network_type
        network = trained_type(initial, recipe.dropout)
        examples = examples_of(network_type, data)
        best_epoch = fit(
            network, examples["train_mask"], examples["val_mask"], recipe,
            name=data.name, progress=progress,
        )  # fmt: skip
        parameters = network.arrays()
        saved = network_type.from_arrays(parameters)
        accuracy = {
            mask.removesuffix("_mask"): accuracy_percent(predict_logits(saved, part.inputs), part)
            for mask, part in examples.items()
        }
    return TrainedModel(
        model=model,
        parameters=parameters,
        accuracy=accuracy,
        seed=seed,
        recipe=numbers | {"best_epoch": best_epoch},
    )


def predict(trained: TrainedModel, data: Graph | GraphSet) -> Array:
    """Return the logits of every node, float32 [n, classes]; of a set, [graphs, classes].

    Raises:
        InputError: the graph has another number of features.
        ToolError: PyTorch is not installed.
    """
    check_features(trained, data)
    _require_torch()
    from sgq_hw.models.catalogue import inputs_for, network_for  # noqa: PLC0415
    from sgq_hw.models.fit import predict_logits, reproducible  # noqa: PLC0415

    with reproducible(trained.seed):
        network = network_for(trained.model, data).from_arrays(trained.parameters)
        return predict_logits(network, inputs_for(type(network), data))


def check_features(trained: TrainedModel, data: Graph | GraphSet) -> None:
    """Refuse data that a network cannot read.

    Raises:
        InputError: the graph has another number of features.
    """
    weight = next(value for name, value in trained.parameters.items() if name.endswith("/weight"))
    if data.num_features != weight.shape[0]:
        raise InputError(
            f"{data.name}: num_features: {data.num_features}, but the network was trained on "
            f"{weight.shape[0]}"
        )


def _require_torch() -> None:
    """Refuse with one line where PyTorch is missing: it is an optional dependency."""
    if find_spec("torch") is None:
        raise ToolError("PyTorch is not installed: pip install 'sgq-hw[train]'")


def _check_model(model: str, data: Graph | GraphSet) -> None:
    if model not in MODELS:
        raise InputError(f"train: model: {model} is not one of {', '.join(MODELS)}")
    if isinstance(data, GraphSet) and model not in GRAPH_MODELS:
        known = ", ".join(GRAPH_MODELS)
        raise InputError(f"train: model: {model} does not classify graphs; known: {known}")


def _check_numbers(model: str, numbers: dict[str, int | float]) -> None:
    ranges: tuple[tuple[str, Callable[[float], bool], str], ...] = (
        ("hidden", lambda v: 1 <= v <= MAX_HIDDEN, f"in 1..{MAX_HIDDEN}"),
        ("layers", lambda v: 2 <= v <= MAX_LAYERS, f"in 2..{MAX_LAYERS}"),
        ("epochs", lambda v: v >= 1, "1 or more"),
        ("seed", lambda v: 0 <= v <= MAX_SEED, "in 0..2**63-1"),
        ("lr", lambda v: 0 < v < math.inf, "positive"),
        ("weight_decay", lambda v: 0 <= v < math.inf, "0 or more"),
        ("dropout", lambda v: 0 <= v < 1, "0 or more and below 1"),
    )
    for name, valid, wanted in ranges:
        if not valid(numbers[name]):
            raise InputError(f"train: {name}: {numbers[name]} is not {wanted}")
    if model == "agnn" and numbers["layers"] != len(AGNN_LAYERS):
        wanted = f"{len(AGNN_LAYERS)}, as agnn has"
        raise InputError(f"train: layers: {numbers['layers']} is not {wanted}")


def _check_data(data: Graph | GraphSet) -> None:
    if isinstance(data, Graph) and not data.features_complete:
        raise InputError(f"{data.name}: x_known: some nodes have no features, so it cannot train")
    for mask in MASKS:
        if not data.labelled(mask).any():
            example = "graph" if isinstance(data, GraphSet) else "labelled node"
            raise InputError(f"{data.name}: {mask}: selects no {example}")
