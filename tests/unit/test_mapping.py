"""Mappings of workloads with degree buckets: positions, bounds, and the order of places."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sgq_hw.bundle import Workload
from sgq_hw.mapping import Mapping, map_workload, natural_placement
from sgq_hw.schedule import Placement, check_schedule
from tests.random_networks import random_bundle

PES = [1, 2, 8, 64]


def random_buckets(seed: int, count: int) -> tuple[Workload, tuple[int, ...]]:
    """Draw a graph with nodes in `count` buckets, of which some may be empty, and an order."""
    draw = np.random.default_rng(seed)
    bundle = random_bundle(draw, nodes=int(draw.integers(1, 80)), layers=1)
    buckets = draw.choice(count, bundle.workload.num_nodes, p=draw.dirichlet(np.full(count, 0.5)))
    order = tuple(draw.permutation(count).tolist())
    return replace(bundle.workload, buckets=buckets.astype(np.int64)), order


@given(
    seed=st.integers(0, 10**6),
    count=st.integers(2, 8),
    pes=st.sampled_from(PES),
    serial=st.booleans(),
)
@settings(deadline=None, max_examples=60)
def test_places_tell_the_bucket(seed: int, count: int, pes: int, serial: bool) -> None:
    """The hardware's rule: how many of the bounds a place has reached is its position."""
    workload, order = random_buckets(seed, count)
    mapping = map_workload(workload, pes, serial, order)
    assert workload.buckets is not None
    assert len(mapping.bounds) == count - 1
    assert sorted(mapping.places.tolist()) == list(range(workload.num_nodes))
    for place, bucket in zip(mapping.places.tolist(), workload.buckets.tolist(), strict=True):
        assert order[sum(bound <= place for bound in mapping.bounds)] == bucket
    assert np.array_equal(mapping.in_place[mapping.places], np.arange(workload.num_nodes))
    placement, columns = mapping.placement, workload.indices
    check_schedule(
        mapping.edges, workload.indptr, placement.bank[columns], placement.address[columns],
        placement,
    )  # fmt: skip
    channels = workload.x_indices
    check_schedule(
        mapping.inputs, workload.x_indptr, channels % mapping.banks, channels // mapping.banks,
        placement,
    )  # fmt: skip


@given(seed=st.integers(0, 10**6), pes=st.sampled_from(PES))
@settings(deadline=None, max_examples=30)
def test_unscheduled_places_are_those_of_one_pe(seed: int, pes: int) -> None:
    """Unscheduled records come row by row in the order of places, whatever the number of PEs."""
    workload, order = random_buckets(seed, 4)
    one, many = map_workload(workload, 1, False, order), map_workload(workload, pes, True, order)
    assert np.array_equal(one.places, many.places)
    assert np.array_equal(one.in_place, np.lexsort((np.arange(workload.num_nodes), one.positions)))
    closes = one.edges.last[:, 0].cumsum() - one.edges.last[:, 0]
    rows = np.repeat(np.arange(workload.num_nodes), np.diff(workload.indptr))
    read = one.edges.entry[:, 0] >= 0
    assert np.array_equal(one.places[rows[one.edges.entry[read, 0]]], closes[read])


def test_without_an_order_buckets_do_not_matter() -> None:
    workload, _ = random_buckets(3, 4)
    for pes in PES:
        plain = map_workload(replace(workload, buckets=None), pes)
        mapping = map_workload(workload, pes)
        assert mapping.bounds == ()
        assert np.array_equal(mapping.places, plain.places)
        assert not mapping.positions.any()
    assert np.array_equal(map_workload(workload, 1).places, np.arange(workload.num_nodes))
    natural = natural_placement(np.array([1, 0, 2, 4, 3]), 2)
    assert (natural.pe.tolist(), natural.local.tolist()) == ([1, 0, 0, 0, 1], [0, 0, 1, 2, 1])


def test_a_mapping_is_kept_however_it_is_asked_for() -> None:
    workload, order = random_buckets(4, 3)
    assert map_workload(workload, 2) is map_workload(workload, 2, serial=False, order=())
    assert map_workload(workload, 2, False, order) is map_workload(workload, 2, order=order)
    assert map_workload(workload, 2, True, order) is not map_workload(workload, 2, order=order)


def test_orders_of_other_buckets() -> None:
    workload, _ = random_buckets(6, 3)
    workload = replace(workload, buckets=np.arange(workload.num_nodes) % 3)
    for order in ((0, 1), (0, 1, 1), (1, 2, 3)):
        with pytest.raises(ValueError, match="bucket"):
            Mapping(workload, 2, order=order)
    with pytest.raises(ValueError, match="no degree buckets to lie in the order"):
        Mapping(replace(workload, buckets=None), 2, order=(0, 1, 2))


@pytest.mark.parametrize("pes", PES)
def test_placements_of_another_order_are_refused(pes: int) -> None:
    """Nodes keep the places of the graph that was loaded; two of other buckets exchanged do not."""
    workload, _ = random_buckets(6, 3)
    workload = replace(workload, buckets=np.arange(workload.num_nodes) % 3)
    right = map_workload(workload, pes, order=(2, 0, 1)).placement
    assert Mapping(workload, pes, right, (2, 0, 1)).placement is right
    pe, local = right.pe.copy(), right.local.copy()
    for array in (pe, local):
        array[[0, 1]] = array[[1, 0]]
    with pytest.raises(ValueError, match="do not lie bucket after bucket"):
        Mapping(workload, pes, Placement(pes, pe, local), (2, 0, 1))
