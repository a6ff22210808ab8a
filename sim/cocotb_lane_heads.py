"""Bench of `lane_heads`: every lane of every chunk of every pass gets the value of its head."""

from typing import Any

import cocotb
from cocotb.triggers import Timer

from sgq_hw.sim.bench import draw_bits, generator, read, settings


@cocotb.test()
async def lanes_get_what_belongs_to_their_head(dut: Any) -> None:
    """All passes and chunks, in any order, with random values; lanes without a channel may differ.

    A pass is given as its heads and channels: heads lie side by side.
    """
    values, rng = settings(), generator()
    bits, lanes = len(dut.in_data) // values["HEADS"], values["LANES"]
    words = [
        (select, chunk, heads, channels)
        for select, (heads, channels) in enumerate(values["passes"])
        for chunk in range(-(-channels // lanes))
    ]
    compared = 0
    for _ in range(values["draws"]):
        rng.shuffle(words)
        for select, chunk, heads, channels in words:
            data = draw_bits(rng, values["HEADS"] * bits)
            dut.select.value, dut.chunk.value, dut.in_data.value = select, chunk, data
            await Timer(1, "ns")
            found = read(dut.out_data)
            for lane in range(min(lanes, channels - chunk * lanes)):
                head = (chunk * lanes + lane) * heads // channels
                want = data >> (head * bits) & ((1 << bits) - 1)
                have = found >> (lane * bits) & ((1 << bits) - 1)
                where = f"pass {select}, chunk {chunk}, lane {lane}, head {head}"
                assert have == want, f"{where}: {have}, not {want}"
                compared += 1
    assert compared == values["draws"] * sum(channels for _, channels in values["passes"])
