"""How much smaller a quantised network is: four figures, always together, for every model.

Counts follow from the bundle alone. `sgq_hw.budget` charges the memories of a generated design
instead, with the padding of its lanes; both use the same definitions.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from sgq_hw.bundle import Bundle
from sgq_hw.design import address_bits
from sgq_hw.formats import Format, Key
from sgq_hw.layers import GatAttention

FLOAT_BITS = 32


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor between passes.

    Attributes:
        name: `input`, `layerI.STAGE`, `edges` or a node table.
        elements: Number of values.
        payload_bits: Quantised size without padding; degree-aware where the tensor is.
        layer_input: Whether it is what a layer reads: the input or a hidden feature.
        kept: Whether it is kept between passes; the network's result is not.
    """

    name: str
    elements: int
    payload_bits: int
    layer_input: bool
    kept: bool

    @property
    def float_bits(self) -> int:
        """Size in fp32."""
        return self.elements * FLOAT_BITS

    @property
    def average_bits(self) -> float:
        """Bits of a value."""
        return self.payload_bits / self.elements


@dataclass(frozen=True, slots=True)
class Compression:
    """The four figures, fp32 over quantised.

    Attributes:
        features: Layer inputs (X and hidden), payload only: SGQuant's count at node level.
        hidden: The same without X; None for a network of one layer.
        stored: Every tensor kept between passes, edge values and node factors too.
        total: Everything, the input in its cheapest coding, against dense fp32.
        average_feature_bits: 32 / features.
        charged_bits: The denominator of `total`.
    """

    features: float
    hidden: float | None
    stored: float
    total: float
    average_feature_bits: float
    charged_bits: int


def stage_name(key: Key) -> str:
    """Return `layerI.STAGE`."""
    return f"layer{key[0]}.{key[1]}"


def payload_bits(bundle: Bundle, output: Format, rows: int, channels: int) -> int:
    """Return the bits of a result [rows, channels]; with windows each row has its bucket's."""
    if not output.windows:
        return rows * channels * output.bits
    assert bundle.workload.buckets is not None
    widths = np.array([window.bits for window in output.windows])
    return int(widths[bundle.workload.buckets].sum()) * channels


def tensors(bundle: Bundle) -> tuple[Tensor, ...]:
    """Return every tensor of a network, the input first, the result last but tables."""
    manifest, workload = bundle.network.manifest, bundle.workload
    nodes, spec = workload.num_nodes, manifest.input
    elements = nodes * spec.channels
    found = [Tensor("input", elements, elements * spec.bits, layer_input=True, kept=True)]
    steps = manifest.steps()
    ends = {step.key[0]: step.key for step in steps}  # the last stage of each layer
    rows = nodes
    for step in steps:
        rows = workload.num_results if step.operation == "readout" else rows
        result = step is steps[-1]
        found.append(
            Tensor(
                step.name,
                rows * step.channels,
                payload_bits(bundle, step.epilogue.output, rows, step.channels),
                layer_input=not result and ends[step.key[0]] == step.key,
                kept=not result,
            )
        )
    if manifest.edge is not None:
        edges = workload.num_edges
        bits = edges * manifest.edge.bits
        found.append(Tensor("edges", edges, bits, layer_input=False, kept=True))
    for table in manifest.node_tables:
        found.append(Tensor(table.name, nodes, nodes * table.bits, layer_input=False, kept=True))
    return tuple(found)


def cheapest_input_bits(bundle: Bundle) -> int:
    """Return the bits of the input of a bundle in its cheapest coding."""
    workload, spec = bundle.workload, bundle.network.manifest.input
    code_bits = 0 if workload.x_codes is None else spec.bits
    lengths = np.diff(workload.x_indptr)
    return cheapest_coding_bits(lengths, spec.channels, spec.bits, code_bits)


def cheapest_coding_bits(
    lengths: npt.NDArray[Any], channels: int, bits: int, code_bits: int
) -> int:
    """Return the bits of features as complete rows or as index lists, whichever is less.

    An index list holds column and code of each stored input, and the length of each row.

    Args:
        lengths: Stored inputs of each row.
        channels: Width of a row.
        bits: Of a code in a complete row.
        code_bits: Of a code in a list, 0 where all are one.
    """
    listed = int(lengths.sum()) * (address_bits(channels) + code_bits)
    listed += lengths.size * address_bits(int(lengths.max(initial=0)) + 1)
    return min(lengths.size * channels * bits, listed)


def float_bits(bundle: Bundle) -> int:
    """Return the dense fp32 network: inputs, results, parameters, 32-bit index and edge value."""
    manifest, network = bundle.network.manifest, bundle.network
    found = tensors(bundle)
    # The input and the results; edge values and node factors are part of the float graph.
    results = sum(tensor.float_bits for tensor in found[: 1 + len(manifest.steps())])
    parameters = sum(weight.size for weight in network.weights.values())
    parameters += sum(bias.size for bias in network.biases.values())
    return results + FLOAT_BITS * (parameters + 2 * bundle.workload.num_edges)


class Stage(Protocol):
    """Which results a stage reads."""

    @property
    def key(self) -> Key:
        """Its name."""

    @property
    def source(self) -> Key | None:
        """Stage whose result is read, None for the network's input."""

    @property
    def addend(self) -> Key | None:
        """Stage whose result is added."""

    @property
    def scores(self) -> Key | None:
        """Stage whose result holds attention scores."""


def live_bits(steps: Sequence[Stage], sizes: Mapping[str, int]) -> int:
    """Return the most bits of results that exist at once, one being written while others are read.

    A result is needed until the last stage that reads it has ended; that of the last stage is not
    kept.

    Args:
        steps: Stages in running order.
        sizes: Bits of every result, by `layerI.STAGE`.
    """
    last_use: dict[Key, int] = {}
    for position, step in enumerate(steps):
        for key in (step.source, step.addend, step.scores):
            if key is not None:
                last_use[key] = position
    most = 0
    for position in range(len(steps)):
        live = sum(
            sizes[stage_name(step.key)]
            for born, step in enumerate(steps[:-1])
            if born <= position <= last_use[step.key]
        )
        most = max(most, live)
    return most


def charged_memory(bundle: Bundle) -> dict[str, int]:
    """Return the bits of everything that an accelerator of this network keeps, by purpose.

    Weights, biases, multipliers, tables and constants as stored; the graph as records of column,
    end of row and edge value; node factors and bucket bounds; the most feature memory that is
    needed at once; the input in its cheapest lossless coding.
    """
    manifest, workload, network = bundle.network.manifest, bundle.workload, bundle.network
    steps = manifest.steps()
    by_key = {step.key: step for step in steps}
    edge_bits = 0 if manifest.edge is None else manifest.edge.bits
    records = int(np.maximum(np.diff(workload.indptr), 1).sum())
    record_bits = address_bits(workload.num_nodes) + 1 + edge_bits + (not manifest.self_loops)
    tables = 0
    for key, values in network.exponentials.items():
        attention = by_key[key].attention
        assert attention is not None
        tables += values.size * attention.bits
    for key in network.activations:
        bits = by_key[key].epilogue.output.bits
        tables += bits << (bits - 1)
    weights = sum(
        values.size * weight.bits
        for key, values in network.weights.items()
        if (weight := by_key[key].weight) is not None
    )
    return {
        "weights": weights,
        "biases": sum(
            values.size * by_key[key].epilogue.bias_bits for key, values in network.biases.items()
        ),
        "multipliers": sum(
            values.size * by_key[key].epilogue.multiplier.bits
            for key, values in network.multipliers.items()
        ),
        "constants": sum(
            address_bits(step.epilogue.shift + 1)
            + (step.epilogue.multiplier.bits if step.epilogue.multiplier.kind == "layer" else 0)
            for step in steps
        ),
        "tables": tables,
        "graph": records * record_bits,
        "node_factors": workload.num_nodes * sum(table.bits for table in manifest.node_tables),
        "buckets": len(manifest.degree_splits) * address_bits(workload.num_nodes),
        "features": live_bits(steps, _kept_bits(bundle)),
        "input": cheapest_input_bits(bundle),
    }


def _kept_bits(bundle: Bundle) -> dict[str, int]:
    """Return the bits of every result; to GAT's scores belongs the largest of each row."""
    found = {tensor.name: tensor.payload_bits for tensor in tensors(bundle)}
    for step in bundle.network.manifest.steps():
        if isinstance(step.attention, GatAttention) and step.attention.bound == "row":
            assert step.scores is not None
            # Half as many as there are scores of targets and sources.
            found[stage_name(step.scores)] += found[stage_name(step.scores)] // 2
    return found


def _ratio(chosen: list[Tensor]) -> float:
    return sum(t.float_bits for t in chosen) / sum(t.payload_bits for t in chosen)


def compression(bundle: Bundle, charged_bits: int | None = None) -> Compression:
    """Return the four figures.

    Args:
        bundle: Network and graph.
        charged_bits: Bits of a design and its input, if not those of `charged_memory`.
    """
    charged = sum(charged_memory(bundle).values()) if charged_bits is None else charged_bits
    return figures(tensors(bundle), float_bits(bundle), charged)


def figures(found: Sequence[Tensor], dense_bits: int, charged: int) -> Compression:
    """Return the four figures of a network.

    Args:
        found: Its tensors, the input first.
        dense_bits: Everything in dense fp32.
        charged: Bits of everything as it is kept.
    """
    hidden = [tensor for tensor in found[1:] if tensor.layer_input]
    features = _ratio([found[0], *hidden])
    return Compression(
        features=features,
        hidden=_ratio(hidden) if hidden else None,
        stored=_ratio([tensor for tensor in found if tensor.kept]),
        total=dense_bits / charged,
        average_feature_bits=FLOAT_BITS / features,
        charged_bits=charged,
    )


def as_json(figures: Compression) -> dict[str, float | int | None]:
    """Return the figures under the keys that other tools rely on."""
    values = asdict(figures)
    names = ("features", "hidden", "stored", "total")
    return {f"compression_{name}": values.pop(name) for name in names} | values
