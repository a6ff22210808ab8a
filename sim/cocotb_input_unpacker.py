"""Bench of input_unpacker: beats of the packer, good and broken, against a decoder of bits."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

import cocotb
import numpy as np

from sgq_hw.sim.bench import Bench, draw_bits, generator, pack, settings

ERR_EARLY_TLAST, ERR_LATE_TLAST, ERR_INDEX, ERR_ROW_LENGTH = 3, 4, 5, 7
ELEMENT = ("mac", "last", "final", "index", "value")

Beat = tuple[int, int]
"""Data and TLAST."""


@dataclass
class Payload:
    """What a payload decodes to.

    Attributes:
        elements: Mac, last, final, index (None where nothing is added), value of each record.
        beats: Beats that are taken.
        code: Error code, 0 for a good payload.
        ended: Whether TLAST was among them.
    """

    elements: list[tuple[int | None, ...]]
    beats: int
    code: int
    ended: int


def decode(beats: list[Beat], rows: int, info: dict[str, Any]) -> Payload:
    """Decode records one by one until the last row or the first fault."""
    fields: dict[str, tuple[int, int]] = info["fields"]
    width, per_beat = info["record_bits"], info["stream_bits"] // info["record_bits"]
    elements: list[tuple[int | None, ...]] = []
    length = 0
    for position, (data, tlast) in enumerate(beats):
        for slot in range(per_beat):
            record = data >> slot * width
            part = {name: record >> low & (1 << bits) - 1 for name, (low, bits) in fields.items()}
            mac = part.get("valid", 1)
            index = part.get("address", length)
            ends = part.get("last", int(length == info["channels"] - 1))
            value = part.get("value", 1)
            if info["signed"] and value >> info["value_bits"] - 1:
                value -= 1 << info["value_bits"]
            final = int(ends and rows == 1)
            elements.append((mac, ends, final, *((index, value) if mac else (None, None))))
            code = 0
            if mac and index >= info["channels"]:
                code = ERR_INDEX
            elif mac and info["sparse"] and length == info["row_nonzeros"]:
                code = ERR_ROW_LENGTH
            elif final and not tlast:
                code = ERR_LATE_TLAST
            elif tlast and not final and slot == per_beat - 1:
                code = ERR_EARLY_TLAST
            if code or final:
                return Payload(elements, position + 1, code, tlast)
            length = 0 if ends else length + mac
            rows -= ends
    raise ValueError("a payload without an end")


class Feeder:
    """Plays the loader (beats) and the front end (elements), each at its own pace."""

    def __init__(self, dut: Any) -> None:
        self.bench = Bench(dut, known=["beat_ready", "element_valid", "done", "error"])
        self.rng = generator()
        self.info = settings()
        self.stalls: Counter[str] = Counter()
        self.codes: Counter[int] = Counter()

    async def start(self) -> None:
        """Reset with idle inputs."""
        await self.bench.start(
            start=0, num_rows=0, beat_data=0, beat_last=0, beat_valid=0, element_ready=0
        )

    def element(self) -> tuple[int | None, ...]:
        """Read the element that is offered."""
        mac, last, final = (self.bench.read(f"element_{name}") for name in ELEMENT[:3])
        if not mac:
            return mac, last, final, None, None
        value = self.bench.read("element_value")
        bits = self.info["VALUE_BITS"]
        value -= value >> bits - 1 << bits
        return mac, last, final, self.bench.read("element_index"), value

    async def idle(self, cycles: int) -> None:
        """Offer beats that nobody asked for: none is taken, nothing is reported."""
        for _ in range(cycles):
            await self.bench.cycle(
                start=0, beat_valid=1, beat_last=draw_bits(self.rng, 1), element_ready=1,
                beat_data=draw_bits(self.rng, self.info["stream_bits"]),
            )  # fmt: skip
            for name in ("beat_ready", "element_valid", "done", "error"):
                assert not self.bench.read(name), f"{name} without an inference"

    async def run(
        self, beats: list[Beat], rows: int, gap: float, stall: float, abort: int | None = None
    ) -> int:
        """Play one payload and compare all of it; returns the cycles from its start to its end.

        Args:
            beats: The payload.
            rows: Its rows.
            gap: Share of cycles in which no beat is offered.
            stall: Share of cycles in which no element is taken.
            abort: Reset after this number of elements.
        """
        bench, rng = self.bench, self.rng
        want = decode(beats, rows, self.info)
        taken = sent = 0
        offered = False
        held: tuple[int | None, ...] | None = None
        available = 0  # records that have been taken in and are still there
        await bench.cycle(start=1, num_rows=rows, beat_valid=0, element_ready=0)
        first = bench.cycles
        while taken < len(want.elements):
            if taken == abort:
                await bench.reset(1, beat_valid=0, start=0, element_ready=0)
                return 0
            offered = offered or (rng.random() >= gap and sent < len(beats))
            data, tlast = beats[sent] if offered else self.junk()
            ready = int(rng.random() >= stall)
            await bench.cycle(
                start=0, num_rows=draw_bits(rng, self.info["ROW_BITS"]), beat_valid=int(offered),
                beat_data=data, beat_last=tlast, element_ready=ready,
            )  # fmt: skip
            assert bench.read("done") == bench.read("error") == 0
            valid = bench.read("element_valid")
            # The latency: an element is there one cycle after its beat, and stays until taken.
            assert valid == int(available > 0), f"element {taken}: valid is {valid}"
            if valid:
                have = self.element()
                assert have == want.elements[taken], f"element {taken}: {have}"
                assert held in (None, have)
                held = None if ready else have
                self.stalls["elements"] += not ready
                taken += ready
                available -= ready
            accepted = offered and bench.read("beat_ready")
            self.stalls["beats"] += offered and not accepted
            assert not accepted or available == 0
            if accepted:
                sent += 1
                offered = False
                per_beat = self.info["stream_bits"] // self.info["record_bits"]
                available = min(per_beat, len(want.elements) - taken)
        last = bench.cycles
        await self.finish(want, sent)
        return last - first

    def junk(self) -> Beat:
        """Return what lies on the wires while no beat is valid."""
        return draw_bits(self.rng, self.info["stream_bits"]), draw_bits(self.rng, 1)

    async def finish(self, want: Payload, sent: int) -> None:
        """Compare how the payload ends: one cycle of done or error, then silence."""
        bench = self.bench
        await bench.cycle(beat_valid=1, element_ready=1)
        assert sent == want.beats
        have = (bench.read("done"), bench.read("error"))
        assert have == (int(want.code == 0), int(want.code != 0)), f"not code {want.code}"
        if want.code:
            assert bench.read("error_code") == want.code
        assert bench.read("ended") == want.ended
        assert not bench.read("beat_ready")
        self.codes[want.code] += 1
        await self.idle(3)


def packets(info: dict[str, Any]) -> list[tuple[list[Beat], int]]:
    """Return the packer's payloads with their rows."""
    return [([(int(d, 16), t) for d, t in beats], rows) for beats, rows in info["payloads"]]


def broken(
    beats: list[Beat], rng: np.random.Generator, info: dict[str, Any], turn: int
) -> list[Beat]:
    """Return a payload with one thing wrong, each kind in turn; it always ends."""
    bits, width = info["stream_bits"], info["record_bits"]
    found = list(beats)
    at = int(rng.integers(len(found)))
    data, tlast = found[at]
    how = turn % (5 if info["sparse"] else 4)
    if how == 0:
        found[at] = (data ^ 1 << int(rng.integers(bits)), tlast)
    elif how == 1:
        found = [*found[:at], (data, 1)]
    elif how == 2:
        found[-1] = (found[-1][0], 0)
    elif how == 3:
        found[at] = (draw_bits(rng, bits), tlast)
    else:
        # Without its end a row grows beyond what fits.
        ends = pack([1 << info["fields"]["last"][0]] * (bits // width), width)
        found[at:] = [(data & ~ends, tlast) for data, tlast in found[at:]]
    return [*found, *[(0, 0)] * 40, (0, 1)]


RATES = (0.0, 0.3, 0.9)


@cocotb.test()
async def payloads_of_the_packer(dut: Any) -> None:
    """Every pace of beats and elements; without pauses one record a cycle."""
    feeder = Feeder(dut)
    await feeder.start()
    for beats, rows in packets(feeder.info):
        assert decode(beats, rows, feeder.info).code == 0
        for gap in RATES:
            for stall in RATES:
                spent = await feeder.run(beats, rows, gap, stall)
                if gap == stall == 0:
                    # The beat needs a cycle before its first record; then one a cycle.
                    assert spent == 1 + len(decode(beats, rows, feeder.info).elements)
    assert feeder.codes.keys() == {0}
    assert all(feeder.stalls[name] > 20 for name in ("beats", "elements"))


@cocotb.test()
async def broken_payloads(dut: Any) -> None:
    """Each kind of error is found at its record, and the next payload is right again."""
    feeder = Feeder(dut)
    await feeder.start()
    rng, info = feeder.rng, feeder.info
    for turn in range(info["draws"]):
        for beats, rows in packets(info):
            wrong = broken(beats, rng, info, turn)
            wanted = rows + int(rng.integers(-1, 2)) if rng.random() < 0.2 else rows
            await feeder.run(wrong, max(1, wanted), *rng.choice(RATES, 2))
        await feeder.run(beats, rows, *rng.choice(RATES, 2))
    codes = {0, ERR_EARLY_TLAST, ERR_LATE_TLAST}
    if info["sparse"]:
        codes |= {ERR_ROW_LENGTH}
    if info["sparse"] and info["channels"] & info["channels"] - 1:
        codes |= {ERR_INDEX}
    assert feeder.codes.keys() == codes


@cocotb.test()
async def a_reset_aborts(dut: Any) -> None:
    """Reset in the midst of a beat: nothing remains, and the next payload is right."""
    feeder = Feeder(dut)
    await feeder.start()
    for beats, rows in packets(feeder.info):
        elements = len(decode(beats, rows, feeder.info).elements)
        for abort in {0, 1, elements // 2, elements - 1}:
            await feeder.run(beats, rows, 0.3, 0.3, abort)
            await feeder.idle(3)
            await feeder.run(beats, rows, 0.0, 0.5)
