"""Passes over drawn rows as processing elements (PEs) see them, for benches of the data path.

A pass walks a matrix S, whose rows are placed on the PEs, and reads operand rows from banks. What a
bench expects of it is a list of steps, each with a record of every PE. `accumulate` proves such a
list: with the meaning that records have, it adds up to what a golden function says.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from sgq_hw.golden.feature_buffer import feature_buffer
from sgq_hw.golden.fixed_point import IntArray
from sgq_hw.schedule import Placement, schedule_rows
from sgq_hw.sim.bench import Bench, draw_bits, draw_codes, pack
from sgq_hw.sim.stream import PATTERNS, pause_pattern

LONG_PASS = 60
"""Operations from which on long pauses would only cost time."""
LOOSE_SHARE = 0.1
"""Share of steps that are taken apart, and share before which all PEs idle."""


@dataclass(frozen=True, slots=True)
class Record:
    """What one PE does in a step.

    Attributes:
        mac: Add `value` times the operand row.
        last: Close the row.
        slot: The open row that it belongs to.
        operand: The operand row.
        bank, row: Where that lies: bank, and address there.
        value: The factor.
    """

    mac: bool = False
    last: bool = False
    slot: int = 0
    operand: int = 0
    bank: int = 0
    row: int = 0
    value: int = 0


Step = Sequence[Record]
"""A record of every PE."""


@dataclass(frozen=True, eq=False)
class Matrix:
    """A walked matrix in CSR form."""

    indptr: IntArray
    indices: IntArray
    values: IntArray

    @classmethod
    def make(cls, rows: Sequence[Sequence[tuple[int, int]]]) -> "Matrix":
        """Return the matrix with these rows of (column, value)."""
        return cls(
            np.cumsum([0] + [len(row) for row in rows]),
            np.array([column for row in rows for column, _ in row], np.int64),
            np.array([value for row in rows for _, value in row], np.int64),
        )


def draw_matrix(
    rng: np.random.Generator, rows: int, columns: int, values: tuple[int, int], *, empty: bool
) -> Matrix:
    """Draw rows of one entry, of some, of all columns, and without any if `empty`."""
    lengths = [1, columns, *rng.integers(1, columns + 1, 2), *[0] * (2 * empty)]
    found = []
    for length in rng.choice(lengths, rows):
        walked = rng.permutation(columns)[:length].tolist()
        found.append(list(zip(walked, draw_codes(rng, *values, length).tolist(), strict=True)))
    return Matrix.make(found)


def draw_placement(rng: np.random.Generator, nodes: int, pes: int) -> Placement:
    """Draw owners of rows; one PE keeps their order."""
    places = rng.permutation(nodes) if pes > 1 else np.arange(nodes)
    return Placement(pes, places % pes, places // pes)


def scheduled(
    matrix: Matrix, placement: Placement, bank: IntArray, address: IntArray
) -> list[Step]:
    """Schedule a pass over a matrix whose columns are operand rows, there by bank and address."""
    banks, addresses = bank[matrix.indices], address[matrix.indices]
    schedule = schedule_rows(matrix.indptr, banks, addresses, placement)
    slots = schedule.slot if placement.pes > 1 else np.zeros_like(schedule.slot)
    columns = [matrix.indices.tolist(), banks.tolist(), addresses.tolist(), matrix.values.tolist()]
    return [
        [
            Record(entry >= 0, last, slot, *(column[entry] for column in columns))
            if entry >= 0
            else Record(False, last, slot)
            for entry, last, slot in zip(*step, strict=True)
        ]
        for step in zip(
            schedule.entry.tolist(), schedule.last.tolist(), slots.tolist(), strict=True
        )
    ]


def loosened(rng: np.random.Generator, steps: Sequence[Step]) -> list[Step]:
    """Add what no schedule needs: steps in which all PEs idle, rows that close later."""
    found: list[Step] = []
    for step in steps:
        if rng.random() < LOOSE_SHARE:
            found.append([Record()] * len(step))
        if rng.random() < LOOSE_SHARE:
            found.append([replace(record, last=False) for record in step])
            found.append([Record(last=record.last, slot=record.slot) for record in step])
        else:
            found.append(step)
    return found


def lockstep(codes: IntArray, placement: Placement) -> list[Step]:
    """Return the steps in which the PEs walk their complete rows, all at the same channel."""
    banks, inputs = placement.banks, codes.shape[1]
    slots = 1 if placement.pes == 1 else 2
    return [
        [
            Record(
                True, channel == inputs - 1, local % slots, channel, channel % banks,
                channel // banks, int(codes[node, channel]),
            )
            if node >= 0
            else Record()
            for node in nodes
        ]
        for local, nodes in enumerate(placement.nodes.tolist())
        for channel in range(inputs)
    ]  # fmt: skip


def bank_words(
    codes: IntArray, bank: IntArray, address: IntArray, banks: int, lanes: int, stride: int
) -> list[IntArray]:
    """Lay operand rows out in banks; return the words of each, int64 [chunks * stride, lanes]."""
    found = []
    for number in range(banks):
        rows = np.zeros((stride, codes.shape[1]), np.int64)
        rows[address[bank == number]] = codes[bank == number]
        found.append(feature_buffer(rows, lanes, stride))
    return found


def accumulate(
    steps: Sequence[Step], placement: Placement, words: Sequence[IntArray], bases: Sequence[int]
) -> IntArray:
    """Return what steps add up to, int64 [rows, chunks], with one number as a word.

    Args:
        steps: The steps of a pass.
        placement: Owners of the rows.
        words: Operand words of each bank.
        bases: First word of each chunk in every bank.
    """
    rows = placement.nodes
    sums = np.zeros((placement.num_nodes, len(bases)), np.int64)
    closed = [0] * placement.pes
    for step in steps:
        for pe, record in enumerate(step):
            local = closed[pe] + (placement.pes > 1 and record.slot != closed[pe] % 2)
            for chunk, base in enumerate(bases if record.mac else ()):
                term = record.value * words[record.bank][base + record.row].item()
                sums[rows[local, pe], chunk] += term
            closed[pe] += record.last
    assert closed == np.bincount(placement.pe, minlength=placement.pes).tolist()
    return sums


def record_word(
    rng: np.random.Generator, fields: Sequence[tuple[str, int, int]], record: Record
) -> int:
    """Return a record as fields (name, bits, lowest bit) hold it; what it does not need is junk."""
    codes = {"last": int(record.last), "valid": int(record.mac)}
    if record.mac or record.last:
        codes["slot"] = record.slot
    if record.mac:
        codes |= {"bank": record.bank, "address": record.row, "value": record.value}
    word = 0
    for name, bits, low in fields:
        word |= pack([codes.get(name, draw_bits(rng, bits))], bits) << low
    return word


def draw_pauses(rng: np.random.Generator, cycles: int) -> tuple[Iterator[bool], Iterator[bool]]:
    """Draw two pause patterns for a pass of that many busy cycles; at most one pauses for long."""
    short = ("none", "p10")
    names = [str(rng.choice(PATTERNS if cycles <= LONG_PASS else short)), str(rng.choice(short))]
    rng.shuffle(names)
    return pause_pattern(names[0]), pause_pattern(names[1])


class ReadPort:
    """The reading side of a memory: data follow a read by a cycle and stay until the next one."""

    def __init__(self, words: Sequence[int], junk: int) -> None:
        """Take the memory's words, and the data before the first read."""
        self.words = words
        self.data = junk

    def read(self, address: int) -> None:
        """End a cycle in which `re` is high."""
        self.data = self.words[address]


@dataclass(frozen=True)
class Issue:
    """What a front end issues in one cycle.

    Attributes:
        step: A record of every PE.
        chunk: Chunk of the result rows.
        last_chunk: Whether it is the last one; the step ends with it.
        end: Whether the pass ends with it.
        base: First operand word of the chunk.
        score: Whether the operands are scores.
    """

    step: Step
    chunk: int
    last_chunk: bool
    end: bool
    base: int
    score: bool = False


def issues(
    steps: Sequence[Step], bases: Sequence[int], score_bases: Sequence[int] = ()
) -> list[Issue]:
    """Return what a front end issues in a pass, cycle by cycle.

    Args:
        steps: The steps of the pass.
        bases: First operand words of the chunks.
        score_bases: Those of the words of scores, which come first.
    """
    last = len(bases) - 1
    found = []
    for position, step in enumerate(steps):
        final = position == len(steps) - 1
        found += [
            Issue(step, chunk, False, False, base, score=True)
            for chunk, base in enumerate(score_bases)
        ]
        found += [
            Issue(step, chunk, chunk == last, chunk == last and final, base)
            for chunk, base in enumerate(bases)
        ]
    return found


def check_issue(bench: Bench, info: dict[str, Any], issued: Issue | None) -> None:
    """Compare the step that a front end issues in this cycle; only what it needs counts."""
    where = f"cycle {bench.cycles}: {issued}"
    assert bench.read("step_valid") == (issued is not None), where
    if issued is None:
        return
    wanted = {
        "step_end": issued.end, "step_chunk": issued.chunk, "step_base": issued.base,
        "step_last_chunk": issued.last_chunk,
        "step_mac": pack([record.mac for record in issued.step], 1),
        "step_last": pack([record.last for record in issued.step], 1),
    }  # fmt: skip
    if info.get("has_gat"):
        wanted["step_score"] = issued.score
    got = {name: bench.read(name) for name in wanted}
    assert got == wanted, f"{where}, got {got}"
    slots = bench.parts("step_slot", 1) if info["SLOTS"] > 1 else [0]
    banks = bench.parts("step_bank", info["BANK_BITS"])
    rows = bench.parts("step_row", info["OPERAND_ROW_BITS"])
    values = bench.parts("step_value", info["VALUE_BITS"])
    for pe, record in enumerate(issued.step):
        if record.mac or record.last:
            assert slots[pe] == record.slot, f"{where}, PE {pe}: slot {slots[pe]}"
        if record.mac:
            have = banks[pe], rows[pe], values[pe]
            want = record.bank, record.row, pack([record.value], info["VALUE_BITS"])
            assert have == want, f"{where}, PE {pe}: {have} instead of {want}"
