"""Bench of stream_loader: packets of the packer, good and broken, against a decoder of bits."""

import itertools
from collections import Counter
from collections.abc import Sequence
from typing import Any

import cocotb
import numpy as np
from cocotb.utils import get_sim_time

from sgq_hw.sim.bench import PERIOD_NS, draw_bits, pack
from sgq_hw.sim.loader_model import (
    ERR_CAPACITY,
    ERR_EARLY_TLAST,
    ERR_GRAPH,
    ERR_HEADER,
    ERR_KEEP,
    ERR_LATE_TLAST,
    ERR_NONE,
    ERR_NOT_LOADED,
    ERR_WORD_COUNT,
    INFERENCE,
    Beat,
    Packet,
)
from sgq_hw.sim.loader_world import World, good_packets, packet_of
from sgq_hw.sim.stream import pause_pattern

PACES = ("none", "p10", "p90", "bursts", "one_shot")
STALLS = (0.0, 0.9)
HIGHEST_CODE = 11
PACKET_GRAPH = 5
QUICK = -1
"""Stage of the short tests: they come first, and find most faults."""
HEADER_BITS = {"type": (0, 3, 7), "index": (8, 12, 15), "count": (32, 33, 63)}
CONTENTS = ("any", "zero", "ones")
FAULTS = (*HEADER_BITS, "shorter", "longer", "partial", *CONTENTS)


async def begin(dut: Any) -> tuple[World, list[Packet], Packet]:
    """Return the surroundings, the packets that load everything, and an inference."""
    world = World(dut)
    await world.start()
    packets = good_packets(world.info)
    inference = packets.pop("inference")
    return world, list(packets.values()), inference


@cocotb.test()
async def packets_of_the_packer(dut: Any) -> None:
    """Loads and inferences at every pace; without pauses a packet of B beats takes B + 1 cycles."""
    world, loads, inference = await begin(dut)
    if world.loads:
        await world.send([inference])
        assert world.model.error == ERR_NOT_LOADED
        await world.clear()
        await world.send(loads)
        cycles = sum(len(packet.beats) + 1 for packet in loads) - 1
        assert world.accepted[-1] - world.accepted[0] == cycles * PERIOD_NS
    for pace, stall in itertools.product(PACES, STALLS):
        await world.send([*loads, *[inference] * 3, *loads[:2]], pace, stall)
        assert world.model.error == ERR_NONE
    assert world.source.stalls > 0
    assert world.payload_stalls > 0 or not world.info["payload"]
    assert world.held > 0 or not world.loads


class Breaker:
    """Draws packets with one thing wrong: each fault in each packet in turn, then any."""

    def __init__(self, world: World) -> None:
        self.rng, self.bits = world.rng, world.info["stream_bits"]
        self.payload: bool = world.info["payload"]
        self.good = good_packets(world.info)
        self.header = world.model.header_beats
        self.turns = list(itertools.product(self.good, FAULTS))
        self.rng.shuffle(self.turns)

    def draw(self, turn: int) -> Packet:
        """Return a broken packet."""
        if turn < len(self.turns):
            name, fault = self.turns[turn]
        else:
            name, fault = str(self.rng.choice(list(self.good))), str(self.rng.choice(FAULTS))
        packet = Packet(list(self.good[name].beats))
        if fault == "partial":
            packet.partial = int(self.rng.integers(len(packet.beats)))
            return packet
        if name == "inference" and not self.payload:
            # There is nothing to change behind the header.
            self.spoil(packet.beats, "longer" if fault in CONTENTS else fault, 0)
            return packet
        at = int(self.rng.integers(self.header, len(packet.beats)))
        if name == "inference" and fault in CONTENTS:
            packet.take = at - self.header + 1
            packet.code = int(self.rng.integers(1, HIGHEST_CODE, endpoint=True))
        else:
            self.spoil(packet.beats, fault, at)
        return packet

    def spoil(self, beats: list[Beat], fault: str, at: int) -> None:
        """Make one thing wrong, in the payload at a beat."""
        rng, bits = self.rng, self.bits
        if fault in HEADER_BITS:
            beat, bit = divmod(int(rng.choice(HEADER_BITS[fault])), bits)
            beats[beat] = (beats[beat][0] ^ 1 << bit, beats[beat][1])
        elif fault == "shorter":
            # At times it ends in its header.
            del beats[int(rng.integers(1, max(2, len(beats) - 1))) :]
            beats[-1] = (beats[-1][0], 1)
        elif fault == "longer":
            beats[-1] = (beats[-1][0], 0)
            beats += [(draw_bits(rng, bits), 0) for _ in range(int(rng.integers(1, 9)))]
            beats[-1] = (beats[-1][0], 1)
        else:
            new = {"any": draw_bits(rng, bits), "zero": 0, "ones": (1 << bits) - 1}
            beats[at] = (new[fault], beats[at][1])


@cocotb.test()
async def broken_packets(dut: Any) -> None:
    """Every kind of error: its code, what was written before it, the drain, the recovery."""
    world, loads, inference = await begin(dut)
    breaker = Breaker(world)
    for turn in range(len(breaker.turns) + 20):
        if turn % 4 and not all(world.model.loaded):
            await world.send(loads)
        # What follows a broken packet is drained as well, until the error is cleared.
        group = [breaker.draw(turn), inference, *loads[-1:]][: int(world.rng.integers(1, 4))]
        pace = ("none", "p50")[turn % 2]
        await world.send(group, pace, float(world.rng.choice([0.0, 0.5])))
        if world.model.error != ERR_NONE:
            await world.clear()
    codes = {ERR_HEADER, ERR_NONE if world.info["payload"] else ERR_LATE_TLAST}
    if world.info["payload"] or world.model.header_beats > 1:
        codes.add(ERR_EARLY_TLAST)
    if world.loads:
        codes |= {ERR_CAPACITY, ERR_LATE_TLAST, ERR_WORD_COUNT}
    assert codes <= world.codes.keys()
    await world.send([*loads, inference])
    assert world.model.error == ERR_NONE


@cocotb.test(stage=QUICK)
async def a_byte_is_missing(dut: Any) -> None:
    """In every beat of every kind of packet: what came before counts, the rest is drained."""
    world, loads, inference = await begin(dut)
    bits = world.info["stream_bits"]
    turn = 0
    for packet in [*loads, inference]:
        last = len(packet.beats) - 1
        places = {0, 1, world.model.header_beats, last // 2, last - 1, last}
        for at in sorted(place for place in places if 0 <= place <= last):
            if not all(world.model.loaded) or turn == 0:
                await world.send(loads)
            turn += 1
            broken = Packet(packet.beats, partial=at)
            # The inferences before it end well; what follows is drained, and changes nothing.
            ahead = [inference] * (turn % 3)
            await world.send(
                [*ahead, broken, inference], ("none", "p50")[turn % 2], STALLS[turn // 2 % 2]
            )
            assert world.model.error == ERR_KEEP
            await world.clear()
    # The first error stays: a graph that does not fit, and at once a packet that begins so.
    for target in (each for each in world.info["targets"] if each["kind"] == "graph"):
        await world.send([packet_of(world.info, target, [0]), Packet(inference.beats, partial=0)])
        assert world.model.error == ERR_CAPACITY
        await world.clear()
    await world.send(loads)
    # An error is cleared in the very cycle of the partial beat: that is a new one.
    unknown = Packet([(0xFF, 0), (draw_bits(world.rng, bits), 1)])
    for last in (False, True):
        await world.send([unknown])
        beats = [(beat, int(last and not at)) for at, (beat, _) in enumerate(inference.beats)]
        beats = beats[:1] if last else [*beats[:-1], (beats[-1][0], 1)]
        world.source.pause = pause_pattern("none")
        want = world.begin([Packet(beats, partial=0)])
        await world.step(clear=1)
        cleared = get_sim_time("ns")
        world.model.error = ERR_KEEP
        world.code = ERR_KEEP
        await world.finish(want)
        assert abs(world.accepted[0] - cleared) < 1
        await world.clear()
    await world.send([inference])
    assert world.model.error == ERR_NONE


@cocotb.test(stage=QUICK)
async def an_error_cleared_in_a_drain(dut: Any) -> None:
    """The rest of the packet is still drained; the next one is taken."""
    world, loads, inference = await begin(dut)
    bits = world.info["stream_bits"]
    await world.send(loads)
    for at in range(4, 40, 5):
        # The junk holds a good packet, but not at a packet's start.
        unknown = [(0xFF, 0), *[(data, 0) for data, _ in inference.beats]]
        unknown += [(draw_bits(world.rng, bits), 0) for _ in range(40 - len(unknown))]
        # What it ends with is drained as well, whole or not.
        want = world.begin([Packet([*unknown, (0, 1)], partial=len(unknown))])
        for _ in range(at):
            await world.step()
        assert world.bench.read("error_code") == ERR_HEADER
        await world.clear()
        await world.finish(want)
        await world.send([inference])
        assert world.model.error == ERR_NONE


@cocotb.test()
async def a_reset_forgets_everything(dut: Any) -> None:
    """Reset within each kind of packet; then nothing is loaded, and all works from the start."""
    world, loads, inference = await begin(dut)
    everything = [*loads, inference, inference]
    total = sum(len(packet.beats) + 1 for packet in everything)
    at_inference = range(total - 2 * len(inference.beats) - 4, total + 8)
    for cycles in [*sorted(world.rng.integers(1, total, 8).tolist()), *at_inference]:
        world.begin(everything)
        for _ in range(cycles):
            await world.step()
        await world.reset(1 + cycles % 2)
        for _ in range(3):
            await world.step()
            assert not world.bench.read("infer_pending")
            if world.info["payload"]:
                assert not world.bench.read("payload_start")
        if cycles % 5 == 0:
            await world.send(everything)
    await world.send(everything)


@cocotb.test()
async def an_error_in_a_running_inference(dut: Any) -> None:
    """At any moment of what follows it: all is dropped and drained, and the first code stays."""
    world, loads, inference = await begin(dut)
    breaker = Breaker(world)
    unknown = Packet([(0xFF, 0), *inference.beats])
    await world.send(loads)
    followers: list[list[Packet]] = [[inference, inference], [unknown, inference], loads[:1], []]
    for turn in range(120):
        group = [inference, *followers[turn % 4]]
        world.endless, world.eager = True, turn % 8 < 4
        want = world.begin(group, ("none", "p50")[turn // 4 % 2], (0.0, 0.5)[turn // 8 % 2])
        # A packet that waits behind the running inference is not seen by the model's order.
        world.model.error = ERR_NONE
        while not world.busy:
            await world.step()
        length = len(inference.beats) * (1 + turn // 4 % 3)
        for _ in range(int(breaker.rng.integers(0, length + 4))):
            await world.step()
        clear, code = turn % 3 // 2, int(breaker.rng.integers(1, HIGHEST_CODE, endpoint=True))
        await world.step(clear=clear, fail=code)
        had = world.bench.read("error_code")
        assert world.code == (had if had and not clear else code)
        world.endless = False
        world.writes = []
        await world.finish_failed(want)
        await world.clear()
        await world.send([inference])
        assert world.model.error == ERR_NONE


@cocotb.test(stage=QUICK)
async def packets_that_no_draw_finds(dut: Any) -> None:
    """No words: in a load packet before there is a graph, and in an inference. Headers alone."""
    world, loads, inference = await begin(dut)
    info = world.info
    alone = [(0xFF, 0)] * (world.model.header_beats - 1) + [(0xFF, 1)]
    # The second is drained behind the error of the first.
    await world.send([Packet(alone), Packet(alone), inference])
    assert world.model.error == ERR_HEADER
    await world.clear()
    if not world.loads:
        await world.send([packet_of(info, {"type": 2, "index": 0, "bits": 64}, [1, 2])])
        assert world.model.error == ERR_HEADER
        await world.clear()
    for target in info["targets"]:
        empty = [(data, 0) for data, _ in packet_of(info, target, []).beats]
        await world.send([Packet([*empty, (0, 0), (0, 1)])])
        assert world.model.error == ERR_WORD_COUNT
        await world.clear()
    await world.send(loads)
    wrong = {world.model.tag: ERR_WORD_COUNT if info["payload"] else ERR_LATE_TLAST}
    if world.loads:
        wrong |= {world.model.tag ^ 1: ERR_GRAPH, world.model.tag ^ 0x8000: ERR_GRAPH}
    for tag, code in wrong.items():
        # The tag follows the index in the header.
        fields = {"type": INFERENCE, "index": tag << 8}
        header = [(data, 0) for data, _ in packet_of(info, fields, []).beats]
        await world.send([Packet([*header, (0, 0), (0, 1)])])
        assert world.model.error == code
        await world.clear()
    if world.loads:
        # A whole inference, but packed for another graph: the tag lies in bits 31 to 16.
        (data, tlast), *rest = inference.beats
        await world.send([Packet([(data ^ 1 << 16, tlast), *rest])])
        assert world.model.error == ERR_GRAPH
        await world.clear()
    await world.send([inference])
    assert world.model.error == ERR_NONE


@cocotb.test(stage=QUICK)
async def sizes_at_the_limits(dut: Any) -> None:
    """The last graph that fits and the first that does not, which leaves nothing loaded."""
    world, loads, _ = await begin(dut)
    info, limits = world.info, world.info["capacity"]
    if not world.loads:
        return
    graph = next(target for target in info["targets"] if target["kind"] == "graph")
    sizes = [(limits["nodes"] + more, limits["edge_words"]) for more in (0, 1)]
    sizes += [(limits["nodes"], limits["edge_words"] + 1), (0, 1), (1, 0), (1, 1)]
    fitting = spread(limits["bucket_nodes"], limits["nodes"])
    for nodes, records in sizes:
        bounds = [min(bound, nodes) for bound in fitting]
        await world.send([packet_of(info, graph, [graph_word(nodes, records, bounds)])])
        fits = 0 < nodes <= limits["nodes"] and 0 < records <= limits["edge_words"]
        assert world.model.error == (ERR_NONE if fits else ERR_CAPACITY)
        await world.clear()
    # Everything else is loaded again, by the sizes of the graph before.
    named = good_packets(info)
    others = [named[name] for name in named if not name.startswith(("graph", "inference"))]
    await world.send(loads)
    await world.send([packet_of(info, graph, [0])])
    await world.clear()
    await world.send(others)
    assert world.model.error == ERR_NONE
    assert not all(world.model.loaded)


def graph_word(nodes: int, records: int, bounds: Sequence[int] = ()) -> int:
    """Return the word of a graph packet."""
    return pack([nodes, records, *bounds], 32)


def spread(bucket_nodes: list[int], nodes: int) -> list[int]:
    """Return the bounds of a graph that has as many nodes in each position as there is room for."""
    ends = itertools.accumulate(bucket_nodes[:-1])
    return [min(end, nodes) for end in ends]


@cocotb.test()
async def bounds_at_the_limits(dut: Any) -> None:
    """Any split of any number of nodes: what rises and fits is taken, all else is refused."""
    world, _, _ = await begin(dut)
    info, limits, rng = world.info, world.info["capacity"], world.rng
    if not (world.loads and info["windows"]):
        return
    graph = next(target for target in info["targets"] if target["kind"] == "graph")
    buckets = info["BUCKETS"]
    seen: Counter[int] = Counter()
    for turn in range(120):
        nodes = int(rng.choice([limits["nodes"], rng.integers(1, limits["nodes"] + 1)]))
        bounds = np.sort(rng.integers(0, nodes + 1, buckets - 1)).tolist()
        if turn % 4 == 0:
            bounds = spread(limits["bucket_nodes"], nodes)
        at = int(rng.integers(buckets - 1))
        if turn % 4 < 2:
            # One of them is a little off.
            bounds[at] = max(0, bounds[at] + int(rng.integers(-2, 3)))
        if turn % 8 == 4:
            # Two neighbours fall, by as little as can be.
            bounds[at] = max(0, [0, *bounds][at] - 1)
        if turn % 16 == 3:
            # Only the high bits are wrong.
            bounds[at] ^= 1 << int(rng.integers(info["NODE_BITS"], 32))
        await world.send([packet_of(info, graph, [graph_word(nodes, 1, bounds)])])
        seen[world.model.error] += 1
        await world.clear()
    assert seen[ERR_NONE] > 10, seen
    assert seen[ERR_CAPACITY] > 10, seen


@cocotb.test()
async def inputs_on_chip(dut: Any) -> None:
    """One word and as many as fit, one too many, those of another graph, and none to begin with."""
    world, loads, inference = await begin(dut)
    info = world.info
    found = [target for target in info["targets"] if target["kind"] == "inputs"]
    if not found:
        return
    (inputs,), most = found, info["capacity"]["input_words"]
    others = [packet for packet in loads if packet.beats[0][0] & 0xFF != inputs["type"]]
    assert len(others) == len(loads) - 1
    await world.send([packet_of(info, inputs, [1, 2])])
    assert world.model.error == ERR_WORD_COUNT
    await world.clear()
    await world.send(others)
    tag = world.model.tag
    cases = [(most + 1, tag, ERR_CAPACITY), (2, tag ^ 1, ERR_GRAPH), (2, tag ^ 0x8000, ERR_GRAPH)]
    cases += [(1, tag, ERR_NONE), (most, tag, ERR_NONE), (1 << 20, tag, ERR_CAPACITY)]
    for count, sent_tag, code in cases:
        # The header counts input words, several of which may lie in a word of the memory.
        lines = -(-min(count, most + 1) // info["INPUT_STEPS"])
        words = [draw_bits(world.rng, inputs["bits"]) for _ in range(lines)]
        packet = packet_of(info, inputs, words, sent_tag)
        header = packet_of(info, inputs, [], sent_tag).beats[: world.model.header_beats]
        top = count << 32 >> info["stream_bits"] * (len(header) - 1)
        header[-1] = (header[-1][0] | top, 0)
        packet.beats[: len(header)] = [(data, 0) for data, _ in header]
        await world.send([packet])
        assert world.model.error == code
        # What was loaded before a packet that is refused is still there.
        if code != ERR_NONE:
            await world.clear()
        if all(world.model.loaded):
            await world.send([inference])
            assert world.model.error == ERR_NONE
    # A new graph makes them stale.
    graph = [packet for packet in others if packet.beats[0][0] & 0xFF == PACKET_GRAPH]
    await world.send([*graph, *others])
    await world.send([inference])
    assert world.model.error == ERR_NOT_LOADED
    await world.clear()
    await world.send([*loads, inference])
    assert world.model.error == ERR_NONE
