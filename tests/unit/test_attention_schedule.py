"""Delays of attention: every word of a record finds weights and reciprocals of its own record.

Records are played out cycle by cycle, with and without gaps between their words, against the cycles
in which registers change (`tests.attention_designs.Shape`).
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sgq_hw.attention_schedule import (
    ARRAY_LATENCY,
    RECIPROCAL_STEPS,
    RECIPROCAL_USE,
    AttentionTiming,
    heads_of_lanes,
)
from sgq_hw.attention_timing import WEIGHT_LATENCY, reciprocal_latency
from sgq_hw.design import Design
from sgq_hw.layers import AgnnAttention, Layer
from sgq_hw.lowering import Pass
from tests.attention_designs import (
    NETWORKS,
    SIGNED,
    Shape,
    agnn,
    design_of,
    gat,
    linear,
    network,
    sized,
)

RECORDS = 6


def shape_of(design: Design, step: Pass) -> Shape:
    rule = step.attention
    assert rule is not None
    heads = rule.heads
    if isinstance(rule.rule, AgnnAttention):
        return Shape(heads, step.out_channels, design.lanes, 0, rule.rule.norm_bits)
    return Shape(heads, step.out_channels, design.lanes, -(-heads // design.lanes))


def with_gaps(shape: Shape, rng: np.random.Generator, share: float) -> list[list[int]]:
    """Draw the cycles of the words of some records, in which no two fall together.

    Cosines, ready with the last word of a record, allow none between its words.
    """
    steps = RECORDS * shape.steps
    gaps = rng.integers(1, 5, steps) * (rng.random(steps) < share)
    if shape.norm_bits is not None:
        gaps[np.arange(steps) % shape.steps > 0] = 0
    cycles = (np.arange(steps) + np.cumsum(gaps)).tolist()
    return [cycles[first : first + shape.steps] for first in range(0, steps, shape.steps)]


def check_timing(design: Design, seed: int) -> None:
    """Play records of every pass with attention; no fewer heads at once would do."""
    timing = AttentionTiming.of(design)
    assert timing == design.timing
    assert design.lanes % timing.head_lanes == 0
    reciprocal = reciprocal_latency(RECIPROCAL_STEPS)
    rng = np.random.default_rng(seed)
    for step in design.passes:
        operand, result = timing.operand_delays[step.index], timing.result_delays[step.index]
        assert 2 <= operand < timing.operand_depth
        assert 2 <= result < timing.result_depth
        if step.attention is None:
            continue
        shape = shape_of(design, step)
        assert (operand, result) == shape.least_delays(timing.head_lanes)
        used = operand + ARRAY_LATENCY + result + RECIPROCAL_USE
        for share in (0, 0.1, 0.5):
            records = with_gaps(shape, rng, share)
            assert shape.finds(records, timing.head_lanes, operand, WEIGHT_LATENCY)
            assert shape.finds(records, timing.head_lanes, used, reciprocal)
        heads = heads_of_lanes(step, design.lanes)
        assert len(heads) == shape.chunks
        for chunk, lanes in enumerate(heads):
            assert len(lanes) == design.lanes
            room = min(design.lanes, step.out_channels - chunk * design.lanes)
            assert set(lanes[:room]) == shape.heads_of(chunk)
            assert max(lanes) < step.attention.heads
    fewer = [lanes for lanes in range(1, timing.head_lanes) if design.lanes % lanes == 0]
    for head_lanes in fewer:
        assert not all(
            works(shape_of(design, step), head_lanes) for step in design.attention
        ), head_lanes


def works(shape: Shape, head_lanes: int) -> bool:
    """Whether so many heads at once keep up: groups of one record come before those of the next."""
    groups = -(-shape.heads // head_lanes)
    if groups > shape.steps:
        return False
    try:
        shape.least_delays(head_lanes)
    except StopIteration:
        return False
    return True


@pytest.mark.parametrize("name", [name for name in NETWORKS if "gat" in name or "agnn" in name
                                  or "mixed" in name])  # fmt: skip
def test_networks(name: str) -> None:
    check_timing(design_of(name), 1)


@given(
    lanes=st.sampled_from([1, 2, 3, 4, 5, 6, 8, 12, 16, 64]),
    heads=st.integers(1, 20),
    width=st.integers(1, 20),
    pes=st.sampled_from([1, 2, 4]),
    seed=st.integers(0, 999),
)
@settings(deadline=None, max_examples=120)
def test_heads_of_gat(lanes: int, heads: int, width: int, pes: int, seed: int) -> None:
    layers = [gat(3, heads * width, heads)]
    check_timing(sized(network(layers), lanes=lanes, pes=pes), seed)


@given(
    lanes=st.sampled_from([1, 2, 3, 4, 7, 8, 16]),
    channels=st.integers(1, 70),
    pes=st.sampled_from([1, 4]),
    seed=st.integers(0, 999),
)
@settings(deadline=None, max_examples=60)
def test_channels_of_agnn(lanes: int, channels: int, pes: int, seed: int) -> None:
    layers = [linear(3, channels), agnn(channels, SIGNED)]
    check_timing(sized(network(layers), lanes=lanes, pes=pes), seed)


@given(
    lanes=st.sampled_from([2, 4, 6, 8]),
    heads=st.lists(st.integers(1, 9), min_size=2, max_size=3),
    widths=st.lists(st.integers(1, 9), min_size=3, max_size=3),
    seed=st.integers(0, 999),
)
@settings(deadline=None, max_examples=40)
def test_layers_of_different_heads(
    lanes: int, heads: list[int], widths: list[int], seed: int
) -> None:
    channels = [3, *(count * width for count, width in zip(heads, widths, strict=False))]
    layers: list[Layer] = [
        gat(before, after, count)
        for before, after, count in zip(channels, channels[1:], heads, strict=False)
    ]
    more = [agnn(channels[-1], SIGNED)] if seed % 2 else []
    check_timing(sized(network([*layers, *more]), lanes=lanes, pes=2), seed)


def test_a_word_too_early_or_too_late_is_noticed() -> None:
    """The play itself: one cycle less, and as many more as records are long, go wrong."""
    shape = Shape(heads=8, channels=16, lanes=4, score_chunks=2)
    records = [[record * 6 + step for step in range(6)] for record in range(3)]
    operand, _ = shape.least_delays(2)
    assert shape.finds(records, 2, operand, WEIGHT_LATENCY)
    assert not shape.finds(records, 2, operand - 1, WEIGHT_LATENCY)
    assert not shape.finds(records, 2, operand + 6, WEIGHT_LATENCY)
