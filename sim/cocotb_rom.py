"""Bench of `rom`: every word of the image, in random order, a cycle after its address."""

from typing import Any

import cocotb

from sgq_hw.sim.bench import Bench, draw_bits, generator, settings


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def reads_its_image(dut: Any) -> None:
    """All words three times, and data that stay while nothing is read."""
    values, rng, bench = settings(), generator(), Bench(dut)
    words = [int(word, 16) for word in values["image"]]
    held: int | None = None
    stayed = 0
    await bench.start(re=0, raddr=0)
    order = rng.permutation(list(range(len(words))) * 3).tolist()
    for address in [*order, 0]:
        while rng.random() < 0.4:
            await bench.cycle(re=0, raddr=draw_bits(rng, values["ADDR_BITS"]))
            if held is not None:
                assert bench.read("rdata") == held, f"cycle {bench.cycles}"
                stayed += 1
        await bench.cycle(re=1, raddr=address)
        if held is not None:
            assert bench.read("rdata") == held, f"cycle {bench.cycles}"
        held = words[address]
    assert stayed
