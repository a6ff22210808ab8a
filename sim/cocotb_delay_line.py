"""Bench of `delay_line`: every word comes out its number of cycles later, and nothing else does."""

from collections import Counter, deque
from collections.abc import Sequence
from typing import Any

import cocotb

from sgq_hw.sim.bench import Bench, draw_bits, generator, settings


class Line:
    """The unit, and what is inside.

    Attributes:
        bench: The clock and the ports.
        delay: Cycles that words need now.
        inside: The words of the last `delay` cycles, None for cycles without one.
        events: What has happened.
    """

    def __init__(self, dut: Any) -> None:
        self.values = settings()
        self.bench = Bench(dut, known=["out_valid"])
        self.rng = generator()
        self.delay = 2
        self.inside: deque[int | None] = deque([None, None])
        self.events: Counter[str] = Counter()

    def draw(self) -> int:
        """Draw a word; it lies on the input in cycles without one too."""
        return draw_bits(self.rng, self.values["WIDTH"])

    def set_delay(self, delay: int) -> None:
        """Choose a delay, while nothing is inside."""
        assert not any(word is not None for word in self.inside)
        self.delay = delay
        self.inside = deque([None] * delay)

    async def cycle(self, valid: bool, rst: int = 0) -> None:
        """Offer a word or none, and check what leaves."""
        word = self.draw()
        await self.bench.cycle(rst=rst, delay=self.delay, in_valid=int(valid), in_data=word)
        expected = self.inside.popleft()
        self.inside.append(word if valid else None)
        if rst:
            self.inside = deque([None] * self.delay)
            return
        where = f"cycle {self.bench.cycles}, delay {self.delay}"
        assert self.bench.read("out_valid") == (expected is not None), where
        if expected is not None:
            got = self.bench.read("out_data")
            assert got == expected, f"{where}: {got} instead of {expected}"
            self.events["left"] += 1
            self.events["full"] += all(one is not None for one in self.inside)

    async def drain(self) -> None:
        """Wait until the last word has left, no cycle longer."""
        while any(word is not None for word in self.inside):
            await self.cycle(False)

    async def send(self, pattern: Sequence[bool]) -> None:
        """Offer words in some of the next cycles."""
        for valid in pattern:
            await self.cycle(valid)


async def started(dut: Any) -> Line:
    """Return the unit after its first reset."""
    line = Line(dut)
    await line.bench.start(delay=line.delay, in_valid=0, in_data=line.draw())
    return line


@cocotb.test(timeout_time=10, timeout_unit="ms")
async def every_delay(dut: Any) -> None:
    """All delays in any order, each set as the last word of the one before has left."""
    line = await started(dut)
    depth = line.values["DEPTH"]
    delays = [*range(2, depth), 2, depth - 1, 2]
    line.rng.shuffle(delays)
    for delay in delays:
        line.set_delay(delay)
        # No gap, for longer than the memory is deep; then with gaps; then a single word.
        for busy in (1.0, 0.7, 0.2):
            await line.send([bool(line.rng.random() < busy) for _ in range(2 * depth)])
        await line.drain()
        await line.cycle(True)
        await line.drain()
    assert line.events["full"] >= depth, line.events


@cocotb.test(timeout_time=10, timeout_unit="ms")
async def resets(dut: Any) -> None:
    """Nothing of before a reset leaves, wherever it was; nor what comes in meanwhile."""
    line = await started(dut)
    depth = line.values["DEPTH"]
    for number in range(40):
        line.set_delay(int(line.rng.choice([2, depth - 1, line.rng.integers(2, depth)])))
        await line.send([True] * int(line.rng.integers(1, 2 * depth)))
        for _ in range(1 + number % 3):
            await line.cycle(bool(line.rng.random() < 0.8), rst=1)
        busy = line.rng.choice([0.0, 0.5, 1.0])
        await line.send([bool(line.rng.random() < busy) for _ in range(depth)])
        await line.drain()
