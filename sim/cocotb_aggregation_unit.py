"""Bench of `aggregation_unit`: every address and operation of a pass, in its very cycle.

What is expected follows from the rows of a graph alone, and adds up to the golden function's sums.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import cocotb
import numpy as np

from sgq_hw.golden.aggregation_unit import aggregation_unit
from sgq_hw.golden.feature_buffer import feature_buffer
from sgq_hw.sim.bench import Bench, draw_bits, draw_codes, generator, settings
from sgq_hw.sim.rows import (
    Operation,
    ReadPort,
    Record,
    accumulate,
    check_operation,
    csr,
    draw_pauses,
    draw_rows,
    operations,
)

FETCH_CYCLES = 1
"""Cycles of a pass before the first operation can be issued: its record is being read."""


@dataclass(frozen=True)
class Pass:
    """A drawn pass: settings on the ports, operations, and words of the edge memory."""

    ports: dict[str, int]
    operations: list[Operation]
    memory: list[int]
    holds: Iterator[bool]


class FrontEnd:
    """The unit: draws passes and runs them, with a model of each cycle."""

    def __init__(self, dut: Any) -> None:
        self.values = settings()
        self.rng = generator()
        self.bench = Bench(dut, ["op_valid", "edge_re", "feature_re"])
        self.events: Counter[str] = Counter()

    def draw_pass(self) -> Pass:
        """Draw a graph and settings."""
        rng, values = self.rng, self.values
        nodes, stride = values["nodes"], values["FEATURE_STRIDE"]
        count = int(rng.choice([1, nodes]))
        chunks = int(rng.choice([1, values["CHUNKS"], rng.integers(1, values["CHUNKS"] + 1)]))
        codes = (0, (1 << values["EDGE_BITS"]) - 1) if values["EDGE_BITS"] else (1, 1)
        rows = draw_rows(rng, count, nodes, codes, empty=values["has_bubbles"])
        issued = operations(rows, chunks, stride)
        self.check_against_golden(rows, issued, chunks)
        memory = [
            self.word(record, last=position == len(row) - 1)
            for row in rows
            for position, record in enumerate(row)
        ]
        ports = {"num_records": len(memory), "last_chunk": chunks - 1}
        return Pass(ports, issued, memory, draw_pauses(rng, len(issued))[0])

    def word(self, record: Record, last: bool) -> int:
        """Return a record's word; what an empty row does not need is junk."""
        fields = {"last": int(last), "valid": int(record.mac)}
        if record.mac:
            fields |= {"address": record.operand, "value": record.value}
        word = 0
        for name, bits, low in self.values["record"]:
            word |= fields.get(name, draw_bits(self.rng, bits)) << low
        return word

    def check_against_golden(
        self, rows: list[list[Record]], issued: list[Operation], chunks: int
    ) -> None:
        """Prove the expectation: with any features, it adds up to what the golden function says."""
        nodes, stride = self.values["nodes"], self.values["FEATURE_STRIDE"]
        features = draw_codes(self.rng, -128, 127, (nodes, chunks))
        memory = feature_buffer(features, 1, stride)[:, 0]
        indptr, indices, values = csr(rows)
        golden = aggregation_unit(
            indptr, indices, values if self.values["EDGE_BITS"] else None, features
        )
        assert np.array_equal(accumulate(issued, memory, chunks), golden)

    async def run_pass(self, drawn: Pass, reset_at: int = -1) -> None:
        """Run a pass to its end, or into a reset in its cycle `reset_at`."""
        rng, read = self.rng, self.bench.read
        port = ReadPort(drawn.memory, draw_bits(rng, self.values["RECORD_BITS"]))
        tail = int(rng.integers(2, 6))
        position = fetched = number = 0
        issued: Operation | None = None
        await self.idle(start=1, **drawn.ports)
        while tail:
            done = position == len(drawn.operations)
            tail -= done
            hold = next(drawn.holds)
            issue = number >= FETCH_CYCLES and not hold and not done
            rst = number == reset_at
            await self.bench.cycle(
                rst=int(rst), start=0, active=1, hold=int(hold), edge_data=port.data
            )
            if rst:
                await self.bench.cycle(rst=0, active=0)
                check_operation(self.bench, self.values["VALUE_BITS"], None)
                return
            check_operation(self.bench, self.values["VALUE_BITS"], issued)
            issued = drawn.operations[position] if issue else None
            where = f"cycle {self.bench.cycles}, {issued}, {drawn.ports}"
            gathers = issued is not None and issued.mac
            assert read("feature_re") == gathers, where
            if issued and gathers:
                assert read("feature_addr") == issued.address, where
            taken = issued is not None and issued.last_chunk
            fetch = (number == 0 or taken) and fetched < len(drawn.memory)
            assert read("edge_re") == fetch, where
            if fetch:
                assert read("edge_addr") == fetched, where
                port.clock(1, fetched)
                fetched += 1
            self.events["held"] += number >= FETCH_CYCLES and hold and not done
            position += issue
            number += 1
        assert fetched == len(drawn.memory)

    async def idle(self, start: int = 0, **ports: int) -> None:
        """Spend a cycle outside of a pass."""
        await self.bench.cycle(start=start, active=0, hold=draw_bits(self.rng, 1), **ports)
        check_operation(self.bench, self.values["VALUE_BITS"], None)
        assert not self.bench.read("edge_re")
        assert not self.bench.read("feature_re")

    async def started(self) -> None:
        """Bring the unit through its first reset."""
        await self.bench.start(start=0, active=0, hold=0, num_records=1, last_chunk=0)


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def passes_issue_the_exact_operations(dut: Any) -> None:
    """Passes over one graph after the other, with stalls."""
    unit = FrontEnd(dut)
    await unit.started()
    for _ in range(unit.values["draws"]):
        await unit.run_pass(unit.draw_pass())
        for _ in range(int(unit.rng.integers(3))):
            await unit.idle()
    # Stalls that never happened would prove nothing.
    assert unit.events["held"], unit.events


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def reset_aborts_a_pass(dut: Any) -> None:
    """A reset at any place of a pass; the next pass is clean."""
    unit = FrontEnd(dut)
    await unit.started()
    for _ in range(unit.values["draws"]):
        drawn = unit.draw_pass()
        await unit.run_pass(drawn, int(unit.rng.integers(len(drawn.operations) + 2)))
        await unit.run_pass(unit.draw_pass())
