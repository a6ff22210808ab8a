"""Random quantised networks and graphs for tests of the golden model and of the hardware.

Three functions draw from a `numpy.random.Generator`, so a seed reproduces everything:

- `random_bundle` draws formats, parameters and a graph directly, without training. Every format
  that the bundle allows can occur: weights of 2 to 16 bits, features and inputs of 1 to 16, each
  kind of multiplier, both associations, both normalisations, stages with and without a bias.
- `random_workload` draws another graph for the same network, also within given capacities.
- `other_parameters` draws other weights, biases, multipliers and tables for the same formats, as a
  retrained network would bring them, for layers of every kind.

Networks of other layers than graph convolutions come from `tests.random_layers`.

All results went through `save_bundle` and `load_bundle`, so they are valid bundles. Shifts are
chosen from a trial run, stage by stage, so that codes are spread: neither all zero nor all at a
limit, apart from tensors too small to be spread. Sums stay below 62 bits, so that hardware can be
generated for sizes up to thousands of nodes and features.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import msgspec
import numpy as np

from sgq_hw.bundle import Bundle, Network, Workload, load_bundle, save_bundle
from sgq_hw.formats import Epilogue, Format, Key, Multiplier, Window
from sgq_hw.golden.aggregation_unit import aggregation_unit
from sgq_hw.golden.attention_unit import attention_table
from sgq_hw.golden.network import input_matrix
from sgq_hw.golden.requantize import requantize, requantize_windows
from sgq_hw.layers import (
    AgnnAttention,
    AgnnLayer,
    GatAttention,
    GatLayer,
    GcnLayer,
    Layer,
    SageLayer,
)
from sgq_hw.manifest import BUNDLE_FORMAT, BUNDLE_VERSION, InputSpec, Manifest, NodeTable
from sgq_hw.slices import RegionPlan, candidates
from tests.random_workloads import (
    GRAPHS,
    GraphKind,
    IntArray,
    Rng,
    between,
    choose,
    draw_workload,
    random_codes,
    random_workload,
)

__all__ = [
    "ASSOCIATIONS",
    "GRAPHS",
    "INPUTS",
    "MULTIPLIERS",
    "NORMALISATIONS",
    "GraphKind",
    "InputKind",
    "Normalisation",
    "gcn_layers",
    "largest_index_shift",
    "other_parameters",
    "random_bundle",
    "random_exponentials",
    "random_workload",
    "spread",
    "validated",
]

InputKind = Literal["binary", "multi-bit", "signed"]
Normalisation = Literal["factored", "edge"]
Association = Literal["A(XW)", "(AX)W"]
MultiplierKind = Literal["layer", "channel", "node"]

INPUTS: tuple[InputKind, ...] = ("binary", "multi-bit", "signed")
NORMALISATIONS: tuple[Normalisation, ...] = ("factored", "edge")
ASSOCIATIONS: tuple[Association, ...] = ("A(XW)", "(AX)W")
MULTIPLIERS: tuple[MultiplierKind, ...] = ("layer", "channel", "node")
MAX_TABLES = 3
MAX_DRAWN_SHIFT = 40
ATTEMPTS = 40
"""Draws of a stage's parameters until its codes are spread."""


def finest(*arguments: Any) -> RegionPlan:
    """Return the plan of a region with the most slices; small memories are rarely cut otherwise."""
    return max(candidates(*arguments), key=lambda plan: len(plan.slices))


def validated(bundle: Bundle) -> Bundle:
    """Return the bundle as it comes back from a file, with all of `load_bundle`'s checks."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "bundle.npz"
        save_bundle(path, bundle)
        return load_bundle(path)


@dataclass
class _Draft:
    """A network under construction: what the trial run has computed so far."""

    rng: Rng
    workload: Workload
    max_bits: int
    multipliers: Sequence[MultiplierKind]
    bias: bool | None
    buckets: int = 1
    windows: bool | None = None
    tables: list[NodeTable] = field(default_factory=list)
    biases: dict[tuple[int, str], IntArray] = field(default_factory=dict)
    channel_multipliers: dict[tuple[int, str], IntArray] = field(default_factory=dict)

    def multiplier(self, key: tuple[int, str], channels: int, widest: int) -> Multiplier:
        """Draw a multiplier of at most `widest` bits and its values."""
        kind = choose(self.rng, self.multipliers)
        bits = between(self.rng, 1, min(widest, 16))
        if kind == "layer":
            return Multiplier(kind=kind, bits=bits, value=between(self.rng, 1, (1 << bits) - 1))
        if kind == "channel":
            self.channel_multipliers[key] = random_codes(self.rng, 0, (1 << bits) - 1, channels)
            return Multiplier(kind=kind, bits=bits)
        fitting = [table for table in self.tables if table.bits <= widest]
        if len(self.tables) < MAX_TABLES and (not fitting or self.rng.random() < 0.5):
            rule: Literal["degree", "input"] = choose(self.rng, ("degree", "input"))
            table = NodeTable(
                name=f"table_{len(self.tables)}", rule=rule, bits=bits, scale=2.0**-bits
            )
            self.tables.append(table)
            self.workload.node_tables[table.name] = random_codes(
                self.rng, 0, (1 << bits) - 1, self.workload.num_nodes
            )
        else:
            table = choose(self.rng, fitting or self.tables)
        return Multiplier(kind=kind, bits=table.bits, table=table.name)

    def factor(self, key: tuple[int, str], multiplier: Multiplier) -> IntArray:
        """Return M, broadcastable to [nodes, channels]."""
        if multiplier.kind == "node":
            return self.workload.node_tables[multiplier.table][:, None]
        if multiplier.kind == "channel":
            return self.channel_multipliers[key]
        return np.array(multiplier.value, np.int64)

    def draw_windows(self, bits: int, signed: bool) -> tuple[Window, ...]:
        """Draw the windows of a word of so many bits, or none; some reaches its top bit."""
        if self.buckets == 1:
            return ()
        if not (self.rng.random() < 0.6 if self.windows is None else self.windows):
            return ()
        widths = [between(self.rng, 2 if signed else 1, bits) for _ in range(self.buckets)]
        return placed_windows(self.rng, widths, bits, bits)

    def epilogue(
        self, key: tuple[int, str], sums: IntArray, signed: bool, final: bool
    ) -> tuple[Epilogue, IntArray]:
        """Draw an epilogue for exact sums [nodes, channels]; return it with the stage's words."""
        rng, channels = self.rng, sums.shape[1]
        self.biases.pop(key, None)  # of an earlier attempt
        self.channel_multipliers.pop(key, None)
        bits = between(rng, 2 if signed else 1, self.max_bits)
        size = int(np.abs(sums).max(initial=0)).bit_length()
        bits = min(16, max(bits, size + 1 - MAX_DRAWN_SHIFT))
        multiplier = self.multiplier(key, channels, max(1, MAX_DRAWN_SHIFT + bits - size))
        products = sums * self.factor(key, multiplier)
        bias_bits = 0
        bias = np.zeros(channels, np.int64)
        if rng.random() < 0.5 if self.bias is None else self.bias:
            limit = max(1, int(np.quantile(np.abs(products), 0.75)))
            bias = random_codes(rng, -limit, limit, channels)
            bias_bits = limit.bit_length() + 1 + between(rng, 0, 2)
            self.biases[key] = bias
        totals = products + bias
        # ReLU keeps only what is positive, so only that decides about the range.
        kept = np.abs(totals) if signed else totals[totals > 0]
        reach = int(np.quantile(kept, rng.uniform(0.6, 1.0))) if kept.size else 0
        shift = reach.bit_length() - (bits - 1 if signed else bits) + between(rng, -1, 1)
        shift = min(max(shift, 0), MAX_DRAWN_SHIFT)
        epilogue = Epilogue(
            multiplier=multiplier,
            shift=shift,
            bias_bits=bias_bits,
            output=Format(bits=bits, signed=signed, scale=2.0 ** between(rng, -12, 2)),
        )
        factor = self.factor(key, multiplier)
        # The results of a network have the same bits for every node.
        windows = () if final else self.draw_windows(bits, signed)
        if not windows:
            return epilogue, requantize(sums, factor, bias, shift, bits, signed)
        assert self.workload.buckets is not None
        output = msgspec.structs.replace(epilogue.output, windows=windows)
        return msgspec.structs.replace(epilogue, output=output), requantize_windows(
            sums, factor, bias, shift, windows, signed, self.workload.buckets
        )


def placed_windows(
    rng: Rng, widths: Sequence[int], bits: int, highest: int
) -> tuple[Window, ...]:
    """Draw exponents of at most `highest` for windows; one of them ends at bit `bits`."""
    top = choose(rng, [at for at, width in enumerate(widths) if bits - width <= highest])
    return tuple(
        Window(
            exponent=bits - width if at == top else between(rng, 0, min(highest, bits - width)),
            bits=width,
        )
        for at, width in enumerate(widths)
    )


def spread(codes: IntArray) -> bool:
    """Return whether codes vary as far as their number lets one expect."""
    return codes.size < 4 or len(np.unique(codes)) > 1


def gcn_layers(manifest: Manifest) -> list[GcnLayer]:
    """Return the layers of a network that has graph convolutions only."""
    layers = [layer for layer in manifest.layers if isinstance(layer, GcnLayer)]
    assert len(layers) == len(manifest.layers)
    return layers


def _draw_layer(
    draft: _Draft, index: int, codes: IntArray, width: int, final: bool, association: Association
) -> tuple[GcnLayer, IntArray, IntArray]:
    """Draw one layer for the codes [nodes, inputs] that it reads: layer, weights, its codes."""
    rng, workload = draft.rng, draft.workload
    weight_format = Format(
        bits=between(rng, 2, draft.max_bits), signed=True, scale=2.0 ** between(rng, -12, 0)
    )
    limit = weight_format.magnitude
    weights = random_codes(rng, -limit, limit - 1, (codes.shape[1], width))
    epilogues: dict[str, Epilogue] = {}
    order = ("combine", "aggregate") if association == "A(XW)" else ("aggregate", "combine")
    for position, stage in enumerate(order):
        # Hidden layers end in ReLU more often than not; the logits are signed.
        signed = final or bool(rng.random() < 0.3) if position else bool(rng.random() < 0.8)
        if stage == "combine":
            sums = codes @ weights
        else:
            sums = aggregation_unit(workload.indptr, workload.indices, workload.edge_codes, codes)
        for _ in range(ATTEMPTS):
            epilogues[stage], result = draft.epilogue(
                (index, stage), sums, signed, final and position == 1
            )
            if spread(result):
                break
        codes = result
    layer = GcnLayer(
        association=association,
        in_channels=weights.shape[0],
        out_channels=width,
        weight=weight_format,
        combine=epilogues["combine"],
        aggregate=epilogues["aggregate"],
    )
    return layer, weights, codes


def random_bundle(
    rng: Rng,
    *,
    nodes: int | None = None,
    features: int | None = None,
    hidden: int | None = None,
    classes: int | None = None,
    layers: int | None = None,
    graph: GraphKind | None = None,
    inputs: InputKind | None = None,
    input_bits: int | None = None,
    normalisation: Normalisation | None = None,
    self_loops: bool | None = None,
    multipliers: Sequence[MultiplierKind] = MULTIPLIERS,
    associations: Sequence[Association] = ASSOCIATIONS,
    bias: bool | None = None,
    max_bits: int = 16,
    buckets: int = 1,
    windows: bool | None = None,
) -> Bundle:
    """Draw a network and its graph; whatever is not given is drawn as well.

    Args:
        rng: Source of all draws.
        nodes: Nodes of the graph, 1 to 24 if drawn; 1 for graph `one node`.
        features: Input channels, 1 to 24 if drawn.
        hidden: Channels of every hidden layer, 1 to 20 (each its own) if drawn.
        classes: Output channels, 1 to 9 if drawn.
        layers: Number of layers, 1 to 3 if drawn.
        graph: One of `GRAPHS`.
        inputs: `binary` (1 bit), `multi-bit` (2 to 16, unsigned) or `signed` (2 to 16).
        input_bits: Bits of inputs that are not binary.
        normalisation: `factored`, or `edge` with a code an edge.
        self_loops: Whether every row of the aggregation matrix holds its own node.
        multipliers: Kinds of multipliers to choose from.
        associations: Associations to choose from; the first layer is always `A(XW)`.
        bias: All stages with (True) or without (False) a bias; drawn by stage otherwise.
        max_bits: Widest weights, results, edge codes and drawn inputs, 2 to 16.
        buckets: Degree buckets.
        windows: All stages but the last one with degree windows (True); drawn by stage otherwise.
    """
    any_kind: GraphKind = choose(rng, GRAPHS)
    kind = any_kind if graph is None else graph
    if kind == "one node":
        nodes = 1
    nodes = between(rng, 1, 24) if nodes is None else nodes
    layers = between(rng, 1, 3) if layers is None else layers
    inputs = choose(rng, INPUTS) if inputs is None else inputs
    any_norm: Normalisation = choose(rng, NORMALISATIONS)
    norm = any_norm if normalisation is None else normalisation
    if inputs == "binary":
        input_bits = 1
    spec = InputSpec(
        channels=between(rng, 1, 24) if features is None else features,
        bits=between(rng, 2, max_bits) if input_bits is None else input_bits,
        signed=inputs == "signed",
        row_normalised=inputs != "signed",
    )
    edge = Format(bits=between(rng, 1, max_bits), signed=False, scale=2.0**-8)
    manifest = Manifest(
        format=BUNDLE_FORMAT,
        version=BUNDLE_VERSION,
        normalisation=norm,
        self_loops=bool(rng.random() < 0.5) if self_loops is None else self_loops,
        input=spec,
        edge=edge if norm == "edge" else None,
        node_tables=(),
        layers=(),
        degree_splits=tuple(range(1, buckets)),
    )
    widths = [between(rng, 1, 20) if hidden is None else hidden for _ in range(layers - 1)]
    widths.append(between(rng, 1, 9) if classes is None else classes)
    workload = draw_workload(
        rng, spec, manifest.edge, (), self_loops=manifest.self_loops, classes=widths[-1],
        nodes=nodes, graph=kind, buckets=buckets,
    )  # fmt: skip
    draft = _Draft(rng, workload, max_bits, multipliers, bias, buckets, windows)
    codes = input_matrix(Network(manifest, {}), draft.workload).toarray()
    drawn: list[GcnLayer] = []
    weights: dict[Key, IntArray] = {}
    for index, width in enumerate(widths):
        association = "A(XW)" if index == 0 else choose(rng, associations)
        layer, matrix, codes = _draw_layer(
            draft, index, codes, width, index == layers - 1, association
        )
        drawn.append(layer)
        weights[index, "combine"] = matrix
    manifest = msgspec.structs.replace(
        manifest, layers=tuple(drawn), node_tables=tuple(draft.tables)
    )
    network = Network(manifest, weights, draft.biases, draft.channel_multipliers)
    return validated(Bundle(network, draft.workload))


def largest_index_shift(layer: GatLayer | AgnnLayer) -> int:
    """Return the largest shift of a table's index that hardware has: the bits of a logit."""
    if isinstance(layer, AgnnLayer):
        return layer.attention.score_bits
    return layer.score.output.bits + 1 + layer.attention.slope_shift


def random_exponentials(rng: Rng, attention: GatAttention | AgnnAttention) -> IntArray:
    """Draw a table: real exponentials, or any codes, so that no entry can be mistaken."""
    length, kind = attention.table_length, rng.random()
    if kind < 0.4:
        end = rng.uniform(1.0, 12.0)
        return attention_table(attention.bits, end / length, length, 0).codes
    codes = random_codes(rng, 0, (1 << attention.bits) - 1, length)
    if kind < 0.6:
        # Some rows lose all their weights.
        codes *= rng.random(length) < 0.5
    return codes


def _other_attention(rng: Rng, layer: GatLayer | AgnnLayer, longest: int) -> GatLayer | AgnnLayer:
    """Draw what of a layer's attention is loaded; tables have at most `longest` entries."""
    rule, highest = layer.attention, largest_index_shift(layer)
    bits = between(rng, max(1, rule.bits - 2), rule.bits)
    length = 1 << between(rng, 1, longest.bit_length() - 1)
    moved = rule.table_length.bit_length() - length.bit_length() + between(rng, -1, 1)
    shift = min(max(rule.index_shift + moved, 0), highest)
    if isinstance(layer, GatLayer):
        gat = msgspec.structs.replace(
            layer.attention, bits=bits, index_shift=shift, table_length=length
        )
        return msgspec.structs.replace(layer, attention=gat)
    limit = (1 << (layer.attention.score_bits - 1)) - 1
    agnn = msgspec.structs.replace(
        layer.attention, bits=bits, index_shift=shift, table_length=length,
        beta=int(random_codes(rng, -limit, limit, 1)[0]),
    )  # fmt: skip
    return msgspec.structs.replace(layer, attention=agnn)


def _other_layers(rng: Rng, layers: Sequence[Layer]) -> list[Layer]:
    """Draw what layers load beside their epilogues: attention, factors of addends."""
    attending = [layer for layer in layers if isinstance(layer, GatLayer | AgnnLayer)]
    longest = max((layer.attention.table_length for layer in attending), default=0)
    factors = [layer.root_factor for layer in layers if isinstance(layer, SageLayer)]
    largest = max(factors, default=0)
    found: list[Layer] = []
    for layer in layers:
        if isinstance(layer, GatLayer | AgnnLayer):
            found.append(_other_attention(rng, layer, longest))
        elif isinstance(layer, SageLayer):
            factor = between(rng, 1, (1 << largest.bit_length()) - 1)
            found.append(msgspec.structs.replace(layer, root_factor=factor))
        else:
            found.append(layer)
    return found


def other_parameters(rng: Rng, bundle: Bundle) -> Bundle:
    """Draw other weights, biases, layer and channel multipliers and exponents of degree windows.

    Also tables of exponentials and ELU, what finds an entry in them, beta, factors of addends.
    Shifts of epilogues, widths and the graph stay. Biases keep their size, so that codes stay
    spread.
    """
    network = bundle.network
    layers = _other_layers(rng, network.manifest.layers)
    epilogues = [step.epilogue for step in network.manifest.steps()]
    shifts = [
        epilogue.shift + max((window.exponent for window in epilogue.output.windows), default=0)
        for epilogue in epilogues
    ]
    # The largest shift that the hardware's registers can surely hold.
    largest_shift = (1 << max(shifts).bit_length()) - 1
    multipliers = dict(network.multipliers)
    weights = {}
    for step in network.manifest.steps():
        index, stage = step.key
        epilogue, output = step.epilogue, step.epilogue.output
        multiplier = epilogue.multiplier
        highest = (1 << multiplier.bits) - 1
        if output.windows:
            widths = [window.bits for window in output.windows]
            highest_exponent = largest_shift - epilogue.shift
            # The word may become narrower.
            bits = between(rng, max(widths), min(output.bits, max(widths) + highest_exponent))
            moved = placed_windows(rng, widths, bits, highest_exponent)
            output = msgspec.structs.replace(output, bits=bits, windows=moved)
            epilogue = msgspec.structs.replace(epilogue, output=output)
        if multiplier.kind == "channel":
            multipliers[step.key] = random_codes(rng, 0, highest, step.channels)
        if multiplier.kind == "layer":
            value = between(rng, max(1, highest // 2), highest)
            changed = msgspec.structs.replace(multiplier, value=value)
            epilogue = msgspec.structs.replace(epilogue, multiplier=changed)
        layers[index] = msgspec.structs.replace(layers[index], **{stage: epilogue})
        if step.weight is not None:
            limit = step.weight.magnitude
            weights[step.key] = random_codes(rng, -limit, limit - 1, (step.inputs, step.channels))
    biases = {
        key: random_codes(rng, -int(np.abs(bias).max()), int(np.abs(bias).max()), bias.shape)
        for key, bias in network.biases.items()
    }
    activations = {
        key: random_codes(rng, -len(table), 0, len(table))
        for key, table in network.activations.items()
    }
    manifest = msgspec.structs.replace(network.manifest, layers=tuple(layers))
    exponentials = {
        step.key: random_exponentials(rng, step.attention)
        for step in manifest.steps()
        if step.attention is not None
    }
    other = Network(manifest, weights, biases, multipliers, exponentials, activations)
    return validated(replace(bundle, network=other))
