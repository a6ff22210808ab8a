"""Bench of stream_loader: packets of the packer, and broken ones, against a decoder of their bits."""

import itertools
from collections import Counter
from typing import Any

import cocotb

from sgq_hw.sim.bench import Bench, draw_bits, generator, settings
from sgq_hw.sim.loader_model import (
    ERR_CAPACITY,
    ERR_EARLY_TLAST,
    ERR_HEADER,
    ERR_INDEX,
    ERR_LATE_TLAST,
    ERR_NONE,
    ERR_NOT_LOADED,
    ERR_ROW_COUNT,
    ERR_ROW_LENGTH,
    ERR_WORD_COUNT,
    Beat,
    LoaderModel,
    Outcome,
    Packet,
)

STATUS = ("s_axis_tready", "infer_pending", "payload_start", "payload_valid", "error", "loaded",
          "loading")  # fmt: skip
PATIENCE = 5000
"""Cycles after which packets should have been dealt with, at any pace."""
CODES_OF_PAYLOADS = (ERR_EARLY_TLAST, ERR_LATE_TLAST, ERR_INDEX, ERR_ROW_LENGTH)


FAULTS = ("header", "shorter", "longer", "any", "zero", "ones", "joined", "split")


class Surroundings:
    """Plays sender, unpacker and sequencer around the loader, and records what it does."""

    def __init__(self, dut: Any) -> None:
        self.info = settings()
        self.loads = bool(self.info["targets"])
        known = [*STATUS, *(("load_we",) if self.loads else ())]
        self.bench = Bench(dut, known=known)
        self.rng = generator()
        self.model = LoaderModel(self.info)
        self.gap = self.stall = 0.0
        self.deadline = PATIENCE
        self.stalls: Counter[str] = Counter()
        self.codes: Counter[int] = Counter()
        self.forget()

    def forget(self) -> None:
        """Drop everything that a reset drops."""
        self.queue: list[Beat] = []
        self.offered = False
        self.accepted: list[int] = []  # cycle of each accepted beat
        self.writes: list[tuple[int, int, int, int]] = []
        self.plans: list[tuple[list[Beat], int]] = []
        self.plan: tuple[list[Beat], int] | None = None
        self.left: list[Beat] = []  # payload beats that the unpacker still takes
        self.report_at: int | None = None
        self.taken_beats: list[Beat] = []
        self.started = self.reported = self.core_taken = self.core_done = 0
        self.pending = self.busy = 0
        self.code: int | None = None

    async def start(self) -> None:
        """Reset with idle inputs."""
        idle = ("s_axis_tdata", "s_axis_tlast", "s_axis_tvalid", "infer_taken", "payload_ready",
                "payload_done", "payload_error", "payload_code", "payload_ended",
                "error_clear")  # fmt: skip
        await self.bench.start(**dict.fromkeys(idle, 0), **({"busy": 0} if self.loads else {}))

    async def step(self, clear: int = 0) -> None:
        """Spend a cycle: drive all sides, check, record."""
        bench, rng = self.bench, self.rng
        now = bench.cycles + 1
        assert now < self.deadline, "nothing moves any more"
        bits = self.info["stream_bits"]
        self.offered = self.offered or bool(self.queue and rng.random() >= self.gap)
        data, tlast = self.queue[0] if self.offered else (draw_bits(rng, bits), draw_bits(rng, 1))
        ready = bool(self.left) and self.started == self.core_taken and rng.random() >= self.stall
        report = self.report_at == now
        code = self.plan[1] if self.plan else ERR_NONE
        core_free = self.started == self.core_done + 1 and not self.busy
        take = self.pending and core_free and rng.random() >= self.stall
        await bench.cycle(
            s_axis_tdata=data, s_axis_tlast=tlast, s_axis_tvalid=int(self.offered),
            payload_ready=int(ready), payload_done=int(report and code == ERR_NONE),
            payload_error=int(report and code != ERR_NONE), payload_code=code,
            payload_ended=int(bool(report and self.taken_beats[-1][1])),
            infer_taken=int(take), error_clear=clear, **({"busy": self.busy} if self.loads else {}),
        )  # fmt: skip
        self.follow_inference(ready, report, bool(take))
        if self.loads:
            self.follow_loading()
        self.follow_error(clear)
        if self.offered and bench.read("s_axis_tready"):
            self.accepted.append(bench.cycles)
            self.queue.pop(0)
            self.offered = False
        elif self.offered:
            self.stalls["input"] += 1
            self.stalls["held"] += self.busy

    def follow_inference(self, ready: bool, report: bool, take: bool) -> None:
        """Follow inferences from their start until the end of their computation."""
        bench, rng = self.bench, self.rng
        self.pending = bench.read("infer_pending")
        if bench.read("payload_start"):
            assert self.pending, "a start without a pending inference"
            assert self.plan is None, "a start before the end of the payload before"
            self.plan = self.plans.pop(0)
            self.left = list(self.plan[0])
            self.started += 1
        if bench.read("payload_valid") and ready:
            assert self.offered
            beat = (bench.read("payload_data"), bench.read("payload_last"))
            assert beat == self.left.pop(0)
            self.taken_beats.append(beat)
            if not self.left:
                self.report_at = bench.cycles + int(rng.integers(1, 4))
        self.stalls["payload"] += bench.read("payload_valid") and bool(self.left) and not ready
        if take:
            self.core_taken += 1
            self.pending = 0
            self.busy = 1
        if report:
            assert self.plan is not None
            if self.plan[1] != ERR_NONE:
                self.busy = 0
                self.core_done += 1
            self.plan = None
            self.reported += 1
        # An inference is computed for a while after its payload.
        elif self.busy and self.reported > self.core_done and rng.random() < 0.1:
            self.busy = 0
            self.core_done += 1

    def follow_loading(self) -> None:
        """Record writes; nothing is loaded while an inference waits or runs."""
        bench = self.bench
        enables = bench.read("load_we")
        if enables:
            assert enables & enables - 1 == 0, f"several targets at once: {enables:b}"
            assert not self.busy
            assert not self.pending
            target = enables.bit_length() - 1
            # Above the target's own bits X may remain from power-up.
            bits = self.info["targets"][target]["bits"]
            word = int(str(bench.dut.load_data.value)[-bits:], 2)
            self.writes.append((target, bench.read("load_addr"), word, bench.cycles))
        assert not (bench.read("loading") and (self.busy or self.pending))

    def follow_error(self, clear: int) -> None:
        """A code stays as it is until it is cleared."""
        error = self.bench.read("error")
        code = self.bench.read("error_code")
        assert bool(code) == bool(error)
        if self.code:
            assert code == self.code, f"the code changed from {self.code} to {code}"
        self.code = 0 if clear else code

    async def send(self, packets: list[Packet], gap: float = 0.0, stall: float = 0.0) -> None:
        """Send packets without a rest in between, and compare all that they cause."""
        want = self.begin(packets, gap, stall)
        while self.queue:
            await self.step()
        await self.settle()
        self.compare(want)

    def begin(self, packets: list[Packet], gap: float = 0.0, stall: float = 0.0) -> Outcome:
        """Queue packets; returns what is expected of them."""
        self.gap, self.stall = gap, stall
        self.deadline = self.bench.cycles + PATIENCE
        self.accepted, self.writes, self.taken_beats = [], [], []
        want = self.model.run(packets)
        self.plans = list(want.payloads)
        self.queue = [beat for packet in packets for beat in packet.beats]
        return want

    async def settle(self) -> None:
        """Let everything that is under way come to its end."""
        for _ in range(4):
            await self.step()
        while self.plan or self.pending or self.busy:
            await self.step()
        await self.step()

    def compare(self, want: Outcome) -> None:
        """Compare writes with their cycles, payloads and status."""
        bench, model = self.bench, self.model
        # The latency: a word is written in the cycle after its last beat.
        writes = [(*write[:3], self.accepted[write[3]] + 1) for write in want.writes]
        assert self.writes == writes
        assert self.taken_beats == [beat for taken, _ in want.payloads for beat in taken]
        assert not self.plans
        have = [bench.read(name) for name in ("error_code", "loaded", "num_nodes")]
        assert have == [model.error, int(all(model.loaded)), model.nodes]
        if self.loads:
            assert bench.read("num_records") == model.records
        self.codes[model.error] += 1

    async def clear(self) -> None:
        """Clear the error."""
        await self.step(clear=1)
        self.model.error = ERR_NONE
        await self.step()
        assert not self.bench.read("error")

    async def reset(self, cycles: int) -> None:
        """Reset in the midst of everything."""
        await self.bench.reset(
            cycles, s_axis_tvalid=0, payload_ready=0, payload_done=0, payload_error=0,
            infer_taken=0, error_clear=0, **({"busy": 0} if self.loads else {}),
        )  # fmt: skip
        self.forget()
        self.model.reset()
        status = {name: self.bench.read(name) for name in STATUS if name != "s_axis_tready"}
        assert not any(value for name, value in status.items() if self.loads or name != "loaded")


def good_packets(info: dict[str, Any]) -> dict[str, Packet]:
    """Return the packer's packets by name, in their order."""
    return {
        name: Packet([(int(data, 16), last) for data, last in beats])
        for name, beats in info["packets"].items()
    }


RATES = (0.0, 0.3, 0.9)


@cocotb.test()
async def packets_of_the_packer(dut: Any) -> None:
    """Loads and inferences at every pace; without pauses a packet of B beats takes B + 1 cycles."""
    world = Surroundings(dut)
    await world.start()
    packets = good_packets(world.info)
    loads = [packet for name, packet in packets.items() if name != "inference"]
    if world.loads:
        await world.send([packets["inference"]])
        assert world.model.error == ERR_NOT_LOADED
        await world.clear()
        await world.send(loads)
        beats = sum(len(packet.beats) for packet in loads)
        assert world.accepted[-1] - world.accepted[0] == beats - 1 + len(loads)
    for gap in RATES:
        for stall in RATES:
            await world.send([*loads, *[packets["inference"]] * 3, *loads[:2]], gap, stall)
            assert world.model.error == ERR_NONE
    assert world.stalls["payload"] > 0
    assert world.stalls["held"] > 0 or not world.loads
    assert world.codes[ERR_NONE] == len(RATES) ** 2 + world.loads


class Breaker:
    """Draws packets with one thing wrong: each fault in each packet in turn, then any."""

    def __init__(self, world: Surroundings) -> None:
        self.rng, self.bits = world.rng, world.info["stream_bits"]
        self.good = good_packets(world.info)
        self.header = world.model.header_beats
        self.end = 1 << world.info["edge_fields"]["last"][0]
        self.turns = list(itertools.product(self.good, FAULTS))
        self.rng.shuffle(self.turns)

    def draw(self, turn: int) -> Packet:
        """Return a broken packet."""
        if turn < len(self.turns):
            name, fault = self.turns[turn]
        else:
            name, fault = str(self.rng.choice(list(self.good))), str(self.rng.choice(FAULTS))
        packet = Packet(list(self.good[name].beats))
        at = int(self.rng.integers(self.header, len(packet.beats)))
        if name == "inference" and fault in ("zero", "ones", "joined", "split"):
            packet.take = at - self.header + 1
            packet.code = int(self.rng.choice(CODES_OF_PAYLOADS))
        else:
            self.spoil(packet.beats, fault, at)
        return packet

    def spoil(self, beats: list[Beat], fault: str, at: int) -> None:
        """Make one thing wrong, in the payload at a beat."""
        rng, bits = self.rng, self.bits
        data, last = beats[at]
        if fault == "header":
            beat, bit = divmod(int(rng.choice([0, 3, 7, 8, 12, 32, 33, 63])), bits)
            beats[beat] = (beats[beat][0] ^ 1 << bit, 0)
        elif fault == "shorter":
            # At times it ends in its header.
            del beats[int(rng.integers(1, max(2, len(beats) - 1))) :]
            beats[-1] = (beats[-1][0], 1)
        elif fault == "longer":
            beats[-1] = (beats[-1][0], 0)
            beats += [(draw_bits(rng, bits), 0) for _ in range(int(rng.integers(1, 9)))]
            beats[-1] = (beats[-1][0], 1)
        elif fault == "joined":
            beats[self.header :] = [(data & ~self.end, last) for data, last in beats[self.header :]]
        else:
            new = {"any": draw_bits(rng, bits), "zero": 0, "ones": (1 << bits) - 1}
            beats[at] = (new.get(fault, data | self.end), last)


@cocotb.test()
async def broken_packets(dut: Any) -> None:
    """Every kind of error: its code, what was written before it, the drain, the recovery."""
    world = Surroundings(dut)
    await world.start()
    packets = good_packets(world.info)
    loads = [packet for name, packet in packets.items() if name != "inference"]
    inference = packets["inference"]
    breaker = Breaker(world)
    for turn in range(len(breaker.turns) + 10):
        if turn % 4 and not all(world.model.loaded):
            await world.send(loads)
        # What follows a broken packet is drained as well, until the error is cleared.
        group = [breaker.draw(turn), inference, *loads[-1:]][: int(world.rng.integers(1, 4))]
        await world.send(group, *world.rng.choice([0.0, 0.5], 2).tolist())
        if world.model.error != ERR_NONE:
            await world.clear()
    codes = {ERR_NONE, ERR_HEADER, ERR_EARLY_TLAST, ERR_ROW_COUNT}
    if world.loads:
        codes |= {ERR_CAPACITY, ERR_LATE_TLAST, ERR_INDEX, ERR_ROW_LENGTH, ERR_NOT_LOADED,
                  ERR_WORD_COUNT}  # fmt: skip
    assert codes <= world.codes.keys()
    await world.send([*loads, inference])
    assert world.model.error == ERR_NONE


@cocotb.test()
async def an_error_cleared_in_a_drain(dut: Any) -> None:
    """The rest of the packet is still drained; the next one is taken."""
    world = Surroundings(dut)
    await world.start()
    packets = good_packets(world.info)
    loads = [packet for name, packet in packets.items() if name != "inference"]
    bits = world.info["stream_bits"]
    await world.send(loads)
    for at in range(4, 40, 5):
        # The junk holds good packets, but not at a packet's start.
        unknown = [(0xFF, 0), *[(data, 0) for data, _ in packets["inference"].beats]]
        unknown += [(draw_bits(world.rng, bits), 0) for _ in range(40 - len(unknown))]
        want = world.begin([Packet([*unknown, (0, 1)])])
        for _ in range(at):
            await world.step()
        assert world.bench.read("error_code") == ERR_HEADER
        await world.clear()
        while world.queue:
            await world.step()
        await world.settle()
        world.compare(want)
        await world.send([packets["inference"]])
        assert world.model.error == ERR_NONE


@cocotb.test()
async def a_reset_forgets_everything(dut: Any) -> None:
    """Reset within each kind of packet; then nothing is loaded, and all works from the start."""
    world = Surroundings(dut)
    await world.start()
    packets = good_packets(world.info)
    loads = [packet for name, packet in packets.items() if name != "inference"]
    everything = [*loads, packets["inference"], packets["inference"]]
    total = sum(len(packet.beats) + 1 for packet in everything)
    inference = range(total - 2 * len(packets["inference"].beats) - 4, total + 12)
    rng = world.rng
    for cycles in [*sorted(rng.integers(1, total, 8).tolist()), *inference]:
        world.begin(everything)
        for _ in range(cycles):
            await world.step()
        await world.reset(1 + cycles % 2)
        for _ in range(3):
            await world.step()
            assert not world.bench.read("payload_start")
        if cycles % 5 == 0:
            await world.send(everything)
    await world.send(everything)


def packet_of(info: dict[str, Any], target: dict[str, int], words: list[int]) -> Packet:
    """Return a load packet."""
    bits = info["stream_bits"]
    mask = (1 << bits) - 1
    header = target["type"] | target["index"] << 8 | len(words) << 32
    beats = []
    for word, width in ((header, 64), *((word, target["bits"]) for word in words)):
        beats += [(word >> low & mask, 0) for low in range(0, width, bits)]
    beats[-1] = (beats[-1][0], 1)
    return Packet(beats)


@cocotb.test()
async def packets_that_no_draw_finds(dut: Any) -> None:
    """No words before there is a graph; so many rows that a narrow counter would roll over."""
    world = Surroundings(dut)
    await world.start()
    info = world.info
    if not world.loads:
        await world.send([packet_of(info, {"type": 2, "index": 0, "bits": 64}, [1, 2])])
        assert world.model.error == ERR_HEADER
        return
    for target in info["targets"]:
        empty = packet_of(info, target, [])
        await world.send([Packet([(data, 0) for data, _ in empty.beats] + [(0, 0), (0, 1)])])
        assert world.model.error == ERR_WORD_COUNT
        await world.clear()
    packets = good_packets(info)
    await world.send([packet for name, packet in packets.items() if name != "inference"])
    by_kind = {target["kind"]: target for target in info["targets"]}
    rows = world.model.nodes + (1 << info["ROW_BITS"])
    assert rows <= info["capacity"]["edges"]
    graph = packet_of(info, by_kind["graph"], [world.model.nodes | rows << 32])
    end = 1 << info["edge_fields"]["last"][0]
    await world.send([graph, packet_of(info, by_kind["edges"], [end] * rows)])
    assert world.model.error == ERR_ROW_COUNT
