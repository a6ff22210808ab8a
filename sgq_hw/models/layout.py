"""Layers of the networks and the names and shapes of their parameters. Needs no PyTorch.

A parameter is called `layerI/NAME`, I counted from 0.
"""

from collections.abc import Mapping, Sequence
from typing import Final

Shape = tuple[int, ...]
Shapes = Mapping[str, Sequence[int]]

# By kind of layer: parameter names and their shapes. Equal words are equal sizes.
LAYER_KINDS: Final[dict[str, dict[str, tuple[str, ...]]]] = {
    "gcn": {"combine/weight": ("inputs", "outputs"), "bias": ("outputs",)},
    "sage": {
        "neighbour/weight": ("inputs", "outputs"),
        "root/weight": ("inputs", "outputs"),
        "bias": ("outputs",),
    },
    "gin": {
        "combine/weight": ("inputs", "hidden"),
        "combine/bias": ("hidden",),
        "mlp/weight": ("hidden", "outputs"),
        "mlp/bias": ("outputs",),
    },
    "gat": {
        "combine/weight": ("inputs", "outputs"),
        "source": ("heads", "channels"),
        "target": ("heads", "channels"),
        "bias": ("outputs",),
    },
    "linear": {"combine/weight": ("inputs", "outputs"), "bias": ("outputs",)},
    "propagate": {"beta": ("one",)},
}

AGNN_LAYERS: Final = ("linear", "propagate", "propagate", "linear")


class LayoutError(ValueError):
    """Layers that are not a network; the message names the layer."""


def kinds_of(model: str, layers: int, *, of_graphs: bool) -> tuple[str, ...]:
    """Return the kind of every layer of a network; graph classifiers end in a linear layer."""
    if model == "agnn":
        return AGNN_LAYERS
    return (*(model,) * (layers - 1), "linear" if of_graphs else model)


def layer_shapes(parameters: Mapping[str, Shape]) -> list[dict[str, Shape]]:
    """Group the shapes of `layerI/NAME` by layer: NAME to shape, layer 0 first."""
    layers: dict[int, dict[str, Shape]] = {}
    for name, shape in parameters.items():
        layer, _, rest = name.partition("/")
        layers.setdefault(int(layer.removeprefix("layer")), {})[rest] = shape
    return [layers[index] for index in range(len(layers))]


def check_layers(
    kinds: Sequence[str], layers: Sequence[tuple[str, Shapes]], inputs: int
) -> int:
    """Check the (kind, shapes) of every layer of a network; return the width of its outputs.

    Args:
        kinds: what the kinds must be.
        layers: what they are, with the shape of every parameter.
        inputs: features of the graph.

    Raises:
        LayoutError: another kind, a parameter too many or too few, or sizes that do not agree.
    """
    for index, (kind, shapes) in enumerate(layers):
        where = f"layers[{index}]"
        if index >= len(kinds) or kind != kinds[index]:
            wanted = kinds[index] if index < len(kinds) else "none"
            raise LayoutError(f"{where}.kind: {kind!r}, expected {wanted}")
        sizes = _sizes(f"{where}.shapes", LAYER_KINDS[kind], shapes)
        if kind == "gat" and sizes["heads"] * sizes["channels"] != sizes["outputs"]:
            raise LayoutError(f"{where}.shapes: outputs are not heads times channels")
        if sizes.get("inputs", inputs) != inputs:
            raise LayoutError(f"{where}: {sizes['inputs']} inputs; it must have {inputs}")
        inputs = sizes.get("outputs", inputs)
    if len(layers) != len(kinds):
        raise LayoutError(f"layers: {len(layers)} of them, expected {len(kinds)}")
    return inputs


def _sizes(
    where: str, layout: Mapping[str, tuple[str, ...]], shapes: Shapes
) -> dict[str, int]:
    """Return the size behind every word of `layout`."""
    for name in sorted({*layout, *shapes}):
        if name not in shapes or name not in layout:
            reason = "missing" if name in layout else "unknown parameter"
            raise LayoutError(f"{where}: {name}: {reason}")
    sizes = {"one": 1}
    for name, words in layout.items():
        shape = shapes[name]
        if len(shape) != len(words):
            raise LayoutError(f"{where}: {name}: {len(shape)} dimensions, expected {len(words)}")
        for word, size in zip(words, shape, strict=True):
            if size < 1 or sizes.setdefault(word, size) != size:
                raise LayoutError(f"{where}: {name}: {list(shape)} does not fit")
    return sizes
