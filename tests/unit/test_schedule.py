"""Placement and schedules: the rules on random matrices, planted faults, and real graphs."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sgq_hw.fields import IntArray
from sgq_hw.graphs import find_data, load_graph
from sgq_hw.quantize.workload import degree_buckets
from sgq_hw.schedule import (
    Placement,
    Schedule,
    check_schedule,
    lower_bound,
    num_banks,
    place_rows,
    schedule_rows,
)

PES = [1, 2, 4, 8, 16, 32, 64]


@dataclass
class Case:
    """A placement and a pass over it."""

    indptr: IntArray
    bank: IntArray
    address: IntArray
    placement: Placement

    def schedule(self) -> Schedule:
        return schedule_rows(self.indptr, self.bank, self.address, self.placement)

    def check(self, schedule: Schedule) -> None:
        check_schedule(schedule, self.indptr, self.bank, self.address, self.placement)

    def bound(self) -> int:
        return lower_bound(self.indptr, self.bank, self.address, self.placement)


def starts(lengths: IntArray) -> IntArray:
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])


def random_groups(draw: np.random.Generator, nodes: int) -> IntArray:
    """Draw up to 8 groups: of any sizes, empty ones too, or a node each, or all nodes in one."""
    kind = draw.integers(4)
    if kind == 0:
        return draw.permutation(nodes) % 8  # the first 8 nodes: one a group
    if kind == 1:
        return np.full(nodes, draw.integers(8))
    share = draw.dirichlet(np.full(8, 0.3))
    return np.asarray(draw.choice(8, nodes, p=share), np.int64)


def misplaced(placement: Placement, groups: IntArray) -> list[int]:
    """Nodes whose place belongs to another group: places of group after group follow each other."""
    places = placement.local * placement.pes + placement.pe
    bounds = [np.count_nonzero(groups < group) for group in range(1, int(groups.max()) + 1)]
    of_place = [sum(bound <= place for bound in bounds) for place in places.tolist()]
    return np.flatnonzero(np.array(of_place) != groups).tolist()


def random_case(seed: int, nodes: int, pes: int, square: bool, grouped: bool = False) -> Case:
    """Rows of which some are empty and some are hubs; over nodes or over input channels."""
    draw = np.random.default_rng(seed)
    columns = nodes if square else int(draw.integers(1, 300))
    lengths = np.minimum(draw.geometric(0.2, nodes) - draw.integers(0, 2), columns)
    lengths[draw.random(nodes) < 0.05] = 0
    lengths[draw.random(nodes) < 0.02] = columns
    other = draw.integers(1, 9, nodes)
    groups = random_groups(draw, nodes) if grouped else None
    placement = place_rows(np.stack([np.maximum(lengths, 1), other]), pes, groups)
    rows = [draw.choice(columns, length, replace=False) for length in lengths]
    indices = np.concatenate([*rows, np.zeros(0, np.int64)]).astype(np.int64)
    if square:
        return Case(starts(lengths), placement.bank[indices], placement.address[indices], placement)
    banks = placement.banks
    return Case(starts(lengths), indices % banks, indices // banks, placement)


@given(
    seed=st.integers(0, 10**6),
    nodes=st.integers(1, 200),
    pes=st.sampled_from(PES),
    square=st.booleans(),
    grouped=st.booleans(),
)
@settings(deadline=None, max_examples=100)
def test_random_matrices(seed: int, nodes: int, pes: int, square: bool, grouped: bool) -> None:
    case = random_case(seed, nodes, pes, square, grouped)
    schedule = case.schedule()
    case.check(schedule)
    records = int(np.maximum(np.diff(case.indptr), 1).sum())
    assert schedule.steps >= case.bound() >= -(-records // pes)
    assert schedule.lost_conflict >= 0
    assert schedule.lost_imbalance >= 0
    idle = schedule.lost_conflict + schedule.lost_imbalance
    assert schedule.steps * pes == records + idle


@given(
    seed=st.integers(0, 10**6),
    nodes=st.integers(1, 300),
    pes=st.sampled_from(PES),
    grouped=st.booleans(),
)
@settings(deadline=None, max_examples=80)
def test_row_counts(seed: int, nodes: int, pes: int, grouped: bool) -> None:
    draw = np.random.default_rng(seed)
    loads = draw.geometric(0.1, (2, nodes))
    placement = place_rows(loads, pes, random_groups(draw, nodes) if grouped else None)
    assert (placement.num_nodes, placement.rows) == (nodes, -(-nodes // pes))
    for pe in range(pes):
        local = np.sort(placement.local[placement.pe == pe])
        assert local.tolist() == list(range((nodes + pes - 1 - pe) // pes))
    where = set(zip(placement.bank.tolist(), placement.address.tolist(), strict=True))
    assert len(where) == nodes
    assert max(bank for bank, _ in where) < placement.banks == num_banks(pes)
    table = placement.nodes
    assert table.shape == (placement.rows, pes)
    assert np.count_nonzero(table < 0) == table.size - nodes
    assert (table[placement.local, placement.pe] == np.arange(nodes)).all()


@given(seed=st.integers(0, 10**6), nodes=st.integers(1, 300), pes=st.sampled_from(PES))
@settings(deadline=None, max_examples=80)
def test_groups_lie_one_after_the_other(seed: int, nodes: int, pes: int) -> None:
    draw = np.random.default_rng(seed)
    groups = random_groups(draw, nodes)
    placement = place_rows(draw.geometric(0.1, (2, nodes)), pes, groups)
    assert misplaced(placement, groups) == []
    for group in range(8):
        # Rows of a group are dealt as evenly as its places, whose PEs take turns.
        rows = np.bincount(placement.pe[groups == group], minlength=pes)
        assert rows.max() - rows.min() <= 1


@given(seed=st.integers(0, 10**6), nodes=st.integers(2, 100), pes=st.sampled_from(PES))
@settings(deadline=None, max_examples=40)
def test_nodes_exchanged_between_groups_are_found(seed: int, nodes: int, pes: int) -> None:
    draw = np.random.default_rng(seed)
    groups = random_groups(draw, nodes)
    groups[:2] = 0, 1
    placement = place_rows(draw.geometric(0.1, (2, nodes)), pes, groups)
    for array in (placement.pe, placement.local):
        array[[0, 1]] = array[[1, 0]]
    assert misplaced(placement, groups) == [0, 1]


def test_groups_of_equal_nodes_change_nothing() -> None:
    """Any number of one group, with or without empty ones before it, places as no groups do."""
    loads = np.random.default_rng(5).geometric(0.1, (2, 90))
    for pes in PES:
        want = place_rows(loads, pes)
        for number in (0, 3):
            found = place_rows(loads, pes, np.full(90, number))
            assert np.array_equal(found.pe, want.pe)
            assert np.array_equal(found.local, want.local)


def test_loads_of_groups_are_balanced() -> None:
    """Groups of long and of short rows, in any order, leave no PE with more work."""
    draw = np.random.default_rng(1)
    groups = draw.choice(4, 1500, p=[0.5, 0.1, 0.3, 0.1])
    loads = np.stack([draw.integers(1, 9, 1500) * (1 + groups) ** 2, draw.geometric(0.05, 1500)])
    for order in ([0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1]):
        for pes in (2, 8, 32):
            placement = place_rows(loads, pes, np.array(order)[groups])
            for load in loads:
                sums = np.bincount(placement.pe, load)
                assert sums.max() <= 1.002 * sums.mean() + 1


def test_hub_goes_where_the_rows_of_other_groups_are_few() -> None:
    """Places 0 to 4 are of group 0, 5 to 9 of group 1, 10 of group 2: PE 3 has two rows only."""
    groups = np.repeat([0, 1, 2], [5, 5, 1])
    loads = np.where(groups == 1, 3, 2)[None, :]
    loads[0, 7] = 100
    placement = place_rows(loads, 4, groups)
    assert placement.pe[7] == 3
    assert np.bincount(placement.pe, minlength=4)[3] == 2


@pytest.mark.parametrize("pes", PES)
def test_same_arguments_same_result(pes: int) -> None:
    one, two = (random_case(3, 150, pes, True) for _ in range(2))
    assert (one.placement.pe == two.placement.pe).all()
    assert (one.placement.local == two.placement.local).all()
    schedules = one.schedule(), two.schedule()
    for name in ("entry", "last", "slot"):
        assert (getattr(schedules[0], name) == getattr(schedules[1], name)).all()


def test_one_pe_keeps_the_order() -> None:
    placement = place_rows(np.array([[3, 1, 2]]), 1)
    assert placement.pe.tolist() == [0, 0, 0]
    assert placement.bank.tolist() == [0, 0, 0]
    assert placement.address.tolist() == [0, 1, 2]
    case = Case(np.array([0, 3, 3, 5]), np.zeros(5, np.int64), np.array([2, 0, 1, 0, 2]), placement)
    schedule = case.schedule()
    case.check(schedule)
    assert schedule.entry[:, 0].tolist() == [0, 1, 2, -1, 3, 4]
    assert schedule.last[:, 0].tolist() == [False, False, True, True, False, True]
    assert schedule.slot[:, 0].tolist() == [0, 0, 0, 1, 0, 0]


def test_one_pe_walks_rows_group_by_group() -> None:
    placement = place_rows(np.array([[3, 1, 2, 1]]), 1, np.array([2, 0, 2, 0]))
    assert placement.address.tolist() == [2, 0, 3, 1]
    case = Case(np.array([0, 3, 3, 5, 6]), np.zeros(6, np.int64), np.arange(6), placement)
    schedule = case.schedule()
    case.check(schedule)
    assert schedule.entry[:, 0].tolist() == [-1, 5, 0, 1, 2, 3, 4]
    assert schedule.last[:, 0].tolist() == [True, True, False, False, True, False, True]
    assert schedule.slot[:, 0].tolist() == [0, 1, 0, 0, 0, 1, 1]
    natural = replace(case, placement=place_rows(np.array([[3, 1, 2, 1]]), 1))
    with pytest.raises(ValueError, match="step 0, PE 0: row 0 is not empty"):
        natural.check(schedule)


def test_one_word_for_all() -> None:
    """All PEs read one word at a time: a broadcast, not a conflict."""
    placement = place_rows(np.full((1, 64), 3), 16)
    indices = np.tile(np.arange(3), 64)
    case = Case(3 * np.arange(65), np.zeros(192, np.int64), indices, placement)
    schedule = case.schedule()
    case.check(schedule)
    assert schedule.steps == case.bound() == 12


def test_one_bank_bounds() -> None:
    """Every PE wants words of its own from one bank, so a step serves one PE."""
    placement = place_rows(np.full((1, 8), 4), 4)
    case = Case(4 * np.arange(9), np.zeros(32, np.int64), np.arange(32), placement)
    schedule = case.schedule()
    case.check(schedule)
    assert schedule.steps == case.bound() == 32
    assert schedule.lost_conflict + schedule.lost_imbalance == 96


def test_hub_goes_where_rows_are_few() -> None:
    loads = np.full((1, 9), 2)
    loads[0, 4] = 100
    assert np.bincount(place_rows(loads, 4).pe)[place_rows(loads, 4).pe[4]] == 2


# Faults planted in a schedule that is right. Local rows of PE 0: 0 (two entries), 1 (two entries),
# 2 (empty); of PE 1: 0 (two entries), 1 (one entry).
SMALL = Case(
    np.array([0, 2, 4, 4, 6, 7]),
    np.array([0, 1, 0, 1, 2, 3, 2]),
    np.array([0, 0, 1, 0, 0, 0, 0]),
    Placement(2, np.array([0, 0, 0, 1, 1]), np.array([0, 1, 2, 0, 1])),
)
RIGHT = Schedule(
    entry=np.array([[0, 4], [2, 5], [1, -1], [3, 6], [-1, -1]]),
    last=np.array([[0, 0], [0, 1], [1, 0], [1, 1], [1, 0]], np.bool_),
    slot=np.array([[0, 0], [1, 0], [0, 0], [1, 1], [0, 0]]),
)


def changed(**cells: tuple[int, int, int]) -> Schedule:
    """RIGHT with one cell of some columns changed: (step, PE, value)."""
    fresh = replace(RIGHT, entry=RIGHT.entry.copy(), last=RIGHT.last.copy(), slot=RIGHT.slot.copy())
    for name, (step, pe, value) in cells.items():
        getattr(fresh, name)[step, pe] = value
    return fresh


def swapped(one: int, other: int, pe: int) -> Schedule:
    """RIGHT with two records of a PE exchanged."""
    fresh = changed()
    for array in (fresh.entry, fresh.last, fresh.slot):
        array[[one, other], pe] = array[[other, one], pe]
    return fresh


def cut(keep: slice | list[int]) -> Schedule:
    return Schedule(RIGHT.entry[keep], RIGHT.last[keep], RIGHT.slot[keep])


def test_right_schedule() -> None:
    SMALL.check(RIGHT)
    assert (RIGHT.steps, RIGHT.lost_conflict, RIGHT.lost_imbalance) == (5, 1, 1)


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        (lambda: changed(entry=(0, 0, 2)), r"step 0, PE 0: slot 0 for row 1"),
        (lambda: changed(entry=(2, 0, 0)), r"step 2, PE 0: entry 0 is read twice"),
        (lambda: changed(entry=(0, 1, 0)), r"step 0, PE 1: row 0 belongs to PE 0"),
        (lambda: changed(entry=(0, 1, 6), slot=(0, 1, 1)), r"step 0, PE 1: last is 0 where row 4"),
        (lambda: changed(entry=(0, 0, 7)), r"step 0, PE 0: there is no entry 7"),
        (lambda: changed(entry=(0, 0, -2)), r"step 0, PE 0: there is no entry -2"),
        (lambda: changed(entry=(0, 0, -1)), r"step 2, PE 0: last is 1 where row 0 has 1"),
        (lambda: changed(entry=(2, 0, -1)), r"step 2, PE 0: row 0 is not empty"),
        (lambda: changed(last=(2, 0, 0)), r"step 2, PE 0: last is 0 where row 0 has 0"),
        (lambda: changed(last=(0, 0, 1)), r"step 0, PE 0: last is 1 where row 0 has 1"),
        (lambda: changed(last=(4, 0, 0)), r"step 5, PE 0: the schedule ends before row 2"),
        (lambda: changed(last=(2, 1, 1)), r"step 2, PE 1: slot 0 for row 4"),
        (lambda: changed(last=(4, 1, 1)), r"step 4, PE 1: a record after the last row"),
        (lambda: changed(slot=(1, 0, 0)), r"step 1, PE 0: slot 0 for row 1"),
        (lambda: changed(slot=(2, 1, 1)), r"step 2, PE 1: slot 1 in a bubble"),
        (lambda: swapped(2, 3, 0), r"step 2, PE 0: row 1 closes before row 0"),
        (lambda: swapped(1, 3, 1), r"step 1, PE 1: row 4 closes before row 3"),
        (lambda: cut(slice(4)), r"step 4, PE 0: the schedule ends before row 2"),
        (lambda: cut([0, 1, 2, 3, 4, 3]), r"step 5, PE 0: a record after the last row"),
        (lambda: replace(RIGHT, slot=RIGHT.slot[:, :1]), r"shape \(5, 1\), 2 PEs"),
    ],
)
def test_planted_faults(schedule: Callable[[], Schedule], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SMALL.check(schedule())


def test_two_words_of_one_bank() -> None:
    clash = replace(SMALL, bank=np.array([0, 1, 0, 1, 0, 3, 2]), address=SMALL.address.copy())
    clash.check(RIGHT)  # the same word: a broadcast
    clash.address[4] = 1
    with pytest.raises(ValueError, match="step 0, PE 1: bank 0 delivers 0, not 1"):
        clash.check(RIGHT)


def own_case(seed: int, nodes: int, pes: int) -> tuple[Case, IntArray]:
    """Rows that all hold their own node, at any place, and the entry where each has it."""
    draw = np.random.default_rng(seed)
    lengths = np.clip(draw.geometric(0.2, nodes), 1, nodes)
    lengths[draw.random(nodes) < 0.05] = nodes
    rows = []
    for row, length in enumerate(lengths.tolist()):
        others = np.delete(np.arange(nodes), row)
        chosen = np.append(draw.choice(others, length - 1, replace=False), row)
        rows.append(draw.permutation(chosen))
    indices = np.concatenate(rows)
    first = np.flatnonzero(indices == np.repeat(np.arange(nodes), lengths))
    placement = place_rows(np.stack([lengths, draw.integers(1, 9, nodes)]), pes)
    bank, address = placement.bank[indices], placement.address[indices]
    return Case(starts(lengths), bank, address, placement), first


@given(seed=st.integers(0, 10**6), nodes=st.integers(1, 150), pes=st.sampled_from(PES))
@settings(deadline=None, max_examples=80)
def test_rows_begin_with_a_chosen_entry(seed: int, nodes: int, pes: int) -> None:
    case, first = own_case(seed, nodes, pes)
    arguments = case.indptr, case.bank, case.address, case.placement
    schedule = schedule_rows(*arguments, first)
    check_schedule(schedule, *arguments, first)
    case.check(schedule)
    assert schedule.steps >= case.bound()
    # Told without the checker: no entry of a row is read before its first one.
    read_in = np.full(case.bank.size, -1)
    steps, pes_of = np.nonzero(schedule.entry >= 0)
    read_in[schedule.entry[steps, pes_of]] = steps
    row = np.repeat(np.arange(nodes), np.diff(case.indptr))
    assert (read_in >= read_in[first][row]).all()
    if pes == 1:
        # The others keep their order.
        for begin, end, own in zip(case.indptr, case.indptr[1:], first, strict=False):
            rest = np.delete(read_in[begin:end], own - begin)
            assert (np.diff(rest) > 0).all()


@given(seed=st.integers(0, 10**6), nodes=st.integers(2, 80), pes=st.sampled_from(PES))
@settings(deadline=None, max_examples=40)
def test_a_row_that_begins_with_another_entry_is_found(seed: int, nodes: int, pes: int) -> None:
    case, first = own_case(seed, nodes, pes)
    arguments = case.indptr, case.bank, case.address, case.placement
    schedule = schedule_rows(*arguments, first)
    long = np.flatnonzero(np.diff(case.indptr) > 1)
    if not long.size:
        return
    row = int(np.random.default_rng(seed).choice(long))
    other = first.copy()
    other[row] = case.indptr[row] + (first[row] == case.indptr[row])
    message = f"row {row} begins with entry {first[row]}, not {other[row]}"
    with pytest.raises(ValueError, match=message):
        check_schedule(schedule, *arguments, other)


def test_third_row_waits() -> None:
    placement = Placement(2, np.array([0, 0, 0, 1]), np.array([0, 1, 2, 0]))
    case = Case(np.array([0, 2, 3, 5, 6]), np.arange(6) % 4, np.arange(6), placement)
    early = Schedule(
        np.array([[0, 5], [3, -1], [1, -1], [2, -1], [4, -1]]),
        np.array([[0, 1], [0, 0], [1, 0], [1, 0], [1, 0]], np.bool_),
        np.array([[0, 0], [0, 0], [0, 0], [1, 0], [0, 0]]),
    )
    with pytest.raises(ValueError, match="step 1, PE 0: row 2 is not open"):
        case.check(early)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("name", ["entry", "last", "slot"])
def test_any_changed_cell_is_found(seed: int, name: str) -> None:
    """A changed cell is wrong by itself, whatever it says: nothing else changed with it."""
    case = random_case(seed, 40, 4, True)
    schedule = case.schedule()
    array = getattr(schedule, name)
    draw = np.random.default_rng(seed)
    step, pe = draw.integers(schedule.steps), draw.integers(4)
    array[step, pe] = array[step, pe] + 1 if name == "entry" else 1 - array[step, pe]
    with pytest.raises(ValueError, match=r"step .*, PE "):
        case.check(schedule)


@pytest.mark.parametrize("pes", [0, 3, 128])
def test_pes_are_powers_of_two(pes: int) -> None:
    with pytest.raises(ValueError, match="power of two"):
        place_rows(np.ones((1, 4), np.int64), pes)


def test_loads_count_records() -> None:
    for loads in (np.zeros((1, 4), np.int64), np.ones(4, np.int64), np.ones((1, 0), np.int64)):
        with pytest.raises(ValueError, match="loads"):
            place_rows(loads, 2)


@pytest.mark.parametrize("groups", [[0, 1], [0, 1, -1, 0], [[0, 1, 0, 1]]])
def test_groups_are_of_all_nodes(groups: list[int]) -> None:
    with pytest.raises(ValueError, match="groups: not a number from 0 for each of 4 nodes"):
        place_rows(np.ones((1, 4), np.int64), 2, np.array(groups))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"indptr": np.array([0, 2, 4])}, "2 rows, 5 nodes"),
        ({"indptr": np.array([0, 4, 2, 4, 6, 7])}, "does not rise"),
        ({"indptr": np.array([1, 2, 4, 4, 6, 7])}, "does not rise"),
        ({"bank": np.zeros(6, np.int64)}, "not 7"),
        ({"bank": np.full(7, 4)}, "operand_bank"),
        ({"bank": np.full(7, -1)}, "operand_bank"),
        ({"address": np.full(7, -1)}, "operand_address"),
    ],
)
def test_arguments_that_do_not_fit(change: dict[str, IntArray], message: str) -> None:
    case = replace(SMALL, **change)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=message):
        case.schedule()
    with pytest.raises(ValueError, match=message):
        case.bound()


# Useful slots of all, with degree buckets and without. At 32 PEs the hub of Cora, 169 records of
# 414 a PE, needs a PE of short rows only, but with buckets every PE has rows of each of them.
@pytest.mark.parametrize(
    ("name", "pes", "grouped", "useful"),
    [
        (name, pes, grouped, useful)
        for name in ("cora", "citeseer")
        for pes, useful in ((2, 0.99), (8, 0.99), (16, 0.99), (32, 0.99))
        for grouped in (False, True)
        if (name, pes, grouped) != ("cora", 32, True)
    ]
    + [("cora", 32, True, 0.915)],
)
def test_real_graphs_leave_little_idle(
    name: str, pes: int, grouped: bool, useful: float, data_folder: Path
) -> None:
    assert find_data(name).is_relative_to(data_folder)
    graph = load_graph(name)
    nodes = np.arange(graph.num_nodes)
    targets = np.concatenate([nodes, np.repeat(nodes, graph.degrees)])
    order = np.argsort(targets, kind="stable")
    sources = np.concatenate([nodes, graph.indices])[order]  # with self loops
    loads = np.stack([graph.degrees + 1, np.maximum(np.diff(graph.x_indptr), 1)])
    buckets = degree_buckets(graph, (4, 8, 16))
    for groups in (buckets, 3 - buckets) if grouped else (None,):
        placement = place_rows(loads, pes, groups)
        banks, channels = placement.banks, graph.x_indices
        passes = [
            Case(starts(loads[0]), placement.bank[sources], placement.address[sources], placement),
            Case(graph.x_indptr, channels % banks, channels // banks, placement),
        ]
        for case, records in zip(passes, loads.sum(axis=1), strict=True):
            schedule = case.schedule()
            case.check(schedule)
            assert records / pes / schedule.steps >= useful


def test_compiler_is_imported_late() -> None:
    code = "import sgq_hw.schedule, sys; sys.exit('numba' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
