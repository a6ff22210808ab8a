"""The register and counter map of the AXI4-Lite interface."""

from dataclasses import dataclass

from sgq_hw.design import Design

IDENTITY = 0x53475148  # "SGQH"
MAP_VERSION = 1
CONTROL_ADDRESS = 0x08
COUNTER_BASE = 0x80


@dataclass(frozen=True, slots=True)
class Register:
    """One 32-bit register: byte address, name, `RO` or `WO`, meaning, and what drives it."""

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


def register_map(design: Design) -> tuple[Register, ...]:
    """Return the registers of a design, lowest address first."""

    def constant(value: int) -> str:
        return f"32'd{value}"

    capacity = design.capacity
    return (
        Register(0x00, "ID", "RO", f"0x{IDENTITY:08X}", f"32'h{IDENTITY:08X}"),
        Register(0x04, "VERSION", "RO", "version of this map", constant(MAP_VERSION)),
        Register(CONTROL_ADDRESS, "CONTROL", "WO", "bit 0 clears the error, bit 1 the counters",
                 ""),
        Register(0x0C, "STATUS", "RO", "bit 0 busy, bit 1 loaded, bit 2 error",
                 "{29'd0, error, loaded, busy}"),
        Register(0x10, "ERROR", "RO", "sticky error code", "{28'd0, error_code}"),
        Register(0x14, "PES", "RO", "processing elements", constant(design.pes)),
        Register(0x18, "LANES", "RO", "lanes of each", constant(design.lanes)),
        Register(0x1C, "STREAM_BITS", "RO", "bits of a beat", constant(design.stream_bits)),
        Register(0x20, "PASSES", "RO", "passes of the network", constant(len(design.passes))),
        Register(0x24, "NODE_CAPACITY", "RO", "nodes that fit", constant(capacity.nodes)),
        Register(0x28, "EDGE_CAPACITY", "RO", "edge records that fit", constant(capacity.edges)),
        Register(0x2C, "NODES", "RO", "nodes of the loaded graph", "nodes_wide"),
        Register(0x30, "EDGES", "RO", "edge records of the loaded graph", "num_records"),
    )  # fmt: skip
