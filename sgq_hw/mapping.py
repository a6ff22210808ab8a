"""Mapping: where the nodes of a workload lie on an accelerator, and in which order it works.

Packer, cycle model, memory budget and cosimulation all read this object, so they cannot disagree.
"""

from functools import cached_property, lru_cache

import numpy as np

from sgq_hw.bundle import Workload
from sgq_hw.fields import IntArray
from sgq_hw.schedule import Placement, Schedule, num_banks, place_rows, schedule_rows


def natural_placement(places: IntArray, pes: int) -> Placement:
    """Return the placement of unscheduled graphs: place r belongs to PE `r % pes`."""
    return Placement(pes, places % pes, places // pes)


class Mapping:
    """Placement and schedules of one workload on a number of processing elements.

    Args:
        workload: Graph and inputs.
        pes: Processing elements.
        placement: Where the nodes lie already; balanced for this workload without one.
        order: Degree buckets in the order in which their nodes lie; empty: nodes in any order.
    """

    def __init__(
        self,
        workload: Workload,
        pes: int,
        placement: Placement | None = None,
        order: tuple[int, ...] = (),
    ) -> None:
        self.workload, self.pes, self.order = workload, pes, order
        self.banks = num_banks(pes)
        self._placement = placement

    @cached_property
    def positions(self) -> IntArray | None:
        """Position in the order of every node's degree bucket: int64 [nodes]; None without one."""
        if not self.order:
            return None
        assert self.workload.buckets is not None
        return np.argsort(self.order)[self.workload.buckets]

    @cached_property
    def bounds(self) -> tuple[int, ...]:
        """First place of every position but the first."""
        if self.positions is None:
            return ()
        sizes = np.bincount(self.positions, minlength=len(self.order))
        return tuple(np.cumsum(sizes)[:-1].tolist())

    @cached_property
    def placement(self) -> Placement:
        """Owner and row of every node."""
        if self._placement is not None:
            return self._placement
        workload = self.workload
        rows = [np.diff(workload.indptr), np.diff(workload.x_indptr)]
        return place_rows(np.maximum(np.stack(rows), 1), self.pes, self.positions)

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
def map_workload(
    workload: Workload, pes: int, serial: bool = False, order: tuple[int, ...] = ()
) -> Mapping:
    """Return the mapping of a workload; the last ones are kept.

    Args:
        workload: Graph and inputs.
        pes: Processing elements.
        serial: Whether its records come unscheduled.
        order: Degree buckets in the order in which their nodes lie; empty: nodes in any order.
    """
    if not serial:
        return Mapping(workload, pes, order=order)
    in_order = map_workload(workload, 1, order=order).places
    return Mapping(workload, pes, natural_placement(in_order, pes), order)
