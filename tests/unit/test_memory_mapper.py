"""The memory mapper: published examples, properties of every mapping, and fitting a device."""

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sgq_hw.cost.devices import Device, DeviceMemory, find_device, load_devices
from sgq_hw.cost.memory_mapper import (
    FAMILIES,
    MemoryRequest,
    family_of,
    fit,
    has_kind,
    map_memory,
)
from sgq_hw.cost.memory_rules import Style
from sgq_hw.errors import InputError

# Usable bits of one cell.
CAPACITY = {
    **{"RAM128X1D": 128, "RAM32M": 192, "RAM64M": 192, "RAM32M16": 448, "RAM64M8": 448},
    **{"RAMB18E1": 18432, "RAMB18E2": 18432, "RAMB18E5": 18432},
    **{"RAMB36E1": 36864, "RAMB36E2": 36864, "URAM288": 294912, "URAM288E5": 294912},
    **{"TRELLIS_DPR16X4": 64, "DPR16X4": 64, "RAM16SDP4": 64},
    **{"DP16KD": 18432, "PDPSC16K": 18432, "DPSC512K": 524288},
    **{"DPB": 16384, "DPX9B": 18432, "SDPB": 16384, "SDPX9B": 18432, "SP": 16384, "SPX9": 18432},
    **{"SB_RAM40_4K": 4096, "EFX_RAM_5K": 5120, "EFX_RAM10": 10240},
    **{"MISTRAL_M10K": 10240, "MISTRAL_MLAB": 32, "M9K": 9216, "M20K": 20480, "MLAB": 640},
    **{"RAM1K20": 20480, "RAM64x12": 768, "CC_BRAM_20K": 20480, "CC_BRAM_40K": 40960},
}

SIZES = ((7, 1433), (64, 2708), (37, 512), (4, 20000), (16, 3327), (64, 16384), (15, 10556))


def _cells(width: int, depth: int, family: str, style: Style = "auto") -> tuple[str, int]:
    mapping = map_memory(width, depth, family, style=style)
    return mapping.cell, mapping.count


@pytest.mark.parametrize(
    ("family", "units"),
    [
        # In blocks of the device; synthesised with Yosys 0.70.
        ("ecp5", [1, 12, 2, 5, 4, 64, 11]),
        ("ice40", [3, 48, 5, 20, 13, 256, 40]),
        ("cyclonev", [2, 21, 2, 10, 8, 128, 18]),
        ("efinix", [3, 39, 4, 20, 14, 208, 33]),
        ("xc7", [0.5, 6, 1, 2.5, 2, 32, 5.5]),
    ],
)
def test_block_ram_of_known_sizes(family: str, units: list[float]) -> None:
    mappings = [map_memory(width, depth, family) for width, depth in SIZES]
    assert [mapping.units for mapping in mappings] == units
    assert {mapping.kind for mapping in mappings} == {"block"}
    assert {mapping.basis for mapping in mappings} == {"yosys"}


@pytest.mark.parametrize(
    ("family", "width", "depth", "cells"),
    [
        ("xc7", 3, 100, ("RAM64M", 2)),
        ("ecp5", 3, 100, ("TRELLIS_DPR16X4", 7)),
        ("cyclonev", 3, 100, ("MISTRAL_MLAB", 12)),
        ("xc7", 8, 512, ("RAMB18E1", 1)),
        # Three banks of 36 bit side by side in three half blocks.
        ("xc7", 32, 1433, ("RAMB18E1", 3)),
        # The highest efficiency in percent wins, not the fewest cells (12 of 2Kx5).
        ("cyclonev", 27, 4096, ("MISTRAL_M10K", 14)),
        # Prices of 130.0 and 130.25: Yosys keeps the first as an int, and stays with it.
        ("ecp5", 7, 161, ("TRELLIS_DPR16X4", 22)),
        ("xcup", 12, 193, ("RAM64M8", 8)),
        # A cascaded pair is two cells.
        ("xc7", 1, 65536, ("RAMB36E1", 2)),
        ("xcup_uram", 64, 16384, ("URAM288", 4)),
        ("xcup", 64, 16384, ("RAMB36E2", 32)),
        ("polarfire", 12, 64, ("RAM64x12", 1)),
        ("versal", 64, 512, ("RAMB18E5", 2)),
        ("versal", 9, 100, ("RAM64M8", 4)),
        ("m9k", 18, 512, ("M9K", 1)),
        ("arria10", 5, 4096, ("M20K", 1)),
        ("stratix10", 5, 4096, ("M20K", 2)),
        ("titanium", 64, 512, ("EFX_RAM10", 4)),
        ("ice40", 2, 16, ("", 0)),
    ],
)
def test_cells_of_known_sizes(family: str, width: int, depth: int, cells: tuple[str, int]) -> None:
    assert _cells(width, depth, family) == cells


def test_style_selects_kind() -> None:
    assert _cells(8, 1024, "xc7", "distributed") == ("RAM64M", 48)
    assert _cells(2, 16, "xc7", "block") == ("RAMB18E1", 1)
    assert _cells(64, 16384, "xcup", "huge") == ("URAM288", 4)
    assert _cells(32, 4096, "nexus", "huge") == ("DPSC512K", 1)


def test_cyclone_v_ignores_style() -> None:
    assert _cells(32, 1024, "cyclonev", "distributed") == _cells(32, 1024, "cyclonev")


@pytest.mark.parametrize(
    ("family", "style", "rom"),
    [
        ("ecp5", "huge", False),
        # The SPRAM of the UP5K has a single address port.
        ("ice40", "huge", False),
        ("efinix", "distributed", False),
        ("xc7", "distributed", True),
        # URAM cannot be given contents.
        ("xcup", "huge", True),
        ("versal", "huge", True),
    ],
)
def test_kind_that_cannot_hold_the_memory_is_refused(family: str, style: Style, rom: bool) -> None:
    with pytest.raises(InputError, match=f"^family {family}: no {style} memory cell can hold a"):
        map_memory(8, 1024, family, rom=rom, style=style)


@pytest.mark.parametrize(("width", "depth"), [(0, 1), (1, 0), (-8, 4), (2**16, 2**15)])
def test_impossible_size_is_refused(width: int, depth: int) -> None:
    with pytest.raises(InputError, match="size outside"):
        map_memory(width, depth, "xc7")


def test_unknown_family_is_refused() -> None:
    with pytest.raises(InputError, match=r"^family xc9: unknown"):
        map_memory(8, 8, "xc9")


@given(
    family=st.sampled_from(FAMILIES),
    width=st.integers(1, 300),
    depth=st.integers(1, 40000),
    rom=st.booleans(),
    style=st.sampled_from(["auto", "block", "distributed", "huge"]),
)
@settings(max_examples=500, deadline=None, derandomize=True)
def test_cells_hold_all_bits(family: str, width: int, depth: int, rom: bool, style: Style) -> None:
    if style != "auto" and not has_kind(family, style, rom=rom):
        return
    mapping = map_memory(width, depth, family, rom=rom, style=style)
    if mapping.kind == "logic":
        assert (mapping.cell, mapping.count, mapping.resource_type) == ("", 0, "")
        assert mapping.units == 0
        return
    assert mapping.count * CAPACITY[mapping.cell] >= width * depth
    assert mapping.banks >= 1
    assert mapping.units > 0
    if style != "auto" and family != "cyclonev":
        assert mapping.kind == style


@pytest.mark.parametrize("family", sorted({*FAMILIES} - {"cyclonev"}))
@pytest.mark.parametrize("width", [1, 7, 16, 33, 72])
def test_block_ram_grows_with_depth(family: str, width: int) -> None:
    taken: dict[str, list[Fraction]] = {}
    for depth in range(1, 20000, 61):
        mapping = map_memory(width, depth, family, style="block")
        taken.setdefault(mapping.resource_type, []).append(mapping.units)
    for units in taken.values():
        assert units == sorted(units)


def test_cyclone_v_need_not_grow_with_depth() -> None:
    """Its rule maximises efficiency: one word more can make it choose a better shape."""
    assert map_memory(13, 12406, "cyclonev").count == 26
    assert map_memory(13, 12407, "cyclonev").count == 21


@pytest.mark.parametrize("device", load_devices(), ids=lambda device: device.part)
def test_every_device_has_memory_rules(device: Device) -> None:
    family = family_of(device)
    assert map_memory(64, 4096, family).resource_type == device.memories[0].type
    if has_kind(family, "huge"):
        huge = map_memory(64, 4096, family, style="huge")
        assert huge.resource_type in {"URAM288", "URAM288E5", "LRAM512K"}
    if device.lutram_kbits is not None:
        assert has_kind(family, "distributed")


def test_device_of_unknown_family_is_refused() -> None:
    known = find_device("PYNQ-Z2")
    strange = Device(**{f: getattr(known, f) for f in known.__struct_fields__} | {"family": "Z"})
    with pytest.raises(InputError, match=r"^XC7Z020: no memory rules for family Z$"):
        family_of(strange)


def test_half_blocks_share_a_block() -> None:
    requests = [MemoryRequest(f"m{i}", 18, 1024) for i in range(3)]
    result = fit(requests, find_device("PYNQ-Z2"))
    assert result.fits
    assert result.block_ram_used == Fraction(3, 2)
    assert result.block_ram_available == 140
    assert [name for name, _ in result.mappings] == ["m0", "m1", "m2"]
    assert result.runs_out_first == "RAMB36E1"


def test_too_many_blocks_do_not_fit() -> None:
    device = find_device("iCEBreaker")
    assert fit([MemoryRequest("a", 16, 30 * 256)], device).fits
    result = fit([MemoryRequest("a", 16, 31 * 256)], device)
    assert not result.fits
    assert result.moved == ()
    assert result.runs_out_first == "EBR4K"


def test_lutram_is_counted_in_kbit() -> None:
    device = find_device("LFE5U-25F")
    result = fit([MemoryRequest("a", 4, 16), MemoryRequest("b", 8, 16)], device)
    assert result.lutram_used == Fraction(3 * 64, 1024)
    assert result.lutram_available == 190
    assert result.runs_out_first == "LUTRAM"
    full = [MemoryRequest(f"m{i}", 64, 16, style="distributed") for i in range(191)]
    assert not fit(full, device).fits


def test_registers_are_counted() -> None:
    result = fit([MemoryRequest("a", 2, 16), MemoryRequest("b", 8, 2)], find_device("iCEstick"))
    assert {use.resource: use.used for use in result.resources}["FF"] == 48
    assert result.runs_out_first == "FF"


def test_no_memories() -> None:
    result = fit([], find_device("iCEstick"))
    assert result.fits
    assert result.runs_out_first is None


def test_huge_memory_is_used_only_when_blocks_run_out() -> None:
    device = find_device("KV260")
    wide = MemoryRequest("wide", 72, 65536)
    assert fit([wide], device).moved == ()
    poor = MemoryRequest("poor", 8, 65536)
    result = fit([poor, wide, MemoryRequest("small", 18, 1024)], device)
    assert result.fits
    # 16 blocks for 2 huge cells are as good a trade as 128 for 16, so the first in order moves.
    assert result.moved == ("poor",)
    assert result.block_ram_used <= 144
    assert dict(result.mappings)["poor"].cell == "URAM288"


def test_only_free_styles_move() -> None:
    device = find_device("KV260")
    contents = MemoryRequest("rom", 72, 65536 + 32768, rom=True)
    result = fit([contents], device)
    assert not result.fits
    assert result.moved == ()


def test_huge_memory_that_a_device_lacks_does_not_fit() -> None:
    result = fit([MemoryRequest("a", 72, 4096, style="huge")], find_device("Ultra96-V2"))
    assert not result.fits
    assert result.runs_out_first == "URAM288"


def test_lutram_without_a_figure_is_not_judged() -> None:
    result = fit([MemoryRequest("a", 4, 16, style="distributed")], find_device("GW5A-25"))
    assert result.fits
    assert result.lutram_available is None
    assert result.lutram_used == Fraction(64, 1024)


def test_moves_stop_when_huge_memory_is_full() -> None:
    device = Device(
        family="Zynq UltraScale+",
        part="small",
        boards=(),
        luts=1000,
        lut_k=6,
        ffs=2000,
        dsps=0,
        dsp_type=None,
        memories=(
            DeviceMemory(type="RAMB36E2", count=1, kbits_each=36),
            DeviceMemory(type="URAM288", count=1, kbits_each=288),
        ),
        total_block_kbits=324,
        lutram_kbits=10,
        source="test",
        confidence="test",
    )
    requests = [MemoryRequest(name, 72, 4096) for name in ("a", "b")]
    result = fit(requests, device)
    assert result.moved == ("a",)
    assert not result.fits
    assert result.runs_out_first == "RAMB36E2"
