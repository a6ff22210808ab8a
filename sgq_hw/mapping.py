"""Mapping: where the nodes of a workload lie on an accelerator, and in which order it works.

Packer, cycle model, memory budget and cosimulation all read this object, so they cannot disagree.
"""

from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

import numpy as np

from sgq_hw.bundle import Workload
from sgq_hw.errors import InputError
from sgq_hw.fields import IntArray
from sgq_hw.golden.feature_buffer import positions
from sgq_hw.schedule import Placement, Schedule, num_banks, place_rows, schedule_rows

if TYPE_CHECKING:
    from sgq_hw.design import Design


def natural_placement(places: IntArray, pes: int) -> Placement:
    """Return the placement of unscheduled graphs: place r belongs to PE `r % pes`."""
    return Placement(pes, places % pes, places // pes)


class Mapping:
    """Placement and schedules of one workload on a number of processing elements.

    Degree buckets lie in memory one after the other, and what counts them are their positions.

    Args:
        workload: Graph and inputs.
        pes: Processing elements.
        placement: Where the nodes lie already; balanced for this workload without one.
        order: Degree buckets in the order in which their nodes lie; empty: nodes in any order.
        direct: Whether records come in the user's order, whatever the places of their nodes.
        own_first: Whether a row of the graph begins with its own node.

    Attributes:
        positions: Position in the order of every node's bucket, int64 [nodes]; zeros without one.
        bounds: First place of every position but the first.

    Raises:
        ValueError: an order of other buckets than the nodes are in, or a placement in another one.
        InputError: a row that should begin with its own node, but has no self loop.
    """

    def __init__(
        self,
        workload: Workload,
        pes: int,
        placement: Placement | None = None,
        order: tuple[int, ...] = (),
        direct: bool = False,
        own_first: bool = False,
    ) -> None:
        self.workload, self.pes, self.direct = workload, pes, direct
        self.own_first = own_first
        self.banks = num_banks(pes)
        self.positions = _positions(workload, order)
        sizes = np.bincount(self.positions, minlength=len(order))
        self.bounds: tuple[int, ...] = tuple(np.cumsum(sizes)[:-1].tolist())
        self._placement = placement
        if placement is not None:
            if not np.array_equal(positions(self.places, self.bounds), self.positions):
                raise ValueError(f"{workload.name}: the nodes do not lie bucket after bucket")

    @cached_property
    def placement(self) -> Placement:
        """Owner and row of every node."""
        if self._placement is not None:
            return self._placement
        workload = self.workload
        rows = [np.diff(workload.indptr), np.diff(workload.x_indptr)]
        return place_rows(np.maximum(np.stack(rows), 1), self.pes, self.positions)

    @cached_property
    def rows(self) -> Placement:
        """Where rows of records are worked on: where their nodes lie, or in the user's order."""
        if not self.direct:
            return self.placement
        return natural_placement(np.arange(self.workload.num_nodes, dtype=np.int64), self.pes)

    @cached_property
    def edges(self) -> Schedule:
        """Schedule of an aggregation pass."""
        workload, placement = self.workload, self.placement
        return schedule_rows(
            workload.indptr, placement.bank[workload.indices], placement.address[workload.indices],
            self.rows, _own_entries(workload) if self.own_first else None,
        )  # fmt: skip

    @cached_property
    def inputs(self) -> Schedule:
        """Schedule of the first pass with inputs as records."""
        workload = self.workload
        return schedule_rows(
            workload.x_indptr, workload.x_indices % self.banks, workload.x_indices // self.banks,
            self.rows,
        )  # fmt: skip

    @cached_property
    def places(self) -> IntArray:
        """Place of every node: int64 [nodes], `row * PES + PE`."""
        return self.placement.local * self.pes + self.placement.pe

    @cached_property
    def in_place(self) -> IntArray:
        """Node number of every place: int64 [nodes], rows one after the other, PE by PE."""
        return self.placement.nodes.reshape(-1)[: self.workload.num_nodes]


def _positions(workload: Workload, order: tuple[int, ...]) -> IntArray:
    """Return the position of every node's bucket in the order."""
    if not order:
        return np.zeros(workload.num_nodes, np.int64)
    buckets = workload.buckets
    if buckets is None or sorted(order) != list(range(len(order))):
        raise ValueError(f"{workload.name}: no degree buckets to lie in the order {order}")
    if buckets.min() < 0 or buckets.max() >= len(order):
        raise ValueError(f"{workload.name}: degree buckets: not all in [0, {len(order)})")
    return np.argsort(order)[buckets]


def _own_entries(workload: Workload) -> IntArray:
    """Return the entry of every row that is its own node.

    Raises:
        InputError: a node without a self loop.
    """
    rows = np.repeat(np.arange(workload.num_nodes), np.diff(workload.indptr))
    own = np.flatnonzero(workload.indices == rows)
    missing = np.setdiff1d(np.arange(workload.num_nodes), rows[own])
    if missing.size:
        raise InputError(f"{workload.name}: node {missing[0]} has no self loop, which 'agnn' needs")
    return own


def map_for(design: "Design", workload: Workload, *, serial: bool = False) -> Mapping:
    """Return the mapping of a workload on a design; the last ones are kept."""
    return _mapped(workload, design.pes, serial, design.order, design.direct, design.has_agnn)


def map_in_order(design: "Design", workload: Workload) -> Mapping:
    """Return the mapping of unscheduled records: one PE, row by row."""
    return map_workload(workload, 1, order=design.order, own_first=design.has_agnn)


def map_onto(design: "Design", workload: Workload, loaded: Workload) -> Mapping:
    """Return the mapping of other inputs on a graph that is loaded: its nodes keep their places."""
    placement = map_for(design, loaded).placement
    return Mapping(
        workload, design.pes, placement, design.order, design.direct, design.has_agnn
    )


def map_workload(
    workload: Workload,
    pes: int,
    serial: bool = False,
    order: tuple[int, ...] = (),
    own_first: bool = False,
) -> Mapping:
    """Return the mapping of a workload; the last ones are kept.

    Args:
        workload: Graph and inputs.
        pes: Processing elements.
        serial: Whether its records come unscheduled.
        order: Degree buckets in the order in which their nodes lie; empty: nodes in any order.
        own_first: Whether a row of the graph begins with its own node.
    """
    return _mapped(workload, pes, serial, order, False, own_first)


@lru_cache(maxsize=8)
def _mapped(
    workload: Workload,
    pes: int,
    serial: bool,
    order: tuple[int, ...],
    direct: bool,
    own_first: bool,
) -> Mapping:
    """Return a mapping, however the arguments of its callers are written."""
    if not serial:
        return Mapping(workload, pes, None, order, direct, own_first)
    in_order = map_workload(workload, 1, order=order).places
    return Mapping(workload, pes, natural_placement(in_order, pes), order, own_first=own_first)
