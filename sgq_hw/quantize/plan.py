"""What a quantised network computes, stage by stage, before any scale is chosen.

The plan knows the kinds of layers, so that forward pass, calibration and freezing need not.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from sgq_hw.formats import Key
from sgq_hw.layers import Bound, Operation
from sgq_hw.quantize.config import BitConfig, Component, LayerBits

Rule = Literal["degree", "mean", "input", "input-degree"]
Normalisation = Literal["factored", "edge", "mean", "sum", "attention"]

NORMALISATIONS: dict[str, Normalisation] = {
    "sage": "mean", "gin": "sum", "gat": "attention", "agnn": "attention",
}  # fmt: skip
"""What the aggregation of every model but GCN does; there the user chooses."""


@dataclass(frozen=True, slots=True)
class PlannedStage:
    """One stage before calibration. Fields not listed are those of `sgq_hw.layers.Step`.

    Attributes:
        bits: Width of the result.
        signed: Whether results may be negative; unsigned ones end in ReLU.
        weight_bits: Width of the weights of a combination.
        weight: Name of the float weights; for GAT's scores, of the weights they derive from.
        bias: Name of the float bias, empty without.
        rule: Rule of the node table that is the multiplier, None without.
        attention_bits, score_bits: Of an `attend`.
        bound: Upper bound of a row's logits in GAT, as in `sgq_hw.layers.GatAttention`.
        hidden: Whether the result is a hidden layer's, where training drops features.
    """

    key: Key
    operation: Operation
    source: Key | None
    bits: Component
    signed: bool
    weight_bits: int = 0
    weight: str = ""
    bias: str = ""
    rule: Rule | None = None
    addend: Key | None = None
    scores: Key | None = None
    attention_bits: int = 0
    score_bits: int = 0
    bound: Bound = "row"
    activation: Literal["none", "elu"] = "none"
    hidden: bool = False


@dataclass(frozen=True, slots=True)
class PlannedLayer:
    """A layer of the bundle.

    Attributes:
        kind: As in `sgq_hw.layers`.
        parameter: Layer of the float network whose parameters it has.
        bits: Its entry of the configuration.
    """

    kind: str
    parameter: int
    bits: LayerBits


def bundle_layers(kinds: Sequence[str], config: BitConfig) -> list[PlannedLayer]:
    """Return the layers of the bundle; `kinds` are those of the configuration."""
    found = []
    for parameter, (kind, bits) in enumerate(zip(kinds, config.layers, strict=True)):
        if kind == "readout":
            found.append(PlannedLayer("readout", parameter, bits))
        name = {"propagate": "agnn", "readout": "linear"}.get(kind, kind)
        found.append(PlannedLayer(name, parameter, bits))
    return found


def plan_stages(layers: Sequence[PlannedLayer], config: BitConfig) -> list[PlannedStage]:
    """Return the stages of a network in running order."""
    stages: list[PlannedStage] = []
    source: Key | None = None
    for index, layer in enumerate(layers):
        planner = {
            "gcn": _gcn, "sage": _sage, "gin": _gin, "gat": _gat, "agnn": _agnn,
            "linear": _linear, "readout": _readout,
        }[layer.kind]  # fmt: skip
        stages += planner(index, layer, source, index == len(layers) - 1, config)
        source = stages[-1].key
    return stages


def _required(value: int | None) -> int:
    """Return a width that `check_config` has found present."""
    assert value is not None
    return value


def _combine(
    index: int, layer: PlannedLayer, source: Key | None, name: str = "combine",
    parameter: str = "combine", rule: Rule | None = None, signed: bool = True, bias: str = "",
    hidden: bool = False,
) -> PlannedStage:  # fmt: skip
    prefix = f"layer{layer.parameter}"
    if source is None and rule is None:
        rule = "input"
    return PlannedStage(
        key=(index, name), operation="combine", source=source,
        bits=layer.bits.component(name), signed=signed,
        weight_bits=_required(layer.bits.weight), weight=f"{prefix}/{parameter}/weight",
        bias=f"{prefix}/{bias}" if bias else "", rule=rule, hidden=hidden,
    )  # fmt: skip


def _gcn(
    index: int, layer: PlannedLayer, source: Key | None, last: bool, config: BitConfig
) -> list[PlannedStage]:
    factored = config.normalisation == "factored"
    turned = layer.bits.association == "(AX)W"
    rule: Rule | None = None
    if factored:
        rule = "input-degree" if source is None else "degree"
    bias = f"layer{layer.parameter}/bias"
    combine, aggregate = (index, "combine"), (index, "aggregate")
    first = _combine(
        index, layer, aggregate if turned else source, rule=rule, signed=last or not turned,
        bias="bias" if turned else "", hidden=turned and not last,
    )  # fmt: skip
    # Sums of hidden features that are only aggregated are never negative.
    second = PlannedStage(
        key=aggregate, operation="aggregate", source=source if turned else combine,
        bits=layer.bits.component("aggregate"), signed=last and not turned,
        bias="" if turned else bias, rule="degree" if factored else None,
        hidden=not turned and not last,
    )  # fmt: skip
    return [second, first] if turned else [first, second]


def _sage(
    index: int, layer: PlannedLayer, source: Key | None, last: bool, _: BitConfig
) -> list[PlannedStage]:
    return [
        _combine(index, layer, source, parameter="neighbour"),
        _combine(index, layer, source, "root", "root"),
        PlannedStage(
            key=(index, "aggregate"), operation="aggregate", source=(index, "combine"),
            bits=layer.bits.component("aggregate"), signed=last,
            bias=f"layer{layer.parameter}/bias", rule="mean", addend=(index, "root"),
            hidden=not last,
        ),
    ]  # fmt: skip


def _gin(
    index: int, layer: PlannedLayer, source: Key | None, last: bool, _: BitConfig
) -> list[PlannedStage]:
    return [
        _combine(index, layer, source),
        PlannedStage(
            key=(index, "aggregate"), operation="aggregate", source=(index, "combine"),
            bits=layer.bits.component("aggregate"), signed=False,
            bias=f"layer{layer.parameter}/combine/bias",
        ),
        _combine(index, layer, (index, "aggregate"), "mlp", "mlp", signed=last, bias="mlp/bias",
                 hidden=not last),
    ]  # fmt: skip


def _gat(
    index: int, layer: PlannedLayer, source: Key | None, last: bool, config: BitConfig
) -> list[PlannedStage]:
    return [
        _combine(index, layer, source),
        _combine(index, layer, source, "score"),
        PlannedStage(
            key=(index, "aggregate"), operation="attend", source=(index, "combine"),
            bits=layer.bits.component("aggregate"), signed=True,
            bias=f"layer{layer.parameter}/bias", scores=(index, "score"),
            attention_bits=_required(layer.bits.attention),
            score_bits=_required(layer.bits.score), bound=config.attention_bound,
            activation="none" if last else "elu", hidden=not last,
        ),
    ]  # fmt: skip


def _agnn(
    index: int, layer: PlannedLayer, source: Key | None, last: bool, _: BitConfig
) -> list[PlannedStage]:
    return [
        PlannedStage(
            key=(index, "aggregate"), operation="attend", source=source,
            bits=layer.bits.component("aggregate"), signed=last,
            attention_bits=_required(layer.bits.attention),
            score_bits=_required(layer.bits.score),
        ),
    ]  # fmt: skip


def _linear(
    index: int, layer: PlannedLayer, source: Key | None, last: bool, _: BitConfig
) -> list[PlannedStage]:
    return [_combine(index, layer, source, signed=last, bias="bias", hidden=not last)]


def _readout(
    index: int, layer: PlannedLayer, source: Key | None, _: bool, __: BitConfig
) -> list[PlannedStage]:
    return [
        PlannedStage(
            key=(index, "readout"), operation="readout", source=source,
            bits=_required(layer.bits.readout), signed=False,
        )
    ]  # fmt: skip
