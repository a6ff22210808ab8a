"""Bench of `row_tracker`: row and beginning of every record, while its operations run.

Both follow from drawn rows alone: each has its records, in any order among those of the open rows.
"""

from collections import Counter
from itertools import zip_longest
from typing import Any

import cocotb

from sgq_hw.sim.bench import Bench, draw_bits, generator, pack, settings
from sgq_hw.sim.rows import Record, Step

MOST_CHUNKS = 4


class Tracker:
    """The unit, and where the rows of a pass stand."""

    def __init__(self, dut: Any) -> None:
        self.bench = Bench(dut)
        self.values = settings()
        self.rng = generator()
        self.events: Counter[str] = Counter()

    def junk(self) -> dict[str, int]:
        """Draw records that mean nothing."""
        names = ["op_mac", "op_last", *(["op_slot"] if self.values["SLOTS"] > 1 else [])]
        return {name: draw_bits(self.rng, self.values["PES"]) for name in names}

    def records(self, step: Step) -> dict[str, int]:
        """Return the inputs of a step; the slot of a PE that does nothing is junk."""
        found = {
            "op_mac": pack([record.mac for record in step], 1),
            "op_last": pack([record.last for record in step], 1),
        }
        if self.values["SLOTS"] > 1:
            found["op_slot"] = pack(
                [
                    record.slot if record.mac or record.last else draw_bits(self.rng, 1)
                    for record in step
                ],
                1,
            )
        return found

    def draw_rows(self) -> list[Record]:
        """Draw what one PE does: rows of any length, records of the open ones in any order."""
        rng, slots = self.rng, self.values["SLOTS"]
        rows = int(rng.choice([0, 1, self.values["ROWS"], rng.integers(self.values["ROWS"] + 1)]))
        left = rng.choice([0, 1, 1, 2, 5], rows).tolist()
        found, closed = [], 0
        while closed < rows:
            row = closed + int(slots > 1 and closed + 1 < rows and rng.random() < 0.4)
            slot = row % slots
            if rng.random() < 0.1:
                found.append(Record())
            elif row > closed:
                # A row closes after the one before it.
                if left[row] > 1:
                    left[row] -= 1
                    found.append(Record(mac=True, slot=slot))
            else:
                last = left[row] <= 1 and rng.random() < 0.9
                mac = left[row] > 0
                left[row] -= mac
                if mac or last:
                    found.append(Record(mac=mac, last=last, slot=slot))
                closed += last
        return found

    def draw_pass(self) -> list[Step]:
        """Draw the steps of a pass; PEs whose rows are done idle."""
        columns = [self.draw_rows() for _ in range(self.values["PES"])]
        steps = zip_longest(*columns, fillvalue=Record())
        return [list(step) for step in steps]

    async def idle(self, **inputs: int) -> None:
        """Spend a cycle without an operation."""
        await self.bench.cycle(**{"restart": 0, "op_end": 0, **self.junk(), **inputs})

    async def run_pass(self, most: int | None = None) -> None:
        """Run a pass, or its first steps, and check every operation."""
        rng, values = self.rng, self.values
        steps = self.draw_pass()
        chunks = int(rng.integers(1, MOST_CHUNKS + 1))
        gaps = float(rng.choice([0, 0.2, 0.6]))
        closed = [0] * values["PES"]
        begun: set[tuple[int, int]] = set()
        await self.idle(restart=1)
        while rng.random() < 0.3:
            await self.idle()
        for step in steps[:most]:
            rows = [self.row_of(record, closed[pe]) for pe, record in enumerate(step)]
            for chunk in range(chunks):
                while rng.random() < gaps:
                    await self.idle()
                await self.bench.cycle(
                    restart=0, op_end=int(chunk == chunks - 1), **self.records(step)
                )
                self.check(step, rows, begun)
            for pe, (record, row) in enumerate(zip(step, rows, strict=True)):
                if record.mac or record.last:
                    begun.add((pe, row))
                    self.events["younger row"] += row > closed[pe]
                else:
                    self.events["idle PE"] += 1
                closed[pe] += record.last

    def row_of(self, record: Record, closed: int) -> int:
        """Return the row of a record: the oldest open one, or the one after it."""
        return closed + (self.values["SLOTS"] > 1 and record.slot != closed % 2)

    def check(self, step: Step, rows: list[int], begun: set[tuple[int, int]]) -> None:
        """Compare what belongs to the operation of this cycle."""
        have_rows = self.bench.parts("op_row", self.values["ROW_BITS"])
        have_first = self.bench.parts("op_first", 1)
        for pe, (record, row) in enumerate(zip(step, rows, strict=True)):
            if not (record.mac or record.last):
                continue
            first = (pe, row) not in begun
            where = f"cycle {self.bench.cycles}, PE {pe}, {record}"
            assert have_rows[pe] == row, f"{where}: row {have_rows[pe]}, not {row}"
            assert have_first[pe] == first, f"{where}: first {have_first[pe]}, not {first}"
            self.events["first"] += first
            self.events["not first"] += not first
            self.events["empty row"] += not record.mac and first


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def rows_follow_the_schedule(dut: Any) -> None:
    """Pass after pass, some of them aborted."""
    unit = Tracker(dut)
    await unit.bench.start(restart=0, op_end=0)
    for _ in range(unit.values["draws"]):
        if unit.rng.random() < 0.3:
            await unit.run_pass(int(unit.rng.integers(6)))
        await unit.run_pass()
        for _ in range(int(unit.rng.integers(3))):
            await unit.idle()
    wanted = ["first", "not first", "empty row", "idle PE"]
    if unit.values["SLOTS"] > 1 and unit.values["ROWS"] > 1:
        wanted.append("younger row")
    assert all(unit.events[name] for name in wanted), f"missed: {unit.events}"
