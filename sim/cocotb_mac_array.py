"""Bench of `mac_array`: the sums of every row equal the golden functions, three cycles later.

Passes combine (inputs times weights), weight features by edge, add features that go past the
multiplier, or look for the largest ones; settings say which of them the array can do, and whether
every lane has a value of its own.
"""

from collections import Counter, deque
from dataclasses import dataclass
from typing import Any

import cocotb
import numpy as np
from scipy import sparse

from sgq_hw.golden.aggregation_unit import aggregation_unit
from sgq_hw.golden.combination_unit import combination_unit
from sgq_hw.golden.feature_buffer import feature_buffer
from sgq_hw.golden.fixed_point import IntArray, code_range
from sgq_hw.golden.rows import reduce_rows
from sgq_hw.sim.bench import Bench, draw_bits, draw_codes, generator, pack, settings
from sgq_hw.sim.rows import Issue, Matrix, draw_placement, issues, loosened, scheduled

LATENCY = 3
HUB_RECORDS = 40
MOST_NODES = 24
OPERANDS = 9
"""Rows of the operand matrix."""


@dataclass(frozen=True)
class Result:
    """What leaves because of a step.

    Attributes:
        chunk: Chunk of its words.
        end: Whether it is the last one of the pass.
        words: Row and packed sums of each PE that closes a row.
    """

    chunk: int
    end: bool
    words: dict[int, tuple[int, int]]


@dataclass(frozen=True)
class Operation:
    """Inputs of one cycle, and what leaves because of it."""

    inputs: dict[str, int]
    result: Result


class Array:
    """The unit: draws passes, sends their steps, checks the outputs in each cycle.

    Attributes:
        kind: What the pass does: "combine", "weight", "add" or "maximum".
        mode: Inputs that are constant in the pass.
        factors: Values of the pass [entries, channels], with one channel where lanes share them;
            records hold the number of an entry.
    """

    def __init__(self, dut: Any) -> None:
        self.bench = Bench(dut, known=["result_step", "result_end", "result_valid"])
        self.values = settings()
        self.rng = generator()
        self.kind = "combine"
        self.kinds = ["combine"]
        if self.values["edge_values"] or self.values["lane_values"]:
            self.kinds.append("weight")
        if self.values["has_bypass"]:
            self.kinds.append("add")
        if self.values["has_maximum"]:
            self.kinds.append("maximum")
        self.mode = self.draw_mode()
        self.factors: list[list[int]] = []
        self.in_flight: deque[Result | None] = deque([None] * LATENCY)
        self.events: Counter[str] = Counter()

    def draw_mode(self) -> dict[str, int]:
        """Return the inputs that say what the pass does; largest operands always go past."""
        bypass = {"add": 1, "maximum": draw_bits(self.rng, 1)}.get(self.kind, 0)
        modes = {"op_bypass": bypass, "op_maximum": int(self.kind == "maximum")}
        return {name: code for name, code in modes.items() if self.values[f"has_{name[3:]}"]}

    def ranges(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """Return the ranges of values and operands of the pass."""
        value = code_range(self.values["VALUE_BITS"], True)
        if self.kind in ("add", "maximum"):
            value = (1, 1)
        name = "WEIGHT_BITS" if self.kind == "combine" else "FEATURE_BITS"
        return value, code_range(self.values[name], True)

    def row(self, kind: str, channels: int) -> list[tuple[int, int]]:
        """Draw a row whose partial sums stay in the accumulator, whatever their order."""
        (low, high), operand = self.ranges()
        products = [value * code for value in (low, high) for code in operand]
        acc_low, acc_high = code_range(self.values["ACC_BITS"], True)
        full = min(acc_high // max(products), acc_low // min(products))
        if self.kind == "maximum":
            full = HUB_RECORDS
        count = {"empty": 0, "one": 1, "full": min(full, HUB_RECORDS), "hub": HUB_RECORDS}[kind]
        if kind == "hub" and (low, high) != (1, 1):
            # Smaller values where full ones would leave the proved width.
            limit = acc_high // (HUB_RECORDS * -operand[0])
            low, high = max(low, -limit), min(high, limit)
        elif count > full:
            count = full
        first = len(self.factors)
        width = channels if self.values["lane_values"] else 1
        self.factors += draw_codes(self.rng, low, high, (count, width)).tolist()
        return [(int(self.rng.integers(OPERANDS)), first + entry) for entry in range(count)]

    def golden(self, matrix: Matrix, operands: IntArray) -> IntArray:
        """Return the sums, or the largest operands, [rows, channels]."""
        indptr, indices = matrix.indptr, matrix.indices
        if self.kind == "maximum":
            return reduce_rows(indptr, operands[indices], np.maximum)
        if self.kind == "add":
            return aggregation_unit(indptr, indices, None, operands)
        if not self.values["lane_values"]:
            return self.products(matrix, [self.factors[at][0] for at in matrix.values], operands)
        return np.hstack([
            self.products(matrix, [self.factors[at][channel] for at in matrix.values], column)
            for channel, column in enumerate(np.hsplit(operands, operands.shape[1]))
        ])  # fmt: skip

    def products(self, matrix: Matrix, factors: list[int], operands: IntArray) -> IntArray:
        """Return the sums [rows, channels] of a matrix with these values."""
        indptr, indices, values = matrix.indptr, matrix.indices, np.array(factors, np.int64)
        if self.kind == "weight":
            return aggregation_unit(indptr, indices, values, operands)
        walked = sparse.csr_array((values, indices, indptr), shape=(indptr.size - 1, OPERANDS))
        return combination_unit(walked, operands, 1 << (self.values["ACC_BITS"] - 1))

    def draw_pass(self, kind: str) -> list[Operation]:
        """Draw a pass."""
        rng, values = self.rng, self.values
        lanes, pes, banks = values["LANES"], values["PES"], values["BANKS"]
        self.kind = kind
        self.mode = self.draw_mode()
        self.factors = []
        chunks = int(rng.integers(1, values["CHUNKS"] + 1))
        operands = draw_codes(rng, *self.ranges()[1], (OPERANDS, chunks * lanes))
        most = min(MOST_NODES, values["nodes"])
        nodes = int(rng.choice([1, most, rng.integers(1, most + 1)]))
        hubs = ["hub"] * int(rng.integers(2))
        kinds = [*hubs, *rng.choice(["empty", "one", "one", "full"], nodes)][:nodes]
        rows_of = [self.row(str(kind), chunks * lanes) for kind in rng.permutation(kinds)]
        matrix = Matrix.make(rows_of)
        placement = draw_placement(rng, nodes, pes)
        columns = np.arange(OPERANDS)
        steps = loosened(rng, scheduled(matrix, placement, columns % banks, columns // banks))
        sums = feature_buffer(self.golden(matrix, operands), lanes, nodes).tolist()
        words = feature_buffer(operands, lanes, OPERANDS)
        bits = values["OPERAND_BITS"]
        packed = [pack(word, bits) for word in words.tolist()]

        rows = placement.nodes
        closed = [0] * pes
        found = []
        for issue in issues(steps, [chunk * OPERANDS for chunk in range(chunks)]):
            result = Result(issue.chunk, issue.end, {
                pe: (
                    closed[pe],
                    pack(sums[issue.chunk * nodes + rows[closed[pe], pe]], values["ACC_BITS"]),
                )
                for pe, record in enumerate(issue.step) if record.last
            })  # fmt: skip
            self.events["together"] += len(result.words) > 1
            found.append(Operation(self.inputs(issue, packed), result))
            if issue.last_chunk:
                closed = [
                    count + record.last for count, record in zip(closed, issue.step, strict=True)
                ]
        return found

    def inputs(self, issue: Issue, words: list[int]) -> dict[str, int]:
        """Return the inputs of a step, given the operand words; what it does not need is junk."""
        rng, values = self.rng, self.values
        lanes, value_bits = values["LANES"], values["VALUE_BITS"]
        word_bits = lanes * values["OPERAND_BITS"]
        factor_lanes = lanes if values["lane_values"] else 1
        first = issue.chunk * lanes if values["lane_values"] else 0
        multiplies = self.kind in ("combine", "weight")
        inputs = {
            "op_valid": 1, "op_end": int(issue.end), "op_chunk": issue.chunk,
            "op_last_chunk": int(issue.last_chunk),
            "op_mac": pack([record.mac for record in issue.step], 1),
            "op_last": pack([record.last for record in issue.step], 1),
            "op_value": pack([
                pack(self.factors[record.value][first : first + factor_lanes], value_bits)
                if record.mac and multiplies
                else draw_bits(rng, factor_lanes * value_bits)
                for record in issue.step
            ], factor_lanes * value_bits),
            "operand_data": pack([
                words[issue.base + record.operand] if record.mac else draw_bits(rng, word_bits)
                for record in issue.step
            ], word_bits),
        }  # fmt: skip
        if values["SLOTS"] > 1:
            inputs["op_slot"] = pack(
                [
                    record.slot if record.mac or record.last else draw_bits(rng, 1)
                    for record in issue.step
                ],
                1,
            )
        return inputs

    def junk(self) -> dict[str, int]:
        """Draw what lies on the inputs while no step comes."""
        values = self.values
        pes = values["PES"]
        factors = pes * (values["LANES"] if values["lane_values"] else 1)
        widths = {
            "op_end": 1, "op_last_chunk": 1, "op_chunk": values["CHUNK_BITS"], "op_mac": pes,
            "op_last": pes, "op_value": factors * values["VALUE_BITS"],
            "operand_data": pes * values["LANES"] * values["OPERAND_BITS"],
        }  # fmt: skip
        if values["SLOTS"] > 1:
            widths["op_slot"] = pes
        return {name: draw_bits(self.rng, bits) for name, bits in widths.items()} | {"op_valid": 0}

    async def cycle(self, operation: Operation | None, restart: int = 0, rst: int = 0) -> None:
        """Send a step, or none, and check the outputs."""
        inputs = self.junk() if operation is None else operation.inputs
        await self.bench.cycle(rst=rst, restart=restart, **self.mode, **inputs)
        expected = self.in_flight.popleft()
        if rst:
            self.in_flight = deque([None] * LATENCY)
            return
        self.in_flight.append(None if operation is None else operation.result)
        self.check(expected)

    def check(self, expected: Result | None) -> None:
        """Compare the outputs of this cycle."""
        bench, values = self.bench, self.values
        where = f"cycle {bench.cycles}: expected {expected}"
        closes = expected.words if expected else {}
        assert bench.read("result_step") == (expected is not None), where
        assert bench.read("result_end") == (expected is not None and expected.end), where
        assert bench.read("result_valid") == sum(1 << pe for pe in closes), where
        if expected is None:
            return
        assert bench.read("result_chunk") == expected.chunk, where
        rows = bench.parts("result_row", values["ROW_BITS"])
        sums = bench.parts("result_data", values["LANES"] * values["ACC_BITS"])
        for pe, want in closes.items():
            assert (rows[pe], sums[pe]) == want, f"{where}, PE {pe}: {rows[pe]}, {sums[pe]}"

    async def run_pass(self, operations: list[Operation], gaps: float) -> None:
        """Announce a pass some cycles ahead and send it."""
        ahead: list[Operation | None] = [None] * int(self.rng.integers(1, 4))
        for position, operation in enumerate([*ahead, *operations]):
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
    await unit.bench.start(restart=0, **unit.mode, **unit.junk())
    return unit


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def sums_equal_the_golden_functions(dut: Any) -> None:
    """Passes of all kinds, one after the other, dense and with gaps."""
    unit = await started(dut)
    kinds = unit.rng.permutation(unit.kinds)
    for number in range(unit.values["draws"]):
        await unit.drain()
        gaps = 0.0 if number == 0 else float(unit.rng.choice([0, 0.1, 0.5, 0.9]))
        operations = unit.draw_pass(str(kinds[number % len(kinds)]))
        await unit.run_pass(operations[: 60 if gaps > 0.8 else None], gaps)
    await unit.drain()
    await unit.cycle(None)
    assert unit.values["PES"] == 1 or unit.events["together"], "no rows that end together"


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def reset_drops_what_is_in_flight(dut: Any) -> None:
    """Resets of one and two cycles in a pass: nothing of it leaves, the next pass is clean."""
    unit = await started(dut)
    for _ in range(6):
        await unit.drain()
        operations = unit.draw_pass(str(unit.rng.choice(unit.kinds)))
        # Where a result is on its way.
        ends = [at for at, operation in enumerate(operations) if operation.result.words]
        cut = int(unit.rng.choice(ends) + unit.rng.integers(1, LATENCY + 1))
        await unit.run_pass(operations[:cut], 0.0 if unit.rng.random() < 0.5 else 0.2)
        for operation in [*operations[cut:], None, None][: int(unit.rng.integers(1, 3))]:
            await unit.cycle(operation, rst=1)
        await unit.run_pass(unit.draw_pass(str(unit.rng.choice(unit.kinds))), 0.2)
