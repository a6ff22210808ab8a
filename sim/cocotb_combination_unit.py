"""Bench of `combination_unit`: every address and operation of a pass, in its very cycle.

A pass walks elements of the stream or rows of the feature buffer. What is expected follows from the
rows alone, and adds up to the golden function's sums.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import cocotb
import numpy as np
from scipy import sparse

from sgq_hw.golden.combination_unit import combination_unit
from sgq_hw.golden.feature_buffer import feature_buffer
from sgq_hw.golden.fixed_point import code_range
from sgq_hw.sim.bench import Bench, draw_bits, draw_codes, generator, pack, settings
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

BOUND = 1 << 61


@dataclass(frozen=True)
class Pass:
    """A drawn pass: settings on the ports, operations, and words of the feature memory."""

    from_buffer: bool
    ports: dict[str, int]
    operations: list[Operation]
    word_ends: list[bool]  # after this operation the next feature word is fetched
    addresses: list[int]  # of the feature words, in order
    memory: list[int]
    gaps: Iterator[bool]
    holds: Iterator[bool]


class FrontEnd:
    """The unit: draws passes and runs them, with a model of each cycle."""

    def __init__(self, dut: Any) -> None:
        self.values = settings()
        self.rng = generator()
        known = ["op_valid", "weight_re", "element_ready", "starved"]
        self.walks = bool(self.values["walk_inputs"])
        self.bench = Bench(dut, known + ["feature_re"] * self.walks)
        self.events: Counter[str] = Counter()

    def draw_pass(self, from_buffer: bool) -> Pass:
        """Draw rows, weights and settings of a pass."""
        rng, values = self.rng, self.values
        lanes = values["LANES"]
        widest = values["walk_inputs" if from_buffer else "stream_inputs"]
        shapes = [1, lanes, lanes + 1, widest, int(rng.integers(1, widest + 1))]
        inputs = int(rng.choice([shape for shape in shapes if shape <= widest]))
        room = 1 << values["WEIGHT_ADDR_BITS"]
        chunks = min(int(rng.integers(1, values["CHUNKS"] + 1)), room // inputs)
        base = int(rng.choice([0, room - chunks * inputs]))
        count = int(rng.choice([1, min(values["nodes"], 6)]))
        bits = values["VALUE_BITS"]
        if from_buffer:
            bits = min(bits, values["FEATURE_BITS"])
            codes = draw_codes(rng, *code_range(bits, True), (count, inputs))
            rows = [[Record(k, code) for k, code in enumerate(row)] for row in codes.tolist()]
        else:
            rows = draw_rows(rng, count, inputs, code_range(bits, True), empty=True)
        issued = operations(rows, chunks, inputs, base)
        self.check_against_golden(rows, issued, inputs, chunks, base)
        words = -(-inputs // lanes)
        ports = {"last_input": inputs - 1, "weight_base": base, "last_chunk": chunks - 1}
        if self.walks:
            ports |= {"from_buffer": int(from_buffer), "num_rows": count}
        memory = []
        if from_buffer:
            stored = feature_buffer(codes, lanes, values["FEATURE_STRIDE"])
            memory = [pack(word, values["FEATURE_BITS"]) for word in stored]
        return Pass(
            from_buffer, ports, issued,
            [
                op.last_chunk and (op.last or (op.address - base) % inputs % lanes == lanes - 1)
                for op in issued
            ],
            [word * values.get("FEATURE_STRIDE", 0) + row
             for row in range(count) for word in range(words)],
            memory, *draw_pauses(rng, len(issued)),
        )  # fmt: skip

    def check_against_golden(
        self, rows: list[list[Record]], issued: list[Operation], inputs: int, chunks: int, base: int
    ) -> None:
        """Prove the expectation: with any weights, it adds up to what the golden function says."""
        weights = draw_codes(self.rng, -128, 127, (inputs, chunks))
        memory = np.zeros(base + chunks * inputs, np.int64)
        memory[base:] = feature_buffer(weights, 1, inputs)[:, 0]
        indptr, indices, values = csr(rows)
        walked = sparse.csr_array((values, indices, indptr), shape=(len(rows), inputs))
        golden = combination_unit(walked, weights, BOUND)
        assert np.array_equal(accumulate(issued, memory, chunks), golden)

    def junk(self) -> dict[str, int]:
        """Draw an element that nobody means."""
        values = self.values
        widths = {
            "element_mac": 1, "element_last": 1, "element_final": 1,
            "element_index": values["INPUT_BITS"], "element_value": values["VALUE_BITS"],
        }  # fmt: skip
        return {name: draw_bits(self.rng, bits) for name, bits in widths.items()}

    def element(self, drawn: Pass, position: int) -> dict[str, int]:
        """Return the stream's inputs while an element is offered."""
        op = drawn.operations[position]
        final = position + drawn.ports["last_chunk"] + 1 == len(drawn.operations)
        fields = self.junk() | {
            "element_mac": int(op.mac), "element_last": int(op.last), "element_final": int(final),
        }  # fmt: skip
        if op.mac:
            fields["element_index"] = op.address - drawn.ports["weight_base"]
            fields["element_value"] = pack([op.value], self.values["VALUE_BITS"])
        return fields

    async def run_pass(self, drawn: Pass, reset_at: int = -1) -> None:
        """Run a pass to its end, or into a reset in its cycle `reset_at`."""
        rng, read = self.rng, self.bench.read
        ops, buffer = drawn.operations, drawn.from_buffer
        word_bits = self.values["LANES"] * self.values["FEATURE_BITS"]
        port = ReadPort(drawn.memory, draw_bits(rng, word_bits))
        tail = int(rng.integers(2, 6))
        position = fetched = number = 0
        offered: dict[str, int] | None = None
        issued: Operation | None = None
        await self.idle(start=1, **drawn.ports)
        while tail:
            done = position == len(ops)
            tail -= done
            hold = next(drawn.holds)
            if offered is None and (buffer or done or not next(drawn.gaps)):
                # What comes in a buffer pass and after the last element belongs to others.
                offered = self.junk() if buffer or done else self.element(drawn, position)
            source = number > 0 if buffer else offered is not None
            issue = source and not hold and not done
            rst = number == reset_at
            await self.bench.cycle(
                rst=int(rst), start=0, active=1, hold=int(hold),
                element_valid=int(offered is not None), **(offered or self.junk()),
                **({"feature_data": port.data} if self.walks else {}),
            )  # fmt: skip
            if rst:
                await self.bench.cycle(rst=0, active=0)
                check_operation(self.bench, self.values["VALUE_BITS"], None)
                return
            check_operation(self.bench, self.values["VALUE_BITS"], issued)
            issued = ops[position] if issue else None
            where = f"cycle {self.bench.cycles}, {issued}, {drawn.ports}"
            taken = issued is not None and issued.last_chunk
            assert read("weight_re") == issue, where
            if issued and issued.mac:
                assert read("weight_addr") == issued.address, where
            assert read("element_ready") == (taken and not buffer), where
            if not buffer:
                starved = offered is None and not hold
                assert read("starved") == starved, where
                self.events["starved"] += starved
            if self.walks:
                fetch = buffer and fetched < len(drawn.addresses)
                fetch = fetch and (number == 0 or (issue and drawn.word_ends[position]))
                assert read("feature_re") == fetch, where
                if fetch:
                    assert read("feature_addr") == drawn.addresses[fetched], where
                    port.clock(1, drawn.addresses[fetched])
                    fetched += 1
            if taken and not buffer:
                offered = None
            self.events["held"] += source and hold
            position += issue
            number += 1
        assert fetched == len(drawn.addresses) * buffer

    async def idle(self, start: int = 0, **ports: int) -> None:
        """Spend a cycle outside of a pass, with whatever waits at the stream."""
        await self.bench.cycle(
            start=start, active=0, hold=draw_bits(self.rng, 1),
            element_valid=draw_bits(self.rng, 1), **self.junk(), **ports,
        )  # fmt: skip
        check_operation(self.bench, self.values["VALUE_BITS"], None)
        assert not self.bench.read("element_ready")
        assert not self.bench.read("weight_re")

    async def started(self) -> None:
        """Bring the unit through its first reset."""
        ports = {"from_buffer": 0, "num_rows": 1} if self.walks else {}
        await self.bench.start(
            start=0, active=0, hold=0, element_valid=0, last_input=0, weight_base=0, last_chunk=0,
            **self.junk(), **ports,
        )  # fmt: skip


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def passes_issue_the_exact_operations(dut: Any) -> None:
    """Passes of both kinds follow each other, with stalls on both sides."""
    unit = FrontEnd(dut)
    await unit.started()
    for number in range(unit.values["draws"]):
        await unit.run_pass(unit.draw_pass(from_buffer=unit.walks and number % 2 == 1))
        for _ in range(int(unit.rng.integers(3))):
            await unit.idle()
    # Stalls that never happened would prove nothing.
    assert unit.events["starved"], unit.events
    assert unit.events["held"], unit.events


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def reset_aborts_a_pass(dut: Any) -> None:
    """A reset at any place of a pass; the next pass is clean, whatever its kind."""
    unit = FrontEnd(dut)
    await unit.started()
    for number in range(unit.values["draws"]):
        drawn = unit.draw_pass(from_buffer=unit.walks and number % 3 > 0)
        await unit.run_pass(drawn, int(unit.rng.integers(len(drawn.operations) + 2)))
        await unit.run_pass(unit.draw_pass(from_buffer=unit.walks and number % 2 > 0))
