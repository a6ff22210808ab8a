"""The memory of a configuration without tuning it: fast enough to rank thousands of points."""

from dataclasses import replace
from typing import Literal

import msgspec

from sgq_hw.bundle import Bundle, Epilogue, Format, Manifest
from sgq_hw.graphs import Graph
from sgq_hw.quantize.config import BitConfig, uniform_config
from sgq_hw.quantize.network import QuantizedNetwork
from sgq_hw.search.space import Point, Space, config_of
from sgq_hw.search.trial import budget_of, charged_bits
from sgq_hw.train import TrainedModel

FRAME_BITS = 8


def _with_bits(fmt: Format, bits: int) -> Format:
    return msgspec.structs.replace(fmt, bits=bits)


def _output_bits(epilogue: Epilogue, bits: int, tables: dict[str, int]) -> Epilogue:
    multiplier = epilogue.multiplier
    if multiplier.kind == "node":
        multiplier = msgspec.structs.replace(multiplier, bits=tables[multiplier.table])
    return msgspec.structs.replace(
        epilogue, output=_with_bits(epilogue.output, bits), multiplier=multiplier
    )


def _resized(manifest: Manifest, config: BitConfig) -> Manifest:
    """Return a manifest of the same network with other bits, scales as they were."""
    node_tables = tuple(
        msgspec.structs.replace(
            table, bits=config.factor if table.rule == "degree" else config.input_factor
        )
        for table in manifest.node_tables
    )
    tables = {table.name: table.bits for table in node_tables}
    spec = manifest.input
    if spec.bits > 1:  # the frame has one bit only where the inputs are binary
        spec = msgspec.structs.replace(
            spec, bits=max(config.input, 2) if spec.signed else config.input
        )
    layers = tuple(
        msgspec.structs.replace(
            layer,
            weight=_with_bits(layer.weight, bits.weight),
            combine=_output_bits(layer.combine, bits.combine, tables),
            aggregate=_output_bits(layer.aggregate, bits.aggregate, tables),
        )
        for layer, bits in zip(manifest.layers, config.layers, strict=True)
    )
    edge = manifest.edge and _with_bits(manifest.edge, config.edge)
    return msgspec.structs.replace(
        manifest, input=spec, edge=edge, node_tables=node_tables, layers=layers
    )


class Pricer:
    """Charged memory of points, bits.

    One calibrated network per normalisation is the frame; a point only changes its bits. That is
    exact but for the width of the biases, which follows the scales of the tuned network; biases
    are a word or two a layer.
    """

    def __init__(self, space: Space, trained: TrainedModel, graph: Graph) -> None:
        self._space = space
        self._trained = trained
        self._graph = graph
        self._frames: dict[str, Bundle] = {}
        self._known: dict[Point, int] = {}

    def _frame(self, normalisation: Literal["factored", "edge"]) -> Bundle:
        if normalisation not in self._frames:
            config = uniform_config(FRAME_BITS, len(self._trained.weights), normalisation)
            weights, biases = list(self._trained.weights), list(self._trained.biases)
            self._frames[normalisation] = QuantizedNetwork(
                weights, biases, self._graph, config
            ).freeze()
        return self._frames[normalisation]

    def __call__(self, point: Point) -> int:
        """Return the memory of a point."""
        if point not in self._known:
            config = config_of(self._space, point)
            frame = self._frame(config.normalisation)
            manifest = _resized(frame.network.manifest, config)
            bundle = replace(frame, network=replace(frame.network, manifest=manifest))
            self._known[point] = charged_bits(budget_of(bundle))
        return self._known[point]
