"""Bench of `elu`: every code, two cycles later, with and without the activation."""

from collections.abc import Iterator
from typing import Any

import cocotb
import numpy as np

from sgq_hw.golden.attention_unit import elu, elu_table
from sgq_hw.golden.fixed_point import IntArray, code_range
from sgq_hw.sim.bench import draw_codes, pack, settings
from sgq_hw.sim.pipeline import Pipeline, Word

LATENCY = 2


class Activation:
    """The unit with its tables."""

    def __init__(self, dut: Any) -> None:
        self.values = settings()
        self.bits = int(self.values["CODE_BITS"])
        self.tables = self.values.get("TABLES", 1)
        self.stored: list[IntArray] = []
        self.data_bits = int(self.values["DATA_BITS"])
        widths = {"in_data": self.values["LANES"] * self.data_bits}
        self.unit = Pipeline(dut, LATENCY, widths, self.values["TAG_BITS"])
        self.rng = self.unit.rng

    async def start(self) -> None:
        """Reset and load tables: random ones, the first one of ELU itself."""
        self.unit.constants = {"table_we": 0, "table_waddr": 0, "table_wdata": 0}
        self.select(0, 0)
        await self.unit.start()
        low, _ = code_range(self.bits, True)
        self.stored = [draw_codes(self.rng, low, 0, -low) for _ in range(self.tables)]
        self.stored[0] = elu_table(self.bits, 2.0 ** (2 - self.bits))
        words = np.concatenate(self.stored)
        for address in self.rng.permutation(len(words)).tolist():
            word = pack([int(words[address])], self.bits)
            await self.unit.cycle(table_we=1, table_waddr=address, table_wdata=word)

    def select(self, enable: int, table: int) -> None:
        """Choose whether there is an activation and which, while no word is in flight."""
        self.unit.constants["enable"] = enable
        if self.tables > 1:
            self.unit.constants["table_select"] = table

    def words(self, codes: IntArray) -> Iterator[Word]:
        """Return words of codes, [n], and what has to come out."""
        lanes = self.values["LANES"]
        rows = np.pad(codes, (0, -len(codes) % lanes)).reshape(-1, lanes)
        table = self.stored[self.unit.constants.get("table_select", 0)]
        results = elu(rows, table) if self.unit.constants["enable"] else rows
        for row, result in zip(rows, results, strict=True):
            inputs = {"in_data": pack(row, self.data_bits)}
            yield Word(inputs, {"out_data": pack(result, self.data_bits)})


@cocotb.test(timeout_time=10, timeout_unit="ms")
async def every_code(dut: Any) -> None:
    """All codes of every table; all codes of the container where the activation is off."""
    unit = Activation(dut)
    await unit.start()
    for table in range(unit.tables):
        for enable, bits in ((1, unit.bits), (0, unit.data_bits)):
            unit.select(enable, table)
            low, high = code_range(bits, True)
            codes = np.arange(low, high + 1)
            for lane in range(unit.values["LANES"] if bits <= 10 else 1):
                await unit.unit.send(unit.words(np.roll(codes, lane)))
            await unit.unit.drain()


@cocotb.test(timeout_time=10, timeout_unit="ms")
async def gaps_and_resets(dut: Any) -> None:
    """Corners and random codes with gaps, then resets in mid-flight, which keep the tables."""
    unit = Activation(dut)
    await unit.start()
    for enable in (1, 0):
        unit.select(enable, unit.tables - 1)
        codes = draw_codes(unit.rng, *code_range(unit.bits, True), 200 * unit.values["LANES"])
        await unit.unit.send(unit.words(codes), gaps=0.4)
        await unit.unit.survive_resets(unit.words(codes))
