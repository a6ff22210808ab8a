"""Sources and sinks of valid/ready streams, and the patterns in which they pause.

Both act while the clock is low. They drive at the falling edge, let everything settle, and then
look at what the coming rising edge will see. That is the same in every simulator; what a callback
of the rising edge itself sees is not: with a clock made in HDL, Icarus shows the values before the
edge and Verilator those after it.
"""

import random
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, cycle, repeat
from typing import Any

import cocotb
from cocotb.triggers import FallingEdge, ReadOnly

Word = tuple[int, ...]
"""One value for each data signal, unsigned, in the order of the signals."""

AXI_STREAM_FIELDS = ("tdata", "tkeep", "tstrb", "tuser", "tdest", "tid", "tlast")

PATTERNS = ("none", "p10", "p50", "p90", "bursts", "sparse", "one_shot")
"""Names that `pause_pattern` knows."""


def pause_pattern(name: str, rng: random.Random | None = None) -> Iterator[bool]:
    """Return an endless sequence, one value a clock cycle: whether to pause in it.

    `none` never pauses; `p10`, `p50` and `p90` pause at random in 10, 50 and 90 % of the cycles;
    `bursts` changes between long runs and long pauses. `sparse` acts in one cycle of eight: given
    to a source, its partner is ready long before valid; given to a sink, valid waits for ready.
    `one_shot` pauses once, after some cycles, for longer than any buffer lasts.

    Args:
        name: One of `PATTERNS`.
        rng: Random numbers; by default drawn from those that cocotb seeds for each test.
    """
    rng = rng or random.Random(random.getrandbits(64))
    if name == "none":
        return repeat(False)
    if name in ("p10", "p50", "p90"):
        share = int(name[1:]) / 100
        return (rng.random() < share for _ in repeat(None))
    if name == "bursts":
        return chain.from_iterable(
            chain(repeat(False, rng.randint(8, 40)), repeat(True, rng.randint(20, 80)))
            for _ in repeat(None)
        )
    if name == "sparse":
        return cycle([True] * 7 + [False])
    if name == "one_shot":
        return chain(repeat(False, rng.randint(3, 12)), repeat(True, 200), repeat(False))
    raise ValueError(f"no pause pattern '{name}'; known: {', '.join(PATTERNS)}")


@dataclass(frozen=True, slots=True)
class StreamSignals:
    """The signals of a stream, as handles.

    Attributes:
        clk, rst: Clock, and synchronous active-high reset (None: there is none).
        valid, ready: The handshake; without a `ready` (None) the receiver always accepts.
        data: The payload.
        names: Their names, for messages.
    """

    clk: Any
    rst: Any
    valid: Any
    ready: Any
    data: tuple[Any, ...]
    names: tuple[str, ...]

    def in_reset(self) -> bool:
        """Return whether reset is on, or X as before the first one."""
        return self.rst is not None and not self.rst.value == 0


def axi_stream(dut: Any, prefix: str) -> StreamSignals:
    """Return the AXI4-Stream whose signals begin with `prefix`, such as `s_axis`."""
    names = [
        name for name in (f"{prefix}_{field}" for field in AXI_STREAM_FIELDS) if hasattr(dut, name)
    ]
    return handshake(dut, valid=f"{prefix}_tvalid", ready=f"{prefix}_tready", data=names)


def handshake(
    dut: Any, *, valid: str, ready: str | None, data: Sequence[str], clk: str = "clk",
    rst: str | None = "rst",
) -> StreamSignals:  # fmt: skip
    """Return a stream from the names of its signals."""
    return StreamSignals(
        clk=getattr(dut, clk),
        rst=getattr(dut, rst) if rst else None,
        valid=getattr(dut, valid),
        ready=getattr(dut, ready) if ready else None,
        data=tuple(getattr(dut, name) for name in data),
        names=tuple(data),
    )


class _Agent:
    """What a source and a sink have in common.

    Attributes:
        signals: The stream.
        pause: Pause pattern; may be replaced at any time.
        on_word: Called with each word transferred; may be replaced as well.
        words: Words transferred so far.
        stalls: Cycles in which a word was offered and not taken. A bench that wants to have seen
            stalls asserts that this is not 0.
        cycles: Cycles outside reset.
        first_cycle, last_cycle: When the first and the last word were transferred, in `cycles`.
    """

    def __init__(
        self,
        signals: StreamSignals,
        pause: Iterator[bool] | None,
        on_word: Callable[[Word], None] | None,
    ) -> None:
        self.pause = pause if pause is not None else repeat(False)
        self.words = 0
        self.stalls = 0
        self.cycles = 0
        self.first_cycle = -1
        self.last_cycle = -1
        self.signals = signals
        self.on_word = on_word
        self._task = cocotb.start_soon(self._run())

    def stop(self) -> None:
        """Stop for good, in the middle of whatever it does."""
        self._task.cancel()

    async def _run(self) -> None:
        self._drive(paused=True)
        while True:
            await FallingEdge(self.signals.clk)
            self._drive(paused=self.signals.in_reset() or next(self.pause))
            await ReadOnly()
            if self.signals.in_reset():
                self._forget()
            else:
                self._look()
                self.cycles += 1

    def _drive(self, *, paused: bool) -> None:
        raise NotImplementedError

    def _look(self) -> None:
        raise NotImplementedError

    def _forget(self) -> None:
        raise NotImplementedError

    def _is_high(self, handle: Any, what: str) -> bool:
        value = handle.value
        assert value.is_resolvable, f"{self.signals.names}: {what} is {value}"
        return int(value) == 1

    def _transferred(self, word: Word) -> None:
        if self.words == 0:
            self.first_cycle = self.cycles
        self.last_cycle = self.cycles
        self.words += 1
        if self.on_word is not None:
            self.on_word(word)


class StreamSource(_Agent):
    """Offers words in order; between them the payload is junk.

    Once offered, a word stays until it is taken. In the cycle in which reset rises a word may still
    be on offer, as in a real system; it is not taken then.
    """

    def __init__(
        self,
        signals: StreamSignals,
        pause: Iterator[bool] | None = None,
        on_word: Callable[[Word], None] | None = None,
        rng: random.Random | None = None,
    ) -> None:
        """Start it.

        Args:
            signals: The stream.
            pause: Pause pattern, none by default.
            on_word: Called with each word that the receiver took.
            rng: For the junk; by default drawn from those that cocotb seeds for each test.
        """
        self._queue: deque[Word] = deque()
        self._offered = False
        self._rng = rng or random.Random(random.getrandbits(64))
        super().__init__(signals, pause, on_word)

    def send(self, *fields: int) -> None:
        """Add a word, one value for each data signal."""
        if len(fields) != len(self.signals.data):
            raise ValueError(f"a word of {self.signals.names} was given as {fields}")
        self._queue.append(fields)

    def send_packet(self, payload: Iterable[int]) -> None:
        """Add words of a stream of data and TLAST; the latter is high in the last."""
        values = list(payload)
        for index, value in enumerate(values):
            self.send(value, int(index == len(values) - 1))

    def clear(self) -> None:
        """Drop all words that were not offered yet; while reset is on, all."""
        self._queue = deque([self._queue[0]] if self._offered else [])

    async def drained(self) -> None:
        """Wait until all words were taken."""
        while self._queue:
            await FallingEdge(self.signals.clk)

    def _drive(self, *, paused: bool) -> None:
        if self._offered and not self.signals.in_reset():
            return
        self._offered = bool(self._queue) and not paused
        self.signals.valid.value = int(self._offered)
        for index, handle in enumerate(self.signals.data):
            junk = self._rng.getrandbits(_width(handle))
            handle.value = self._queue[0][index] if self._offered else junk

    def _look(self) -> None:
        if not self._offered:
            return
        if self.signals.ready is None or self._is_high(self.signals.ready, "ready"):
            self._offered = False
            self._transferred(self._queue.popleft())
        else:
            self.stalls += 1

    def _forget(self) -> None:
        self._offered = False


class StreamSink(_Agent):
    """Takes words, and checks that an offer holds: valid and data stay until they are taken.

    Attributes:
        received: Words taken, in order.
        waits: Cycles in which it was ready and no word was offered.
    """

    def __init__(
        self,
        signals: StreamSignals,
        pause: Iterator[bool] | None = None,
        on_word: Callable[[Word], None] | None = None,
    ) -> None:
        """Start it.

        Args:
            signals: The stream.
            pause: Pause pattern, none by default.
            on_word: Called with each word taken.
        """
        self.received: list[Word] = []
        self.waits = 0
        self._ready = False
        self._held: Word | None = None
        super().__init__(signals, pause, on_word)

    async def receive(self, count: int, patience: int = 1000) -> list[Word]:
        """Wait until `count` words were taken in all and return them.

        Args:
            count: Number of words since the start.
            patience: Fail after this number of cycles without a word.
        """
        silent, seen = 0, len(self.received)
        while len(self.received) < count:
            await FallingEdge(self.signals.clk)
            silent = silent + 1 if len(self.received) == seen else 0
            seen = len(self.received)
            assert silent < patience, (
                f"{self.signals.names}: {seen} of {count} words, then none for {patience} cycles"
            )
        return self.received[:count]

    async def stays_quiet(self, cycles: int) -> None:
        """Fail if a word is taken within some cycles."""
        seen = len(self.received)
        for _ in range(cycles):
            await FallingEdge(self.signals.clk)
            extra = self.received[seen:]
            assert not extra, f"{self.signals.names}: unexpected words {extra}"

    def _drive(self, *, paused: bool) -> None:
        self._ready = not paused
        if self.signals.ready is not None:
            self.signals.ready.value = int(self._ready)

    def _look(self) -> None:
        valid = self._is_high(self.signals.valid, "valid")
        word = self._read() if valid else None
        assert self._held is None or word == self._held, (
            f"{self.signals.names}: {self._held} was offered, not taken, and then "
            f"{'withdrawn' if word is None else f'changed to {word}'}"
        )
        self._held = None
        if word is None:
            self.waits += self._ready
        elif self._ready or self.signals.ready is None:
            self.received.append(word)
            self._transferred(word)
        else:
            self.stalls += 1
            self._held = word

    def _forget(self) -> None:
        self._held = None

    def _read(self) -> Word:
        values = [handle.value for handle in self.signals.data]
        known = all(value.is_resolvable for value in values)
        assert known, f"{self.signals.names}: {[str(value) for value in values]} while valid"
        return tuple(int(value) for value in values)


def _width(handle: Any) -> int:
    return len(handle) if hasattr(handle, "__len__") else 1
