"""Random quantised networks of every kind of layer, beside the GCNs of `tests.random_networks`.

`random_layers` draws a network and its graph without training: any mixture of layers that a
manifest allows, any formats, degree windows, addends, attention of several heads, tables of
exponentials and of ELU with arbitrary entries, readouts. With `built`, it draws only what
accelerators are generated for, but then wider rows of more heads. Results went through
`save_bundle` and `load_bundle`. Shifts are chosen from a trial run, stage by stage, so that codes
are spread.

`tests.random_networks.other_parameters` draws other parameters for these networks too.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

import msgspec
import numpy as np

from sgq_hw.bundle import Bundle, Network, Workload
from sgq_hw.formats import Epilogue, Format, Key, Multiplier, Window
from sgq_hw.golden.aggregation_unit import aggregation_unit
from sgq_hw.golden.attention_unit import (
    RECIPROCAL_SHIFT,
    AttentionTable,
    AttentionWeights,
    attention_sums,
    edge_weights,
    elu_table,
    fitting_norm_bits,
)
from sgq_hw.golden.network import Trace, input_matrix, run
from sgq_hw.golden.readout_unit import readout_unit
from sgq_hw.layers import (
    AgnnAttention,
    AgnnLayer,
    Bound,
    GatAttention,
    GatLayer,
    GcnLayer,
    GinLayer,
    Layer,
    LinearLayer,
    ReadoutLayer,
    SageLayer,
    Step,
)
from sgq_hw.manifest import BUNDLE_FORMAT, BUNDLE_VERSION, InputSpec, Manifest, NodeTable
from tests.random_networks import (
    ATTEMPTS,
    InputKind,
    largest_index_shift,
    random_exponentials,
    spread,
    validated,
)
from tests.random_workloads import (
    GraphKind,
    IntArray,
    Rng,
    between,
    choose,
    draw_workload,
    random_codes,
)

Kind = Literal["gcn", "sage", "gin", "gat", "agnn", "linear", "readout"]
Kinds = tuple[Kind, ...]
KINDS: Kinds = get_args(Kind)
BUILT_KINDS: Kinds = ("gcn", "sage", "gin", "gat", "agnn", "linear")
"""What accelerators are generated for."""

NETWORKS: tuple[Kinds, ...] = (
    ("gcn", "gcn"),
    ("sage", "sage"),
    ("gin", "gin"),
    ("gat", "gat"),
    ("linear", "agnn", "agnn", "linear"),
    ("gin", "gin", "readout", "linear"),
)
"""The models that the toolkit quantises."""

Rule = Literal["degree", "mean", "input", "input-degree"]
RULES: tuple[Rule, ...] = get_args(Rule)
Normalisation = Literal["factored", "edge", "mean", "sum", "attention"]
NORMALISATIONS: tuple[Normalisation, ...] = get_args(Normalisation)
MAX_TABLES = 3
MAX_ACCUMULATOR_SHIFT = 40
MAX_BUILT_SHIFT = 31
"""Where accelerators are generated: means have room for any shift in a field of five bits."""
MAX_BUILT_ELU_BITS = 9
"""Tables of ELU with more bits would only be long to load."""
MAX_BUILT_ATTENTION_BITS = 8
MAX_BUILT_CHANNELS = 20
MAX_HEADS = 9
MAX_HEAD_CHANNELS = 9
MAX_TABLE_LENGTH_BITS = 10
WIDE = Format(bits=16, signed=True, scale=1.0)
"""Stands for a result that is not drawn yet."""


def random_kinds(rng: Rng, built: bool = False) -> Kinds:
    """Draw one to four layers: the first one multiplies, after a readout all are linear.

    With `built`, only what accelerators are generated for, and up to five layers.
    """
    kinds = BUILT_KINDS if built else KINDS
    found = [choose(rng, [kind for kind in kinds if kind not in ("agnn", "readout")])]
    for _ in range(between(rng, 0, 3)):
        found.append("linear" if "readout" in found else choose(rng, kinds))
    if built and {*found} == {"linear"}:
        found.append("gcn")  # something that reads the graph
    return tuple(found)


@dataclass
class _Draft:
    """A network under construction.

    Attributes:
        rng: Source of all draws.
        manifest: Of the layers so far.
        network: Their parameters.
        workload: The graph; node tables are added to it.
        max_bits: Widest results, weights and factors.
        windows: Whether stages have degree windows; drawn for each stage if None.
        built: Only what accelerators are generated for.
    """

    rng: Rng
    manifest: Manifest
    network: Network
    workload: Workload
    max_bits: int
    windows: bool | None
    built: bool = False
    tables: list[NodeTable] = field(default_factory=list)

    @property
    def max_shift(self) -> int:
        """Largest shift of an epilogue."""
        return MAX_BUILT_SHIFT if self.built else MAX_ACCUMULATOR_SHIFT

    def maybe(self, probability: float) -> bool:
        return bool(self.rng.random() < probability)

    def weight(self) -> Format:
        return Format(bits=between(self.rng, 2, self.max_bits), signed=True, scale=2.0**-4)

    # ---- epilogues --------------------------------------------------------------------------

    def node_table(self, widest: int) -> NodeTable:
        """Return a table of at most `widest` bits, an old one if there are enough."""
        fitting = [table for table in self.tables if table.bits <= widest]
        if fitting and (len(self.tables) >= MAX_TABLES or self.maybe(0.4)):
            return choose(self.rng, fitting)
        bits = between(self.rng, 1, widest)
        table = NodeTable(
            name=f"table_{len(self.tables)}", rule=choose(self.rng, RULES), bits=bits,
            scale=2.0**-bits,
        )  # fmt: skip
        self.tables.append(table)
        self.workload.node_tables[table.name] = random_codes(
            self.rng, 0, (1 << bits) - 1, self.workload.num_nodes
        )
        return table

    def multiplier(self, step: Step, sums: IntArray, by_node: bool) -> Multiplier:
        """Draw M such that products stay within what a shift can bring back."""
        if step.operation == "attend":
            return Multiplier(kind="reciprocal", bits=RECIPROCAL_SHIFT + 1)
        size = int(np.abs(sums).max(initial=0)).bit_length()
        widest = min(self.max_bits, max(1, self.max_shift - size))
        kinds: list[Literal["layer", "channel", "node"]] = ["layer", "channel"]
        kind = choose(self.rng, [*kinds, "node", "node"] if by_node else kinds)
        if kind == "node":
            table = self.node_table(widest)
            return Multiplier(kind=kind, bits=table.bits, table=table.name)
        bits = between(self.rng, 1, widest)
        if kind == "layer":
            return Multiplier(kind=kind, bits=bits, value=between(self.rng, 1, (1 << bits) - 1))
        codes = random_codes(self.rng, 0, (1 << bits) - 1, step.channels)
        self.network.multipliers[step.key] = codes
        return Multiplier(kind=kind, bits=bits)

    def factor(self, step: Step, multiplier: Multiplier) -> IntArray:
        """Return M, broadcastable to [rows, channels]."""
        if multiplier.kind == "node":
            return self.workload.node_tables[multiplier.table][:, None]
        if multiplier.kind == "channel":
            return self.network.multipliers[step.key]
        return np.array(multiplier.value, np.int64)

    def output(self, step: Step, final: bool, by_node: bool) -> Format:
        """Draw a format, where allowed with windows."""
        rng = self.rng
        elu = step.activation == "elu"
        score = step.key[1] == "score"
        signed = final or elu or score or self.maybe(0.4)
        low = 2 if signed else 1
        bits = between(rng, low, self.max_bits)
        if self.built and elu:
            bits = min(bits, MAX_BUILT_ELU_BITS)
        windows: tuple[Window, ...] = ()
        wanted = self.maybe(0.5) if self.windows is None else self.windows
        if self.built and (score or final):
            wanted = False
        if wanted and self.manifest.degree_splits and by_node and not elu:
            widths = [between(rng, low, bits) for _ in range(len(self.manifest.degree_splits) + 1)]
            windows = tuple(
                Window(exponent=between(rng, 0, bits - width), bits=width) for width in widths
            )
            bits = max(window.exponent + window.bits for window in windows)
        return Format(bits=bits, signed=signed, scale=2.0 ** between(rng, -8, 2), windows=windows)

    def epilogue(
        self, step: Step, sums: IntArray, addend: IntArray | None, final: bool
    ) -> Epilogue:
        """Draw an epilogue for exact sums [rows, channels] and file its parameters.

        For an attend, `sums` are the means on the grid of its bias.
        """
        rng = self.rng
        self.network.biases.pop(step.key, None)  # of an earlier attempt
        self.network.multipliers.pop(step.key, None)
        by_node = step.operation != "readout" and not self.manifest.reads_graphs
        output = self.output(step, final, by_node)
        multiplier = self.multiplier(step, sums, by_node)
        totals = sums
        if step.operation != "attend":
            totals = sums * self.factor(step, multiplier)
        if addend is not None:
            totals = totals + addend * np.int64(step.addend_factor)
        bias_bits = 0
        if self.maybe(0.5):
            limit = max(1, int(np.quantile(np.abs(totals), 0.75)))
            bias = random_codes(rng, -limit, limit, step.channels)
            bias_bits = limit.bit_length() + 1 + between(rng, 0, 2)
            self.network.biases[step.key] = bias
            totals = totals + bias
        # ReLU keeps only what is positive, so only that decides about the range.
        kept = np.abs(totals) if output.signed else totals[totals > 0]
        reach = int(np.quantile(kept, rng.uniform(0.6, 1.0))) if kept.size else 0
        shift = reach.bit_length() - output.bits + output.signed + between(rng, -1, 1)
        return Epilogue(
            multiplier=multiplier,
            shift=min(max(shift, 0), self.max_shift),
            bias_bits=bias_bits,
            output=output,
        )

    # ---- layers -----------------------------------------------------------------------------

    def layer(  # noqa: PLR0911 - one for each kind
        self, kind: Kind, width: int, outputs: int, first: bool
    ) -> Layer:
        """Draw a layer without its epilogues; `outputs` where its kind can choose."""
        rng = self.rng
        blank = Epilogue(multiplier=Multiplier(kind="layer"), shift=0, bias_bits=0, output=WIDE)
        ends: dict[str, Any] = {"in_channels": width, "aggregate": blank}
        product: dict[str, Any] = {"weight": self.weight(), "combine": blank, **ends}
        if kind == "gcn":
            order: Literal["A(XW)", "(AX)W"] = choose(rng, ("A(XW)", "(AX)W"))
            association = "A(XW)" if first else order
            return GcnLayer(association=association, out_channels=outputs, **product)
        if kind == "sage":
            return SageLayer(
                root_weight=self.weight(), root=blank, root_factor=between(rng, 1, 1 << 12),
                out_channels=outputs, **product,
            )  # fmt: skip
        if kind == "gin":
            return GinLayer(
                hidden_channels=between(rng, 1, 12), mlp_weight=self.weight(), mlp=blank,
                out_channels=outputs, **product,
            )  # fmt: skip
        if kind == "gat":
            heads = choose(rng, [n for n in (1, 2, 3, 4) if outputs % n == 0])
            if self.built:
                heads = between(rng, 1, MAX_HEADS)
                outputs = heads * between(rng, 1, MAX_HEAD_CHANNELS)
            return GatLayer(
                score_weight=self.weight(), score=blank, attention=self.gat(heads),
                activation=choose(rng, ("none", "elu", "elu")), out_channels=outputs, **product,
            )  # fmt: skip
        if kind == "agnn":
            return AgnnLayer(attention=self.agnn(width), **ends)
        if kind == "readout":
            return ReadoutLayer(in_channels=width, readout=blank)
        product.pop("aggregate")
        return LinearLayer(out_channels=outputs, **product)

    def attention_bits(self) -> int:
        """Draw the width of an unnormalised weight."""
        widest = min(self.max_bits, MAX_BUILT_ATTENTION_BITS) if self.built else self.max_bits
        return between(self.rng, 1, widest)

    def gat(self, heads: int) -> GatAttention:
        """Draw all but the shift of the table's index, which follows the scores."""
        rng = self.rng
        slope_shift = between(rng, 0, 8)
        slope = between(rng, 0, 1 << slope_shift), slope_shift
        bounds: tuple[Bound, ...] = ("row", "global")
        built = [layer.attention for layer in self.manifest.layers if isinstance(layer, GatLayer)]
        if self.built:
            bounds = ("row",)
            # Hardware has one slope for all layers.
            slope = next(((one.slope_code, one.slope_shift) for one in built), slope)
        return GatAttention(
            heads=heads,
            bits=self.attention_bits(),
            index_shift=0,
            slope_code=slope[0],
            slope_shift=slope[1],
            bound=choose(rng, bounds),
            table_length=1 << between(rng, 1, MAX_TABLE_LENGTH_BITS),
        )

    def agnn(self, width: int) -> AgnnAttention:
        """Draw widths whose products fit 62 bits for the features that the layer will read."""
        rng = self.rng
        magnitude = self.manifest.steps()[-1].epilogue.output.magnitude
        score_bits = between(rng, 2, self.max_bits)
        built = [one.attention for one in self.manifest.layers if isinstance(one, AgnnLayer)]
        # Hardware has one width of norms for all layers.
        norm_bits = built[0].norm_bits if self.built and built else None
        while fitting_norm_bits(width, magnitude, score_bits) < (norm_bits or 2):
            score_bits -= 1
        most = fitting_norm_bits(width, magnitude, score_bits)
        norm_bits = between(rng, 2, most) if norm_bits is None else norm_bits
        limit = (1 << (score_bits - 1)) - 1
        return AgnnAttention(
            bits=self.attention_bits(),
            index_shift=0,
            score_bits=score_bits,
            norm_bits=norm_bits,
            beta=0 if self.maybe(0.1) else int(random_codes(rng, -limit, limit, 1)[0]),
            table_length=1 << between(rng, 1, MAX_TABLE_LENGTH_BITS),
        )

    def index_shift(self, layer: Layer, trace: Trace) -> Layer:
        """Draw the shift of a layer's table such that the differences of its logits spread."""
        if not isinstance(layer, GatLayer | AgnnLayer):
            return layer
        rule, highest = layer.attention, largest_index_shift(layer)
        reach = 2 * abs(rule.beta) if isinstance(rule, AgnnAttention) else 1 << (highest - 2)
        if isinstance(rule, GatAttention):
            scores = trace[len(self.manifest.layers), "score"]
            reach = int(np.abs(scores).max(initial=0)) << (1 + rule.slope_shift)
        shift = reach.bit_length() - rule.table_length.bit_length() + between(self.rng, -2, 3)
        changed = msgspec.structs.replace(rule, index_shift=min(max(shift, 0), highest))
        return msgspec.structs.replace(layer, attention=changed)

    def parameters(self, step: Step) -> None:
        """Draw weights and tables of a stage."""
        if step.weight is not None:
            limit = step.weight.magnitude
            shape = (step.inputs, step.channels)
            self.network.weights[step.key] = random_codes(self.rng, -limit, limit - 1, shape)
        if step.attention is not None:
            self.network.exponentials[step.key] = random_exponentials(self.rng, step.attention)

    def activation(self, key: Key, output: Format) -> None:
        """Draw the table of a stage with ELU."""
        limit = output.magnitude
        table = elu_table(output.bits, output.scale)
        if self.maybe(0.6):
            table = random_codes(self.rng, -limit, 0, limit)
        self.network.activations[key] = table

    def append(self, kind: Kind, outputs: int, final: bool) -> None:
        """Draw a layer and run its stages one after another, so that each fits its operands."""
        manifest = self.manifest
        index = len(manifest.layers)
        width = manifest.outputs if index else manifest.input.channels
        source = manifest.steps()[-1].key if index else None
        layer = self.layer(kind, width, outputs, index == 0)
        steps = layer.steps(index, source)
        for step in steps:
            self.parameters(step)
        for position, blank in enumerate(steps):
            # Stages before this one are as they will be; the others are blank and unread.
            trace = run(replace(self.network, manifest=self.extended(layer)), self.workload)
            if blank.operation == "attend":
                layer = self.index_shift(layer, trace)
            step = layer.steps(index, source)[position]
            addend = None if step.addend is None else trace[step.addend]
            sums = self.sums(step, trace)
            for _ in range(ATTEMPTS):
                epilogue = self.epilogue(step, sums, addend, final and position == len(steps) - 1)
                if step.activation == "elu":
                    self.activation(step.key, epilogue.output)
                layer = msgspec.structs.replace(layer, **{step.key[1]: epilogue})
                drawn = run(replace(self.network, manifest=self.extended(layer)), self.workload)
                if spread(drawn[step.key]):
                    break
        self.manifest = self.extended(layer)

    def extended(self, layer: Layer) -> Manifest:
        return msgspec.structs.replace(
            self.manifest, layers=(*self.manifest.layers, layer), node_tables=tuple(self.tables)
        )

    def sums(self, step: Step, trace: Trace) -> IntArray:
        """Return exact sums; of an attend, means on the grid of its bias."""
        workload = self.workload
        if step.source is None:
            inputs = input_matrix(replace(self.network, manifest=self.manifest), workload)
            features = np.asarray(inputs.toarray(), np.int64)
        else:
            features = trace[step.source]
        if step.operation == "combine":
            return features @ self.network.weights[step.key]
        if step.operation == "aggregate":
            return aggregation_unit(
                workload.indptr, workload.indices, workload.edge_codes, features
            )
        if step.operation == "readout":
            assert workload.graph_of_node is not None
            return readout_unit(workload.graph_of_node, features)
        assert step.attention is not None
        table = AttentionTable(
            self.network.exponentials[step.key], step.attention.index_shift, step.attention.bits
        )
        magnitude = int(np.abs(features).max(initial=1))
        scores = None if step.scores is None else trace[step.scores]
        graph = workload.indptr, workload.indices
        weights: AttentionWeights = edge_weights(
            *graph, step.attention, table, features, magnitude, scores
        )
        numerator, factors, exponents = attention_sums(*graph, weights.codes, features)
        return np.asarray((numerator * factors) >> exponents, np.int64)


def _other_rows(rng: Rng, workload: Workload, manifest: Manifest, of_graphs: bool) -> Workload:
    """Return the workload with buckets, and with graphs and labels of them where asked for."""
    nodes = workload.num_nodes
    if manifest.degree_splits:
        buckets = random_codes(rng, 0, len(manifest.degree_splits), nodes)
        workload = replace(workload, buckets=buckets)
    if not of_graphs:
        return workload
    starts = rng.random(nodes) < rng.uniform(0.1, 0.6)
    starts[0] = False
    workload = replace(workload, graph_of_node=np.cumsum(starts).astype(np.int64))
    part = rng.integers(3, size=workload.num_results)
    masks = {name: part == index for index, name in enumerate(("train", "val", "test"))}
    return replace(workload, masks=masks)


def random_layers(
    rng: Rng,
    kinds: Sequence[Kind] | None = None,
    *,
    nodes: int | None = None,
    graph: GraphKind | None = None,
    self_loops: bool | None = None,
    windows: bool | None = None,
    max_bits: int = 16,
    built: bool = False,
    inputs: InputKind | None = None,
    normalisation: Normalisation | None = None,
    buckets: int | None = None,
) -> Bundle:
    """Draw a network and its graph; whatever is not given is drawn as well.

    Args:
        rng: Source of all draws.
        kinds: Kinds of the layers.
        nodes: Nodes of the graph, 1 to 16 if drawn; 1 for graph `one node`.
        graph: One of `tests.random_workloads.GRAPHS`.
        self_loops: Whether every row of the aggregation matrix holds its own node.
        windows: Degree windows wherever they are allowed (True), or nowhere (False).
        max_bits: Widest results, weights, factors and inputs, 2 to 16.
        built: Only what accelerators are generated for. Networks with `agnn` then have self loops.
        inputs: `binary` (1 bit), `multi-bit` (2 to 16, unsigned) or `signed` (2 to 16).
        normalisation: Of the graph; `edge` has a code an edge.
        buckets: Degree buckets, 2 to 4 if drawn.
    """
    kinds = random_kinds(rng, built) if kinds is None else kinds
    if graph == "one node":
        nodes = 1
    if built and "agnn" in kinds:
        self_loops = True
    signed = bool(rng.random() < 0.4) if inputs is None else inputs == "signed"
    bits = 1 if inputs == "binary" else between(rng, 2 if signed or inputs else 1, max_bits)
    splits = np.sort(rng.choice(9, between(rng, 1, 3), replace=False)) + 1
    if buckets is not None:
        splits = np.arange(1, buckets)
    if windows is None and rng.random() < 0.3 and not built:
        windows = False
    drawn: Normalisation = choose(rng, NORMALISATIONS)
    normalisation = drawn if normalisation is None else normalisation
    edge = Format(bits=between(rng, 1, max_bits), signed=False, scale=2.0**-8)
    manifest = Manifest(
        format=BUNDLE_FORMAT,
        version=BUNDLE_VERSION,
        normalisation=normalisation,
        self_loops=bool(rng.random() < 0.5) if self_loops is None else self_loops,
        input=InputSpec(
            channels=between(rng, 1, 12), bits=bits, signed=signed, row_normalised=not signed
        ),
        edge=edge if normalisation == "edge" else None,
        node_tables=(),
        layers=(),
        degree_splits=() if windows is False else tuple(splits.tolist()),
    )
    workload = draw_workload(
        rng, manifest.input, manifest.edge, (), self_loops=manifest.self_loops, classes=1,
        nodes=between(rng, 1, 16) if nodes is None else nodes, graph=graph,
    )  # fmt: skip
    workload = _other_rows(rng, workload, manifest, "readout" in kinds)
    draft = _Draft(rng, manifest, Network(manifest, {}), workload, max_bits, windows, built)
    for index, kind in enumerate(kinds):
        outputs = between(rng, 1, MAX_BUILT_CHANNELS if built else 8)
        draft.append(kind, outputs, index == len(kinds) - 1)
    network = replace(draft.network, manifest=draft.manifest)
    labels = random_codes(rng, -1, draft.manifest.outputs - 1, workload.num_results)
    return validated(Bundle(network, replace(workload, labels=labels)))
