"""The register and counter map of the AXI4-Lite interface."""

from dataclasses import dataclass

from sgq_hw.design import ERRORS, Design
from sgq_hw.host import IDENTITY

MAP_VERSION = 2
CONTROL_ADDRESS = 0x08
IRQ_ENABLE_ADDRESS = 0x34
IRQ_STATUS_ADDRESS = 0x38
COUNTER_BASE = 0x80


@dataclass(frozen=True, slots=True)
class Register:
    """One 32-bit register: byte address, name, access, meaning, and what drives it."""

    address: int
    name: str
    access: str
    text: str
    expression: str


@dataclass(frozen=True, slots=True)
class Counter:
    """One 64-bit counter at `COUNTER_BASE + 8 * position`."""

    name: str
    text: str


COUNTERS = (
    Counter("cycles", "cycles in which an inference was under way"),
    Counter("inferences", "finished inferences"),
    Counter("load_cycles", "cycles spent on load packets"),
    Counter("busy_slots", "slots that multiplied and accumulated"),
    Counter("lost_bank_conflict", "slots lost to two reads of one bank"),
    Counter("lost_row_imbalance", "slots lost to idle records and empty rows"),
    Counter("lost_lane_padding", "slots lost to lanes without a channel"),
    Counter("lost_fill_drain", "slots lost to filling and draining the pipeline"),
    Counter("lost_input_stall", "slots lost waiting for the input stream"),
    Counter("lost_output_stall", "slots lost waiting for the output stream"),
)


REGISTERS = (
    (0x00, "ID", "RO", f"0x{IDENTITY:08X}"),
    (0x04, "VERSION", "RO", "version of this map"),
    (CONTROL_ADDRESS, "CONTROL", "WO", "bit 0 clears the error, bit 1 the counters"),
    (0x0C, "STATUS", "RO", "bit 0 busy, bit 1 loaded, bit 2 error"),
    (0x10, "ERROR", "RO", "sticky error code"),
    (0x14, "PES", "RO", "processing elements"),
    (0x18, "LANES", "RO", "lanes of each"),
    (0x1C, "STREAM_BITS", "RO", "bits of a beat"),
    (0x20, "PASSES", "RO", "passes of the network"),
    (0x24, "NODE_CAPACITY", "RO", "nodes that fit"),
    (0x28, "EDGE_CAPACITY", "RO", "edge words that fit"),
    (0x2C, "NODES", "RO", "nodes of the loaded graph"),
    (0x30, "EDGES", "RO", "edge words of the loaded graph"),
    (IRQ_ENABLE_ADDRESS, "IRQ_ENABLE", "RW", "bits of IRQ_STATUS that raise irq"),
    (
        IRQ_STATUS_ADDRESS,
        "IRQ_STATUS",
        "RW1C",
        "bit 0 the last beat of a result packet was taken, bit 1 an error came; writing 1 clears",
    ),
)


BIT_NAMES = {
    "CONTROL": ("CLEAR_ERROR", "CLEAR_COUNTERS"),
    "STATUS": ("BUSY", "LOADED", "ERROR"),
    "IRQ_ENABLE": ("RESULT", "ERROR"),
    "IRQ_STATUS": ("RESULT", "ERROR"),
}
"""Bits of the registers that have some, lowest first."""


def constant_values(design: Design) -> dict[str, int]:
    """Return what the registers read that never change."""
    return {
        "ID": IDENTITY,
        "VERSION": MAP_VERSION,
        "PES": design.pes,
        "LANES": design.lanes,
        "STREAM_BITS": design.stream_bits,
        "PASSES": len(design.passes),
        "NODE_CAPACITY": design.capacity.nodes,
        "EDGE_CAPACITY": design.capacity.edge_words,
    }


def register_map(design: Design) -> tuple[Register, ...]:
    """Return the registers of a design, lowest address first."""
    expressions = {name: f"32'd{value}" for name, value in constant_values(design).items()} | {
        "ID": f"32'h{IDENTITY:08X}",
        "STATUS": "{29'd0, error, loaded, busy}",
        "ERROR": "{28'd0, error_code}",
        "NODES": "nodes_wide",
        "EDGES": "num_records",
        "IRQ_ENABLE": "{30'd0, irq_enable_reg}",
        "IRQ_STATUS": "{30'd0, irq_status_reg}",
    }
    return tuple(Register(*entry, expressions.get(entry[1], "")) for entry in REGISTERS)


def markdown() -> str:
    """Return the register reference, `docs/registers.md`."""
    lines = [
        "# Registers",
        "",
        "AXI4-Lite, 32-bit words, 8 address bits of which the low two do not matter. Unknown",
        "addresses read as zero.",
        "",
        "| address | name | access | meaning |",
        "|---|---|---|---|",
        *(f"| 0x{at:02X} | {name} | {access} | {text} |" for at, name, access, text in REGISTERS),
        "",
        "## Counters",
        "",
        "64 bits each, low word first; reading the low word freezes the high one. Busy and lost",
        "slots add up to PES x LANES x cycles.",
        "",
        "| address | name | meaning |",
        "|---|---|---|",
        *(
            f"| 0x{COUNTER_BASE + 8 * index:02X} | {counter.name} | {counter.text} |"
            for index, counter in enumerate(COUNTERS)
        ),
        "",
        "## Error codes",
        "",
        "| code | name | meaning |",
        "|---|---|---|",
        *(f"| {code} | {name} | {ERROR_TEXTS[name]} |" for name, code in ERRORS.items()),
        "",
    ]
    return "\n".join(lines)


ERROR_TEXTS = {
    "ERR_GRAPH": "inputs packed for another graph than the loaded one",
    "ERR_OWN": "a row that does not begin with its own node, which AGNN needs",
    "ERR_NONE": "no error",
    "ERR_HEADER": "unknown packet type or index",
    "ERR_CAPACITY": "a graph, or inputs to be kept on chip, larger than the hardware",
    "ERR_EARLY_TLAST": "a packet ended before its last word",
    "ERR_LATE_TLAST": "a packet went on after its last word",
    "ERR_INDEX": "a node or feature index out of range",
    "ERR_ROW_COUNT": "another number of rows than the graph has nodes",
    "ERR_ROW_LENGTH": "more entries in a row than the accumulators are sized for",
    "ERR_NOT_LOADED": "an inference before every memory was loaded",
    "ERR_WORD_COUNT": "a packet with another number of words than its target takes, or none",
    "ERR_BANK": "two processing elements read different words of a bank in one cycle",
    "ERR_SLOT": "a record for an open row that cannot be, or rows closed out of order",
    "ERR_KEEP": "a beat with a byte missing in TKEEP",
}
