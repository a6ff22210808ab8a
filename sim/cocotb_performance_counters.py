"""Bench of performance_counters: every slot of every cycle has one cause, counted exactly once."""

from collections import Counter
from typing import Any

import cocotb

from sgq_hw.sim.bench import Bench, draw_bits, generator, settings

NAMES = (
    "cycles", "inferences", "load_cycles", "busy_slots", "lost_bank_conflict",
    "lost_row_imbalance", "lost_lane_padding", "lost_fill_drain", "lost_input_stall",
    "lost_output_stall",
)  # fmt: skip
"""Counters in the order of docs/registers.md."""

FLAGS = ("busy", "done", "loading", "op_valid", "op_mac", "input_stall", "output_stall")


def events(inputs: dict[str, int], lanes: int) -> Counter[str]:
    """Return what one cycle adds to which counter."""
    added = Counter(inferences=inputs["done"], load_cycles=inputs["loading"])
    if not inputs["busy"]:
        return added
    added["cycles"] = 1
    if inputs["op_valid"] and inputs["op_mac"]:
        added["busy_slots"] = inputs["op_lanes"]
        added["lost_lane_padding"] = lanes - inputs["op_lanes"]
    elif inputs["op_valid"]:
        added["lost_row_imbalance"] = lanes
    elif inputs["input_stall"]:
        added["lost_input_stall"] = lanes
    elif inputs["output_stall"]:
        added["lost_output_stall"] = lanes
    else:
        added["lost_fill_drain"] = lanes
    return added


class Bookkeeper:
    """Draws inputs, follows the counters and compares one of them in every cycle.

    A cycle counts in the counters two cycles later, and a counter is read one cycle after its
    index: the header's latencies.
    """

    def __init__(self, dut: Any) -> None:
        self.bench = Bench(dut)
        self.rng = generator()
        self.lanes: int = settings()["LANES"]
        self.index_bits: int = settings()["COUNTER_INDEX_BITS"]
        self.counts: Counter[str] = Counter()
        self.pending: Counter[str] = Counter()
        self.expected: int | None = None
        self.seen: Counter[str] = Counter()

    def draw(self, weights: dict[str, float]) -> dict[str, int]:
        """Return inputs of one cycle, each flag set with its probability."""
        inputs = {name: int(self.rng.random() < weights.get(name, 0.5)) for name in FLAGS}
        inputs["op_lanes"] = int(self.rng.integers(1, self.lanes, endpoint=True))
        inputs["read_index"] = draw_bits(self.rng, self.index_bits)
        return inputs

    async def step(self, inputs: dict[str, int], clear: int = 0, rst: int = 0) -> None:
        """Spend a cycle and compare what was asked for in the one before it."""
        await self.bench.cycle(**inputs, clear=clear, rst=rst)
        if self.expected is not None:
            have = self.bench.read("read_value")
            assert have == self.expected, f"cycle {self.bench.cycles}: {have}, not {self.expected}"
        index = inputs["read_index"]
        self.expected = self.counts[NAMES[index]] if index < len(NAMES) else 0
        self.counts = Counter() if clear or rst else self.counts + self.pending
        # A cycle in reset counts nothing.
        self.pending = Counter() if rst else events(inputs, self.lanes)
        self.seen.update(+self.pending)

    async def read_all(self) -> dict[str, int]:
        """Let the pipeline settle and read every counter."""
        idle = dict.fromkeys((*FLAGS, "op_lanes", "read_index"), 0)
        await self.step(idle)
        await self.step(idle)
        found = {}
        for index, name in enumerate(NAMES):
            await self.step({**idle, "read_index": index})
            await self.step(idle)
            found[name] = self.bench.read("read_value")
        return found


def check_sum(found: dict[str, int], lanes: int) -> None:
    """Busy and lost slots explain every cycle."""
    slots = found["busy_slots"] + sum(v for k, v in found.items() if k.startswith("lost_"))
    assert slots == lanes * found["cycles"]


async def begin(dut: Any) -> Bookkeeper:
    """Start, with every input set while in reset and in the cycle after it."""
    keeper = Bookkeeper(dut)
    everything = {**dict.fromkeys(FLAGS, 1), "op_lanes": 1}
    await keeper.bench.start(clear=0, read_index=0, **everything)
    keeper.pending = events(everything, keeper.lanes)
    keeper.seen.update(+keeper.pending)
    return keeper


@cocotb.test()
async def every_slot_is_explained(dut: Any) -> None:
    """Random cycles, quiet and busy ones; each counter is compared again and again."""
    keeper = await begin(dut)
    for _ in range(30):
        # Within a phase some flags are rare and some are frequent.
        weights = {name: float(keeper.rng.choice([0.05, 0.5, 0.95])) for name in FLAGS}
        for _ in range(60):
            await keeper.step(keeper.draw(weights))
    found = await keeper.read_all()
    check_sum(found, keeper.lanes)
    assert found == {name: keeper.seen[name] for name in NAMES}


@cocotb.test()
async def clearing_leaves_nothing(dut: Any) -> None:
    """Cleared or reset in the midst of events, all counters start again from zero."""
    keeper = await begin(dut)
    rng = keeper.rng
    for how in ("clear", "rst") * 20:
        for _ in range(int(rng.integers(1, 20))):
            await keeper.step(keeper.draw({"busy": 0.9}))
        for _ in range(int(rng.integers(1, 3))):
            await keeper.step(keeper.draw({"busy": 0.9}), **{how: 1})
        check_sum(await keeper.read_all(), keeper.lanes)
