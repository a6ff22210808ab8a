"""Lowering: a network becomes a short list of passes, once; everything later reads this list.

A pass is a sparse-times-dense product with an epilogue, `Y = epilogue(S x D)`. In a combination S
is node features and D the weights; in an aggregation S is the graph and D node features.
"""

from dataclasses import dataclass
from typing import Literal

from sgq_hw.errors import InputError
from sgq_hw.formats import Key, Multiplier
from sgq_hw.golden.bounds import StageBound, stage_bounds
from sgq_hw.golden.fixed_point import BoundError, code_range
from sgq_hw.layers import GcnLayer
from sgq_hw.manifest import Manifest

Front = Literal["combine_stream", "combine_buffer", "aggregate"]


@dataclass(frozen=True, slots=True)
class Capacity:
    """What the hardware is sized for; any graph within it runs without generating anew.

    Attributes:
        nodes: Nodes of the graph.
        edges: Entries of the aggregation matrix (self loops and empty rows included).
        edge_words: Words of its schedule, each with a record of every processing element.
        row_edges: Entries of one of its rows.
        row_nonzeros: Stored inputs in one row of the input matrix.
        input_words: Words of the inputs where they lie on chip, 0 where they are streamed.
    """

    nodes: int
    edges: int
    edge_words: int
    row_edges: int
    row_nonzeros: int
    input_words: int = 0


@dataclass(frozen=True, slots=True)
class Region:
    """A part of the feature buffer: one tensor at a time, at its own width.

    Attributes:
        bits: Bits of a stored channel.
        signed: Whether stored channels are two's complement.
        chunks: Words of a node.
    """

    bits: int
    signed: bool
    chunks: int


@dataclass(frozen=True, slots=True)
class Pass:
    """One pass over the array.

    Attributes:
        index: Position in the list.
        layer, stage: Where it comes from in the bundle.
        name: `layerI.STAGE`.
        front: `combine_stream` (S streamed in), `combine_buffer` (S from a region) or `aggregate`
            (S is the graph).
        source: Region that is read (S of combine_buffer, D of aggregate), or None.
        destination: Region that is written, or None for the output stream.
        in_channels: Columns of S that a combination walks (rows of D), or channels of D.
        out_channels: Columns of Y.
        chunks: Words of LANES channels in a row of Y.
        last_chunk_lanes: Channels in the last of them.
        weight_base: First word of D in every bank of the weight memory; row k of D lies in bank
            k % banks, word `chunk * weight_stride + k // banks`.
        weight_stride: Words between the chunks of a row of D.
        channel_base: First word of the pass in the channel memory (bias, channel multipliers).
        has_bias: Whether the epilogue adds a bias.
        multiplier: M of the epilogue.
        layer_multiplier: The constant M, 1 where M is per channel or node.
        shift: S of the epilogue.
        limit_low, limit_high: Saturation limits of the result.
        bits, signed: Format of the result.
        bias_bits: Width of the network's own biases, 0 without.
        bound: Proved bounds of its sums.
        addend_region, addend_factor: Second tensor and its constant factor in the epilogue
            `acc * M + addend * A + bias`; no layer kind uses it yet.
    """

    index: int
    layer: int
    stage: str
    name: str
    front: Front
    source: int | None
    destination: int | None
    in_channels: int
    out_channels: int
    chunks: int
    last_chunk_lanes: int
    weight_base: int
    weight_stride: int
    channel_base: int
    has_bias: bool
    multiplier: Multiplier
    layer_multiplier: int
    shift: int
    limit_low: int
    limit_high: int
    bits: int
    signed: bool
    bias_bits: int
    bound: StageBound
    addend_region: int | None = None
    addend_factor: int = 0

    @property
    def key(self) -> Key:
        """Layer and stage, as arrays and traces are filed."""
        return self.layer, self.stage


@dataclass(frozen=True, slots=True)
class Program:
    """A lowered network.

    Attributes:
        passes: In running order; the last one feeds the output stream.
        regions: Regions of the feature buffer.
        weight_words: Words of a bank of the weight memory.
        channel_words: Words of the channel memory.
    """

    passes: tuple[Pass, ...]
    regions: tuple[Region, ...]
    weight_words: int
    channel_words: int


def _merge(region: Region | None, bits: int, signed: bool, chunks: int) -> Region:
    """Widen a region so that it also holds another tensor, whatever the signs."""
    if region is None:
        return Region(bits, signed, chunks)
    both_signed = region.signed or signed
    widths = (
        region.bits + (both_signed and not region.signed),
        bits + (both_signed and not signed),
    )
    return Region(max(widths), both_signed, max(region.chunks, chunks))


def _refuse_unbuilt(manifest: Manifest) -> None:
    """Refuse what the golden model computes but no hardware unit yet."""
    for index, layer in enumerate(manifest.layers):
        if not isinstance(layer, GcnLayer):
            raise InputError(
                f"layers[{index}].kind: no hardware for '{layer.kind}' layers yet, only for gcn"
            )
    for step in manifest.steps():
        if step.epilogue.output.windows:
            raise InputError(
                f"layers[{step.key[0]}].{step.key[1]}.output.windows: no hardware for "
                "degree-aware bits yet"
            )


def lower(manifest: Manifest, lanes: int, capacity: Capacity, banks: int = 1) -> Program:
    """Lower a network for an array of `lanes` lanes, weights in `banks` banks.

    Results alternate between two regions: a pass reads what the one before it wrote.

    Raises:
        InputError: a layer that cannot be built, or sums wider than the hardware supports.
    """
    _refuse_unbuilt(manifest)
    try:
        bounds = stage_bounds(manifest, capacity.row_nonzeros, capacity.row_edges)
    except BoundError as error:
        raise InputError(str(error)) from error
    steps = manifest.steps()
    regions: list[Region | None] = [None, None]
    passes: list[Pass] = []
    weight_words = channel_words = 0
    for index, step in enumerate(steps):
        epilogue, output = step.epilogue, step.epilogue.output
        chunks = -(-step.channels // lanes)
        final = index == len(steps) - 1
        if not final:
            regions[index % 2] = _merge(regions[index % 2], output.bits, output.signed, chunks)
        low, high = code_range(output.bits, output.signed)
        combine = step.operation == "combine"
        stride = -(-step.inputs // banks)
        uses_channels = epilogue.bias_bits > 0 or epilogue.multiplier.kind == "channel"
        passes.append(
            Pass(
                index=index,
                layer=step.key[0],
                stage=step.key[1],
                name=step.name,
                front=("combine_buffer" if index else "combine_stream") if combine else "aggregate",
                source=(index - 1) % 2 if index else None,
                destination=None if final else index % 2,
                in_channels=step.inputs,
                out_channels=step.channels,
                chunks=chunks,
                last_chunk_lanes=step.channels - (chunks - 1) * lanes,
                weight_base=weight_words if combine else 0,
                weight_stride=stride,
                channel_base=channel_words if uses_channels else 0,
                has_bias=epilogue.bias_bits > 0,
                multiplier=epilogue.multiplier,
                layer_multiplier=(
                    epilogue.multiplier.value if epilogue.multiplier.kind == "layer" else 1
                ),
                shift=epilogue.shift,
                limit_low=low,
                limit_high=high,
                bits=output.bits,
                signed=output.signed,
                bias_bits=epilogue.bias_bits,
                bound=bounds[step.key],
            )
        )
        weight_words += stride * chunks if combine else 0
        channel_words += chunks if uses_channels else 0
    return Program(
        tuple(passes),
        tuple(region for region in regions if region is not None),
        weight_words,
        channel_words,
    )
