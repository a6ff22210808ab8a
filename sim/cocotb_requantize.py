"""Bench of `requantize`: every word equals the golden epilogue, four cycles after it came.

With the setting `word_limits` every word brings its own shift and limits, without it
they are inputs of the unit that change between the words of different passes, as the factor of an
addend does.
"""

from collections import Counter, deque
from dataclasses import dataclass
from typing import Any

import cocotb
import numpy as np

from sgq_hw.formats import Window
from sgq_hw.golden.fixed_point import IntArray, code_range
from sgq_hw.golden.requantize import requantize, requantize_windows
from sgq_hw.sim.bench import Bench, draw_bits, draw_codes, generator, pack, settings, unpack

LATENCY = 4
HIGHEST_EXPONENT = 15
ATTEMPTS = 8
"""Draws of operands until a wanted sum is given up."""


@dataclass(frozen=True)
class Range:
    """How sums become codes; each an int64 [words, 1]."""

    shift: IntArray
    low: IntArray
    high: IntArray


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
        self.factor = 0
        self.word_limits = bool(self.values["word_limits"])
        self.shift, self.signed = 0, False
        self.windows = [Window(exponent=0, bits=1)]

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
        """Draw shift, formats and factor of a pass; inputs change once the last word has left."""
        for _ in range(LATENCY - 1 if self.has_addend or not self.word_limits else 0):
            await self.cycle(None)
        rng, largest = self.rng, (1 << self.values["SHIFT_BITS"]) - 1
        self.shift = int(rng.choice([0, 1, largest, rng.integers(0, largest + 1)]))
        largest_factor = (1 << self.values.get("FACTOR_BITS", 0)) - 1
        self.factor = int(rng.choice([0, largest_factor, rng.integers(0, largest_factor + 1)]))
        self.signed = bool(rng.random() < 0.5)
        widest = self.values["OUT_BITS"] - (not self.signed)
        if widest < 2:
            self.signed, widest = False, 1
        room = min(largest - self.shift, HIGHEST_EXPONENT) if self.word_limits else 0
        self.windows = [
            Window(
                exponent=int(rng.choice([0, room, int(rng.integers(0, room + 1))])),
                bits=int(rng.integers(2 if self.signed else 1, widest + 1)),
            )
            for _ in range(self.values["BUCKETS"] if self.word_limits else 1)
        ]

    def ranges(self, buckets: IntArray) -> Range:
        """Return how the sums of words become codes."""
        limits = [code_range(window.bits, self.signed) for window in self.windows]
        exponents = [window.exponent for window in self.windows]
        low, high = np.array(limits, np.int64)[buckets].T[:, :, np.newaxis]
        return Range(self.shift + np.array(exponents, np.int64)[buckets][:, np.newaxis], low, high)

    def wanted_sums(self, shape: tuple[int, int], of: Range) -> IntArray:
        """Draw sums near codes where rounding or clipping changes its mind."""
        rng, half = self.rng, np.int64(1) << of.shift >> 1
        low, high = (np.broadcast_to(limit, shape) for limit in (of.low, of.high))
        zeros = np.zeros(shape, np.int64)
        corners = np.stack(
            [low - 1, low, low + 1, zeros - 1, zeros, zeros + 1, high - 1, high, high + 1]
        )
        chosen = np.take_along_axis(corners, rng.integers(len(corners), size=(1, *shape)), 0)[0]
        codes = np.where(rng.random(shape) < 0.1, rng.integers(low, high + 1), chosen)
        rests = np.stack([-half - 1, -half, 1 - half, 0 * half, half - 1, half])
        rests = np.broadcast_to(rests, (len(rests), *shape))
        rest = np.take_along_axis(rests, rng.integers(len(rests), size=(1, *shape)), 0)[0]
        wanted: IntArray = (codes << of.shift) + np.where(half == 0, 0, rest)
        return wanted

    def operands(self, shape: tuple[int, int], of: Range) -> dict[str, IntArray]:
        """Draw operands [words, lanes], most of them for a wanted sum where the widths reach it."""
        names = ["acc", "multiplier", "bias"] + ["addend"] * self.has_addend
        found = {name: self.draw(name, shape) for name in names}
        wanted = self.wanted_sums(shape, of)
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

    def count(self, total: IntArray, of: Range) -> None:
        """Note which corners the sums visit."""
        half = np.int64(1) << of.shift >> 1
        code = (total + half) >> of.shift
        tie = (half > 0) & (total & (2 * half - 1) == half)
        largest = (1 << self.values["SHIFT_BITS"]) - 1
        visits = {
            "below low": code == of.low - 1,
            "low": code == of.low,
            "high": code == of.high,
            "above high": code == of.high + 1,
            "tie below zero": tie & (total < 0),
            "tie above zero": tie & (total > 0),
            "shift 0": of.shift == 0,
            "largest shift": of.shift == largest,
        }
        if self.has_addend:
            largest_factor = (1 << self.values["FACTOR_BITS"]) - 1
            visits["largest factor"] = np.full(1, self.factor == largest_factor)
        self.events.update({name: int(hits.sum()) for name, hits in visits.items()})

    def words(self, count: int) -> list[Word]:
        """Draw words."""
        buckets = self.rng.integers(len(self.windows), size=count)
        of = self.ranges(buckets)
        columns = self.operands((count, self.values["LANES"]), of)
        addend = columns.get("addend")
        sums = columns["acc"], columns["multiplier"], columns["bias"]
        total = sums[0] * sums[1] + sums[2]
        self.count(total if addend is None else total + addend * self.factor, of)
        if self.word_limits:
            codes = requantize_windows(
                *sums, self.shift, self.windows, self.signed, buckets, addend, self.factor
            )
            # What the consumer sees is the code on the grid of the widest window.
            codes >>= of.shift - self.shift
        else:
            bits = self.windows[0].bits
            codes = requantize(*sums, self.shift, bits, self.signed, addend, self.factor)
        widths = {name: self.values[f"{name.upper()}_BITS"] for name in columns}
        factor = {"addend_factor": self.factor} if self.has_addend else {}
        return [
            Word(
                {f"in_{name}": pack(columns[name][at], bits) for name, bits in widths.items()}
                | self.window(*(int(part[at, 0]) for part in (of.shift, of.low, of.high))) | factor,
                draw_bits(self.rng, self.values["TAG_BITS"]),
                codes[at].tolist(),
            )
            for at in range(count)
        ]

    def window(self, shift: int, low: int, high: int) -> dict[str, int]:
        """Return the inputs that say how a word is rounded and clipped."""
        mask = (1 << self.values["OUT_BITS"]) - 1
        names = ("in_shift", "in_low", "in_high") if self.word_limits else (
            "shift", "limit_low", "limit_high")  # fmt: skip
        return dict(zip(names, (shift, low & mask, high & mask), strict=True))

    def junk(self) -> dict[str, int]:
        """Draw what lies on the inputs while they are not valid."""
        names = ["acc", "multiplier", "bias"] + ["addend"] * self.has_addend
        lanes = self.values["LANES"]
        widths = {name: lanes * self.values[f"{name.upper()}_BITS"] for name in names}
        found = {f"in_{name}": draw_bits(self.rng, bits) for name, bits in widths.items()}
        if self.word_limits:
            bits = self.values["OUT_BITS"]
            found |= self.window(
                draw_bits(self.rng, self.values["SHIFT_BITS"]),
                draw_bits(self.rng, bits), draw_bits(self.rng, bits),
            )  # fmt: skip
        return found

    async def cycle(self, word: Word | None, rst: int = 0) -> None:
        """Offer a word, or none, and check what leaves."""
        await self.bench.cycle(
            rst=rst, in_valid=int(word is not None),
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
        where = f"cycle {self.bench.cycles}, shift {self.shift}, windows {self.windows}"
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
