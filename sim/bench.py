"""What the unit benches share: settings, seeded draws, clock, reset, packed words, exact reads.

Two styles of bench stand on it. Benches of streams run coroutines on `start` and `reset`. Benches
of pipelines go cycle by cycle with `Bench.cycle`, which drives the inputs of a cycle while the
clock is low and returns when they have settled: what is then read is what the rising edge that
ends the cycle will see, in every simulator.
"""

import json
import os
import random
from collections.abc import Iterable, Sequence
from typing import Any

import cocotb
import numpy as np
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge, ReadOnly, Timer
from cocotb.types import LogicArray

from sgq_hw.golden.fixed_point import IntArray

SETTINGS_VARIABLE = "SGQ_BENCH_SETTINGS"
"""Environment variable with the settings of a bench, JSON."""

PERIOD_NS = 10
CORNER_SHARE = 0.3
"""Share of drawn codes that are taken from the corners of the range."""


def settings() -> dict[str, Any]:
    """Return what the pytest side tells the bench: parameters, formats, shapes."""
    found: dict[str, Any] = json.loads(os.environ[SETTINGS_VARIABLE])
    return found


def generator() -> np.random.Generator:
    """Return a generator that follows the seed of the run and the name of the running test."""
    seed = random.getrandbits(64)
    cocotb.log.info("draws from seed %d", seed)
    return np.random.default_rng(seed)


def draw_bits(rng: np.random.Generator, bits: int) -> int:
    """Draw a word of any width; also the junk of inputs that are not valid."""
    raw = rng.bit_generator.random_raw
    word = raw() if bits <= 64 else int.from_bytes(raw(-(-bits // 64)).tobytes(), "little")
    return int(word) & ((1 << bits) - 1)


def draw_codes(
    rng: np.random.Generator, low: int, high: int, shape: int | tuple[int, ...]
) -> IntArray:
    """Draw int64 codes in [low, high], often a corner: a limit, its neighbour, 0, 1 or -1."""
    corners = [
        code for code in (low, low + 1, -1, 0, 1, high - 1, high) if low <= code <= high
    ]  # fmt: skip
    codes = rng.integers(low, high, shape, np.int64, endpoint=True)
    return np.where(rng.random(shape) < CORNER_SHARE, rng.choice(corners, shape), codes)


def pack(codes: Iterable[int], bits: int) -> int:
    """Return a word with codes side by side, the first lowest; negative codes wrap."""
    mask = (1 << bits) - 1
    word = 0
    for lane, code in enumerate(codes):
        word |= (int(code) & mask) << (lane * bits)
    return word


def unpack(word: int, bits: int, lanes: int) -> list[int]:
    """Return the two's complement codes of a word, the lowest first."""
    half = 1 << (bits - 1)
    mask = (1 << bits) - 1
    return [((word >> (lane * bits) & mask) ^ half) - half for lane in range(lanes)]


def read(handle: Any) -> int:
    """Return a signal's value as an unsigned number; an X or Z in it fails the test."""
    value = handle.value
    try:
        return int(value)
    except ValueError:
        raise AssertionError(f"{handle._path} is {value}") from None


def start_clock(dut: Any) -> None:
    """Start the clock of a unit."""
    Clock(dut.clk, PERIOD_NS, unit="ns", impl="gpi").start()


async def reset(dut: Any, cycles: int = 1) -> None:
    """Hold `rst` high over some rising edges; returns at a falling edge with `rst` low again."""
    await FallingEdge(dut.clk)
    dut.rst.value = 1
    for _ in range(cycles):
        await FallingEdge(dut.clk)
    dut.rst.value = 0


async def start(dut: Any, **inputs: int) -> None:
    """Set inputs, start the clock and reset."""
    for name, value in inputs.items():
        getattr(dut, name).value = value
    start_clock(dut)
    await reset(dut, 2)


async def assert_cut(inputs: Sequence[Any], outputs: Sequence[Any]) -> None:
    """Fail if an output follows one of some inputs of one bit within the cycle.

    To be awaited while the clock is low; the inputs get their values back before the rising edge.
    """
    await Timer(1, "ns")
    before = [read(handle) for handle in outputs]
    kept = [read(handle) for handle in inputs]
    for handle, value in zip(inputs, kept, strict=True):
        handle.value = 1 - value
        await Timer(10, "ps")
        after = [read(output) for output in outputs]
        assert after == before, f"{handle._path} changes an output at once"
        handle.value = value
    await Timer(10, "ps")


class Bench:
    """Drives a unit cycle by cycle.

    Attributes:
        dut: The unit.
        cycles: Cycles so far.
    """

    def __init__(self, dut: Any, known: Sequence[str] = ()) -> None:
        """Take a unit whose outputs `known` must never be X from its first reset on."""
        self.dut = dut
        self.cycles = 0
        self._known = tuple(known)
        self._driven: dict[str, int | LogicArray] = {}
        self._was_reset = False
        self._in_reset = False

    async def start(self, **inputs: int) -> None:
        """Set inputs, start the clock, and reset where the unit has one."""
        start_clock(self.dut)
        if hasattr(self.dut, "rst"):
            await self.reset(2, **inputs)
        else:
            await self.cycle(**inputs)

    async def reset(self, cycles: int = 1, **inputs: int) -> None:
        """Spend cycles in reset."""
        self._in_reset = True
        for _ in range(cycles):
            await self.cycle(rst=1, **inputs)
        self._in_reset = False
        self._was_reset = True
        await self.cycle(rst=0)

    async def cycle(self, **inputs: int | LogicArray) -> None:
        """Begin a cycle: drive inputs, let the unit settle; the others keep their values."""
        await FallingEdge(self.dut.clk)
        for name, value in inputs.items():
            if self._driven.get(name) != value:
                self._driven[name] = value
                getattr(self.dut, name).value = value
        await ReadOnly()
        self.cycles += 1
        if self._was_reset and not self._in_reset:
            for name in self._known:
                self.read(name)

    def read(self, name: str) -> int:
        """Return an output of this cycle; an X in it fails the test."""
        return read(getattr(self.dut, name))

    def parts(self, name: str, bits: int) -> list[int | None]:
        """Return the parts of an output that are so wide, the lowest first; one with X is None."""
        text = str(getattr(self.dut, name).value)
        parts = [text[low : low + bits] for low in range(0, len(text), bits)]
        return [int(part, 2) if set(part) <= {"0", "1"} else None for part in reversed(parts)]
