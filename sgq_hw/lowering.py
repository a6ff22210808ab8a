"""Lowering: a network becomes a short list of passes, once; everything later reads this list.

A pass is a sparse-times-dense product with an epilogue, `Y = epilogue(S x D)`. In a combination S
is node features and D the weights; in an aggregation S is the graph and D node features.
"""

from dataclasses import dataclass
from typing import Literal

from sgq_hw.errors import InputError
from sgq_hw.formats import Key, Multiplier, Window
from sgq_hw.golden.bounds import StageBound, stage_bounds
from sgq_hw.golden.fixed_point import BoundError, code_range
from sgq_hw.layers import GcnLayer, GinLayer, LinearLayer
from sgq_hw.manifest import Manifest

BUILT_LAYERS = (GcnLayer, GinLayer, LinearLayer)
"""Layers whose stages each read what the stage before wrote; the others need more hardware."""

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
        bucket_nodes: Nodes of each position of the memory order; empty without degree windows.
    """

    nodes: int
    edges: int
    edge_words: int
    row_edges: int
    row_nonzeros: int
    input_words: int = 0
    bucket_nodes: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Region:
    """A part of the feature buffer: one tensor at a time, at its own width.

    Attributes:
        widths: Bits of a stored channel, for each position of the memory order; a single one
            without degree windows.
        signed: Whether stored channels are two's complement.
        chunks: Words of a node.
    """

    widths: tuple[int, ...]
    signed: bool
    chunks: int

    @property
    def bits(self) -> int:
        """Bits of the widest stored channel."""
        return max(self.widths)


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
        limits: Saturation limits (low, high) of the stored code, for each position of the memory
            order; a single pair without degree windows.
        bits, signed: Format of the result, of the whole word where it has windows.
        windows: Windows of the result by position, empty where all nodes keep all bits.
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
    limits: tuple[tuple[int, int], ...]
    bits: int
    signed: bool
    windows: tuple[Window, ...]
    bias_bits: int
    bound: StageBound
    addend_region: int | None = None
    addend_factor: int = 0

    @property
    def key(self) -> Key:
        """Layer and stage, as arrays and traces are filed."""
        return self.layer, self.stage

    @property
    def limit_low(self) -> int:
        """Least stored code."""
        return min(low for low, _ in self.limits)

    @property
    def limit_high(self) -> int:
        """Largest stored code."""
        return max(high for _, high in self.limits)

    @property
    def code_bits(self) -> int:
        """Bits of the widest stored code."""
        return max((window.bits for window in self.windows), default=self.bits)

    @property
    def source_pass(self) -> int | None:
        """Pass whose result is read from the feature buffer."""
        return None if self.source is None else self.index - 1


@dataclass(frozen=True, slots=True)
class Program:
    """A lowered network.

    Attributes:
        passes: In running order; the last one feeds the output stream.
        regions: Regions of the feature buffer.
        order: Degree buckets in the order in which their nodes lie in memory; a position is a place
            in it. Empty without degree windows.
        weight_words: Words of a bank of the weight memory.
        channel_words: Words of the channel memory.
    """

    passes: tuple[Pass, ...]
    regions: tuple[Region, ...]
    order: tuple[int, ...]
    weight_words: int
    channel_words: int


def _merge(region: Region | None, widths: tuple[int, ...], signed: bool, chunks: int) -> Region:
    """Widen a region so that it also holds another tensor, whatever the signs."""
    if region is None:
        return Region(widths, signed, chunks)
    both_signed = region.signed or signed
    old, new = both_signed and not region.signed, both_signed and not signed
    merged = tuple(
        max(mine + old, theirs + new) for mine, theirs in zip(region.widths, widths, strict=True)
    )
    return Region(merged, both_signed, max(region.chunks, chunks))


def memory_order(manifest: Manifest) -> tuple[int, ...]:
    """Return the degree buckets in the order in which their nodes lie in memory.

    Buckets that keep most bits come first, so that the slices of most tensors begin at the first
    node. Empty where no stored tensor has windows.
    """
    steps = manifest.steps()[:-1]  # the result is not stored
    windowed = [step for step in steps if step.epilogue.output.windows]
    if not windowed:
        return ()
    buckets = range(len(manifest.degree_splits) + 1)
    bits = [
        sum(step.epilogue.output.windows[bucket].bits * step.channels for step in windowed)
        for bucket in buckets
    ]
    return tuple(sorted(buckets, key=lambda bucket: -bits[bucket]))


def _refuse_unbuilt(manifest: Manifest) -> None:
    """Refuse what the golden model computes but no hardware unit yet."""
    for index, layer in enumerate(manifest.layers):
        if not isinstance(layer, BUILT_LAYERS):
            built = ", ".join(kind.kind for kind in BUILT_LAYERS)
            raise InputError(
                f"layers[{index}].kind: no hardware for '{layer.kind}' layers yet, only for {built}"
            )
    final = manifest.steps()[-1]
    if final.epilogue.output.windows:
        raise InputError(
            f"layers[{final.key[0]}].{final.key[1]}.output.windows: the result of a network leaves "
            "with the same bits for every node"
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
    order = memory_order(manifest)
    regions: list[Region | None] = [None, None]
    passes: list[Pass] = []
    weight_words = channel_words = 0
    for index, step in enumerate(steps):
        epilogue, output = step.epilogue, step.epilogue.output
        chunks = -(-step.channels // lanes)
        final = index == len(steps) - 1
        windows = tuple(output.windows[bucket] for bucket in order) if output.windows else ()
        widths = tuple(window.bits for window in windows) or (output.bits,) * max(1, len(order))
        if not final:
            regions[index % 2] = _merge(regions[index % 2], widths, output.signed, chunks)
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
                limits=tuple(code_range(width, output.signed) for width in widths),
                bits=output.bits,
                signed=output.signed,
                windows=windows,
                bias_bits=epilogue.bias_bits,
                bound=bounds[step.key],
            )
        )
        weight_words += stride * chunks if combine else 0
        channel_words += chunks if uses_channels else 0
    return Program(
        tuple(passes),
        tuple(region for region in regions if region is not None),
        order,
        weight_words,
        channel_words,
    )
