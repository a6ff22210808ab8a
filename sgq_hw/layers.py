"""The layers a network is made of, each as the stages that it runs.

A layer is a record of the manifest, one kind for each sort of graph convolution. `steps` spells it
out as stages in running order: golden model, quantiser, bounds and lowering walk these and need not
know the kinds.
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import msgspec

from sgq_hw.formats import MAX_SHIFT, Bits, Epilogue, Format, Key, Positive, Record

Operation = Literal["combine", "aggregate", "attend", "readout"]
Bound = Literal["row", "global"]
TableLength = Annotated[int, msgspec.Meta(ge=2, le=4096)]


class GatAttention(Record, frozen=True):
    """How GAT weighs a row's neighbours; formulas in `golden.attention_unit`.

    Attributes:
        heads: Number of heads.
        bits: Width of an unnormalised weight.
        index_shift: From a difference of logits to an index of the table of exponentials, the array
            `layerI/aggregate/exponential`.
        slope_code, slope_shift: The leaky slope is `slope_code / 2**slope_shift`.
        bound: Upper bound of a row's logits: exact over its neighbours, or over all nodes.
        table_length: Entries of the table of exponentials, a power of two.
    """

    heads: Positive
    bits: Bits
    index_shift: Annotated[int, msgspec.Meta(ge=0, le=MAX_SHIFT)]
    slope_code: Annotated[int, msgspec.Meta(ge=0, le=256)]
    slope_shift: Annotated[int, msgspec.Meta(ge=0, le=8)]
    bound: Bound
    table_length: TableLength = 256


class AgnnAttention(Record, frozen=True):
    """How AGNN weighs a row's neighbours: by `beta` times the cosine.

    Attributes:
        bits, index_shift: As of GAT.
        score_bits: Width of a logit, two's complement.
        norm_bits: Width of a reciprocal norm.
        beta: On the grid of the logits.
        table_length: As of GAT.
    """

    bits: Bits
    index_shift: Annotated[int, msgspec.Meta(ge=0, le=MAX_SHIFT)]
    score_bits: Annotated[int, msgspec.Meta(ge=2, le=16)]
    norm_bits: Annotated[int, msgspec.Meta(ge=2, le=16)]
    beta: int
    table_length: TableLength = 256


@dataclass(frozen=True, slots=True)
class Step:
    """One stage of the network: a product with an epilogue.

    Attributes:
        key: Layer and stage name.
        operation: `combine` (features times weights), `aggregate` (graph times features), `attend`
            (mean of the neighbours, weighed by attention) or `readout` (sum of the nodes of each
            graph).
        source: Stage whose result is read, None for the network's input.
        inputs: Channels of the source.
        channels: Channels of the result.
        epilogue: What ends the stage.
        weight: Format of the weights of a combination.
        addend: Stage whose result the epilogue adds, times `addend_factor`.
        addend_factor: Constant on the grid of the products.
        attention: How an `attend` weighs the neighbours.
        scores: Stage whose result holds the scores of targets, then of sources (GAT).
        activation: What a stored table does to the rounded codes.
    """

    key: Key
    operation: Operation
    source: Key | None
    inputs: int
    channels: int
    epilogue: Epilogue
    weight: Format | None = None
    addend: Key | None = None
    addend_factor: int = 0
    attention: GatAttention | AgnnAttention | None = None
    scores: Key | None = None
    activation: Literal["none", "elu"] = "none"

    @property
    def name(self) -> str:
        """`layerI.STAGE`."""
        return f"layer{self.key[0]}.{self.key[1]}"


class GcnLayer(Record, frozen=True, tag_field="kind", tag="gcn"):
    """Graph convolution (Kipf and Welling 2017): A (X W) or (A X) W, A normalised.

    Stages `combine` (times weights) and `aggregate`, in the order of `association`.
    """

    kind: ClassVar[str] = "gcn"
    association: Literal["A(XW)", "(AX)W"]
    in_channels: Positive
    out_channels: Positive
    weight: Format
    combine: Epilogue
    aggregate: Epilogue

    def steps(self, index: int, source: Key | None) -> list[Step]:
        """Return the stages of layer `index`, which reads `source`."""
        first, second = (index, "combine"), (index, "aggregate")
        if self.association == "(AX)W":
            return [
                Step(second, "aggregate", source, self.in_channels, self.in_channels,
                     self.aggregate),
                Step(first, "combine", second, self.in_channels, self.out_channels, self.combine,
                     self.weight),
            ]  # fmt: skip
        return [
            Step(first, "combine", source, self.in_channels, self.out_channels, self.combine,
                 self.weight),
            Step(second, "aggregate", first, self.out_channels, self.out_channels, self.aggregate),
        ]  # fmt: skip


class SageLayer(Record, frozen=True, tag_field="kind", tag="sage"):
    """GraphSAGE with the mean (Hamilton et al. 2017): X R + mean of neighbours (X W).

    The root term X R enters the aggregation's epilogue as its addend.
    """

    kind: ClassVar[str] = "sage"
    in_channels: Positive
    out_channels: Positive
    weight: Format
    combine: Epilogue
    root_weight: Format
    root: Epilogue
    root_factor: Positive
    aggregate: Epilogue

    def steps(self, index: int, source: Key | None) -> list[Step]:
        """Return the stages of layer `index`, which reads `source`."""
        inputs, outputs = self.in_channels, self.out_channels
        combine, root = (index, "combine"), (index, "root")
        return [
            Step(combine, "combine", source, inputs, outputs, self.combine, self.weight),
            Step(root, "combine", source, inputs, outputs, self.root, self.root_weight),
            Step((index, "aggregate"), "aggregate", combine, outputs, outputs, self.aggregate,
                 addend=root, addend_factor=self.root_factor),
        ]  # fmt: skip


class GinLayer(Record, frozen=True, tag_field="kind", tag="gin"):
    """Graph isomorphism layer (Xu et al. 2019, epsilon 0): relu((A + I) X W) V.

    The sum runs after the first of the two products, which changes nothing and is cheaper.
    """

    kind: ClassVar[str] = "gin"
    in_channels: Positive
    hidden_channels: Positive
    out_channels: Positive
    weight: Format
    combine: Epilogue
    aggregate: Epilogue
    mlp_weight: Format
    mlp: Epilogue

    def steps(self, index: int, source: Key | None) -> list[Step]:
        """Return the stages of layer `index`, which reads `source`."""
        inputs, hidden = self.in_channels, self.hidden_channels
        combine, aggregate = (index, "combine"), (index, "aggregate")
        return [
            Step(combine, "combine", source, inputs, hidden, self.combine, self.weight),
            Step(aggregate, "aggregate", combine, hidden, hidden, self.aggregate),
            Step((index, "mlp"), "combine", aggregate, hidden, self.out_channels, self.mlp,
                 self.mlp_weight),
        ]  # fmt: skip


class GatLayer(Record, frozen=True, tag_field="kind", tag="gat"):
    """Graph attention (Velickovic et al. 2018); heads lie side by side in the channels.

    `score` holds, for every node, the logits it adds as target and then as source, a column a head:
    two more columns of weights for each head, X (W a).
    """

    kind: ClassVar[str] = "gat"
    in_channels: Positive
    out_channels: Positive
    weight: Format
    combine: Epilogue
    score_weight: Format
    score: Epilogue
    attention: GatAttention
    aggregate: Epilogue
    activation: Literal["none", "elu"]

    def steps(self, index: int, source: Key | None) -> list[Step]:
        """Return the stages of layer `index`, which reads `source`."""
        inputs, outputs = self.in_channels, self.out_channels
        combine, score = (index, "combine"), (index, "score")
        return [
            Step(combine, "combine", source, inputs, outputs, self.combine, self.weight),
            Step(score, "combine", source, inputs, 2 * self.attention.heads, self.score,
                 self.score_weight),
            Step((index, "aggregate"), "attend", combine, outputs, outputs, self.aggregate,
                 attention=self.attention, scores=score, activation=self.activation),
        ]  # fmt: skip


class AgnnLayer(Record, frozen=True, tag_field="kind", tag="agnn"):
    """Attention-based propagation (Thekumparampil et al. 2018): no weights but `beta`."""

    kind: ClassVar[str] = "agnn"
    in_channels: Positive
    attention: AgnnAttention
    aggregate: Epilogue

    @property
    def out_channels(self) -> int:
        """Channels of the result."""
        return self.in_channels

    def steps(self, index: int, source: Key | None) -> list[Step]:
        """Return the stages of layer `index`, which reads `source`."""
        channels = self.in_channels
        return [
            Step((index, "aggregate"), "attend", source, channels, channels, self.aggregate,
                 attention=self.attention),
        ]  # fmt: skip


class LinearLayer(Record, frozen=True, tag_field="kind", tag="linear"):
    """Features times weights, without the graph."""

    kind: ClassVar[str] = "linear"
    in_channels: Positive
    out_channels: Positive
    weight: Format
    combine: Epilogue

    def steps(self, index: int, source: Key | None) -> list[Step]:
        """Return the stages of layer `index`, which reads `source`."""
        inputs, outputs = self.in_channels, self.out_channels
        key = (index, "combine")
        return [Step(key, "combine", source, inputs, outputs, self.combine, self.weight)]


class ReadoutLayer(Record, frozen=True, tag_field="kind", tag="readout"):
    """Sum of the nodes of each graph."""

    kind: ClassVar[str] = "readout"
    in_channels: Positive
    readout: Epilogue

    @property
    def out_channels(self) -> int:
        """Channels of the result."""
        return self.in_channels

    def steps(self, index: int, source: Key | None) -> list[Step]:
        """Return the stages of layer `index`, which reads `source`."""
        channels = self.in_channels
        return [Step((index, "readout"), "readout", source, channels, channels, self.readout)]


Layer = GcnLayer | SageLayer | GinLayer | GatLayer | AgnnLayer | LinearLayer | ReadoutLayer
LAYER_KINDS = tuple(
    layer.kind
    for layer in (GcnLayer, SageLayer, GinLayer, GatLayer, AgnnLayer, LinearLayer, ReadoutLayer)
)
