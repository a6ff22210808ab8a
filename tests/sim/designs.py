"""Designs and small helpers of the simulation tests."""

from pathlib import Path

COUNTER = """\
`timescale 1ns / 1ps
`default_nettype none
module counter #(parameter STEP = 1) ();
reg clk, rst;
reg [7:0] kind;
reg [15:0] count;
reg [31:0] unreset, drawn;
initial clk = 1'b0;
always #1 clk = ~clk;
always @(posedge clk) begin
    count <= count + STEP[15:0];
    drawn <= $random;
    if (rst) begin
        count <= 16'd0;
    end else if (kind == 8'd200) begin
        unreset <= 32'd0;
    end
    if (kind == 8'd1) $error("planted error");
    if (kind == 8'd2) $fatal(1, "planted fatal");
    if (kind == 8'd3) $stop;
    if (kind == 8'd4) $finish;
end
endmodule
`resetall
"""

BENCH = """\
import os
import cocotb
from cocotb.triggers import FallingEdge, Timer

async def start(dut):
    dut.kind.value = 0
    dut.rst.value = 1
    await FallingEdge(dut.clk)
    await FallingEdge(dut.clk)
    dut.rst.value = 0

@cocotb.test()
@cocotb.parametrize(cycles=[1, 5])
async def counts(dut, cycles):
    await start(dut)
    for _ in range(cycles):
        await FallingEdge(dut.clk)
    expected = cycles * int(os.environ.get("EXPECTED_STEP", "1"))
    assert int(dut.count.value) == expected % 2**16
    assert dut.STEP.value.to_signed() == int(os.environ.get("EXPECTED_PARAMETER", "1"))

@cocotb.test()
async def breaks(dut):
    await start(dut)
    kind = int(os.environ.get("KIND", "0"))
    assert kind != 99, "planted failure"
    if kind == 98:
        os.abort()
    dut.kind.value = kind
    for _ in range(10):
        await FallingEdge(dut.clk)
    while kind == 97:
        await Timer(1, "us")

@cocotb.test()
async def shows(dut):
    dut.kind.value = 0
    await Timer(1, "ps")
    print("UNRESET", dut.unreset.value)
    await FallingEdge(dut.clk)
    await FallingEdge(dut.clk)
    print("DRAWN", dut.drawn.value)
"""


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path
