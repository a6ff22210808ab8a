"""Bench of input_unpacker: payloads, good and broken, every output compared in every cycle."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

import cocotb
import numpy as np

from sgq_hw.sim.bench import Bench, draw_bits, generator, settings

ERR_EARLY_TLAST, ERR_LATE_TLAST = 3, 4
HANDSHAKES = ("beat_ready", "word_valid", "done", "error")

Beat = tuple[int, int]
"""Data and TLAST."""


@dataclass
class Payload:
    """What a payload decodes to.

    Attributes:
        words: The words that come out.
        final: Whether the last of them is the payload's last.
        beats: Beats that are taken.
        code: Error code, 0 for a good payload.
    """

    words: list[int]
    final: bool
    beats: int
    code: int


def decode(beats: list[Beat], count: int, info: dict[str, Any]) -> Payload:
    """Decode words one by one until the last or the first fault."""
    bits, width = info["STREAM_BITS"], info["INPUT_WORD_BITS"]
    words: list[int] = []
    gathered = held = 0
    for position, (data, tlast) in enumerate(beats, 1):
        gathered |= data << held * bits
        held += 1
        if held < info["BEATS_PER_WORD"]:
            if tlast:
                return Payload(words, False, position, ERR_EARLY_TLAST)
            continue
        for _ in range(info["WORDS_PER_BEAT"]):
            words.append(gathered & (1 << width) - 1)
            gathered >>= width
            if len(words) == count:
                return Payload(words, True, position, 0 if tlast else ERR_LATE_TLAST)
        if tlast:
            return Payload(words, False, position, ERR_EARLY_TLAST)
        gathered = held = 0
    raise ValueError("a payload without an end")


class Feeder:
    """Plays the loader (beats) and the front end (words), each at its own pace."""

    def __init__(self, dut: Any) -> None:
        self.bench = Bench(dut, known=HANDSHAKES)
        self.rng = generator()
        self.info = settings()
        self.stalls: Counter[str] = Counter()
        self.codes: Counter[int] = Counter()

    async def start(self) -> None:
        """Reset with idle inputs."""
        await self.bench.start(
            start=0, num_words=1, beat_data=0, beat_last=0, beat_valid=0, word_ready=0
        )

    def junk(self) -> Beat:
        """Return what lies on the wires while no beat is valid."""
        return draw_bits(self.rng, self.info["STREAM_BITS"]), draw_bits(self.rng, 1)

    async def idle(self, cycles: int) -> None:
        """Offer beats that nobody asked for: none is taken, nothing is reported."""
        for _ in range(cycles):
            data, tlast = self.junk()
            await self.bench.cycle(
                start=0, beat_valid=1, beat_data=data, beat_last=tlast, word_ready=1
            )
            for name in HANDSHAKES:
                assert not self.bench.read(name), f"{name} without an inference"

    async def run(
        self,
        beats: list[Beat],
        count: int,
        gap: float,
        stall: float,
        abort: int | None = None,
        use: int | None = None,
    ) -> int:
        """Play one payload and compare all of it; returns the cycles from its start to its end.

        Args:
            beats: The payload.
            count: Its words.
            gap: Share of cycles in which no beat is offered.
            stall: Share of cycles in which no word is taken.
            abort: Reset after this number of beats.
            use: Instead of random stalls a word is taken in the cycle of this number.
        """  # fmt: skip
        bench, rng = self.bench, self.rng
        per_word, per_beat = self.info["BEATS_PER_WORD"], self.info["WORDS_PER_BEAT"]
        want = decode(beats, count, self.info)
        taken = sent = used = 0
        arrived = 0  # words that are complete; one cycle later the first of them is offered
        offered = False
        await bench.cycle(start=1, num_words=count, beat_valid=0, word_ready=0)
        first = bench.cycles
        while taken < len(want.words) or sent < want.beats:
            if sent == abort:
                await bench.reset(1, beat_valid=0, start=0, word_ready=0)
                return 0
            offered = offered or (rng.random() >= gap and sent < len(beats))
            data, tlast = beats[sent] if offered else self.junk()
            ready = int(rng.random() >= stall if use is None else used >= use - 1)
            await bench.cycle(
                start=0, num_words=draw_bits(rng, 32), beat_valid=int(offered), beat_data=data,
                beat_last=tlast, word_ready=ready,
            )  # fmt: skip
            assert bench.read("done") == bench.read("error") == 0
            valid = arrived > taken
            assert bench.read("word_valid") == valid, f"word {taken}: not {valid}"
            take = valid and ready
            completes = sent % per_word == per_word - 1
            room = sent < want.beats and (not completes or arrived - taken == take)
            assert bench.read("beat_ready") == room, f"beat {sent}: not {room}"
            if valid:
                assert bench.read("word_data") == want.words[taken], f"word {taken}"
                final = want.final and taken == len(want.words) - 1
                assert bench.read("word_final") == final, f"word {taken}"
                self.stalls["words"] += not ready
            used = 0 if take else used + valid
            taken += take
            self.stalls["beats"] += offered and not room
            if offered and room:
                sent += 1
                offered = False
                if completes:
                    arrived = min(arrived + per_beat, len(want.words))
        last = bench.cycles
        await self.finish(want)
        return last - first

    async def finish(self, want: Payload) -> None:
        """Compare how the payload ends: one cycle of done or error, then silence."""
        bench = self.bench
        if want.beats % self.info["BEATS_PER_WORD"]:
            # A word that was cut off is noticed when none is before it: a cycle later.
            await self.idle(1)
        await bench.cycle(beat_valid=1, word_ready=1)
        have = (bench.read("done"), bench.read("error"))
        assert have == (int(want.code == 0), int(want.code != 0)), f"not code {want.code}"
        if want.code:
            assert bench.read("error_code") == want.code
        assert not bench.read("beat_ready")
        assert not bench.read("word_valid")
        self.codes[want.code] += 1
        await self.idle(3)


def payloads(info: dict[str, Any]) -> list[tuple[list[Beat], int]]:
    """Return beats and number of words of each payload."""
    found = []
    for words, beats in info["payloads"]:
        sent = [(int(data, 16), last) for data, last in beats]
        assert decode(sent, len(words), info).words == [int(word, 16) for word in words]
        found.append((sent, len(words)))
    return found


def broken(beats: list[Beat], rng: np.random.Generator) -> list[Beat]:
    """Return a payload with TLAST too early or too late; it always ends."""
    at = int(rng.integers(len(beats)))
    found = [*beats[:at], (beats[at][0], 1)] if rng.random() < 0.6 else list(beats)
    if rng.random() < 0.5:
        found[-1] = (found[-1][0], 0)
    return [*found, *[(0, 0)] * int(rng.integers(9)), (0, 1), *[(0, 0)] * 9, (0, 1)]


RATES = (0.0, 0.3, 0.9)


@cocotb.test()
async def payloads_of_words(dut: Any) -> None:
    """Every pace of beats and words; without pauses one word, or one beat of it, a cycle."""
    feeder = Feeder(dut)
    await feeder.start()
    per_word = feeder.info["BEATS_PER_WORD"]
    for beats, count in payloads(feeder.info):
        for gap in RATES:
            for stall in RATES:
                spent = await feeder.run(beats, count, gap, stall)
                if gap == stall == 0:
                    # A word needs a cycle after its last beat.
                    assert spent == 1 + count * per_word
        # A word that is in use does not keep the next one from being gathered.
        assert await feeder.run(beats, count, 0.0, 0.0, use=per_word) == (count + 1) * per_word
    assert feeder.codes.keys() == {0}
    assert all(feeder.stalls[name] > 20 for name in ("beats", "words"))


@cocotb.test()
async def broken_payloads(dut: Any) -> None:
    """Each kind of error is found at its word, and the next payload is right again."""
    feeder = Feeder(dut)
    await feeder.start()
    rng, info = feeder.rng, feeder.info
    for _ in range(info["draws"]):
        for beats, count in payloads(info):
            wanted = max(1, count + int(rng.integers(-1, 2)))
            await feeder.run(broken(beats, rng), wanted, *rng.choice(RATES, 2))
        await feeder.run(beats, count, *rng.choice(RATES, 2))
    assert feeder.codes.keys() == {0, ERR_EARLY_TLAST, ERR_LATE_TLAST}


@cocotb.test()
async def tlast_at_every_beat(dut: Any) -> None:
    """Words before the one that is cut off are delivered first, however long they are used."""
    feeder = Feeder(dut)
    await feeder.start()
    per_word = feeder.info["BEATS_PER_WORD"]
    for beats, count in payloads(feeder.info):
        for at, (data, _) in enumerate(beats[: 3 * per_word]):
            cut = [*beats[:at], (data, 1), *beats[at + 1 :], (0, 1)]
            for use in (1, per_word, 2 * per_word):
                await feeder.run(cut, count, 0.0, 0.0, use=use)


@cocotb.test()
async def a_reset_aborts(dut: Any) -> None:
    """Reset in the midst of a payload: nothing remains, and the next payload is right."""
    feeder = Feeder(dut)
    await feeder.start()
    for beats, count in payloads(feeder.info):
        for abort in range(min(len(beats), 6)):
            await feeder.run(beats, count, 0.3, 0.3, abort)
            await feeder.idle(3)
            await feeder.run(beats, count, 0.0, 0.5)
        # TLAST within a word, which may be noticed in the cycle of the reset.
        for abort in range(1, min(len(beats), 6)):
            cut = [*beats[: abort - 1], (beats[abort - 1][0], 1), *beats[abort:], (0, 1)]
            await feeder.run([*cut, (0, 1)], count, 0.0, 0.5, abort)
            await feeder.idle(3)
            await feeder.run(beats, count, 0.0, 0.5)
