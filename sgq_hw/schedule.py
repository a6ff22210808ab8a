"""Which PE computes which row, and which record every PE reads in every step of a pass.

Sums commute, so the records of a row may come in any order. The scheduler uses that to keep all
PEs reading although a bank of operands delivers only one word a step. Several PEs may read that
word. A PE has two rows open, local rows l and l + 1, of which l closes first; l + 2 opens when l
has closed. An empty row takes one record, which reads nothing and closes the row.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Final

import numpy as np

from sgq_hw.fields import BoolArray, FloatArray, IntArray

PES_CHOICES: Final = (1, 2, 4, 8, 16, 32, 64)

# Exchanges looked at when rows are balanced, for each node. Large graphs balance by number.
TRIES: Final = 200
MAX_TRIES: Final = 10_000_000


@dataclass(frozen=True, slots=True, eq=False)
class Placement:
    """Owners of the rows of S, which are also the nodes whose features later passes read.

    PE p owns (nodes + pes - 1 - p) // pes rows, numbered from 0 without gaps.

    Attributes:
        pes: Processing elements.
        pe: int64 [nodes], owner of each node.
        local: int64 [nodes], its row number there.
    """

    pes: int
    pe: IntArray
    local: IntArray

    @property
    def banks(self) -> int:
        """Banks of operand rows."""
        return num_banks(self.pes)

    @property
    def bank(self) -> IntArray:
        """Bank of each node's operand row: int64 [nodes]. Both open rows of a PE can be written."""
        return self.pe if self.pes == 1 else 2 * self.pe + (self.local & 1)

    @property
    def address(self) -> IntArray:
        """Address of each node's operand row in its bank: int64 [nodes]."""
        return self.local if self.pes == 1 else self.local >> 1

    @property
    def num_nodes(self) -> int:
        """Number of nodes."""
        return self.pe.size

    @property
    def rows(self) -> int:
        """Rows of the PE that has most."""
        return -(-self.num_nodes // self.pes)

    @property
    def nodes(self) -> IntArray:
        """Node at each local row of each PE: int64 [rows, pes], -1 where there is none."""
        table = np.full((self.rows, self.pes), -1, np.int64)
        table[self.local, self.pe] = np.arange(self.num_nodes)
        return table


@dataclass(frozen=True, eq=False)
class Schedule:
    """What every PE does in every step of a pass.

    Attributes:
        entry: int64 [steps, pes], the CSR entry that is read, -1 for none.
        last: bool [steps, pes], whether the record closes its row.
        slot: int64 [steps, pes], the open row that it belongs to: local row & 1; 0 in bubbles.
    """

    entry: IntArray
    last: BoolArray
    slot: IntArray

    @property
    def steps(self) -> int:
        """Number of steps."""
        return len(self.entry)

    @property
    def lost_conflict(self) -> int:
        """Bubbles of PEs that have rows to close: their banks were taken."""
        records = np.count_nonzero((self.entry >= 0) | self.last)
        return sum(self._busy_until) - int(records)

    @property
    def lost_imbalance(self) -> int:
        """Bubbles of PEs that have closed all their rows."""
        return self.entry.size - sum(self._busy_until)

    @cached_property
    def _busy_until(self) -> list[int]:
        """Return the number of steps until each PE has closed its last row."""
        return [
            int(np.flatnonzero(last)[-1]) + 1 if last.any() else 0 for last in self.last.transpose()
        ]


def num_banks(pes: int) -> int:
    """Return the number of banks of operand rows that feed `pes` processing elements."""
    return 1 if pes == 1 else 2 * pes


def place_rows(loads: IntArray, pes: int, groups: IntArray | None = None) -> Placement:
    """Give rows to PEs so that all PEs have about as many records in every kind of pass.

    The nodes of a group fill consecutive places `row * pes + PE`, group after group. One PE keeps
    the nodes' order inside groups.

    Args:
        loads: int64 [kinds, nodes], records of each node in each kind of pass, at least 1.
        pes: Processing elements, a power of two up to 64.
        groups: int64 [nodes], number of each node's group, from 0; None: one group.

    Raises:
        ValueError: loads, a number of PEs or groups that are not so.
    """
    if pes not in PES_CHOICES:
        raise ValueError(f"pes: {pes} is not a power of two up to {PES_CHOICES[-1]}")
    if loads.ndim != 2 or not loads.size or loads.min() < 1:
        raise ValueError("loads: not an array [kinds, nodes] of at least one record each")
    nodes = loads.shape[1]
    if groups is None:
        groups = np.zeros(nodes, np.int64)
    if groups.shape != (nodes,) or groups.min() < 0:
        raise ValueError(f"groups: not a number from 0 for each of {nodes} nodes")
    by_group = np.argsort(groups, kind="stable")
    owner, row = np.zeros(nodes, np.int64), np.arange(nodes)
    if pes > 1:
        relative = loads[:, by_group] * (pes / loads.sum(axis=1, keepdims=True))
        _, sizes = np.unique(groups, return_counts=True)
        bounds = np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)])
        owner, row = _balanced(relative, bounds, pes)
    pe, local = np.empty(nodes, np.int64), np.empty(nodes, np.int64)
    pe[by_group], local[by_group] = owner, row
    return Placement(pes, pe, local)


def _balanced(relative: FloatArray, bounds: IntArray, pes: int) -> tuple[IntArray, IntArray]:
    """Return owner and row of every node; nodes are numbered group after group.

    Args:
        relative: [kinds, nodes], loads in units of a PE's share.
        bounds: [groups + 1], first node of each group, and the number of nodes.
        pes: Processing elements, at least two.
    """
    from sgq_hw.list_scheduling import even_out  # noqa: PLC0415

    nodes = relative.shape[1]
    by_load = [
        first + np.argsort(-relative[:, first:end].sum(axis=0), kind="stable")
        for first, end in pairwise(bounds.tolist())
    ]
    pe, sums = _deal(relative, by_load, pes)
    even_out(relative, pe, sums, bounds, min(TRIES * nodes, MAX_TRIES))
    local = np.empty(nodes, np.int64)
    rows = np.zeros(pes, np.int64)
    for members in by_load:
        for owner in range(pes):
            owned = members[pe[members] == owner]
            local[_alternate(owned)] = rows[owner] + np.arange(owned.size)
            rows[owner] += owned.size
    return pe, local


def _deal(
    relative: FloatArray, by_load: Sequence[IntArray], pes: int
) -> tuple[IntArray, FloatArray]:
    """Deal rows to the PEs of their group's places, long rows to PEs with little load.

    Args:
        relative: [kinds, nodes], loads.
        by_load: Nodes of each group, from long to short rows.
        pes: Processing elements.

    Returns:
        [nodes], owners; [kinds, pes], sums of the loads of each PE.
    """
    kinds, nodes = relative.shape
    pe = np.empty(nodes, np.int64)
    sums = np.zeros((kinds, pes))
    # PEs of each group's places, one after the other: whole rounds, then a short one.
    owners = [(members.min() + np.arange(members.size)) % pes for members in by_load]
    # Groups of long rows first: short rows even out what those leave.
    means = [relative[:, members].sum() / members.size for members in by_load]
    order = np.argsort(means, kind="stable")[::-1].tolist()
    for turn, group in enumerate(order):
        # A hub should go where the other rows weigh least, be they as short as they can. One group
        # needs no such care: the rule for its last round is enough.
        to_come = np.zeros((kinds, pes))
        for other in order[turn:] if len(order) > 1 else ():
            least = relative[:, by_load[other]].min(axis=1, keepdims=True)
            to_come += least * np.bincount(owners[other], minlength=pes)
        for first in range(0, by_load[group].size, pes):
            dealt = by_load[group][first : first + pes]
            # The round that is short goes to the first PEs: hubs should go to the others, with a
            # row less, so equal sums are taken from the end.
            backwards = owners[group][first : first + pes][::-1]
            expected = (sums + to_come)[:, backwards].sum(axis=0)
            light_first = backwards[np.argsort(expected, kind="stable")]
            pe[dealt] = light_first
            sums[:, light_first] += relative[:, dealt]
    return pe, sums


def _alternate(rows: IntArray) -> IntArray:
    """Order the rows of a PE, given from long to short, so that one open row is always long.

    The more records are left in its open rows, the better a PE can choose. Long rows are often
    read, so they change from odd to even places half way (L S .. L S L, L S L S ..), which loads
    both banks of the PE alike.
    """
    quarter = (rows.size + 1) // 4
    split = rows.size - 2 * quarter
    longs = quarter + (split + 1) // 2
    long, short = rows[:longs], rows[longs:]
    order = np.empty_like(rows)
    order[(split + 1) % 2 : split : 2] = long[0::2]
    order[split % 2 : split : 2] = short[quarter:]
    order[split::2] = long[1::2]
    order[split + 1 :: 2] = short[:quarter]
    return order


def schedule_rows(
    indptr: IntArray,
    operand_bank: IntArray,
    operand_address: IntArray,
    placement: Placement,
    first: IntArray | None = None,
) -> Schedule:
    """Schedule a pass. The same arguments give the same schedule.

    One PE reads row by row, and a row in CSR order.

    Args:
        indptr: int64 [nodes + 1], row starts of S in CSR form.
        operand_bank: int64 [entries], bank of the operand of each entry.
        operand_address: int64 [entries], its address there.
        placement: Owners of the rows.
        first: int64 [nodes], the entry that each row, none of them empty, begins with; None: any.

    Raises:
        ValueError: arrays that do not fit together, a bank that there is not.
    """
    _check_arguments(indptr, operand_bank, operand_address, placement)
    lengths = np.diff(indptr)
    row = np.repeat(np.arange(lengths.size), lengths)
    entries = np.arange(row.size)
    if first is not None:
        # The entries before it move back by one.
        entries = np.lexsort((entries, entries != first[row], row))
    if placement.pes == 1:
        walked = placement.nodes[:, 0]
        closed_in = np.empty(lengths.size, np.int64)
        closed_in[walked] = np.cumsum(np.maximum(lengths, 1)[walked]) - 1
        steps = int(closed_in[walked[-1]]) + 1
        read_in = np.empty(row.size, np.int64)
        read_in[entries] = closed_in[row] - (indptr[row + 1] - 1 - np.arange(row.size))
    else:
        from sgq_hw.list_scheduling import Work, list_schedule  # noqa: PLC0415

        work = Work(
            rows=placement.nodes,
            owned=np.bincount(placement.pe, minlength=placement.pes),
            starts=np.ascontiguousarray(indptr[:-1]),
            lengths=lengths,
            entries=entries,
            row=row,
            bank=operand_bank,
            word=_words(operand_bank, operand_address),
            first_fixed=first is not None,
        )
        read_in, closed_in, steps = list_schedule(work, placement.banks)

    shape = (steps, placement.pes)
    entry = np.full(shape, -1, np.int64)
    last = np.zeros(shape, np.bool_)
    slot = np.zeros(shape, np.int64)
    entry[read_in, placement.pe[row]] = np.arange(row.size)
    slot[read_in, placement.pe[row]] = placement.local[row] & 1
    last[closed_in, placement.pe] = True
    slot[closed_in, placement.pe] = placement.local & 1
    return Schedule(entry, last, slot)


def lower_bound(
    indptr: IntArray, operand_bank: IntArray, operand_address: IntArray, placement: Placement
) -> int:
    """Return a number of steps that no schedule of a pass can beat.

    A PE reads a record a step. A bank delivers each word at least as often as the PE reads it
    that reads it most.

    Args:
        indptr: int64 [nodes + 1], row starts of S in CSR form.
        operand_bank: int64 [entries], bank of the operand of each entry.
        operand_address: int64 [entries], its address there.
        placement: Owners of the rows.

    Raises:
        ValueError: arrays that do not fit together, a bank that there is not.
    """
    _check_arguments(indptr, operand_bank, operand_address, placement)
    lengths = np.diff(indptr)
    records = np.bincount(placement.pe, np.maximum(lengths, 1), placement.pes)
    if not operand_bank.size:
        return int(records.max())
    word, bank_at = np.unique(_words(operand_bank, operand_address), return_inverse=True)
    readers, reads = np.unique(
        bank_at * placement.pes + np.repeat(placement.pe, lengths), return_counts=True
    )
    deliveries = np.zeros(word.size, np.int64)
    np.maximum.at(deliveries, readers // placement.pes, reads)
    bank = word // (int(operand_address.max()) + 1)
    return int(max(records.max(), np.bincount(bank, deliveries).max()))


def check_schedule(
    schedule: Schedule,
    indptr: IntArray,
    operand_bank: IntArray,
    operand_address: IntArray,
    placement: Placement,
    first: IntArray | None = None,
) -> None:
    """Check a schedule against every rule, record by record, sharing nothing with the scheduler.

    Args:
        schedule: The schedule.
        indptr: int64 [nodes + 1], row starts of S in CSR form.
        operand_bank: int64 [entries], bank of the operand of each entry.
        operand_address: int64 [entries], its address there.
        placement: Owners of the rows.
        first: int64 [nodes], the entry that each row begins with; None: any.

    Raises:
        ValueError: a rule that is broken; names step and PE.
    """
    for array in (schedule.entry, schedule.last, schedule.slot):
        if array.shape != (schedule.steps, placement.pes):
            raise ValueError(f"schedule: shape {array.shape}, {placement.pes} PEs")
    check = _Check(indptr, placement, None if first is None else first.tolist())
    bank, address = operand_bank.tolist(), operand_address.tolist()
    for step in range(schedule.steps):
        delivers: dict[int, int] = {}
        records = zip(
            schedule.entry[step].tolist(),
            schedule.last[step].tolist(),
            schedule.slot[step].tolist(),
            strict=True,
        )
        for pe, (entry, last, slot) in enumerate(records):
            fault = check.record(pe, entry, last, slot)
            if not fault and entry >= 0:
                word = delivers.setdefault(bank[entry], address[entry])
                if word != address[entry]:
                    fault = f"bank {bank[entry]} delivers {word}, not {address[entry]}"
            if fault:
                raise ValueError(f"step {step}, PE {pe}: {fault}")
    for pe in range(placement.pes):
        if check.closed[pe] != len(check.rows[pe]):
            raise ValueError(
                f"step {schedule.steps}, PE {pe}: the schedule ends before row "
                f"{check.rows[pe][check.closed[pe]]} closes"
            )


class _Check:
    """What a schedule has done so far, told record by record.

    Attributes:
        rows: Rows of each PE, in order.
        closed: How many of them each PE has closed.
    """

    def __init__(
        self, indptr: IntArray, placement: Placement, first: list[int] | None
    ) -> None:
        self.first = first
        self.lengths: list[int] = np.diff(indptr).tolist()
        self.row_of = [row for row, length in enumerate(self.lengths) for _ in range(length)]
        self.pe_of: list[int] = placement.pe.tolist()
        self.local_of: list[int] = placement.local.tolist()
        self.rows: list[list[int]] = [[] for _ in range(placement.pes)]
        for row in sorted(range(len(self.lengths)), key=self.local_of.__getitem__):
            self.rows[self.pe_of[row]].append(row)
        self.closed = [0] * placement.pes
        self.left = self.lengths.copy()
        self.read = [False] * len(self.row_of)

    def record(self, pe: int, entry: int, last: bool, slot: int) -> str:
        """Take the next record of a PE; return what is wrong with it, or nothing."""
        if entry == -1 and not last:
            return f"slot {slot} in a bubble" if slot else ""
        if not -1 <= entry < len(self.row_of):
            return f"there is no entry {entry}"
        if self.closed[pe] == len(self.rows[pe]):
            return "a record after the last row"
        older = self.rows[pe][self.closed[pe]]
        row = older if entry == -1 else self.row_of[entry]
        fault = self._wrong_row(pe, row, slot) or self._wrong_entry(row, entry)
        if not fault and last != (self.left[row] == 0):
            fault = f"last is {int(last)} where row {row} has {self.left[row]} records left"
        if not fault and last and row != older:
            fault = f"row {row} closes before row {older}"
        self.closed[pe] += last
        return fault

    def _wrong_row(self, pe: int, row: int, slot: int) -> str:
        """Return what is wrong with a record of this row."""
        local = self.local_of[row]
        if self.pe_of[row] != pe:
            return f"row {row} belongs to PE {self.pe_of[row]}"
        if local not in (self.closed[pe], self.closed[pe] + 1):
            return f"row {row} is not open"
        if slot != local & 1:
            return f"slot {slot} for row {row}, which is local row {local}"
        return ""

    def _wrong_entry(self, row: int, entry: int) -> str:
        """Take an entry off its row; return what is wrong with that."""
        if entry == -1:
            return f"row {row} is not empty" if self.lengths[row] else ""
        if self.read[entry]:
            return f"entry {entry} is read twice"
        begins = self.left[row] == self.lengths[row]
        if begins and self.first is not None and self.first[row] != entry:
            return f"row {row} begins with entry {entry}, not {self.first[row]}"
        self.read[entry] = True
        self.left[row] -= 1
        return ""


def _words(bank: IntArray, address: IntArray) -> IntArray:
    """Return one number for each bank and address."""
    return bank * (int(address.max(initial=0)) + 1) + address


def _check_arguments(
    indptr: IntArray, operand_bank: IntArray, operand_address: IntArray, placement: Placement
) -> None:
    """Refuse what compiled loops, which check no index, would read beyond."""
    if indptr.size != placement.num_nodes + 1:
        raise ValueError(f"indptr: {indptr.size - 1} rows, {placement.num_nodes} nodes are placed")
    entries = int(indptr[-1])
    if indptr[0] != 0 or np.diff(indptr).min() < 0:
        raise ValueError("indptr: does not rise from 0")
    if operand_bank.shape != (entries,) or operand_address.shape != (entries,):
        raise ValueError(f"operands: {operand_bank.size} and {operand_address.size}, not {entries}")
    if entries and not 0 <= operand_bank.min() <= operand_bank.max() < placement.banks:
        raise ValueError(f"operand_bank: not all in [0, {placement.banks})")
    if entries and operand_address.min() < 0:
        raise ValueError("operand_address: below 0")
