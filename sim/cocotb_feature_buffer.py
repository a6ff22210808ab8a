"""Bench of `feature_buffer`: words come back as the golden layout has them, sign and all.

As in a network, each tensor is written to one region while the one before it is read from another.
With degree windows, graph follows graph, each with bounds of its own between the positions, and
each tensor has widths and exponents of its own. On Icarus the memories themselves are compared too.
With row ports, further regions are read by rows at the same time.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import cocotb
import numpy as np

from sgq_hw.golden.feature_buffer import feature_slices, positions, read_slices
from sgq_hw.golden.fixed_point import IntArray, code_range
from sgq_hw.schedule import Placement
from sgq_hw.sim.bench import Bench, draw_bits, draw_codes, generator, pack, read, settings
from sgq_hw.sim.rows import bank_words, draw_placement

Address = tuple[int, int]
"""Bank, and word in it."""

Word = tuple[int, int, int]
"""PE, row of it, and chunk."""


@dataclass(frozen=True)
class Write:
    """One step: the chunks of a row follow each other.

    Attributes:
        first_chunk: Whether it is a row's first one.
        words: Row and codes of each PE that writes.
    """

    first_chunk: bool
    words: dict[int, tuple[int, list[int]]] = field(default_factory=dict)


@dataclass(frozen=True)
class Tensor:
    """A drawn tensor.

    Attributes:
        writes: Its words in writing order.
        last: Where those of the last step lie.
        words: All words as they are read.
        rows: All words as row ports read them, without exponents and with them.
        exponents: Exponent of each position.
        slices: What each slice holds, as `feature_slices` has it.
    """

    writes: list[Write]
    last: list[Address]
    words: dict[Address, int]
    rows: list[dict[Word, int]]
    exponents: list[int]
    slices: list[IntArray]


@dataclass
class RowPort:
    """What a row port does in a pass.

    Attributes:
        name: `a` or `b`.
        region: The region that it reads, or None.
        held: What it has read for each PE, None where that means nothing.
    """

    name: str
    region: int | None = None
    held: dict[int, int | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Slice:
    """A slice of a region, as the golden functions need it."""

    low: int
    high: int
    first: int
    end: int
    rows: int


class Buffer:
    """The unit and what its regions hold: packed words by address."""

    def __init__(self, dut: Any) -> None:
        self.bench = Bench(dut)
        self.values = settings()
        self.rng = generator()
        count = len(self.values["regions"])
        self.words: list[dict[Address, int]] = [{} for _ in range(count)]
        self.held: list[dict[int, int]] = [{} for _ in range(count)]  # of each bank
        self.region = 0
        self.events: Counter[str] = Counter()
        # Only with row ports.
        self.rows: list[list[dict[Word, int]]] = [[{}, {}] for _ in range(count)]
        self.ports = [RowPort(name) for name in "ab"[: self.values.get("row_ports", 0)]]
        self.row_inputs: dict[str, int] = {}  # those that stay in a pass
        self.row_exponents: list[list[int]] = [[] for _ in range(count)]
        # Only with degree windows.
        self.windows = self.values["BUCKETS"] > 1
        self.slices = [
            [Slice(*shape) for shape in region] for region in self.values.get("slices", [])
        ]
        self.counts: list[int] = []  # nodes of each position
        self.bounds: list[int] = []
        self.exponents: list[int] = [0] * self.values["BUCKETS"]

    def draw_graph(self) -> None:
        """Draw another graph within capacity: its nodes of each position."""
        rng, room = self.rng, np.array(self.values["bucket_nodes"])
        left = int(self.values["nodes"])
        counts = np.zeros_like(room)
        kinds = ["full", "late", "some", "few", "one"]
        number = self.events["graphs"]
        kind = kinds[number] if number < 2 else str(rng.choice(kinds))
        self.events["graphs"] += 1
        order = rng.permutation(np.flatnonzero(room)).tolist()
        if kind == "one":
            order = order[:1]
        if kind == "late":
            # A position whose first node lies as late in a row as can be, and all behind it full.
            first = int(rng.choice(order))
            order = list(range(first, room.size))
        for position in order:
            most = min(int(room[position]), left)
            if kind in ("some", "one"):
                most = int(rng.integers(most + 1))
            counts[position] = min(most, 1) if kind == "few" else most
            left -= int(counts[position])
        if kind == "late":
            before = min(left, self.values["BANKS"] - 1)
            for position in range(first):
                counts[position] = min(int(room[position]), before)
                before -= int(counts[position])
        if not counts.sum():
            counts[order[0]] = 1
        self.counts = counts.tolist()
        self.bounds = np.cumsum(counts)[:-1].tolist()
        for region in self.words:
            region.clear()
        for rows in self.rows:
            rows[:] = {}, {}
        self.forget()
        self.choose_rows()

    def forget(self) -> None:
        """What was read last is not held any more."""
        for held in self.held:
            held.clear()

    def draw_windowed(self, region: int) -> tuple[IntArray, IntArray, list[int], list[IntArray]]:
        """Draw a tensor of the graph for a region: codes, words, exponents, contents of slices."""
        rng, values = self.rng, self.values
        _, signed, most = values["regions"][region]
        places = np.arange(sum(self.counts))
        position = positions(places, self.bounds)
        narrow = rng.random() < 0.3
        low = 2 if signed else 1
        widths = [
            int(rng.integers(min(low, wide), wide + 1)) if narrow else wide
            for wide in values["widths"][region]
        ]
        room = values["FEATURE_BITS"] - (not signed)
        top = (1 << values["EXPONENT_BITS"]) - 1
        exponents = [
            int(rng.integers(min(room - width, top) + 1)) if count
            else draw_bits(rng, values["EXPONENT_BITS"])
            for width, count in zip(widths, self.counts, strict=True)
        ]
        channels = values["LANES"] * int(rng.choice([1, most, rng.integers(1, most + 1)]))
        codes = np.concatenate([
            draw_codes(rng, *code_range(width, signed), (count, channels))
            for width, count in zip(widths, self.counts, strict=True)
        ])  # fmt: skip
        layout = values["PES"], places, self.bounds, self.slices[region]
        stored = feature_slices(codes, values["LANES"], *layout)
        words = read_slices(stored, channels, *layout, exponents, signed)
        assert np.array_equal(words, codes << np.array(exponents)[position][:, np.newaxis])
        return codes, words, exponents, stored

    def draw_tensor(self, region: int) -> Tensor:
        """Draw a tensor that fits a region."""
        rng, values = self.rng, self.values
        lanes, pes, stride = values["LANES"], values["PES"], values["FEATURE_STRIDE"]
        bits, signed, most = values["regions"][region]
        exponents: list[int] = []
        slices: list[IntArray] = []
        if self.windows:
            codes, read, exponents, slices = self.draw_windowed(region)
            chunks = codes.shape[1] // lanes
            places = np.arange(len(codes))
            placement = Placement(pes, places % pes, places // pes)
        else:
            chunks = int(rng.choice([1, most, rng.integers(1, most + 1)]))
            nodes = int(rng.choice([1, values["nodes"], rng.integers(1, values["nodes"] + 1)]))
            read = codes = draw_codes(rng, *code_range(bits, signed), (nodes, chunks * lanes))
            placement = draw_placement(rng, nodes, pes)
        banks = placement.bank.tolist()
        addresses = placement.address.tolist()
        by_row = [
            {
                (int(placement.pe[node]), int(placement.local[node]), chunk): pack(
                    matrix[node, chunk * lanes : (chunk + 1) * lanes], values["FEATURE_BITS"]
                )
                for node in range(len(codes))
                for chunk in range(chunks)
            }
            for matrix in (codes, read)
        ]
        stored = bank_words(
            read, placement.bank, placement.address, placement.banks, lanes, stride
        )
        words = {
            (bank, word): pack(stored[bank][word].tolist(), values["FEATURE_BITS"])
            for bank, address in zip(banks, addresses, strict=True)
            for word in range(address, chunks * stride, stride)
        }
        left = [[node for node in column if node >= 0] for column in placement.nodes.T.tolist()]
        for rows in left if rng.random() < 0.3 else []:
            rng.shuffle(rows)
        busy = float(rng.choice([0.2, 0.7, 1]))
        writes = []
        ends: list[int] = []
        while any(left):
            # In most steps some PEs close a row, in some all or none.
            ends = [rows.pop(0) for rows in left if rows and rng.random() < busy]
            self.events["together"] += len(ends) > 1
            writes += [
                Write(chunk == 0, {
                    int(placement.pe[node]): (
                        int(placement.local[node]),
                        codes[node, chunk * lanes : (chunk + 1) * lanes].tolist(),
                    )
                    for node in ends
                })
                for chunk in range(chunks)
            ]  # fmt: skip
        last = [(banks[node], (chunks - 1) * stride + addresses[node]) for node in ends]
        return Tensor(writes, last, words, by_row, exponents, slices)

    async def cycle(
        self,
        reads: list[Address] | None = None,
        write: Write | None = None,
        region: int = 0,
        by_row: Sequence[Word] | None = None,
    ) -> None:
        """Read from banks and write, or not, and check the data of this cycle.

        Row ports read certain words of one chunk, or any.
        """
        values = self.values
        addresses = dict(reads or [])
        inputs = {
            "read_region": self.region,
            "read_re": sum(1 << bank for bank in addresses),
            "read_addr": pack(
                [
                    addresses.get(bank, draw_bits(self.rng, values["FEATURE_ADDR_BITS"]))
                    for bank in range(values["BANKS"])
                ],
                values["FEATURE_ADDR_BITS"],
            ),
            **self.write_inputs(write, region),
        }
        if self.windows:
            inputs["bounds"] = pack(self.bounds, values["BOUND_BITS"])
            inputs["read_exponents"] = pack(self.exponents, values["EXPONENT_BITS"])
        asked = None
        if self.ports:
            asked = self.any_rows() if by_row is None else by_row
            inputs |= self.row_inputs | self.row_read(asked)
        await self.bench.cycle(**inputs)
        self.check_rows(asked, set(addresses), write, region)
        held = self.held[self.region]
        words = self.bench.parts("read_data", values["LANES"] * values["FEATURE_BITS"])
        for bank, word in held.items():
            where = f"cycle {self.bench.cycles}, region {self.region}, bank {bank}"
            assert words[bank] == word, f"{where}: {words[bank]} instead of {word}"
        self.events["held"] += len(held.keys() - addresses.keys())
        for address in addresses.items():
            held[address[0]] = self.words[self.region][address]

    def choose_rows(self, *busy: int, first: int | None = None) -> None:
        """Let row ports read regions that hold something and are not busy, in the pass that begins.

        Args:
            busy: Regions that are written or read by the read port.
            first: A region that one of the ports reads.
        """
        rng, values = self.rng, self.values
        known = [at for at, (rows, _) in enumerate(self.rows) if rows and at not in busy]
        # Until it has happened, and often after that, all ports are busy, in different regions.
        spread = not self.events["four regions"] or rng.random() < 0.5
        order = rng.permutation(known).tolist()
        for number, port in enumerate(self.ports):
            port.held.clear()
            port.region = None
            if order and (spread or rng.random() < 0.6):
                port.region = order[number % len(order)] if spread else int(rng.choice(order))
        if first is not None:
            self.ports[int(rng.integers(len(self.ports)))].region = first
        for port in self.ports:
            # A port that is not in use disturbs nobody.
            unused = int(rng.choice([draw_bits(rng, values["REGION_BITS"]), *busy]))
            self.row_inputs[f"row_{port.name}_use"] = int(port.region is not None)
            self.row_inputs[f"row_{port.name}_region"] = (
                unused if port.region is None else port.region
            )
            if port.region is not None:
                # The read port has not read there what it holds.
                self.held[port.region].clear()
        if self.windows and self.ports:
            region = self.ports[0].region
            self.row_inputs["row_exponents"] = (
                draw_bits(rng, values["BUCKETS"] * values["EXPONENT_BITS"])
                if region is None
                else pack(self.row_exponents[region], values["EXPONENT_BITS"])
            )

    def any_rows(self) -> list[Word] | None:
        """Draw words for row ports to read, of one chunk, a word of each PE; or None."""
        rng, values = self.rng, self.values
        if rng.random() < 0.4:
            return None
        regions = [port.region for port in self.ports if port.region is not None]
        known = [list(self.rows[region][0]) for region in regions if self.rows[region][0]]
        if not known:
            return [(pe, 0, 0) for pe in range(values["PES"])]
        chosen = known[int(rng.integers(len(known)))]
        chunk = chosen[int(rng.integers(len(chosen)))][2]
        if not values["junk"]:
            chunk = min([chunk, *(values["regions"][region][2] - 1 for region in regions)])
        return self.same_chunk([word for word in chosen if word[2] == chunk], chunk)

    def same_chunk(self, words: Sequence[Word], chunk: int) -> list[Word]:
        """Draw one of some words for each PE, or where it has none any other of the chunk."""
        rng, values = self.rng, self.values
        found = []
        for pe in range(values["PES"]):
            rows = [row for owner, row, _ in words if owner == pe]
            row = rows[int(rng.integers(len(rows)))] if rows else 0
            if values["junk"] and (not rows or rng.random() < 0.2):
                row = draw_bits(rng, values["ROW_BITS"])
            found.append((pe, row, chunk))
        return found

    def row_read(self, asked: Sequence[Word] | None) -> dict[str, int]:
        """Return the inputs that read words by row, or none; then they are junk."""
        rng, values = self.rng, self.values
        rows = (
            [draw_bits(rng, values["ROW_BITS"]) for _ in range(values["PES"])]
            if asked is None
            else [row for _, row, _ in asked]
        )
        return {
            "row_re": int(asked is not None),
            "row_index": pack(rows, values["ROW_BITS"]),
            "row_chunk": asked[0][2] if asked else draw_bits(rng, values["CHUNK_BITS"]),
        }

    def check_rows(
        self, asked: Sequence[Word] | None, banks: set[int], write: Write | None, written: int
    ) -> None:
        """Compare what row ports have read, and note what they read in this cycle."""
        values = self.values
        regions = set()
        for port in self.ports:
            if port.region is None:
                continue
            bits = values["LANES"] * values["FEATURE_BITS"]
            words = self.bench.parts(f"row_{port.name}_data", bits)
            for pe, word in port.held.items():
                where = f"cycle {self.bench.cycles}, {port.name} of region {port.region}, PE {pe}"
                assert word is None or words[pe] == word, f"{where}: {words[pe]}, not {word}"
            if asked is None:
                self.events[f"held by {port.name}"] += len(port.held)
                continue
            regions.add(port.region)
            known = self.rows[port.region][port.name == "a"]
            port.held = {word[0]: known.get(word) for word in asked}
            self.events[f"read by {port.name}"] += sum(
                word is not None for word in port.held.values()
            )
        if len(regions) == 2 and banks and write is not None and write.words:
            assert len({*regions, self.region, written}) == 4
            self.events["four regions"] += 1

    async def read_rows(self, region: int) -> None:
        """Read every word of a region by row, while any others are read elsewhere."""
        rng = self.rng
        left = list(self.rows[region][0])
        rng.shuffle(left)
        while left:
            chunk = left[0][2]
            if not self.values["junk"] and any(
                port.region is not None and chunk >= self.values["regions"][port.region][2]
                for port in self.ports
            ):
                self.choose_rows(self.region, first=region)
                continue
            asked = self.same_chunk([word for word in left if word[2] == chunk], chunk)
            await self.cycle(self.any_reads(region), by_row=asked)
            left = [word for word in left if word not in asked]
            while rng.random() < 0.2:
                await self.cycle(self.any_reads(region))
        await self.cycle(self.any_reads(region))

    def write_inputs(self, write: Write | None, region: int) -> dict[str, int]:
        """Return the inputs of a step, or of none; what it does not need is junk."""
        rng, values = self.rng, self.values
        word_bits = values["LANES"] * values["OUT_BITS"]
        words = write.words if write else {}
        rows, data = [], []
        for pe in range(values["PES"]):
            row, codes = words.get(pe, (draw_bits(rng, values["ROW_BITS"]), None))
            rows.append(row)
            data.append(
                draw_bits(rng, word_bits) if codes is None else pack(codes, values["OUT_BITS"])
            )
        inputs = {
            "write_step": int(write is not None),
            "write_first_chunk": int(write.first_chunk) if write else draw_bits(rng, 1),
            "write_region": region if words else draw_bits(rng, values["REGION_BITS"]),
            "write_valid": sum(1 << pe for pe in words),
            "write_row": pack(rows, values["ROW_BITS"]),
            "write_data": pack(data, word_bits),
        }
        if self.windows:
            places = np.array([row * values["PES"] + pe for pe, row in enumerate(rows)])
            buckets = [
                position if pe in words else draw_bits(rng, values["BUCKET_BITS"])
                for pe, position in enumerate(positions(places, self.bounds).tolist())
            ]
            inputs["write_bucket"] = pack(buckets, values["BUCKET_BITS"])
        return inputs

    async def write_tensor(self, region: int, gaps: float) -> None:
        """Write a tensor while another region is read at random, then read it back."""
        rng = self.rng
        tensor = self.draw_tensor(region)
        self.choose_rows(region, self.region)
        for write in tensor.writes:
            while rng.random() < gaps:
                await self.cycle(self.any_reads(region))
            await self.cycle(self.any_reads(region), write, region)
        if self.windows:
            # Words of an earlier tensor have other exponents.
            self.words[region].clear()
            self.rows[region][:] = {}, {}
        self.words[region] |= tensor.words
        for number, rows in enumerate(tensor.rows):
            self.rows[region][number] |= rows
        self.row_exponents[region] = tensor.exponents
        # By row at once or at the end, or twice, or not.
        if self.ports and rng.random() < 0.6:
            self.choose_rows(self.region, first=region)
            await self.read_rows(region)
        await self.read_banks(region, tensor)
        if self.ports and rng.random() < 0.6:
            self.region = int(rng.choice([at for at, words in enumerate(self.words) if words]))
            if self.windows:
                self.exponents = self.row_exponents[self.region]
                self.forget()
            self.choose_rows(self.region, first=region)
            await self.read_rows(region)

    async def read_banks(self, region: int, tensor: Tensor) -> None:
        """Read every word of a region that was just written, all banks on their own."""
        # What was written last, in the very next cycle.
        self.region = region
        if self.windows:
            self.exponents = tensor.exponents
            self.forget()
        self.choose_rows(region)
        await self.cycle(tensor.last)
        left = list(self.words[region])
        self.rng.shuffle(left)
        while left:
            reads = {bank: (bank, word) for bank, word in left if self.rng.random() < 0.8}
            await self.cycle(list(reads.values()))
            left = [address for address in left if address not in reads.values()]
        await self.cycle()
        if self.values.get("peek"):
            self.compare_memories(region, tensor)

    def compare_memories(self, region: int, tensor: Tensor) -> None:
        """Compare the words of all slices of a region with the golden layout, as far as it goes."""
        for number, banks in enumerate(tensor.slices):
            part = self.slices[region][number]
            for bank, words in enumerate(banks):
                scope = self.bench.dut.gen_bank[bank]
                memory = getattr(scope, f"region{region}_slice{number}_memory").mem
                for word in np.flatnonzero(words[:, 0] >= 0).tolist():
                    want = pack(words[word].tolist(), part.high - part.low)
                    where = f"region {region}, slice {number}, bank {bank}, word {word}"
                    assert read(memory[word]) == want, f"{where}: not {want}"
                    self.events["compared"] += 1

    def any_reads(self, written: int) -> list[Address]:
        """Draw addresses to read, in some banks; never of the region being written."""
        known = list(self.words[self.region])
        if self.region == written or not known:
            return []
        count = int(self.rng.integers(self.values["BANKS"] + 1))
        return [known[at] for at in self.rng.integers(len(known), size=count)]


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def words_follow_the_golden_layout(dut: Any) -> None:
    """Tensor after tensor, from region to region."""
    buffer = Buffer(dut)
    unused = {f"row_{port.name}_use": 0 for port in buffer.ports}
    await buffer.bench.start(read_region=0, read_re=0, write_step=0, write_valid=0, **unused)
    regions = len(buffer.words)
    for number in range(buffer.values["draws"]):
        # With row ports a graph stays until all regions are in use.
        stays = number == regions if buffer.ports else buffer.rng.random() < 0.3
        if buffer.windows and number % regions == 0 and (number == 0 or not stays):
            buffer.draw_graph()
            await buffer.cycle()
        await buffer.write_tensor(number % regions, float(buffer.rng.choice([0, 0.3, 0.8])))
    if buffer.values.get("collide"):
        # Against the rules: a row port has the region of the read port.
        buffer.choose_rows(*range(regions))
        buffer.row_inputs |= {"row_a_use": 1, "row_a_region": buffer.region}
        await buffer.cycle(list(buffer.words[buffer.region])[:1])
        await buffer.cycle()
    assert buffer.events["held"], "no cycle in which data had to stay"
    many_rows = buffer.values["nodes"] > buffer.values["PES"] > 1
    assert not many_rows or buffer.events["together"], "no rows that end together"
    wanted = [f"{what} by {port.name}" for what in ("read", "held") for port in buffer.ports]
    if len(buffer.ports) == 2 and regions > 3:
        wanted.append("four regions")
    assert all(buffer.events[what] for what in wanted), buffer.events
