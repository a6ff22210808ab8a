"""How many memory cells a memory takes, and whether a design's memories fit a device."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Final, Literal

from sgq_hw.cost.devices import Device
from sgq_hw.cost.memory_rules import Choice, Style, bram, formula, libmap, serves
from sgq_hw.cost.primitives import BRAM_RULES, FORMULA, LIBMAP, LUTRAM, Geometry, Kind, Primitive
from sgq_hw.errors import InputError

FAMILIES: Final = tuple(sorted([*LIBMAP, *BRAM_RULES, *FORMULA]))
"""Family names that `map_memory` knows."""

# Yosys counts bits in a 32-bit signed int.
_MAX_BITS: Final = 2**31 - 1

_FAMILY_OF: Final[Mapping[str, str]] = {
    "Alveo": "xcup",
    "Arria 10": "arria10",
    "Artix-7": "xc7",
    "Cyclone 10 LP": "m9k",
    "Cyclone V SoC": "cyclonev",
    "ECP5": "ecp5",
    "Efinix Titanium": "titanium",
    "Efinix Trion": "efinix",
    "GateMate": "gatemate",
    "Gowin Arora": "gowin",
    "Gowin Arora V": "gowin",
    "Gowin LittleBee": "gowin",
    "Kintex-7": "xc7",
    "Kria K26": "xcup",
    "MAX 10": "m9k",
    "Nexus": "nexus",
    "PolarFire": "polarfire",
    "PolarFire SoC": "polarfire",
    "Spartan-7": "xc7",
    "Stratix 10": "stratix10",
    "Versal AI Core": "versal",
    "Virtex-7": "xc7",
    "Zynq UltraScale+": "xcup",
    "Zynq-7000": "xc7",
    "iCE40": "ice40",
    "iCE40UP": "ice40",
}


@dataclass(frozen=True, slots=True)
class MemoryMapping:
    """The cells of one memory.

    Attributes:
        family: mapper family, one of `FAMILIES`.
        kind: what the memory is made of; "logic" means registers, or LUTs for a ROM.
        cell: primitive name; empty for logic. RAM16SDP4 also stands for the RAM16SDP1 and
            RAM16SDP2 that Gowin's flow places for a last one or two bits.
        count: cells placed; 0 for logic.
        banks: cells behind one another in depth; above 1 the read data pass a multiplexer.
        resource_type: device resource taken, a `DeviceMemory.type` or "LUTRAM"; empty for logic.
        units: amount of that resource: for block and huge memory in the device's own units (a
            RAMB18 is half a RAMB36), for "LUTRAM" in kbit (1024 bit).
        basis: "yosys" where the rule is that of Yosys 0.70 and checked against it, else "formula".
    """

    family: str
    kind: Literal["block", "distributed", "huge", "logic"]
    cell: str
    count: int
    banks: int
    resource_type: str
    units: Fraction
    basis: Literal["yosys", "formula"]

    @property
    def blocks(self) -> Fraction:
        """Block RAM that it takes, in the family's unit; 0 if it lies elsewhere."""
        own = self.resource_type == block_resource(self.family)
        return self.units if own else Fraction(0)


def family_of(device: Device) -> str:
    """Return the mapper family of a device.

    UltraScale+ parts are "xcup" whether they have URAM or not: huge memory is taken on request.

    Raises:
        InputError: the device's family has no memory rules.
    """
    try:
        return _FAMILY_OF[device.family]
    except KeyError:
        raise InputError(f"{device.part}: no memory rules for family {device.family}") from None


def has_kind(family: str, kind: Kind, *, rom: bool = False) -> bool:
    """Return whether a family of `FAMILIES` has cells of a kind that can hold such a memory."""
    return any(cell.kind == kind and serves(cell.use, rom=rom) for cell in _cells(family))


def block_resource(family: str) -> str:
    """Return the resource of a family's ordinary block RAM, the first that a device lists.

    A smaller kind of block besides it, as the uSRAM of PolarFire, has a resource of its own.
    """
    return next(cell.resource for cell in _cells(family) if cell.kind == "block")


def _cells(family: str) -> Sequence[Primitive | Geometry]:
    if family in LIBMAP:
        return LIBMAP[family].primitives
    return (*BRAM_RULES.get(family, ()), *FORMULA.get(family, ()))


def map_memory(
    width: int, depth: int, family: str, *, rom: bool = False, style: Style = "auto"
) -> MemoryMapping:
    """Map a memory of `depth` words of `width` bits to cells.

    The memory has one write port with one enable, one registered read port, one clock, and the
    attribute `no_rw_check`; a ROM lacks the write port and has no constant bit column, which Yosys
    would drop. `style` is its `ram_style` attribute, which Yosys ignores on Cyclone V. "xcup_uram"
    is "xcup" under the option `-uram` of `synth_xilinx`, which opens URAM to automatic choice.

    Raises:
        InputError: unknown family, a size outside 1 .. 2**31 - 1 bits, or a style that the family
            has no cell for.
    """
    if family not in FAMILIES:
        raise InputError(f"family {family}: unknown, one of {', '.join(FAMILIES)} expected")
    if width < 1 or depth < 1 or width * depth > _MAX_BITS:
        raise InputError(f"memory {width}x{depth}: size outside 1 to {_MAX_BITS} bits")
    basis: Literal["yosys", "formula"] = "formula" if family in FORMULA else "yosys"
    choice: Choice | None
    if family in BRAM_RULES:
        choice = bram(BRAM_RULES[family], width, depth, rom=rom)
    elif style != "auto" and not has_kind(family, style, rom=rom):
        what = "a ROM" if rom else "a memory with separate read and write addresses"
        raise InputError(f"family {family}: no {style} memory cell can hold {what}")
    elif family in LIBMAP:
        choice = libmap(LIBMAP[family], width, depth, rom=rom, style=style)
    else:
        choice = formula(FORMULA[family], width, depth, rom=rom, style=style)
    if choice is None:
        return MemoryMapping(family, "logic", "", 0, 1, "", Fraction(0), basis)
    return MemoryMapping(
        family=family,
        kind=choice.kind,
        cell=choice.cell,
        count=choice.count,
        banks=choice.banks,
        resource_type=choice.resource,
        units=choice.units,
        basis=basis,
    )


@dataclass(frozen=True, slots=True)
class MemoryRequest:
    """One memory of a design: `depth` words of `width` bits, as `map_memory` takes them."""

    name: str
    width: int
    depth: int
    rom: bool = False
    style: Style = "auto"


@dataclass(frozen=True, slots=True)
class ResourceUse:
    """How much of one device resource the memories take.

    Attributes:
        resource: a `DeviceMemory.type`, "LUTRAM" (in kbit of 1024 bit) or "FF" (flip-flops).
        used: amount taken, in the device's own units; half a block where a block divides.
        available: amount on the device; None where `devices.json` has no figure.
    """

    resource: str
    used: Fraction
    available: Fraction | None


@dataclass(frozen=True, slots=True)
class FitResult:
    """Whether the memories of a design fit a device.

    Attributes:
        device: part number.
        fits: no resource of known amount is exceeded.
        block_ram_used: ordinary block RAM taken, in blocks; a half where a block divides.
        block_ram_available: ordinary block RAM of the device, in blocks.
        lutram_used: LUT-RAM taken, in kbit (1024 bit).
        lutram_available: LUT-RAM of the device in kbit; None where it has none, or no figure.
        resources: these and every other memory resource of the device, and its flip-flops.
        runs_out_first: resource with the highest used share, the first to run out as the design
            grows, or the one most exceeded; None where no memory takes any.
        mappings: name and cells of each memory, in the order given.
        moved: names of the memories moved to huge memory because block RAM ran out; their
            `ram_style` must be "huge" for the synthesis to agree.
    """

    device: str
    fits: bool
    block_ram_used: Fraction
    block_ram_available: int
    lutram_used: Fraction
    lutram_available: Fraction | None
    resources: tuple[ResourceUse, ...]
    runs_out_first: str | None
    mappings: tuple[tuple[str, MemoryMapping], ...]
    moved: tuple[str, ...]


def fit(memories: Sequence[MemoryRequest], device: Device) -> FitResult:
    """Map all memories to a device's cells and compare with what it has.

    Each memory is mapped on its own, as Yosys does. Where block RAM then runs out, memories of
    style "auto" and "block" move to huge memory (URAM, LRAM) one by one while it lasts, those
    first that free the most blocks per huge cell, ties in the order given, until block RAM
    suffices. LUTs that hold a ROM are logic and not counted here.

    Raises:
        InputError: from `family_of` and `map_memory`.
    """
    family = family_of(device)
    mappings = [_map(request, family, request.style) for request in memories]
    moved = _move_to_huge(memories, mappings, family, device)
    resources = _resource_use(memories, mappings, device)
    shares = [(_share(use), use.resource) for use in resources if use.used]
    highest = max((share for share, _ in shares), default=None)
    block = device.memories[0]
    lutram = next(use for use in resources if use.resource == LUTRAM)
    return FitResult(
        device=device.part,
        fits=all(use.available is None or use.used <= use.available for use in resources),
        block_ram_used=_total(mappings, block.type),
        block_ram_available=block.count,
        lutram_used=lutram.used,
        lutram_available=lutram.available,
        resources=resources,
        runs_out_first=next((name for share, name in shares if share == highest), None),
        mappings=tuple(
            (request.name, mapping) for request, mapping in zip(memories, mappings, strict=True)
        ),
        moved=moved,
    )


def _map(request: MemoryRequest, family: str, style: Style) -> MemoryMapping:
    return map_memory(request.width, request.depth, family, rom=request.rom, style=style)


def _move_to_huge(
    memories: Sequence[MemoryRequest],
    mappings: list[MemoryMapping],
    family: str,
    device: Device,
) -> tuple[str, ...]:
    """Replace entries of `mappings` until block RAM suffices or huge memory is used up."""
    block, *others = device.memories
    room = {memory.type: Fraction(memory.count) for memory in others}
    for mapping in mappings:
        if mapping.resource_type in room:
            room[mapping.resource_type] -= mapping.units
    excess = _total(mappings, block.type) - block.count
    moves = []
    for index, request in enumerate(memories):
        if (
            mappings[index].resource_type == block.type
            and request.style in ("auto", "block")
            and has_kind(family, "huge", rom=request.rom)
        ):
            huge = _map(request, family, "huge")
            moves.append((-mappings[index].units / huge.units, index, huge))
    chosen = []
    for _, index, huge in sorted(moves, key=lambda move: move[:2]):
        if excess <= 0:
            break
        if huge.units <= room.get(huge.resource_type, 0):
            room[huge.resource_type] -= huge.units
            excess -= mappings[index].units
            mappings[index] = huge
            chosen.append(index)
    return tuple(memories[index].name for index in sorted(chosen))


def _resource_use(
    memories: Sequence[MemoryRequest], mappings: Sequence[MemoryMapping], device: Device
) -> tuple[ResourceUse, ...]:
    """Sum up what the mappings take, also of resources that the device lacks."""
    available: dict[str, Fraction | None] = {
        memory.type: Fraction(memory.count) for memory in device.memories
    }
    kbits = device.lutram_kbits
    available[LUTRAM] = None if kbits is None else Fraction(kbits)
    for mapping in mappings:
        if mapping.resource_type:
            available.setdefault(mapping.resource_type, Fraction(0))
    uses = [ResourceUse(name, _total(mappings, name), amount) for name, amount in available.items()]
    registers = sum(
        request.width * request.depth
        for request, mapping in zip(memories, mappings, strict=True)
        if mapping.kind == "logic" and not request.rom
    )
    return (*uses, ResourceUse("FF", Fraction(registers), Fraction(device.ffs)))


def _total(mappings: Sequence[MemoryMapping], resource: str) -> Fraction:
    return sum((m.units for m in mappings if m.resource_type == resource), Fraction(0))


def _share(use: ResourceUse) -> float:
    """Return the used share; 0 where the amount available is not known."""
    if use.available is None:
        return 0.0
    return float(use.used / use.available) if use.available else math.inf
