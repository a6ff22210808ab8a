"""The bit configuration: which tensor gets how many bits, as a small TOML file a person edits."""

import json
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from sgq_hw.errors import InputError
from sgq_hw.formats import Record
from sgq_hw.graph_sets import GraphSet
from sgq_hw.graphs import Graph
from sgq_hw.layers import Bound
from sgq_hw.models.layout import kinds_of
from sgq_hw.trained import TrainedModel

Bits = Annotated[int, msgspec.Meta(ge=1, le=16)]
SignedBits = Annotated[int, msgspec.Meta(ge=2, le=16)]
Calibration = Literal["error", "range", "row-range", "percentile"]
Association = Literal["A(XW)", "(AX)W"]


class Taq(Record, frozen=True):
    """Topology-aware bits of a tensor (SGQuant's TAQ): fewer for nodes with more neighbours.

    Attributes:
        splits: First in-degree of every bucket but the lowest, ascending.
        bits: One width for each bucket, lowest degrees first.
    """

    splits: Annotated[
        tuple[Annotated[int, msgspec.Meta(ge=1)], ...], msgspec.Meta(min_length=1, max_length=7)
    ]
    bits: tuple[Bits, ...]

    def __post_init__(self) -> None:
        if list(self.splits) != sorted(set(self.splits)):
            raise ValueError("splits do not ascend")
        if len(self.bits) != len(self.splits) + 1:
            raise ValueError(f"{len(self.splits)} splits need {len(self.splits) + 1} bits")


def make_taq(splits: Sequence[int], bits: Sequence[int]) -> Taq:
    """Return topology-aware bits.

    Raises:
        InputError: splits that do not ascend, widths outside 1 to 16, or not one for each bucket.
    """
    try:
        return msgspec.convert({"splits": list(splits), "bits": list(bits)}, Taq)
    except msgspec.ValidationError as error:
        raise InputError(f"--taq-bits: {error}") from error


Component = Bits | Taq


class LayerBits(Record, frozen=True):
    """Bits of one layer; each kind of layer has those components that `COMPONENTS` lists.

    Attributes:
        weight: All weights of the layer, signed.
        combine: Features times weights, before the graph is applied.
        aggregate: After the graph, or after the hidden half of a GIN layer.
        root: The root term of GraphSAGE.
        mlp: Result of a GIN layer.
        score: Attention scores or logits.
        attention: Attention weights.
        readout: Sum of each graph's nodes, before the last layer of a graph classifier.
        association: Which stage of a GCN layer runs first: `A(XW)` the combination, `(AX)W` the
            aggregation.
    """

    weight: SignedBits | None = None
    combine: Component | None = None
    aggregate: Component | None = None
    root: SignedBits | None = None
    mlp: Component | None = None
    score: SignedBits | None = None
    attention: Bits | None = None
    readout: Bits | None = None
    association: Association = "A(XW)"

    def component(self, name: str) -> Component:
        """Return the bits of a stage's result, which the layer is known to have."""
        value: Component = getattr(self, name)
        return value


def turned(layer: LayerBits) -> LayerBits:
    """Return the bits of a GCN layer of `A(XW)` for `(AX)W`: each place keeps its own."""
    return msgspec.structs.replace(
        layer, association="(AX)W", combine=layer.aggregate, aggregate=layer.combine
    )


COMPONENTS: dict[str, tuple[str, ...]] = {
    "gcn": ("weight", "combine", "aggregate"),
    "sage": ("weight", "combine", "root", "aggregate"),
    "gin": ("weight", "combine", "aggregate", "mlp"),
    "gat": ("weight", "combine", "score", "attention", "aggregate"),
    "propagate": ("score", "attention", "aggregate"),
    "linear": ("weight", "combine"),
    "readout": ("readout", "weight", "combine"),
}
"""By kind of layer, as in `sgq_hw.models.layout`; a linear layer after a readout is `readout`."""

RESULTS = {"gin": "mlp", "linear": "combine", "readout": "combine"}
"""Component of a layer's result where it is not `aggregate`."""


class BitConfig(Record, frozen=True, kw_only=True):
    """Bits of a whole network.

    Attributes:
        input: Input features; binary inputs always take exactly 1.
        edge: Edge values of the `edge` normalisation (SGQuant's attention component).
        factor: Per-node factors of the graph: degrees of `factored`, 1 / degree of SAGE's mean.
        input_factor: Per-node factors of the first combination (row normalisation and, where
            factored, the degree).
        normalisation: GCN only: `factored` or `edge`.
        calibration: How a scale follows from the values: least squared `error`, `range` (largest
            value), `row-range` (mean of the rows' largest, as SGQuant's released quantiser), or
            `percentile` (99.9 %, as Degree-Quant).
        attention_bound: GAT only: what a row's logits are subtracted from, the maximum of the `row`
            or a `global` bound over all nodes.
        layers: One entry per layer.
    """

    input: Bits
    edge: Bits = 8
    factor: Bits = 8
    input_factor: Bits = 12
    normalisation: Literal["factored", "edge"] = "factored"
    calibration: Calibration = "error"
    attention_bound: Bound = "row"
    layers: tuple[LayerBits, ...]

    def splits(self) -> tuple[int, ...]:
        """Return the degree splits that all topology-aware tensors share, empty without any.

        Raises:
            InputError: two tensors have different splits.
        """
        found: dict[tuple[int, ...], str] = {}
        for index, layer in enumerate(self.layers):
            for name in ("combine", "aggregate", "mlp"):
                component = getattr(layer, name)
                if isinstance(component, Taq):
                    found.setdefault(component.splits, f"layers[{index}].{name}")
        if len(found) > 1:
            raise InputError(f"{list(found.values())[1]}.splits: not those of the other tensors")
        return next(iter(found), ())


LOGIT_BITS = 16
"""Logits are never narrower: the argmax is taken on them."""
SCORE_BITS = 12
ATTENTION_BITS = 4
"""Least width of attention weights in uniform configurations: 2 bits lose too much."""
MEAN_FACTOR_BITS = 16
"""1 / degree of a hub with thousands of neighbours needs as many bits below the point."""


def config_kinds(kinds: Sequence[str], *, of_graphs: bool = False) -> tuple[str, ...]:
    """Return the keys of `COMPONENTS` for a network's layers, of `sgq_hw.models.layout`."""
    return (*kinds[:-1], "readout") if of_graphs else tuple(kinds)


def kinds_for(trained: TrainedModel, data: Graph | GraphSet) -> tuple[str, ...]:
    """Return the keys of `COMPONENTS` for the layers of a trained network."""
    of_graphs = isinstance(data, GraphSet)
    kinds = kinds_of(trained.model, trained.num_layers, of_graphs=of_graphs)
    return config_kinds(kinds, of_graphs=of_graphs)


def _uniform_layer(kind: str, bits: int, last: bool) -> dict[str, Any]:
    values = {
        "weight": max(bits, 2),
        "combine": max(bits, 8),
        "aggregate": bits,
        "root": max(bits, 8),
        "mlp": bits,
        "score": SCORE_BITS,
        "attention": max(bits, ATTENTION_BITS),
        "readout": LOGIT_BITS,
    }
    # A linear layer in the middle ends in ReLU: its result is a hidden feature.
    hidden = max(bits, 2) if kind == "gat" else bits  # ELU keeps the sign
    values[RESULTS.get(kind, "aggregate")] = LOGIT_BITS if last else hidden
    return {name: values[name] for name in COMPONENTS[kind]}


def uniform_config(
    bits: int,
    layers: int | Sequence[str],
    normalisation: str = "factored",
    calibration: str = "error",
    attention_bound: str = "row",
) -> BitConfig:
    """Return the configuration that `--bits N` stands for.

    Hidden features and multi-bit inputs get N bits (GAT's hidden features, which have a sign, at
    least 2), weights and edge values max(N, 2), the pre-aggregation tensors max(N, 8), attention
    weights max(N, 4), scores 12, logits 16.

    Args:
        bits: N, 1 to 16.
        layers: Kinds of the layers, or the number of GCN layers.
        normalisation: `factored` or `edge`.
        calibration: How scales follow from values.
        attention_bound: `row` or `global`; the latter of networks with GAT layers only.

    Raises:
        InputError: bits outside 1 to 16.
    """
    if not 1 <= bits <= 16:
        raise InputError(f"--bits: {bits} is outside 1 to 16")
    kinds = ("gcn",) * layers if isinstance(layers, int) else tuple(layers)
    config: dict[str, Any] = {
        "input": bits,
        "edge": max(bits, 2),
        "normalisation": normalisation,
        "calibration": calibration,
        "attention_bound": attention_bound,
        "layers": [
            _uniform_layer(kind, bits, index == len(kinds) - 1) for index, kind in enumerate(kinds)
        ],
    }
    if "sage" in kinds:
        config["factor"] = MEAN_FACTOR_BITS
    return msgspec.convert(config, BitConfig)


def with_taq(
    config: BitConfig, kinds: Sequence[str], taq: Taq, everywhere: bool = False
) -> BitConfig:
    """Return the configuration with topology-aware bits for the result of every hidden layer.

    The results of GAT pass through ELU's table, of one width: there it is the features that
    attention weighs, which have a sign as well.

    Args:
        config: A configuration that runs every combination first.
        kinds: Kinds of the layers.
        taq: Bits by degree.
        everywhere: Also for what is kept inside the layers, which has a sign: at least 2 bits.
    """
    layers = list(config.layers)
    signed = msgspec.structs.replace(taq, bits=tuple(max(width, 2) for width in taq.bits))
    for index, kind in enumerate(kinds):
        result = RESULTS.get(kind, "aggregate")
        change: dict[str, Any] = {}
        if everywhere:
            inner = [name for name in COMPONENTS[kind] if name in ("combine", "aggregate")]
            change |= dict.fromkeys(inner, signed)
            change.pop(result, None)
        if index < len(kinds) - 1:
            change |= {"combine": signed} if kind == "gat" else {result: taq}
        layers[index] = msgspec.structs.replace(layers[index], **change)
    return msgspec.structs.replace(config, layers=tuple(layers))


def check_config(config: BitConfig, kinds: Sequence[str]) -> None:
    """Refuse a configuration that does not fit the layers of a network.

    Raises:
        InputError: naming the entry.
    """
    if len(config.layers) != len(kinds):
        raise InputError(f"layers: {len(config.layers)} entries for {len(kinds)} layers")
    for index, (layer, kind) in enumerate(zip(config.layers, kinds, strict=True)):
        where = f"layers[{index}]"
        for name in (field.name for field in msgspec.structs.fields(layer)):
            if name == "association":
                continue
            value, belongs = getattr(layer, name), name in COMPONENTS[kind]
            if belongs and value is None:
                raise InputError(f"{where}.{name}: missing, a {kind} layer has it")
            if not belongs and value is not None:
                raise InputError(f"{where}.{name}: a {kind} layer has none")
        _check_association(where, layer, kind, index == 0 or config.normalisation != "edge")
        _check_signs(where, layer, kind)
    _check_logits(config, kinds[-1])
    config.splits()
    if "gcn" not in kinds and config.normalisation != "factored":
        raise InputError("normalisation: a choice of GCN only")
    if "gat" not in kinds and config.attention_bound != "row":
        raise InputError("attention_bound: a choice of GAT only")


def _check_association(where: str, layer: LayerBits, kind: str, barred: bool) -> None:
    if layer.association == "A(XW)":
        return
    if kind != "gcn":
        raise InputError(f"{where}.association: a choice of GCN layers only")
    if barred:
        raise InputError(
            f"{where}.association: (AX)W needs normalisation 'edge' and is not possible in the"
            " first layer, whose input is streamed"
        )


def _check_signs(where: str, layer: LayerBits, kind: str) -> None:
    """Refuse one bit for tensors with a sign, in whatever bucket, and windows before ELU's table.

    All results of GAT have a sign: they end in ELU or are the logits.
    """
    if kind == "gat" and isinstance(layer.aggregate, Taq):
        raise InputError(f"{where}.aggregate: has no degree-aware bits: ELU reads one width")
    signed = {"linear": (), "readout": (), "gat": ("combine", "aggregate")}.get(kind, ("combine",))
    if layer.association == "(AX)W":
        signed = ()  # sums of features that have no sign; then the hidden layer's ReLU, or logits
    for name in signed:
        value = getattr(layer, name)
        lowest = min(value.bits) if isinstance(value, Taq) else value
        if lowest is not None and lowest < 2:
            raise InputError(f"{where}.{name}: {lowest} bit; signed tensors have 2 to 16")


def _check_logits(config: BitConfig, kind: str) -> None:
    final = config.layers[-1]
    name = RESULTS.get(kind, "aggregate")
    if kind == "gcn" and final.association == "(AX)W":
        name = "combine"
    if final.component(name) != LOGIT_BITS:
        where = f"layers[{len(config.layers) - 1}]"
        raise InputError(f"{where}: logits have {LOGIT_BITS} bits, here `{name}`")


def load_config(path: Path, layers: int | Sequence[str]) -> BitConfig:
    """Read a bit configuration.

    Args:
        path: A TOML file.
        layers: Kinds of the layers, or the number of GCN layers.

    Raises:
        InputError: one line naming file, field and reason.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    try:
        data: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not TOML: {error}") from error
    kinds = ("gcn",) * layers if isinstance(layers, int) else tuple(layers)
    try:
        config = msgspec.convert(data, BitConfig)
        check_config(config, kinds)
    except (msgspec.ValidationError, InputError) as error:
        raise InputError(f"{path}: {error}") from error
    return config


def config_text(config: BitConfig) -> str:
    """Return a bit configuration as the TOML that `load_config` reads."""
    fields = msgspec.to_builtins(config)
    layers = fields.pop("layers")
    blocks = [
        "\n".join(f"{name} = {_toml(value)}" for name, value in block.items() if value is not None)
        for block in (fields, *layers)
    ]
    return "\n\n[[layers]]\n".join(blocks) + "\n"


def _toml(value: Any) -> str:
    """Return a value in TOML; its strings, integers and lists are written as in JSON."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{name} = {_toml(part)}" for name, part in value.items()) + " }"
    return json.dumps(value)
