"""The memory of a configuration without tuning it: fast enough to rank thousands of points."""

from dataclasses import replace

import msgspec

from sgq_hw.budget import Budget
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
    """Return a manifest with all bits but the input's changed, scales as they were."""
    node_tables = tuple(
        msgspec.structs.replace(
            table, bits=config.factor if table.rule == "degree" else config.input_factor
        )
        for table in manifest.node_tables
    )
    tables = {table.name: table.bits for table in node_tables}
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
        manifest, edge=edge, node_tables=node_tables, layers=layers
    )


class Pricer:
    """Charged memory of points, bits.

    One calibrated network for each normalisation and input width is the frame (inputs that round
    to zero are not stored); a point only changes its bits. That is exact but for the width of the
    biases, which follows the scales of the tuned network; biases are a word or two a layer.
    """

    def __init__(self, space: Space, trained: TrainedModel, graph: Graph) -> None:
        self._space = space
        self._trained = trained
        self._graph = graph
        self._frames: dict[tuple[str, int], Bundle] = {}
        self._known: dict[Point, int] = {}

    def _frame(self, config: BitConfig) -> Bundle:
        key = (config.normalisation, config.input)
        if key not in self._frames:
            weights, biases = list(self._trained.weights), list(self._trained.biases)
            uniform = uniform_config(FRAME_BITS, len(weights), config.normalisation)
            network = QuantizedNetwork(
                weights, biases, self._graph, msgspec.structs.replace(uniform, input=config.input)
            )
            self._frames[key] = network.freeze()
        return self._frames[key]

    def budget(self, point: Point) -> Budget:
        """Return the memory budget of a point, exact but for the width of the biases."""
        config = config_of(self._space, point)
        frame = self._frame(config)
        manifest = _resized(frame.network.manifest, config)
        return budget_of(replace(frame, network=replace(frame.network, manifest=manifest)))

    def __call__(self, point: Point) -> int:
        """Return the memory of a point."""
        if point not in self._known:
            self._known[point] = charged_bits(self.budget(point))
        return self._known[point]
