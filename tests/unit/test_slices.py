"""Plans of regions whose nodes keep different bits."""

import random
import time
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sgq_hw.cost.memory_mapper import FAMILIES, block_resource, map_memory
from sgq_hw.slices import (
    MIN_BLOCK_DEPTH,
    RegionPlan,
    Slice,
    candidates,
    memory_style,
    plain_plan,
    plan_region,
    slice_rows,
)

FAMILY_NAMES = st.sampled_from(["xc7", "ecp5", "ice40", "polarfire", "cyclonev", "versal"])


def rows_in_use(counts: tuple[int, ...], first: int, end: int, banks: int) -> int:
    """Rows that hold a node of the positions, found node by node."""
    places = range(sum(counts[:first]), sum(counts[:end]))
    return len({place // banks for place in places})


@given(
    st.lists(st.integers(0, 4), min_size=1, max_size=4),
    st.integers(1, 10),
    st.sampled_from([1, 2, 4, 8]),
    st.data(),
)
def test_rows_are_the_worst_of_all_graphs(
    bucket_nodes: list[int], nodes: int, banks: int, data: st.DataObject
) -> None:
    first = data.draw(st.integers(0, len(bucket_nodes) - 1))
    end = data.draw(st.integers(first + 1, len(bucket_nodes)))
    graphs = [
        counts
        for counts in product(*(range(room + 1) for room in bucket_nodes))
        if sum(counts) <= nodes
    ]
    worst = max(rows_in_use(counts, first, end, banks) for counts in graphs)
    assert slice_rows(bucket_nodes, first, end, nodes, banks) == max(1, worst)


def stored(plan: RegionPlan, widths: list[int]) -> list[dict[int, int]]:
    """Count for each position how often every bit of its codes is stored."""
    found: list[dict[int, int]] = [{} for _ in widths]
    for piece in plan.slices:
        for position in range(piece.first, piece.end):
            for bit in range(piece.low, piece.high):
                found[position][bit] = found[position].get(bit, 0) + 1
    return found


def holds_all(plan: RegionPlan, widths: list[int]) -> bool:
    return all(
        set(bits.values()) == {1} and set(range(width)) <= set(bits)
        for bits, width in zip(stored(plan, widths), widths, strict=True)
    )


REGIONS = st.tuples(
    st.lists(st.integers(1, 16), min_size=1, max_size=8),
    st.integers(1, 4),
    st.sampled_from([1, 4, 16, 64]),
    st.lists(st.integers(0, 3000), min_size=8, max_size=8),
    st.sampled_from([1, 4, 32]),
    FAMILY_NAMES,
)
Region = tuple[list[int], int, int, list[int], int, str]


def plans_of(region: Region) -> tuple[RegionPlan, ...]:
    widths, chunks, lanes, room, banks, family = region
    bucket_nodes = room[: len(widths)]
    nodes = max(1, sum(bucket_nodes))
    return candidates(widths, chunks, lanes, bucket_nodes, nodes, banks, family)


@given(REGIONS)
def test_every_plan_stores_every_bit_once(region: Region) -> None:
    for plan in plans_of(region):
        assert holds_all(plan, region[0])
        assert [piece.low for piece in plan.slices] == [
            0, *(piece.high for piece in plan.slices[:-1])
        ]  # fmt: skip


@given(REGIONS)
def test_plans_are_all_partitions_and_priced_as_emitted(region: Region) -> None:
    widths, chunks, lanes, _, banks, family = region
    plans = plans_of(region)
    assert len(plans) == 2 ** (len(set(widths)) - 1)
    assert len({plan.slices for plan in plans}) == len(plans)
    for plan in plans:
        blocks = Fraction(0)
        for piece in plan.slices:
            depth = chunks * piece.rows
            mapping = map_memory(lanes * piece.bits, depth, family, style=piece.style)
            if mapping.resource_type == block_resource(family):
                blocks += banks * mapping.units
            assert piece.style == "auto" or depth >= MIN_BLOCK_DEPTH
        assert plan.blocks == blocks
        assert plan.bits == sum(
            banks * lanes * piece.bits * chunks * piece.rows for piece in plan.slices
        )


@given(REGIONS)
def test_best_plan_is_never_above_the_plain_memory(region: Region) -> None:
    widths, chunks, lanes, room, banks, family = region
    nodes = max(1, sum(room[: len(widths)]))
    depth = chunks * -(-nodes // banks)
    plain = map_memory(lanes * max(widths), depth, family, style=memory_style(depth))
    best = plans_of(region)[0]
    in_blocks = plain.resource_type == block_resource(family)
    assert best.blocks <= (banks * plain.units if in_blocks else 0)
    assert best == plan_region(widths, chunks, lanes, room[: len(widths)], nodes, banks, family)
    assert all(best.blocks <= plan.blocks for plan in plans_of(region))


class Broken(Exception):
    """A model of the memories found a code without a place of its own."""


def run_through(
    plan: RegionPlan, widths: list[int], counts: list[int], chunks: int, banks: int, lost: int = 0
) -> None:
    """Write a random code for every node and chunk into the slices' memories; read all back.

    Args:
        plan: The slices.
        widths: Bits of the codes of each position.
        counts: Nodes of each position of the graph.
        chunks: Words of a node.
        banks: Banks of the region.
        lost: Rows that a planted fault takes from every slice.
    """
    bounds = [sum(counts[:position]) for position in range(len(counts) + 1)]
    generator = random.Random(0)
    memories: dict[tuple[int, int, int], int] = {}
    codes: dict[tuple[int, int], int] = {}

    def places() -> Iterator[tuple[int, int, int]]:
        for position, count in enumerate(counts):
            for place in range(bounds[position], bounds[position] + count):
                yield from ((position, place, chunk) for chunk in range(chunks))

    def address(piece: Slice, place: int, chunk: int) -> int:
        offset = bounds[piece.first] // banks if piece.first else 0
        row, rows = place // banks - offset, piece.rows - lost
        if not 0 <= row < rows:
            raise Broken(f"row {row} of {rows}")
        return chunk * rows + row

    def holding(position: int) -> list[tuple[int, Slice]]:
        parts = enumerate(plan.slices)
        return [(n, piece) for n, piece in parts if piece.first <= position < piece.end]

    for position, place, chunk in places():
        code = codes[place, chunk] = generator.getrandbits(widths[position])
        for number, piece in holding(position):
            key = (number, place % banks, address(piece, place, chunk))
            if key in memories:
                raise Broken(f"address {key} twice")
            memories[key] = code >> piece.low & (1 << piece.bits) - 1
    for position, place, chunk in places():
        read = 0
        for number, piece in holding(position):
            read |= memories[number, place % banks, address(piece, place, chunk)] << piece.low
        if read != codes[place, chunk]:
            raise Broken(f"{read} instead of {codes[place, chunk]}")


@st.composite
def graphs(draw: st.DrawFn) -> tuple[list[int], list[int], int, list[int]]:
    """Draw widths, room for nodes of each position and in total, and a graph within it."""
    count = draw(st.integers(1, 5))
    widths = draw(st.lists(st.integers(1, 9), min_size=count, max_size=count))
    room = draw(st.lists(st.integers(0, 12), min_size=count, max_size=count))
    nodes = draw(st.integers(1, max(1, sum(room))))
    counts: list[int] = []
    for most in room:
        counts.append(draw(st.integers(0, min(most, nodes - sum(counts)))))
    return widths, room, nodes, counts


@given(graphs(), st.sampled_from([1, 4, 8]), st.integers(1, 3))
def test_every_graph_within_capacity_comes_back(
    graph: tuple[list[int], list[int], int, list[int]], banks: int, chunks: int
) -> None:
    widths, room, nodes, counts = graph
    for plan in candidates(widths, chunks, 4, room, nodes, banks):
        run_through(plan, widths, counts, chunks, banks)


def test_planted_faults_do_not_come_back() -> None:
    widths, counts, banks = [4, 2, 3], [5, 9, 7], 4
    for plan in candidates(widths, 2, 4, counts, sum(counts), banks):
        run_through(plan, widths, counts, 2, banks)
        with pytest.raises(Broken):
            run_through(plan, widths, counts, 2, banks, lost=1)
        # A graph with more nodes in front than there is room for.
        with pytest.raises(Broken):
            run_through(plan, widths, [counts[0] + banks, *counts[1:]], 2, banks)
    best = plan_region(widths, 2, 4, counts, sum(counts), banks)
    top = replace(best.slices[-1], high=best.slices[-1].high - 1)
    with pytest.raises(Broken):
        run_through(replace(best, slices=(*best.slices[:-1], top)), widths, counts, 2, banks)


def test_merged_plan_is_the_plain_memory() -> None:
    merged = next(
        plan
        for plan in candidates([8, 4, 2, 1], 1, 16, [100, 200, 300, 13000], 13600, 4)
        if len(plan.slices) == 1
    )
    assert merged.slices == (Slice(0, 8, 0, 4, 3400, "block"),)
    assert merged.bits == 16 * 8 * 13600
    plain = plain_plan(8, 1, 16, 13600, 4)
    assert (merged.bits, merged.blocks, merged.luts) == (plain.bits, plain.blocks, plain.luts)


def test_hull_spans_narrow_positions_between_wide_ones() -> None:
    plans = candidates([1, 4, 2, 4], 1, 16, [4096] * 4, 4 * 4096, 1)
    top = next(plan for plan in plans if len(plan.slices) == 3).slices[-1]
    assert (top.low, top.high, top.first, top.end, top.rows) == (2, 4, 1, 4, 3 * 4096)


@pytest.mark.parametrize(
    "planted",
    [
        Slice(1, 3, 0, 2, 10, "block"),  # bit 1 twice
        Slice(3, 4, 0, 2, 10, "block"),  # bit 2 nowhere
        Slice(2, 4, 1, 2, 10, "block"),  # position 0 left out
        Slice(2, 3, 0, 2, 10, "block"),  # top bit missing
    ],
)
def test_planted_faults_are_seen(planted: Slice) -> None:
    bottom = Slice(0, 2, 0, 3, 10, "block")
    widths = [4, 4, 2]
    assert holds_all(
        RegionPlan((bottom, Slice(2, 4, 0, 2, 10, "block")), 0, Fraction(0), 0), widths
    )
    assert not holds_all(RegionPlan((bottom, planted), 0, Fraction(0), 0), widths)


def test_a_start_in_mid_row_needs_a_row_more() -> None:
    """Rows of the count alone, a likely mistake, are too few."""
    assert slice_rows([3, 4], 1, 2, 7, 4) == 2
    assert -(-4 // 4) < rows_in_use((3, 4), 1, 2, 4) == 2


def test_small_memories_are_left_to_luts_where_the_family_does_that() -> None:
    (small,) = plan_region([2], 1, 4, [64], 64, 1).slices
    assert small.style == "auto"
    (large,) = plan_region([8], 1, 16, [4096], 4096, 1).slices
    assert large.style == "block"


@pytest.mark.parametrize("family", FAMILIES)
def test_plans_exist_for_every_family(family: str) -> None:
    plan = plan_region([8, 4, 2, 1], 1, 16, [2000, 1500, 2500, 7752], 13752, 4, family)
    assert plan.blocks > 0


def test_planning_is_fast() -> None:
    generator = random.Random(1)
    room = [generator.randrange(1, 50_000) for _ in range(8)]
    start = time.process_time()
    plan_region([16, 12, 8, 6, 4, 3, 2, 1], 3, 16, room, sum(room), 8)
    assert time.process_time() - start < 0.5
