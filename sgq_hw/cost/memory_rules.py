"""How a memory is cut into cells: two rules of Yosys 0.70, and a formula for other families.

All rules are for a memory with one write port under one enable, one registered read port with its
own address and enable, one clock, and no promise about reading a word while it is written
(`no_rw_check`); or for a ROM with that read port and no write port.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from sgq_hw.cost.primitives import Geometry, Kind, Library, Primitive, Use

Style = Literal["auto", "block", "distributed", "huge"]

# memory_libmap.cc prices half a unit per input of the multiplexers and demultiplexers between
# banks, and two per point of emulated port logic, of which an unshared read port counts one.
_MUX = 0.5
_DEMUX = 0.5
_READ_PORT = 2.0

# Below this a formula family builds an automatic memory from LUTs, as fpgaConvNet assumes.
_FORMULA_LUTRAM_BITS = 1024


@dataclass(frozen=True, slots=True)
class Choice:
    """The cells picked for one memory.

    Attributes:
        kind: class of the cells.
        cell: primitive name.
        count: cells placed.
        banks: rows of cells behind one another, between which the read data are multiplexed.
        resource: device resource taken.
        units: how many of that resource all cells take together.
    """

    kind: Kind
    cell: str
    count: int
    banks: int
    resource: str
    units: Fraction


def serves(use: Use, *, rom: bool) -> bool:
    """Return whether a cell of this use can hold a ROM, or else a writable memory."""
    return use in ("any", "rom" if rom else "ram")


def libmap(library: Library, width: int, depth: int, *, rom: bool, style: Style) -> Choice | None:
    """Pick cells as the `memory_libmap` pass does; None leaves the memory to LUTs and registers.

    A `style` other than "auto" must name a kind of which some cell can hold the memory.
    """
    best_of_kind: dict[Kind, _Priced] = {}
    for primitive in library.primitives:
        kind = primitive.kind
        if style == "auto":
            wanted = kind != "huge" or library.auto_huge
        else:
            wanted = kind == style
        if not wanted or not serves(primitive.use, rom=rom):
            continue
        priced = _price(primitive, width, depth, rom=rom)
        if kind not in best_of_kind or priced.price < best_of_kind[kind].price:
            best_of_kind[kind] = priced
    if style != "auto":
        return best_of_kind[style].choice()
    # The best price so far is an int in Yosys: a later kind must beat the truncated price.
    limit = int(width * depth * (library.rom_bit_cost if rom else 1.0))
    best = None
    for priced in best_of_kind.values():
        if priced.price < limit:
            limit, best = int(priced.price), priced
    return best.choice() if best else None


@dataclass(frozen=True, slots=True)
class _Priced:
    """The best base width of one mode: its price, and the cells it takes."""

    price: float
    primitive: Primitive
    base: int
    count: int
    banks: int

    def choice(self) -> Choice:
        narrow = self.primitive.narrow_cell if self.base < 9 else ""
        placed = self.count * self.primitive.chain
        return Choice(
            kind=self.primitive.kind,
            cell=narrow or self.primitive.cell,
            count=placed,
            banks=self.banks,
            resource=self.primitive.resource,
            units=placed * self.primitive.units,
        )


def _price(primitive: Primitive, width: int, depth: int, *, rom: bool) -> _Priced:
    best: _Priced | None = None
    limit = 0
    for index, base in enumerate(primitive.widths):
        # A write port of fixed width reaches narrower words through its write enables only.
        if not rom and base < min(primitive.write_width, primitive.byte):
            continue
        banks = -(-depth // (1 << (primitive.abits - index)))
        # Words of several banks lie side by side in a cell, each padded to whole write enables.
        grain = 1 if rom else min(primitive.byte or base, base)
        count = -(-banks * (-(-width // grain) * grain) // base)
        # The same terms in the same order as Yosys, so that rounding agrees to the last bit.
        price = float((primitive.cost - primitive.widthscale) * count)
        price += primitive.widthscale * banks * width / base
        price += (banks - 1) * width * _MUX
        price += (banks if banks > 1 and not rom else 0) * _DEMUX
        price += _READ_PORT
        # Here too the best price so far is an int in Yosys.
        if best is None or price < limit:
            limit = int(price)
            best = _Priced(price, primitive, base, count, banks)
    assert best is not None  # no mode excludes its widest word
    return best


def bram(rules: Sequence[Geometry], width: int, depth: int, *, rom: bool) -> Choice | None:
    """Pick cells as the `memory_bram` pass does; it ignores `ram_style`.

    The first rule with a shape of sufficient efficiency wins; among its shapes the one with the
    highest efficiency in whole percent, then the fewest cells, then the fewest banks. (Yosys itself
    overflows above 21 Mbit, more than any part mapped this way holds.)
    """
    for rule in rules:
        if not serves(rule.use, rom=rom):
            continue
        ranked = []
        for shape, columns, banks in _grids(rule, width, depth):
            efficiency = 100 * width * depth // (columns * banks * shape[0] * shape[1])
            if efficiency >= rule.min_efficiency:
                ranked.append((-efficiency, columns * banks, banks))
        if ranked:
            _, count, banks = min(ranked)
            return _chosen(rule, count, banks)
    return None


def formula(
    geometries: Sequence[Geometry], width: int, depth: int, *, rom: bool, style: Style
) -> Choice:
    """Pick the single shape with the fewest cells, then the fewest banks.

    Automatic memories below 1024 bit take LUT-RAM where there is any, all others block RAM. A
    `style` other than "auto" must name a kind of which some cell can hold the memory.
    """
    usable = {g.kind: g for g in geometries if serves(g.use, rom=rom)}
    if style != "auto":
        geometry = usable[style]
    elif width * depth < _FORMULA_LUTRAM_BITS and "distributed" in usable:
        geometry = usable["distributed"]
    else:
        geometry = usable["block"]
    count, banks = min(
        (columns * banks, banks) for _, columns, banks in _grids(geometry, width, depth)
    )
    return _chosen(geometry, count, banks)


def _grids(
    geometry: Geometry, width: int, depth: int
) -> Iterator[tuple[tuple[int, int], int, int]]:
    """Yield every shape with its number of columns and banks."""
    for bits, words in geometry.shapes:
        yield (bits, words), -(-width // bits), -(-depth // words)


def _chosen(geometry: Geometry, count: int, banks: int) -> Choice:
    return Choice(
        kind=geometry.kind,
        cell=geometry.cell,
        count=count,
        banks=banks,
        resource=geometry.resource,
        units=count * geometry.units,
    )
