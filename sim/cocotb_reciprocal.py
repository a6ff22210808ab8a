"""Bench of `reciprocal`: all denominators where they are few, else corners and random ones."""

from collections.abc import Iterator
from typing import Any

import cocotb
import numpy as np

from sgq_hw.golden.attention_unit import reciprocals
from sgq_hw.golden.fixed_point import IntArray
from sgq_hw.sim.bench import draw_codes, settings
from sgq_hw.sim.pipeline import Pipeline, Word

FRACTION = 15


async def started(dut: Any) -> Pipeline:
    """Return the unit after its first reset."""
    values = settings()
    latency = 2 + -(-FRACTION // values["STEPS"])
    unit = Pipeline(dut, latency, {"in_den": values["DEN_BITS"]}, values["TAG_BITS"])
    await unit.start()
    return unit


def words(denominators: IntArray) -> Iterator[Word]:
    """Return words of denominators [words] and what has to come out."""
    exponents, factors = reciprocals(denominators)
    for den, exponent, factor in zip(
        denominators.tolist(), exponents.tolist(), factors.tolist(), strict=True
    ):
        yield Word({"in_den": den}, {"out_exponent": exponent, "out_reciprocal": factor})


def corners(bits: int) -> IntArray:
    """Return powers of two, their neighbours, and one and a half of them."""
    powers = [1 << k for k in range(bits)]
    found = {power + step for power in powers for step in (-2, -1, 0, 1, 2, power >> 1)}
    found |= {(1 << bits) - step for step in (1, 2, 3)}
    return np.array([den for den in sorted(found) if 0 <= den < 1 << bits])


@cocotb.test(timeout_time=10, timeout_unit="ms")
async def every_denominator(dut: Any) -> None:
    """All that there are, or the small ones, corners and random ones of every length."""
    unit, values = await started(dut), settings()
    bits = values["DEN_BITS"]
    small = np.arange(1 << min(bits, values["dense"]))
    lengths = unit.rng.integers(1, bits + 1, 1000)
    large = unit.rng.integers(1 << (lengths - 1), 1 << lengths)
    await unit.send(words(np.concatenate([small, corners(bits), large])))
    await unit.drain()


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def gaps_and_resets(dut: Any) -> None:
    """Corners and random denominators with gaps, then resets in mid-flight."""
    unit, values = await started(dut), settings()
    denominators = draw_codes(unit.rng, 0, (1 << values["DEN_BITS"]) - 1, 200)
    await unit.send(words(denominators), gaps=0.4)
    await unit.survive_resets(words(denominators))
