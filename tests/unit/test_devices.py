"""The device file and its loader."""

from pathlib import Path

import msgspec
import pytest

from sgq_hw.cost.devices import Device, find_device, load_devices
from sgq_hw.errors import InputError

DEVICES = load_devices()


def test_file_has_all_parts() -> None:
    assert len(DEVICES) == 49


@pytest.mark.parametrize("device", DEVICES, ids=lambda device: device.part)
def test_figures_are_consistent(device: Device) -> None:
    blocks = sum(memory.count * memory.kbits_each for memory in device.memories)
    assert blocks == device.total_block_kbits
    assert min(device.luts, device.ffs) > 0
    assert device.lut_k in (4, 6)
    assert (device.dsps == 0) == (device.dsp_type is None)
    # A LUT holds at most 2**lut_k bit.
    assert (device.lutram_kbits or 0) * 1024 <= device.luts * 2**device.lut_k
    assert device.source
    assert device.confidence


@pytest.mark.parametrize("device", DEVICES, ids=lambda device: device.part)
def test_every_part_and_board_is_found(device: Device) -> None:
    for name in (device.part, *device.boards):
        assert find_device(name) is not None
        assert find_device(name.upper()) == device
        assert find_device(f" {name.lower()} ") == device


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("pynq-z2", "XC7Z020"),
        ("xcu200", "XCU200 (VU9P)"),
        ("nexys4 ddr", "XC7A100T"),
        ("10AT115", "10AX115 / 10AT115 (GX/GT 1150)"),
    ],
)
def test_short_names_are_enough(name: str, part: str) -> None:
    assert find_device(name).part == part


def test_unknown_name_lists_nearest() -> None:
    with pytest.raises(InputError, match=r"^device zcu103: unknown; nearest: .*ZCU102") as raised:
        find_device("zcu103")
    assert "\n" not in str(raised.value)


def test_own_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    path.write_bytes(msgspec.json.encode(DEVICES[:2]))
    assert load_devices(path) == DEVICES[:2]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[{", "truncated"),
        ('[{"family": "a"}]', "missing required field"),
        ('[{"family": 1}]', "Expected `str`"),
        ("[]x", "malformed"),
    ],
)
def test_bad_file_is_named(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "bad.json"
    path.write_text(text)
    with pytest.raises(InputError, match=reason) as raised:
        load_devices(path)
    assert str(raised.value).startswith(f"{path}: ")


def test_unknown_field_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bad.json"
    record = msgspec.json.decode(msgspec.json.encode(DEVICES[0]))
    path.write_bytes(msgspec.json.encode([{**record, "colour": "red"}]))
    with pytest.raises(InputError, match="colour"):
        load_devices(path)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot read"):
        load_devices(tmp_path / "none.json")
