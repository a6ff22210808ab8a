"""Bench of the whole accelerator at its ports: streams at every pace, registers, resets.

What is expected, beats and slots of every inference, comes from the golden model in a file.
"""

import itertools
import json
import logging
import random
from collections import Counter
from pathlib import Path
from typing import Any

import cocotb
from cocotb.triggers import FallingEdge, ReadOnly, RisingEdge
from cocotbext.axi import AxiLiteBus, AxiLiteMaster

from sgq_hw.registers import COUNTERS, IRQ_ENABLE_ADDRESS, IRQ_STATUS_ADDRESS
from sgq_hw.sim.bench import read, reset, settings, start
from sgq_hw.sim.scoreboard import Scoreboard
from sgq_hw.sim.stream import PATTERNS, StreamSink, StreamSource, axi_stream, pause_pattern

CONTROL, STATUS, ERROR, COUNTER_BASE = 0x08, 0x0C, 0x10, 0x80
BUSY, LOADED, FAILED = 1, 2, 4
ERR_NOT_LOADED = 8
BUS_INPUTS = ("awvalid", "wvalid", "bready", "arvalid", "rready")
PATIENCE = 3000


class System:
    """The accelerator with a sender, a receiver and a bus master.

    Attributes:
        inferences: Inferences sent since the counters were cleared, by the slots they take.
    """

    def __init__(self, dut: Any) -> None:
        self.dut = dut
        self.data = json.loads(Path(settings()["data"]).read_text(encoding="ascii"))
        self.pes: int = settings()["PES"]
        self.slots_a_cycle: int = self.pes * settings()["LANES"]
        self.board = Scoreboard()
        self.source = StreamSource(axi_stream(dut, "s_axis"))
        self.sink = StreamSink(axi_stream(dut, "m_axis"), on_word=self.board.observe)
        self.beats = 0
        self.slots: Counter[str] = Counter()

    async def begin(self) -> None:
        """Reset, and connect the bus master."""
        await start(self.dut, s_axis_partial=0, **{f"s_axil_{name}": 0 for name in BUS_INPUTS})
        await RisingEdge(self.dut.clk)
        logging.getLogger(f"cocotb.{self.dut._name}.s_axil").setLevel(logging.WARNING)
        self.master = AxiLiteMaster(
            AxiLiteBus.from_prefix(self.dut, "s_axil"), self.dut.clk, self.dut.rst
        )

    def send(self, beats: list[tuple[str, int]]) -> None:
        """Queue beats."""
        for data, last in beats:
            self.source.send(int(data, 16), last)

    def load(self, network: int = 0) -> None:
        """Queue the load packets of one of the networks."""
        self.send(self.data[network]["load"])

    def infer(self, variant: int, network: int = 0) -> None:
        """Queue an inference and expect its results."""
        inference = self.data[network]["inferences"][variant]
        self.send(inference["input"])
        for index, (data, last) in enumerate(inference["output"]):
            self.board.expect((int(data, 16), last), f"beat {index}")
        self.beats += len(inference["output"])
        self.slots.update(inference["slots"])
        self.slots["inferences"] += 1

    async def finish(self) -> None:
        """Wait for all results; then nothing more may come."""
        await self.sink.receive(self.beats, PATIENCE)
        await self.sink.stays_quiet(20)
        self.board.finish()
        await self.source.drained()

    async def reset(self, cycles: int) -> None:
        """Reset everything at once, in whatever it is doing."""
        await reset(self.dut, cycles)
        self.source.clear()
        self.board.clear()
        self.beats = 0
        self.sink.received.clear()
        self.slots.clear()
        await self.sink.stays_quiet(20)

    async def read(self, address: int) -> int:
        """Read a register."""
        response = await self.master.read(address, 4)
        return int.from_bytes(response.data, "little")

    async def write(self, address: int, value: int) -> None:
        """Write a register."""
        await self.master.write(address, value.to_bytes(4, "little"))

    async def counters(self) -> dict[str, int]:
        """Read all counters."""
        found = {}
        for index, counter in enumerate(COUNTERS):
            low = await self.read(COUNTER_BASE + 8 * index)
            found[counter.name] = low | await self.read(COUNTER_BASE + 8 * index + 4) << 32
        return found

    async def check_counters(self, busy_cycles: int | None = None) -> dict[str, int]:
        """Compare the counters with the slots of the inferences sent since they were cleared."""
        found = await self.counters()
        for name, value in self.slots.items():
            assert found[name] == value, f"{name}: {found[name]}, not {value}"
        lost = sum(value for name, value in found.items() if name.startswith("lost_"))
        assert found["busy_slots"] + lost == self.slots_a_cycle * found["cycles"]
        assert busy_cycles in (None, found["cycles"])
        return found


class Monitor:
    """Watches signals of the top module in every cycle.

    Attributes:
        busy: Cycles in which an inference was computed.
        queued: Cycles in which one was computed and another waited.
        loading: Cycles in which a load packet was taken in.
        passes: Cycles of each pass.
    """

    def __init__(self, dut: Any) -> None:
        self.dut = dut
        self.busy = self.queued = self.loading = 0
        self.passes: Counter[int] = Counter()
        cocotb.start_soon(self._run())

    async def _run(self) -> None:
        dut = self.dut
        while True:
            await FallingEdge(dut.clk)
            await ReadOnly()
            busy = read(dut.busy)
            self.busy += busy
            self.loading += read(dut.loading)
            assert not (busy and read(dut.load_we)), "loaded while an inference runs"
            if busy:
                self.queued += read(dut.infer_pending)
                self.passes[read(dut.pass_index)] += 1


@cocotb.test()
@cocotb.parametrize(sink_pattern=PATTERNS)
async def every_pause(dut: Any, sink_pattern: str) -> None:
    """Each pattern of the sender against one of the receiver; every slot is accounted for."""
    system = System(dut)
    await system.begin()
    system.load()
    await system.source.drained()
    for index, source_pattern in enumerate(PATTERNS):
        system.source.pause = pause_pattern(source_pattern)
        system.sink.pause = pause_pattern("none")
        system.infer(index % 2)
        while not read(dut.m_axis_tvalid):
            await FallingEdge(dut.clk)
        system.sink.pause = pause_pattern(sink_pattern)
        await system.finish()
    assert system.source.stalls > 0
    assert bool(system.sink.stalls) == (sink_pattern != "none")
    found = await system.check_counters()
    assert found["lost_input_stall"] > 0
    assert await system.read(STATUS) == LOADED


@cocotb.test()
async def nobody_receives(dut: Any) -> None:
    """The last pass waits for as long as it takes, and the wait is counted."""
    system = System(dut)
    await system.begin()
    system.sink.pause = itertools.repeat(True)
    system.load()
    # The queue and what collects results hold those of two inferences at most.
    for variant in (0, 1, 0):
        system.infer(variant)
    waited = 0
    for _ in range(PATIENCE):
        await FallingEdge(dut.clk)
        waited += (read(dut.hold) and read(dut.active)) or read(dut.output_wait)
    assert waited > PATIENCE // 2
    system.sink.pause = pause_pattern("none")
    await system.finish()
    found = await system.check_counters()
    assert found["lost_output_stall"] >= (waited - 5) * system.slots_a_cycle


@cocotb.test()
async def the_interrupt_follows_the_result(dut: Any) -> None:
    """Not before the last beat is taken, for as long as nobody takes it."""
    system = System(dut)
    await system.begin()
    await system.write(IRQ_ENABLE_ADDRESS, 1)
    system.load()
    system.infer(0)
    received, others = system.sink.received, system.beats - 1
    system.sink.pause = iter(lambda: len(received) == others, None)
    await system.sink.receive(others, PATIENCE)
    for _ in range(20):
        await FallingEdge(dut.clk)
        assert not read(dut.irq)
    assert read(dut.m_axis_tvalid)
    assert read(dut.m_axis_tlast)
    assert await system.read(IRQ_STATUS_ADDRESS) == 0
    system.sink.pause = pause_pattern("none")
    await system.finish()
    assert read(dut.irq)
    assert await system.read(IRQ_STATUS_ADDRESS) == 1
    await system.write(IRQ_STATUS_ADDRESS, 1)
    for _ in range(2):
        await FallingEdge(dut.clk)
    assert not read(dut.irq)


@cocotb.test()
async def twenty_back_to_back(dut: Any) -> None:
    """One inference is always queued while another runs; counters agree with what was seen."""
    system = System(dut)
    await system.begin()
    monitor = Monitor(dut)
    assert await system.read(STATUS) == 0
    system.load()
    await system.source.drained()
    for _ in range(5):
        await FallingEdge(dut.clk)
    assert await system.read(STATUS) == LOADED
    for index in range(20):
        system.infer(index % len(system.data[0]["inferences"]))
    while not read(dut.busy):
        await FallingEdge(dut.clk)
    assert await system.read(STATUS) == BUSY | LOADED
    await system.finish()
    found = await system.check_counters(monitor.busy)
    assert found["load_cycles"] == monitor.loading
    assert len(monitor.passes) == settings()["passes"]
    # Behind all but the last inference, the next waits as soon as the input is read.
    after_input = sum(cycles for index, cycles in monitor.passes.items() if index > 0)
    assert monitor.queued > 18 * after_input // 20
    # In the steady state nothing waits for the sender.
    assert found["lost_input_stall"] <= system.slots_a_cycle * 10
    await system.write(CONTROL, 2)
    assert not any((await system.counters()).values())


@cocotb.test()
async def a_load_waits_for_the_end(dut: Any) -> None:
    """Packets that change everything follow an inference at once, and touch only the next."""
    system = System(dut)
    await system.begin()
    monitor = Monitor(dut)
    for sink_pattern in ("none", "p90"):
        system.sink.pause = pause_pattern(sink_pattern)
        for network in (0, 1, 0, 1):
            system.load(network)
            system.infer(0, network)
            system.infer(1, network)
        await system.finish()
    # Results that nobody takes still need the graph that they belong to.
    system.sink.pause = itertools.repeat(True)
    for network in (0, 1):
        system.load(network)
        system.infer(0, network)
        system.infer(1, network)
    for _ in range(PATIENCE // 2):
        await FallingEdge(dut.clk)
    system.sink.pause = pause_pattern("none")
    await system.finish()
    found = await system.check_counters(monitor.busy)
    assert found["load_cycles"] == monitor.loading
    # The input stream stood still while a load packet waited.
    assert system.source.stalls > monitor.busy // 3


@cocotb.test()
async def a_reset_at_any_time(dut: Any) -> None:
    """Reset while loading and in each pass; then a clean load and inference."""
    system = System(dut)
    await system.begin()
    passes = settings()["passes"]
    for moment in [-5, -50, -1, *range(passes), *range(passes)]:
        words = system.source.words
        system.load()
        system.infer(0)
        system.infer(1)
        system.sink.pause = pause_pattern("p50")
        if moment < 0:
            while system.source.words < words - moment:
                await FallingEdge(dut.clk)
        else:
            while not (read(dut.active) and read(dut.pass_index) == moment):
                await FallingEdge(dut.clk)
        for _ in range(random.randint(0, 40)):
            await FallingEdge(dut.clk)
        await system.reset(random.randint(1, 2))
        assert await system.read(STATUS) == 0
        assert not any((await system.counters()).values())
        system.load()
        system.infer(0)
        await system.finish()
        await system.check_counters()


@cocotb.test()
async def an_error_is_seen_and_cleared(dut: Any) -> None:
    """Status and code over the bus; until it is cleared every packet is drained."""
    system = System(dut)
    await system.begin()
    for data, last in system.data[0]["inferences"][0]["input"]:
        system.source.send(int(data, 16), last)
    system.load()
    await system.source.drained()
    assert await system.read(STATUS) == FAILED
    assert await system.read(ERROR) == ERR_NOT_LOADED
    await system.write(CONTROL, 1)
    assert await system.read(STATUS) == 0
    system.load()
    system.infer(0)
    await system.finish()
    assert await system.read(STATUS) == LOADED
