"""The memory cells of each FPGA family, as data: numbers and facts only, no rules.

`LIBMAP` and `BRAM_RULES` hold what Yosys 0.70 decides with, read from the library files in its own
share folder, which a comment names above each group. Of those files only the modes are listed that
can hold a memory with one write port and one independent read port, or a ROM, and that win for
some size. `FORMULA` holds vendor geometry for families that Yosys does not map. A kbit is 1024 bit.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Final, Literal

Kind = Literal["block", "distributed", "huge"]
Use = Literal["any", "ram", "rom"]

LUTRAM: Final = "LUTRAM"
"""Resource name of memory made of LUTs; its unit is one kbit, as in a device's `lutram_kbits`."""


@dataclass(frozen=True, slots=True)
class Primitive:
    """One cell in one mode, with what `memory_libmap` needs to price it.

    Attributes:
        kind: the class that a `ram_style` attribute selects.
        cell: cell name after technology mapping.
        abits: address bits at the narrowest width; each next width has one bit fewer.
        widths: data widths of the mode in bits, ascending.
        cost: the library's price of one cell (dimensionless).
        resource: what the cell takes from a device: a `DeviceMemory.type`, or `LUTRAM`.
        units: how many of that resource one cell takes.
        byte: bits under one write enable; 0 where a whole word shares one.
        widthscale: the part of `cost` that scales with the bits used.
        write_width: the only width of the write port; 0 where it follows the mode.
        chain: cells placed for one use of the mode (2 for a cascaded pair).
        use: "ram" where the cell cannot be given contents, "rom" where it has a single port.
        narrow_cell: cell name for widths below nine, where it differs.
    """

    kind: Kind
    cell: str
    abits: int
    widths: tuple[int, ...]
    cost: int
    resource: str
    units: Fraction = Fraction(1)
    byte: int = 0
    widthscale: int = 0
    write_width: int = 0
    chain: int = 1
    use: Use = "any"
    narrow_cell: str = ""


@dataclass(frozen=True, slots=True)
class Library:
    """What the `memory_libmap` pass knows about a family.

    Attributes:
        primitives: the modes in the order in which Yosys compares them; options of one cell come
            last-declared first, as its containers iterate backwards.
        rom_bit_cost: price of one ROM bit built from LUTs (`-logic-cost-rom`).
        auto_huge: whether huge cells compete without a `ram_style` attribute.
    """

    primitives: tuple[Primitive, ...]
    rom_bit_cost: float = 1 / 16
    auto_huge: bool = False


@dataclass(frozen=True, slots=True)
class Geometry:
    """The shapes that one kind of memory can take.

    Attributes:
        kind: the class that a `ram_style` attribute selects.
        cell: primitive name.
        shapes: (bits per word, words) of each mode.
        resource: as in `Primitive`.
        units: as in `Primitive`.
        use: as in `Primitive`.
        min_efficiency: least used share of the cells in percent, for rules that have one.
    """

    kind: Kind
    cell: str
    shapes: tuple[tuple[int, int], ...]
    resource: str
    units: Fraction = Fraction(1)
    use: Use = "any"
    min_efficiency: int = 0


_HALF = Fraction(1, 2)
_64_BITS = Fraction(64, 1024)
_256_BITS = Fraction(256, 1024)
_512_BITS = Fraction(512, 1024)


def _lutram(
    cell: str, abits: int, width: int, *, cost: int, units: Fraction, widthscale: int = 0
) -> Primitive:
    """Return a LUT-RAM mode: one width, writable, never a ROM (`prune_rom`)."""
    return Primitive(
        kind="distributed",
        cell=cell,
        abits=abits,
        widths=(width,),
        cost=cost,
        resource=LUTRAM,
        units=units,
        widthscale=widthscale,
        use="ram",
    )


def _xilinx_blocks(generation: str, *, cascade: bool) -> tuple[Primitive, ...]:
    """Return true and simple dual-port block RAM; a RAMB18 is half of a RAMB36."""
    half, full = f"RAMB18{generation}", f"RAMB36{generation}"
    to_18, to_36, to_72 = (1, 2, 4, 9, 18), (1, 2, 4, 9, 18, 36), (1, 2, 4, 9, 18, 36, 72)
    pair = Primitive("block", full, 16, (1,), 513, full, byte=9, chain=2)
    return (
        *([pair] if cascade else []),
        Primitive("block", full, 15, to_36, 257, full, byte=9),
        Primitive("block", half, 14, to_18, 129, full, _HALF, byte=9),
        Primitive("block", full, 15, to_72, 257, full, byte=9),
        Primitive("block", half, 14, to_36, 129, full, _HALF, byte=9),
    )


# xilinx/lutrams_xc5v.txt, then xilinx/brams_xc4v.txt with HAS_SIZE_36, HAS_CASCADE and
# HAS_MIXWIDTH_SDP. RAM128X1D and the x4 mode of RAM32M win for one-bit memories only.
_XC7 = (
    _lutram("RAM128X1D", 7, 1, cost=8, units=_256_BITS, widthscale=8),
    _lutram("RAM32M", 5, 4, cost=8, units=_256_BITS, widthscale=8),
    _lutram("RAM64M", 6, 3, cost=8, units=_256_BITS, widthscale=7),
    _lutram("RAM32M", 5, 6, cost=8, units=_256_BITS, widthscale=7),
    *_xilinx_blocks("E1", cascade=True),
)

# xilinx/lutrams_xcu.txt, xilinx/brams_xc4v.txt without HAS_CASCADE, xilinx/urams.txt (`-uram`;
# contents zero only, one mode per BYTEWIDTH).
_XCUP = (
    _lutram("RAM64M8", 6, 7, cost=16, units=_512_BITS, widthscale=16),
    _lutram("RAM32M16", 5, 14, cost=16, units=_512_BITS, widthscale=16),
    *_xilinx_blocks("E2", cascade=False),
    Primitive("huge", "URAM288", 12, (72,), 1024, "URAM288", byte=9, use="ram"),
    Primitive("huge", "URAM288", 12, (72,), 1024, "URAM288", byte=8, use="ram"),
)

# lattice/lutrams_trellis.txt, then lattice/brams_16kd.txt.
_ECP5 = (
    _lutram("TRELLIS_DPR16X4", 4, 4, cost=4, units=_64_BITS),
    Primitive("block", "DP16KD", 14, (1, 2, 4, 9, 18), 128, "EBR18K", byte=9),
    Primitive("block", "DP16KD", 14, (1, 2, 4, 9, 18, 36), 128, "EBR18K", byte=9, write_width=36),
)

# lattice/lutrams_nexus.txt, lattice/brams_nexus.txt (SAME_CLOCK 1), lattice/lrams_nexus.txt.
_NEXUS = (
    _lutram("DPR16X4", 4, 4, cost=4, units=_64_BITS),
    Primitive("block", "PDPSC16K", 14, (1, 2, 4, 9, 18, 36), 128, "EBR18K", byte=9),
    Primitive("huge", "DPSC512K", 14, (32,), 2048, "LRAM512K", byte=8),
)

# ice40/brams.txt, HAS_BE 1. The SPRAM of ice40/spram.txt has one address port, so it cannot hold a
# memory that is read and written at independent addresses.
_ICE40 = (Primitive("block", "SB_RAM40_4K", 11, (2, 4, 8, 16), 64, "EBR4K", byte=1),)


def _gowin_block(
    cell: str, narrow_cell: str, widths: tuple[int, ...], use: Use = "any"
) -> Primitive:
    return Primitive(
        "block", cell, 14, widths, 128, "BSRAM18K", byte=9, use=use, narrow_cell=narrow_cell
    )


# gowin/lutrams.txt, then gowin/brams.txt.
_GOWIN = (
    _lutram("RAM16SDP4", 4, 4, cost=4, units=_64_BITS, widthscale=4),
    _gowin_block("SPX9", "SP", (1, 2, 4, 9, 18, 36), use="rom"),
    _gowin_block("DPX9B", "DPB", (1, 2, 4, 9, 18)),
    _gowin_block("SDPX9B", "SDPB", (1, 2, 4, 9, 18, 36)),
)

# efinix/brams.txt.
_EFINIX = (Primitive("block", "EFX_RAM_5K", 12, (1, 2, 5, 10, 20), 32, "EFX_RAM_5K"),)


def _lsram(abits: int, widths: tuple[int, ...], byte: int, write_width: int = 0) -> Primitive:
    return Primitive(
        "block", "RAM1K20", abits, widths, 129, "LSRAM20K", byte=byte, write_width=write_width
    )


# microchip/LSRAM.txt, two-port modes last; then microchip/uSRAM.txt, synchronous read.
_POLARFIRE = (
    _lsram(12, (5, 10, 20), byte=10),
    _lsram(14, (1, 2, 4, 8, 16), byte=8),
    _lsram(12, (5, 10, 20, 40), byte=10, write_width=40),
    _lsram(14, (1, 2, 4, 8, 16, 32), byte=8, write_width=32),
    Primitive("block", "RAM64x12", 6, (12,), 42, "uSRAM64x12"),
)


def _gatemate_block(
    cell: str, abits: int, widths: tuple[int, ...], cost: int, chain: int = 1
) -> Primitive:
    units = _HALF if cell.endswith("20K") else Fraction(1)
    return Primitive("block", cell, abits, widths, cost, "CC_BRAM_40K", units, byte=1, chain=chain)


# gatemate/brams.txt; a CC_BRAM_20K is half of a CC_BRAM_40K.
_GATEMATE = (
    _gatemate_block("CC_BRAM_40K", 16, (1,), 513, chain=2),
    _gatemate_block("CC_BRAM_40K", 15, (1, 2, 5, 10, 20, 40), 257),
    _gatemate_block("CC_BRAM_20K", 14, (1, 2, 5, 10, 20), 129),
    _gatemate_block("CC_BRAM_40K", 15, (1, 2, 5, 10, 20, 40, 80), 257),
    _gatemate_block("CC_BRAM_20K", 14, (1, 2, 5, 10, 20, 40), 129),
)

LIBMAP: Final[Mapping[str, Library]] = {
    "ecp5": Library(_ECP5),
    "efinix": Library(_EFINIX),
    "gatemate": Library(_GATEMATE),
    "gowin": Library(_GOWIN),
    "ice40": Library(_ICE40),
    "nexus": Library(_NEXUS),
    "polarfire": Library(_POLARFIRE, rom_bit_cost=1 / 64),
    "xc7": Library(_XC7, rom_bit_cost=1 / 64),
    "xcup": Library(_XCUP, rom_bit_cost=1 / 64),
    "xcup_uram": Library(_XCUP, rom_bit_cost=1 / 64, auto_huge=True),
}
"""Families mapped by `memory_libmap`. `xcup_uram` is `xcup` with URAM open to automatic choice."""

# intel_alm/common/bram_m10k.txt, then intel_alm/common/lutram_mlab.txt.
_M10K = Geometry(
    kind="block",
    cell="MISTRAL_M10K",
    shapes=((1, 8192), (2, 4096), (5, 2048), (10, 1024), (20, 512), (40, 256)),
    resource="M10K",
    min_efficiency=5,
)
_CYCLONEV_MLAB = Geometry(
    kind="distributed",
    cell="MISTRAL_MLAB",
    shapes=((1, 32),),
    resource=LUTRAM,
    units=Fraction(32, 1024),
    use="ram",
    min_efficiency=5,
)

BRAM_RULES: Final[Mapping[str, tuple[Geometry, ...]]] = {"cyclonev": (_M10K, _CYCLONEV_MLAB)}
"""Families mapped by the older `memory_bram` pass, which tries the rules in this order."""

# AMD UG1273: blocks without the x1, x2 and x4 modes; LUT-RAM as on UltraScale+, 8 LUT6 a cell.
# Contents of huge memories are loaded at run time, as on UltraScale+.
_VERSAL = (
    Geometry("block", "RAMB18E5", ((36, 512), (18, 1024), (9, 2048)), "RAMB36E5", _HALF),
    Geometry("distributed", "RAM64M8", ((14, 32), (7, 64)), LUTRAM, _512_BITS, use="ram"),
    Geometry(
        kind="huge",
        cell="URAM288E5",
        shapes=((72, 4096), (36, 8192), (18, 16384), (9, 32768)),
        resource="URAM288E5",
        use="ram",
    ),
)

# Intel M9K (Cyclone 10 LP and MAX 10), parity bits used as data.
_M9K = Geometry(
    kind="block",
    cell="M9K",
    shapes=((36, 256), (18, 512), (9, 1024), (4, 2048), (2, 4096), (1, 8192)),
    resource="M9K",
)

# Intel 683485 (Arria 10); Stratix 10 lacks the x1, x2 and x5 modes (recalled).
_M20K_WIDE = ((40, 512), (20, 1024), (10, 2048))
_M20K_NARROW = ((5, 4096), (2, 8192), (1, 16384))
_MLAB = Geometry("distributed", "MLAB", ((20, 32),), LUTRAM, Fraction(640, 1024), use="ram")

# Efinix Titanium primitives; the widest mode has 20 bits (recalled).
_EFX_RAM10 = Geometry(
    kind="block",
    cell="EFX_RAM10",
    shapes=((20, 512), (10, 1024), (5, 2048), (2, 4096), (1, 8192)),
    resource="EFX_RAM10",
)

FORMULA: Final[Mapping[str, tuple[Geometry, ...]]] = {
    "arria10": (Geometry("block", "M20K", _M20K_WIDE + _M20K_NARROW, "M20K"), _MLAB),
    "m9k": (_M9K,),
    "stratix10": (Geometry("block", "M20K", _M20K_WIDE, "M20K"), _MLAB),
    "titanium": (_EFX_RAM10,),
    "versal": _VERSAL,
}
"""Families without a usable Yosys mapping, priced by the best single shape."""
