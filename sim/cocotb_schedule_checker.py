"""Bench of schedule_checker: random schedules, faults planted in them, against the rules."""

from collections import Counter, defaultdict, deque
from dataclasses import dataclass
from typing import Any

import cocotb
import numpy as np

from sgq_hw.sim.bench import Bench, draw_bits, generator, pack, settings

ERR_INDEX, ERR_ROW_COUNT, ERR_ROW_LENGTH, ERR_SLOT, ERR_OWN = 5, 6, 7, 11, 14
ERROR_LATENCY = 2


@dataclass
class Entry:
    """What one PE does in a step."""

    mac: int = 0
    last: int = 0
    slot: int = 0
    bank: int = 0
    row: int = 0


Step = list[Entry]
"""One entry of every PE."""


class Rules:
    """The rules of a pass, row by row; the unit has counters instead."""

    def __init__(self, info: dict[str, Any], nodes: int, last_input: int, aggregate: bool) -> None:
        self.pes: int = info["PES"]
        self.banks: int = info["BANKS"]
        self.slots: int = info["SLOTS"]
        self.nodes, self.last_input, self.aggregate = nodes, last_input, aggregate
        self.limit: int = info["row_edges" if aggregate else "row_nonzeros"]
        self.own_first: bool = info["own_first"] and aggregate
        self.closed = [0] * self.pes
        self.entries: dict[tuple[int, int], int] = defaultdict(int)

    def owned(self, pe: int) -> int:
        """Return the rows of a PE."""
        return len(range(pe, self.nodes, self.pes))

    def exists(self, bank: int, row: int) -> bool:
        """Whether there is such an operand row."""
        if not self.aggregate:
            return (row * self.banks + bank if self.banks > 1 else row) <= self.last_input
        if self.banks == 1:
            return row < self.nodes
        return (2 * row + bank % 2) * self.pes + bank // 2 < self.nodes

    def own(self, pe: int, row: int) -> tuple[int, int]:
        """Return bank and address of the node of a row."""
        return (2 * pe + row % 2, row // 2) if self.banks > 1 else (0, row)

    def step(self, entries: Step, final: bool) -> int:
        """Follow a step; returns the error code of its worst fault, or 0."""
        faults = set()
        for pe, entry in enumerate(entries):
            oldest = self.closed[pe]
            ahead = self.slots > 1 and entry.slot != oldest % 2
            row = oldest + ahead
            if entry.mac and not self.exists(entry.bank, entry.row):
                faults.add(ERR_INDEX)
            if entry.last and ahead:
                faults.add(ERR_SLOT)
            read = (entry.bank if self.banks > 1 else 0, entry.row)
            begins = entry.mac and not self.entries[pe, row]
            if self.own_first and begins and read != self.own(pe, row):
                faults.add(ERR_OWN)
            self.entries[pe, row] += entry.mac
            if self.entries[pe, row] > self.limit:
                faults.add(ERR_ROW_LENGTH)
            if (entry.mac or entry.last) and row >= self.owned(pe):
                faults.add(ERR_ROW_COUNT)
            self.closed[pe] += entry.last
        if final:
            for pe in range(self.pes):
                still_open = any(
                    count and owner == pe and row >= self.closed[pe]
                    for (owner, row), count in self.entries.items()
                )
                if self.closed[pe] < self.owned(pe) or still_open:
                    faults.add(ERR_ROW_COUNT)
        order = (ERR_INDEX, ERR_SLOT, ERR_OWN, ERR_ROW_LENGTH, ERR_ROW_COUNT)
        return next((code for code in order if code in faults), 0)

    def done(self) -> int:
        """Return the PEs whose rows are all closed, a bit each."""
        return sum((self.closed[pe] >= self.owned(pe)) << pe for pe in range(self.pes))


class Checker:
    """Plays a front end: passes of schedules, every output compared in every cycle."""

    def __init__(self, dut: Any) -> None:
        self.bench = Bench(dut, known=["error"])
        self.rng = generator()
        self.info = settings()
        self.pes: int = self.info["PES"]
        self.errors: deque[int] = deque([0] * ERROR_LATENCY)
        self.rules: Rules | None = None
        self.enable = False
        self.failed = False
        self.codes: Counter[int] = Counter()
        self.ignored = 0

    async def start(self) -> None:
        """Reset with idle inputs."""
        await self.bench.start(
            start=0, enable=0, is_aggregate=0, num_nodes=1, last_input=0, step=0, **self.records([])
        )

    def records(self, entries: Step) -> dict[str, int]:
        """Return the inputs of a step, or junk where there is none."""
        info, pes = self.info, self.pes
        widths = {
            "mac": 1, "last": 1, "slot": 1, "bank": info["BANK_BITS"],
            "row": info["OPERAND_ROW_BITS"],
        }  # fmt: skip
        if info["SLOTS"] == 1:
            del widths["slot"]
        return {
            f"pe_{name}": pack([getattr(entry, name) for entry in entries], bits)
            if entries else draw_bits(self.rng, pes * bits)
            for name, bits in widths.items()
        } | {"step_final": draw_bits(self.rng, 1)}  # fmt: skip

    async def cycle(self, entries: Step, final: bool = False, **inputs: int) -> None:
        """Spend a cycle, with a step or without, and compare the outputs in it."""
        last = {"step_final": int(final)} if entries else {}
        await self.bench.cycle(
            **({"start": 0, "rst": 0} | inputs), step=int(bool(entries)),
            **(self.records(entries) | last),
        )  # fmt: skip
        where = f"cycle {self.bench.cycles}"
        want = self.errors.popleft()
        assert self.bench.read("error") == (want > 0), f"{where}: expected {want}"
        if want:
            assert self.bench.read("error_code") == want, f"{where}: expected {want}"
        if self.rules is not None:
            assert self.bench.read("pe_done") == self.rules.done(), where
        code = self.rules.step(entries, final) if entries and self.rules else 0
        self.ignored += code > 0 and not self.enable
        # Only the first error of a pass is reported, and none of a pass without records.
        code = code if self.enable and not self.failed else 0
        self.failed |= code > 0
        self.codes[code] += 1
        self.errors.append(code)

    async def begin(self, enable: bool, aggregate: bool) -> Rules:
        """Announce a pass of random size."""
        rng, info = self.rng, self.info
        nodes = int(rng.integers(1, info["nodes"], endpoint=True))
        if rng.random() < 0.3:
            nodes = info["nodes"]
        highest = min(1 << info["INPUT_BITS"], info["BANKS"] << info["OPERAND_ROW_BITS"]) - 1
        last_input = int(rng.integers(highest, endpoint=True))
        rules = Rules(info, nodes, last_input, aggregate)
        await self.cycle(
            [], start=1, enable=int(enable), is_aggregate=int(aggregate), num_nodes=nodes,
            last_input=last_input,
        )  # fmt: skip
        self.rules, self.enable, self.failed = rules, enable, False
        return rules

    async def run(self, steps: list[Step], gap: float, finals: bool = True) -> None:
        """Send steps, the last of them as the final one."""
        for position, entries in enumerate(steps):
            while self.rng.random() < gap:
                await self.cycle([])
            await self.cycle(entries, finals and position == len(steps) - 1)

    def operand(self, rules: Rules) -> tuple[int, int]:
        """Draw bank and address of an operand row that exists, often a late one."""
        while True:
            bank = int(self.rng.integers(rules.banks))
            rows = [
                row for row in range(1 << self.info["OPERAND_ROW_BITS"]) if rules.exists(bank, row)
            ]
            if rows:
                return bank, rows[-1] if self.rng.random() < 0.3 else int(self.rng.choice(rows))

    def element(self, rules: Rules, pe: int, owned: int) -> list[Entry]:
        """Draw what one PE does: `owned` rows, two of them open at times, idle steps between."""
        rng, slots = self.rng, rules.slots
        lengths = rng.integers(rules.limit, size=owned, endpoint=True)
        left = [int(rules.limit if rng.random() < 0.3 else length) for length in lengths]
        begun: set[int] = set()
        found: list[Entry] = []
        row = 0
        while row < owned:
            entry = Entry(*self.junk())
            entry.mac = entry.last = 0
            ahead = slots > 1 and row + 1 < owned and left[row + 1] and rng.random() < 0.4
            if rng.random() > 0.2:
                entry.slot = (row + bool(ahead)) % slots
                entry.mac = int(ahead or left[row] > 0)
                left[row + bool(ahead)] -= entry.mac
                # A row may close with its last entry or, with nothing to add, after it.
                entry.last = int(
                    not ahead and not left[row] and (not entry.mac or rng.random() < 0.8)
                )
                row += entry.last
            if entry.mac:
                entry.bank, entry.row = self.operand(rules)
                walked = row + bool(ahead) - entry.last
                if rules.own_first and walked not in begun:
                    entry.bank, address = rules.own(pe, walked)
                    # A row too many may have an address that the field does not hold.
                    entry.row = address % (1 << self.info["OPERAND_ROW_BITS"])
                begun.add(walked)
            found.append(entry)
        return found

    def junk(self) -> tuple[int, ...]:
        """Draw any entry."""
        rng, info = self.rng, self.info
        widths = (1, 1, int(info["SLOTS"] > 1), info["BANK_BITS"], info["OPERAND_ROW_BITS"])
        return tuple(draw_bits(rng, bits) for bits in widths)

    def schedule(self, rules: Rules, more: dict[int, int] | None = None) -> list[Step]:
        """Draw a schedule that keeps the rules, or gives some PEs more rows than they have."""
        columns = [
            self.element(rules, pe, rules.owned(pe) + (more or {}).get(pe, 0))
            for pe in range(self.pes)
        ]
        length = max(len(column) for column in columns)
        for column in columns:
            while len(column) < length:
                idle = Entry(*self.junk())
                idle.mac = idle.last = 0
                column.insert(int(self.rng.integers(len(column), endpoint=True)), idle)
        return [list(entries) for entries in zip(*columns, strict=True)]

    def broken(self, rules: Rules, kind: str) -> list[Step]:
        """Return a schedule with a fault of one kind, if the draw has a place for it."""
        rng = self.rng
        if kind == "rows":
            return self.schedule(rules, {int(rng.integers(self.pes)): 1})
        rules.limit += kind == "length"
        steps = self.schedule(rules)
        rules.limit -= kind == "length"
        if kind == "end":
            return steps[: max(1, len(steps) - int(rng.integers(1, 3)))]
        entries = [entry for step in steps for entry in step]
        macs = [entry for entry in entries if entry.mac]
        lasts = [entry for entry in entries if entry.last]
        if kind == "own":
            chosen = rng.choice(np.array(macs, object))
            chosen.bank, chosen.row = self.operand(rules)
        elif kind == "slot":
            rng.choice(np.array(lasts, object)).slot ^= 1
        elif kind == "open":
            rng.choice(np.array(lasts, object)).last = 0
        elif kind == "index" and macs:
            chosen = rng.choice(np.array(macs, object))
            wrong = [
                (bank, row)
                for bank in range(rules.banks)
                for row in range(1 << self.info["OPERAND_ROW_BITS"])
                if not rules.exists(bank, row)
            ]
            if wrong:
                chosen.bank, chosen.row = wrong[int(rng.integers(min(len(wrong), 4)))]
        elif kind == "any":
            chosen = rng.choice(np.array(entries, object))
            chosen.mac, chosen.last, chosen.slot, chosen.bank, chosen.row = self.junk()
        return steps


KINDS = ("rows", "end", "slot", "length", "open", "index", "own", "any")


@cocotb.test()
async def schedules_that_keep_the_rules(dut: Any) -> None:
    """No error in passes of both kinds, one after the other; the end of every PE is seen."""
    checker = Checker(dut)
    await checker.start()
    for turn in range(checker.info["draws"]):
        rules = await checker.begin(True, bool(turn % 2))
        await checker.run(checker.schedule(rules), 0.0 if turn % 3 else 0.4)
        assert not checker.failed
        assert rules.done() == (1 << checker.pes) - 1
    for _ in range(ERROR_LATENCY + 1):
        await checker.cycle([])
    assert checker.codes.keys() == {0}


@cocotb.test()
async def faults_are_reported_once(dut: Any) -> None:
    """Each kind of fault with its code, two cycles after its step, only in passes of records."""
    checker = Checker(dut)
    await checker.start()
    found: dict[str, set[int]] = defaultdict(set)
    kinds = [
        kind
        for kind in KINDS
        if (kind != "slot" or checker.info["SLOTS"] > 1)
        and (kind != "own" or checker.info["own_first"])
    ]
    for turn in range(checker.info["draws"] * 2):
        for kind in kinds:
            before = checker.codes.copy()
            rules = await checker.begin(checker.rng.random() < 0.85, bool(turn % 2))
            gap = float(checker.rng.choice([0.0, 0.3]))
            await checker.run(checker.broken(rules, kind), gap)
            found[kind] |= (checker.codes - before).keys() - {0}
    for _ in range(ERROR_LATENCY + 1):
        await checker.cycle([])
    assert ERR_ROW_COUNT in found["rows"]
    assert found["end"] == {ERR_ROW_COUNT}
    assert ERR_INDEX in found["index"]
    assert found["length"] == {ERR_ROW_LENGTH}
    assert found["open"]
    assert "slot" not in kinds or ERR_SLOT in found["slot"]
    assert "own" not in kinds or found["own"] == {ERR_OWN}
    assert checker.ignored > 5


@cocotb.test()
async def a_reset_drops_faults(dut: Any) -> None:
    """A fault on its way is not reported after reset, and the next pass is checked again."""
    checker = Checker(dut)
    await checker.start()
    rng, codes = checker.rng, checker.codes
    for turn in range(20):
        rules = await checker.begin(True, bool(turn % 2))
        steps = checker.schedule(rules)
        await checker.run(steps[: int(rng.integers(len(steps)))], 0.0, finals=False)
        for _ in range(int(rng.integers(3))):
            await checker.cycle([Entry(*checker.junk()) for _ in range(checker.pes)])
        checker.rules = None
        for _ in range(int(rng.integers(1, 3))):
            await checker.cycle([], rst=1)
            checker.errors = deque([0] * ERROR_LATENCY)
        for _ in range(int(rng.integers(3))):
            await checker.cycle([])
        rules = await checker.begin(True, bool(turn % 3))
        await checker.run(checker.schedule(rules), 0.0)
        assert not checker.failed
    assert len(codes) > 1
