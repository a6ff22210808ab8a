"""Bench of `degree_window`: position, shift and limits of every place, one cycle after it came."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

import cocotb
import numpy as np

from sgq_hw.golden.degree_window import degree_window
from sgq_hw.golden.fixed_point import IntArray
from sgq_hw.sim.bench import Bench, draw_bits, draw_codes, generator, pack, settings, unpack

INPUTS = ("place", "bounds", "shift", "exponents", "limits_low", "limits_high")


@dataclass(frozen=True)
class Pass:
    """What is constant while a pass runs: the bounds of the graph, and the pass's own settings."""

    bounds: list[int]
    shift: int
    exponents: list[int]
    limits: list[tuple[int, int]]


@dataclass(frozen=True)
class Expected:
    """What has to come out."""

    bucket: int
    window_shift: int
    low: int
    high: int


class Unit:
    """The unit: draws passes and places, and checks each cycle against the one before."""

    def __init__(self, dut: Any) -> None:
        self.bench = Bench(dut)
        self.values = settings()
        self.rng = generator()
        self.before: Expected | None = None
        self.events: Counter[str] = Counter()

    def draw_pass(self) -> Pass:
        """Draw a graph's bounds, some buckets often empty, and windows."""
        rng, values = self.rng, self.values
        buckets, nodes = values["BUCKETS"], int(rng.integers(1, values["nodes"] + 1))
        bounds = rng.integers(0, nodes + 1, buckets - 1)
        if rng.random() < 0.5:
            # Many empty buckets, also the first and the last.
            bounds = rng.choice([0, nodes, int(rng.integers(0, nodes + 1))], buckets - 1)
        bounds.sort()
        largest = (1 << values["EXPONENT_BITS"]) - 1
        top = (1 << values["SHIFT_BITS"]) - 1
        exponents = draw_codes(rng, 0, min(largest, top), buckets)
        if rng.random() < 0.2:
            exponents[:] = 0
        shift = int(rng.integers(0, top - int(exponents.max()) + 1))
        half = 1 << (values["OUT_BITS"] - 1)
        limits = np.sort(draw_codes(rng, -half, half - 1, (buckets, 2)), axis=1)
        return Pass(
            bounds.tolist(), shift, exponents.tolist(), [(int(a), int(b)) for a, b in limits]
        )

    def draw_places(self, drawn: Pass, count: int) -> IntArray:
        """Draw places, most of them at a bound or beside it."""
        highest = (1 << self.values["PLACE_BITS"]) - 1
        corners = np.array([0, highest, *drawn.bounds])
        near = self.rng.choice(corners, count) + self.rng.integers(-1, 2, count)
        any_place = self.rng.integers(0, highest + 1, count)
        chosen = np.where(self.rng.random(count) < 0.7, near, any_place)
        return np.clip(chosen, 0, highest)

    async def cycle(self, drawn: Pass, place: int, expected: Expected) -> None:
        """Give a place and compare what belongs to the one before."""
        values = self.values
        limits = list(zip(*drawn.limits, strict=True))
        await self.bench.cycle(
            place=place,
            bounds=pack(drawn.bounds, values["BOUND_BITS"]),
            shift=drawn.shift,
            exponents=pack(drawn.exponents, values["EXPONENT_BITS"]),
            limits_low=pack(limits[0], values["OUT_BITS"]),
            limits_high=pack(limits[1], values["OUT_BITS"]),
        )
        if self.before is not None:
            bits = values["OUT_BITS"]
            have = Expected(
                self.bench.read("bucket"), self.bench.read("window_shift"),
                unpack(self.bench.read("low"), bits, 1)[0],
                unpack(self.bench.read("high"), bits, 1)[0],
            )  # fmt: skip
            assert have == self.before, f"cycle {self.bench.cycles}: {have}, not {self.before}"
        self.before = expected

    async def run(self, drawn: Pass, places: IntArray) -> None:
        """Give the places of a pass, one a cycle."""
        found = degree_window(
            places, drawn.bounds, drawn.shift, drawn.exponents, drawn.limits
        )
        columns = [column.tolist() for column in found]
        for place, *row in zip(places.tolist(), *columns, strict=True):
            await self.cycle(drawn, place, Expected(*row))
        self.events.update(f"position {position}" for position in columns[0])
        steps = np.diff([0, *drawn.bounds])
        self.events["empty first"] += bool(steps[0] == 0)
        self.events["empty in between"] += bool((steps[1:] == 0).any())
        self.events["at a bound"] += int(np.isin(places, drawn.bounds).sum())


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def equals_the_golden_function(dut: Any) -> None:
    """Places beside bounds and anywhere, for many graphs and passes, without a gap."""
    unit = Unit(dut)
    inputs = {name: draw_bits(unit.rng, len(getattr(dut, name))) for name in INPUTS}
    await unit.bench.start(**inputs)
    for _ in range(unit.values["draws"]):
        drawn = unit.draw_pass()
        await unit.run(drawn, unit.draw_places(drawn, 20))
    await unit.cycle(drawn, 0, Expected(0, 0, 0, 0))
    buckets = unit.values["BUCKETS"]
    wanted = [f"position {position}" for position in range(buckets)]
    wanted += ["empty first", "at a bound", *(["empty in between"] * (buckets > 2))]
    assert all(unit.events[name] for name in wanted), f"missed: {unit.events}"
