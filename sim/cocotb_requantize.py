"""Bench of `requantize`: every word equals the golden epilogue, four cycles after it came."""

from collections import Counter, deque
from dataclasses import dataclass
from typing import Any

import cocotb
import numpy as np

from sgq_hw.golden.fixed_point import IntArray, code_range
from sgq_hw.golden.requantize import requantize, requantize_windows
from sgq_hw.sim.bench import Bench, draw_bits, draw_codes, generator, pack, settings, unpack

LATENCY = 4
ATTEMPTS = 8
"""Draws of operands until a wanted sum is given up."""


@dataclass(frozen=True)
class Word:
    """Inputs of one cycle and what has to come out."""

    inputs: dict[str, int]
    tag: int
    codes: list[int]


class Epilogue:
    """The unit with its settings: draws words, sends them, checks what leaves in each cycle."""

    def __init__(self, dut: Any) -> None:
        self.bench = Bench(dut, known=["out_valid"])
        self.values = settings()
        self.rng = generator()
        self.events: Counter[str] = Counter()
        self.in_flight: deque[Word | None] = deque([None] * LATENCY)
        self.has_addend = "ADDEND_BITS" in self.values
        self.factor = int(self.values.get("ADDEND_FACTOR", 0))
        self.shift = self.low = self.high = 0
        self.format = (1, False)

    def limits(self, name: str) -> tuple[int, int]:
        """Return the range of an operand."""
        if name == "acc":
            return -self.values["accumulator"], self.values["accumulator"]
        bits = self.values[f"{name.upper()}_BITS"]
        return code_range(bits, name != "multiplier")

    def draw(self, name: str, shape: tuple[int, int]) -> IntArray:
        """Draw operands [words, lanes], often at a corner."""
        return draw_codes(self.rng, *self.limits(name), shape)

    async def configure(self) -> None:
        """Draw shift and format, and set them once the last word has left."""
        for _ in range(LATENCY - 1):
            await self.cycle(None)
        rng, largest = self.rng, (1 << self.values["SHIFT_BITS"]) - 1
        self.shift = int(rng.choice([0, 1, largest, rng.integers(0, largest + 1)]))
        signed = bool(rng.random() < 0.5)
        widest = self.values["OUT_BITS"] - (not signed)
        if widest < 2:
            signed, widest = False, 1
        self.format = (int(rng.integers(2 if signed else 1, widest + 1)), signed)
        self.low, self.high = code_range(*self.format)

    def wanted_sums(self, shape: tuple[int, int]) -> IntArray:
        """Draw sums near codes where rounding or clipping changes its mind."""
        half = 1 << self.shift >> 1
        low, high = self.low, self.high
        corners = [low - 1, low, low + 1, -1, 0, 1, high - 1, high, high + 1]
        codes = np.where(
            self.rng.random(shape) < 0.1,
            self.rng.integers(low, high + 1, shape),
            self.rng.choice(corners, shape),
        )
        rests = [-half - 1, -half, 1 - half, 0, half - 1, half] if half else [0]
        wanted: IntArray = (codes << self.shift) + self.rng.choice(rests, shape)
        return wanted

    def operands(self, shape: tuple[int, int]) -> dict[str, IntArray]:
        """Draw operands [words, lanes], most of them for a wanted sum where the widths reach it."""
        names = ["acc", "multiplier", "bias"] + ["addend"] * self.has_addend
        found = {name: self.draw(name, shape) for name in names}
        wanted = self.wanted_sums(shape)
        low, high = self.limits("acc")
        bias_low, bias_high = self.limits("bias")
        settled = self.rng.random(shape) < 0.3
        for attempt in range(ATTEMPTS):
            tried = {name: self.draw(name, shape) for name in names}
            multiplier = tried["multiplier"] = np.maximum(tried["multiplier"], 1)
            if attempt >= ATTEMPTS // 2:
                multiplier[:] = 1
            rest = wanted - (tried["addend"] * self.factor if self.has_addend else 0)
            acc = tried["acc"] = np.clip((rest - tried["bias"]) // multiplier, low, high)
            bias = tried["bias"] = rest - acc * multiplier
            fits = ~settled & (bias >= bias_low) & (bias <= bias_high)
            for name in names:
                found[name] = np.where(fits, tried[name], found[name])
            settled |= fits
        return found

    def count(self, total: IntArray) -> None:
        """Note which corners the sums visit."""
        half = 1 << self.shift >> 1
        code = (total + half) >> self.shift
        tie = total % (2 * half) == half if half else np.zeros(total.shape, bool)
        largest = (1 << self.values["SHIFT_BITS"]) - 1
        visits = {
            "below low": code == self.low - 1,
            "low": code == self.low,
            "high": code == self.high,
            "above high": code == self.high + 1,
            "tie below zero": tie & (total < 0),
            "tie above zero": tie & (total > 0),
            "shift 0": np.full(total.shape, self.shift == 0),
            "largest shift": np.full(total.shape, self.shift == largest),
        }
        self.events.update({name: int(hits.sum()) for name, hits in visits.items()})

    def words(self, count: int) -> list[Word]:
        """Draw words."""
        columns = self.operands((count, self.values["LANES"]))
        addend = columns.get("addend")
        total = columns["acc"] * columns["multiplier"] + columns["bias"]
        self.count(total if addend is None else total + addend * self.factor)
        codes = requantize(
            columns["acc"], columns["multiplier"], columns["bias"], self.shift, *self.format,
            addend, self.factor,
        )  # fmt: skip
        widths = {name: self.values[f"{name.upper()}_BITS"] for name in columns}
        return [
            Word(
                {f"in_{name}": pack(columns[name][at], bits) for name, bits in widths.items()},
                draw_bits(self.rng, self.values["TAG_BITS"]),
                codes[at].tolist(),
            )
            for at in range(count)
        ]

    def junk(self) -> dict[str, int]:
        """Draw what lies on the inputs while they are not valid."""
        names = ["acc", "multiplier", "bias"] + ["addend"] * self.has_addend
        lanes = self.values["LANES"]
        widths = {name: lanes * self.values[f"{name.upper()}_BITS"] for name in names}
        return {f"in_{name}": draw_bits(self.rng, bits) for name, bits in widths.items()}

    async def cycle(self, word: Word | None, rst: int = 0) -> None:
        """Offer a word, or none, and check what leaves."""
        mask = (1 << self.values["OUT_BITS"]) - 1
        await self.bench.cycle(
            rst=rst, shift=self.shift, limit_low=self.low & mask, limit_high=self.high & mask,
            in_valid=int(word is not None),
            in_tag=draw_bits(self.rng, self.values["TAG_BITS"]) if word is None else word.tag,
            **(self.junk() if word is None else word.inputs),
        )  # fmt: skip
        expected = self.in_flight.popleft()
        if not rst:
            self.check(expected)
        self.in_flight.append(word)
        if rst:
            self.in_flight = deque([None] * LATENCY)

    def check(self, expected: Word | None) -> None:
        """Compare the outputs of this cycle."""
        where = f"cycle {self.bench.cycles}, shift {self.shift}, format {self.format}"
        assert self.bench.read("out_valid") == (expected is not None), where
        if expected is not None:
            assert self.bench.read("out_tag") == expected.tag, where
            lanes, bits = self.values["LANES"], self.values["OUT_BITS"]
            got = unpack(self.bench.read("out_data"), bits, lanes)
            assert got == expected.codes, f"{where}: {expected}, got {got}"

    async def stretch(self, words: int, gaps: float, resets: float = 0.0) -> None:
        """Send words with gaps between them and resets among them."""
        for word in self.words(words):
            while self.rng.random() < gaps:
                await self.cycle(None)
            await self.cycle(word, rst=int(self.rng.random() < resets))


async def started(dut: Any) -> Epilogue:
    """Return the unit after its first reset."""
    unit = Epilogue(dut)
    await unit.bench.start(in_valid=0, **unit.junk())
    return unit


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def equals_the_golden_epilogue(dut: Any) -> None:
    """Corners and random words, dense and with gaps, for many shifts and formats."""
    unit = await started(dut)
    for _ in range(unit.values["draws"]):
        await unit.configure()
        await unit.stretch(12, float(unit.rng.choice([0, 0, 0.3, 0.8])))
    await unit.configure()
    assert all(unit.events.values()), f"corners missed: {unit.events}"


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def reset_drops_what_is_in_flight(dut: Any) -> None:
    """Resets of one cycle at any place, also two on end; nothing of before them leaves."""
    unit = await started(dut)
    for _ in range(3):
        await unit.configure()
        await unit.stretch(40, 0.2, resets=0.2)
        await unit.stretch(2, 0, resets=1)
        await unit.stretch(10, 0)
