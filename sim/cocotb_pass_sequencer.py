"""Bench of pass_sequencer: passes in order, each with its settings, at the promised cycles."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

import cocotb

from sgq_hw.sim.bench import Bench, draw_bits, generator, settings

CONTROL = ("infer_taken", "busy", "start", "active", "done", "pass_index")
START_LATENCY = 2
"""Cycles from the last row of a pass, or from a taken inference, to `start`."""


@dataclass
class Plan:
    """What should happen: either nothing, a pass that starts at a cycle, or a pass that runs.

    Attributes:
        start_at: Cycle of the next `start`, where one is due.
        index: The pass.
        rows_left: Rows that it still lacks, once it runs.
    """

    start_at: int | None = None
    index: int = 0
    rows_left: int | None = None

    def expect(self, cycle: int, pending: int, row_done: int, passes: int) -> dict[str, int]:
        """Return the control outputs of a cycle."""
        running = self.rows_left is not None
        done = running and self.rows_left == 1 and row_done and self.index == passes - 1
        idle = not running and self.start_at is None
        return {
            "busy": int(not idle),
            "start": int(self.start_at == cycle),
            "active": int(running),
            "done": int(done),
            "infer_taken": int(pending and (idle or done)),
        }

    def advance(self, cycle: int, row_done: int, rows: int, taken: int, passes: int) -> None:
        """Follow one cycle."""
        if self.start_at == cycle:
            self.start_at, self.rows_left = None, rows
        elif self.rows_left is not None and row_done:
            self.rows_left -= 1
            if self.rows_left == 0:
                self.rows_left = None
                self.index += 1
                if self.index < passes:
                    self.start_at = cycle + START_LATENCY
                else:
                    self.index = 0
        if taken:
            self.start_at = cycle + START_LATENCY


class Runner:
    """Plays the loader (pending inferences) and the epilogue (finished rows)."""

    def __init__(self, dut: Any) -> None:
        self.bench = Bench(dut, known=[name for name in CONTROL if name != "pass_index"])
        self.rng = generator()
        self.passes: list[dict[str, int]] = settings()["passes"]
        self.row_bits: int = settings()["ROW_BITS"]
        self.plan = Plan()
        self.pending = 0
        self.rows = 1
        self.events: Counter[str] = Counter()

    async def start(self) -> None:
        """Reset at first."""
        await self.bench.start(infer_pending=0, row_done=0, num_rows=1)

    async def step(self, row_done: int) -> dict[str, int]:
        """Spend a cycle and compare everything; returns what was expected of it."""
        plan, bench = self.plan, self.bench
        # Nobody may rely on the row count but in the cycle of a start.
        starts = plan.start_at == bench.cycles + 1
        rows = self.rows if starts else draw_bits(self.rng, self.row_bits)
        await bench.cycle(infer_pending=self.pending, row_done=row_done, num_rows=rows)
        expected = plan.expect(bench.cycles, self.pending, row_done, len(self.passes))
        have = {name: bench.read(name) for name in expected}
        assert have == expected, f"cycle {bench.cycles}: {have}, not {expected}"
        if expected["start"] or expected["active"]:
            assert bench.read("pass_index") == plan.index
            self.check_settings(self.passes[plan.index])
        plan.advance(
            bench.cycles, row_done, self.rows, expected["infer_taken"], len(self.passes)
        )
        if expected["infer_taken"]:
            self.pending = 0
        self.events.update(
            waited=self.pending and expected["active"],
            queued=expected["infer_taken"] and expected["done"],
            gaps=expected["active"] and not row_done,
            finished=expected["done"],
        )
        return expected

    def check_settings(self, wanted: dict[str, int]) -> None:
        """Compare the settings of the running pass."""
        for name, value in wanted.items():
            handle = getattr(self.bench.dut, name)
            have = self.bench.read(name)
            mask = (1 << len(handle)) - 1
            assert have == value & mask, f"pass {self.plan.index}: {name} is {have}, not {value}"

    async def play(self, cycles: int, row_rate: float, pending_rate: float, rows: int) -> None:
        """Spend cycles with rows and inferences at these rates; up to `rows` rows a pass."""
        for _ in range(cycles):
            if not self.pending and self.rng.random() < pending_rate:
                self.pending = 1
            if self.plan.start_at == self.bench.cycles + 1:
                self.rows = int(self.rng.integers(1, rows, endpoint=True))
            running = self.plan.rows_left is not None
            await self.step(int(running and self.rng.random() < row_rate))

    async def drain(self) -> None:
        """Finish what runs, then see that nothing else happens."""
        while self.plan.start_at is not None or self.plan.rows_left is not None or self.pending:
            await self.step(int(self.plan.rows_left is not None))
        for _ in range(10):
            expected = await self.step(0)
            assert not any(expected.values())


@cocotb.test()
async def passes_run_in_order(dut: Any) -> None:
    """Rows and inferences at every rate, cycle by cycle against the plan."""
    runner = Runner(dut)
    await runner.start()
    largest = (1 << runner.row_bits) - 1
    for row_rate in (0.1, 0.5, 1.0):
        for pending_rate in (0.02, 1.0):
            await runner.play(150, row_rate, pending_rate, min(largest, 5))
            await runner.drain()
    runner.rows = largest
    runner.pending = 1
    await runner.drain()
    assert all(runner.events[name] > 5 for name in ("waited", "queued", "gaps", "finished"))


@cocotb.test()
async def no_cycle_is_lost(dut: Any) -> None:
    """A pass of R rows, one row a cycle, takes R cycles and the two of its start."""
    runner = Runner(dut)
    await runner.start()
    runner.rows = 4
    runner.pending = 1
    for _ in range(3):
        first = runner.bench.cycles
        finished = runner.events["finished"]
        while runner.events["finished"] == finished:
            runner.pending = 1
            await runner.step(int(runner.plan.rows_left is not None))
        spent = runner.bench.cycles - first
        # The very first inference is taken in a cycle of its own.
        assert spent == len(runner.passes) * (runner.rows + START_LATENCY) + (finished == 0)


@cocotb.test()
async def a_reset_aborts(dut: Any) -> None:
    """Reset in each pass, before, in and after its start: idle at once, then a clean inference."""
    runner = Runner(dut)
    await runner.start()
    for index in range(len(runner.passes)):
        for extra in range(5):
            runner.rows, runner.pending = 3, 1
            while runner.plan.index < index:
                await runner.step(int(runner.plan.rows_left is not None))
            for _ in range(extra):
                await runner.step(0)
            runner.pending = 0
            await runner.bench.reset(1 + extra % 2, infer_pending=0, row_done=0)
            runner.plan = Plan()
            assert not any(runner.bench.read(name) for name in CONTROL)
            runner.pending = 1
            await runner.drain()
