"""Generated folders: deterministic, whole or not at all, read back equal, refused in one line."""

import functools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sgq_hw import generate as generating
from sgq_hw import render
from sgq_hw.bundle import save_bundle
from sgq_hw.errors import InputError
from sgq_hw.generate import design_for, generate, generate_unit, load_generated
from sgq_hw.graphs import load_graph
from sgq_hw.quantize.config import BitConfig, LayerBits
from sgq_hw.quantize.freeze import freeze
from sgq_hw.render import STAND_ALONE, UNITS, units_of
from tests.quantised import gcn_of, quantised
from tests.random_layers import Kind, random_layers
from tests.random_networks import gcn_layers, random_bundle


@pytest.fixture(scope="module", autouse=True)
def compiled_templates() -> Iterator[None]:
    """Compile the templates once: that is most of the time that generating a small design takes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(render, "environment", functools.cache(render.environment))
        yield


@pytest.fixture(scope="module")
def karate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("karate") / "karate.npz"
    save_bundle(path, quantised("karate"))
    return path


@pytest.fixture
def bundle_path(tmp_path: Path) -> Path:
    """A small bundle; the test's folder holds nothing else."""
    path = tmp_path / "bundle.npz"
    save_bundle(path, random_bundle(np.random.default_rng(6), nodes=10, graph="random"))
    return path


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def names(folder: Path) -> list[str]:
    """All entries of a folder, hidden ones too."""
    return sorted(path.name for path in folder.iterdir())


def refusal(function: Callable[..., object], *arguments: Any, **options: Any) -> str:
    with pytest.raises(InputError) as caught:
        function(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("options", [{}, {"lanes": 5, "rom": True, "sparse_input": False}])
def test_same_bundle_same_bytes(
    karate: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    """Whatever the folder's name, the working folder, or what lay there before."""
    generate(karate, tmp_path / "first", **options)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "deep").mkdir()
    copy = tmp_path / "copy.npz"
    copy.write_bytes(karate.read_bytes())
    generate(Path("copy.npz"), Path("deep/second"), **options)
    generate(karate, tmp_path / "third", lanes=2)
    generate(karate, tmp_path / "third", **options)
    first = contents(tmp_path / "first")
    assert {"design.json", "bundle.npz", "filelist.f", "rtl/sgq_accelerator.v"} <= set(first)
    images = {name for name in first if name.startswith("images/")}
    assert "images/input.hex" in images
    assert ("images/load.hex" in images) != ("images/weight_memory.hex" in images)
    assert contents(tmp_path / "deep" / "second") == first
    assert contents(tmp_path / "third") == first
    assert str(tmp_path).encode() not in b"".join(first.values())
    listed = first["filelist.f"].decode().split()
    assert listed == sorted(name for name in first if name.startswith("rtl/"))
    assert names(tmp_path) == ["copy.npz", "deep", "first", "third"]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"lanes": 3, "stream_bits": 128, "sparse_input": False},
        {"rom": True},
        {"rom": True, "inputs_on_chip": True, "sparse_input": False},
        {"inputs_on_chip": True, "sparse_input": True, "capacity": {"input_words": 999}},
        {"inputs_on_chip": True, "streamed": True, "pes": 2},
        {"capacity": {"nodes": 50, "edges": 400, "row_edges": 40, "row_nonzeros": 30}},
    ],
)
def test_reading_back(bundle_path: Path, tmp_path: Path, options: dict[str, Any]) -> None:
    made = generate(bundle_path, tmp_path / "rtl", **options)
    read = load_generated(tmp_path / "rtl")
    assert read.design == made.design
    assert read.bundle_hash == made.bundle_hash
    assert read.sources == made.sources
    assert {path.stem for path in made.sources} >= {
        f"sgq_{unit}" for unit in units_of(made.design)
    }
    for name, value in options.items():
        kept = made.design.capacity if name == "capacity" else made.design
        wanted = value if name == "capacity" else {name: value}
        assert all(getattr(kept, key) == number for key, number in wanted.items())
    data = json.loads((tmp_path / "rtl" / "design.json").read_text())
    assert [entry["name"] for entry in data["passes"]] == [step.name for step in made.design.passes]
    assert data["bundle"] == made.bundle_hash


def test_folders_that_may_be_replaced(bundle_path: Path, tmp_path: Path) -> None:
    folder = tmp_path / "rtl"
    folder.mkdir()
    generate(bundle_path, folder)  # empty
    stale = folder / "rtl" / "old.v"
    stale.write_text("module old; endmodule\n")
    generate(bundle_path, folder)  # our own
    assert not stale.exists()
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "thesis.tex").write_text("years of work")
    before = contents(tmp_path)
    assert refusal(generate, bundle_path, foreign).startswith(f"{foreign}: not empty")
    # A file of this name alone does not make the folder ours.
    (foreign / "design.json").write_text('{"colours": []}')
    assert refusal(generate, bundle_path, foreign).startswith(f"{foreign}: not empty")
    (foreign / "design.json").unlink()
    assert contents(tmp_path) == before
    generate(bundle_path, foreign, force=True)
    assert not (foreign / "thesis.tex").exists()
    assert contents(foreign) == contents(folder)
    assert names(tmp_path) == ["bundle.npz", "foreign", "rtl"]


def test_places_that_cannot_be_written(bundle_path: Path, tmp_path: Path) -> None:
    before = contents(tmp_path)
    assert refusal(generate, bundle_path, bundle_path) == f"{bundle_path}: is not a folder"
    below = bundle_path / "deep" / "rtl"
    assert refusal(generate, bundle_path, below).startswith(f"{below}: cannot write")
    unit = refusal(generate_unit, bundle_path, "requantize", below)
    assert unit.startswith(str(below))
    assert "cannot write" in unit
    assert contents(tmp_path) == before
    assert names(tmp_path) == ["bundle.npz"]


def test_failure_half_way_leaves_what_was_there(
    bundle_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "rtl"
    generate(bundle_path, folder)
    before = contents(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(generating, "_design_file", lambda *_: 1 // 0)
        with pytest.raises(ZeroDivisionError):
            generate(bundle_path, folder, lanes=3)
    assert contents(tmp_path) == before
    rename = Path.rename

    def fails_for_the_new_one(self: Path, target: Path) -> Path:
        if self.name == "new":
            raise OSError(28, "No space left on device")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fails_for_the_new_one)
    assert "No space left" in refusal(generate, bundle_path, folder, lanes=3)
    assert contents(tmp_path) == before
    assert names(tmp_path) == ["bundle.npz", "rtl"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lanes": 0}, "--lanes: 0 is outside 1 to 64"),
        ({"lanes": 65}, "--lanes: 65 is outside 1 to 64"),
        ({"lanes": -1}, "--lanes: -1 "),
        ({"pes": 3}, "--pes: 3 is none of 1, 2, 4, "),
        ({"pes": 0}, "--pes: 0 is none of "),
        ({"pes": 2, "rom": True}, "--rom: with 2 processing elements; only with --pes 1"),
        ({"stream_bits": 0}, "--stream-bits: 0 is none of 32, 64, "),
        ({"stream_bits": 63}, "--stream-bits: 63 "),
        ({"stream_bits": 2048}, "--stream-bits: 2048 "),
        ({"capacity": {"nodes": 9}}, "--capacity: nodes=9; graph 'random random' needs 10"),
        ({"capacity": {"edges": 0}}, "--capacity: edges=0; "),
        ({"capacity": {"row_edges": -5}}, "--capacity: row_edges=-5; "),
        ({"capacity": {"row_nonzeros": 1}}, "--capacity: row_nonzeros=1; "),
        ({"capacity": {"nodes": 2**31}}, "--capacity: nodes=2147483648 is outside"),
        ({"capacity": {"row_edges": 2**31 - 1, "row_nonzeros": 2**31 - 1}}, ""),
        ({"capacity": {"wings": 3}}, "--capacity: unknown 'wings'; known: nodes, edges, "),
        ({"capacity": {"input_words": 9}}, "--capacity: input_words=9: only with --inputs on-chip"),
        ({"capacity": {"input_words": 2}, "inputs_on_chip": True, "sparse_input": True},
         "--capacity: input_words=2; graph 'random random' needs "),
        ({"capacity": {"input_words": 2**31}, "inputs_on_chip": True, "sparse_input": True},
         "--capacity: input_words=2147483648: outside 1 to 2**31 - 1"),
    ],
)
def test_refused_options(
    bundle_path: Path, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    text = refusal(generate, bundle_path, tmp_path / "rtl", **options)
    assert text.startswith(message)
    assert "bits; 62 are supported" in text or message
    assert names(tmp_path) == ["bundle.npz"]


def test_beats_narrower_than_a_record() -> None:
    bundle = random_bundle(
        np.random.default_rng(0), nodes=1, features=20_000, inputs="signed", input_bits=16,
        layers=1, classes=1, max_bits=4,
    )  # fmt: skip
    narrow = design_for(bundle, stream_bits=32, sparse_input=True)
    assert (narrow.input_word_bits, narrow.words_per_beat, narrow.beats_per_word) == (33, 1, 2)
    wide = design_for(bundle, stream_bits=128, sparse_input=True)
    assert (wide.words_per_beat, wide.beats_per_word) == (3, 1)


def test_large_shifts_are_built() -> None:
    """Wide weights and factors into narrow results: every sum stays far below 62 bits."""
    rng = np.random.default_rng(0)
    weights = [rng.normal(0, 0.3, size).astype(np.float32) for size in ((34, 16), (16, 2))]
    layer = LayerBits(weight=16, combine=8, aggregate=16)
    config = BitConfig(input=1, edge=8, factor=16, input_factor=16, layers=(layer, layer))
    biases = [np.zeros(16, np.float32), np.zeros(2, np.float32)]
    bundle = freeze(gcn_of(weights, biases, load_graph("karate"), config))
    assert gcn_layers(bundle.network.manifest)[1].combine.shift > 31
    assert design_for(bundle).total_bits <= 62


ATTENTION_UNITS = {*STAND_ALONE, "lane_heads", "row_tracker"}


def test_single_units_of_attention(bundle_path: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    networks: dict[str, tuple[Kind, ...]] = {"gat": ("gat", "gat"), "agnn": ("linear", "agnn")}
    for name, kinds in networks.items():
        bundle = random_layers(rng, kinds, nodes=9, self_loops=True, built=True)
        save_bundle(tmp_path / f"{name}.npz", bundle)
        whole = generate(tmp_path / f"{name}.npz", tmp_path / name, pes=2).sources
        texts = {path.name: path.read_bytes() for path in whole}
        for unit in ATTENTION_UNITS:
            if f"sgq_{unit}.v" in texts:
                written = generate_unit(tmp_path / f"{name}.npz", unit, tmp_path / unit, pes=2)
                assert all(path.read_bytes() == texts[path.name] for path in written)
    for unit, needs in {
        "agnn_scores": "'agnn' layers", "gat_scores": "'gat' layers",
        "elu": "ELU in 'gat' layers", "reciprocal": "'gat' or 'agnn' layers",
    }.items():  # fmt: skip
        text = refusal(generate_unit, bundle_path, unit, tmp_path / "unit")
        assert text == f"--unit: {unit}: only designs with {needs} have it"


def test_single_units(bundle_path: Path, tmp_path: Path) -> None:
    text = refusal(generate_unit, bundle_path, "toaster", tmp_path / "unit")
    assert text.startswith("--unit: unknown 'toaster'; known: accelerator, ")
    assert not (tmp_path / "unit").exists()
    text = refusal(generate_unit, bundle_path, "output_buffer", tmp_path / "unit")
    reason = "only designs with --pes 2 or more, or degree-aware bits, have it"
    assert text == f"--unit: output_buffer: {reason}"
    text = refusal(generate_unit, bundle_path, "degree_window", tmp_path / "unit", pes=2)
    assert text == "--unit: degree_window: only designs with degree-aware bits have it"
    text = refusal(generate_unit, bundle_path, "serial_expander", tmp_path / "unit", pes=2)
    assert text.endswith("only designs with --pes 2 or more and --graph streamed have it")
    windowed = tmp_path / "windowed.npz"
    rng = np.random.default_rng(6)
    save_bundle(windowed, random_bundle(rng, nodes=10, layers=2, buckets=3, windows=True))
    whole = generate(windowed, tmp_path / "rtl", pes=2, streamed=True).sources
    texts = {path.name: path.read_bytes() for path in whole}
    for unit in set(UNITS) - {"input_reader", *ATTENTION_UNITS}:
        written = generate_unit(windowed, unit, tmp_path / unit, pes=2, streamed=True)
        assert f"sgq_{unit}.v" in {path.name for path in written}
        assert all(path.read_bytes() == texts[path.name] for path in written)
    text = refusal(generate_unit, bundle_path, "input_reader", tmp_path / "unit")
    assert text == "--unit: input_reader: only designs with --inputs on-chip have it"
    on_chip = {"inputs_on_chip": True}
    text = refusal(generate_unit, bundle_path, "input_unpacker", tmp_path / "unit", **on_chip)
    assert text.endswith("only designs with streamed inputs or --graph streamed have it")
    generate_unit(bundle_path, "input_reader", tmp_path / "unit", **on_chip)
    assert names(tmp_path / "unit")[0] == "sgq_input_reader.v"


def test_folders_that_are_no_designs(bundle_path: Path, tmp_path: Path) -> None:
    folder = tmp_path / "rtl"
    assert refusal(load_generated, folder).startswith(f"{folder}: no design.json")
    generate(bundle_path, folder)
    path = folder / "design.json"
    good = json.loads(path.read_text())
    options = good["options"]
    changes: list[tuple[dict[str, Any], str]] = [
        ({"format": "other"}, "version"),
        ({"version": 1}, "version: 1; this program reads 4"),
        ({"colour": 1}, "unknown field `colour`"),
        ({"options": {**options, "lanes": "3"}}, "lanes"),
        ({"options": {**options, "capacity": {"nodes": 3}}}, "options.capacity"),
        ({"options": {**options, "capacity": {**options["capacity"], "wings": 3}}}, "wings"),
    ]
    for change, reason in changes:
        path.write_text(json.dumps(good | change))
        message = refusal(load_generated, folder)
        assert message.startswith(f"{path}: ")
        assert reason in message
    path.write_text(json.dumps(good | {"options": {**options, "lanes": 99}}))
    assert "--lanes: 99 " in refusal(load_generated, folder)
    for content in (b"", b"{", b'{"format": "\xff"}', b"[" * 10**5):
        path.write_bytes(content)
        assert refusal(load_generated, folder).startswith(f"{path}: ")
    path.write_text(json.dumps(good))
    (folder / "bundle.npz").unlink()
    assert refusal(load_generated, folder) == f"{folder / 'bundle.npz'}: no such file"
