"""Bit configurations: what `--bits N` means, and the TOML file."""

import re
from pathlib import Path
from typing import Literal

import pytest

from sgq_hw.errors import InputError
from sgq_hw.quantize.config import (
    COMPONENTS,
    RESULTS,
    BitConfig,
    LayerBits,
    check_config,
    load_config,
    make_taq,
    uniform_config,
    with_taq,
)

GOOD = """
input = 4
edge = 6
factor = 7
input_factor = 9
normalisation = "edge"

[[layers]]
weight = 3
combine = 8
aggregate = 1

[[layers]]
weight = 5
combine = 16
aggregate = 10
association = "(AX)W"
"""


@pytest.mark.parametrize("normalisation", ["factored", "edge"])
@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("bits", range(1, 17))
def test_uniform_bits(
    bits: int, layers: int, normalisation: Literal["factored", "edge"]
) -> None:
    """DESIGN section 8: hidden N, weights and edges max(N, 2), pre-aggregation max(N, 8)."""
    config = uniform_config(bits, layers, normalisation)
    assert (config.input, config.edge) == (bits, bits if bits > 2 else 2)
    assert config.normalisation == normalisation
    assert len(config.layers) == layers
    for layer in config.layers[:-1]:
        assert layer.aggregate == bits
    assert config.layers[-1].aggregate == 16
    for layer in config.layers:
        assert (layer.weight, layer.combine) == (max(bits, 2), max(bits, 8))
        assert layer.association == "A(XW)"


@pytest.mark.parametrize("bits", [-1, 0, 17, 1000])
def test_bits_outside_1_to_16(bits: int) -> None:
    with pytest.raises(InputError, match=rf"^--bits: {bits} is outside 1 to 16$"):
        uniform_config(bits, 2)


def test_file(tmp_path: Path) -> None:
    path = tmp_path / "bits.toml"
    path.write_text(GOOD)
    assert load_config(path, 2) == BitConfig(
        input=4,
        edge=6,
        factor=7,
        input_factor=9,
        normalisation="edge",
        layers=(
            LayerBits(weight=3, combine=8, aggregate=1),
            LayerBits(weight=5, combine=16, aggregate=10, association="(AX)W"),
        ),
    )


def test_short_file_takes_the_defaults_of_bits(tmp_path: Path) -> None:
    path = tmp_path / "bits.toml"
    path.write_text("input=4\nedge=4\n[[layers]]\nweight=4\ncombine=8\naggregate=16\n")
    assert load_config(path, 1) == uniform_config(4, 1)


REFUSALS = [
    ("input = 4\n", "", "missing required field `input`"),
    ("input = 4", "input = 0", r"input"),
    ("input = 4", "input = 17", r"input"),
    ("input = 4", "input = 4.5", r"input"),
    ("input = 4", 'input = "4"', r"input"),
    ("edge = 6", "edge = 0", r"edge"),
    ("factor = 7", "factor = 17", r"factor"),
    ("factor = 7", "colour = 7", "unknown field `colour`"),
    ('"edge"', '"none"', "normalisation"),
    ("weight = 3", "weight = 1", r"layers\[0\]\.weight"),
    ("weight = 3", "", r"layers\[0\]\.weight: missing"),
    ("combine = 8", "combine = 1", r"layers\[0\]\.combine"),
    ("aggregate = 1\n", "aggregate = 0\n", r"layers\[0\]\.aggregate"),
    ('"(AX)W"', '"A X W"', r"layers\[1\]\.association"),
    ('association = "(AX)W"', "", r"layers\[1\]: logits have 16 bits"),
    ("combine = 16", "combine = 15", r"layers\[1\]: logits have 16 bits"),
    ("[[layers]]\nweight = 3\ncombine = 8\naggregate = 1\n", "", "layers: 1 entries for 2 layers"),
    ("[[layers]]", "[[layers", "not TOML"),
    ("input = 4", "input = 4\ninput = 5", "not TOML"),
]


@pytest.mark.parametrize(("old", "new", "reason"), REFUSALS)
def test_refusals(tmp_path: Path, old: str, new: str, reason: str) -> None:
    path = tmp_path / "bits.toml"
    assert old in GOOD
    path.write_text(GOOD.replace(old, new, 1))
    check_refusal(path, reason)


def test_one_bit_in_a_turned_layer(tmp_path: Path) -> None:
    """Its combination is the hidden result, which ReLU leaves without a sign; not so in A(XW)."""
    hidden = "[[layers]]\nweight = 3\ncombine = 1\naggregate = 6\n"
    last = "[[layers]]\nweight = 5\ncombine = 16\naggregate = 1\n"
    turned = 'association = "(AX)W"\n'
    first = "[[layers]]\nweight = 3\ncombine = 8\naggregate = 1\n"
    path = tmp_path / "bits.toml"
    head = 'input = 4\nnormalisation = "edge"\n'
    path.write_text(head + first + hidden + turned + last + turned)
    assert [layer.combine for layer in load_config(path, 3).layers] == [8, 1, 16]
    path.write_text(head + first + hidden + last + turned)
    with pytest.raises(InputError, match=r"layers\[1\]\.combine: 1 bit; signed"):
        load_config(path, 3)


def check_refusal(path: Path, reason: str) -> None:
    with pytest.raises(InputError) as caught:
        load_config(path, 2)
    assert "\n" not in str(caught.value)
    assert re.match(f"{re.escape(str(path))}: .*{reason}", str(caught.value))


def test_files_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "bits.toml"
    check_refusal(path, "no such file")
    path.write_bytes(b"input = \xff")
    check_refusal(path, "not TOML")
    check_refusal(tmp_path, "no such file")


@pytest.mark.parametrize(
    "kinds", [("gcn", "gcn"), ("sage", "gcn", "sage"), ("gin", "gin", "linear")]
)
def test_taq_everywhere_leaves_only_the_logits_uniform(kinds: tuple[str, ...]) -> None:
    taq = make_taq((4, 8), (8, 2, 1))
    config = with_taq(uniform_config(8, kinds), kinds, taq, everywhere=True)
    check_config(config, kinds)
    for index, (layer, kind) in enumerate(zip(config.layers, kinds, strict=True)):
        result = RESULTS.get(kind, "aggregate")
        for name in set(COMPONENTS[kind]) & {"combine", "aggregate", "mlp"}:
            if name != result:
                assert layer.component(name) == make_taq((4, 8), (8, 2, 2))
            else:
                assert layer.component(name) == (taq if index < len(kinds) - 1 else 16)
