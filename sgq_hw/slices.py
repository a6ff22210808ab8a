"""Where a region of the feature buffer is cut, if nodes of different degree keep different bits.

A region holds the nodes position by position (a position is a degree bucket, in the order in which
the buckets lie in memory), each with the bits of its bucket. Its codes are cut into slices of bits;
the memory of a slice has rows only for the positions that have bits in it. Few wide memories waste
the bits of narrow buckets, many narrow ones the rest of a block each, so all cuts are priced.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from itertools import combinations, pairwise
from typing import Final, Literal

from sgq_hw.cost.memory_mapper import MemoryMapping, map_memory
from sgq_hw.cost.memory_rules import Style
from sgq_hw.cost.primitives import LUTRAM

MemoryStyle = Literal["block", "auto"]

MIN_BLOCK_DEPTH: Final = 33
"""Shallower memories are left to the synthesis tool: a block would stay nearly empty, and not
every family has distributed RAM to ask for."""

DEFAULT_FAMILY: Final = "xc7"
"""Family whose block RAM decides, where no device is named: AMD 7-series."""

# Cells other than blocks are compared as LUTs of so many bits, as on AMD parts.
_LUT_BITS: Final = 64
_LUT_KINDS: Final = ("distributed", "logic")


@dataclass(frozen=True, slots=True)
class Slice:
    """Bits of the codes of a region that share memories, one in every bank.

    Attributes:
        low: First code bit.
        high: Code bit after the last one.
        first: First position that has rows.
        end: Position after the last one that has rows: the hull of those wider than `low`.
        rows: Rows of a bank for each chunk.
        style: `block` or `auto`, emitted as `ram_style` and priced.
    """

    low: int
    high: int
    first: int
    end: int
    rows: int
    style: MemoryStyle

    @property
    def bits(self) -> int:
        """Bits of a code that it holds."""
        return self.high - self.low


@dataclass(frozen=True, slots=True)
class RegionPlan:
    """One way to cut a region.

    Attributes:
        slices: From bit 0 upwards, without gaps.
        bits: Stored bits of all memories.
        blocks: Block RAM of all memories, in the family's unit (a RAMB18 is half a RAMB36).
        luts: Estimated LUTs of memories outside block RAM, and of cutting.
    """

    slices: tuple[Slice, ...]
    bits: int
    blocks: Fraction
    luts: int


def slice_rows(bucket_nodes: Sequence[int], first: int, end: int, nodes: int, banks: int) -> int:
    """Return the rows of a bank that positions `first` to `end - 1` need in the worst case.

    In a graph they are the places `low <= place < high`, and place p lies in row `p // banks`: rows
    `low // banks` to `(high - 1) // banks`. Most rows are needed if `low` lies as late in a row as
    the positions before can push it, and no bucket leaves out a node.

    Args:
        bucket_nodes: Nodes of each position that there is room for.
        first: First position.
        end: Position after the last one.
        nodes: Nodes of a graph that there is room for.
        banks: Banks of a region.

    Returns:
        At least 1, since no memory is empty.
    """
    offset = min(sum(bucket_nodes[:first]), banks - 1)
    return max(1, -(-min(offset + sum(bucket_nodes[first:end]), nodes) // banks))


def plan_region(
    widths: Sequence[int],
    chunks: int,
    lanes: int,
    bucket_nodes: Sequence[int],
    nodes: int,
    banks: int,
    family: str = DEFAULT_FAMILY,
) -> RegionPlan:
    """Return the plan with the fewest blocks, then LUTs, then slices; arguments of `candidates`."""
    return candidates(widths, chunks, lanes, bucket_nodes, nodes, banks, family)[0]


def candidates(
    widths: Sequence[int],
    chunks: int,
    lanes: int,
    bucket_nodes: Sequence[int],
    nodes: int,
    banks: int,
    family: str = DEFAULT_FAMILY,
) -> tuple[RegionPlan, ...]:
    """Return all plans of a region, the best first.

    Codes are cut where the bits of some bucket end, at all of these places or at some of them. One
    plan is the plain memory of the widest bucket, so that the best plan never takes more.

    Args:
        widths: Stored bits of a code, by position.
        chunks: Words of a node.
        lanes: Channels of a word.
        bucket_nodes: Nodes of each position that there is room for.
        nodes: Nodes of a graph that there is room for.
        banks: Banks of the region, each with a memory of every slice.
        family: Family of `cost.memory_mapper` whose blocks are counted.
    """
    return _candidates(tuple(widths), chunks, lanes, tuple(bucket_nodes), nodes, banks, family)


def plain_plan(
    bits: int, chunks: int, lanes: int, nodes: int, banks: int, family: str = DEFAULT_FAMILY
) -> RegionPlan:
    """Return the region of a network that keeps the same bits of every node: one memory a bank.

    Args:
        bits: Stored bits of a code.
        chunks: As in `candidates`, like the rest.
        lanes: As there.
        nodes: As there.
        banks: As there.
        family: As there.
    """
    rows = -(-nodes // banks)
    width, depth = lanes * bits, chunks * rows
    style = memory_style(depth)
    blocks, luts = _cells(width, depth, family, style)
    piece = Slice(0, bits, 0, 1, rows, style)
    return RegionPlan((piece,), banks * width * depth, banks * blocks, banks * luts)


def memory_style(depth: int) -> MemoryStyle:
    """Return the style of a memory that is not cut."""
    return "block" if depth >= MIN_BLOCK_DEPTH else "auto"


# Several designs of one bundle differ in nothing that matters here.
@lru_cache(maxsize=1024)
def _candidates(
    widths: tuple[int, ...],
    chunks: int,
    lanes: int,
    bucket_nodes: tuple[int, ...],
    nodes: int,
    banks: int,
    family: str,
) -> tuple[RegionPlan, ...]:
    ends = sorted(set(widths))
    priced: dict[tuple[int, int], RegionPlan] = {}
    for low, high in combinations((0, *ends), 2):
        holding = [position for position, width in enumerate(widths) if width > low]
        first, end = holding[0], holding[-1] + 1
        rows = slice_rows(bucket_nodes, first, end, nodes, banks)
        priced[low, high] = _price(low, high, first, end, rows, chunks, lanes, banks, family)
    plans = []
    for count in range(len(ends)):
        for inner in combinations(ends[:-1], count):
            parts = [priced[cut] for cut in pairwise((0, *inner, ends[-1]))]
            plans.append(
                RegionPlan(
                    slices=tuple(piece for part in parts for piece in part.slices),
                    bits=sum(part.bits for part in parts),
                    blocks=sum((part.blocks for part in parts), Fraction(0)),
                    luts=sum(part.luts for part in parts),
                )
            )
    # Sorting is stable: of equally good plans of equally many slices the one cut lowest wins.
    return tuple(sorted(plans, key=lambda plan: (plan.blocks, plan.luts, len(plan.slices))))


def _price(
    low: int,
    high: int,
    first: int,
    end: int,
    rows: int,
    chunks: int,
    lanes: int,
    banks: int,
    family: str,
) -> RegionPlan:
    """Return one slice, in the style that takes fewer blocks, as a plan of its own."""
    width, depth = lanes * (high - low), chunks * rows
    style = memory_style(depth)
    blocks, luts = _cells(width, depth, family, style)
    if style == "block" and _mapping(width, depth, family, "auto").kind in _LUT_KINDS:
        # Left to themselves, flows build it from LUTs, which they weigh against a block.
        blocks, luts, style = *_cells(width, depth, family, "auto"), "auto"
    # Above the lowest slice every bit is either stored or the sign; below it, rows may be offset.
    if low:
        luts += width
    if first:
        luts += max(1, (depth - 1).bit_length())
    piece = Slice(low, high, first, end, rows, style)
    return RegionPlan((piece,), banks * width * depth, banks * blocks, banks * luts)


def _cells(width: int, depth: int, family: str, style: Style) -> tuple[Fraction, int]:
    """Return the blocks and the LUTs of one memory, the read multiplexer included."""
    mapping = _mapping(width, depth, family, style)
    multiplexer = width * (mapping.banks - 1) // 2
    if mapping.blocks:
        return mapping.blocks, multiplexer
    if mapping.resource_type == LUTRAM:
        luts = mapping.units * 1024 / _LUT_BITS
    else:  # registers and their multiplexers, or the small block that some families have besides
        luts = Fraction(width * depth, 1 if mapping.kind == "logic" else _LUT_BITS)
    return Fraction(0), math.ceil(luts) + multiplexer


@lru_cache(maxsize=4096)
def _mapping(width: int, depth: int, family: str, style: Style) -> MemoryMapping:
    return map_memory(width, depth, family, style=style)
