"""Bench of the wrapper: the delivered host driver, and a SoC's bus masters, at the AXI ports.

The driver is the file in the generated folder. Its transport is simulated: it runs in a thread
that the simulation waits for.
"""

import importlib
import json
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cocotb
import numpy as np
from cocotb.clock import Clock
from cocotb.task import bridge, resume
from cocotb.triggers import ClockCycles, SimTimeoutError, Timer, with_timeout
from cocotbext.axi import (
    AxiLiteBus,
    AxiLiteMaster,
    AxiStreamBus,
    AxiStreamFrame,
    AxiStreamSink,
    AxiStreamSource,
)

from sgq_hw.host import Transport
from sgq_hw.sim.bench import PERIOD_NS, read, settings

FOLDER = Path(settings()["folder"])
sys.path.insert(0, str(FOLDER / "host"))
sgq_host: Any = importlib.import_module("sgq_host")  # the copy in the folder

PATIENCE = 3000
"""Cycles after which results are not awaited any longer."""
RESULT, FAILED = 1, 2


class Soc(Transport):
    """Bus masters around the wrapper, and the driver's way to them.

    Attributes:
        dut: The wrapper.
        data: Inputs and results, from a file.
    """

    def __init__(self, dut: Any) -> None:
        self.dut = dut
        self.data = json.loads(Path(settings()["data"]).read_text(encoding="ascii"))
        for name in ("s_axis", "m_axis", "s_axil"):
            logging.getLogger(f"cocotb.{dut._name}.{name}").setLevel(logging.WARNING)

    async def begin(self) -> None:
        """Reset and connect."""
        dut = self.dut
        dut.aresetn.value = 0
        dut.s_axil_awprot.value = dut.s_axil_arprot.value = 0
        Clock(dut.aclk, PERIOD_NS, unit="ns", impl="gpi").start()
        # The masters of the library look at the wrapper's outputs from the start.
        await ClockCycles(dut.aclk, 4)
        rest = (dut.aclk, dut.aresetn, False)
        self.source = AxiStreamSource(AxiStreamBus.from_prefix(dut, "s_axis"), *rest)
        self.sink = AxiStreamSink(AxiStreamBus.from_prefix(dut, "m_axis"), *rest)
        self.master = AxiLiteMaster(AxiLiteBus.from_prefix(dut, "s_axil"), *rest)
        await ClockCycles(dut.aclk, 4)
        await self.release()

    async def release(self) -> None:
        """Take the reset back, between two edges."""
        await Timer(3, "ns")
        self.dut.aresetn.value = 1
        await ClockCycles(self.dut.aclk, 4)

    async def send(self, data: bytes, missing: int | None = None) -> None:
        """Send a packet; one of its bytes may be missing."""
        keep = [int(at != missing) for at in range(len(data))]
        await self.source.send(AxiStreamFrame(data, tkeep=keep))
        await self.source.wait()

    async def receive(self, size: int) -> bytes:
        """Return the packet of results, which has this size."""
        try:
            frame = await with_timeout(self.sink.recv(), PATIENCE * PERIOD_NS, "ns")
        except SimTimeoutError:
            raise TimeoutError from None
        assert len(frame.tdata) == size, f"{len(frame.tdata)} bytes of results, not {size}"
        return bytes(frame.tdata)

    async def get(self, address: int) -> int:
        """Read a register."""
        response = await self.master.read(address, 4)
        return int.from_bytes(response.data, "little")

    async def put(self, address: int, value: int) -> None:
        """Write a register."""
        await self.master.write(address, value.to_bytes(4, "little"))

    def write_stream(self, data: bytes) -> None:  # noqa: D102 (of Transport)
        resume(self.send)(data)

    def read_stream(self, size: int) -> bytes:  # noqa: D102
        return bytes(resume(self.receive)(size))

    def read_register(self, address: int) -> int:  # noqa: D102
        return int(resume(self.get)(address))

    def write_register(self, address: int, value: int) -> None:  # noqa: D102
        resume(self.put)(address, value)


def inputs_and_results(soc: Soc, which: int) -> tuple[Any, Any]:
    """Return one of the pairs in the file, int64 [nodes, channels] each."""
    pair = soc.data[which]
    return np.array(pair["input"], np.int64), np.array(pair["output"], np.int64)


def infer(accelerator: Any, codes: Any) -> Any:
    """Return the results of inputs, which are loaded first where they lie on chip."""
    if not accelerator.layout.inputs_on_chip:
        return accelerator.run(codes)
    accelerator.load_inputs(codes)
    return accelerator.run()


def packet_of(accelerator: Any, codes: Any) -> bytes:
    """Return the packet of an inference."""
    layout, places = accelerator.layout, accelerator.places
    if layout.inputs_on_chip:
        return bytes(sgq_host.start_packet(layout, places).data.tobytes())
    return bytes(sgq_host.pack_dense(layout, places, codes).data.tobytes())


def refusal(function: Callable[..., object], *arguments: object) -> str:
    """Return why the driver gave up."""
    try:
        function(*arguments)
    except sgq_host.AcceleratorError as error:
        return str(error)
    raise AssertionError("no error")


@cocotb.test()
async def the_driver_gets_the_golden_results(dut: Any) -> None:
    """Load, run dense and sparse inputs, interrupts, counters."""
    soc = Soc(dut)
    await soc.begin()

    def drive() -> None:
        accelerator = sgq_host.Accelerator(FOLDER, soc)
        first, want = inputs_and_results(soc, 0)
        if not settings()["rom"]:
            on_chip = accelerator.layout.inputs_on_chip
            assert refusal(accelerator.run, *([] if on_chip else [first])) == "ERR_NOT_LOADED"
            if on_chip:
                # Inputs belong to a graph.
                assert refusal(accelerator.load_inputs, first) == "ERR_WORD_COUNT"
            accelerator.load()
        accelerator.write("IRQ_STATUS", RESULT | FAILED)
        accelerator.write("IRQ_ENABLE", RESULT)
        for which in range(len(soc.data)):
            codes, want = inputs_and_results(soc, which)
            assert accelerator.read("IRQ_STATUS") == 0
            assert read(dut.irq) == 0
            assert np.array_equal(infer(accelerator, codes), want)
            assert read(dut.irq) == 1
            assert accelerator.read("IRQ_STATUS") == RESULT
            accelerator.write("IRQ_STATUS", RESULT)
            rows, columns = np.nonzero(codes)
            indptr = np.searchsorted(rows, np.arange(len(codes) + 1))
            if accelerator.layout.inputs_on_chip:
                accelerator.load_inputs_sparse(indptr, columns, codes[rows, columns])
                found = accelerator.run()
            else:
                found = accelerator.run_sparse(indptr, columns, codes[rows, columns])
            assert np.array_equal(found, want)
            accelerator.write("IRQ_STATUS", RESULT)
        assert accelerator.counters()["inferences"] == 2 * len(soc.data)

    await bridge(drive)()
    assert soc.sink.empty()


@cocotb.test()
async def a_missing_byte_is_an_error(dut: Any) -> None:
    """In every place of a packet: sticky, drained, nothing wrong leaves; then all is well again."""
    soc = Soc(dut)
    await soc.begin()

    def drive() -> None:
        accelerator = sgq_host.Accelerator(FOLDER, soc)
        layout, size = accelerator.layout, accelerator.layout.beat_bytes
        codes, want = inputs_and_results(soc, 0)
        packet = packet_of(accelerator, codes)
        if not settings()["rom"]:
            accelerator.load()
            load = sgq_host.read_beats(FOLDER / "images" / "load.hex", layout.stream_bits)
            weights = max((beats.tobytes() for beats in load.packets()), key=len)
            for at in (0, size, len(weights) // 2, len(weights) - 1):
                resume(soc.send)(weights, at)
                # What comes before the clear is drained.
                soc.write_stream(packet)
                assert accelerator.read("STATUS") & 6 == (0 if at >= 8 else 2) | 4
                assert refusal(accelerator.check) == "ERR_KEEP"
                accelerator.load()
        accelerator.write("IRQ_STATUS", RESULT | FAILED)
        accelerator.write("IRQ_ENABLE", FAILED)
        places = (0, 8, len(packet) // 2, len(packet) - size, len(packet) - 1)
        for at in sorted({place for place in places if place < len(packet)}):
            resume(soc.send)(packet, at)
            resume(settle)(dut)
            assert accelerator.read("IRQ_STATUS") == FAILED
            assert read(dut.irq) == 1
            accelerator.write("IRQ_STATUS", RESULT | FAILED)
            assert refusal(accelerator.check) == "ERR_KEEP"
            assert np.array_equal(infer(accelerator, codes), want)
            # The inference before a wrong packet is right and complete.
            soc.write_stream(packet)
            resume(soc.send)(packet, at)
            data = soc.read_stream(len(want) * layout.row_beats * size)
            assert np.array_equal(sgq_host.unpack_results(layout, data), want)
            resume(settle)(dut)
            assert refusal(accelerator.check) == "ERR_KEEP"
            accelerator.write("IRQ_STATUS", RESULT | FAILED)
            assert soc.sink.empty()

    await bridge(drive)()


async def settle(dut: Any) -> None:
    """Wait until nothing happens any more."""
    await ClockCycles(dut.aclk, PATIENCE)


@cocotb.test()
async def aresetn_resets_everything(dut: Any) -> None:
    """At any time, between edges, for less than a cycle: everything is as after power-up."""
    soc = Soc(dut)
    await soc.begin()

    def begin() -> Any:
        accelerator = sgq_host.Accelerator(FOLDER, soc)
        if not settings()["rom"]:
            accelerator.load()
        accelerator.write("IRQ_ENABLE", RESULT | FAILED)
        codes, _ = inputs_and_results(soc, 0)
        soc.write_stream(packet_of(accelerator, codes))
        return accelerator

    def end(accelerator: Any) -> None:
        assert accelerator.read("STATUS") == (2 if settings()["rom"] else 0)
        assert accelerator.read("IRQ_ENABLE") == accelerator.read("IRQ_STATUS") == 0
        if not settings()["rom"]:
            accelerator.load()
        codes, want = inputs_and_results(soc, 1)
        assert np.array_equal(infer(accelerator, codes), want)

    for wait in (2, 40, 150):
        accelerator = await bridge(begin)()
        await ClockCycles(dut.aclk, wait)
        await Timer(2, "ns")
        dut.aresetn.value = 0
        await Timer(PERIOD_NS // 2, "ns")
        await soc.release()
        while not soc.sink.empty():
            soc.sink.recv_nowait()
        await bridge(end)(accelerator)
