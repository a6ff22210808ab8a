"""The cycle model: what an inference costs, from the passes and the schedule alone."""

from dataclasses import dataclass

import numpy as np

from sgq_hw.bundle import Workload
from sgq_hw.design import FIFO_ADDR_BITS, Design
from sgq_hw.fields import IntArray
from sgq_hw.lowering import Pass
from sgq_hw.mapping import map_for, map_in_order
from sgq_hw.schedule import Schedule

PASS_OVERHEAD = 14
"""Decode, start, and the pipeline from the last step of a pass to its last result."""
MEAN_OVERHEAD = 1
"""Where networks with attention divide: all results take the longer way."""
ACTIVATION_OVERHEAD = 2
"""Where a network has a table of ELU."""
PLACE_OVERHEAD = 1
"""Where the place of a row is looked up."""
FETCH_OVERHEAD = 1
"""First word of a pass that walks a memory instead of the waiting input stream."""
BUFFERED_WORDS = 2
"""Words that a stream too narrow for its pass brings while the pass before it drains."""
CLAIM_OVERHEAD = 2
"""From the last result of an inference to the start of the next one's last pass, words aside."""
QUEUE_OVERHEAD = 9
"""The same where beats are the limit: the words that still wait in the queue aside."""


@dataclass(frozen=True, slots=True)
class PassTime:
    """Where the cycles of a pass go, in the steady state.

    Attributes:
        steps: Schedule words; each takes a cycle for every chunk.
        chunks: Cycles of a step: words of a result row, and of scores.
        macs: Records that multiply, of all processing elements.
        conflicts: Records left idle because the banks of all open entries were taken.
        idle: Records left idle by processing elements without rows, or spent on empty rows.
        input_wait: Cycles in which the input stream is too narrow to bring the next word.
        output_wait: Cycles in which the output stream is too narrow to take the results.
        overhead: Cycles to start the pass and to drain its pipeline.
    """

    steps: int
    chunks: int
    macs: int
    conflicts: int
    idle: int
    input_wait: int
    output_wait: int
    overhead: int

    @property
    def cycles(self) -> int:
        """Cycles of the pass."""
        waits = self.input_wait + self.output_wait
        return self.steps * self.chunks + waits + self.overhead


def output_beat_count(design: Design, workload: Workload) -> int:
    """Return the output beats of an inference."""
    final = design.passes[-1]
    full = -(-design.lanes * final.bits // design.stream_bits)
    rest = -(-final.last_chunk_lanes * final.bits // design.stream_bits)
    return workload.num_nodes * ((final.chunks - 1) * full + rest)


def _records(schedule: Schedule, lengths: IntArray) -> list[int]:
    """Return steps, multiplying records, records lost to conflicts, and other idle ones."""
    empty = int(np.count_nonzero(lengths == 0))
    macs = int(lengths.sum())
    return [schedule.steps, macs, schedule.lost_conflict, schedule.lost_imbalance + empty]


def _pass_time(design: Design, workload: Workload, step: Pass, serial: bool) -> PassTime:
    mapping = map_for(design, workload)
    walks_records = step.front == "aggregate" or (
        step.front == "combine_stream" and design.sparse_input
    )
    if walks_records:
        matrix = workload.indptr if step.front == "aggregate" else workload.x_indptr
        source = map_in_order(design, workload) if serial else mapping
        schedule = source.edges if step.front == "aggregate" else source.inputs
        records = _records(schedule, np.diff(matrix))
        if serial:
            records[2] = records[0] * design.pes - records[1] - records[3]
    else:
        steps = mapping.placement.rows * step.in_channels
        macs = workload.num_nodes * step.in_channels
        records = [steps, macs, 0, steps * design.pes - macs]
    chunks = step.walk_chunks + step.score_chunks
    work = records[0] * chunks
    first = step.front == "combine_stream"
    streamed = design.streamed if step.front == "aggregate" else first and not design.inputs_on_chip
    missing = max(0, design.beats_per_word - chunks) if streamed else 0
    input_wait = missing * max(0, records[0] - BUFFERED_WORDS)
    output_wait = 0
    if step.destination is None and not design.collects:
        output_wait = max(0, output_beat_count(design, workload) - work)
    overhead = PASS_OVERHEAD + (PLACE_OVERHEAD if design.direct else 0)
    overhead += ACTIVATION_OVERHEAD if design.activations else 0
    if design.attention:
        timing = design.timing
        overhead += timing.operand_delays[step.index] + timing.result_delays[step.index]
        overhead += MEAN_OVERHEAD
    return PassTime(
        steps=records[0], chunks=chunks, macs=records[1], conflicts=records[2],
        idle=records[3], input_wait=input_wait, output_wait=output_wait,
        # Inputs on chip are fetched while the pass starts.
        overhead=overhead + (0 if streamed or first else FETCH_OVERHEAD),
    )  # fmt: skip


def pass_times(design: Design, workload: Workload, *, serial: bool = False) -> list[PassTime]:
    """Return the time of each walk of an inference in the steady state.

    With `serial`, records come unscheduled: one processing element works at a time.

    The input stream keeps up, as it does at one beat a cycle. With one processing element the
    output stream bounds the last pass from below by its beats; stalls on uneven rows that the
    output queue cannot hide come on top and are not modelled.
    """
    return [_pass_time(design, workload, step, serial) for step in design.walks]


def inference_cycles(design: Design, workload: Workload, *, serial: bool = False) -> int:
    """Return the steady-state interval of back-to-back inferences in cycles.

    Where results are collected (several processing elements, or degree buckets) they leave during
    the next inference, whose last pass waits for them. Exact, but for results that bound it in
    words of several beats: there the queue may hide a cycle more or less.
    """
    passes = [time.cycles for time in pass_times(design, workload, serial=serial)]
    if not design.collects:
        return sum(passes)
    final = design.passes[-1]
    words = workload.num_nodes * final.chunks
    beats = output_beat_count(design, workload)
    queued = min(words, 1 << FIFO_ADDR_BITS) * beats // words
    drain = max(words + CLAIM_OVERHEAD, beats - queued + QUEUE_OVERHEAD)
    return max(passes[-1] + max(sum(passes[:-1]), drain), beats)
