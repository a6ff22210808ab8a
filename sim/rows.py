"""Rows of records and the operations they mean, for the benches of the front ends and the array."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from sgq_hw.golden.fixed_point import IntArray
from sgq_hw.sim.bench import Bench, draw_codes, pack
from sgq_hw.sim.stream import PATTERNS, pause_pattern

LONG_PASS = 60
"""Operations from which on long pauses would only cost time."""


@dataclass(frozen=True)
class Record:
    """A walked entry: row of the operand matrix and value; without `mac` it adds nothing."""

    operand: int
    value: int
    mac: bool = True


@dataclass(frozen=True)
class Operation:
    """What a front end issues in one cycle; `address` is that of the operand word."""

    row: int
    first: bool
    last: bool
    chunk: int
    last_chunk: bool
    mac: bool
    value: int
    address: int


Rows = Sequence[Sequence[Record]]


def operations(rows: Rows, chunks: int, stride: int, base: int = 0) -> list[Operation]:
    """Return the operations of a pass; operand words lie at `base + chunk * stride + k`."""
    return [
        Operation(
            row, position == 0, position == len(records) - 1, chunk, chunk == chunks - 1,
            record.mac, record.value, base + chunk * stride + record.operand,
        )
        for row, records in enumerate(rows)
        for position, record in enumerate(records)
        for chunk in range(chunks)
    ]  # fmt: skip


def accumulate(operations: Sequence[Operation], memory: IntArray, chunks: int) -> IntArray:
    """Return what operations add up to, int64 [rows, chunks], with one number as a word."""
    sums = np.zeros((operations[-1].row + 1, chunks), np.int64)
    for operation in operations:
        if operation.mac:
            sums[operation.row, operation.chunk] += operation.value * memory[operation.address]
    return sums


def csr(rows: Rows) -> tuple[IntArray, IntArray, IntArray]:
    """Return (indptr, indices, values) of the records that add something."""
    added = [[record for record in row if record.mac] for row in rows]
    return (
        np.cumsum([0] + [len(row) for row in added]),
        np.array([record.operand for row in added for record in row], np.int64),
        np.array([record.value for row in added for record in row], np.int64),
    )


def draw_rows(
    rng: np.random.Generator, count: int, operands: int, values: tuple[int, int], *, empty: bool
) -> list[list[Record]]:
    """Draw rows of one entry, of some, of all columns, and without any if `empty`."""
    lengths = [1, operands, *rng.integers(1, operands + 1, 2), *[0] * (2 * empty)]
    rows = []
    for length in rng.choice(lengths, count):
        columns = np.sort(rng.permutation(operands)[:length]).tolist()
        codes = draw_codes(rng, *values, len(columns)).tolist()
        entries = [Record(k, code) for k, code in zip(columns, codes, strict=True)]
        rows.append(entries or [Record(0, 0, mac=False)])
    return rows


def draw_pauses(rng: np.random.Generator, cycles: int) -> tuple[Iterator[bool], Iterator[bool]]:
    """Draw two pause patterns for a pass of that many busy cycles; at most one pauses for long."""
    short = ("none", "p10")
    names = [str(rng.choice(PATTERNS if cycles <= LONG_PASS else short)), str(rng.choice(short))]
    rng.shuffle(names)
    return pause_pattern(names[0]), pause_pattern(names[1])


class ReadPort:
    """The reading side of a memory: data follows `re` by a cycle and stays while `re` is low."""

    def __init__(self, words: Sequence[int], junk: int) -> None:
        """Take the memory's words, and the data before the first read."""
        self.words = words
        self.data = junk

    def clock(self, re: int, address: int) -> None:
        """End a cycle."""
        if re:
            self.data = self.words[address]


def check_operation(bench: Bench, value_bits: int, issued: Operation | None) -> None:
    """Compare the operation that leaves a front end with what it issued in the cycle before."""
    assert bench.read("op_valid") == (issued is not None), f"cycle {bench.cycles}: {issued}"
    if issued is None:
        return
    wanted = {
        "op_mac": issued.mac, "op_first": issued.first, "op_last": issued.last,
        "op_chunk": issued.chunk, "op_last_chunk": issued.last_chunk,
    }  # fmt: skip
    if issued.mac:
        wanted["op_value"] = pack([issued.value], value_bits)
    got = {name: bench.read(name) for name in wanted}
    assert got == wanted, f"cycle {bench.cycles}: {issued}, got {got}"
