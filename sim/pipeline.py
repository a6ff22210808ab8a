"""What the benches of pipelines without back-pressure share: words in, words out, nothing else.

A word that enters with `in_valid` leaves a fixed number of cycles later with `out_valid` and its
`in_tag` as `out_tag`. In every cycle the outputs are compared with what has to be there.
"""

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sgq_hw.sim.bench import Bench, draw_bits, generator


@dataclass(frozen=True)
class Word:
    """One word: values of its input ports and of the output ports that follow from them.

    Attributes:
        inputs: Port to value.
        outputs: Port to value; None where nothing leaves for the word.
    """

    inputs: Mapping[str, int]
    outputs: Mapping[str, int] | None


class Pipeline:
    """Sends words and checks what leaves in each cycle.

    Attributes:
        bench: The clock and the ports.
        rng: Draws tags, gaps, resets and what lies on the inputs while they are not valid.
        constants: Further inputs, driven in every cycle; to be changed when the pipeline is empty.
    """

    def __init__(self, dut: Any, latency: int, widths: Mapping[str, int], tag_bits: int) -> None:
        """Take a unit, its latency, and the widths of the input ports that belong to a word."""
        self.bench = Bench(dut, known=["out_valid"])
        self.rng = generator()
        self.constants: dict[str, int] = {}
        self._latency = latency
        self._widths = {"in_tag": tag_bits, **widths}
        self._in_flight: deque[Word | None] = deque([None] * latency)

    def _junk(self) -> dict[str, int]:
        return {name: draw_bits(self.rng, bits) for name, bits in self._widths.items()}

    async def start(self) -> None:
        """Start the clock and reset."""
        await self.bench.start(in_valid=0, **self._junk(), **self.constants)

    async def cycle(self, word: Word | None = None, rst: int = 0, **others: int) -> None:
        """Offer a word, or none, and check what leaves."""
        tag = draw_bits(self.rng, self._widths["in_tag"])
        inputs = self._junk() if word is None else {"in_tag": tag, **word.inputs}
        inputs |= self.constants | others
        await self.bench.cycle(rst=rst, in_valid=int(word is not None), **inputs)
        expected = self._in_flight.popleft()
        if not rst:
            self._check(expected)
        if word is not None and word.outputs is not None:
            self._in_flight.append(Word(word.inputs, {"out_tag": tag, **word.outputs}))
        else:
            self._in_flight.append(None)
        if rst:
            self._in_flight = deque([None] * self._latency)

    def _check(self, expected: Word | None) -> None:
        where = f"cycle {self.bench.cycles}, {self.constants}"
        assert self.bench.read("out_valid") == (expected is not None), where
        if expected is not None and expected.outputs is not None:
            got = {name: self.bench.read(name) for name in expected.outputs}
            assert got == expected.outputs, f"{where}: {expected}, got {got}"

    async def send(self, words: Iterable[Word], gaps: float = 0.0, resets: float = 0.0) -> None:
        """Send words, with gaps between them and resets among them."""
        for word in words:
            while gaps and self.rng.random() < gaps:
                await self.cycle()
            await self.cycle(word, rst=int(resets > 0 and self.rng.random() < resets))

    async def drain(self) -> None:
        """Wait until all words have left."""
        for _ in range(self._latency + 1):
            await self.cycle()

    async def survive_resets(self, words: Iterable[Word]) -> None:
        """Reset at any place, also several times on end; nothing of before a reset leaves."""
        words = list(words)
        third = len(words) // 3
        await self.send(words[:third], gaps=0.2, resets=0.2)
        await self.send(words[third : third + 3], resets=1.0)
        await self.send(words[third + 3 :], gaps=0.2, resets=0.05)
        await self.drain()
