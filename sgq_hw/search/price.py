"""The memory of a configuration without tuning it: fast enough to rank thousands of points."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import msgspec

from sgq_hw.bundle import Bundle
from sgq_hw.compression import charged_memory
from sgq_hw.formats import Epilogue, Format, Window
from sgq_hw.graph_sets import GraphSet
from sgq_hw.graphs import Graph
from sgq_hw.layers import AgnnAttention, GatAttention, Layer
from sgq_hw.manifest import Manifest
from sgq_hw.quantize.config import (
    BitConfig,
    Component,
    LayerBits,
    Taq,
    turned,
    uniform_config,
)
from sgq_hw.quantize.freeze import freeze
from sgq_hw.quantize.pipeline import quantized_network
from sgq_hw.quantize.plan import bundle_layers
from sgq_hw.quantize.workload import degree_buckets
from sgq_hw.search.space import SPLITS, Point, Space, config_of
from sgq_hw.train import TrainedModel

FRAME_BITS = 8


def _resized_format(fmt: Format, bits: Component) -> Format:
    """Return a format with other bits; where windows lie does not matter to their size."""
    if not isinstance(bits, Taq):
        return Format(bits=bits, signed=fmt.signed, scale=fmt.scale)
    windows = tuple(Window(exponent=0, bits=width) for width in bits.bits)
    return Format(bits=max(bits.bits), signed=fmt.signed, scale=fmt.scale, windows=windows)


def _resized_layer(layer: Layer, bits: LayerBits, tables: dict[str, int]) -> Layer:
    changes: dict[str, Any] = {}
    for name in layer.__struct_fields__:
        value = getattr(layer, name)
        if isinstance(value, Epilogue):
            multiplier = value.multiplier
            if multiplier.kind == "node":
                multiplier = msgspec.structs.replace(multiplier, bits=tables[multiplier.table])
            output = _resized_format(value.output, bits.component(name))
            changes[name] = msgspec.structs.replace(value, output=output, multiplier=multiplier)
        elif isinstance(value, Format) and bits.weight is not None:
            changes[name] = _resized_format(value, bits.weight)
        elif isinstance(value, GatAttention | AgnnAttention):
            changes[name] = msgspec.structs.replace(value, bits=bits.attention)
    return msgspec.structs.replace(layer, **changes)


def resized(manifest: Manifest, kinds: Sequence[str], config: BitConfig) -> Manifest:
    """Return a manifest with all bits but the input's changed, scales as they were."""
    node_tables = tuple(
        msgspec.structs.replace(
            table,
            bits=config.factor if table.rule in ("degree", "mean") else config.input_factor,
        )
        for table in manifest.node_tables
    )
    tables = {table.name: table.bits for table in node_tables}
    planned = bundle_layers(kinds, config)
    layers = tuple(
        _resized_layer(layer, plan.bits, tables)
        for layer, plan in zip(manifest.layers, planned, strict=True)
    )
    return msgspec.structs.replace(
        manifest,
        edge=manifest.edge and _resized_format(manifest.edge, config.edge),
        node_tables=node_tables,
        layers=layers,
        degree_splits=config.splits(),
    )


class Pricer:
    """Charged memory of points, bits.

    One calibrated network for each normalisation, order of stages and input width is the frame
    (inputs that round to zero are not stored); a point only changes its bits. That is exact but for
    the width of the biases and constants and the length of the tables of exponentials, which follow
    the scales of the tuned network.
    """

    def __init__(
        self, space: Space, kinds: Sequence[str], trained: TrainedModel, data: Graph | GraphSet
    ) -> None:
        self._space, self._kinds = space, kinds
        self._trained, self._data = trained, data
        self._frames: dict[tuple[str, int, tuple[str, ...]], Bundle] = {}
        self._known: dict[Point, int] = {}

    def _frame(self, config: BitConfig) -> Bundle:
        associations = tuple(layer.association for layer in config.layers)
        key = (config.normalisation, config.input, associations)
        if key not in self._frames:
            uniform = uniform_config(FRAME_BITS, self._kinds, config.normalisation)
            layers = tuple(
                turned(layer) if association == "(AX)W" else layer
                for layer, association in zip(uniform.layers, associations, strict=True)
            )
            framed = msgspec.structs.replace(uniform, input=config.input, layers=layers)
            bundle = freeze(quantized_network(self._trained, self._data, framed))
            graph = self._data.union if isinstance(self._data, GraphSet) else self._data
            workload = replace(bundle.workload, buckets=degree_buckets(graph, SPLITS))
            self._frames[key] = replace(bundle, workload=workload)
        return self._frames[key]

    def charges(self, point: Point) -> dict[str, int]:
        """Return the memory of a point by purpose."""
        config = config_of(self._space, self._kinds, point)
        frame = self._frame(config)
        manifest = resized(frame.network.manifest, self._kinds, config)
        return charged_memory(replace(frame, network=replace(frame.network, manifest=manifest)))

    def __call__(self, point: Point) -> int:
        """Return the memory of a point."""
        if point not in self._known:
            self._known[point] = sum(self.charges(point).values())
        return self._known[point]
