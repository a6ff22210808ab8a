"""What surrounds stream_loader in its bench: sender, unpacker, sequencer, and who writes down."""

from collections import Counter
from itertools import repeat
from typing import Any

from cocotb.utils import get_sim_time

from sgq_hw.sim.bench import PERIOD_NS, Bench, generator, pack, settings
from sgq_hw.sim.loader_model import ERR_NONE, LoaderModel, Outcome, Packet, Payload
from sgq_hw.sim.scoreboard import Scoreboard
from sgq_hw.sim.stream import StreamSource, handshake, pause_pattern

STATUS = ("s_axis_tready", "infer_pending", "payload_start", "payload_valid", "error", "loaded",
          "loading", "payload_partial")  # fmt: skip
BEAT = ("s_axis_tdata", "s_axis_tlast", "s_axis_partial")
QUIET = ("infer_taken", "payload_ready", "payload_done", "run_error", "run_code", "error_clear")
PATIENCE = 5000
"""Cycles after which packets should have been dealt with, at any pace."""


def good_packets(info: dict[str, Any]) -> dict[str, Packet]:
    """Return the packer's packets by name, in their order."""
    return {
        name: Packet([(int(data, 16), last) for data, last in beats])
        for name, beats in info["packets"].items()
    }


def packet_of(
    info: dict[str, Any], target: dict[str, int], words: list[int], tag: int = 0
) -> Packet:
    """Return a load packet."""
    bits = info["stream_bits"]
    mask = (1 << bits) - 1
    header = target["type"] | target["index"] << 8 | tag << 16 | len(words) << 32
    beats = []
    for word, width in ((header, 64), *((word, target["bits"]) for word in words)):
        beats += [(word >> low & mask, 0) for low in range(0, width, bits)]
    beats[-1] = (beats[-1][0], 1)
    return Packet(beats)


class World:
    """Plays everything around the loader, and compares what it does with the model.

    Attributes:
        model: What it should do.
        codes: How often packets ended with which code.
        held: Cycles in which a beat waited while an inference was computed.
        payload_stalls: Cycles in which the unpacker kept a beat waiting.
        endless: Whether a running inference never ends.
        eager: Whether payloads are taken before their inference is.
    """

    def __init__(self, dut: Any) -> None:
        self.info = settings()
        self.loads = bool(self.info["targets"])
        self.status = [name for name in STATUS if self.info["payload"] or "payload" not in name]
        quiet = [name for name in QUIET if self.info["payload"] or "payload" not in name]
        self.quiet = dict.fromkeys((*quiet, *(("busy",) if self.loads else ())), 0)
        self.bench = Bench(dut, known=[*self.status, *(("load_we",) if self.loads else ())])
        self.rng = generator()
        self.model = LoaderModel(self.info)
        self.stall = 0.0
        self.endless = False
        self.eager = True
        self.codes: Counter[int] = Counter()
        self.held = self.payload_stalls = 0
        self.forget()

    def forget(self) -> None:
        """Drop everything that a reset drops."""
        self.accepted: list[int] = []  # time of each accepted beat
        self.writes: list[tuple[int, int, int, int]] = []
        self.payloads = Scoreboard("payload")
        self.plans: list[Payload] = []
        self.drop_inferences()
        self.code: int | None = None
        self.deadline = self.bench.cycles + PATIENCE

    def drop_inferences(self) -> None:
        """Drop what is taken in and what runs."""
        self.plan: Payload | None = None
        self.left = 0  # payload beats that the unpacker still takes
        self.report_at: int | None = None
        self.started = self.reported = self.core_taken = self.core_done = 0
        self.pending = self.busy = self.was_pending = 0

    async def start(self) -> None:
        """Reset with idle inputs, and start the sender."""
        signals = handshake(
            self.bench.dut, valid="s_axis_tvalid", ready="s_axis_tready", data=BEAT
        )  # fmt: skip
        self.source = StreamSource(
            signals, on_word=lambda _: self.accepted.append(int(get_sim_time("ns")))
        )
        await self.bench.start(**self.quiet)

    async def step(self, clear: int = 0, fail: int = ERR_NONE) -> None:
        """Spend a cycle: drive all sides but the sender, check, record.

        Args:
            clear: Whether the error is cleared.
            fail: Error of the running inference.
        """
        bench, rng = self.bench, self.rng
        now = bench.cycles + 1
        assert now < self.deadline, "nothing moves any more"
        # A payload may be taken while its inference still waits, but fails only after that.
        plan = self.plan
        holed = plan is not None and plan.partial
        early = self.eager and plan is not None and plan.code == ERR_NONE
        wanted = holed or (self.left and (early or self.started == self.core_taken))
        ready = bool(wanted) and rng.random() >= self.stall
        report = self.report_at == now
        code = self.plan.code if self.plan else ERR_NONE
        failed = fail or (code if report else ERR_NONE)
        core_free = self.started == self.core_done + 1 and not self.busy
        take = bool(self.pending and core_free and rng.random() >= self.stall)
        inputs = self.quiet | {
            "run_error": int(failed != ERR_NONE), "run_code": failed, "infer_taken": int(take),
            "error_clear": clear,
        }  # fmt: skip
        if self.info["payload"]:
            done = int(report and code == ERR_NONE)
            inputs |= {"payload_ready": int(ready), "payload_done": done}
        if self.loads:
            inputs["busy"] = self.busy
        await bench.cycle(**inputs)
        self.follow_inference(ready, report, take)
        if self.loads:
            self.follow_loading()
        self.follow_error(clear, failed)
        waits = bench.read("s_axis_tvalid") and not bench.read("s_axis_tready")
        self.held += bool(waits and self.busy)

    def follow_inference(self, ready: bool, report: bool, take: bool) -> None:
        """Follow inferences from their start until the end of their computation."""
        bench, rng = self.bench, self.rng
        self.pending = bench.read("infer_pending")
        if not self.info["payload"]:
            if self.pending and not self.was_pending:
                self.plans.pop(0)
                self.started += 1
                self.reported += 1
            self.was_pending = self.pending
        elif bench.read("payload_start"):
            assert self.pending, "a start without a pending inference"
            assert self.plan is None, "a start before the end of the payload before"
            self.plan = self.plans.pop(0)
            assert bench.read("payload_words") == self.plan.words
            self.left = len(self.plan.beats)
            self.started += 1
        valid = self.info["payload"] and bench.read("payload_valid")
        if valid and ready:
            self.payloads.observe((bench.read("payload_data"), bench.read("payload_last")))
            self.left -= 1
            assert self.plan is not None
            if not self.left and not self.plan.partial:
                self.report_at = bench.cycles + int(rng.integers(1, 4))
        if self.info["payload"] and bench.read("payload_partial") and not report:
            assert self.plan is not None
            assert self.plan.partial, "no beat is partial"
            assert not self.left, "beats before the partial one were not taken"
            assert not self.pending, "an inference before it may still run"
            self.report_at = bench.cycles + 1
        self.payload_stalls += bool(valid and self.left and not ready)
        if take:
            self.core_taken += 1
            self.pending, self.busy = 0, 1
        if report:
            assert self.plan is not None
            if self.plan.code != ERR_NONE:
                self.busy = 0
                self.core_done += 1
            self.plan = None
            self.reported += 1
        # An inference is computed for a while after its payload.
        elif self.busy and self.reported > self.core_done and rng.random() < 0.1:
            self.busy = int(self.endless)
            self.core_done += not self.endless

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
            now = int(get_sim_time("ns"))
            self.writes.append((target, bench.read("load_addr"), word, now))
        assert not (bench.read("loading") and (self.busy or self.pending))

    def follow_error(self, clear: int, failed: int) -> None:
        """A code stays as it is until it is cleared; that of a failed inference comes at once."""
        code = self.bench.read("error_code")
        assert bool(code) == bool(self.bench.read("error"))
        if self.code:
            assert code == self.code, f"the code is {code}, not {self.code}"
        self.code = 0 if clear else code
        self.code = self.code or failed

    async def send(self, packets: list[Packet], pace: str = "none", stall: float = 0.0) -> None:
        """Send packets without a rest in between, and compare all that they cause."""
        want = self.begin(packets, pace, stall)
        await self.finish(want)

    def begin(self, packets: list[Packet], pace: str = "none", stall: float = 0.0) -> Outcome:
        """Give packets to the sender; returns what is expected of them."""
        self.source.pause, self.stall = pause_pattern(pace), stall
        self.deadline = self.bench.cycles + PATIENCE
        self.accepted, self.writes = [], []
        want = self.model.run(packets)
        self.plans = list(want.payloads)
        for packet in packets:
            for at, beat in enumerate(packet.beats):
                self.source.send(*beat, int(at == packet.partial))
        for payload in want.payloads:
            for beat in payload.beats:
                self.payloads.expect(beat)
        return want

    async def finish(self, want: Outcome) -> None:
        """Let everything come to its end; compare writes with their times, payloads, status."""
        bench, model = self.bench, self.model
        while len(self.accepted) < want.beats:
            await self.step()
        for _ in range(4):
            await self.step()
        while self.plan or self.pending or self.busy:
            await self.step()
        await self.step()
        # The latency: a word is written in the cycle after its last beat.
        writes = [(*write[:3], self.accepted[write[3]] + PERIOD_NS) for write in want.writes]
        assert self.writes == writes
        self.payloads.finish(minimum=0)
        assert not self.plans
        have = [bench.read(name) for name in ("error_code", "loaded", "num_nodes")]
        assert have == [model.error, int(all(model.loaded)), model.nodes]
        if self.loads:
            assert bench.read("num_records") == model.records
        if self.info["windows"] and model.bounds is not None:
            assert bench.read("bounds") == pack(model.bounds, self.info["BOUND_BITS"])
        if model.inputs:
            assert bench.read("num_inputs") == model.inputs
        self.codes[model.error] += 1

    async def finish_failed(self, want: Outcome) -> None:
        """Follow packets after the running inference failed: nothing but the drain goes on."""
        bench = self.bench
        self.drop_inferences()
        self.payloads = Scoreboard("payload")
        self.plans = []
        while len(self.accepted) < want.beats:
            await self.step()
            dropped = [name for name in self.status if name in STATUS[1:4]]
            assert not any(bench.read(name) for name in dropped), "not all was dropped"
            assert not bench.read("loading")
        for _ in range(4):
            await self.step()
        assert not self.writes
        assert bench.read("error_code") == self.code
        assert bench.read("loaded") == int(all(self.model.loaded))

    async def clear(self) -> None:
        """Clear the error."""
        await self.step(clear=1)
        self.model.error = ERR_NONE
        await self.step()
        assert not self.bench.read("error")

    async def reset(self, cycles: int) -> None:
        """Reset in the midst of everything; the sender starts anew."""
        self.source.pause = repeat(True)
        await self.bench.reset(cycles, **self.quiet)
        self.source.clear()
        self.forget()
        self.model.reset()
        dropped = ("infer_pending", "payload_start", "payload_valid", "error", "loading")
        names = [name for name in dropped if name in self.status]
        assert not any(self.bench.read(name) for name in names)
        assert self.bench.read("loaded") == int(not self.loads)
