"""Bench of the wrapper with the bus models of cocotbext-axi, which know nothing of this project.

Every test is watched by `ProtocolMonitor`. What is expected, packets and slots of every inference,
comes from the golden model in a file.
"""

import json
import logging
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, FallingEdge, SimTimeoutError, Timer, with_timeout
from cocotbext.axi import (
    AxiLiteBus,
    AxiLiteMaster,
    AxiResp,
    AxiStreamBus,
    AxiStreamFrame,
    AxiStreamSink,
    AxiStreamSource,
)

from sgq_hw.design import ERRORS
from sgq_hw.registers import COUNTER_BASE, COUNTERS, REGISTERS
from sgq_hw.sim.bench import PERIOD_NS, read, settings
from sgq_hw.sim.protocol import ProtocolMonitor, is_high
from sgq_hw.sim.stream import pause_pattern

ADDRESSES = {name: address for address, name, *_ in REGISTERS}
BUSY, LOADED, FAILED = 1, 2, 4
CLEAR_ERROR, CLEAR_COUNTERS = 1, 2
RESULT_IRQ, ERROR_IRQ = 1, 2
PATIENCE = 4000
"""Cycles after which something that should happen is not awaited any longer."""
QUIET = 400
"""Cycles that an inference and its results take less than."""
LATENCY = 60
"""Cycles that results take less than from the pipeline to the sink."""
MASTER_INPUTS = (
    "s_axis_tvalid", "s_axis_tdata", "s_axis_tkeep", "s_axis_tlast", "m_axis_tready",
    "s_axil_awvalid", "s_axil_awaddr", "s_axil_awprot", "s_axil_wvalid", "s_axil_wdata",
    "s_axil_wstrb", "s_axil_bready", "s_axil_arvalid", "s_axil_araddr", "s_axil_arprot",
    "s_axil_rready",
)  # fmt: skip


class System:
    """The wrapper, a bus model at each of its interfaces, and the monitor.

    Attributes:
        dut: The wrapper.
        monitor: Watches everything.
        load_packets: Bytes of the packets that load the network and its graph.
        inferences: Packet, results and slots of each known inference.
        slots: Slots of the inferences run since the counters were cleared.
    """

    def __init__(self, dut: Any) -> None:
        self.dut = dut
        data = json.loads(Path(settings()["data"]).read_text(encoding="ascii"))
        self.load_packets = [bytes.fromhex(packet) for packet in data["load"]]
        self.inferences: list[dict[str, Any]] = data["inferences"]
        self.beat: int = settings()["bytes"]
        self.slots: Counter[str] = Counter()
        for name in ("s_axis", "m_axis", "s_axil"):
            # The models tell of every frame and of every reset that cuts one.
            logging.getLogger(f"cocotb.{dut._name}.{name}").setLevel(logging.ERROR)

    async def begin(self) -> None:
        """Start the clock in reset, connect the models, leave reset."""
        dut = self.dut
        await quiet_reset(dut)
        self.monitor = ProtocolMonitor(dut)
        rest = (dut.aclk, dut.aresetn, False)
        self.source = AxiStreamSource(AxiStreamBus.from_prefix(dut, "s_axis"), *rest)
        self.sink = AxiStreamSink(AxiStreamBus.from_prefix(dut, "m_axis"), *rest)
        self.master = AxiLiteMaster(AxiLiteBus.from_prefix(dut, "s_axil"), *rest)
        write, read_if = self.master.write_if, self.master.read_if
        self.channels = {
            "aw": write.aw_channel, "w": write.w_channel, "b": write.b_channel,
            "ar": read_if.ar_channel, "r": read_if.r_channel,
        }  # fmt: skip
        await ClockCycles(dut.aclk, 4)
        await self.release()
        await ClockCycles(dut.aclk, 4)

    async def release(self) -> None:
        """Take the reset back between two edges; masters may begin with the next one."""
        await FallingEdge(self.dut.aclk)
        await Timer(1, "ns")
        self.dut.aresetn.value = 1

    async def reset(self, delay_ns: int, length_ns: int, then: Sequence[bytes] = ()) -> None:
        """Reset everything, so long after a falling edge, and drop what the models hold.

        Packets to be sent `then` wait when the reset ends, before anything is ready.
        """
        await FallingEdge(self.dut.aclk)
        await Timer(delay_ns, "ns")
        self.dut.aresetn.value = 0
        await Timer(1, "ns")
        self.source.clear()
        self.slots.clear()
        self.pace()
        for packet in then:
            self.send_soon(packet)
        await Timer(length_ns, "ns")
        self.dut.aresetn.value = 1
        while not self.sink.empty():
            self.sink.recv_nowait()

    def pace(self, **rates: float) -> None:
        """Let channels pause in a share of the cycles; the others never pause."""
        for name, agent in {"s": self.source, "m": self.sink, **self.channels}.items():
            agent.set_pause_generator(None)
            agent.pause = False
            if name in rates:
                agent.set_pause_generator(pauses(rates[name]))

    async def send(self, data: bytes, missing: tuple[int, ...] = ()) -> None:
        """Send a packet, without some of its bytes; returns when its last beat was taken."""
        self.send_soon(data, missing)
        await self.sent()

    def send_soon(self, data: bytes, missing: tuple[int, ...] = ()) -> None:
        """Queue a packet right behind the one before."""
        keep = [int(at not in missing) for at in range(len(data))]
        self.source.send_nowait(AxiStreamFrame(data, tkeep=keep))

    async def sent(self) -> None:
        """Wait until all packets were taken."""
        await with_timeout(self.source.wait(), PATIENCE * PERIOD_NS, "ns")

    async def load(self) -> None:
        """Load everything."""
        for packet in self.load_packets:
            self.send_soon(packet)
        await self.sent()

    def infer_soon(self, which: int) -> None:
        """Queue an inference."""
        self.send_soon(self.packet(which))
        self.slots.update(self.inferences[which]["slots"])
        self.slots["inferences"] += 1

    def packet(self, which: int = 0) -> bytes:
        """Return the packet of an inference."""
        return bytes.fromhex(self.inferences[which]["input"])

    async def expect(self, which: int) -> None:
        """Wait for a packet of results, which must be those of an inference."""
        try:
            frame = await with_timeout(self.sink.recv(compact=False), PATIENCE * PERIOD_NS, "ns")
        except SimTimeoutError:
            raise AssertionError("no results") from None
        want = self.inferences[which]["output"]
        assert bytes(frame.tdata).hex() == want, f"{bytes(frame.tdata).hex()}, not {want}"
        assert all(frame.tkeep)

    async def works(self) -> None:
        """Load and infer; all is as it should be."""
        await self.load()
        await self.infers()

    async def infers(self) -> None:
        """Infer with what is loaded, one inference of those known."""
        which = random.randrange(len(self.inferences))
        self.infer_soon(which)
        await self.expect(which)
        assert await self.read("ERROR") == 0
        assert await self.read("STATUS") == LOADED

    async def fails(self, code: str) -> None:
        """Wait for an error and clear it; no complete result may have left."""
        for _ in range(PATIENCE):
            if await self.read("STATUS") & FAILED:
                break
        assert await self.read("ERROR") == ERRORS[code]
        await ClockCycles(self.dut.aclk, LATENCY)
        assert self.sink.empty()
        await self.write("CONTROL", CLEAR_ERROR)
        assert await self.read("STATUS") & FAILED == 0

    async def get(self, address: int) -> int:
        """Read a word."""
        patience = PATIENCE * PERIOD_NS
        answer = await with_timeout(self.master.read(address, 4), patience, "ns")
        assert answer.resp == AxiResp.OKAY
        return int.from_bytes(answer.data, "little")

    async def put(self, address: int, data: bytes) -> None:
        """Write bytes; where they are not a whole word, with partial strobes."""
        patience = PATIENCE * PERIOD_NS
        answer = await with_timeout(self.master.write(address, data), patience, "ns")
        assert answer.resp == AxiResp.OKAY

    async def read(self, name: str) -> int:
        """Read a register."""
        return await self.get(ADDRESSES[name])

    async def write(self, name: str, value: int) -> None:
        """Write a register."""
        await self.put(ADDRESSES[name], value.to_bytes(4, "little"))

    async def check_counters(self) -> None:
        """Compare the counters with the inferences since they were cleared."""
        found = {}
        for index, counter in enumerate(COUNTERS):
            low = await self.get(COUNTER_BASE + 8 * index)
            found[counter.name] = low | await self.get(COUNTER_BASE + 8 * index + 4) << 32
        for name, value in self.slots.items():
            assert found[name] == value, f"{name}: {found[name]}, not {value}"
        lost = sum(value for name, value in found.items() if name.startswith("lost_"))
        slots = settings()["pes"] * settings()["lanes"] * found["cycles"]
        assert found["busy_slots"] + lost == slots

    async def finish(self) -> None:
        """Nothing more comes; no rule was broken, no request is open."""
        self.pace()
        await ClockCycles(self.dut.aclk, QUIET)
        assert self.sink.empty()
        assert self.sink.idle()
        await FallingEdge(self.dut.aclk)
        self.monitor.finish()


async def quiet_reset(dut: Any) -> None:
    """Start the clock with reset on and every master silent."""
    dut.aresetn.value = 0
    for name in MASTER_INPUTS:
        getattr(dut, name).value = 0
    Clock(dut.aclk, PERIOD_NS, unit="ns", impl="gpi").start()
    # The models look at the wrapper's outputs from the start: those must be known.
    await ClockCycles(dut.aclk, 4)


def pauses(rate: float) -> Iterator[bool]:
    """Return endless pauses of a share of the cycles."""
    return (random.random() < rate for _ in count())


# ---------------------------------------------------------------- results


@cocotb.test()
@cocotb.parametrize(
    pattern=[("none", "none"), ("p50", "p50"), ("p90", "none"), ("none", "p90"),
             ("bursts", "sparse")]
)  # fmt: skip
async def results_at_any_pace(dut: Any, pattern: tuple[str, str]) -> None:
    """Load and infer while source and sink pause; interrupt, status and counters follow."""
    system = System(dut)
    await system.begin()
    for _, name, access, _ in REGISTERS:
        if access == "RO" and name in ("STATUS", "ERROR", "NODES", "EDGES"):
            assert await system.read(name) == 0, name
    assert await system.read("PES") == settings()["pes"]
    system.source.set_pause_generator(pause_pattern(pattern[0]))
    await system.load()
    assert await system.read("STATUS") == LOADED
    assert await system.read("NODES") == settings()["nodes"]
    await system.write("IRQ_ENABLE", RESULT_IRQ | ERROR_IRQ)
    for which in range(len(system.inferences)):
        assert read(dut.irq) == 0
        # With a sink that never takes anything at first, results wait for ready.
        system.sink.pause = True
        system.infer_soon(which)
        while not is_high(dut.m_axis_tvalid):
            await FallingEdge(dut.aclk)
        await ClockCycles(dut.aclk, 40)
        assert read(dut.irq) == 0
        system.sink.pause = False
        system.sink.set_pause_generator(pause_pattern(pattern[1]))
        await system.expect(which)
        await ClockCycles(dut.aclk, 4)
        assert read(dut.irq) == 1
        assert await system.read("IRQ_STATUS") == RESULT_IRQ
        await system.write("IRQ_STATUS", RESULT_IRQ)
        await ClockCycles(dut.aclk, 2)  # irq falls a cycle after the answer
        system.sink.set_pause_generator(None)
    assert system.monitor.stalls["m_axis"] > 0
    await system.check_counters()
    await system.finish()


@cocotb.test()
async def back_to_back(dut: Any) -> None:
    """Many inferences without a cycle's gap between their packets; each packet is compared."""
    system = System(dut)
    await system.begin()
    await system.load()
    row, known = settings()["row"], len(system.inferences)
    order = [random.randrange(known) for _ in range(row)]
    packets = system.monitor.packets["s_axis"]
    idle = None
    for which in order:
        system.infer_soon(which)
    for which in order:
        await system.expect(which)
        if idle is None:
            idle = system.monitor.idle["s_axis"]
        if system.monitor.packets["s_axis"] < packets + row - 1:
            assert system.monitor.idle["s_axis"] == idle, "the source had a gap"
    assert system.monitor.packets["m_axis"] == row
    assert system.monitor.packets["s_axis"] == packets + row
    assert system.slots["inferences"] == row
    await system.check_counters()
    await system.write("CONTROL", CLEAR_COUNTERS)
    system.slots = Counter({counter.name: 0 for counter in COUNTERS})
    await system.check_counters()
    await system.finish()


@cocotb.test()
async def loads_and_inferences_in_one_burst(dut: Any) -> None:
    """All packets in one stretch without a gap, in any mixture."""
    system = System(dut)
    await system.begin()
    order = [random.randrange(len(system.inferences)) for _ in range(4)]
    for which in order:
        for packet in system.load_packets:
            system.send_soon(packet)
        system.infer_soon(which)
        system.infer_soon(order[0])
    monitor, total = system.monitor, len(order) * (len(system.load_packets) + 2)
    while not monitor.transfers["s_axis"]:
        await FallingEdge(dut.aclk)
    idle = monitor.idle["s_axis"]
    while monitor.packets["s_axis"] < total - 1:
        await FallingEdge(dut.aclk)
    assert monitor.idle["s_axis"] == idle, "the source had a gap"
    for which in order:
        await system.expect(which)
        await system.expect(order[0])
    await system.check_counters()
    await system.finish()


# ---------------------------------------------------------------- TLAST and TKEEP


@cocotb.test()
async def tlast_comes_early_or_late(dut: Any) -> None:
    """Every packet cut after any beat, down to a single one, or too long, or two run together."""
    system = System(dut)
    await system.begin()
    await system.works()
    beat, packet = system.beat, system.packet()
    for cut in range(beat, len(packet), beat):
        await system.send(packet[:cut])
        await system.fails("ERR_EARLY_TLAST")
        await system.infers()
    for extra in (1, 2, 5):
        await system.send(packet + packet[-beat:] * extra)
        await system.fails("ERR_LATE_TLAST")
        await system.infers()
    await system.send(packet * 2)
    await system.fails("ERR_LATE_TLAST")
    await system.infers()
    longest = max(system.load_packets, key=len)
    for each in system.load_packets:
        every = range(beat, len(each), beat)
        for cut in every if each == longest else (every[0], every[-1]):
            await system.send(each[:cut])
            await system.fails("ERR_EARLY_TLAST")
        await system.send(each + each[-beat:])
        await system.fails("ERR_LATE_TLAST")
        # What follows an error in the same burst is drained, whatever it is.
        await system.send(each + packet)
        await system.fails("ERR_LATE_TLAST")
        await system.works()
    # A packet of one beat, many times over, behind and before good ones.
    system.infer_soon(0)
    for _ in range(5):
        system.send_soon(packet[:beat])
    await system.expect(0)
    await system.sent()
    await system.fails("ERR_EARLY_TLAST")
    await system.infers()
    await system.finish()


@cocotb.test()
async def a_byte_is_missing(dut: Any) -> None:
    """In any beat: one byte, all bytes, the last ones; then all is well again."""
    system = System(dut)
    await system.begin()
    await system.works()
    beat, packet = system.beat, system.packet()
    await system.write("IRQ_ENABLE", ERROR_IRQ)
    for first in range(0, len(packet), beat):
        missing = {
            "one": (first + random.randrange(beat),),
            "all": tuple(range(first, first + beat)),
            "last": tuple(range(first + random.randrange(1, beat), first + beat)),
        }
        for kind in ("one", random.choice(["all", "last"])):
            await system.write("IRQ_STATUS", RESULT_IRQ | ERROR_IRQ)
            system.infer_soon(1)
            await system.send(packet, missing[kind])
            # The inference before is right and complete.
            await system.expect(1)
            await system.fails("ERR_KEEP")
            assert read(dut.irq) == 1
        await system.infers()
    for each in system.load_packets:
        beats = range(0, len(each), beat)
        for first in (*beats[:3], beats[len(beats) // 2], beats[-1]):
            await system.send(each, (first + random.randrange(beat),))
            await system.fails("ERR_KEEP")
        await system.works()
    await system.finish()


# ---------------------------------------------------------------- registers


@cocotb.test()
async def addresses_and_strobes(dut: Any) -> None:
    """All addresses answer; only the low byte of what can be written writes, if it is strobed."""
    system = System(dut)
    await system.begin()
    await system.works()
    known = {address for address, _, access, _ in REGISTERS if access != "WO"}
    counters = range(COUNTER_BASE, COUNTER_BASE + 8 * len(COUNTERS), 4)
    written = {ADDRESSES[name] for name in ("CONTROL", "IRQ_ENABLE", "IRQ_STATUS")}
    await system.write("IRQ_STATUS", RESULT_IRQ | ERROR_IRQ)
    for value in (0, RESULT_IRQ):
        await system.write("IRQ_ENABLE", value)
        # The low word of a counter first: only then its high word means something.
        for address in range(0xFC, -4, -4):
            if address not in written:
                await system.put(address, random.randbytes(3) + b"\xff")
        before = {address: await system.get(address) for address in (*known, *counters)}
        for address in range(0, 0x100, 4):
            found = await system.get(address)
            assert found == before.get(address, 0), f"0x{address:02X}"
        assert before[ADDRESSES["IRQ_ENABLE"]] == value
    # Bytes and halves of a word, read at their own addresses.
    for address in sorted(known):
        for start, size in ((1, 1), (2, 1), (3, 1), (1, 2), (2, 2), (0, 2)):
            answer = await system.master.read(address + start, size)
            word = before[address].to_bytes(4, "little")
            assert answer.data == word[start : start + size], f"0x{address + start:02X}"
    channels, now = system.channels, RESULT_IRQ
    for strobes in [*range(16), *range(15, -1, -1)]:
        address, data = channels["aw"]._transaction_obj(), channels["w"]._transaction_obj()
        address.awaddr = ADDRESSES["IRQ_ENABLE"] + random.randrange(4)
        data.wdata, data.wstrb = random.getrandbits(32), strobes
        # Address and data in any order, a long gap between them.
        first, second = random.sample([("aw", address), ("w", data)], 2)
        await channels[first[0]].send(first[1])
        await ClockCycles(dut.aclk, random.choice([0, 1, 2, 50]))
        assert channels["b"].empty()
        await channels[second[0]].send(second[1])
        answer = await with_timeout(channels["b"].recv(), PATIENCE * PERIOD_NS, "ns")
        assert int(answer.bresp) == AxiResp.OKAY
        now = data.wdata & 3 if strobes & 1 else now
        assert await system.read("IRQ_ENABLE") == now, f"strobes {strobes:04b}"
    await system.finish()


@cocotb.test()
@cocotb.parametrize(
    rates=[{}, {"aw": 0.9}, {"w": 0.9}, {"b": 0.9, "r": 0.9}, {"ar": 0.8, "r": 0.5},
           {"aw": 0.5, "w": 0.5, "b": 0.5, "ar": 0.5, "r": 0.5, "s": 0.3, "m": 0.3}]
)  # fmt: skip
async def traffic_at_any_pace(dut: Any, rates: dict[str, float]) -> None:
    """Reads and writes at once, several under way, while inferences run."""
    system = System(dut)
    await system.begin()
    await system.load()
    system.pace(**rates)
    constants = {name: await system.read(name) for name in ("ID", "PES", "LANES", "NODES")}
    enable = 0

    async def writes() -> None:
        nonlocal enable
        for _ in range(40):
            address = random.randrange(0, 0x100, 4)
            if address == ADDRESSES["CONTROL"]:
                continue  # would clear the counters
            size = random.randint(1, 4)
            start = random.randint(0, 4 - size)
            data = random.randbytes(size)
            await system.put(address + start, data)
            if address == ADDRESSES["IRQ_ENABLE"] and start == 0:
                enable = data[0] & 3
            await system.put(ADDRESSES["IRQ_ENABLE"] + 1, random.randbytes(3))

    async def reads() -> None:
        for _ in range(60):
            name = random.choice(list(constants))
            assert await system.read(name) == constants[name]

    # The model keeps the order of accesses; several tasks let it have more than one under way.
    tasks = [cocotb.start_soon(task) for task in (writes(), reads(), reads())]
    order = [random.randrange(len(system.inferences)) for _ in range(6)]
    for which in order:
        system.infer_soon(which)
    for which in order:
        await system.expect(which)
    for task in tasks:
        await task
    system.pace()
    for value in (3, 1, 2):
        assert await system.read("IRQ_ENABLE") == enable
        await system.write("IRQ_ENABLE", value)
        enable = value
    await system.check_counters()
    stalls = system.monitor.stalls
    for name in ("b", "r"):
        assert stalls[name] > 0 or name not in rates, name
    await system.finish()


@cocotb.test()
async def responses_are_held_off(dut: Any) -> None:
    """A response waits as long as its master likes; nothing else is accepted behind it."""
    system = System(dut)
    await system.begin()
    for _ in range(3):
        system.channels["b"].pause = system.channels["r"].pause = True
        writes = [cocotb.start_soon(system.write("IRQ_ENABLE", value)) for value in (1, 2, 3)]
        reads = [cocotb.start_soon(system.read("PES")) for _ in range(3)]
        await ClockCycles(dut.aclk, 200)
        assert read(dut.s_axil_bvalid) == read(dut.s_axil_rvalid) == 1
        open_writes = system.monitor.transfers["aw"] - system.monitor.transfers["b"]
        assert open_writes == system.monitor.transfers["w"] - system.monitor.transfers["b"] == 1
        assert system.monitor.transfers["ar"] - system.monitor.transfers["r"] == 1
        assert not any(task.done() for task in writes)
        assert not any(task.done() for task in reads)
        # The other kind of access goes on.
        system.channels["r"].pause = False
        for reading in reads:
            assert await reading == settings()["pes"]
        assert await system.read("IRQ_ENABLE") == 1
        assert not writes[0].done()
        system.channels["b"].pause = False
        for writing in writes:
            await writing
        assert await system.read("IRQ_ENABLE") == 3
    await system.finish()


# ---------------------------------------------------------------- reset


@cocotb.test()
async def a_reset_in_mid_flight(dut: Any) -> None:
    """In packets, computations, results and accesses; for any time, even within a cycle."""
    system = System(dut)
    await system.begin()
    moments = ["load", "header", "input", "compute", "output", "aw", "w", "b", "r", "ar"]
    for moment in moments:
        await go_to(system, moment)
        before = system.monitor.resets
        await system.reset(random.randrange(1, 9), random.choice([23, 101]))
        # An access waits at the very moment at which the reset ends.
        assert await system.read("STATUS") == 0
        assert system.monitor.resets == before + 1
        for name in ("ERROR", "IRQ_ENABLE", "IRQ_STATUS", "NODES", "EDGES"):
            assert await system.read(name) == 0, (moment, name)
        for index in range(len(COUNTERS)):
            assert await system.get(COUNTER_BASE + 8 * index) == 0, moment
        assert read(dut.irq) == 0
        await system.works()
        await system.check_counters()
    for moment in random.sample(moments, len(moments)):
        await go_to(system, moment)
        # The shortest resets are mostly over before the next edge.
        delay, length = random.randrange(1, 9), random.choice([1, 1, 9])
        await system.reset(delay, length, then=system.load_packets)
        await system.sent()
        await system.infers()
        await system.check_counters()
        await ClockCycles(dut.aclk, LATENCY)
        assert system.sink.empty(), moment
    # Nobody sends, nobody receives: a reset changes nothing then.
    await system.reset(3, 40)
    await system.works()
    await system.finish()


@cocotb.test()
async def the_release_of_a_reset(dut: Any) -> None:
    """It passes two registers: the stream is ready with the third edge, not with the second."""
    system = System(dut)
    await system.begin()
    # All end between a falling and a rising edge.
    for length in (40, 21, 1):
        await system.reset(1, length)
        ready = []
        for _ in range(4):
            await FallingEdge(dut.aclk)
            ready.append(read(dut.s_axis_tready))
        assert ready == [0, 0, 1, 1]
    await system.works()
    await system.finish()


async def go_to(system: System, moment: str) -> None:
    """Bring the wrapper into the middle of something."""
    dut, beat, channels = system.dut, system.beat, system.channels
    await system.works()
    await system.write("IRQ_ENABLE", RESULT_IRQ | ERROR_IRQ)
    sent = system.monitor.transfers["s_axis"]

    async def beats(number: int) -> None:
        while system.monitor.transfers["s_axis"] < sent + number:
            await FallingEdge(dut.aclk)

    if moment == "load":
        for packet in system.load_packets:
            system.send_soon(packet)
        total = sum(map(len, system.load_packets)) // beat
        await beats(random.randrange(2, total - 1))
    elif moment == "header":
        # A packet that stops after its first beat: with narrow streams half a header.
        system.source.set_pause_generator(iter([*[False] * 2, *[True] * 5000]))
        system.send_soon(system.packet())
        await beats(1)
    elif moment in ("input", "compute", "output"):
        system.sink.pause = moment == "output"
        system.infer_soon(0)
        system.infer_soon(1)
        length = len(system.packet()) // beat
        await beats(random.randrange(2, length) if moment == "input" else length)
        while moment == "output" and not is_high(dut.m_axis_tvalid):
            await FallingEdge(dut.aclk)
        await ClockCycles(dut.aclk, random.randrange(30))
    else:
        channels["b"].pause = channels["r"].pause = moment in ("b", "r")
        if moment in ("aw", "b"):
            address = channels["aw"]._transaction_obj()
            address.awaddr = ADDRESSES["IRQ_ENABLE"]
            await channels["aw"].send(address)
        if moment in ("w", "b"):
            data = channels["w"]._transaction_obj()
            data.wdata, data.wstrb = 3, 15
            await channels["w"].send(data)
        if moment in ("ar", "r"):
            request = channels["ar"]._transaction_obj()
            request.araddr = ADDRESSES["ID"]
            await channels["ar"].send(request)
        await ClockCycles(dut.aclk, 2 if moment == "ar" else random.randrange(6, 9))


# ---------------------------------------------------------------- the monitor itself


def complaint(monitor: ProtocolMonitor) -> str:
    """Return what is open at the end."""
    try:
        monitor.finish()
    except AssertionError as error:
        return str(error)
    raise AssertionError("nothing was found open")


@cocotb.test()
async def the_monitor_finds_a_wrong_master(dut: Any) -> None:
    """Rules of what the wrapper receives: no fault of the wrapper can break them."""
    await quiet_reset(dut)
    monitor = ProtocolMonitor(dut, strict=False)
    await ClockCycles(dut.aclk, 2)

    async def break_rule(valid: str, change: str) -> list[str]:
        # In the two cycles after a reset nothing is ready, so what is offered has to wait.
        for name in MASTER_INPUTS:
            getattr(dut, name).value = 0
        dut.aresetn.value = 0
        await ClockCycles(dut.aclk, 2)
        await FallingEdge(dut.aclk)
        monitor.violations.clear()
        dut.aresetn.value = 1
        getattr(dut, valid).value = 1
        await FallingEdge(dut.aclk)
        await Timer(1, "ns")
        getattr(dut, change).value = 1 - int(getattr(dut, change).value)
        await ClockCycles(dut.aclk, 2)
        return monitor.violations

    cases = {
        "s_axis": ("s_axis_tvalid", ("s_axis_tdata", "s_axis_tkeep", "s_axis_tlast")),
        "aw": ("s_axil_awvalid", ("s_axil_awaddr", "s_axil_awprot")),
        "w": ("s_axil_wvalid", ("s_axil_wdata", "s_axil_wstrb")),
        "ar": ("s_axil_arvalid", ("s_axil_araddr", "s_axil_arprot")),
    }
    for name, (valid, payload) in cases.items():
        assert await break_rule(valid, valid) == [f"{name}: valid fell before ready"]
        for signal in payload:
            found = await break_rule(valid, signal)
            assert len(found) == 1, found
            assert found[0].startswith(f"{name}: payload changed before ready"), found
        # Offered and kept, but never withdrawn: the end of a test finds it.
        assert await break_rule(valid, "m_axis_tready") == []


@cocotb.test()
async def the_monitor_finds_an_open_request(dut: Any) -> None:
    """A test that ends with half a write, or with an answer that nobody took, does not pass."""
    system = System(dut)
    await system.begin()
    for kind, wording in (("aw", "writes"), ("w", "writes"), ("ar", "reads")):
        channel = system.channels[kind]
        system.channels["r"].pause = True
        await channel.send(channel._transaction_obj())
        await ClockCycles(dut.aclk, 20)
        assert wording in complaint(system.monitor)
        await system.reset(3, 30)
        await ClockCycles(dut.aclk, 4)
        await FallingEdge(dut.aclk)
        system.monitor.finish()
