"""Mapping: where the nodes of a workload lie on an accelerator, and in which order it works.

Packer, cycle model, memory budget and cosimulation all read this object, so they cannot disagree.
"""

from functools import cached_property, lru_cache

import numpy as np

from sgq_hw.bundle import Workload
from sgq_hw.fields import IntArray
from sgq_hw.schedule import Placement, Schedule, num_banks, place_rows, schedule_rows


def natural_placement(nodes: int, pes: int) -> Placement:
    """Return the placement of unscheduled graphs: row r belongs to PE `r % pes`."""
    numbers = np.arange(nodes, dtype=np.int64)
    return Placement(pes, numbers % pes, numbers // pes)


class Mapping:
    """Placement and schedules of one workload on a number of processing elements.

    Args:
        workload: Graph and inputs.
        pes: Processing elements.
        placement: Where the nodes lie already; balanced for this workload without one.
    """

    def __init__(self, workload: Workload, pes: int, placement: Placement | None = None) -> None:
        self.workload, self.pes = workload, pes
        self.banks = num_banks(pes)
        self._placement = placement

    @cached_property
    def placement(self) -> Placement:
        """Owner and row of every node."""
        if self._placement is not None:
            return self._placement
        workload = self.workload
        rows = [np.diff(workload.indptr), np.diff(workload.x_indptr)]
        return place_rows(np.maximum(np.stack(rows), 1), self.pes)

    @cached_property
    def edges(self) -> Schedule:
        """Schedule of an aggregation pass."""
        workload, placement = self.workload, self.placement
        return schedule_rows(
            workload.indptr, placement.bank[workload.indices], placement.address[workload.indices],
            placement,
        )  # fmt: skip

    @cached_property
    def inputs(self) -> Schedule:
        """Schedule of the first pass with inputs as records."""
        workload = self.workload
        return schedule_rows(
            workload.x_indptr, workload.x_indices % self.banks, workload.x_indices // self.banks,
            self.placement,
        )  # fmt: skip

    @cached_property
    def places(self) -> IntArray:
        """Place of every node: int64 [nodes], `row * PES + PE`."""
        return self.placement.local * self.pes + self.placement.pe

    @cached_property
    def in_place(self) -> IntArray:
        """Node number of every place: int64 [nodes], rows one after the other, PE by PE."""
        return self.placement.nodes.reshape(-1)[: self.workload.num_nodes]


@lru_cache(maxsize=8)
def map_workload(workload: Workload, pes: int, serial: bool = False) -> Mapping:
    """Return the mapping of a workload; the last ones are kept.

    Args:
        workload: Graph and inputs.
        pes: Processing elements.
        serial: Whether its records come unscheduled.
    """
    return Mapping(
        workload, pes, natural_placement(workload.num_nodes, pes) if serial else None
    )
