"""A trained float network, and the file that keeps it together with its graph. Needs no PyTorch."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from sgq_hw.fields import Fields, utf8_array
from sgq_hw.graph_sets import SET_KEYS, GraphSet, graph_set_from_arrays, graph_set_to_arrays
from sgq_hw.graphs import GRAPH_KEYS, Graph, graph_from_arrays, graph_to_arrays
from sgq_hw.models import GRAPH_MODELS, MODELS
from sgq_hw.models.layout import LayoutError, check_layers, kinds_of, layer_shapes
from sgq_hw.npz import read_npz, write_npz

FORMAT: Final = "sgq-hw-float"
VERSION: Final = 2
MAX_LAYERS: Final = 64
MAX_SEED: Final = 2**63 - 1

Array = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class TrainedModel:
    """A trained float network.

    Attributes:
        model: one of `sgq_hw.models.MODELS`.
        parameters: float32, by the names of `sgq_hw.models.layout`.
        accuracy: percent of the labelled nodes (of a graph set: of the graphs) that are
            classified rightly: train, val, test.
        seed: seed of the initial weights and of dropout.
        recipe: what it was trained with: hidden, layers, epochs, lr, weight_decay, dropout; and
            best_epoch, counted from 1.
    """

    model: str
    parameters: dict[str, Array]
    accuracy: dict[str, float]
    seed: int
    recipe: dict[str, int | float]

    @property
    def num_layers(self) -> int:
        """Number of layers."""
        return len(layer_shapes({name: array.shape for name, array in self.parameters.items()}))


class _Layer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    kind: str
    shapes: dict[str, list[int]]


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
    layers: Annotated[list[_Layer], msgspec.Meta(min_length=2, max_length=MAX_LAYERS)]
    accuracy: _Accuracy
    seed: Annotated[int, msgspec.Meta(ge=0, le=MAX_SEED)]
    recipe: dict[str, int | float]


def save_trained(path: Path, trained: TrainedModel, data: Graph | GraphSet) -> None:
    """Write one pickle-free `.npz`: the parameters, `graph/...`, `set/...`, a JSON `manifest`.

    The manifest is UTF-8 in a uint8 array: format, version, model, layers (kind, shapes of the
    parameters), accuracy, seed and recipe. Equal arguments give equal bytes.

    Raises:
        InputError: the file cannot be written.
    """
    of_graphs = isinstance(data, GraphSet)
    shapes = layer_shapes({name: array.shape for name, array in trained.parameters.items()})
    kinds = kinds_of(trained.model, len(shapes), of_graphs=of_graphs)
    manifest = _Manifest(
        format=FORMAT,
        version=VERSION,
        model=trained.model,
        layers=[
            _Layer(kind, {name: list(shape) for name, shape in layer.items()})
            for kind, layer in zip(kinds, shapes, strict=True)
        ],
        accuracy=_Accuracy(**trained.accuracy),
        seed=trained.seed,
        recipe=trained.recipe,
    )
    arrays = data_to_arrays(data)
    arrays["manifest"] = utf8_array(msgspec.json.encode(manifest, order="sorted").decode())
    write_npz(path, arrays | trained.parameters)


def data_to_arrays(data: Graph | GraphSet) -> dict[str, npt.NDArray[Any]]:
    """Return the arrays under which a file keeps its graph or set of graphs."""
    return graph_set_to_arrays(data) if isinstance(data, GraphSet) else graph_to_arrays(data)


def load_trained(path: Path) -> tuple[TrainedModel, Graph | GraphSet]:
    """Read what `save_trained` wrote, with all checks.

    Raises:
        InputError: missing, unknown or wrong fields, or another version; names file and field.
    """
    arrays = read_npz(path)
    fields = Fields(arrays, str(path))
    manifest = _read_manifest(fields)
    of_graphs = any(name.startswith("set/") for name in arrays)
    if of_graphs and manifest.model not in GRAPH_MODELS:
        fields.fail("manifest", f"model: {manifest.model} does not classify graphs")
    data: Graph | GraphSet
    if of_graphs:
        data = graph_set_from_arrays(arrays, str(path))
    else:
        data = graph_from_arrays(arrays, str(path))
    kinds = kinds_of(manifest.model, len(manifest.layers), of_graphs=of_graphs)
    try:
        layers = [(layer.kind, layer.shapes) for layer in manifest.layers]
        outputs = check_layers(kinds, layers, data.num_features)
    except LayoutError as error:
        fields.fail("manifest", str(error))
    shapes = {
        f"layer{index}/{name}": tuple(shape)
        for index, layer in enumerate(manifest.layers)
        for name, shape in layer.shapes.items()
    }
    fields.only(["manifest", *shapes, *GRAPH_KEYS, *(SET_KEYS if of_graphs else ())])
    if data.num_classes > outputs:
        y = "set/y" if of_graphs else "graph/y"
        fields.fail(y, f"{data.num_classes} classes, but the network has {outputs} outputs")
    trained = TrainedModel(
        model=manifest.model,
        parameters={name: _float32(fields, name, shape) for name, shape in shapes.items()},
        accuracy=msgspec.structs.asdict(manifest.accuracy),
        seed=manifest.seed,
        recipe=manifest.recipe,
    )
    return trained, data


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
