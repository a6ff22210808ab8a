"""The layers a network is made of, each as the stages that it runs.

A layer is a record of the manifest, one kind for each sort of graph convolution. `steps` spells it
out as stages in running order: golden model, quantiser, bounds and lowering walk these and need not
know the kinds.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

from sgq_hw.formats import Epilogue, Format, Key, Positive, Record

Operation = Literal["combine", "aggregate", "readout"]


@dataclass(frozen=True, slots=True)
class Step:
    """One stage of the network: a product with an epilogue.

    Attributes:
        key: Layer and stage name.
        operation: `combine` (features times weights), `aggregate` (graph times features) or
            `readout` (sum of the nodes of each graph).
        source: Stage whose result is read, None for the network's input.
        inputs: Channels of the source.
        channels: Channels of the result.
        epilogue: What ends the stage.
        weight: Format of the weights of a combination.
        addend: Stage whose result the epilogue adds, times `addend_factor`.
        addend_factor: Constant on the grid of the products.
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


Layer = GcnLayer | SageLayer | GinLayer | LinearLayer | ReadoutLayer
LAYER_KINDS = tuple(
    layer.kind for layer in (GcnLayer, SageLayer, GinLayer, LinearLayer, ReadoutLayer)
)
