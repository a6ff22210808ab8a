"""Networks with attention and with second operands, written out by hand, as designs.

Nothing is trained or drawn here: tests of the hardware choose kinds, widths and formats themselves.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from sgq_hw.attention_schedule import NORM_STEPS, RECIPROCAL_STEPS
from sgq_hw.attention_timing import (
    GAT_LATENCY,
    WEIGHT_LATENCY,
    agnn_latency,
    reciprocal_latency,
)
from sgq_hw.design import Design, make_design
from sgq_hw.formats import Epilogue, Format, Multiplier, Window
from sgq_hw.layers import (
    AgnnAttention,
    AgnnLayer,
    GatAttention,
    GatLayer,
    GcnLayer,
    GinLayer,
    Layer,
    LinearLayer,
    SageLayer,
)
from sgq_hw.lowering import Capacity
from sgq_hw.manifest import (
    BUNDLE_FORMAT,
    BUNDLE_VERSION,
    InputSpec,
    Manifest,
    NodeTable,
    check_manifest,
)

TABLE = NodeTable(name="factor", rule="degree", bits=7, scale=2.0**-7)
"""The node table of every network here."""


@dataclass(frozen=True)
class End:
    """What the tests vary of an epilogue.

    Attributes:
        bits, signed: Of the result.
        kind: Of the multiplier.
        bias_bits: 0 for no bias.
        widths: Bits of the window of each degree bucket, or nothing.
    """

    bits: int = 6
    signed: bool = False
    kind: Literal["layer", "channel", "node"] = "layer"
    bias_bits: int = 0
    widths: tuple[int, ...] = ()

    def epilogue(self, attends: bool = False) -> Epilogue:
        """Return it as a record; a mean of attention has its own multiplier."""
        multiplier = Multiplier(kind=self.kind, bits=5, value=21)
        if self.kind == "node":
            multiplier = Multiplier(kind="node", bits=TABLE.bits, table=TABLE.name)
        if attends:
            multiplier = Multiplier(kind="reciprocal", bits=16)
        windows = tuple(
            Window(exponent=max(self.widths) - width, bits=width) for width in self.widths
        )
        bits = max(self.widths, default=self.bits)
        return Epilogue(
            multiplier=multiplier, shift=3, bias_bits=self.bias_bits,
            output=Format(bits=bits, signed=self.signed, scale=0.25, windows=windows),
        )  # fmt: skip


SIGNED = End(signed=True)


def _weight(bits: int = 4) -> Format:
    return Format(bits=bits, signed=True, scale=0.25)


def linear(inputs: int, outputs: int, end: End = End()) -> LinearLayer:
    """Return a product."""
    return LinearLayer(
        in_channels=inputs, out_channels=outputs, weight=_weight(), combine=end.epilogue()
    )


def gcn(
    inputs: int, outputs: int, end: End = End(), *,
    order: Literal["A(XW)", "(AX)W"] = "A(XW)", combine: End = SIGNED,
) -> GcnLayer:  # fmt: skip
    """Return a graph convolution."""
    return GcnLayer(
        association=order, in_channels=inputs, out_channels=outputs, weight=_weight(),
        combine=combine.epilogue(), aggregate=end.epilogue(),
    )  # fmt: skip


def sage(
    inputs: int, outputs: int, end: End = End(), *, root: End = SIGNED,
    combine: End = SIGNED, factor: int = 19,
) -> SageLayer:  # fmt: skip
    """Return a layer of GraphSAGE."""
    return SageLayer(
        in_channels=inputs, out_channels=outputs, weight=_weight(), combine=combine.epilogue(),
        root_weight=_weight(5), root=root.epilogue(), root_factor=factor, aggregate=end.epilogue(),
    )  # fmt: skip


def gin(
    inputs: int, hidden: int, outputs: int, end: End = End()
) -> GinLayer:
    """Return a graph isomorphism layer."""
    return GinLayer(
        in_channels=inputs, hidden_channels=hidden, out_channels=outputs, weight=_weight(),
        combine=SIGNED.epilogue(), aggregate=End().epilogue(), mlp_weight=_weight(5),
        mlp=end.epilogue(),
    )  # fmt: skip


def gat(
    inputs: int, outputs: int, heads: int, end: End = SIGNED, *, combine: End = SIGNED,
    score: End = SIGNED, elu: bool = False, table_length: int = 32,
    bound: Literal["row", "global"] = "row", slope: tuple[int, int] = (13, 6),
) -> GatLayer:  # fmt: skip
    """Return a graph attention layer."""
    return GatLayer(
        in_channels=inputs, out_channels=outputs, weight=_weight(), combine=combine.epilogue(),
        score_weight=_weight(5), score=score.epilogue(), aggregate=end.epilogue(attends=True),
        attention=GatAttention(
            heads=heads, bits=6, index_shift=3, slope_code=slope[0], slope_shift=slope[1],
            bound=bound, table_length=table_length,
        ),
        activation="elu" if elu else "none",
    )  # fmt: skip


def agnn(
    channels: int, end: End = End(), *, table_length: int = 16
) -> AgnnLayer:
    """Return an attention-based propagation."""
    return AgnnLayer(
        in_channels=channels, aggregate=end.epilogue(attends=True),
        attention=AgnnAttention(
            bits=5, index_shift=2, score_bits=8, norm_bits=9, beta=77, table_length=table_length
        ),
    )  # fmt: skip


def network(
    layers: Sequence[Layer], *, self_loops: bool = True, splits: tuple[int, ...] = (),
    edge_bits: int = 0,
) -> Manifest:  # fmt: skip
    """Return a checked manifest with these layers."""
    edge = Format(bits=edge_bits, signed=False, scale=0.25) if edge_bits else None
    manifest = Manifest(
        format=BUNDLE_FORMAT, version=BUNDLE_VERSION,
        normalisation="attention" if edge is None else "edge", self_loops=self_loops,
        input=InputSpec(
            channels=layers[0].in_channels, bits=4, signed=False, row_normalised=False
        ),
        edge=edge, node_tables=(TABLE,), layers=tuple(layers), degree_splits=splits,
    )  # fmt: skip
    check_manifest(manifest)
    return manifest


def capacity(manifest: Manifest, nodes: int = 9) -> Capacity:
    """Return room for any graph of so many nodes."""
    windowed = any(step.epilogue.output.windows for step in manifest.steps()[:-1])
    buckets = len(manifest.degree_splits) + 1 if windowed else 0
    return Capacity(
        nodes=nodes, edges=nodes**2, edge_words=2 * nodes**2, row_edges=nodes,
        row_nonzeros=manifest.input.channels, bucket_nodes=(nodes,) * buckets,
    )  # fmt: skip


def sized(manifest: Manifest, *, lanes: int, nodes: int = 9, **options: Any) -> Design:
    """Return the design of a network for graphs of so many nodes; options of `make_design`."""
    room = capacity(manifest, nodes)
    return make_design(manifest, lanes=lanes, capacity=room, **{"stream_bits": 64, **options})


WINDOWS = (6, 3, 4)
"""Bits of the degree buckets of networks with windows; splits are 2 and 4."""
FEW, MANY = End(bits=3), End(bits=9, signed=True, kind="channel", bias_bits=12)
NETWORKS: dict[str, tuple[Manifest, dict[str, Any]]] = {
    # One chunk a row, one word of scores.
    "gat": (
        network([gat(5, 4, 2, elu=True), gat(4, 3, 1, End(bits=9, signed=True))]), {"lanes": 4}
    ),
    # Several words of scores, several chunks; heads that begin within a word.
    "gat-heads": (
        network([gat(6, 15, 5, elu=True), gat(15, 12, 3, MANY, elu=True)], self_loops=False),
        {"lanes": 2, "pes": 2},
    ),
    "gat-lanes3": (
        network([gat(4, 14, 7, End(bits=4, signed=True), combine=FEW, elu=True), gat(14, 2, 2)]),
        {"lanes": 3, "pes": 4, "nodes": 21},
    ),
    "gat-streamed": (network([gat(4, 6, 3), gat(6, 5, 5)]), {"lanes": 2, "pes": 2,
                                                            "streamed": True}),
    "gat-windows": (
        network(
            [gat(5, 9, 3, End(signed=True, widths=WINDOWS), combine=End(widths=WINDOWS)),
             gat(9, 4, 2)], splits=(2, 4),
        ),
        {"lanes": 4, "pes": 2, "nodes": 24},
    ),
    "gat-windows-one": (
        network(
            [gat(5, 9, 3, End(signed=True, widths=WINDOWS), elu=False), gat(9, 4, 2)],
            splits=(2, 4),
        ),
        {"lanes": 4, "nodes": 24},
    ),
    "agnn": (
        network([linear(7, 8), agnn(8), agnn(8, FEW), linear(8, 3, MANY)]), {"lanes": 3, "pes": 2}
    ),
    "agnn-one": (network([linear(5, 4), agnn(4), linear(4, 3, SIGNED)]), {"lanes": 4}),
    # Results leave as they are finished, words of a record one after the other.
    "agnn-last": (network([linear(5, 11), agnn(11, SIGNED)]), {"lanes": 3}),
    "agnn-last-streamed": (
        network([gat(5, 11, 1), agnn(11, SIGNED)]), {"lanes": 4, "streamed": True}
    ),
    "agnn-last-long": (network([linear(5, 20), agnn(20, SIGNED)]), {"lanes": 1}),
    "sage": (
        network(
            [sage(6, 7, root=MANY, combine=FEW), sage(7, 3, SIGNED, root=End(bits=11))],
            self_loops=False,
        ),
        {"lanes": 3, "pes": 2},
    ),
    "sage-windows": (
        network(
            [sage(6, 7, End(widths=WINDOWS), combine=End(widths=WINDOWS)), sage(7, 3, SIGNED)],
            splits=(2, 4),
        ),
        {"lanes": 4, "nodes": 20},
    ),
    "gin": (network([gin(4, 9, 5), gin(5, 3, 6, SIGNED)]), {"lanes": 4}),
    # All at once: scores and cosines, sums that are not multiplied, an addend.
    "mixed": (
        network([gat(5, 6, 3, elu=True), agnn(6), sage(6, 5, root=End(kind="node")),
                 gcn(5, 8, order="(AX)W"), gat(8, 4, 4, FEW), gcn(4, 3, SIGNED)]),
        {"lanes": 4, "pes": 2},
    ),
    "mixed-edges": (
        network([gat(5, 6, 1, elu=True), sage(6, 5), gcn(5, 8, MANY), agnn(8, SIGNED)],
                edge_bits=3),
        {"lanes": 5},
    ),
}  # fmt: skip
"""Name to network and options of `sized`."""


@cache
def design_of(name: str) -> Design:
    """Return the design of one of `NETWORKS`."""
    manifest, options = NETWORKS[name]
    return sized(manifest, **options)


# ---- when attention's words are ready, by trial


@dataclass(frozen=True)
class Shape:
    """A pass with attention, as far as its timing goes.

    Attributes:
        heads, channels: Of the pass.
        lanes: Channels, or heads, of a word.
        score_chunks: Words of scores of a record.
        norm_bits: AGNN: bits of a mantissa; None for GAT.
    """

    heads: int
    channels: int
    lanes: int
    score_chunks: int
    norm_bits: int | None = None

    @property
    def chunks(self) -> int:
        """Words of features of a record."""
        return -(-self.channels // self.lanes)

    @property
    def steps(self) -> int:
        """Words of a record."""
        return self.score_chunks + self.chunks

    def heads_of(self, chunk: int) -> set[int]:
        """Return the heads of a word's channels."""
        width = self.channels // self.heads
        first = chunk * self.lanes
        return {at // width for at in range(first, min(first + self.lanes, self.channels))}

    def group_times(self, words: Sequence[int], head_lanes: int) -> list[tuple[int, int]]:
        """Return when the scores of each group leave, at the earliest and at the latest.

        Args:
            words: Cycle of each word of a record.
            head_lanes: Heads of a group.
        """
        if self.norm_bits is not None:
            leaves = words[-1] + agnn_latency(self.lanes, self.norm_bits, NORM_STEPS)
            return [(leaves, leaves)]
        # Scores of a row come a cycle after those of its neighbour.
        scores = words[: self.score_chunks]
        gaps = scores[-1] - scores[0] - len(scores) + 1
        first = scores[0] + 1 + GAT_LATENCY
        return [
            (first + group, first + group + gaps) for group in range(-(-self.heads // head_lanes))
        ]

    def finds(
        self, records: Sequence[Sequence[int]], head_lanes: int, wait: int, latency: int
    ) -> bool:
        """Whether every word but the last record's finds what its own record left in registers.

        Args:
            records: Cycle of each word of each record.
            head_lanes: Heads of a group.
            wait: Cycles from a word to its use.
            latency: Cycles from a group's scores to its registers.
        """
        times = [self.group_times(words, head_lanes) for words in records]
        for words, own, others in zip(records, times, times[1:], strict=False):
            for chunk in range(self.chunks):
                used = words[self.score_chunks + chunk] + wait
                for head in self.heads_of(chunk):
                    group = head // head_lanes
                    if not own[group][1] + latency <= used < others[group][0] + latency:
                        return False
        return True

    def least_delays(self, head_lanes: int) -> tuple[int, int]:
        """Return the least delays of operands and results with which records without gaps work."""
        records = [[record * self.steps + step for step in range(self.steps)] for record in (0, 1)]
        operand = next(
            delay for delay in range(2, MOST_DELAY)
            if self.finds(records, head_lanes, delay, WEIGHT_LATENCY)
        )
        # Three cycles in the array, and one from the end of the delay to the use.
        latency = reciprocal_latency(RECIPROCAL_STEPS)
        result = next(
            delay for delay in range(2, MOST_DELAY)
            if self.finds(records, head_lanes, operand + 3 + delay + 1, latency)
        )
        return operand, result


MOST_DELAY = 200
"""No pass waits for so long."""
