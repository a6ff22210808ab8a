"""Bench of `attention_epilogue`: every word equals the golden mean, five cycles after it came."""

from collections import Counter
from typing import Any

import cocotb
import numpy as np

from sgq_hw.formats import Window
from sgq_hw.golden.attention_unit import reciprocals, round_means
from sgq_hw.golden.fixed_point import IntArray, code_range
from sgq_hw.sim.bench import draw_codes, pack, settings
from sgq_hw.sim.pipeline import Pipeline, Word

LATENCY = 5
WORDS = 16
"""Words of one format."""


class Means:
    """The unit, with a format and degree windows drawn now and then."""

    def __init__(self, dut: Any) -> None:
        self.values = settings()
        values, lanes = self.values, self.values["LANES"]
        self.widths = {
            "in_num": values["NUM_BITS"], "in_reciprocal": 16,
            "in_exponent": values["EXPONENT_BITS"], "in_bias": values["BIAS_BITS"],
        }  # fmt: skip
        ports = {name: lanes * bits for name, bits in self.widths.items()}
        ports |= {"in_shift": values["SHIFT_BITS"]}
        ports |= {"in_low": values["OUT_BITS"], "in_high": values["OUT_BITS"]}
        self.unit = Pipeline(dut, LATENCY, ports, values["TAG_BITS"])
        self.rng = self.unit.rng
        self.events: Counter[str] = Counter()

    def draw_format(self) -> tuple[int, bool, list[Window]]:
        """Draw a shift, a signedness and windows of the degree buckets."""
        rng, largest = self.rng, self.values["largest_shift"]
        shift = int(rng.choice([0, 1, largest, rng.integers(0, largest + 1)]))
        signed = bool(rng.random() < 0.5) and self.values["OUT_BITS"] > 1
        least, most = (2, self.values["OUT_BITS"]) if signed else (1, self.values["OUT_BITS"] - 1)
        windows = [
            Window(
                bits=int(rng.integers(least, most + 1)),
                exponent=int(rng.choice([0, rng.integers(0, largest - shift + 1)])),
            )
            for _ in range(3)
        ]
        return shift, signed, windows

    def draw_sums(self, shape: tuple[int, int]) -> tuple[IntArray, IntArray, IntArray]:
        """Draw numerators, reciprocals and their exponents of weights that are possible."""
        largest = self.values["largest_den"]
        lengths = self.rng.integers(0, largest.bit_length() + 1, shape)
        den = np.minimum(self.rng.integers(0, np.int64(1) << lengths, endpoint=True), largest)
        den = np.where(self.rng.random(shape) < 0.1, self.rng.choice([0, 1, largest], shape), den)
        exponents, factors = reciprocals(den)
        share = self.rng.choice([-1.0, 0.0, 1.0, 0.5], shape) * self.rng.choice(
            [1.0, self.rng.random()], shape
        )
        most = self.values["magnitude"] * den
        noise = self.rng.integers(-2, 3, shape)
        num = np.clip((share * most).astype(np.int64) + noise, -most, most)
        return num, factors, exponents

    def draw_bias(
        self, products: IntArray, exponents: IntArray, shifts: IntArray, limits: IntArray
    ) -> IntArray:
        """Draw biases, most of them so that the result is where rounding or clipping decides."""
        shape = products.shape
        low, high = limits[:, :1], limits[:, 1:]
        steps = self.rng.choice([-1, 0, 1], shape)
        corners = np.stack([low + steps, high + steps, 0 * low + steps], axis=-1)
        code = np.take_along_axis(corners, self.rng.integers(0, 3, (*shape, 1)), axis=-1)[..., 0]
        half = (np.int64(1) << (shifts + exponents)) >> 1
        wanted = (code << (shifts + exponents)) + self.rng.choice([-1, 1], shape) * half
        bias = ((wanted - products) >> exponents) + self.rng.integers(-1, 2, shape)
        bias_low, bias_high = code_range(self.values["BIAS_BITS"], True)
        random = draw_codes(self.rng, bias_low, bias_high, shape)
        fits = (bias >= bias_low) & (bias <= bias_high) & (self.rng.random(shape) < 0.8)
        return np.where(fits, bias, random)

    def words(self, count: int) -> list[Word]:
        """Draw words of one pass."""
        shift, signed, windows = self.draw_format()
        buckets = self.rng.integers(0, len(windows), count)
        own = np.array([window.exponent for window in windows])[buckets][:, np.newaxis]
        limits = np.array([code_range(window.bits, signed) for window in windows])[buckets]
        num, factors, exponents = self.draw_sums((count, self.values["LANES"]))
        products = num * factors
        bias = self.draw_bias(products, exponents, shift + own, limits)
        totals = products + (bias << exponents)
        results = round_means(
            totals, exponents, shift, bits=0, signed=signed, windows=windows, buckets=buckets
        )
        codes = results >> own
        self.count(totals, shift + own + exponents, limits)
        self.events.update(
            no_weight=int((exponents == 0).sum()), no_shift=int((shift + own == 0).sum()),
            longest=int((exponents == self.values["largest_den"].bit_length()).sum()),
            full=int((np.abs(num) == self.values["magnitude"] * ((1 << exponents) - 1)).sum()),
        )  # fmt: skip
        columns = {"in_num": num, "in_reciprocal": factors, "in_exponent": exponents}
        columns["in_bias"] = bias
        found = []
        for at in range(count):
            inputs = {name: pack(columns[name][at], bits) for name, bits in self.widths.items()}
            inputs["in_shift"] = shift + int(own[at, 0])
            inputs["in_low"] = pack(limits[at, :1], self.values["OUT_BITS"])
            inputs["in_high"] = pack(limits[at, 1:], self.values["OUT_BITS"])
            found.append(Word(inputs, {"out_data": pack(codes[at], self.values["OUT_BITS"])}))
        return found

    def count(self, totals: IntArray, shifts: IntArray, limits: IntArray) -> None:
        """Note which corners the sums visit."""
        half = (np.int64(1) << shifts) >> 1
        code = (totals + half) >> shifts
        rest = totals & ((half << 1) - 1)
        tie = (half > 0) & (rest == half)
        low, high = limits[:, :1], limits[:, 1:]
        visits = {
            "below low": code == low - 1, "low": code == low, "high": code == high,
            "above high": code == high + 1, "tie below zero": tie & (totals < 0),
            "tie above zero": tie & (totals > 0), "almost a tie": rest == half - 1,
        }  # fmt: skip
        self.events.update({name: int(hits.sum()) for name, hits in visits.items()})


@cocotb.test(timeout_time=10, timeout_unit="ms")
async def equals_the_golden_mean(dut: Any) -> None:
    """Corners and random words, dense and with gaps, for many formats; windows within a pass."""
    means = Means(dut)
    await means.unit.start()
    for _ in range(means.values["draws"]):
        await means.unit.send(means.words(WORDS), float(means.rng.choice([0, 0, 0.3, 0.8])))
    await means.unit.drain()
    assert all(means.events.values()), f"corners missed: {means.events}"


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def reset_drops_what_is_in_flight(dut: Any) -> None:
    """Resets of one cycle at any place, also some on end; nothing of before them leaves."""
    means = Means(dut)
    await means.unit.start()
    for _ in range(3):
        await means.unit.survive_resets(means.words(60))
