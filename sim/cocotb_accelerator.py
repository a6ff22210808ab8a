"""cocotb test of the whole accelerator: waits for the harness and believes its count."""

from typing import Any

import cocotb
from cocotb.triggers import RisingEdge, Timer


@cocotb.test()
async def whole_graphs(dut: Any) -> None:
    """Every word that a pass writes and every beat that leaves equals the golden model's."""
    # Registers may power up at random values: the harness has set its own after the first step.
    await Timer(1, unit="ns")
    if not int(dut.finished.value):
        await RisingEdge(dut.finished)
    compared = int(dut.total_compared.value)
    mismatches = int(dut.total_mismatches.value)
    cocotb.log.info("%d words compared, %d mismatches", compared, mismatches)
    assert mismatches == 0, f"{mismatches} of {compared} words differ"
