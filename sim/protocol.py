"""Rules of AXI4-Stream and AXI4-Lite at the wrapper's ports, watched by a passive monitor.

The monitor drives nothing. It looks while the clock is low: masters that drive after the rising
edge and outputs from registers have settled then, and what it sees is what the next rising edge
will see, in every simulator. It knows nothing of the bus models, so it checks them as well.
"""

from collections import Counter
from dataclasses import dataclass
from typing import Any

import cocotb
from cocotb.triggers import FallingEdge, ReadOnly

PATIENCE = 32
"""Cycles that a response may take from its request: a few times what the registers need."""


@dataclass(frozen=True, slots=True)
class Channel:
    """A channel of valid, ready and payload.

    Attributes:
        name: For messages.
        prefix: Of the signals' names, up to `valid` and `ready`.
        payload: Signals that stay while valid waits for ready.
        sends: Whether the wrapper drives valid and payload; else it drives ready.
        unchecked: Payload in which X is no fault.
    """

    name: str
    prefix: str
    payload: tuple[str, ...]
    sends: bool
    unchecked: tuple[str, ...] = ()


CHANNELS = (
    Channel("s_axis", "s_axis_t", ("tdata", "tkeep", "tlast"), False),
    Channel("m_axis", "m_axis_t", ("tdata", "tkeep", "tlast"), True),
    Channel("aw", "s_axil_aw", ("awaddr", "awprot"), False),
    Channel("w", "s_axil_w", ("wdata", "wstrb"), False),
    Channel("b", "s_axil_b", ("bresp",), True),
    Channel("ar", "s_axil_ar", ("araddr", "arprot"), False),
    # The high word of a counter means nothing before its low word was read.
    Channel("r", "s_axil_r", ("rresp", "rdata"), True, unchecked=("rdata",)),
)


class _Watched:
    """A channel's handles, and what it was doing in the cycle before."""

    def __init__(self, dut: Any, channel: Channel) -> None:
        self.channel = channel
        self.valid = getattr(dut, f"{channel.prefix}valid")
        self.ready = getattr(dut, f"{channel.prefix}ready")
        bus = channel.prefix[: channel.prefix.rindex("_")]
        self.payload = [(name, getattr(dut, f"{bus}_{name}")) for name in channel.payload]
        self.held: list[str] | None = None


class ProtocolMonitor:
    """Watches all channels in every cycle, from its creation on.

    Attributes:
        strict: Whether a broken rule fails the test at once.
        violations: Broken rules, in the order in which they were seen.
        transfers: Handshakes of each channel since the last reset.
        packets: Packets of each stream since the last reset.
        idle: Cycles since the last reset in which a channel's valid was low.
        stalls: Cycles since the creation in which a channel's valid waited for ready.
        resets: How often the reset fell.
    """

    def __init__(self, dut: Any, *, strict: bool = True) -> None:
        self.strict = strict
        self.violations: list[str] = []
        self.transfers: Counter[str] = Counter()
        self.packets: Counter[str] = Counter()
        self.idle: Counter[str] = Counter()
        self.stalls: Counter[str] = Counter()
        self.resets = 0
        self._dut = dut
        self._watched = {channel.name: _Watched(dut, channel) for channel in CHANNELS}
        self._waits: Counter[str] = Counter()
        self._fell = False
        self._reset_cycles = 0
        cocotb.start_soon(self._watch_reset())
        cocotb.start_soon(self._run())

    def finish(self) -> None:
        """Fail unless every rule was kept, every request answered and every packet whole."""
        assert not self.violations, self.violations
        counts = {name: self.transfers[name] for name in self._watched}
        assert counts["aw"] == counts["w"] == counts["b"], f"writes: {counts}"
        assert counts["ar"] == counts["r"], f"reads: {counts}"
        waiting = [name for name, watched in self._watched.items() if watched.held is not None]
        assert not waiting, f"{waiting}: valid still waits for ready"

    async def _watch_reset(self) -> None:
        while True:
            await FallingEdge(self._dut.aresetn)
            self._fell = True
            self.resets += 1

    async def _run(self) -> None:
        while True:
            await FallingEdge(self._dut.aclk)
            await ReadOnly()
            if str(self._dut.aresetn.value) != "1":
                self._forget()
                self._check_reset()
            elif self._fell:
                # A reset came and went since the last look; what lay before it is void.
                self._forget()
            else:
                self._check()
            self._fell = False

    def _forget(self) -> None:
        for watched in self._watched.values():
            watched.held = None
        for counter in (self.transfers, self.packets, self.idle, self._waits):
            counter.clear()

    def _check_reset(self) -> None:
        """Nothing is offered and nothing accepted from the first edge in reset on."""
        self._reset_cycles = 0 if self._fell else self._reset_cycles + 1
        if self._reset_cycles == 0:
            return
        for name, watched in self._watched.items():
            sends = watched.channel.sends
            what, value = ("valid", watched.valid) if sends else ("ready", watched.ready)
            if str(value.value) != "0":
                self._broken(f"{name}: {what} is {value.value} in reset")
        if str(self._dut.irq.value) != "0":
            self._broken(f"irq is {self._dut.irq.value} in reset")

    def _check(self) -> None:
        fired = [name for name, watched in self._watched.items() if self._follow(watched)]
        # A response may come a cycle after its request at the earliest: before they are counted.
        self._check_responses("b", min(self.transfers["aw"], self.transfers["w"]))
        self._check_responses("r", self.transfers["ar"])
        self.transfers.update(fired)
        for name in fired:
            if name in ("s_axis", "m_axis"):
                self.packets[name] += is_high(getattr(self._dut, f"{name}_tlast"))
        if str(self._dut.irq.value) not in "01":
            self._broken("irq is X")

    def _follow(self, watched: _Watched) -> bool:
        """Check one channel; return whether a word is transferred."""
        name, held = watched.channel.name, watched.held
        valid, ready = str(watched.valid.value), str(watched.ready.value)
        watched.held = None
        for what, value in (("valid", valid), ("ready", ready)):
            if value not in "01":
                self._broken(f"{name}: {what} is X")
        if valid != "1":
            self.idle[name] += 1
            if held is not None:
                self._broken(f"{name}: valid fell before ready")
            return False
        payload = [str(handle.value) for _, handle in watched.payload]
        for (signal, _), bits in zip(watched.payload, payload, strict=True):
            if bits.strip("01") and signal not in watched.channel.unchecked:
                self._broken(f"{name}: {signal} is {bits} while valid")
            if signal == "tkeep" and watched.channel.sends and "0" in bits:
                self._broken(f"{name}: tkeep is {bits}, bytes are missing")
        if held not in (None, payload):
            self._broken(f"{name}: payload changed before ready, {held} to {payload}")
        if ready != "1":
            watched.held = payload
            self.stalls[name] += 1
        return ready == "1"

    def _check_responses(self, name: str, requests: int) -> None:
        offered = is_high(self._watched[name].valid)
        open_requests = requests - self.transfers[name]
        if offered and open_requests <= 0:
            self._broken(f"{name}: a response without a request")
        self._waits[name] = self._waits[name] + 1 if open_requests > 0 and not offered else 0
        if self._waits[name] > PATIENCE:
            self._broken(f"{name}: no response to a request for {PATIENCE} cycles")

    def _broken(self, rule: str) -> None:
        self.violations.append(rule)
        assert not self.strict, f"protocol: {rule}"


def is_high(handle: Any) -> bool:
    """Return whether a signal is 1; X is not."""
    return str(handle.value) == "1"
