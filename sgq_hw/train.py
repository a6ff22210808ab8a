"""Training float networks, and the file that keeps one together with its graph.

Standard recipe (Kipf & Welling 2017, section 5.2): Adam, lr 0.01, weight decay 5e-4 on the first
layer only, dropout 0.5, 200 epochs. The parameters kept are those of the epoch with the highest
validation accuracy; of equals, the one with the lowest validation loss; of those, the first.
"""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from sgq_hw.errors import InputError, ToolError
from sgq_hw.fields import Fields, utf8_array
from sgq_hw.graphs import GRAPH_KEYS, Graph, graph_from_arrays, graph_to_arrays
from sgq_hw.models import MODELS, RECIPES, Recipe
from sgq_hw.node_sets import MASKS
from sgq_hw.npz import read_npz, write_npz

FORMAT: Final = "sgq-hw-float"
VERSION: Final = 1
MAX_HIDDEN: Final = 65536
MAX_LAYERS: Final = 64
MAX_SEED: Final = 2**63 - 1

Array = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class TrainedModel:
    """A trained float network.

    Attributes:
        model: one of `sgq_hw.models.MODELS`.
        weights: float32 [in, out], one a layer.
        biases: float32 [out], one a layer.
        accuracy: percent of the labelled nodes that are classified rightly: train, val, test.
        seed: seed of the initial weights and of dropout.
        recipe: what it was trained with: hidden, layers, epochs, lr, weight_decay, dropout; and
            best_epoch, counted from 1.
    """

    model: str
    weights: list[Array]
    biases: list[Array]
    accuracy: dict[str, float]
    seed: int
    recipe: dict[str, int | float]


def train(
    graph: Graph,
    *,
    model: str = "gcn",
    hidden: int = 16,
    layers: int = 2,
    epochs: int | None = None,
    seed: int = 0,
    lr: float | None = None,
    weight_decay: float | None = None,
    dropout: float = 0.5,
    progress: bool = False,
) -> TrainedModel:
    """Train a network on `graph`, on its labelled training nodes.

    The result depends only on the arguments: one thread is used, and PyTorch's own random state
    is left as it was.

    Args:
        graph: needs labels, all three masks and all features.
        model: one of `sgq_hw.models.MODELS`.
        hidden: width of every hidden layer.
        layers: number of layers, 2 or more.
        epochs: None takes the recipe of the graph; so do `lr` and `weight_decay`.
        seed: 0 or more.
        lr: learning rate of Adam.
        weight_decay: of the first layer.
        dropout: probability that an input of a layer is dropped, below 1.
        progress: show a bar, if stderr is a terminal.

    Raises:
        InputError: an argument out of range, a graph that cannot be trained on, or divergence.
        ToolError: PyTorch is not installed.
    """
    standard = RECIPES.get(graph.name, Recipe())
    recipe = Recipe(
        lr=standard.lr if lr is None else lr,
        weight_decay=standard.weight_decay if weight_decay is None else weight_decay,
        epochs=standard.epochs if epochs is None else epochs,
    )
    used = {"hidden": hidden, "layers": layers, **asdict(recipe), "dropout": dropout}
    _check_arguments(model, {"seed": seed, **used})
    _check_graph(graph)
    _require_torch()
    from sgq_hw.models.fit import accuracy_percent, fit, predict_logits, reproducible  # noqa: PLC0415
    from sgq_hw.models.gcn import GCN, gcn_inputs  # noqa: PLC0415

    with reproducible(seed):
        network = GCN([graph.num_features, *[hidden] * (layers - 1), graph.num_classes], dropout)
        inputs = gcn_inputs(graph)
        best_epoch = fit(network, inputs, graph, recipe, progress=progress)
        logits = predict_logits(network, inputs)
    weights, biases = network.arrays()
    return TrainedModel(
        model=model,
        weights=weights,
        biases=biases,
        accuracy={
            mask.removesuffix("_mask"): accuracy_percent(logits, graph, mask) for mask in MASKS
        },
        seed=seed,
        recipe={**used, "best_epoch": best_epoch},
    )


def predict(trained: TrainedModel, graph: Graph) -> Array:
    """Return the logits of every node, float32 [n, classes].

    Raises:
        InputError: the graph has another number of features.
        ToolError: PyTorch is not installed.
    """
    if graph.num_features != trained.weights[0].shape[0]:
        raise InputError(
            f"{graph.name}: num_features: {graph.num_features}, but the network was trained on "
            f"{trained.weights[0].shape[0]}"
        )
    _require_torch()
    from sgq_hw.models.fit import predict_logits, reproducible  # noqa: PLC0415
    from sgq_hw.models.gcn import GCN, gcn_inputs  # noqa: PLC0415

    with reproducible(trained.seed):
        return predict_logits(GCN.from_arrays(trained.weights, trained.biases), gcn_inputs(graph))


def _require_torch() -> None:
    """Refuse with one line where PyTorch is missing: it is an optional dependency."""
    if find_spec("torch") is None:
        raise ToolError("PyTorch is not installed: pip install 'sgq-hw[train]'")


def _check_arguments(model: str, numbers: dict[str, int | float]) -> None:
    if model not in MODELS:
        raise InputError(f"train: model: {model} is not one of {', '.join(MODELS)}")
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


def _check_graph(graph: Graph) -> None:
    if not graph.features_complete:
        raise InputError(f"{graph.name}: x_known: some nodes have no features, so it cannot train")
    for mask in MASKS:
        if not graph.labelled(mask).any():
            raise InputError(f"{graph.name}: {mask}: selects no labelled node")


class _Layer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    kind: str
    inputs: int
    outputs: int


Percent = Annotated[float, msgspec.Meta(ge=0, le=100)]


class _Accuracy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    train: Percent
    val: Percent
    test: Percent


class _Header(msgspec.Struct, frozen=True):
    """What every version of the manifest has; read first, so that a newer one is named as such."""

    format: str
    version: int


class _Manifest(_Header, frozen=True, forbid_unknown_fields=True):
    model: str
    layers: Annotated[list[_Layer], msgspec.Meta(min_length=2)]
    accuracy: _Accuracy
    seed: Annotated[int, msgspec.Meta(ge=0, le=MAX_SEED)]
    recipe: dict[str, int | float]


def save_trained(path: Path, trained: TrainedModel, graph: Graph) -> None:
    """Write one pickle-free `.npz`: `weights/I`, `biases/I`, the `graph/...`, a JSON `manifest`.

    The manifest is UTF-8 in a uint8 array: format, version, model, layers (kind, inputs,
    outputs), accuracy, seed and recipe. Equal arguments give equal bytes.

    Raises:
        InputError: the file cannot be written.
    """
    manifest = _Manifest(
        format=FORMAT,
        version=VERSION,
        model=trained.model,
        layers=[_Layer(trained.model, *weight.shape) for weight in trained.weights],
        accuracy=_Accuracy(**trained.accuracy),
        seed=trained.seed,
        recipe=trained.recipe,
    )
    arrays: dict[str, npt.NDArray[Any]] = graph_to_arrays(graph)
    arrays["manifest"] = utf8_array(msgspec.json.encode(manifest, order="sorted").decode())
    for index, (weight, bias) in enumerate(zip(trained.weights, trained.biases, strict=True)):
        arrays |= {f"weights/{index}": weight, f"biases/{index}": bias}
    write_npz(path, arrays)


def load_trained(path: Path) -> tuple[TrainedModel, Graph]:
    """Read what `save_trained` wrote, with all checks.

    Raises:
        InputError: missing, unknown or wrong fields, or a newer version; names file and field.
    """
    arrays = read_npz(path)
    fields = Fields(arrays, str(path))
    manifest = _read_manifest(fields)
    count = len(manifest.layers)
    layer_keys = [f"{part}/{index}" for part in ("weights", "biases") for index in range(count)]
    fields.only(["manifest", *layer_keys, *GRAPH_KEYS])
    graph = graph_from_arrays(arrays, str(path))
    weights, biases = [], []
    inputs = graph.num_features
    for index, layer in enumerate(manifest.layers):
        if layer.kind != manifest.model:
            fields.fail("manifest", f"layers[{index}].kind: {layer.kind!r} in a {manifest.model}")
        if layer.inputs != inputs or layer.outputs < 1:
            sizes = f"{layer.inputs} inputs, {layer.outputs} outputs"
            fields.fail("manifest", f"layers[{index}]: {sizes}; it must have {inputs} inputs")
        weights.append(_float32(fields, f"weights/{index}", (inputs, layer.outputs)))
        biases.append(_float32(fields, f"biases/{index}", (layer.outputs,)))
        inputs = layer.outputs
    if graph.num_classes > inputs:
        fields.fail("graph/y", f"{graph.num_classes} classes, but the network has {inputs} outputs")
    trained = TrainedModel(
        model=manifest.model,
        weights=weights,
        biases=biases,
        accuracy=msgspec.structs.asdict(manifest.accuracy),
        seed=manifest.seed,
        recipe=manifest.recipe,
    )
    return trained, graph


def _read_manifest(fields: Fields) -> _Manifest:
    text = fields.text("manifest")
    try:
        header = msgspec.json.decode(text, type=_Header)
        if header.format != FORMAT:
            fields.fail("manifest", f"format: {header.format!r} is not {FORMAT}")
        if header.version != VERSION:
            fields.fail("manifest", f"version: {header.version}; this program reads {VERSION}")
        manifest = msgspec.json.decode(text, type=_Manifest)
    except msgspec.DecodeError as error:
        fields.fail("manifest", str(error))
    if manifest.model not in MODELS:
        fields.fail("manifest", f"model: {manifest.model!r} is not one of {', '.join(MODELS)}")
    return manifest


def _float32(fields: Fields, name: str, shape: tuple[int, ...]) -> Array:
    array = fields.array(name, "f", shape)
    if array.dtype != np.float32:
        fields.fail(name, f"wrong type {array.dtype}")
    if not np.isfinite(array).all():
        fields.fail(name, "holds NaN or infinity")
    return array
