"""The cycle model: what an inference costs, from the passes and the records alone."""

from sgq_hw.bundle import Workload
from sgq_hw.design import Design
from sgq_hw.mapping import map_workload

PASS_OVERHEAD = 14
"""Decode, start, and the pipeline from the last step of a pass to its last result."""
FETCH_OVERHEAD = 1
"""First word of a pass that walks a memory instead of the waiting input stream."""
DRAIN_OVERHEAD = 11
"""From the last result of an inference to the start of the next one's last pass, beats aside."""


def pass_cycles(design: Design, workload: Workload) -> list[int]:
    """Return the cycles of each pass of an inference in the steady state.

    The input stream keeps up, as it does at one word a step. With one processing element the output
    stream bounds the last pass from below by its beats; stalls on uneven rows that the output queue
    cannot hide come on top and are not modelled.
    """
    mapping = map_workload(workload, design.pes)
    result = []
    for step in design.passes:
        overhead = PASS_OVERHEAD + (0 if step.front == "combine_stream" else FETCH_OVERHEAD)
        if step.front == "aggregate":
            steps = mapping.edges.steps
        elif step.front == "combine_buffer" or not design.sparse_input:
            steps = mapping.placement.rows * step.in_channels
        else:
            steps = mapping.inputs.steps
        work = steps * step.chunks
        if step.front == "combine_stream":
            work = max(work, steps * design.beats_per_word)
        if step.destination is None and design.pes == 1:
            work = max(work, output_beat_count(design, workload))
        result.append(work + overhead)
    return result


def output_beat_count(design: Design, workload: Workload) -> int:
    """Return the output beats of an inference."""
    final = design.passes[-1]
    full = -(-design.lanes * final.bits // design.stream_bits)
    rest = -(-final.last_chunk_lanes * final.bits // design.stream_bits)
    return workload.num_nodes * ((final.chunks - 1) * full + rest)


def inference_cycles(design: Design, workload: Workload) -> int:
    """Return the steady-state interval of back-to-back inferences in cycles.

    With several processing elements the results of an inference leave during the next one, whose
    last pass waits for them.
    """
    passes = pass_cycles(design, workload)
    if design.pes == 1:
        return sum(passes)
    drain = output_beat_count(design, workload) + DRAIN_OVERHEAD
    return passes[-1] + max(sum(passes[:-1]), drain)
