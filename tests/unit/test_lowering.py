"""Lowering: walks, parts, regions by last use, and what is refused."""

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sgq_hw.design import make_design
from sgq_hw.errors import InputError
from sgq_hw.layers import GatAttention, Layer, ReadoutLayer, Step
from sgq_hw.lowering import Pass, Program, Region, lower
from sgq_hw.manifest import Manifest
from tests.attention_designs import (
    NETWORKS,
    SIGNED,
    End,
    agnn,
    capacity,
    design_of,
    gat,
    gcn,
    gin,
    linear,
    network,
    sage,
)


def lowered(manifest: Manifest, lanes: int, banks: int = 1) -> Program:
    return lower(manifest, lanes, capacity(manifest), banks)


# ---- properties of any program


def walks_of(program: Program) -> list[list[Pass]]:
    return [
        [step for step in program.passes if step.leader == leader.index]
        for leader in program.walks
    ]


def holds(region: Region, step: Pass) -> bool:
    """Whether a region is wide enough for what a pass writes."""
    wide = all(
        width >= high.bit_length() + region.signed
        for width, (_, high) in zip(region.widths, step.limits, strict=True)
    )
    return wide and region.chunks >= step.chunks and region.signed >= step.signed


def check_walks(program: Program, lanes: int, banks: int) -> None:
    """Passes of a walk lie side by side, in rows as in the memories of weights and channels."""
    weights = channels = 0
    assert [step.index for step in program.passes] == list(range(len(program.passes)))
    assert [step for walk in walks_of(program) for step in walk] == list(program.passes)
    for walk in walks_of(program):
        assert len({(step.front, step.source, step.in_channels) for step in walk}) == 1
        assert len({step.uses_channels for step in walk}) == 1
        chunks = 0
        for step in walk:
            assert step.chunks == -(-step.out_channels // lanes)
            assert step.last_chunk_lanes == step.out_channels - (step.chunks - 1) * lanes
            assert step.first_chunk == chunks
            chunks += step.chunks
            if step.front != "aggregate":
                assert step.weight_stride == -(-step.in_channels // banks)
                assert step.weight_base == weights
                weights += step.chunks * step.weight_stride
            if step.uses_channels:
                assert step.channel_base == channels
                channels += step.chunks
            else:
                assert not step.has_bias
                assert step.multiplier.kind != "channel"
        assert {step.walk_chunks for step in walk} == {chunks}
    assert (program.weight_words, program.channel_words) == (weights, channels)
    # Neighbours that could walk together do.
    for one, other in zip(program.walks, program.walks[1:], strict=False):
        assert "aggregate" in (one.front, other.front) or one.source_pass != other.source_pass


def check_columns(program: Program, manifest: Manifest) -> None:
    """Every column of every stage is written once; a maximum has those of what it reads."""
    found: dict[tuple[int, str], int] = {}
    for step in program.passes:
        if step.operation == "maximum":
            assert step.source_pass is not None
            assert step.out_channels == program.passes[step.source_pass].out_channels
            continue
        assert step.first_channel == found.get(step.key, 0)
        found[step.key] = step.first_channel + step.out_channels
    assert found == {step.key: step.channels for step in manifest.steps()}


def check_source(step: Pass, stage: Step | None, there: dict[int, Pass]) -> set[int]:
    """A pass walks what its stage, or a maximum, is of; return its regions."""
    if step.source is None:
        assert stage is not None
        assert (stage.source, step.source_pass) == (None, None)
        return set()
    source = there[step.source]
    assert source.index == step.source_pass
    if stage is None:
        assert step.operation == "maximum"
        assert source.name in names_of(step.layer, "source")
    else:
        assert source.key == stage.source
    return {step.source}


def check_rows(step: Pass, stage: Step | None, there: dict[int, Pass]) -> tuple[set[int], set[int]]:
    """Return regions that a pass reads row by row, and those of scores that it walks."""
    addend = None if stage is None else stage.addend
    rule = step.attention
    if step.addend_region is not None:
        assert there[step.addend_region].index == step.addend_pass
        assert there[step.addend_region].key == addend
        return {step.addend_region}, set()
    assert addend is None
    if rule is None or not isinstance(rule.rule, GatAttention):
        return set(), set()
    found = {
        "source": rule.source_region, "target": rule.target_region, "bound": rule.bound_region
    }  # fmt: skip
    regions = {role: region for role, region in found.items() if region is not None}
    for role, region in regions.items():
        assert there[region].name in names_of(step.layer, role)
    return {regions["target"], regions["bound"]}, {regions["source"]}


def check_regions(program: Program, manifest: Manifest) -> None:
    """Play the walks: whatever is read is there, as the network has it."""
    stages = {step.key: step for step in manifest.steps()}
    there: dict[int, Pass] = {}
    for walk in walks_of(program):
        by_row: set[int] = set()
        by_step: set[int] = set()
        for step in walk:
            stage = stages.get(step.key)
            rows, scores = check_rows(step, stage, there)
            by_row |= rows
            by_step |= scores | check_source(step, stage, there)
        # Row ports and the read port never meet.
        assert not by_row & by_step
        written = [
            region
            for step in walk
            for region in (step.destination, step.duplicate)
            if region is not None
        ]
        assert len(set(written)) == len(written)
        assert not {*written} & (by_row | by_step)
        for step in walk:
            for region in (step.destination, step.duplicate):
                if region is not None:
                    there[region] = step
                    assert holds(program.regions[region], step)
    final = program.passes[-1]
    assert [step for step in program.passes if step.destination is None] == [final]


def names_of(layer: int, role: str) -> tuple[str, ...]:
    """Return the names that a pass with GAT's scores, or with their maximum, may have."""
    if role == "bound":
        return (f"layer{layer}.bound",)
    return f"layer{layer}.score_{role}", f"layer{layer}.score"


def check_program(manifest: Manifest, lanes: int, banks: int) -> None:
    program = lowered(manifest, lanes, banks)
    check_walks(program, lanes, banks)
    check_columns(program, manifest)
    check_regions(program, manifest)
    for step in program.passes:
        if step.score_chunks:
            rule = step.attention
            assert rule is not None
            shared = 2 * rule.heads <= lanes
            assert rule.first_source == (rule.heads if shared else 0)
            assert rule.score_chunks == -(-rule.heads // lanes)


KINDS = ("gcn", "gcn behind", "sage", "gin", "gat", "agnn", "linear")


def layer_of(kind: str, inputs: int, width: int, ends: Sequence[End]) -> Layer:
    """Return a layer with formats of its own."""
    end, other, third = ends
    signed = End(bits=max(third.bits, 2), signed=True)
    if kind == "gat":
        heads = next(count for count in (5, 4, 3, 2, 1) if width % count == 0)
        more: dict[str, Any] = {"combine": other, "score": signed}
        return gat(inputs, width, heads, signed, elu=end.bits > 4, **more)
    if kind == "sage":
        return sage(inputs, width, end, root=other, combine=third)
    if kind == "gin":
        return gin(inputs, 1 + other.bits, width, end)
    if kind == "agnn":
        return agnn(inputs, end)
    if kind == "linear":
        return linear(inputs, width, end)
    return gcn(inputs, width, end, order="(AX)W" if kind == "gcn behind" else "A(XW)",
               combine=other)  # fmt: skip


ENDS = st.builds(
    lambda bits, signed, kind, bias: End(
        bits=max(bits, 1 + signed), signed=signed, kind=kind, bias_bits=bias
    ),
    st.integers(1, 9), st.booleans(), st.sampled_from(["layer", "channel", "node"]),
    st.sampled_from([0, 0, 7]),
)  # fmt: skip


@st.composite
def networks(draw: st.DrawFn) -> Manifest:
    """Draw one to six layers of any kinds, widths and formats, with or without degree windows."""
    splits = draw(st.sampled_from([(), (), (2,), (2, 4)]))
    kinds = draw(st.lists(st.sampled_from(KINDS), min_size=1, max_size=6))
    if len(kinds) == 1 and kinds[0] in ("agnn", "gcn behind", "linear"):
        kinds.append("agnn")  # a product of the inputs alone is refused
    width = draw(st.integers(1, 12))
    layers: list[Layer] = []
    for number, kind in enumerate(kinds):
        chosen = kind
        if number == 0 and kind in ("agnn", "gcn behind"):
            chosen = "linear"
        ends = draw(st.tuples(ENDS, ENDS, ENDS))
        if splits and number < len(kinds) - 1 and draw(st.booleans()):
            widths = draw(st.tuples(*[st.integers(2, 6)] * (len(splits) + 1)))
            ends = (End(widths=widths, signed=ends[0].signed), *ends[1:])
        layers.append(layer_of(chosen, width, draw(st.integers(1, 20)), ends))
        width = layers[-1].out_channels
    return network(layers, splits=splits)


@given(
    manifest=networks(), lanes=st.sampled_from([1, 2, 3, 4, 8, 16]),
    banks=st.sampled_from([1, 4, 16]),
)  # fmt: skip
@settings(deadline=None, max_examples=200)
def test_random_networks(manifest: Manifest, lanes: int, banks: int) -> None:
    check_program(manifest, lanes, banks)


@pytest.mark.parametrize("name", list(NETWORKS))
def test_written_out_networks(name: str) -> None:
    design = design_of(name)
    check_program(design.manifest, design.lanes, design.banks)
    check_regions(design.program, design.manifest)


# ---- programs as one would write them


def spelled(program: Program) -> list[str]:
    return [
        " + ".join(step.name.removeprefix("layer") for step in walk) for walk in walks_of(program)
    ]


def test_passes_of_one_source_walk_together() -> None:
    layers: list[Layer] = [
        gat(5, 12, 4), sage(12, 6), gin(6, 4, 4), agnn(4, SIGNED), linear(4, 3, SIGNED),
    ]  # fmt: skip
    program = lowered(network(layers), lanes=4)
    assert spelled(program) == [
        "0.combine + 0.score_target + 0.score_source", "0.bound", "0.aggregate",
        "1.combine + 1.root", "1.aggregate", "2.combine", "2.aggregate", "2.mlp", "3.aggregate",
        "4.combine",
    ]  # fmt: skip
    assert [step.operation for step in program.walks if step.front == "aggregate"] == [
        "maximum", "attend", "sum", "sum", "attend"
    ]  # fmt: skip
    first = program.passes[0]
    assert (first.chunks, first.walk_chunks, first.leads) == (3, 5, True)
    assert [step.first_chunk for step in program.passes[:3]] == [0, 3, 4]


def test_small_halves_share_a_word() -> None:
    program = lowered(network([gat(5, 12, 4)]), lanes=8)
    assert spelled(program) == ["0.combine + 0.score", "0.bound", "0.aggregate"]
    score, attend = program.passes[1], program.passes[3]
    assert (score.out_channels, score.chunks) == (8, 1)
    rule = attend.attention
    assert rule is not None
    assert (rule.target_region, rule.source_region) == (score.destination, score.duplicate)
    assert rule.first_source == 4


@pytest.mark.parametrize(
    ("layers", "regions"),
    [
        ([linear(3, 4), linear(4, 4), linear(4, 4), linear(4, 4)], 2),
        ([gcn(3, 4), gcn(4, 4), gcn(4, 4)], 2),
        ([gin(3, 4, 4), gin(4, 4, 4)], 2),
        ([linear(3, 4), agnn(4), agnn(4), agnn(4)], 2),
        # Product and root, and what the sum is written to.
        ([sage(3, 4), sage(4, 4), sage(4, 4)], 3),
        # Features, targets, sources, maxima, and what the mean is written to.
        ([gat(3, 4, 2), gat(4, 4, 2), gat(4, 4, 2)], 5),
    ],
)
def test_regions_are_used_again(layers: list[Layer], regions: int) -> None:
    assert len(lowered(network(layers), lanes=4).regions) == regions


# ---- what is refused


@pytest.mark.parametrize(
    ("manifest", "message"),
    [
        (
            network([linear(3, 4), agnn(4), linear(4, 2)], self_loops=False),
            "layers[1].kind: hardware for 'agnn' needs a graph with self loops",
        ),
        (
            network([gat(3, 4, 2, bound="global")]),
            "layers[0].attention.bound: hardware has only the row's own maximum ('row')",
        ),
        (
            network([gat(3, 4, 2, score=End(signed=True, widths=(4, 3))), linear(4, 2)],
                    splits=(2,)),
            "layers[0].score.output.windows: scores have the same bits for every node",
        ),
        (
            network([gat(3, 4, 2), gat(4, 4, 2, slope=(1, 3))]),
            "layers: hardware has one leaky slope for all 'gat' layers",
        ),
        (
            network([gat(3, 4, 2, End(signed=True, widths=(4, 3)))], splits=(2,)),
            "layers[0].aggregate.output.windows: the result of a network leaves",
        ),
        (
            network([linear(3, 4)]),
            "layers: a single 'linear' layer; hardware needs another layer after it",
        ),
        (
            network([linear(3, 4), ReadoutLayer(in_channels=4, readout=SIGNED.epilogue())]),
            "layers[1].kind: no hardware for 'readout' layers yet, only for gcn, sage, gin, gat,",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_built_is_refused(manifest: Manifest, message: str) -> None:
    with pytest.raises(InputError) as caught:
        lowered(manifest, lanes=4)
    assert str(caught.value).startswith(message)


def with_attention(layer: Any, **changes: Any) -> Any:
    return msgspec.structs.replace(
        layer, attention=msgspec.structs.replace(layer.attention, **changes)
    )


@pytest.mark.parametrize(
    ("layers", "options", "message"),
    [
        (
            [linear(3, 4), agnn(4), with_attention(agnn(4), norm_bits=8)], {},
            "layers: hardware has one width of norms for all 'agnn' layers",
        ),
        (
            [gat(3, 4, 2), with_attention(gat(4, 4, 2), index_shift=14)], {},
            "layers[1].attention.index_shift: 14; at most 13 fits",
        ),
        (
            [linear(3, 4), with_attention(agnn(4), index_shift=9)], {},
            "layers[1].attention.index_shift: 9; at most 8 fits",
        ),
        ([gat(3, 4, 2)], {"rom": True}, "--rom: networks with attention are loaded"),
    ],
)  # fmt: skip
def test_designs_that_are_refused(
    layers: list[Layer], options: dict[str, Any], message: str
) -> None:
    manifest = network(layers)
    room = capacity(manifest)
    with pytest.raises(InputError) as caught:
        make_design(manifest, lanes=4, capacity=room, stream_bits=64, **options)
    assert str(caught.value) == message
