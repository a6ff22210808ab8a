"""Bench of performance_counters: every slot of every cycle has one cause, counted exactly once."""

from collections import Counter, deque
from typing import Any

import cocotb

from sgq_hw.sim.bench import Bench, draw_bits, generator, settings

NAMES = (
    "cycles", "inferences", "load_cycles", "busy_slots", "lost_bank_conflict",
    "lost_row_imbalance", "lost_lane_padding", "lost_fill_drain", "lost_input_stall",
    "lost_output_stall",
)  # fmt: skip
"""Counters in the order of docs/registers.md."""

FLAGS = ("busy", "done", "loading", "op_valid", "input_stall", "output_stall")
PE_FLAGS = ("op_mac", "op_done", "op_last")
"""One bit for each processing element."""
LATENCY = 4
"""Cycles from an event to its counter, and from a clear to the cleared counters."""


def events(inputs: dict[str, int], pes: int, lanes: int) -> Counter[str]:
    """Return what one cycle adds to which counter."""
    added = Counter(inferences=inputs["done"], load_cycles=inputs["loading"])
    if not inputs["busy"]:
        return added
    added["cycles"] = 1
    if inputs["op_valid"]:
        for pe in range(pes):
            mac, done, last = (inputs[name] >> pe & 1 for name in PE_FLAGS)
            if mac:
                added["busy_slots"] += inputs["op_lanes"]
                added["lost_lane_padding"] += lanes - inputs["op_lanes"]
            elif done or last:
                added["lost_row_imbalance"] += lanes
            else:
                added["lost_bank_conflict"] += lanes
    elif inputs["input_stall"]:
        added["lost_input_stall"] = pes * lanes
    elif inputs["output_stall"]:
        added["lost_output_stall"] = pes * lanes
    else:
        added["lost_fill_drain"] = pes * lanes
    return added


class Bookkeeper:
    """Draws inputs, follows the counters and compares one of them in every cycle.

    A cycle counts in the counters four cycles later, a clear drops the events before its cycle, and
    a counter is read one cycle after its index: the header's latencies.
    """

    def __init__(self, dut: Any) -> None:
        self.bench = Bench(dut)
        self.rng = generator()
        self.pes: int = settings()["PES"]
        self.lanes: int = settings()["LANES"]
        self.index_bits: int = settings()["COUNTER_INDEX_BITS"]
        self.counts: Counter[str] = Counter()
        self.previous: Counter[str] = Counter()
        self.flying: deque[tuple[int, Counter[str]]] = deque()
        self.drop_flying()
        self.expected: int | None = None
        self.seen: Counter[str] = Counter()

    def drop_flying(self) -> None:
        """Forget what is on its way to the counters: (clear, events of the cycle before it)."""
        self.flying = deque([(0, Counter())] * (LATENCY - 2))

    def draw(self, weights: dict[str, float]) -> dict[str, int]:
        """Return inputs of one cycle, each flag set with its probability."""
        inputs = {name: int(self.rng.random() < weights.get(name, 0.5)) for name in FLAGS}
        for name in PE_FLAGS:
            flags = self.rng.random(self.pes) < weights.get(name, 0.5)
            inputs[name] = sum(1 << pe for pe in range(self.pes) if flags[pe])
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
        self.flying.append((clear, self.previous))
        cleared, added = self.flying.popleft()
        self.counts = Counter() if cleared or rst else self.counts + added
        if rst:
            self.drop_flying()
        # A cycle in reset counts nothing.
        self.previous = Counter() if rst else events(inputs, self.pes, self.lanes)
        self.seen.update(+self.previous)

    async def read_all(self) -> dict[str, int]:
        """Let the pipeline settle and read every counter."""
        idle = dict.fromkeys((*FLAGS, *PE_FLAGS, "op_lanes", "read_index"), 0)
        for _ in range(LATENCY):
            await self.step(idle)
        found = {}
        for index, name in enumerate(NAMES):
            await self.step({**idle, "read_index": index})
            await self.step(idle)
            found[name] = self.bench.read("read_value")
        return found


def check_sum(found: dict[str, int], slots: int) -> None:
    """Busy and lost slots explain every cycle of `slots` slots."""
    explained = found["busy_slots"] + sum(v for k, v in found.items() if k.startswith("lost_"))
    assert explained == slots * found["cycles"]


async def begin(dut: Any) -> Bookkeeper:
    """Start, with every input set while in reset and in the cycle after it."""
    keeper = Bookkeeper(dut)
    everything = {**dict.fromkeys((*FLAGS, *PE_FLAGS), 1), "op_lanes": 1}
    await keeper.bench.start(clear=0, read_index=0, **everything)
    keeper.previous = events(everything, keeper.pes, keeper.lanes)
    keeper.seen.update(+keeper.previous)
    return keeper


@cocotb.test()
async def every_slot_is_explained(dut: Any) -> None:
    """Random cycles, quiet and busy ones; each counter is compared again and again."""
    keeper = await begin(dut)
    for _ in range(30):
        # Within a phase some flags are rare and some are frequent.
        names = (*FLAGS, *PE_FLAGS)
        weights = {name: float(keeper.rng.choice([0.05, 0.5, 0.95])) for name in names}
        for _ in range(60):
            await keeper.step(keeper.draw(weights))
    found = await keeper.read_all()
    check_sum(found, keeper.pes * keeper.lanes)
    assert found == {name: keeper.seen[name] for name in NAMES}
    assert all(found.values()) or keeper.lanes == 1


@cocotb.test()
async def whole_inferences_add_up(dut: Any) -> None:
    """Counters read as soon as a value can be there, between bursts of work: the sum is exact.

    All counters have one latency, so whichever events were counted, whole cycles were.
    """
    keeper = await begin(dut)
    idle = dict.fromkeys((*FLAGS, *PE_FLAGS, "op_lanes", "read_index"), 0)
    for _ in range(20):
        for _ in range(int(keeper.rng.integers(1, 30))):
            inputs = keeper.draw({"busy": 1.0, "op_valid": 0.9, "op_mac": 0.8, "done": 0.0})
            await keeper.step(inputs)
        await keeper.step({**keeper.draw({"busy": 1.0}), "done": 1})
        for _ in range(LATENCY - 1):
            await keeper.step(idle)
        found = {}
        # A value comes one step behind its index.
        for index in range(len(NAMES) + 1):
            await keeper.step({**idle, "read_index": index})
            if index:
                found[NAMES[index - 1]] = keeper.bench.read("read_value")
        check_sum(found, keeper.pes * keeper.lanes)
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
        check_sum(await keeper.read_all(), keeper.pes * keeper.lanes)
