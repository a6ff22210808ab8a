"""Bench of `inverse_norm`: all sums of squares where they are few, else corners and random ones."""

from collections import deque
from typing import Any

import cocotb
import numpy as np
from cocotb.triggers import FallingEdge

from sgq_hw.golden.attention_unit import inverse_norm
from sgq_hw.golden.fixed_point import IntArray
from sgq_hw.sim.bench import Bench, assert_cut, draw_bits, draw_codes, generator, settings

OUTPUTS = ("out_tag", "out_mantissa", "out_exponent")
MAX_WAIT = 1000
"""Cycles that a number may wait, whatever the pauses."""


class Norms:
    """The unit between a sender and a receiver that may pause."""

    def __init__(self, dut: Any) -> None:
        self.dut = dut
        self.values = settings()
        self.bench = Bench(dut, known=["in_ready", "out_valid"])
        self.rng = generator()
        self.period = 1 + -(-(self.values["NORM_BITS"] + 1) // self.values["STEPS"])
        self.in_work: deque[dict[str, int]] = deque()
        self.accepted: list[int] = []
        self.left: list[int] = []
        self.held: dict[str, int] | None = None

    async def start(self) -> None:
        """Start the clock and reset."""
        await self.bench.start(in_valid=0, out_ready=0, **self.junk())

    def junk(self) -> dict[str, int]:
        """Draw what lies on the inputs while they are not valid."""
        widths = {"in_square": self.values["SQUARE_BITS"], "in_tag": self.values["TAG_BITS"]}
        return {name: draw_bits(self.rng, bits) for name, bits in widths.items()}

    async def cycle(self, offer: dict[str, int] | None, ready: bool, rst: int = 0) -> bool:
        """Spend a cycle; returns whether the number that is offered was taken."""
        inputs = self.junk() if offer is None else {name: offer[name] for name in self.junk()}
        await self.bench.cycle(
            rst=rst, in_valid=int(offer is not None), out_ready=int(ready), **inputs
        )
        if rst:
            self.in_work.clear()
            self.held = None
            return False
        self.check(ready)
        taken = offer is not None and self.bench.read("in_ready") == 1
        if taken and offer is not None:
            self.in_work.append({name: offer[name] for name in OUTPUTS})
            self.accepted.append(self.bench.cycles)
        return taken

    def check(self, ready: bool) -> None:
        """Compare the outputs of this cycle."""
        where = f"cycle {self.bench.cycles}"
        if self.bench.read("out_valid") == 0:
            assert self.held is None, f"{where}: a result went away"
            return
        assert self.in_work, f"{where}: a result too many"
        got = {name: self.bench.read(name) for name in OUTPUTS}
        assert got == self.in_work[0], f"{where}: {self.in_work[0]}, got {got}"
        if self.held is None:
            self.left.append(self.bench.cycles)
        self.held = None if ready else got
        if ready:
            self.in_work.popleft()

    def numbers(self, squares: IntArray) -> list[dict[str, int]]:
        """Return the ports of each number, inputs and outputs."""
        norms = inverse_norm(squares, self.values["NORM_BITS"])
        columns = zip(
            squares.tolist(), norms.mantissa.tolist(), norms.exponent.tolist(), strict=True
        )
        tags = [draw_bits(self.rng, self.values["TAG_BITS"]) for _ in squares]
        return [
            {"in_square": n, "in_tag": tag, "out_tag": tag, "out_mantissa": r, "out_exponent": f}
            for tag, (n, r, f) in zip(tags, columns, strict=True)
        ]

    async def send(
        self, squares: IntArray, pause: float = 0.0, stall: float = 0.0, resets: float = 0.0
    ) -> None:
        """Send numbers and wait for their results."""
        for number in self.numbers(squares):
            while self.rng.random() < pause:
                await self.cycle(None, self.rng.random() >= stall)
            for _ in range(MAX_WAIT):
                if await self.cycle(number, self.rng.random() >= stall):
                    break
                if self.rng.random() < resets:
                    await self.cycle(None, True, rst=1)
            else:
                raise AssertionError(f"cycle {self.bench.cycles}: {number} is not taken")
        for _ in range(MAX_WAIT):
            if not self.in_work:
                break
            await self.cycle(None, self.rng.random() >= stall)
        assert not self.in_work, "results are missing"
        for _ in range(2 * self.period):
            await self.cycle(None, True)


def corners(bits: int) -> IntArray:
    """Return squares, powers of two and their neighbours, and the largest numbers."""
    bases = [1 << k for k in range(bits)] + [3 << k for k in range(bits)]
    bases += [k * k for k in (3, 5, 7, 127, 128, 181, 255)] + [(1 << bits) - 1]
    found = {base + step for base in bases for step in (-1, 0, 1)}
    return np.array([n for n in sorted(found) if 0 <= n < 1 << bits])


@cocotb.test(timeout_time=100, timeout_unit="ms")
async def every_sum_of_squares(dut: Any) -> None:
    """All that there are, or the small ones, corners and random ones of every length."""
    unit = Norms(dut)
    await unit.start()
    bits = unit.values["SQUARE_BITS"]
    small = np.arange(1 << min(bits, unit.values["dense"]))
    lengths = unit.rng.integers(1, bits + 1, 300)
    large = unit.rng.integers(1 << (lengths - 1), 1 << lengths)
    squares = np.concatenate([small, corners(bits), large])
    await unit.send(squares)
    # At full rate: a number every period, and its result a period later.
    assert len(unit.accepted) == len(unit.left) == len(squares)
    assert set(np.diff(unit.accepted)) == {unit.period}
    assert {out - at for at, out in zip(unit.accepted, unit.left, strict=True)} == {unit.period}


@cocotb.test(timeout_time=10, timeout_unit="ms")
async def pauses_and_stalls(dut: Any) -> None:
    """Every mix of pauses of the sender and of the receiver."""
    unit = Norms(dut)
    await unit.start()
    largest = (1 << unit.values["SQUARE_BITS"]) - 1
    for pause in (0.0, 0.5, 0.95):
        for stall in (0.0, 0.5, 0.95):
            await unit.send(draw_codes(unit.rng, 0, largest, 12), pause, stall)


@cocotb.test(timeout_time=10, timeout_unit="ms")
async def resets(dut: Any) -> None:
    """Resets in mid-flight: no result of before them leaves."""
    unit = Norms(dut)
    await unit.start()
    largest = (1 << unit.values["SQUARE_BITS"]) - 1
    for stall in (0.0, 0.8):
        await unit.send(draw_codes(unit.rng, 0, largest, 40), 0.1, stall, resets=0.05)
    await unit.send(draw_codes(unit.rng, 0, largest, 5))


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def ready_comes_from_a_register(dut: Any) -> None:
    """No output follows an input of the handshakes within the cycle, idle or with a result."""
    unit = Norms(dut)
    await unit.start()
    for busy in (False, True):
        if busy:
            for _ in range(2 * unit.period):
                await unit.cycle(unit.numbers(np.array([5]))[0], ready=False)
        await FallingEdge(dut.clk)
        await assert_cut([dut.in_valid, dut.out_ready], [dut.in_ready, dut.out_valid])
