"""The main program of Verilator simulations leaves nothing out: cocotb sees what Icarus shows."""

from pathlib import Path

from sgq_hw.sim.runner import Simulator, build, run
from tests.sim.designs import write

DESIGN = """\
`timescale 1ns / 1ps
`default_nettype none
module phases (
    input  wire       clk,
    input  wire [7:0] a,
    input  wire [7:0] b,
    input  wire [7:0] c,
    input  wire [7:0] d,
    output wire [7:0] sum,
    output reg  [7:0] held,
    output reg        slow,
    output reg        unwatched
);
assign sum = a + b + c + d;
always @(posedge clk) begin
    held <= sum;
end
initial slow = 1'b0;
always #7 slow = ~slow;
initial unwatched = 1'b0;
always #13 unwatched = ~unwatched;
endmodule
`resetall
"""

# Waits of every kind, writes in every phase that allows them, several tasks at one time. Values are
# taken when all has settled: earlier, simulators differ in what they show.
BENCH = """\
import cocotb
from cocotb.clock import Clock
from cocotb.simtime import get_sim_time
from cocotb.triggers import (
    FallingEdge, First, NextTimeStep, ReadOnly, ReadWrite, RisingEdge, Timer, ValueChange,
)

@cocotb.test()
async def phases(dut):
    seen = []

    def note(text):
        seen.append(f"{get_sim_time('ps'):9.0f} {text}")

    async def settled(text):
        await ReadOnly()
        signals = (dut.a, dut.b, dut.c, dut.d, dut.sum, dut.held)
        note(text + " ".join([""] + [str(int(signal.value)) for signal in signals]))

    async def registers():
        for index in range(6):
            await RisingEdge(dut.clk)
            note("rising")
            dut.a.value = 3 * index
            await ReadWrite()
            note("read-write")
            dut.d.value = 40 + index
            await settled("registers")

    async def follower():
        while True:
            await ValueChange(dut.d)
            dut.b.value = 10 + int(dut.d.value)

    async def changes():
        while True:
            await ValueChange(dut.held)
            await settled("held")

    async def steps():
        for index in range(8):
            await NextTimeStep()
            note("step")
            dut.c.value = 100 + index
            if index % 2 == 0:
                await ReadWrite()
            await settled("step")

    async def plain_writes():
        for index in range(6):
            await Timer(4, "ns")
            dut.a.value = 200 + index
            await settled("timed write")
            await FallingEdge(dut.clk)
            dut.b.value = 150 + index
            await settled("write at an edge")

    async def timers():
        for delay in (3, 4, 5, 1, 9, 2):
            await Timer(delay, "ns")
            note("timer")
            await First(Timer(6, "ns"), FallingEdge(dut.clk))
            await settled("first")

    async def design_clock():
        for index in range(5):
            await RisingEdge(dut.slow)
            dut.c.value = 220 + index
            await settled("slow")

    dut.a.value = 1
    dut.b.value = 2
    dut.c.value = 3
    dut.d.value = 4
    dut.clk.value = 0
    await ReadOnly()
    note(f"time 0 {int(dut.sum.value)}")
    await Timer(2, "ns")
    Clock(dut.clk, 10, unit="ns").start()
    await RisingEdge(dut.clk)
    await settled("start")
    cocotb.start_soon(changes())
    cocotb.start_soon(follower())
    waits = (registers, steps, plain_writes, timers, design_clock)
    tasks = [cocotb.start_soon(wait()) for wait in waits]
    for task in tasks:
        await task
    with open("seen.txt", "w") as stream:
        stream.write("\\n".join(sorted(seen)))
"""


def seen(folder: Path, simulator: Simulator) -> list[str]:
    bench = write(folder / "phases_bench.py", BENCH)
    built = build([write(folder / "phases.v", DESIGN)], "phases", simulator=simulator)
    result = run(
        built, module="phases_bench", test_dir=folder / simulator, timeout_seconds=60,
        python_path=[bench.parent],
    )  # fmt: skip
    assert result.messages == []
    return (folder / simulator / "seen.txt").read_text().splitlines()


def test_all_phases_are_run(tmp_path: Path) -> None:
    expected = seen(tmp_path, "icarus")
    assert len(expected) > 50
    assert seen(tmp_path, "verilator") == expected
