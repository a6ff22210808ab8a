"""Bench of `attention_weights`: every weight, reciprocal and exponent changes in its cycle.

In every other cycle it stays as it is; what it changes to comes from the golden functions.
"""

from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import cocotb
import numpy as np
from cocotb.types import LogicArray

from sgq_hw.attention_timing import WEIGHT_LATENCY, reciprocal_latency
from sgq_hw.golden.attention_unit import AttentionTable, attention_weights, reciprocals
from sgq_hw.golden.fixed_point import IntArray, code_range
from sgq_hw.golden.rows import reduce_rows
from sgq_hw.sim.bench import Bench, draw_bits, draw_codes, generator, pack, settings

ROWS = 24
MOST_EDGES = 6
RECIPROCAL_BITS = 16


@dataclass(frozen=True)
class Record:
    """One record of a row.

    Attributes:
        slot: Slot of its row.
        first: Whether it is the row's first one.
        last: Whether it ends the row.
        edge: Its edge, or None where it adds nothing.
        row: Its row.
    """

    slot: int
    first: bool
    last: bool
    edge: int | None
    row: int


@dataclass(frozen=True)
class Rows:
    """Rows of a pass, and what follows from them.

    Attributes:
        bounds: With the rounding constant, [rows, lanes of all groups].
        logits: [edges, lanes of all groups].
        weights: As the logits.
        exponents: [rows, lanes of all groups].
        reciprocals: As the exponents.
    """

    bounds: IntArray
    logits: IntArray
    weights: IntArray
    exponents: IntArray
    reciprocals: IntArray


class Weights:
    """The unit with its tables: sends records, checks all outputs in each cycle."""

    def __init__(self, dut: Any) -> None:
        self.bench = Bench(dut)
        self.rng = generator()
        self.values: dict[str, Any] = settings()
        values = self.values
        heads, self.bits = values["HEAD_LANES"], int(values["LOGIT_BITS"])
        self.length = 1 << values["INDEX_BITS"]
        self.tables = int(values.get("TABLES", 1))
        self.widths = {
            "in_group": values["GROUP_BITS"], "in_first": 1, "in_last": 1, "in_mac": 1,
            "in_bound": heads * (self.bits + 1), "in_logit": heads * self.bits,
        }  # fmt: skip
        if values["SLOTS"] > 1:
            self.widths["in_slot"] = 1
        self.outputs = {
            "weights": values["WEIGHT_BITS"], "reciprocals": RECIPROCAL_BITS,
            "exponents": values["EXPONENT_BITS"],
        }  # fmt: skip
        self.delays = dict.fromkeys(self.outputs, reciprocal_latency(values["STEPS"]))
        self.delays["weights"] = WEIGHT_LATENCY
        most = values["GROUPS"] * heads
        # None where a head's number has no meaning.
        self.state: dict[str, list[int | None]] = {name: [None] * most for name in self.outputs}
        self.changes: dict[int, list[tuple[str, int, list[int | None]]]] = {}
        self.constants: dict[str, int] = {"table_we": 0, "table_waddr": 0, "table_wdata": 0}
        self.codes: list[IntArray] = []
        self.table = AttentionTable(np.zeros(0, np.int64), 0, values["WEIGHT_BITS"])
        self.groups = 1
        self.events: Counter[str] = Counter()

    async def start(self) -> None:
        """Reset and load random tables."""
        self.constants["index_shift"] = 0
        if self.tables > 1:
            self.constants["table_select"] = 0
        await self.bench.start(in_valid=0, **self._junk(), **self.constants)
        largest = (1 << self.values["WEIGHT_BITS"]) - 1
        self.codes = [draw_codes(self.rng, 0, largest, self.length) for _ in range(self.tables)]
        for codes in self.codes:
            codes[0] = largest  # a bound that is reached has the largest weight
        words = np.concatenate(self.codes)
        for address in self.rng.permutation(len(words)).tolist():
            await self.cycle(table_we=1, table_waddr=address, table_wdata=int(words[address]))

    def _junk(self) -> dict[str, int]:
        return {name: draw_bits(self.rng, bits) for name, bits in self.widths.items()}

    async def cycle(
        self, inputs: dict[str, int | LogicArray] | None = None, rst: int = 0, **others: int
    ) -> None:
        """Offer a group, or none, and check the outputs."""
        valid = int(inputs is not None)
        driven = (self._junk() | self.constants | others) | (inputs or {})
        await self.bench.cycle(rst=rst, in_valid=valid, **driven)
        for name, group, parts in self.changes.pop(self.bench.cycles, []):
            first = group * len(parts)
            self.state[name][first : first + len(parts)] = parts
        for name, bits in self.outputs.items():
            got = self.bench.parts(name, bits)
            wanted = self.state[name]
            same = all(want is None or want == part for part, want in zip(got, wanted, strict=True))
            assert same, f"cycle {self.bench.cycles}, {name}: {wanted}, got {got}"
        if rst:
            # What would change now may do so; nothing does later.
            for name, group, parts in self.changes.get(self.bench.cycles + 1, []):
                first = group * len(parts)
                self.state[name][first : first + len(parts)] = [None] * len(parts)
            self.changes.clear()

    def begin_pass(self) -> None:
        """Choose table, shift and number of groups, while no group is in flight."""
        assert not self.changes
        number = self.events["passes"]
        self.events["passes"] += 1
        shifts = self.values["shifts"]
        table, shift = number % self.tables, int(shifts[number % len(shifts)])
        self.table = AttentionTable(self.codes[table], shift, self.table.bits)
        self.constants["index_shift"] = shift
        if self.tables > 1:
            self.constants["table_select"] = table
        most = self.values["GROUPS"]
        self.groups = [most, 1, int(self.rng.integers(1, most + 1))][min(number, 2)]

    def draw_rows(self, count: int) -> tuple[Rows, IntArray]:
        """Draw rows, some of them empty, one the longest there may be; also return their starts."""
        rng, lanes = self.rng, self.groups * self.values["HEAD_LANES"]
        longest = self.values["row_edges"]
        degrees = rng.integers(0, min(longest, MOST_EDGES) + 1, count)
        hub = int(rng.integers(count))
        degrees[hub] = longest
        indptr = np.concatenate([[0], np.cumsum(degrees)])
        low, high = code_range(self.bits, True)
        bounds = draw_codes(rng, low, high, (count, lanes))
        # Differences from below 0 to some beyond the table, and whole rows without any weight.
        end = self.length << self.table.index_shift
        differences = rng.integers(-2, end + end // 4 + 2, (int(indptr[-1]), lanes))
        rows = np.repeat(np.arange(count), degrees)
        differences[rng.random(differences.shape) < 0.2] = 0
        differences[(rng.random((count, lanes)) < 0.2)[rows]] += 2 * end
        differences[rows == hub] = 0
        logits = np.clip(bounds[rows] - differences, low, high)
        weights = attention_weights(indptr, logits, bounds, self.table).codes
        sums = reduce_rows(indptr, weights, np.add)
        exponents, factors = reciprocals(sums)
        self.events.update(
            empty=int((degrees == 0).sum()), zeroed=int((sums[degrees > 0] == 0).sum()),
            full=int((sums == longest * ((1 << self.table.bits) - 1)).sum()),
        )  # fmt: skip
        rounded = bounds + (1 << self.table.index_shift >> 1)
        return Rows(rounded, logits, weights, exponents, factors), indptr

    def records(self, indptr: IntArray) -> list[Record]:
        """Return records of all rows: those of two slots in any order, and some that do nothing."""
        rng, slots = self.rng, self.values["SLOTS"]
        queues: list[list[Record]] = [[] for _ in range(slots)]
        for row, (start, end) in enumerate(pairwise(indptr.tolist())):
            slot = row % slots
            edges: list[int | None] = list(range(start, end)) or [None]
            if end > start and rng.random() < 0.2:
                edges.append(None)  # closes a row that has edges
            queues[slot] += [
                Record(slot, index == 0, index == len(edges) - 1, edge, row)
                for index, edge in enumerate(edges)
            ]
        found: list[Record] = []
        while any(queues):
            if rng.random() < 0.2:
                slot, first = int(rng.integers(slots)), bool(rng.random() < 0.5)
                found.append(Record(slot, first, False, None, 0))
            queue = queues[int(rng.integers(slots))]
            burst = int(rng.integers(1, 4))
            found += queue[:burst]
            del queue[:burst]
        self.events["interleaved"] += sum(
            not before.last and after.slot != before.slot and not after.first
            for before, after in pairwise(found)
        )
        return found

    def _inputs(self, rows: Rows, record: Record, group: int) -> dict[str, int | LogicArray]:
        heads = self.values["HEAD_LANES"]
        part = slice(group * heads, (group + 1) * heads)
        inputs: dict[str, int | LogicArray] = {
            "in_group": group, "in_first": int(record.first), "in_last": int(record.last),
            "in_mac": int(record.edge is not None),
        }  # fmt: skip
        if self.values["SLOTS"] > 1:
            inputs["in_slot"] = record.slot
        if record.edge is None:  # its operands are anything at all
            for name in ("in_bound", "in_logit"):
                inputs[name] = LogicArray("X" * self.widths[name])
        else:
            inputs["in_bound"] = pack(rows.bounds[record.row, part], self.bits + 1)
            inputs["in_logit"] = pack(rows.logits[record.edge, part], self.bits)
        return inputs

    def _expect(self, rows: Rows, record: Record, group: int) -> None:
        heads = self.values["HEAD_LANES"]
        part = slice(group * heads, (group + 1) * heads)
        changes: dict[str, list[int | None]] = {"weights": [None] * heads}
        if record.edge is not None:
            changes["weights"] = rows.weights[record.edge, part].tolist()
        if record.last:
            changes["reciprocals"] = rows.reciprocals[record.row, part].tolist()
            changes["exponents"] = rows.exponents[record.row, part].tolist()
        for name, parts in changes.items():
            then = self.bench.cycles + 1 + self.delays[name]
            self.changes.setdefault(then, []).append((name, group, parts))

    async def send(self, rows: Rows, record: Record, gaps: float) -> None:
        """Send the groups of a record, with gaps between them."""
        for group in range(self.groups):
            while gaps and self.rng.random() < gaps:
                await self.cycle()
            self._expect(rows, record, group)
            await self.cycle(self._inputs(rows, record, group))

    async def drain(self) -> None:
        """Wait until nothing changes any more."""
        for _ in range(max(self.delays.values()) + 2):
            await self.cycle()
        assert not self.changes


@cocotb.test(timeout_time=10, timeout_unit="ms")
async def records_back_to_back(dut: Any) -> None:
    """A group in every cycle; passes of other tables, shifts and numbers of groups."""
    unit = Weights(dut)
    await unit.start()
    for _ in range(unit.values["passes"]):
        unit.begin_pass()
        rows, indptr = unit.draw_rows(ROWS)
        for record in unit.records(indptr):
            await unit.send(rows, record, gaps=0.0)
        await unit.drain()
    seen = {name for name, count in unit.events.items() if count}
    assert seen >= set(unit.values["events"]), unit.events


@cocotb.test(timeout_time=10, timeout_unit="ms")
async def gaps(dut: Any) -> None:
    """Gaps between groups and records, few and many."""
    unit = Weights(dut)
    await unit.start()
    for often in (0.1, 0.5, 0.9):
        unit.begin_pass()
        rows, indptr = unit.draw_rows(ROWS // 3)
        for record in unit.records(indptr):
            await unit.send(rows, record, gaps=often)
        await unit.drain()


@cocotb.test(timeout_time=10, timeout_unit="ms")
async def resets(dut: Any) -> None:
    """A reset at any place: what was in flight changes nothing later, and tables are kept."""
    unit = Weights(dut)
    await unit.start()
    for _ in range(10):
        unit.begin_pass()
        rows, indptr = unit.draw_rows(ROWS // 4)
        records = unit.records(indptr)
        for record in records[: int(unit.rng.integers(len(records) + 1))]:
            await unit.send(rows, record, gaps=0.1)
        for _ in range(int(unit.rng.integers(1, 3))):
            await unit.cycle(rst=1)
        for _ in range(int(unit.rng.integers(3))):
            await unit.cycle()
        for record in records:
            await unit.send(rows, record, gaps=0.0)
        await unit.drain()
