"""The cycle model: what an inference costs, from the passes and the records alone."""

import numpy as np

from sgq_hw.bundle import Workload
from sgq_hw.design import Design

PASS_OVERHEAD = 12
"""Decode, start, and the pipeline from the last operation of a pass to its last result."""
FETCH_OVERHEAD = 1
"""First word of a pass that walks a memory instead of the waiting input stream."""


def pass_cycles(design: Design, workload: Workload) -> list[int]:
    """Return the cycles of each pass of an inference in the steady state.

    The input stream keeps up, as it does at one beat a cycle. The output stream bounds the last
    pass from below by its beats; stalls on uneven rows that the output queue cannot hide come on
    top and are not modelled.
    """
    result = []
    for step in design.passes:
        overhead = PASS_OVERHEAD + (0 if step.front == "combine_stream" else FETCH_OVERHEAD)
        if step.front == "aggregate":
            records = int(np.maximum(np.diff(workload.indptr), 1).sum())
        elif step.front == "combine_buffer" or not design.sparse_input:
            records = workload.num_nodes * step.in_channels
        else:
            records = int(np.maximum(np.diff(workload.x_indptr), 1).sum())
        work = records * step.chunks
        if step.destination is None:
            full = -(-design.lanes * step.bits // design.stream_bits)
            rest = -(-step.last_chunk_lanes * step.bits // design.stream_bits)
            work = max(work, workload.num_nodes * ((step.chunks - 1) * full + rest))
        result.append(work + overhead)
    return result


def inference_cycles(design: Design, workload: Workload) -> int:
    """Return the steady-state interval of back-to-back inferences in cycles."""
    return sum(pass_cycles(design, workload))
