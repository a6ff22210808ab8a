"""Mapping: where the nodes of a workload lie on an accelerator, and in which order it works.

Packer, cycle model, memory budget and cosimulation all read this object, so they cannot disagree.
"""

from collections.abc import Sequence
from functools import cached_property, lru_cache

import numpy as np

from sgq_hw.bundle import Workload
from sgq_hw.fields import IntArray
from sgq_hw.schedule import Placement, Schedule, num_banks, place_rows, schedule_rows


def natural_placement(groups: IntArray, pes: int) -> Placement:
    """Return the placement of unscheduled graphs: places in the nodes' order, group after group.

    Args:
        groups: int64 [nodes], number of each node's group.
        pes: Processing elements.
    """
    places = np.empty_like(groups)
    places[np.argsort(groups, kind="stable")] = np.arange(groups.size)
    return Placement(pes, places % pes, places // pes)


def bucket_positions(workload: Workload, order: Sequence[int]) -> IntArray:
    """Return the position of every node's degree bucket: int64 [nodes], zeros without an order.

    Raises:
        ValueError: an order of other buckets than the nodes are in.
    """
    if not order:
        return np.zeros(workload.num_nodes, np.int64)
    if workload.buckets is None or sorted(order) != list(range(len(order))):
        raise ValueError(f"{workload.name}: no buckets to lie in the order {tuple(order)}")
    if workload.buckets.min() < 0 or workload.buckets.max() >= len(order):
        raise ValueError(f"{workload.name}: buckets: not all in [0, {len(order)})")
    return np.argsort(order)[workload.buckets]


class Mapping:
    """Placement and schedules of one workload on a number of processing elements.

    Degree buckets lie in memory one after the other, and what counts them are their positions.

    Attributes:
        groups: Position of each node's bucket, int64 [nodes]; zeros where there are no buckets.
        bounds: First place of every position but the first: the nodes of the positions before.

    Args:
        workload: Graph and inputs.
        pes: Processing elements.
        placement: Where the nodes lie already; balanced for this workload without one.
        order: Degree buckets in the order of their positions; empty where they lie anywhere.

    Raises:
        ValueError: an order of other buckets than the nodes are in, or a placement in another one.
    """

    def __init__(
        self,
        workload: Workload,
        pes: int,
        placement: Placement | None = None,
        order: Sequence[int] = (),
    ) -> None:
        self.workload, self.pes = workload, pes
        self.banks = num_banks(pes)
        self.groups = bucket_positions(workload, order)
        self.bounds = tuple(
            int(np.count_nonzero(self.groups < position)) for position in range(1, len(order))
        )
        self._placement = placement
        if placement is not None and not np.array_equal(self.positions(self.places), self.groups):
            raise ValueError(f"{workload.name}: the nodes do not lie bucket after bucket")

    @cached_property
    def placement(self) -> Placement:
        """Owner and row of every node."""
        if self._placement is not None:
            return self._placement
        workload = self.workload
        rows = [np.diff(workload.indptr), np.diff(workload.x_indptr)]
        return place_rows(np.maximum(np.stack(rows), 1), self.pes, self.groups)

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

    def positions(self, places: IntArray) -> IntArray:
        """Return the position of the bucket to which each of these places belongs."""
        return np.searchsorted(np.asarray(self.bounds, np.int64), places, side="right")

    @cached_property
    def in_place(self) -> IntArray:
        """Node number of every place: int64 [nodes], rows one after the other, PE by PE."""
        return self.placement.nodes.reshape(-1)[: self.workload.num_nodes]


def map_workload(
    workload: Workload, pes: int, serial: bool = False, order: tuple[int, ...] = ()
) -> Mapping:
    """Return the mapping of a workload; the last ones are kept.

    Args:
        workload: Graph and inputs.
        pes: Processing elements.
        serial: Whether its records come unscheduled.
        order: Degree buckets in the order of their positions; empty where they lie anywhere.
    """
    return _mapped(workload, pes, serial, order)


@lru_cache(maxsize=8)
def _mapped(workload: Workload, pes: int, serial: bool, order: tuple[int, ...]) -> Mapping:
    """Return `map_workload`, of which the same arguments may be written in several ways."""
    placement = natural_placement(bucket_positions(workload, order), pes) if serial else None
    return Mapping(workload, pes, placement, order)
