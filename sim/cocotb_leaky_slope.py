"""Bench of `leaky_slope`: every sum of scores, a cycle later, equals the golden function."""

from collections.abc import Iterator
from typing import Any

import cocotb
import numpy as np

from sgq_hw.golden.attention_unit import leaky
from sgq_hw.golden.fixed_point import IntArray, code_range
from sgq_hw.sim.bench import draw_codes, pack, settings
from sgq_hw.sim.pipeline import Pipeline, Word

LATENCY = 1


async def started(dut: Any) -> Pipeline:
    """Return the unit after its first reset."""
    values = settings()
    widths = {"in_data": values["LANES"] * values["IN_BITS"]}
    unit = Pipeline(dut, LATENCY, widths, values["TAG_BITS"])
    await unit.start()
    return unit


def words(sums: IntArray) -> Iterator[Word]:
    """Return words [words, lanes] of sums and what has to come out."""
    values = settings()
    bits = values["IN_BITS"]
    logits = leaky(sums, values["SLOPE_CODE"], values["SLOPE_SHIFT"])
    for row, result in zip(sums.tolist(), logits.tolist(), strict=True):
        out = pack(result, bits + values["SLOPE_SHIFT"])
        yield Word({"in_data": pack(row, bits)}, {"out_data": out})


@cocotb.test(timeout_time=10, timeout_unit="ms")
async def every_sum(dut: Any) -> None:
    """All sums, without a gap, in every lane if there are few."""
    unit, values = await started(dut), settings()
    low, high = code_range(values["IN_BITS"], True)
    lanes = values["LANES"]
    sums = np.arange(low, high + 1)
    if len(sums) <= 1 << 10:
        await unit.send(words(np.stack([np.roll(sums, lane) for lane in range(lanes)], axis=1)))
    else:
        await unit.send(words(unit.rng.permutation(sums).reshape(-1, lanes)))
    await unit.drain()


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def gaps_and_resets(dut: Any) -> None:
    """Corners and random sums with gaps, then resets in mid-flight."""
    unit, values = await started(dut), settings()
    shape = (200, values["LANES"])
    sums = draw_codes(unit.rng, *code_range(values["IN_BITS"], True), shape)
    await unit.send(words(sums), gaps=0.4)
    await unit.survive_resets(words(sums))
