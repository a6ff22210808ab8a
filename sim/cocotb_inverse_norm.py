"""Bench of `inverse_norm`: all sums of squares where they are few, else corners and random ones."""

from collections.abc import Iterator
from typing import Any

import cocotb
import numpy as np

from sgq_hw.attention_timing import inverse_norm_latency
from sgq_hw.golden.attention_unit import inverse_norm
from sgq_hw.golden.fixed_point import IntArray
from sgq_hw.sim.bench import draw_codes, settings
from sgq_hw.sim.pipeline import Pipeline, Word


async def started(dut: Any) -> Pipeline:
    """Return the unit after its first reset."""
    values = settings()
    latency = inverse_norm_latency(values["NORM_BITS"], values["STEPS"])
    unit = Pipeline(dut, latency, {"in_square": values["SQUARE_BITS"]}, values["TAG_BITS"])
    await unit.start()
    return unit


def words(squares: IntArray) -> Iterator[Word]:
    """Return words of sums of squares [words] and what has to come out."""
    norms = inverse_norm(squares, settings()["NORM_BITS"])
    for square, mantissa, exponent in zip(
        squares.tolist(), norms.mantissa.tolist(), norms.exponent.tolist(), strict=True
    ):
        yield Word({"in_square": square}, {"out_mantissa": mantissa, "out_exponent": exponent})


def corners(bits: int) -> IntArray:
    """Return squares, powers of two and their neighbours, and the largest numbers."""
    bases = [1 << k for k in range(bits)] + [3 << k for k in range(bits)]
    bases += [k * k for k in (3, 5, 7, 127, 128, 181, 255)] + [(1 << bits) - 1]
    found = {base + step for base in bases for step in (-1, 0, 1)}
    return np.array([n for n in sorted(found) if 0 <= n < 1 << bits])


@cocotb.test(timeout_time=10, timeout_unit="ms")
async def every_sum_of_squares(dut: Any) -> None:
    """All that there are, or the small ones, corners and random ones of every length."""
    unit, values = await started(dut), settings()
    bits = values["SQUARE_BITS"]
    small = np.arange(1 << min(bits, values["dense"]))
    lengths = unit.rng.integers(1, bits + 1, 1000)
    large = unit.rng.integers(1 << (lengths - 1), 1 << lengths)
    await unit.send(words(np.concatenate([small, corners(bits), large])))
    await unit.drain()


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def gaps_and_resets(dut: Any) -> None:
    """Corners and random sums with gaps, then resets in mid-flight."""
    unit, values = await started(dut), settings()
    squares = draw_codes(unit.rng, 0, (1 << values["SQUARE_BITS"]) - 1, 200)
    await unit.send(words(squares), gaps=0.4)
    await unit.survive_resets(words(squares))
