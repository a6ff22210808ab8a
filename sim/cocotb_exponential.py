"""Bench of `exponential`: differences to the end of the table and beyond, for every shift."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import cocotb
import numpy as np

from sgq_hw.golden.attention_unit import AttentionTable, exponential
from sgq_hw.golden.fixed_point import IntArray, code_range
from sgq_hw.sim.bench import draw_codes, pack, settings
from sgq_hw.sim.pipeline import Pipeline, Word

LATENCY = 4
AROUND = 3
"""Neighbours of a corner that are tried too."""


class Exponentials:
    """The unit with its tables."""

    def __init__(self, dut: Any) -> None:
        self.values = settings()
        values, lanes = self.values, self.values["LANES"]
        self.bits = int(values["LOGIT_BITS"])
        self.length = 1 << values["INDEX_BITS"]
        self.tables = values.get("TABLES", 1)
        widths = {"in_bound": lanes * (self.bits + 1), "in_logit": lanes * self.bits}
        self.unit = Pipeline(dut, LATENCY, widths, values["TAG_BITS"])
        self.rng = self.unit.rng
        self.codes: list[IntArray] = []
        self.table = AttentionTable(np.zeros(0, np.int64), 0, values["WEIGHT_BITS"])
        self.events: Counter[str] = Counter()

    async def start(self) -> None:
        """Reset and load random tables, the last one shorter than its memory."""
        self.unit.constants = {"table_we": 0, "table_waddr": 0, "table_wdata": 0}
        self.select(0, 0)
        await self.unit.start()
        await self.load()

    async def load(self) -> None:
        """Write every entry of every table once, in any order."""
        largest = (1 << self.values["WEIGHT_BITS"]) - 1
        lengths = [self.length] * self.tables
        lengths[-1] = max(1, self.length - self.length // 4)
        self.codes = [draw_codes(self.rng, 0, largest, length) for length in lengths]
        full = [np.pad(codes, (0, self.length - len(codes))) for codes in self.codes]
        words = np.concatenate(full)
        for address in self.rng.permutation(len(words)).tolist():
            await self.unit.cycle(table_we=1, table_waddr=address, table_wdata=int(words[address]))
            if self.rng.random() < 0.1:  # nothing is written now
                await self.unit.cycle(
                    table_waddr=int(self.rng.integers(len(words))), table_wdata=largest
                )

    def select(self, table: int, shift: int) -> None:
        """Choose table and shift, while no word is in flight."""
        self.unit.constants["index_shift"] = shift
        if self.tables > 1:
            self.unit.constants["table_select"] = table
        if self.codes:
            self.table = AttentionTable(self.codes[table], shift, self.table.bits)

    def words(self, bounds: IntArray, logits: IntArray) -> Iterator[Word]:
        """Return words of bounds without their rounding constant, and logits, both [n]."""
        lanes, shift = self.values["LANES"], self.table.index_shift
        missing = -len(bounds) % lanes
        rows = [np.pad(part, (0, missing)).reshape(-1, lanes) for part in (bounds, logits)]
        differences = rows[0] - rows[1]
        weights = exponential(differences, self.table)
        indices = (np.maximum(differences, 0) + (1 << shift >> 1)) >> shift
        self.events.update(
            negative=int((differences < 0).sum()), equal=int((differences == 0).sum()),
            last=int((indices == self.length - 1).sum()),
            beyond=int((indices == self.length).sum()),
            far=int((indices >= 2 * self.length).sum()),
        )  # fmt: skip
        rounded = rows[0] + (1 << shift >> 1)
        for bound, logit, weight in zip(rounded, rows[1], weights, strict=True):
            inputs = {"in_bound": pack(bound, self.bits + 1), "in_logit": pack(logit, self.bits)}
            yield Word(inputs, {"out_weight": pack(weight, self.values["WEIGHT_BITS"])})

    def pairs(self, differences: IntArray) -> tuple[IntArray, IntArray]:
        """Return a bound and a logit for each difference, at any place where both have a code."""
        low, high = code_range(self.bits, True)
        logits = self.rng.integers(
            np.maximum(low, low - differences), np.minimum(high, high - differences) + 1
        )
        return logits + differences, logits

    def differences(self) -> IntArray:
        """Return all differences to the end of the table and some beyond, and corners."""
        largest = (1 << self.bits) - 1
        end = self.length << self.table.index_shift
        corners = np.array([-largest, -1, 0, end, 2 * end, 4 * end, largest])
        around = (corners[:, np.newaxis] + np.arange(-AROUND, AROUND + 1)).ravel()
        far = draw_codes(self.rng, -largest, largest, 200)
        dense = np.arange(min(end + end // 8 + 2, self.values["dense"]))
        found = np.concatenate([dense, around, far])
        found = found[np.abs(found) <= largest]
        return self.rng.permutation(found)


@cocotb.test(timeout_time=100, timeout_unit="ms")
async def differences_to_the_end_of_the_table(dut: Any) -> None:
    """Every difference that the table holds, for each table and the shifts of the settings."""
    unit = Exponentials(dut)
    await unit.start()
    for number, shift in enumerate(unit.values["shifts"]):
        unit.select(number % unit.tables, shift)
        await unit.unit.send(unit.words(*unit.pairs(unit.differences())))
        await unit.unit.drain()
    seen = {name for name, count in unit.events.items() if count}
    assert seen >= set(unit.values["events"]), unit.events


@cocotb.test(timeout_time=100, timeout_unit="ms")
async def every_pair(dut: Any) -> None:
    """All bounds with all logits and all shifts, where they are few."""
    unit = Exponentials(dut)
    await unit.start()
    if unit.bits > 6:
        return
    low, high = code_range(unit.bits, True)
    codes = np.arange(low, high + 1)
    bounds, logits = (grid.ravel() for grid in np.meshgrid(codes, codes))
    for shift in range(unit.bits + 1):
        for table in range(unit.tables):
            unit.select(table, shift)
            await unit.unit.send(unit.words(bounds, logits))
            await unit.unit.drain()


@cocotb.test(timeout_time=10, timeout_unit="ms")
async def gaps_and_resets(dut: Any) -> None:
    """Gaps, tables that are loaded again, and resets in mid-flight, which keep the tables."""
    unit = Exponentials(dut)
    await unit.start()
    for _ in range(2):
        table = int(unit.rng.integers(unit.tables))
        shift = int(unit.rng.choice(unit.values["shifts"]))
        unit.select(table, shift)
        differences = unit.differences()[:200]
        await unit.unit.send(unit.words(*unit.pairs(differences)), gaps=0.4)
        await unit.unit.survive_resets(unit.words(*unit.pairs(differences)))
        await unit.load()
