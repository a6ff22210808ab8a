"""Bench of `mac_array`: the sums of every row equal the golden functions, three cycles later."""

from collections import deque
from dataclasses import dataclass
from typing import Any

import cocotb
import numpy as np
from scipy import sparse

from sgq_hw.golden.aggregation_unit import aggregation_unit
from sgq_hw.golden.combination_unit import combination_unit
from sgq_hw.golden.feature_buffer import feature_buffer
from sgq_hw.golden.fixed_point import IntArray, code_range
from sgq_hw.sim.bench import Bench, draw_bits, draw_codes, generator, pack, settings, unpack

LATENCY = 3
HUB_RECORDS = 40
OPERANDS = 9
"""Rows of the operand matrix."""


@dataclass(frozen=True)
class Result:
    """A finished word."""

    chunk: int
    last_chunk: bool
    row: int
    sums: list[int]


@dataclass(frozen=True)
class Operation:
    """Inputs of one cycle, and what leaves because of it."""

    inputs: dict[str, int]
    result: Result | None


@dataclass(frozen=True)
class Record:
    """A walked record: operand row and value, or nothing to add."""

    operand: int
    value: int
    mac: bool


class Array:
    """The unit: draws passes, sends their operations, checks the outputs in each cycle."""

    def __init__(self, dut: Any) -> None:
        self.bench = Bench(dut, known=["result_valid"])
        self.values = settings()
        self.rng = generator()
        self.aggregate = False
        self.in_flight: deque[Result | None] = deque([None] * LATENCY)

    def ranges(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """Return the ranges of values and operands of the pass."""
        value = code_range(self.values["VALUE_BITS"], True)
        if self.aggregate and not self.values["edge_values"]:
            value = (1, 1)
        name = "FEATURE_BITS" if self.aggregate else "WEIGHT_BITS"
        return value, code_range(self.values[name], True)

    def row(self, kind: str) -> list[Record]:
        """Draw a row whose partial sums stay in the accumulator."""
        (low, high), operand = self.ranges()
        products = [value * code for value in (low, high) for code in operand]
        acc_low, acc_high = code_range(self.values["ACC_BITS"], True)
        full = min(acc_high // max(products), acc_low // min(products))
        count = {"empty": 0, "one": 1, "full": min(full, HUB_RECORDS), "hub": HUB_RECORDS}[kind]
        if kind == "hub" and (low, high) != (1, 1):
            # Smaller values where full ones would leave the proved width.
            limit = acc_high // (HUB_RECORDS * -operand[0])
            low, high = max(low, -limit), min(high, limit)
        elif count > full:
            count = full
        values = draw_codes(self.rng, low, high, count).tolist()
        records = [Record(int(self.rng.integers(OPERANDS)), value, True) for value in values]
        while not records or self.rng.random() < 0.2:
            records.insert(int(self.rng.integers(len(records) + 1)), Record(0, 0, False))
        return records

    def golden(self, rows: list[list[Record]], operands: IntArray) -> IntArray:
        """Return the sums [rows, channels]."""
        added = [[record for record in row if record.mac] for row in rows]
        indptr = np.cumsum([0] + [len(row) for row in added])
        indices = np.array([r.operand for row in added for r in row], np.int64)
        values = np.array([r.value for row in added for r in row], np.int64)
        if self.aggregate:
            weighted = self.values["edge_values"]
            return aggregation_unit(indptr, indices, values if weighted else None, operands)
        walked = sparse.csr_array((values, indices, indptr), shape=(len(rows), OPERANDS))
        return combination_unit(walked, operands, 1 << (self.values["ACC_BITS"] - 1))

    def draw_pass(self) -> list[Operation]:
        """Draw a pass of either kind."""
        rng, values = self.rng, self.values
        self.aggregate = bool(rng.random() < 0.5)
        chunks = int(rng.integers(1, values.get("CHUNKS", 1) + 1))
        lanes = values["LANES"]
        operands = draw_codes(rng, *self.ranges()[1], (OPERANDS, chunks * lanes))
        kinds = ["empty", "one", "full", "hub", *rng.choice(["empty", "one", "full"], 4)]
        count = int(rng.integers(1, min(8, (1 << values["ROW_BITS"]) - 1) + 1))
        rows = [self.row(str(kind)) for kind in rng.permutation(kinds)[:count]]
        words = feature_buffer(operands, lanes, OPERANDS)
        sums = feature_buffer(self.golden(rows, operands), lanes, len(rows))
        return [
            self.operation(
                record, record is row[0], record is row[-1], chunk, chunk == chunks - 1,
                words[chunk * OPERANDS + record.operand],
                Result(chunk, chunk == chunks - 1, at, sums[chunk * len(rows) + at].tolist()),
            )
            for at, row in enumerate(rows)
            for record in row
            for chunk in range(chunks)
        ]  # fmt: skip

    def operation(
        self, record: Record, first: bool, last: bool, chunk: int, last_chunk: bool,
        word: IntArray, result: Result,
    ) -> Operation:  # fmt: skip
        """Return an operation; what it does not need is junk."""
        port = "feature" if self.aggregate else "weight"
        inputs = self.junk() | {
            "op_valid": 1, "op_mac": int(record.mac), "op_first": int(first),
            "op_last": int(last), "op_chunk": chunk, "op_last_chunk": int(last_chunk),
        }  # fmt: skip
        if record.mac:
            inputs["op_value"] = pack([record.value], self.values["VALUE_BITS"])
            inputs[f"{port}_data"] = pack(word, self.values[f"{port.upper()}_BITS"])
        return Operation(inputs, result if last else None)

    def junk(self) -> dict[str, int]:
        """Draw what lies on the inputs while no operation comes."""
        values = self.values
        widths = {
            "op_mac": 1, "op_first": 1, "op_last": 1, "op_last_chunk": 1,
            "op_chunk": values["CHUNK_BITS"], "op_value": values["VALUE_BITS"],
            "weight_data": values["LANES"] * values["WEIGHT_BITS"],
            "feature_data": values["LANES"] * values["FEATURE_BITS"],
        }  # fmt: skip
        return {name: draw_bits(self.rng, bits) for name, bits in widths.items()} | {"op_valid": 0}

    async def cycle(self, operation: Operation | None, restart: int = 0, rst: int = 0) -> None:
        """Send an operation, or none, and check the outputs."""
        inputs = self.junk() if operation is None else operation.inputs
        await self.bench.cycle(
            rst=rst, restart=restart, op_aggregate=int(self.aggregate), **inputs
        )  # fmt: skip
        expected = self.in_flight.popleft()
        if rst:
            self.in_flight = deque([None] * LATENCY)
            return
        self.in_flight.append(None if operation is None else operation.result)
        self.check(expected)

    def check(self, expected: Result | None) -> None:
        """Compare the outputs of this cycle."""
        read = self.bench.read
        assert read("result_valid") == (expected is not None), f"cycle {self.bench.cycles}"
        if expected is None:
            return
        bits, lanes = self.values["ACC_BITS"], self.values["LANES"]
        got = Result(
            read("result_chunk"), bool(read("result_last_chunk")), read("result_row"),
            unpack(read("result_data"), bits, lanes),
        )  # fmt: skip
        assert got == expected, f"cycle {self.bench.cycles}: expected {expected}, got {got}"

    async def run_pass(self, operations: list[Operation], gaps: float) -> None:
        """Announce a pass, now or some cycles ahead, and send it."""
        ahead = int(self.rng.integers(3))
        for position, operation in enumerate([None] * ahead + operations):
            await self.cycle(operation, restart=int(position == 0))
            while self.rng.random() < gaps:
                await self.cycle(None)

    async def drain(self) -> None:
        """Wait until the last result is out; the next pass may be announced with it."""
        for _ in range(LATENCY - 1):
            await self.cycle(None)


async def started(dut: Any) -> Array:
    """Return the unit after its first reset."""
    unit = Array(dut)
    await unit.bench.start(restart=0, op_aggregate=0, **unit.junk())
    return unit


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def sums_equal_the_golden_functions(dut: Any) -> None:
    """Passes of both kinds, one after the other, dense and with gaps."""
    unit = await started(dut)
    for number in range(unit.values["draws"]):
        await unit.drain()
        gaps = 0.0 if number == 0 else float(unit.rng.choice([0, 0.1, 0.5, 0.9]))
        operations = unit.draw_pass()
        await unit.run_pass(operations[: 60 if gaps > 0.8 else None], gaps)
    await unit.drain()
    await unit.cycle(None)


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def reset_drops_what_is_in_flight(dut: Any) -> None:
    """Resets of one and two cycles in a pass: nothing of it leaves, the next pass is clean."""
    unit = await started(dut)
    for _ in range(6):
        await unit.drain()
        operations = unit.draw_pass()
        # Where a result is on its way.
        ends = [at for at, operation in enumerate(operations) if operation.result]
        cut = int(unit.rng.choice(ends) + unit.rng.integers(1, LATENCY + 1))
        await unit.run_pass(operations[:cut], 0.0 if unit.rng.random() < 0.5 else 0.2)
        for operation in ([*operations[cut:], None, None])[: int(unit.rng.integers(1, 3))]:
            await unit.cycle(operation, rst=1)
        await unit.run_pass(unit.draw_pass(), 0.2)
