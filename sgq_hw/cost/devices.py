"""The FPGA parts and boards that the cost model knows, from `devices.json`."""

import difflib
import functools
import importlib.resources
import re
from pathlib import Path
from typing import Annotated

import msgspec

from sgq_hw.errors import InputError


class DeviceMemory(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One kind of memory block of a device.

    Attributes:
        type: name of the block.
        count: blocks on the device.
        kbits_each: capacity of one block in kbit (1024 bit), parity bits included.
    """

    type: str
    count: int
    kbits_each: float


class Device(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a part offers.

    Attributes:
        family: vendor's name of the family.
        part: part number.
        boards: boards that carry it.
        luts: logic elements; fracturable ones count as the `note` says.
        lut_k: inputs of one of them.
        ffs: flip-flops.
        dsps: multiplier blocks of type `dsp_type`.
        dsp_type: name of the multiplier block; None without any.
        memories: memory blocks, the ordinary block RAM first.
        total_block_kbits: capacity of all `memories` in kbit (1024 bit).
        lutram_kbits: memory that LUTs can form, in kbit; None where there is none, or no figure.
        source: where the figures come from.
        confidence: measured, seen (in a public source) or recalled (check before relying on it).
        note: caveats.
    """

    family: str
    part: str
    boards: tuple[str, ...]
    luts: int
    lut_k: int
    ffs: int
    dsps: int
    dsp_type: str | None
    memories: Annotated[tuple[DeviceMemory, ...], msgspec.Meta(min_length=1)]
    total_block_kbits: float
    lutram_kbits: float | None
    source: str
    confidence: str
    note: str = ""


def load_devices(path: Path | None = None) -> tuple[Device, ...]:
    """Read a device file, by default the one of this package.

    Raises:
        InputError: the file cannot be read or has a missing, unknown or ill-typed field.
    """
    name = str(path) if path else "devices.json"
    try:
        if path:
            data = path.read_bytes()
        else:
            data = importlib.resources.files(__package__).joinpath(name).read_bytes()
        return msgspec.json.decode(data, type=tuple[Device, ...])
    except OSError as error:
        raise InputError(f"{name}: cannot read: {error.strerror}") from error
    except msgspec.DecodeError as error:
        raise InputError(f"{name}: {error}") from error


def find_device(name: str) -> Device:
    """Return the device with this part number or board, in any case.

    Of a name such as "Nexys A7 / Nexys4 DDR" or "XCU200 (VU9P)" each alternative, and the text
    before the parenthesis, is enough.

    Raises:
        InputError: no such device; the message names the nearest ones.
    """
    aliases = _aliases()
    if (key := name.strip().casefold()) in aliases:
        return aliases[key][1]
    nearest = difflib.get_close_matches(key, aliases, n=3, cutoff=0.0)
    names = ", ".join(aliases[found][0] for found in nearest)
    raise InputError(f"device {name}: unknown; nearest: {names}")


@functools.cache
def _aliases() -> dict[str, tuple[str, Device]]:
    """Map every name that a device goes by, case-folded, to its spelling and the device."""
    return {
        alias.casefold(): (alias, device)
        for device in load_devices()
        for name in (device.part, *device.boards)
        for alias in (name, *re.sub(r"\s+\(.*", "", name).split(" / "))
    }
