"""Bench of `ram`: a dictionary says what every read gives, a cycle later."""

from collections.abc import Iterator
from typing import Any

import cocotb
import numpy as np

from sgq_hw.sim.bench import Bench, draw_bits, generator, settings

CYCLES = 400


def addresses(rng: np.random.Generator, depth: int) -> Iterator[tuple[int | None, int | None]]:
    """Draw (write address, read address) of each cycle, never the same one."""
    known: list[int] = []
    for _ in range(CYCLES):
        write = int(rng.integers(depth)) if rng.random() < 0.6 else None
        read = None
        if known and rng.random() < 0.7:
            # Often what was written a cycle ago.
            read = known[-1] if rng.random() < 0.3 else int(rng.choice(known))
        yield write, None if read == write else read
        if write is not None:
            known = [address for address in known if address != write] + [write]
    for address in rng.permutation(depth).tolist():
        yield address, None
    for address in rng.permutation(depth).tolist():
        yield None, address
    yield None, None


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def reads_what_was_written(dut: Any) -> None:
    """Random reads and writes, both in many cycles, and data that stay while nothing is read."""
    values, rng, bench = settings(), generator(), Bench(dut)
    words: dict[int, int] = {}
    held: int | None = None
    stayed = 0
    await bench.start(we=0, re=0)
    for write, read in addresses(rng, values["DEPTH"]):
        word = draw_bits(rng, values["WIDTH"])
        junk = [draw_bits(rng, values["ADDR_BITS"]) for _ in range(2)]
        await bench.cycle(
            we=int(write is not None), waddr=junk[0] if write is None else write, wdata=word,
            re=int(read is not None), raddr=junk[1] if read is None else read,
        )  # fmt: skip
        if held is not None:
            assert bench.read("rdata") == held, f"cycle {bench.cycles}"
            stayed += read is None
        if read is not None:
            held = words[read]
        if write is not None:
            words[write] = word
    assert stayed, "no cycle in which data had to stay"
    if values["collide"]:
        await bench.cycle(we=1, waddr=0, wdata=0, re=1, raddr=0)
        await bench.cycle()
