"""Compiled loops of `sgq_hw.schedule`, which imports this module late: Numba is slow to import.

Plain integer arithmetic on arrays, so results are the same everywhere. Indices are not checked.
"""

from collections.abc import Callable
from typing import Final, NamedTuple, TypeVar, cast

import numba
import numpy as np

from sgq_hw.fields import FloatArray, IntArray

_Kernel = TypeVar("_Kernel", bound=Callable[..., object])

# Records of an open row that are looked at in a step. More changes schedules by less than 0.2 %.
WINDOW: Final = 16

# What a PE does in a step, where it does not read the record at a position of `entries`.
NOTHING: Final = -1
EMPTY_ROW: Final = -2

# Above the rank of a record whose bank is free: the number of open records that want the bank.
SAME_WORD: Final = 1 << 62


class Work(NamedTuple):
    """A pass to schedule.

    Attributes:
        rows: [rows, pes], node at each local row of each PE; -1 where there is none.
        owned: [pes], rows of each PE.
        starts: [nodes], first position of each row in `entries`.
        lengths: [nodes], positions of each row.
        entries: [entries], CSR entries grouped by row; reordered inside rows by the scheduler.
        row: [entries], row of each CSR entry.
        bank: [entries], bank of each CSR entry's operand.
        word: [entries], number of each CSR entry's operand: equal for the same bank and address.
        first_fixed: Whether a row begins with the entry at its first position.
    """

    rows: IntArray
    owned: IntArray
    starts: IntArray
    lengths: IntArray
    entries: IntArray
    row: IntArray
    bank: IntArray
    word: IntArray
    first_fixed: bool


class _State(NamedTuple):
    """Where the schedule stands.

    Attributes:
        left: [nodes], records that each row has left: the first of its positions.
        head: [pes], older open row of each PE, as local row number.
        records: [pes], records that each PE has left, empty rows included.
        wanted: [banks], records of open rows that read each bank.
        pick: [pes], position in `entries` that each PE reads in this step, NOTHING or EMPTY_ROW.
        delivers: [banks], word that each bank delivers in this step, -1 for none.
        readers: [banks], PEs that read it.
        reader: [banks], the first of them.
    """

    left: IntArray
    head: IntArray
    records: IntArray
    wanted: IntArray
    pick: IntArray
    delivers: IntArray
    readers: IntArray
    reader: IntArray


def _compiled(function: _Kernel) -> _Kernel:
    """Compile a function on its first call, and keep the machine code beside the module."""
    return cast(_Kernel, numba.njit(cache=True)(function))


@_compiled
def even_out(
    loads: FloatArray, pe: IntArray, sums: FloatArray, bounds: IntArray, tries: int
) -> None:
    """Exchange nodes of one group between PEs where that evens out their sums.

    An exchange is made where it lowers the squares of all sums together. The rows that each PE has
    of each group stay as many as they are.

    Args:
        loads: [kinds, nodes], relative to the mean sum of the kind, so that kinds count alike.
        pe: [nodes], owners; changed.
        sums: [kinds, pes], of the loads of each PE; changed.
        bounds: [groups + 1], first node of each group, none of them empty, and the nodes' number.
        tries: Pairs of nodes to look at.
    """
    kinds, nodes = loads.shape
    state = np.uint64(1)
    for _ in range(tries):
        state = state * np.uint64(6364136223846793005) + np.uint64(1442695040888963407)
        one = np.int64((state >> np.uint64(33)) % np.uint64(nodes))
        group = 0
        while bounds[group + 1] <= one:
            group += 1
        first, end = bounds[group], bounds[group + 1]
        state = state * np.uint64(6364136223846793005) + np.uint64(1442695040888963407)
        other = first + np.int64((state >> np.uint64(33)) % np.uint64(end - first))
        here, there = pe[one], pe[other]
        if here == there:
            continue
        change = 0.0
        for kind in range(kinds):
            moved = loads[kind, other] - loads[kind, one]
            change += moved * (sums[kind, here] - sums[kind, there] + moved)
        if change < -1e-12:  # not rounding, which could exchange two nodes for ever
            for kind in range(kinds):
                moved = loads[kind, other] - loads[kind, one]
                sums[kind, here] += moved
                sums[kind, there] -= moved
            pe[one], pe[other] = there, here


@_compiled
def _open_row(work: Work, state: _State, pe: int, local: int) -> None:
    """Count the records of a row that opens, if the PE has such a row."""
    if local < work.owned[pe]:
        row = work.rows[local, pe]
        for at in range(work.starts[row], work.starts[row] + work.lengths[row]):
            state.wanted[work.bank[work.entries[at]]] += 1


@_compiled
def _candidates(work: Work, state: _State, pe: int, younger: int) -> tuple[int, int]:
    """Return the range of positions that a PE may read in its older or younger open row."""
    local = state.head[pe] + younger
    if local >= work.owned[pe]:
        return 0, 0
    row = work.rows[local, pe]
    left = state.left[row]
    if younger == 1 and left == 1:  # it would close before the older row
        return 0, 0
    if work.first_fixed and left == work.lengths[row]:
        return work.starts[row], work.starts[row] + 1
    return work.starts[row], work.starts[row] + min(left, WINDOW)


@_compiled
def _read(work: Work, state: _State, pe: int, at: int) -> None:
    """Let a PE read a record whose bank is free or delivers its word."""
    entry = work.entries[at]
    bank = work.bank[entry]
    if state.delivers[bank] < 0:
        state.delivers[bank] = work.word[entry]
        state.readers[bank] = 0
        state.reader[bank] = pe
    state.readers[bank] += 1
    state.pick[pe] = at


@_compiled
def _choose(work: Work, state: _State, pe: int) -> bool:
    """Let a PE read its best record; False where the banks of all deliver other words.

    Of the older row, if possible: the sooner it closes, the sooner a full one opens to choose from.
    """
    for younger in range(2):
        best, best_rank = NOTHING, -1
        first, end = _candidates(work, state, pe, younger)
        for at in range(first, end):
            entry = work.entries[at]
            bank = work.bank[entry]
            if state.delivers[bank] == work.word[entry]:
                rank = SAME_WORD  # takes nothing from the others
            elif state.delivers[bank] < 0:
                rank = state.wanted[bank]
            else:
                continue
            if rank > best_rank:
                best, best_rank = at, rank
        if best != NOTHING:
            _read(work, state, pe, best)
            return True
    return False


@_compiled
def _move(
    work: Work, state: _State, mover: int, at: int, taker: IntArray, taken_at: IntArray
) -> None:
    """Let a PE read another record, its taker the bank that it leaves, and so on.

    The last to move is the one that read nothing.
    """
    before = state.pick[mover]
    _read(work, state, mover, at)
    while before != NOTHING:
        bank = work.bank[work.entries[before]]
        state.delivers[bank] = NOTHING
        before = state.pick[taker[bank]]
        _read(work, state, taker[bank], taken_at[bank])


@_compiled
def _make_room(work: Work, state: _State, pe: int) -> None:
    """Let a PE read by moving others to other records: an augmenting path, if there is one.

    Only words that a single PE reads make room. PEs that read go on reading.
    """
    taker = np.full(
        state.delivers.size, NOTHING, np.int64
    )  # who takes a bank over, by which record
    taken_at = np.empty(state.delivers.size, np.int64)
    queue = np.empty(state.delivers.size + 1, np.int64)
    queue[0] = pe
    queued = 1
    served = 0
    while served < queued:
        mover = queue[served]
        served += 1
        for younger in range(2):
            first, end = _candidates(work, state, mover, younger)
            for at in range(first, end):
                entry = work.entries[at]
                bank = work.bank[entry]
                if taker[bank] != NOTHING:
                    continue
                if state.delivers[bank] < 0 or state.delivers[bank] == work.word[entry]:
                    _move(work, state, mover, at, taker, taken_at)
                    return
                if state.readers[bank] == 1:
                    taker[bank] = mover
                    taken_at[bank] = at
                    queue[queued] = state.reader[bank]
                    queued += 1


@_compiled
def _finish(work: Work, state: _State, pe: int, step: int, read_in: IntArray) -> bool:
    """Take the record that a PE reads off its row; True where that closes its older row."""
    at = state.pick[pe]
    if at == NOTHING:
        return False
    state.records[pe] -= 1
    if at == EMPTY_ROW:
        return True
    entry = work.entries[at]
    row = work.row[entry]
    read_in[entry] = step
    state.wanted[work.bank[entry]] -= 1
    state.left[row] -= 1
    work.entries[at] = work.entries[work.starts[row] + state.left[row]]
    return bool(state.left[row] == 0)


@_compiled
def _most_work_first(order: IntArray, records: IntArray) -> None:
    """Sort PEs by the records that they have left; the order of the last step is nearly right."""
    for start in range(1, order.size):
        pe = order[start]
        place = start
        while place > 0 and records[order[place - 1]] < records[pe]:
            order[place] = order[place - 1]
            place -= 1
        order[place] = pe


@_compiled
def list_schedule(work: Work, banks: int) -> tuple[IntArray, IntArray, int]:
    """Give every record a step, one step after the other.

    In a step, the PEs choose in turn, those with most work left first; a PE that finds all banks
    taken makes the others move, if they can.

    Returns:
        [entries], step of each CSR entry; [nodes], step in which each row closes; steps.
    """
    pes = work.owned.size
    state = _State(
        work.lengths.copy(),
        np.zeros(pes, np.int64),
        np.zeros(pes, np.int64),
        np.zeros(banks, np.int64),
        np.empty(pes, np.int64),
        np.empty(banks, np.int64),
        np.empty(banks, np.int64),
        np.empty(banks, np.int64),
    )
    for pe in range(pes):
        for local in range(work.owned[pe]):
            state.records[pe] += max(work.lengths[work.rows[local, pe]], 1)
        _open_row(work, state, pe, 0)
        _open_row(work, state, pe, 1)
    order = np.arange(pes)
    read_in = np.empty(work.row.size, np.int64)
    closed_in = np.empty(work.lengths.size, np.int64)
    step = 0
    open_rows = work.lengths.size
    while open_rows > 0:
        _most_work_first(order, state.records)
        state.delivers[:] = NOTHING
        for turn in range(pes):
            pe = int(order[turn])
            state.pick[pe] = NOTHING
            if state.head[pe] == work.owned[pe]:
                continue
            if work.lengths[work.rows[state.head[pe], pe]] == 0:
                state.pick[pe] = EMPTY_ROW
            elif not _choose(work, state, pe):
                _make_room(work, state, pe)
        for pe in range(pes):
            if _finish(work, state, pe, step, read_in):
                closed_in[work.rows[state.head[pe], pe]] = step
                state.head[pe] += 1
                open_rows -= 1
                _open_row(work, state, pe, state.head[pe] + 1)
        step += 1
    return read_in, closed_in, step
