"""From a calibrated network to the manifest of its bundle: records of each kind of layer."""

from typing import Any

from sgq_hw.bundle import Bundle, Network
from sgq_hw.formats import Format
from sgq_hw.golden.attention_unit import elu_table
from sgq_hw.layers import (
    AgnnAttention,
    AgnnLayer,
    GatAttention,
    GatLayer,
    GcnLayer,
    GinLayer,
    Layer,
    LinearLayer,
    ReadoutLayer,
    SageLayer,
)
from sgq_hw.manifest import BUNDLE_FORMAT, BUNDLE_VERSION, Manifest
from sgq_hw.quantize.network import QuantizedNetwork
from sgq_hw.quantize.plan import PlannedStage
from sgq_hw.quantize.workload import bind


def freeze(network: QuantizedNetwork) -> Bundle:
    """Return the integers of a network and its bound graph.

    Raises:
        InputError: a shift beyond what an epilogue holds.
    """
    network.follow_exponents()
    frozen = Network(manifest_of(network), {})
    for stage in network.stages:
        chosen = network.calibrated[stage.key]
        if chosen.weight is not None:
            frozen.weights[stage.key] = network.weight_codes(stage)
        if stage.bias:
            frozen.biases[stage.key] = network.bias_codes(stage)
        if chosen.attention is not None:
            frozen.exponentials[stage.key] = chosen.attention.table.codes
        if stage.activation == "elu":
            output = chosen.output
            frozen.activations[stage.key] = elu_table(output.bits, output.scale)
    return Bundle(frozen, bind(network.data, frozen.manifest))


def manifest_of(network: QuantizedNetwork) -> Manifest:
    """Return the bundle's manifest for the present scales.

    Raises:
        InputError: a shift beyond what an epilogue holds.
    """
    layers: list[Layer] = []
    width = network.graph.input.channels
    for index, planned in enumerate(network.layers):
        stages = {stage.key[1]: stage for stage in network.stages if stage.key[0] == index}
        layers.append(_layer(network, planned.kind, stages, width))
        width = layers[-1].out_channels
    return Manifest(
        format=BUNDLE_FORMAT,
        version=BUNDLE_VERSION,
        normalisation=network.normalisation,
        self_loops=network.graph.self_loops,
        input=network.graph.input,
        edge=network.graph.edge,
        node_tables=tuple(network.graph.node_tables.values()),
        layers=tuple(layers),
        degree_splits=network.graph.splits,
    )


def _layer(
    network: QuantizedNetwork, kind: str, stages: dict[str, PlannedStage], inputs: int
) -> Layer:
    """Return the record of one layer that reads `inputs` channels."""
    record: dict[str, Any] = {"in_channels": inputs}
    record |= {name: network.epilogue(stage) for name, stage in stages.items()}
    for name, stage in stages.items():
        if stage.operation == "combine":
            prefix = "" if name == "combine" else f"{name}_"
            record[f"{prefix}weight"] = _weight_format(network, stage)
    if kind in ("gcn", "sage", "gat", "linear"):
        record["out_channels"] = _outputs(network, stages["combine"])
    if kind == "gcn":
        turned = next(iter(stages)) == "aggregate"
        return GcnLayer(association="(AX)W" if turned else "A(XW)", **record)
    if kind == "sage":
        return SageLayer(root_factor=network.addend_factor(stages["aggregate"]), **record)
    if kind == "gin":
        hidden = _outputs(network, stages["combine"])
        outputs = _outputs(network, stages["mlp"])
        return GinLayer(hidden_channels=hidden, out_channels=outputs, **record)
    if kind in ("gat", "agnn"):
        attention = network.attention(stages["aggregate"])
        assert attention is not None
        if isinstance(attention.record, GatAttention):
            activation = stages["aggregate"].activation
            return GatLayer(attention=attention.record, activation=activation, **record)
        assert isinstance(attention.record, AgnnAttention)
        return AgnnLayer(attention=attention.record, **record)
    return LinearLayer(**record) if kind == "linear" else ReadoutLayer(**record)


def _weight_format(network: QuantizedNetwork, stage: PlannedStage) -> Format:
    weight = network.calibrated[stage.key].weight
    assert weight is not None
    return weight


def _outputs(network: QuantizedNetwork, stage: PlannedStage) -> int:
    return int(network.float_weight(stage).shape[1])
