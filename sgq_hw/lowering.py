"""Lowering: a network becomes a short list of passes, once; everything later reads this list.

A pass is a sparse-times-dense product with an epilogue, `Y = epilogue(S x D)`. In a combination S
is node features and D the weights; in an aggregation S is the graph and D node features. Passes
over the same S, one after the other, are one walk: its rows are those of its passes side by side.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

from sgq_hw.errors import InputError
from sgq_hw.formats import Epilogue, Format, Key, Multiplier, Window
from sgq_hw.golden.bounds import StageBound, stage_bounds
from sgq_hw.golden.fixed_point import BoundError, code_range, signed_bits
from sgq_hw.layers import (
    AgnnAttention,
    AgnnLayer,
    GatAttention,
    GatLayer,
    GcnLayer,
    GinLayer,
    LinearLayer,
    SageLayer,
    Step,
)
from sgq_hw.manifest import Manifest

BUILT_LAYERS = (GcnLayer, SageLayer, GinLayer, GatLayer, AgnnLayer, LinearLayer)

Front = Literal["combine_stream", "combine_buffer", "aggregate"]
Operation = Literal["sum", "maximum", "attend"]


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
class Attending:
    """How a pass weighs a row's neighbours, and where it finds what that takes.

    Attributes:
        number: Among the passes with attention: that of its tables.
        rule: The layer's record.
        score_chunks: GAT: words of the sources' scores, read before the features of a record; 0.
        source_region: GAT: the sources' scores.
        target_region: GAT: scores that rows have as targets.
        bound_region: GAT: largest source score of each row.
        first_source: GAT: lane of the first source score, and of its bound; above 0 where both
            halves of the scores share a word.
    """

    number: int
    rule: GatAttention | AgnnAttention
    score_chunks: int = 0
    source_region: int | None = None
    target_region: int | None = None
    bound_region: int | None = None
    first_source: int = 0

    @property
    def heads(self) -> int:
        """Number of heads."""
        return self.rule.heads if isinstance(self.rule, GatAttention) else 1


@dataclass(frozen=True, slots=True)
class Pass:
    """One pass over the array.

    Attributes:
        index: Position in the list.
        layer, stage: Where it comes from in the bundle; `bound` is GAT's maximum.
        name: `layerI.STAGE`, with `_target` or `_source` for a half of the scores.
        front: `combine_stream` (S streamed in), `combine_buffer` (S from a region) or `aggregate`
            (S is the graph).
        operation: What a row is of its products: their `sum`, their `maximum`, or their mean with
            attention (`attend`).
        source: Region that is read (S of combine_buffer, D of aggregate), or None.
        source_pass: Pass that wrote it.
        destination: Region that is written, or None for the output stream.
        duplicate: Region that is written as well, so that two ports can read the result, or None.
        leader: First pass of its walk; all walk the same S at once.
        first_chunk: Its first word in the rows of the walk.
        walk_chunks: Words of a row of the walk.
        in_channels: Columns of S that a combination walks (rows of D), or channels of D.
        first_channel: First channel of the stage that is a column of Y.
        out_channels: Columns of Y.
        chunks: Words of LANES channels in a row of Y.
        last_chunk_lanes: Channels in the last of them.
        weight_base: First word of D in every bank of the weight memory; row k of D lies in bank
            k % banks, word `chunk * weight_stride + k // banks`.
        weight_stride: Words between the chunks of a row of D.
        channel_base: First word of the pass in the channel memory (bias, channel multipliers).
        uses_channels: Whether it has words there: its walk needs some.
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
        addend_region, addend_pass, addend_factor: Second tensor and its factor in the epilogue
            `acc * M + addend * A + bias`.
        attention: Of an `attend`.
        elu: Whether a table of ELU changes the rounded codes.
    """

    index: int
    layer: int
    stage: str
    name: str
    front: Front
    operation: Operation
    source: int | None
    source_pass: int | None
    destination: int | None
    duplicate: int | None
    leader: int
    first_chunk: int
    walk_chunks: int
    in_channels: int
    first_channel: int
    out_channels: int
    chunks: int
    last_chunk_lanes: int
    weight_base: int
    weight_stride: int
    channel_base: int
    uses_channels: bool
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
    addend_pass: int | None = None
    addend_factor: int = 0
    attention: Attending | None = None
    elu: bool = False

    @property
    def key(self) -> Key:
        """Layer and stage, as arrays and traces are filed."""
        return self.layer, self.stage

    @property
    def leads(self) -> bool:
        """Whether it is the first pass of its walk."""
        return self.leader == self.index

    @property
    def score_chunks(self) -> int:
        """Words of scores that are read before the features of a record."""
        return 0 if self.attention is None else self.attention.score_chunks

    @property
    def magnitude(self) -> int:
        """Largest absolute value of a word of the result."""
        low, high = code_range(self.bits, self.signed)
        return max(-low, high)

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

    @property
    def walks(self) -> tuple[Pass, ...]:
        """The first pass of every walk."""
        return tuple(step for step in self.passes if step.leads)


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


def own_first(manifest: Manifest) -> bool:
    """Whether rows of the graph begin with their own nodes: AGNN compares neighbours with them."""
    return any(isinstance(layer, AgnnLayer) for layer in manifest.layers)


def _refuse_unbuilt(manifest: Manifest) -> None:
    """Refuse what the golden model computes but no hardware unit yet."""
    for index, layer in enumerate(manifest.layers):
        where = f"layers[{index}]"
        if not isinstance(layer, BUILT_LAYERS):
            built = ", ".join(kind.kind for kind in BUILT_LAYERS)
            raise InputError(
                f"{where}.kind: no hardware for '{layer.kind}' layers yet, only for {built}"
            )
        if isinstance(layer, AgnnLayer) and not manifest.self_loops:
            raise InputError(f"{where}.kind: hardware for 'agnn' needs a graph with self loops")
        if isinstance(layer, GatLayer):
            if layer.attention.bound != "row":
                raise InputError(
                    f"{where}.attention.bound: hardware has only the row's own maximum ('row')"
                )
            if layer.score.output.windows:
                raise InputError(
                    f"{where}.score.output.windows: scores have the same bits for every node"
                )
    slopes = {
        (layer.attention.slope_code, layer.attention.slope_shift)
        for layer in manifest.layers
        if isinstance(layer, GatLayer)
    }
    norms = {
        layer.attention.norm_bits for layer in manifest.layers if isinstance(layer, AgnnLayer)
    }
    if len(norms) > 1:
        raise InputError("layers: hardware has one width of norms for all 'agnn' layers")
    if len(slopes) > 1:
        raise InputError("layers: hardware has one leaky slope for all 'gat' layers")
    final = manifest.steps()[-1]
    if final.source is None:
        raise InputError("layers: a single 'linear' layer; hardware needs another layer after it")
    if final.epilogue.output.windows:
        raise InputError(
            f"layers[{final.key[0]}].{final.key[1]}.output.windows: the result of a network leaves "
            "with the same bits for every node"
        )


class _Part(NamedTuple):
    """What becomes one pass.

    Attributes:
        step: The stage that it comes from, or that it works for.
        stage: Its own name.
        suffix: Of the pass's name.
        operation: As of the pass.
        first_channel, channels: Of the stage's columns.
        epilogue: What ends it.
        reads: Keys of what it reads: source, then, where it has them, addend, or source scores,
            target scores and bounds.
        writes: Keys of its result, that of the stage but for halves of scores; two of them where
            both halves are in it, each to be read on its own.
    """

    step: Step
    stage: str
    suffix: str
    operation: Operation
    first_channel: int
    channels: int
    epilogue: Epilogue
    reads: tuple[Key | None, ...]
    writes: tuple[Key, ...]


def _target(scores: Key) -> Key:
    return scores[0], f"{scores[1]}_target"


def _source(scores: Key) -> Key:
    return scores[0], f"{scores[1]}_source"


def _parts(steps: list[Step], lanes: int) -> list[_Part]:
    """Spell stages out as passes: scores in halves, a maximum before GAT's attention.

    Halves that fit into one word stay together, and are written twice.
    """
    heads = {
        step.scores: step.attention.heads
        for step in steps
        if step.scores is not None and isinstance(step.attention, GatAttention)
    }
    by_key = {step.key: step for step in steps}
    found: list[_Part] = []
    for step in steps:
        if step.key in heads:
            half, keys = heads[step.key], (_target(step.key), _source(step.key))
            halves: list[tuple[int, int, str, tuple[Key, ...]]] = [
                (0, half, "_target", keys[:1]), (half, half, "_source", keys[1:]),
            ]  # fmt: skip
            if 2 * half <= lanes:
                halves = [(0, 2 * half, "", keys)]
            found += [
                _Part(step, step.key[1], suffix, "sum", first, channels, step.epilogue,
                      (step.source,), writes)
                for first, channels, suffix, writes in halves
            ]  # fmt: skip
            continue
        reads: tuple[Key | None, ...] = (step.source,)
        if step.addend is not None:
            reads += (step.addend,)
        if step.scores is not None:
            scores, bound = by_key[step.scores].epilogue.output, (step.key[0], "bound")
            exact = Epilogue(
                multiplier=Multiplier(kind="layer"), shift=0, bias_bits=0,
                output=Format(bits=scores.bits, signed=True, scale=scores.scale),
            )  # fmt: skip
            sources = _source(step.scores)
            compared = next(part.channels for part in found if sources in part.writes)
            found.append(
                _Part(step, "bound", "", "maximum", 0, compared, exact, (sources,), (bound,))
            )
            reads += (sources, _target(step.scores), bound)
        operation: Operation = "attend" if step.operation == "attend" else "sum"
        found.append(
            _Part(step, step.key[1], "", operation, 0, step.channels, step.epilogue, reads,
                  (step.key,))
        )  # fmt: skip
    return found


def _walks(parts: list[_Part]) -> list[list[int]]:
    """Group combinations of the same source that follow each other: one walk does them all."""
    found: list[list[int]] = []
    for index, part in enumerate(parts):
        combines = part.step.operation == "combine"
        if found and combines:
            before = parts[found[-1][0]]
            if before.step.operation == "combine" and before.reads[0] == part.reads[0]:
                found[-1].append(index)
                continue
        found.append([index])
    return found


class _Regions:
    """Gives every tensor a region that nothing else needs while it is there."""

    def __init__(self, last_use: dict[Key, int]) -> None:
        self.last_use = last_use
        self.regions: list[Region] = []
        self.held: list[Key | None] = []
        self.of: dict[Key, int] = {}

    def place(
        self, key: Key, walk: int, widths: tuple[int, ...], signed: bool, chunks: int
    ) -> int:
        """Reserve a region for a tensor that a walk writes: the one that grows least."""
        def cost(region: Region | None) -> int:
            return 0 if region is None else sum(region.widths) * region.chunks

        free: list[tuple[int, int]] = [(sum(widths) * chunks, len(self.regions))]
        for index, tensor in enumerate(self.held):
            if tensor is None or self.last_use[tensor] < walk:
                grown = _merge(self.regions[index], widths, signed, chunks)
                free.append((cost(grown) - cost(self.regions[index]), index))
        _, chosen = min(free)
        if chosen == len(self.regions):
            self.regions.append(Region(widths, signed, chunks))
            self.held.append(key)
        else:
            self.regions[chosen] = _merge(self.regions[chosen], widths, signed, chunks)
            self.held[chosen] = key
        self.of[key] = chosen
        return chosen


def _score_bound(magnitude: int) -> StageBound:
    """Return the bounds of a maximum of scores."""
    bits = signed_bits(-magnitude, magnitude)
    return StageBound(magnitude, bits, bits)


def lower(manifest: Manifest, lanes: int, capacity: Capacity, banks: int = 1) -> Program:
    """Lower a network for an array of `lanes` lanes, weights in `banks` banks.

    Raises:
        InputError: a layer that cannot be built, or sums wider than the hardware supports.
    """
    _refuse_unbuilt(manifest)
    try:
        bounds = stage_bounds(manifest, capacity.row_nonzeros, capacity.row_edges)
    except BoundError as error:
        raise InputError(str(error)) from error
    order = memory_order(manifest)
    parts = _parts(manifest.steps(), lanes)
    walks = _walks(parts)
    last_use: dict[Key, int] = {}
    for number, walk in enumerate(walks):
        for index in walk:
            last_use |= {key: number for key in parts[index].reads if key is not None}
    regions = _Regions(last_use)
    passes: list[Pass] = []
    index_of = {key: index for index, part in enumerate(parts) for key in part.writes}
    weight_words = channel_words = attentions = 0
    for number, walk in enumerate(walks):
        chunks_of = [-(-parts[index].channels // lanes) for index in walk]
        leader = parts[walk[0]]
        combine = leader.step.operation == "combine"
        stride = -(-leader.step.inputs // banks)
        uses_channels = any(
            parts[index].epilogue.bias_bits > 0
            or parts[index].epilogue.multiplier.kind == "channel"
            for index in walk
        )
        for place, index in enumerate(walk):
            part, chunks = parts[index], chunks_of[place]
            epilogue, output = part.epilogue, part.epilogue.output
            windows = tuple(output.windows[bucket] for bucket in order) if output.windows else ()
            widths = tuple(window.bits for window in windows) or (output.bits,) * max(1, len(order))
            written: list[int] = []
            if index != len(parts) - 1:
                written = [
                    regions.place(key, number, widths, output.signed, chunks) for key in part.writes
                ]
            source, *others = part.reads
            attention = None
            if part.operation == "attend":
                rule = part.step.attention
                assert rule is not None
                attention = Attending(attentions, rule)
                if isinstance(rule, GatAttention):
                    sources, targets, bound = (key for key in others if key is not None)
                    shared = len(parts[index_of[sources]].writes) > 1
                    attention = Attending(
                        attentions, rule, -(-rule.heads // lanes), regions.of[sources],
                        regions.of[targets], regions.of[bound], rule.heads if shared else 0,
                    )  # fmt: skip
                attentions += 1
            addend = part.step.addend
            passes.append(
                Pass(
                    index=index,
                    layer=part.step.key[0],
                    stage=part.stage,
                    name=f"layer{part.step.key[0]}.{part.stage}{part.suffix}",
                    front=(
                        "aggregate" if not combine
                        else "combine_stream" if source is None
                        else "combine_buffer"
                    ),
                    operation=part.operation,
                    source=None if source is None else regions.of[source],
                    source_pass=None if source is None else index_of[source],
                    destination=written[0] if written else None,
                    duplicate=written[1] if len(written) > 1 else None,
                    leader=walk[0],
                    first_chunk=sum(chunks_of[:place]),
                    walk_chunks=sum(chunks_of),
                    in_channels=part.step.inputs if part.stage != "bound" else part.channels,
                    first_channel=part.first_channel,
                    out_channels=part.channels,
                    chunks=chunks,
                    last_chunk_lanes=part.channels - (chunks - 1) * lanes,
                    weight_base=weight_words if combine else 0,
                    weight_stride=stride,
                    channel_base=channel_words if uses_channels else 0,
                    uses_channels=uses_channels,
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
                    bound=(
                        _score_bound(output.magnitude) if part.stage == "bound"
                        else bounds[part.step.key]
                    ),
                    addend_region=None if addend is None else regions.of[addend],
                    addend_pass=None if addend is None else index_of[addend],
                    addend_factor=part.step.addend_factor,
                    attention=attention,
                    elu=part.operation == "attend" and part.step.activation == "elu",
                )
            )
            weight_words += stride * chunks if combine else 0
            channel_words += chunks if uses_channels else 0
    return Program(
        tuple(passes), tuple(regions.regions), order, weight_words, channel_words
    )
