"""The design: every width, depth, memory and load target of one accelerator, computed once.

Templates, packer, cycle model and memory budget all read this object, so they cannot disagree.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

from sgq_hw.attention_schedule import AttentionTiming
from sgq_hw.errors import InputError
from sgq_hw.formats import MAX_SHIFT
from sgq_hw.golden.attention_unit import attention_bound, epilogue_bits
from sgq_hw.golden.fixed_point import MAX_BITS, BoundError
from sgq_hw.host import RecordFormat
from sgq_hw.layers import AgnnAttention, GatAttention
from sgq_hw.lowering import Attending, Capacity, Pass, Program, lower
from sgq_hw.manifest import Manifest
from sgq_hw.schedule import PES_CHOICES, num_banks
from sgq_hw.slices import MemoryStyle, RegionPlan, memory_style, plan_region

MAX_LANES = 64
STREAM_BITS_CHOICES = (32, 64, 128, 256, 512, 1024)
FIFO_ADDR_BITS = 5
COUNTER_BITS = 48
EXPONENT_BITS = 4
"""Of a degree window: no word has more than 16 bits."""
MAX_BUCKETS = 8
PACKED_BITS = 64
"""Bits of a word of the input memory that the values of complete rows may fill."""

ERRORS = {
    "ERR_NONE": 0,
    "ERR_HEADER": 1,
    "ERR_CAPACITY": 2,
    "ERR_EARLY_TLAST": 3,
    "ERR_LATE_TLAST": 4,
    "ERR_INDEX": 5,
    "ERR_ROW_COUNT": 6,
    "ERR_ROW_LENGTH": 7,
    "ERR_NOT_LOADED": 8,
    "ERR_WORD_COUNT": 9,
    "ERR_BANK": 10,
    "ERR_SLOT": 11,
    "ERR_KEEP": 12,
    "ERR_GRAPH": 13,
    "ERR_OWN": 14,
}
PACKET_TYPES = {
    "constants": 1,
    "weights": 2,
    "channels": 3,
    "table": 4,
    "graph": 5,
    "edges": 6,
    "order": 7,
    "inputs": 8,
    "exponentials": 9,
    "activations": 10,
    "inference": 16,
    "serial": 17,
}


def address_bits(words: int) -> int:
    """Return the bits that address `words` words, at least 1."""
    return max(1, (words - 1).bit_length())


def count_bits(largest: int) -> int:
    """Return the bits that count from 0 to `largest`."""
    return max(1, largest.bit_length())


def check_pes(pes: int) -> None:
    """Refuse a number of processing elements that cannot be built.

    Raises:
        InputError: naming the option.
    """
    if pes not in PES_CHOICES:
        choices = ", ".join(map(str, PES_CHOICES))
        raise InputError(f"--pes: {pes} is none of {choices}")


def signed_container(bits: int, signed: bool) -> int:
    """Return the two's complement width that holds a code."""
    return bits if signed else bits + 1


@dataclass(frozen=True, slots=True)
class Memory:
    """One memory of the design, as it is emitted and as it is priced.

    Attributes:
        name: Instance name.
        role: `weight`, `edge`, `table`, `channel`, `exponential`, `activation`, `delay`, `input`,
            `feature`, `output`, `order` or `fifo`.
        width: Bits of a word.
        depth: Words of a copy.
        style: `block` or `auto`, emitted as `ram_style`.
        rom: Read only, contents baked in.
        index: Number among the memories of its role.
        table: Name of the node table, for `table`.
        copies: Memories of this shape, one a bank or a processing element.
    """

    name: str
    role: str
    width: int
    depth: int
    style: MemoryStyle
    rom: bool = False
    index: int = 0
    table: str = ""
    copies: int = 1

    @property
    def bits(self) -> int:
        """Stored bits of all copies."""
        return self.width * self.depth * self.copies

    @property
    def addr_bits(self) -> int:
        """Bits of an address."""
        return address_bits(self.depth)

    @property
    def module(self) -> str:
        """Verilog module."""
        return f"sgq_{'rom' if self.rom else 'ram'}_{self.style}"


class ConstantField(NamedTuple):
    """A loaded constant of a pass.

    Attributes:
        name: In Verilog.
        text: For people.
        bits: Width.
    """

    name: str
    text: str
    bits: int


class SliceLimit(NamedTuple):
    """Rows that a bank has for the nodes of some positions, in the slice with the fewest.

    Attributes:
        first: First position.
        end: Position after the last one.
        rows: Rows.
    """

    first: int
    end: int
    rows: int


@dataclass(frozen=True, slots=True)
class LoadTarget:
    """What a load packet can fill.

    Attributes:
        number: Position in the loader's list.
        kind: A key of `PACKET_TYPES`.
        index: Index field of the packet header (pass or table).
        name: What a reader calls it.
        bits: Width of a word.
        words: Words of a packet, or 0 where they follow the loaded graph or the packet itself.
        words_text: The same for the register documentation.
        memory: The memory it fills, or "".
        follows_graph: Whether a new graph makes it stale.
    """

    number: int
    kind: str
    index: int
    name: str
    bits: int
    words: int
    words_text: str
    memory: str = ""
    follows_graph: bool = False

    @property
    def type(self) -> int:
        """Type field of the packet header."""
        return PACKET_TYPES[self.kind]


@dataclass(frozen=True)
class Design:
    """One accelerator.

    Attributes:
        manifest: The network.
        pes: Processing elements, a power of two.
        lanes: Lanes of each.
        stream_bits: Bits of a stream beat.
        capacity: What it is sized for.
        sparse_input: Whether inputs come as (index, value) records or as complete rows.
        rom: Whether parameters and graph are baked in.
        program: The lowered network.
        streamed: Whether the graph comes past with every inference instead of lying on chip.
        inputs_on_chip: Whether the inputs are loaded once instead of coming with every inference.
    """

    manifest: Manifest
    pes: int
    lanes: int
    stream_bits: int
    capacity: Capacity
    sparse_input: bool
    rom: bool
    program: Program
    streamed: bool = False
    inputs_on_chip: bool = False

    @property
    def passes(self) -> tuple[Pass, ...]:
        """The passes in running order."""
        return self.program.passes

    @property
    def walks(self) -> tuple[Pass, ...]:
        """The first pass of every walk."""
        return self.program.walks

    def walk(self, leader: int) -> tuple[Pass, ...]:
        """Return the passes that walk together, by the index of the first."""
        return tuple(step for step in self.passes if step.leader == leader)

    def walk_channels(self, leader: Pass) -> int:
        """Return how many columns a walk multiplies: those of maxima do not count."""
        together = self.walk(leader.index)
        return sum(step.out_channels for step in together if step.operation != "maximum")

    @property
    def aggregations(self) -> int:
        """Passes that walk the graph."""
        return sum(step.front == "aggregate" for step in self.passes)

    @property
    def banks(self) -> int:
        """Banks of the weight memory and of every region: two a PE, one with a single PE."""
        return num_banks(self.pes)

    @property
    def order(self) -> tuple[int, ...]:
        """Degree buckets as their nodes lie in memory; empty without degree windows."""
        return self.program.order

    @property
    def buckets(self) -> int:
        """Number of degree buckets, 1 without degree windows."""
        return max(1, len(self.order))

    @property
    def ordered(self) -> bool:
        """Whether nodes lie in another order than the user's, so that their places are loaded."""
        return self.pes > 1 or self.buckets > 1

    @property
    def direct(self) -> bool:
        """Whether records come in the user's order and results go to the places of their nodes.

        So the last rows end as they leave. One processing element alone can do so, if its last
        pass walks records. With attention a row's scores are read while its records come: then
        rows are worked on where they lie.
        """
        ordered = self.pes == 1 and self.buckets > 1 and not self.attention
        return ordered and self.passes[-1].front != "combine_buffer"

    @property
    def collects(self) -> bool:
        """Whether rows end in another order than the user's, so that results are collected."""
        return self.ordered and not self.direct

    @property
    def whole_records(self) -> bool:
        """Whether words of the last pass go out record by record, however slow the receiver is.

        A record's cosine is known with its last word, for which the others wait a fixed time.
        """
        final = self.passes[-1]
        cosine = final.attention is not None and isinstance(final.attention.rule, AgnnAttention)
        return cosine and final.chunks > 1 and not self.collects

    @property
    def output_reserve(self) -> int:
        """Words that may follow once the queue of results asks to stop."""
        return self.passes[-1].chunks if self.whole_records else 1

    @property
    def fifo_addr_bits(self) -> int:
        """Bits of an address of the queue of results, which has room for two records."""
        return max(FIFO_ADDR_BITS, (2 * self.output_reserve).bit_length())

    @property
    def rows(self) -> int:
        """Rows that a PE has room for."""
        return -(-self.capacity.nodes // self.pes)

    @property
    def slots(self) -> int:
        """Rows that a PE has open at once."""
        return 2 if self.pes > 1 else 1

    @property
    def tag_bits(self) -> int:
        """Bits of what goes with a word through the epilogue: its row, and its degree bucket."""
        return count_bits(self.rows) + (address_bits(self.buckets) if self.buckets > 1 else 0)

    @property
    def bank_rows(self) -> int:
        """Rows that a bank of the feature buffer has room for."""
        return -(-self.rows // (self.banks // self.pes))

    @property
    def _record_places(self) -> dict[str, int]:
        """Widths of the fields that several PEs need."""
        several = self.pes > 1
        return {"slot": int(several), "bank": (self.banks - 1).bit_length()}

    @cached_property
    def edge_record(self) -> RecordFormat:
        """Record of an entry of the aggregation matrix."""
        edge = self.manifest.edge
        return RecordFormat.make(
            last=1,
            valid=0 if self.manifest.self_loops and self.pes == 1 else 1,
            **self._record_places,
            address=address_bits(self.bank_rows),
            value=0 if edge is None else edge.bits,
        )

    @cached_property
    def input_record(self) -> RecordFormat:
        """Record of an input."""
        spec = self.manifest.input
        if not self.sparse_input:
            return RecordFormat.make(value=spec.bits)
        binary = spec.bits == 1 and not spec.signed
        return RecordFormat.make(
            last=1,
            valid=1,
            **self._record_places,
            address=address_bits(-(-spec.channels // self.banks)),
            value=0 if binary else spec.bits,
        )

    @cached_property
    def value_bits(self) -> int:
        """Signed width of walked values: inputs, walked features, edge values."""
        spec = self.manifest.input
        widths = [signed_container(spec.bits, spec.signed)]
        for step in self.passes:
            if step.front == "combine_buffer" and step.source_pass is not None:
                source = self.passes[step.source_pass]
                widths.append(signed_container(source.bits, source.signed))
        if self.manifest.edge is not None:
            widths.append(self.manifest.edge.bits + 1)
        if self.attention:
            widths.append(self.attention_bits + 1)
        return max(widths)

    @cached_property
    def feature_bits(self) -> int:
        """Signed width of a channel read from the feature buffer, of the whole word."""
        stored = [step for step in self.passes if step.destination is not None]
        return max(signed_container(step.bits, step.signed) for step in stored)

    @cached_property
    def weight_bits(self) -> int:
        """Width of a weight."""
        return max(step.weight.bits for step in self.manifest.steps() if step.weight is not None)

    @cached_property
    def out_bits(self) -> int:
        """Signed width of a result as it is stored or sent."""
        return max(signed_container(step.code_bits, step.signed) for step in self.passes)

    @cached_property
    def multiplied_bits(self) -> int:
        """Width of the operands that meet a multiplier: weights, features that edges weigh."""
        widths = [self.weight_bits]
        for step in self.passes:
            weighed = step.operation == "attend" or self.manifest.edge is not None
            if step.front == "aggregate" and step.operation != "maximum" and weighed:
                source = self.source_of(step)
                widths.append(signed_container(source.bits, source.signed))
        return max(widths)

    @cached_property
    def acc_bits(self) -> int:
        """Width of an accumulator: proved, and no narrower than a product."""
        product = max(self.value_bits + self.multiplied_bits, self.feature_bits)
        return max(product, *(step.bound.accumulator_bits for step in self.passes))

    def source_of(self, step: Pass) -> Pass:
        """Return the pass that wrote what a pass reads from the feature buffer."""
        assert step.source_pass is not None
        return self.passes[step.source_pass]

    @cached_property
    def _plain(self) -> tuple[Pass, ...]:
        """The passes that end in `requantize`: those without attention."""
        return tuple(step for step in self.passes if step.attention is None)

    @cached_property
    def multiplier_bits(self) -> int:
        """Width of the multiplier M."""
        return max(step.multiplier.bits for step in self._plain)

    # ---- second operands of rows

    @property
    def parts(self) -> bool:
        """Whether a walk has several passes, so that words of a row differ in their epilogue."""
        return any(not step.leads for step in self.passes)

    @property
    def has_copies(self) -> bool:
        """Whether a result is written to two regions."""
        return any(step.duplicate is not None for step in self.passes)

    @property
    def has_addend(self) -> bool:
        """Whether an epilogue adds a second tensor."""
        return any(step.addend_region is not None for step in self.passes)

    @property
    def row_ports(self) -> int:
        """Ports of the feature buffer that read the words of finished or open rows themselves."""
        return 2 if self.has_gat else 1 if self.has_addend else 0

    @cached_property
    def addend_bits(self) -> int:
        """Signed width of an addend."""
        found = [self.passes[i] for i in (s.addend_pass for s in self.passes) if i is not None]
        return max((signed_container(step.bits, step.signed) for step in found), default=1)

    @cached_property
    def addend_factor_bits(self) -> int:
        """Width of the unsigned factor of an addend."""
        return count_bits(max(step.addend_factor for step in self.passes))

    # ---- attention

    @cached_property
    def attention(self) -> tuple[Pass, ...]:
        """The passes with attention."""
        return tuple(step for step in self.passes if step.attention is not None)

    @cached_property
    def attending(self) -> tuple[Attending, ...]:
        """How they weigh neighbours."""
        return tuple(step.attention for step in self.attention if step.attention is not None)

    @property
    def has_gat(self) -> bool:
        """Whether a pass weighs neighbours by scores."""
        return any(isinstance(one.rule, GatAttention) for one in self.attending)

    @property
    def has_agnn(self) -> bool:
        """Whether a pass weighs neighbours by their cosine: every row begins with its own node."""
        return any(isinstance(one.rule, AgnnAttention) for one in self.attending)

    @property
    def has_maximum(self) -> bool:
        """Whether a pass takes maxima."""
        return any(step.operation == "maximum" for step in self.passes)

    @property
    def has_bypass(self) -> bool:
        """Whether a pass takes operands as they are."""
        return any(self.bypasses(step) for step in self.passes)

    def bypasses(self, step: Pass) -> bool:
        """Whether a pass takes operands as they are: sums without edge values, and maxima."""
        if step.front != "aggregate" or step.operation == "attend":
            return False
        return step.operation == "maximum" or self.manifest.edge is None

    @cached_property
    def attention_bits(self) -> int:
        """Width of an unnormalised weight."""
        return max(one.rule.bits for one in self.attending)

    @cached_property
    def table_bits(self) -> int:
        """Bits of an index of the table of exponentials."""
        return address_bits(max(one.rule.table_length for one in self.attending))

    @cached_property
    def score_bits(self) -> int:
        """Width of GAT's scores."""
        return max(step.bits for step in self.passes if step.operation == "maximum")

    @property
    def slope(self) -> tuple[int, int]:
        """Code and fraction bits of GAT's leaky slope."""
        found = (one.rule for one in self.attending if isinstance(one.rule, GatAttention))
        rule = next(found)
        return rule.slope_code, rule.slope_shift

    @property
    def gat_logit_bits(self) -> int:
        """Signed width of GAT's logits: sums of two scores, on the finer grid of the slope."""
        return self.score_bits + 1 + self.slope[1]

    @cached_property
    def logit_bits(self) -> int:
        """Signed width of a logit."""
        widths = [
            one.rule.score_bits for one in self.attending if isinstance(one.rule, AgnnAttention)
        ]
        if self.has_gat:
            widths.append(self.gat_logit_bits)
        return max(widths)

    @cached_property
    def beta_bits(self) -> int:
        """Width of AGNN's factor."""
        rules = [one.rule for one in self.attending]
        return max(rule.score_bits for rule in rules if isinstance(rule, AgnnAttention))

    @cached_property
    def cosine_bits(self) -> int:
        """Signed width of the features that AGNN compares."""
        sources = (
            self.source_of(step)
            for step, one in zip(self.attention, self.attending, strict=True)
            if isinstance(one.rule, AgnnAttention)
        )
        return max(signed_container(source.bits, source.signed) for source in sources)

    @property
    def head_groups(self) -> int:
        """Groups of heads of the record that has most."""
        return max(self.timing.groups(one) for one in self.attending)

    @cached_property
    def timing(self) -> AttentionTiming:
        """How many heads attention works on at once, and what it takes."""
        return AttentionTiming.of(self)

    @cached_property
    def denominator_bits(self) -> int:
        """Width of the largest sum of weights."""
        return max(2, (self.capacity.row_edges * ((1 << self.attention_bits) - 1)).bit_length())

    @cached_property
    def numerator_bits(self) -> int:
        """Width of a weighted sum."""
        return max(step.bound.accumulator_bits for step in self.attention)

    @cached_property
    def mean_bits(self) -> tuple[int, int]:
        """Proved widths of the weighted mean and of its rounded sum."""
        magnitude = max(source.magnitude for source in map(self.source_of, self.attention))
        bias_bits = self.bias_bits if self.has_bias else 0
        attention_bound(
            self.capacity.row_edges, self.attention_bits, magnitude, bias_bits, self.largest_shift
        )
        aligned, total = epilogue_bits(magnitude, bias_bits, self.largest_shift)
        return aligned, max(total, self.out_bits + 1)

    @cached_property
    def activation_bits(self) -> int:
        """Width of the codes that ELU changes."""
        return max(step.bits for step in self.passes if step.elu)

    @cached_property
    def activations(self) -> tuple[Pass, ...]:
        """The passes with a table of ELU, in the order of their tables."""
        return tuple(step for step in self.passes if step.elu)

    @cached_property
    def bias_bits(self) -> int:
        """Width of a bias, 1 where no pass has one."""
        return max(1, *(step.bias_bits for step in self.passes))

    @cached_property
    def _own_shift(self) -> int:
        """Largest shift of the network, that of its highest window included."""
        return max(
            step.shift + max((window.exponent for window in step.windows), default=0)
            for step in self.passes
        )

    @cached_property
    def shift_bits(self) -> int:
        """Bits of a shift, that of the highest window included."""
        return count_bits(self._own_shift)

    @cached_property
    def largest_shift(self) -> int:
        """Largest shift that the epilogue is sized for: all that the field holds, within reason."""
        # Only windows can bring a shift above those of the passes.
        return max(self._own_shift, min((1 << self.shift_bits) - 1, MAX_SHIFT))

    @cached_property
    def total_bits(self) -> int:
        """Width of the epilogue's sum for any constants that fit its registers."""
        product = max(step.bound.accumulator for step in self._plain) << self.multiplier_bits
        total = product + (1 << (self.bias_bits - 1)) + (1 << self.largest_shift)
        floor = max(self.acc_bits + self.multiplier_bits, self.bias_bits, self.out_bits)
        if self.has_addend:
            total += ((1 << self.addend_factor_bits) - 1) << (self.addend_bits - 1)
            floor = max(floor, self.addend_bits + self.addend_factor_bits + 1)
        return max(total.bit_length() + 1, floor + 1)

    @cached_property
    def has_channel_multipliers(self) -> bool:
        """Whether the channel memory also holds multipliers."""
        return any(step.multiplier.kind == "channel" for step in self.passes)

    @cached_property
    def has_bias(self) -> bool:
        """Whether the channel memory holds biases."""
        return any(step.has_bias for step in self.passes)

    @cached_property
    def channel_width(self) -> int:
        """Bits of a channel memory word: biases, then multipliers."""
        width = self.lanes * self.bias_bits if self.has_bias else 0
        return width + (self.lanes * self.multiplier_bits if self.has_channel_multipliers else 0)

    @cached_property
    def region_plans(self) -> tuple[RegionPlan, ...]:
        """How each region is cut into slices; empty without degree windows."""
        if self.buckets == 1:
            return ()
        return tuple(
            plan_region(
                region.widths, region.chunks, self.lanes, self.capacity.bucket_nodes,
                self.capacity.nodes, self.banks,
            )
            for region in self.program.regions
        )  # fmt: skip

    @cached_property
    def slice_limits(self) -> tuple[SliceLimit, ...]:
        """What limits a graph beside its number of nodes: the slices that it could overflow."""
        rows: dict[tuple[int, int], int] = {}
        for plan in self.region_plans:
            for part in plan.slices:
                key = part.first, part.end
                rows[key] = min(part.rows, rows.get(key, part.rows))
        # Where there are rows for all nodes, their number limits them.
        return tuple(
            SliceLimit(*key, count)
            for key, count in sorted(rows.items())
            if count * self.banks < self.capacity.nodes
        )

    def _region_memories(self) -> list[Memory]:
        if self.buckets == 1:
            return [
                self._memory(f"region{index}_memory", "feature", self.lanes * region.bits,
                             region.chunks * self.bank_rows, False, index, copies=self.banks)
                for index, region in enumerate(self.program.regions)
            ]  # fmt: skip
        return [
            Memory(
                name=f"region{index}_slice{number}_memory", role="feature",
                width=self.lanes * part.bits, depth=region.chunks * part.rows, style=part.style,
                index=index, copies=self.banks,
            )
            for index, region in enumerate(self.program.regions)
            for number, part in enumerate(self.region_plans[index].slices)
        ]  # fmt: skip

    @cached_property
    def memories(self) -> tuple[Memory, ...]:
        """Every memory of the design."""
        rom = self.rom
        capacity = self.capacity
        found = [
            self._memory("weight_memory", "weight", self.lanes * self.weight_bits,
                         self.program.weight_words, rom, copies=self.banks),
        ]  # fmt: skip
        if not self.streamed:
            found.append(
                self._memory("edge_memory", "edge", self.pes * self.edge_record.bits,
                             capacity.edge_words, rom)
            )  # fmt: skip
        found += [
            self._memory(f"table{index}_memory", "table", table.bits, self.rows, rom, index,
                         table.name, self.pes)
            for index, table in enumerate(self.manifest.node_tables)
        ]  # fmt: skip
        if self.channel_width:
            words = self.program.channel_words
            found.append(
                self._memory("channel_memory", "channel", self.channel_width, words, rom)
            )
        if self.attention:
            timing = self.timing
            # Small, many and read every cycle: what they become is left to the synthesis tool.
            found += [
                Memory("exponential_memory", "exponential", self.attention_bits,
                       len(self.attention) << self.table_bits, "auto",
                       copies=self.pes * timing.head_lanes),
                Memory("operand_delay_memory", "delay", self.step_bits, timing.operand_depth,
                       "auto"),
                Memory("result_delay_memory", "delay", self.result_bits, timing.result_depth,
                       "auto"),
            ]  # fmt: skip
        if self.has_agnn:
            found.append(
                Memory("own_memory", "delay", self.lanes * self.cosine_bits,
                       self.slots << address_bits(self.chunks), "auto", copies=self.pes)
            )  # fmt: skip
        if self.activations:
            found.append(
                Memory("activation_memory", "activation", self.activation_bits,
                       len(self.activations) << (self.activation_bits - 1), "auto",
                       copies=self.pes * self.lanes)
            )  # fmt: skip
        if self.inputs_on_chip:
            found.append(
                self._memory("input_memory", "input",
                             self.input_steps * self.pes * self.input_record.bits,
                             -(-capacity.input_words // self.input_steps), rom)
            )  # fmt: skip
        found += self._region_memories()
        final = self.passes[-1]
        code_bits = final.bits
        if self.ordered:
            found.append(
                self._memory("order_memory", "order", address_bits(self.rows * self.pes),
                             capacity.nodes, rom)
            )  # fmt: skip
        if self.collects:
            # Rows end in the order of the schedule or of memory; they leave in the user's.
            found.append(
                self._memory("output_memory", "output", self.lanes * code_bits,
                             final.chunks * self.rows, False, copies=self.pes)
            )  # fmt: skip
        found.append(
            self._memory("output_fifo", "fifo", self.lanes * code_bits + 2,
                         1 << self.fifo_addr_bits, False)
        )  # fmt: skip
        return tuple(found)

    @property
    def chunks(self) -> int:
        """Words of the widest row, of results or of scores."""
        return max(max(step.walk_chunks, step.score_chunks) for step in self.passes)

    @property
    def step_bits(self) -> int:
        """Bits of an operation of all PEs with its operands."""
        chunks = address_bits(self.chunks)
        record = 2 + int(self.pes > 1) + self.value_bits + self.lanes * self.operand_bits
        return 2 + chunks + self.pes * record

    @property
    def operand_bits(self) -> int:
        """Signed container of an operand: a weight or a channel of a feature word."""
        return max(self.weight_bits, self.feature_bits)

    @property
    def result_bits(self) -> int:
        """Bits of the finished words of all PEs, with what goes with them."""
        chunks = address_bits(self.chunks)
        return 1 + chunks + self.pes * (1 + count_bits(self.rows) + self.lanes * self.acc_bits)

    @cached_property
    def constants(self) -> tuple["ConstantField", ...]:
        """The loaded constants of a pass, the lowest bits first."""
        found = [
            ConstantField("shift", "shift", self.shift_bits),
            ConstantField("layer_multiplier", "multiplier", self.multiplier_bits),
        ]
        if self.buckets > 1:
            bits = self.buckets * EXPONENT_BITS
            found.append(ConstantField("exponents", "exponents of the buckets", bits))
        if self.has_addend:
            bits = self.addend_factor_bits
            found.append(ConstantField("addend_factor", "factor of the addend", bits))
        if self.attention:
            bits = count_bits(self.logit_bits)
            found.append(ConstantField("index_shift", "shift of the table's index", bits))
        if self.has_agnn:
            found.append(ConstantField("beta", "factor of the cosine", self.beta_bits))
        return tuple(found)

    @staticmethod
    def _memory(
        name: str, role: str, width: int, depth: int, rom: bool, index: int = 0, table: str = "",
        copies: int = 1,
    ) -> Memory:
        return Memory(name, role, width, depth, memory_style(depth), rom, index, table, copies)

    def memory(self, name: str) -> Memory:
        """Return a memory by its instance name."""
        return next(memory for memory in self.memories if memory.name == name)

    @cached_property
    def targets(self) -> tuple[LoadTarget, ...]:
        """What load packets can fill, in the order in which the packer sends them."""
        if self.rom:
            return ()
        found: list[LoadTarget] = []

        def add(kind: str, index: int, name: str, bits: int, words: int, **more: object) -> None:
            text = str(more.pop("words_text", words))
            found.append(
                LoadTarget(len(found), kind, index, name, bits, words, text, **more)  # type: ignore[arg-type]
            )

        fields = ", then ".join(field.text for field in self.constants)
        bits = sum(field.bits for field in self.constants)
        for step in self.passes:
            add("constants", step.index, f"constants of pass {step.index} ({fields})", bits, 1)
        weight = self.memory("weight_memory")
        add("weights", 0, "weights", weight.width, weight.depth * weight.copies, memory=weight.name)
        if self.channel_width:
            channel = self.memory("channel_memory")
            add("channels", 0, "biases", channel.width, channel.depth, memory=channel.name)
        if self.attention:
            memory = self.memory("exponential_memory")
            add("exponentials", 0, "tables of exponentials", memory.width, memory.depth)
        if self.activations:
            memory = self.memory("activation_memory")
            add("activations", 0, "tables of ELU", memory.width, memory.depth)
        bounds = "bounds of the buckets, " if self.buckets > 1 else ""
        add("graph", 0, f"graph size {{{bounds}edge words[31:0], nodes[31:0]}}",
            32 * (self.buckets + 1), 1)  # fmt: skip
        if self.ordered:
            order = self.memory("order_memory")
            add("order", 0, "place {row, PE} of every node", order.width, 0,
                words_text="nodes of the graph", memory=order.name, follows_graph=True)  # fmt: skip
        if not self.streamed:
            edge = self.memory("edge_memory")
            add("edges", 0, "edge records", edge.width, 0, words_text="edge words of the graph",
                memory=edge.name, follows_graph=True)  # fmt: skip
        for index, table in enumerate(self.manifest.node_tables):
            add("table", index, f"node factors '{table.rule}'", table.bits, 0,
                words_text="nodes of the graph", memory=f"table{index}_memory",
                follows_graph=True)  # fmt: skip
        if self.inputs_on_chip:
            inputs, capacity = self.memory("input_memory"), self.capacity
            add("inputs", 0, "input words" if self.input_steps == 1 else
                f"input words, {self.input_steps} side by side", inputs.width, 0,
                words_text=f"1 to {capacity.input_words}", memory=inputs.name,
                follows_graph=True)  # fmt: skip
        return tuple(found)

    @property
    def serial_bits(self) -> dict[str, int]:
        """Bits of the number of a node and of a channel in unscheduled records."""
        places = self.banks.bit_length() - 1
        channels = -(-self.manifest.input.channels // self.banks)
        return {
            "node": places + address_bits(self.bank_rows),
            "channel": places + address_bits(channels),
        }

    @property
    def serial(self) -> bool:
        """Whether unscheduled inputs and graphs are taken too; one PE needs no schedule."""
        return self.streamed and self.pes > 1 and not self.inputs_on_chip

    @property
    def has_payload(self) -> bool:
        """Whether something comes with every inference: inputs, graph, or both."""
        return self.streamed or not self.inputs_on_chip

    @property
    def edge_word_limit(self) -> int:
        """Edge words of the largest graph; unscheduled, every edge is one."""
        capacity = self.capacity
        return max(capacity.edge_words, capacity.edges) if self.serial else capacity.edge_words

    @property
    def input_steps(self) -> int:
        """Input words side by side in a word of the input memory, a power of two.

        Values of complete rows are narrow: several are loaded, and read, at once.
        """
        if self.sparse_input:
            return 1
        return 1 << max(0, (PACKED_BITS // (self.pes * self.input_record.bits)).bit_length() - 1)

    @property
    def input_word_bits(self) -> int:
        """Bits of a word of the input stream: one record of every PE, of whatever kind it takes."""
        widths = []
        if not (self.inputs_on_chip and self.streamed):
            widths.append(self.pes * self.input_record.bits)
        if self.streamed:
            widths.append(self.pes * self.edge_record.bits)
        if self.serial:
            edge = 0 if self.manifest.edge is None else self.manifest.edge.bits
            widths.append(2 + self.serial_bits["node"] + edge)
            if self.sparse_input:
                value = self.input_record.find("value")
                widths.append(2 + self.serial_bits["channel"] + (value.bits if value else 0))
        return max(widths)

    @property
    def words_per_beat(self) -> int:
        """Input words that one stream beat holds, 1 where a word takes one beat or several."""
        return max(1, self.stream_bits // self.input_word_bits)

    @property
    def beats_per_word(self) -> int:
        """Stream beats of one input word, 1 where a beat holds one word or several."""
        return -(-self.input_word_bits // self.stream_bits)


def largest_index_shift(design: Design, rule: GatAttention | AgnnAttention) -> int:
    """Return the largest shift of a difference of logits that the hardware takes: their width."""
    if isinstance(rule, AgnnAttention):
        return rule.score_bits
    return design.gat_logit_bits


def _check_order(order: tuple[int, ...], capacity: Capacity) -> None:
    """Refuse degree buckets that there are too many of, or no capacities for."""
    if len(order) > MAX_BUCKETS:
        raise InputError(
            f"degree_splits: {len(order)} degree buckets; the hardware has {MAX_BUCKETS}"
        )
    if len(capacity.bucket_nodes) != len(order):
        raise InputError(
            f"--capacity: {len(capacity.bucket_nodes)} buckets; the network has {len(order)}"
        )


def _check_attention(design: Design) -> None:
    """Refuse attention that cannot be built.

    Raises:
        InputError: naming pass or field, and the limit.
    """
    first = design.attention[0].name
    if design.rom:
        raise InputError("--rom: networks with attention are loaded")
    for step, one in zip(design.attention, design.attending, strict=True):
        limit = largest_index_shift(design, one.rule)
        if one.rule.index_shift > limit:
            raise InputError(
                f"layers[{step.layer}].attention.index_shift: {one.rule.index_shift}; at most "
                f"{limit} fits"
            )
    try:
        widest_mean = max(design.mean_bits)
    except BoundError as error:
        raise InputError(f"{first}: {error}") from error
    if widest_mean > MAX_BITS:
        raise InputError(f"{first}: means of {widest_mean} bits; {MAX_BITS} are supported")


def make_design(
    manifest: Manifest,
    *,
    lanes: int,
    capacity: Capacity,
    pes: int = 1,
    stream_bits: int,
    sparse_input: bool = True,
    rom: bool = False,
    streamed: bool = False,
    inputs_on_chip: bool = False,
) -> Design:
    """Size an accelerator.

    Raises:
        InputError: an option outside its range, or a network that cannot be built.
    """
    check_pes(pes)
    if rom and pes > 1:
        raise InputError(f"--rom: with {pes} processing elements; only with --pes 1")
    if rom and streamed:
        raise InputError("--graph streamed: a graph that is baked in (--rom) is not streamed")
    if not 1 <= lanes <= MAX_LANES:
        raise InputError(f"--lanes: {lanes} is outside 1 to {MAX_LANES}")
    if stream_bits not in STREAM_BITS_CHOICES:
        choices = ", ".join(map(str, STREAM_BITS_CHOICES))
        raise InputError(f"--stream-bits: {stream_bits} is none of {choices}")
    for name in ("nodes", "edges", "edge_words", "row_edges", "row_nonzeros"):
        value = getattr(capacity, name)
        if not 1 <= value < 1 << 31:
            raise InputError(f"--capacity: {name}={value} is outside 1 to 2**31 - 1")
    if not sparse_input:
        # A host may stream complete rows without a zero: accumulators are sized for them.
        capacity = replace(capacity, row_nonzeros=manifest.input.channels)
        if inputs_on_chip:
            words = -(-capacity.nodes // pes) * manifest.input.channels
            capacity = replace(capacity, input_words=words)
    if not 0 <= capacity.input_words < 1 << 31 or bool(capacity.input_words) != inputs_on_chip:
        wanted = "outside 1 to 2**31 - 1" if inputs_on_chip else "only with --inputs on-chip"
        raise InputError(f"--capacity: input_words={capacity.input_words}: {wanted}")
    program = lower(manifest, lanes, capacity, num_banks(pes))
    _check_order(program.order, capacity)
    design = Design(
        manifest, pes, lanes, stream_bits, capacity, sparse_input, rom, program, streamed,
        inputs_on_chip,
    )  # fmt: skip
    if streamed and not design.aggregations:
        raise InputError("--graph streamed: no layer of the network reads the graph")
    if design.attention:
        _check_attention(design)
    if design.total_bits > MAX_BITS:
        widest = max(design.passes, key=lambda step: step.bound.accumulator)
        raise InputError(
            f"{widest.name}: with the multipliers and biases of all passes its sums take "
            f"{design.total_bits} bits; {MAX_BITS} are supported"
        )
    return design
