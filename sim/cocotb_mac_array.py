"""Bench of `mac_array`: the sums of every row equal the golden functions, three cycles later."""

from collections import deque
from dataclasses import dataclass
from typing import Any

import cocotb
from scipy import sparse

from sgq_hw.golden.aggregation_unit import aggregation_unit
from sgq_hw.golden.combination_unit import combination_unit
from sgq_hw.golden.feature_buffer import feature_buffer
from sgq_hw.golden.fixed_point import IntArray, code_range
from sgq_hw.sim.bench import Bench, draw_bits, draw_codes, generator, pack, settings, unpack
from sgq_hw.sim.rows import Operation, Record, csr, operations

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
class Step:
    """Inputs of one cycle, and what leaves because of it."""

    inputs: dict[str, int]
    result: Result | None


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
        indptr, indices, values = csr(rows)
        if self.aggregate:
            weighted = self.values["edge_values"]
            return aggregation_unit(indptr, indices, values if weighted else None, operands)
        walked = sparse.csr_array((values, indices, indptr), shape=(len(rows), OPERANDS))
        return combination_unit(walked, operands, 1 << (self.values["ACC_BITS"] - 1))

    def draw_pass(self) -> list[Step]:
        """Draw a pass of either kind."""
        rng, values = self.rng, self.values
        self.aggregate = bool(rng.random() < 0.5)
        chunks = int(rng.integers(1, values["CHUNKS"] + 1))
        lanes = values["LANES"]
        operands = draw_codes(rng, *self.ranges()[1], (OPERANDS, chunks * lanes))
        kinds = ["empty", "one", "full", "hub", *rng.choice(["empty", "one", "full"], 4)]
        count = int(rng.integers(1, min(8, (1 << values["ROW_BITS"]) - 1) + 1))
        rows = [self.row(str(kind)) for kind in rng.permutation(kinds)[:count]]
        words = feature_buffer(operands, lanes, OPERANDS)
        sums = feature_buffer(self.golden(rows, operands), lanes, count)
        return [
            self.step(operation, words[operation.address], Result(
                operation.chunk, operation.last_chunk, operation.row,
                sums[operation.chunk * count + operation.row].tolist(),
            ))
            for operation in operations(rows, chunks, OPERANDS)
        ]  # fmt: skip

    def step(self, operation: Operation, word: IntArray, result: Result) -> Step:
        """Return the inputs of an operation; what it does not need is junk."""
        port = "feature" if self.aggregate else "weight"
        inputs = self.junk() | {
            "op_valid": 1, "op_mac": int(operation.mac), "op_first": int(operation.first),
            "op_last": int(operation.last), "op_chunk": operation.chunk,
            "op_last_chunk": int(operation.last_chunk),
        }  # fmt: skip
        if operation.mac:
            inputs["op_value"] = pack([operation.value], self.values["VALUE_BITS"])
            inputs[f"{port}_data"] = pack(word, self.values[f"{port.upper()}_BITS"])
        return Step(inputs, result if operation.last else None)

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

    async def cycle(self, step: Step | None, restart: int = 0, rst: int = 0) -> None:
        """Send an operation, or none, and check the outputs."""
        inputs = self.junk() if step is None else step.inputs
        await self.bench.cycle(
            rst=rst, restart=restart, op_aggregate=int(self.aggregate), **inputs
        )  # fmt: skip
        expected = self.in_flight.popleft()
        if rst:
            self.in_flight = deque([None] * LATENCY)
            return
        self.in_flight.append(None if step is None else step.result)
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

    async def run_pass(self, steps: list[Step], gaps: float) -> None:
        """Announce a pass, now or some cycles ahead, and send it."""
        ahead: list[Step | None] = [None] * int(self.rng.integers(3))
        for position, step in enumerate([*ahead, *steps]):
            await self.cycle(step, restart=int(position == 0))
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
        steps = unit.draw_pass()
        await unit.run_pass(steps[: 60 if gaps > 0.8 else None], gaps)
    await unit.drain()
    await unit.cycle(None)


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def reset_drops_what_is_in_flight(dut: Any) -> None:
    """Resets of one and two cycles in a pass: nothing of it leaves, the next pass is clean."""
    unit = await started(dut)
    for _ in range(6):
        await unit.drain()
        steps = unit.draw_pass()
        # Where a result is on its way.
        ends = [at for at, step in enumerate(steps) if step.result]
        cut = int(unit.rng.choice(ends) + unit.rng.integers(1, LATENCY + 1))
        await unit.run_pass(steps[:cut], 0.0 if unit.rng.random() < 0.5 else 0.2)
        for step in [*steps[cut:], None, None][: int(unit.rng.integers(1, 3))]:
            await unit.cycle(step, rst=1)
        await unit.run_pass(unit.draw_pass(), 0.2)
