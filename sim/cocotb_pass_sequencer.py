"""Bench of pass_sequencer: passes in order, each with its settings, at the promised cycles.

Passes that walk together run as one: what is called a pass here is such a walk.
"""

from collections import Counter
from dataclasses import dataclass
from typing import Any

import cocotb

from sgq_hw.sim.bench import Bench, draw_bits, generator, settings

CONTROL = ("infer_taken", "busy", "start", "active", "done", "output_wait", "pass_index")
START_LATENCY = 2
"""Cycles from the end of a pass, or from a taken inference, to `start`."""


@dataclass
class Plan:
    """What should happen: either nothing, a pass that is to start, or a pass that runs.

    Attributes:
        start_at: First cycle in which the next `start` may come, where one is due.
        index: The pass.
        running: Whether it runs.
    """

    start_at: int | None = None
    index: int = 0
    running: bool = False

    @property
    def idle(self) -> bool:
        """Whether no inference is under way."""
        return not self.running and self.start_at is None

    def expect(self, cycle: int, inputs: dict[str, int], passes: int) -> dict[str, int]:
        """Return the control outputs of a cycle."""
        last = self.index == passes - 1
        due = self.start_at is not None and cycle >= self.start_at
        waits = due and last and not inputs["output_free"]
        done = self.running and inputs["pass_end"] and last
        return {
            "busy": int(not self.idle),
            "output_wait": int(waits),
            "start": int(due and not waits),
            "active": int(self.running),
            "done": int(done),
            "infer_taken": int(inputs["infer_pending"] and (self.idle or done)),
        }

    def advance(self, cycle: int, ended: int, expected: dict[str, int]) -> None:
        """Follow one cycle."""
        if expected["start"]:
            self.start_at, self.running = None, True
        elif self.running and ended:
            self.running = False
            self.index = 0 if expected["done"] else self.index + 1
            if not expected["done"]:
                self.start_at = cycle + START_LATENCY
        if expected["infer_taken"]:
            self.start_at = cycle + START_LATENCY


class Runner:
    """Plays the loader (pending inferences), the epilogue (ends) and the output (free)."""

    def __init__(self, dut: Any) -> None:
        self.bench = Bench(dut, known=[name for name in CONTROL if name != "pass_index"])
        self.rng = generator()
        self.passes: list[dict[str, int]] = settings()["passes"]
        self.plan = Plan()
        self.pending = 0
        self.events: Counter[str] = Counter()

    async def start(self) -> None:
        """Reset at first."""
        await self.bench.start(infer_pending=0, pass_end=0, output_free=0)

    async def step(self, end: int, free: int = 1) -> dict[str, int]:
        """Spend a cycle and compare everything; returns what was expected of it."""
        plan, bench = self.plan, self.bench
        # Only a pass that runs can end.
        end = end if plan.running else draw_bits(self.rng, 1)
        inputs = {"infer_pending": self.pending, "pass_end": end, "output_free": free}
        await bench.cycle(**inputs)
        expected = plan.expect(bench.cycles, inputs, len(self.passes))
        have = {name: bench.read(name) for name in expected}
        assert have == expected, f"cycle {bench.cycles}: {have}, not {expected}"
        if any(expected[name] for name in ("start", "active", "output_wait")):
            self.check_settings(self.passes[plan.index])
        self.events.update(
            waited=self.pending and expected["active"],
            queued=expected["infer_taken"] and expected["done"],
            ran=expected["active"] and not end,
            finished=expected["done"],
            output_waits=expected["output_wait"],
        )
        plan.advance(bench.cycles, end, expected)
        if expected["infer_taken"]:
            self.pending = 0
        return expected

    def check_settings(self, wanted: dict[str, int]) -> None:
        """Compare the settings of the running pass, its index among them."""
        for name, value in wanted.items():
            handle = getattr(self.bench.dut, name)
            have = self.bench.read(name)
            mask = (1 << len(handle)) - 1
            assert have == value & mask, f"walk {self.plan.index}: {name} is {have}, not {value}"

    async def play(
        self, cycles: int, end_rate: float, pending_rate: float, free_rate: float
    ) -> None:
        """Spend cycles with ends, inferences and a free output at these rates."""
        for _ in range(cycles):
            if not self.pending and self.rng.random() < pending_rate:
                self.pending = 1
            end, free = self.rng.random(2) < (end_rate, free_rate)
            await self.step(int(end), int(free))

    async def drain(self) -> None:
        """Finish what runs, then see that nothing else happens."""
        while not self.plan.idle or self.pending:
            await self.step(1)
        for _ in range(10):
            expected = await self.step(0, draw_bits(self.rng, 1))
            assert not any(expected.values())


@cocotb.test()
async def passes_run_in_order(dut: Any) -> None:
    """Ends, inferences and a free output at every rate, cycle by cycle against the plan."""
    runner = Runner(dut)
    await runner.start()
    for end_rate in (0.1, 0.5, 1.0):
        for pending_rate in (0.05, 1.0):
            for free_rate in (0.1, 0.9, 1.0):
                await runner.play(100, end_rate, pending_rate, free_rate)
                await runner.drain()
    assert all(count > 5 for count in runner.events.values())
    assert len(runner.events) == 5


@cocotb.test()
async def no_cycle_is_lost(dut: Any) -> None:
    """A pass that ends at once takes one cycle and the two of its start, and what it waits."""
    runner = Runner(dut)
    await runner.start()
    runner.pending = 1
    for waits in (0, 0, 1, 7):
        first, waited = runner.bench.cycles, runner.events["output_waits"]
        finished = runner.events["finished"]
        while runner.events["finished"] == finished:
            runner.pending = 1
            await runner.step(1, int(runner.events["output_waits"] - waited >= waits))
        spent = runner.bench.cycles - first
        # The very first inference is taken in a cycle of its own.
        assert spent == len(runner.passes) * (1 + START_LATENCY) + waits + (finished == 0)


@cocotb.test()
async def a_reset_aborts(dut: Any) -> None:
    """Reset in each pass, before, in and after its start: idle at once, then a clean inference."""
    runner = Runner(dut)
    await runner.start()
    for index in range(len(runner.passes)):
        for extra in range(5):
            for free in (0, 1):
                runner.pending = 1
                while runner.plan.index < index:
                    await runner.step(1)
                for _ in range(extra):
                    await runner.step(0, free)
                runner.pending = 0
                await runner.bench.reset(1 + extra % 2, infer_pending=0, pass_end=0)
                runner.plan = Plan()
                assert not any(runner.bench.read(name) for name in CONTROL)
                runner.pending = 1
                await runner.drain()
