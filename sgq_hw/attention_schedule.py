"""When attention's weights and reciprocals are ready, and how long operands and sums wait for them.

Nothing of attention stalls: operations of the array wait a fixed number of cycles for the weights
of their record, and finished sums for the reciprocals of their row. Weights and reciprocals lie in
registers by head until the next record, or row, overwrites them.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from sgq_hw.attention_timing import (
    GAT_LATENCY,
    WEIGHT_LATENCY,
    agnn_latency,
    reciprocal_latency,
)
from sgq_hw.layers import AgnnAttention
from sgq_hw.lowering import Attending, Pass

if TYPE_CHECKING:
    from sgq_hw.design import Design

SCORE_READ: Final = 1
"""Cycles from an operation with scores to the scores of its row."""
ARRAY_LATENCY: Final = 3
"""From an operation to its result."""
RECIPROCAL_USE: Final = 1
"""From a finished sum, delayed, to the use of its reciprocal."""
MIN_DELAY: Final = 2
"""Of a delay line."""
RECIPROCAL_STEPS: Final = 2
"""Quotient bits a cycle."""
NORM_STEPS: Final = 1
"""Trials a cycle of an inverse norm."""


def heads_of_lanes(step: Pass, lanes: int) -> list[list[int]]:
    """Return the head of every lane in every chunk of a pass with attention.

    Idle lanes have that of the last channel, so that nothing waits for them.
    """
    assert step.attention is not None
    width, last = step.out_channels // step.attention.heads, step.out_channels - 1
    return [
        [min(chunk * lanes + lane, last) // width for lane in range(lanes)]
        for chunk in range(step.chunks)
    ]


@dataclass(frozen=True, slots=True)
class _Moment:
    """When the group of a head is ready, and when a chunk first and last needs it.

    Attributes:
        ready: Cycles from the first operation of the record to the group's scores.
        used: To the operation of the chunk.
        period: Least cycles between two records.
    """

    ready: int
    used: int
    period: int


def _moments(step: Pass, rule: Attending, lanes: int, head_lanes: int) -> Iterator[_Moment]:
    period = rule.score_chunks + step.chunks
    for chunk, heads in enumerate(heads_of_lanes(step, lanes)):
        for head in set(heads):
            if isinstance(rule.rule, AgnnAttention):
                ready = step.chunks - 1 + agnn_latency(lanes, rule.rule.norm_bits, NORM_STEPS)
            else:
                ready = SCORE_READ + GAT_LATENCY + head // head_lanes
            yield _Moment(ready, rule.score_chunks + chunk, period)


def _delay(moments: list[_Moment], latency: int, so_far: int) -> int | None:
    """Return the least further delay with which all chunks find what they need, None without.

    Args:
        moments: Groups and chunks.
        latency: From a group's scores to what is used.
        so_far: From an operation to where the delay line begins, and from its end to the use.
    """
    least = max(moment.ready + latency - moment.used - so_far for moment in moments)
    least = max(least, MIN_DELAY)
    # The next record's may be there one cycle after the last use.
    most = min(m.period + m.ready + latency - 1 - m.used - so_far for m in moments)
    return least if least <= most else None


@dataclass(frozen=True, slots=True)
class AttentionTiming:
    """How many heads are worked on at once, and how long operands and sums wait.

    Attributes:
        head_lanes: Heads of a PE that are worked on in a cycle; divides the lanes.
        operand_delays: Of each pass, from the crossbar to the array.
        result_delays: Of each pass, from the array to the epilogue.
    """

    head_lanes: int
    operand_delays: tuple[int, ...]
    result_delays: tuple[int, ...]

    @property
    def operand_depth(self) -> int:
        """Words of the operands' delay line."""
        return 1 << max(self.operand_delays).bit_length()

    @property
    def result_depth(self) -> int:
        """Words of the results' delay line."""
        return 1 << max(self.result_delays).bit_length()

    def groups(self, rule: Attending) -> int:
        """Return the groups in which the heads of a record are worked on."""
        return -(-rule.heads // self.head_lanes)

    @staticmethod
    def of(design: "Design") -> "AttentionTiming":
        """Return the timing of a design with as few heads at once as keep up.

        A unit for every lane always does: all heads of a word are then worked on as it comes.
        """
        divisors = (n for n in range(1, design.lanes + 1) if design.lanes % n == 0)
        timings = (_timing(design, head_lanes) for head_lanes in divisors)
        return next(found for found in timings if found is not None)


def _timing(design: "Design", head_lanes: int) -> AttentionTiming | None:
    operand_delays, result_delays = [], []
    for step in design.passes:
        rule = step.attention
        if rule is None:
            operand_delays.append(MIN_DELAY)
            result_delays.append(MIN_DELAY)
            continue
        if -(-rule.heads // head_lanes) > rule.score_chunks + step.chunks:
            return None
        moments = list(_moments(step, rule, design.lanes, head_lanes))
        operand = _delay(moments, WEIGHT_LATENCY, 0)
        if operand is None:
            return None
        after = operand + ARRAY_LATENCY + RECIPROCAL_USE
        result = _delay(moments, reciprocal_latency(RECIPROCAL_STEPS), after)
        if result is None:
            return None
        operand_delays.append(operand)
        result_delays.append(result)
    return AttentionTiming(head_lanes, tuple(operand_delays), tuple(result_delays))
