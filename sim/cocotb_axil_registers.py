"""Bench of axil_registers: every access of a bus master against the register map, by cycle."""

import itertools
import logging
from collections import Counter, deque
from collections.abc import Iterator
from typing import Any

import cocotb
import numpy as np
from cocotb.triggers import RisingEdge
from cocotbext.axi import AxiLiteBus, AxiLiteMaster, AxiResp

from sgq_hw.sim.bench import Bench, assert_cut, draw_bits, generator, settings

ID = 0x53475148
CONTROL = 0x08
IRQ_ENABLE, IRQ_STATUS = 0x34, 0x38
RESULT_SENT, FAILED = 1, 2
COUNTERS = 10
READ_LATENCY = 3
WRITE_LATENCY = 2
READ_PERIOD = 5
WRITE_PERIOD = 3
CHANNELS: dict[str, tuple[str, ...]] = {
    "aw": ("awaddr",), "w": ("wdata", "wstrb"), "b": ("bresp",),
    "ar": ("araddr",), "r": ("rdata", "rresp"),
}  # fmt: skip
HANDSHAKES = tuple(f"s_axil_{name}{end}" for name in CHANNELS for end in ("valid", "ready"))
STATUS = ("busy", "loaded", "error", "error_code", "num_nodes", "num_records", "result_sent")


def register(address: int, inputs: dict[str, int], constants: dict[str, int]) -> int:
    """Return what a register below the counters reads, after docs/registers.md."""
    return {
        0x00: ID,
        0x04: 2,
        0x0C: inputs["busy"] | inputs["loaded"] << 1 | inputs["error"] << 2,
        0x10: inputs["error_code"],
        0x14: constants["PES"],
        0x18: constants["LANES"],
        0x1C: constants["STREAM_BITS"],
        0x20: constants["PASSES"],
        0x24: constants["NODES"],
        0x28: constants["EDGES"],
        0x2C: inputs["num_nodes"],
        0x30: inputs["num_records"],
        IRQ_ENABLE: inputs["irq_enable"],
        IRQ_STATUS: inputs["irq_status"],
    }.get(address, 0)


class Watcher:
    """Drives the design side with ever changing values and checks the bus side in every cycle."""

    def __init__(self, dut: Any, rng: np.random.Generator) -> None:
        outputs = [n for n in HANDSHAKES if n[7:] not in ("awvalid", "wvalid", "bready",
                                                          "arvalid", "rready")]  # fmt: skip
        self.bench = Bench(dut, known=[*outputs, "error_clear", "counters_clear", "irq"])
        self.rng = rng
        self.constants: dict[str, int] = settings()
        self.widths = {name: len(getattr(dut, name)) for name in (*STATUS, "counter_value")}
        self.stalls: Counter[str] = Counter()
        self.pulses: Counter[int] = Counter()
        self.irqs: Counter[int] = Counter()
        self.answers: list[int] = []
        self.last_index = 0
        self.forget()

    def forget(self) -> None:
        """Drop everything that a reset drops."""
        self.held: dict[str, tuple[int, ...]] = {}
        self.addresses: deque[int] = deque()
        self.data: deque[tuple[int, ...]] = deque()
        self.write_due: int | None = None
        self.clears = 0
        self.read_at: int | None = None
        self.address = 0
        self.answer: int | None = None
        self.high: int | None = None
        self.irq_enable = self.irq_status = self.irq_events = self.irq = 0
        self.error_seen = 0

    async def step(self, **inputs: int) -> dict[str, tuple[int, ...]]:
        """Spend a cycle; returns the handshakes that its end completes."""
        drawn = {
            name: draw_bits(self.rng, width)
            for name, width in self.widths.items()
            if self.rng.random() < 0.5
        }
        # The counters answer one cycle after their index, here with another value each time.
        await self.bench.cycle(**{**drawn, **inputs})
        fired = self.check_handshakes()
        self.check_write(fired)
        self.check_read(fired)
        self.follow_interrupts()
        return fired

    def check_handshakes(self) -> dict[str, tuple[int, ...]]:
        """Check that what waits stays; return what fires."""
        fired = {}
        for channel, payload in CHANNELS.items():
            valid = self.bench.read(f"s_axil_{channel}valid")
            ready = self.bench.read(f"s_axil_{channel}ready")
            values: tuple[int, ...] = ()
            if valid:
                names = [name for name in payload if channel != "r" or name != "rdata"]
                values = tuple(self.bench.read(f"s_axil_{name}") for name in names)
                if channel == "r" and self.answer is not None:
                    values += (self.bench.read("s_axil_rdata"),)
            if channel in self.held:
                assert valid, f"{channel}: valid fell before ready"
                assert values == self.held[channel], f"{channel}: payload changed before ready"
            self.held.pop(channel, None)
            if valid and ready:
                fired[channel] = values
            elif valid:
                self.held[channel] = values
                self.stalls[channel] += 1
        return fired

    def check_write(self, fired: dict[str, tuple[int, ...]]) -> None:
        """Check answers and control pulses of writes."""
        now = self.bench.cycles
        if self.write_due == now:
            address = self.addresses.popleft() & ~3
            data, strobes = self.data.popleft()
            self.clears = data & 3 if address == CONTROL and strobes & 1 else 0
            if address == IRQ_ENABLE and strobes & 1:
                self.irq_enable = data & 3
            if address == IRQ_STATUS and strobes & 1:
                # Of two at once, the event wins.
                self.irq_status = self.irq_status & ~data | self.irq_events
        pulses = self.bench.read("error_clear") | self.bench.read("counters_clear") << 1
        assert pulses == (self.clears if self.write_due == now else 0)
        self.pulses[pulses] += 1
        answering = self.write_due is not None and now >= self.write_due
        assert self.bench.read("s_axil_bvalid") == int(answering), "a wrong write response"
        if "b" in fired:
            assert fired["b"] == (0,)
            self.write_due = None
        self.addresses.extend(fired.get("aw", ()))
        if "w" in fired:
            self.data.append(fired["w"])
        if self.write_due is None and self.addresses and self.data:
            self.write_due = now + WRITE_LATENCY

    def check_read(self, fired: dict[str, tuple[int, ...]]) -> None:
        """Check answers of reads against the design side's values of the promised cycle."""
        now = self.bench.cycles
        asked = None if self.read_at is None else now - self.read_at
        if asked is not None and self.address & 0x80 and asked in (1, 2):
            assert self.bench.read("counter_index") == self.address >> 3 & 15
        if asked == READ_LATENCY - 1:
            self.answer = self.look_up()
        assert self.bench.read("s_axil_rvalid") == int(asked is not None and asked >= READ_LATENCY)
        if "r" in fired:
            assert fired["r"][0] == 0
            if self.answer is not None:
                assert fired["r"][1] == self.answer, f"0x{self.address:02X}"
                self.answers.append(self.answer)
            self.read_at = None
        if "ar" in fired:
            assert self.read_at is None
            self.read_at, (self.address,) = now, fired["ar"]

    def look_up(self) -> int | None:
        """Return the value at the address just read; None where it is not defined."""
        inputs = {name: self.bench.read(name) for name in (*STATUS, "counter_value")}
        inputs |= {"irq_enable": self.irq_enable, "irq_status": self.irq_status}
        if not self.address & 0x80:
            return register(self.address & ~3, inputs, self.constants)
        if self.address & 4:
            return self.high if (self.address & 0x7F) >> 3 < COUNTERS else 0
        self.high = inputs["counter_value"] >> 32
        return inputs["counter_value"] & 0xFFFFFFFF

    def follow_interrupts(self) -> None:
        """Check irq; take over the events of the cycle and the acknowledged bits."""
        assert self.bench.read("irq") == self.irq, "a wrong interrupt"
        self.irqs[self.irq] += 1
        self.irq = int(self.irq_status & self.irq_enable != 0)
        error = self.bench.read("error")
        self.irq_events = self.bench.read("result_sent") * RESULT_SENT
        self.irq_events |= (error and not self.error_seen) * FAILED
        self.irq_status |= self.irq_events
        # An error that comes in the very cycle that clears the one before is another one.
        self.error_seen = error and not self.bench.read("error_clear")

    async def start(self) -> None:
        """Reset with a quiet bus."""
        quiet = {name: 0 for name in HANDSHAKES if hasattr(self.bench.dut, name)
                 and name[7:] in ("awvalid", "wvalid", "bready", "arvalid", "rready")}  # fmt: skip
        await self.bench.start(**quiet, **dict.fromkeys(self.widths, 0))

    async def forever(self) -> None:
        """Watch until the test ends."""
        while True:
            await self.step()


def pauses(rng: np.random.Generator, rate: float) -> Iterator[bool]:
    """Return endless pauses of a share of the cycles."""
    return (bool(rng.random() < rate) for _ in itertools.count())


async def master_on(dut: Any, rng: np.random.Generator, rates: tuple[float, ...]) -> AxiLiteMaster:
    """Return a bus master that pauses on aw, w, b, ar and r at the given rates."""
    await RisingEdge(dut.clk)
    logging.getLogger(f"cocotb.{dut._name}.s_axil").setLevel(logging.WARNING)
    master = AxiLiteMaster(AxiLiteBus.from_prefix(dut, "s_axil"), dut.clk, dut.rst)
    write, read = master.write_if, master.read_if
    channels = (write.aw_channel, write.w_channel, write.b_channel, read.ar_channel, read.r_channel)
    for channel, rate in zip(channels, rates, strict=True):
        if rate:
            channel.set_pause_generator(pauses(rng, rate))
    return master


@cocotb.test()
async def the_map_is_as_documented(dut: Any) -> None:
    """Every address, also unknown ones; counters with both words."""
    rng = generator()
    watcher = Watcher(dut, rng)
    await watcher.start()
    master = await master_on(dut, rng, (0,) * 5)
    task = cocotb.start_soon(watcher.forever())
    # A high word means nothing before the first low word.
    addresses = [0x80, *range(0, 0x100, 4), *range(0xFC, -4, -4)]
    values = []
    for address in addresses:
        response = await master.read(address, 4)
        assert response.resp == AxiResp.OKAY
        values.append(int.from_bytes(response.data, "little"))
    task.cancel()
    assert values == watcher.answers
    assert dict(zip(addresses, values, strict=True))[0] == ID


@cocotb.test()
@cocotb.parametrize(
    rates=[(0,) * 5, (0.3,) * 5, (0.9, 0, 0.5, 0, 0.9), (0, 0.9, 0.9, 0.9, 0), (0.8,) * 5]
)
async def traffic_at_any_pace(dut: Any, rates: tuple[float, ...]) -> None:
    """Reads and writes at the same time; only a strobed low byte of CONTROL clears anything."""
    rng = generator()
    watcher = Watcher(dut, rng)
    await watcher.start()
    master = await master_on(dut, rng, rates)
    task = cocotb.start_soon(watcher.forever())

    async def write() -> None:
        for _ in range(120):
            known = (CONTROL, CONTROL, CONTROL, IRQ_ENABLE, IRQ_STATUS, IRQ_STATUS)
            address = int(rng.choice([*known, int(rng.integers(64)) * 4]))
            start = int(rng.choice([0, 0, 1, 2, 3]))
            length = int(rng.integers(1, 4 - start, endpoint=True))
            response = await master.write(address + start, rng.bytes(length))
            assert response.resp == AxiResp.OKAY

    writes = cocotb.start_soon(write())
    await master.read(0x80, 4)
    for _ in range(60):
        # A byte anywhere in a word; the watcher compares the whole word.
        await master.read(int(rng.integers(256)), 1)
    await writes
    task.cancel()
    assert len(watcher.answers) == 61
    assert all(watcher.pulses[clear] > 0 for clear in (1, 2, 3))
    assert watcher.irqs[0] > 0
    assert watcher.irqs[1] > 0
    for channel, rate in zip(("b", "r"), (rates[2], rates[4]), strict=True):
        assert watcher.stalls[channel] > 0 or not rate, channel


@cocotb.test()
async def a_reset_forgets_every_access(dut: Any) -> None:
    """Reset at each cycle of an access: no answer comes to a request of before."""
    rng = generator()
    watcher = Watcher(dut, rng)
    await watcher.start()
    for delay in range(6):
        for name, other in (("aw", "w"), ("w", "aw"), ("ar", "")):
            await request(watcher, name)
            for _ in range(delay):
                assert not await watcher.step()
            await watcher.bench.reset(1 + delay % 2)
            watcher.forget()
            if other:
                # Half a write of after the reset does not complete the half of before.
                await request(watcher, other)
            for _ in range(8):
                assert not await watcher.step(s_axil_bready=1, s_axil_rready=1)
            await watcher.bench.reset(1, s_axil_bready=0, s_axil_rready=0)
            watcher.forget()
    await request(watcher, "ar", s_axil_araddr=0, s_axil_rready=1)
    for _ in range(READ_LATENCY):
        await watcher.step()
    assert watcher.answers == [ID]


@cocotb.test()
async def strobes_and_pace(dut: Any) -> None:
    """CONTROL needs its low strobe; back to back a write takes 3 cycles and a read 5."""
    rng = generator()
    watcher = Watcher(dut, rng)
    await watcher.start()
    both = {"s_axil_awvalid": 1, "s_axil_awaddr": CONTROL, "s_axil_wvalid": 1, "s_axil_wdata": 3,
            "s_axil_arvalid": 1, "s_axil_araddr": 0, "s_axil_bready": 1,
            "s_axil_rready": 1}  # fmt: skip
    writes = reads = 0
    await watcher.step(**both, s_axil_wstrb=0)
    for cycle in range(1, 16 * WRITE_PERIOD * READ_PERIOD):
        fired = await watcher.step(s_axil_wstrb=(cycle + 2) // WRITE_PERIOD % 16)
        writes += "b" in fired
        reads += "r" in fired
    assert (writes, reads) == (16 * READ_PERIOD, 16 * WRITE_PERIOD)
    assert watcher.pulses[3] == writes // 2


@cocotb.test()
async def errors_interrupt_once_each(dut: Any) -> None:
    """An error that stays interrupts once; one that follows a clear at once does so again."""
    watcher = Watcher(dut, generator())
    await watcher.start()
    quiet = {"error": 1, "result_sent": 0, "s_axil_bready": 1}

    async def write(address: int, value: int) -> int:
        both = {"s_axil_awaddr": address, "s_axil_wdata": value, "s_axil_wstrb": 15} | quiet
        await watcher.step(s_axil_awvalid=1, s_axil_wvalid=1, **both)
        for _ in range(8):
            await watcher.step(s_axil_awvalid=0, s_axil_wvalid=0, **both)
        return watcher.bench.read("irq")

    assert await write(0, 0) == 0
    assert await write(IRQ_ENABLE, RESULT_SENT) == 0
    assert await write(IRQ_ENABLE, FAILED) == 1
    assert await write(IRQ_STATUS, RESULT_SENT) == 1
    assert await write(IRQ_STATUS, FAILED) == 0
    # The error is high before, in and after the cycle that clears it.
    assert await write(CONTROL, 1) == 1
    assert await write(IRQ_STATUS, FAILED) == 0
    assert await write(CONTROL, 2) == 0


@cocotb.test()
async def every_path_is_cut(dut: Any) -> None:
    """No output follows an input within a cycle."""
    rng = generator()
    watcher = Watcher(dut, rng)
    await watcher.start()
    inputs = [f"s_axil_{name}" for name in ("awvalid", "wvalid", "bready", "arvalid", "rready")]
    outputs = [f"s_axil_{name}" for name in ("awready", "wready", "bvalid", "arready", "rvalid")]
    requests = dict.fromkeys(("s_axil_awvalid", "s_axil_wvalid", "s_axil_arvalid"), 1)
    payload = {"s_axil_awaddr": CONTROL, "s_axil_wdata": 3, "s_axil_wstrb": 1, "s_axil_araddr": 0}
    for _ in range(60):
        ready = {"s_axil_bready": draw_bits(rng, 1), "s_axil_rready": draw_bits(rng, 1)}
        await watcher.step(**requests, **payload, **ready)
        await assert_cut(
            [getattr(dut, name) for name in inputs],
            [getattr(dut, name) for name in (*outputs, "error_clear", "counters_clear")],
        )
    assert len(watcher.answers) > 5


async def request(watcher: Watcher, name: str, **inputs: int) -> None:
    """Send one address or data beat by hand; control data, unless inputs say otherwise."""
    payload = {f"s_axil_{p}": CONTROL if "addr" in p else 3 for p in CHANNELS[name]} | inputs
    fired: dict[str, tuple[int, ...]] = {}
    while name not in fired:
        fired = await watcher.step(**{f"s_axil_{name}valid": 1}, **payload)
    await watcher.step(**{f"s_axil_{name}valid": 0})
