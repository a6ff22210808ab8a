"""The command line as users call it: exit codes, one line for bad input, JSON results.

Most refusals call the entry point in this process, which takes milliseconds; whatever main()
does not turn into an exit code fails the test, as it would end in a traceback.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from sgq_hw.bundle import save_bundle
from sgq_hw.cli import main
from tests.random_networks import random_bundle

Arrays = dict[str, npt.NDArray[Any]]


@dataclass
class Place:
    """A working folder with a valid bundle `q.npz`, and the program run in it."""

    folder: Path
    environment: dict[str, str]
    capture: pytest.CaptureFixture[str]
    patch: pytest.MonkeyPatch

    def call(self, arguments: list[str]) -> tuple[int, str, str]:
        """Return exit code, stdout and stderr of the entry point, run in this process."""
        self.patch.setattr(sys, "argv", ["sgq-hw", *arguments])
        self.patch.chdir(self.folder)
        with pytest.raises(SystemExit) as caught:
            main()
        assert isinstance(caught.value.code, int)
        return caught.value.code, *self.capture.readouterr()

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "sgq_hw", *arguments], cwd=self.folder, env=self.environment,
            capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip

    def names(self) -> list[str]:
        return sorted(str(path.relative_to(self.folder)) for path in self.folder.rglob("*"))

    def read_json(self, name: str) -> dict[str, Any]:
        data: dict[str, Any] = json.loads((self.folder / name).read_text())
        return data


@pytest.fixture
def place(
    tmp_path: Path, repository_root: Path, capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Place:  # fmt: skip
    save_bundle(
        tmp_path / "q.npz",
        random_bundle(np.random.default_rng(1), nodes=12, layers=2, graph="random"),
    )
    environment = {**os.environ, "PYTHONPATH": str(repository_root), "OMP_NUM_THREADS": "1"}
    return Place(tmp_path, environment, capfd, monkeypatch)


def rewrite(path: Path, changes: Callable[[Arrays], dict[str, Any]]) -> None:
    with np.load(path) as archive:
        arrays = {name: archive[name] for name in archive.files}
    np.savez(path, allow_pickle=True, **(arrays | changes(arrays)))


def manifest_with(arrays: Arrays, change: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    manifest = json.loads(arrays["manifest"].tobytes())
    change(manifest)
    return {"manifest": np.frombuffer(json.dumps(manifest).encode(), np.uint8)}


def unknown_layer(arrays: Arrays) -> dict[str, Any]:
    return manifest_with(arrays, lambda manifest: manifest["layers"][0].update(kind="cheb"))


def index_out_of_range(arrays: Arrays) -> dict[str, Any]:
    indices = arrays["workload/indices"].copy()
    indices[-1] = 12
    return {"workload/indices": indices}


WEIGHT = "layer0/combine/weight"
BAD_BUNDLES: list[tuple[str, Callable[[Arrays], dict[str, Any]], str]] = [
    ("object array", lambda a: {WEIGHT: a[WEIGHT].astype(object)},
     "layer0/combine/weight: object arrays"),
    ("wrong dtype", lambda a: {WEIGHT: a[WEIGHT].astype(np.float32)},
     "layer0/combine/weight: wrong type float32"),
    ("NaN weights", lambda a: {"layer1/combine/weight": a["layer1/combine/weight"] * np.nan},
     "layer1/combine/weight: wrong type float64"),
    ("index out of range", index_out_of_range,
     "workload/indices: values 0..12 are not all in 0..11"),
    ("unknown layer", unknown_layer, "manifest: layers[0].kind: layer 'cheb' is not supported"),
]  # fmt: skip


def assert_refused(place: Place, arguments: list[str], reason: str) -> None:
    before = place.names()
    assert_one_line(*place.call(arguments), reason)
    assert place.names() == before


def assert_one_line(code: int, stdout: str, stderr: str, reason: str) -> None:
    assert code == 2, stderr
    assert stderr.startswith("sgq-hw: error: "), stderr
    assert stderr.count("\n") == 1
    assert stderr.endswith("\n")
    assert reason in stderr
    for word in ("Traceback", "Usage", "--help"):
        assert word not in stderr
    assert stdout == ""


@pytest.mark.parametrize(
    ("change", "reason"), [b[1:] for b in BAD_BUNDLES], ids=[b[0] for b in BAD_BUNDLES]
)
def test_bad_bundles(place: Place, change: Callable[[Arrays], dict[str, Any]], reason: str) -> None:
    rewrite(place.folder / "q.npz", change)
    assert_refused(place, ["golden", "q.npz"], f"q.npz: {reason}")


def test_a_bundle_whose_sums_are_too_wide(place: Place) -> None:
    """Well formed, but one sum could exceed 62 bits."""
    bundle = random_bundle(
        np.random.default_rng(0), nodes=1, features=1 << 17, classes=1, layers=1,
        inputs="multi-bit", input_bits=16, bias=False, multipliers=["layer"],
    )  # fmt: skip
    save_bundle(place.folder / "wide.npz", bundle)

    def widest(manifest: dict[str, Any]) -> None:
        layer = manifest["layers"][0]
        layer["weight"]["bits"] = layer["combine"]["multiplier"]["bits"] = 16

    rewrite(place.folder / "wide.npz", lambda arrays: manifest_with(arrays, widest))
    assert_refused(place, ["golden", "wide.npz"], "layer 0 combine: accumulator needs 6")


BAD_COMMANDS: list[tuple[str, str]] = [
    ("golden missing.npz", "missing.npz: no such file"),
    ("golden notes.txt", "notes.txt: not a readable .npz archive"),
    (f"golden {'a' * 300}", "File name too long"),
    ("quantize q.npz --bits 0 -o new.npz", "--bits: 0 is outside 1 to 16"),
    ("quantize q.npz --bits 17 -o new.npz", "--bits: 17 is outside 1 to 16"),
    ("quantize q.npz --bits 4 --clipping learned -o new.npz", "--clipping: learned needs --finet"),
    ("quantize q.npz --bits 4 --clipping lost -o new.npz", "'lost' is not one of"),
    ("quantize q.npz -o new.npz", "one of --bits and --config"),
    ("quantize q.npz --bits 4 -o new.npz", "q.npz: manifest"),  # a bundle, not a float file
    ("quantize q.npz --config notes.txt -o new.npz", "q.npz: manifest"),
    ("generate q.npz --lanes 0 -o rtl", "--lanes: 0 is outside 1 to 64"),
    ("generate q.npz --capacity nodes -o rtl", "--capacity: 'nodes' is not name=number"),
    ("generate q.npz -o notes.txt/rtl", "notes.txt/rtl: cannot write"),
    ("generate q.npz --inputs nowhere -o rtl", "'nowhere' is not one of 'stream', 'on-chip'"),
    ("generate q.npz --capacity input_words=9 -o rtl", "only with --inputs on-chip"),
    ("generate q.npz --inputs on-chip --capacity input_words=1 -o rtl", "needs "),
    ("generate q.npz --unit input_reader -o rtl", "only designs with --inputs on-chip have it"),
    ("generate q.npz", "Missing option '-o'"),
    ("generate q.npz --wings 2 -o rtl", "No such option"),
    ("generate q.npz --lanes many -o rtl", "Invalid value for '--lanes'"),
    ("budget q.npz --device toaster9", "device toaster9: unknown"),
    ("budget q.npz --json notes.txt/b.json", "notes.txt/b.json: cannot write"),
    ("train atlantis -o f.npz", "atlantis: no such graph"),
    ("train karate --model mlp -o f.npz", "model: mlp is not one of gcn, gat, agnn, sage, gin"),
    ("train karate --split 1 --fold 2 -o f.npz", "one of --split and --fold"),
    ("train ./q.npz --fold 0 -o f.npz", "q.npz: node_ptr: missing: one graph"),
    ("cosim .", "no design.json"),
    ("fly q.npz", "No such command 'fly'"),
    ("", "Missing command"),
]


@pytest.mark.parametrize(("command", "reason"), BAD_COMMANDS, ids=[c[:40] for c, _ in BAD_COMMANDS])
def test_bad_commands(place: Place, command: str, reason: str) -> None:
    (place.folder / "notes.txt").write_text("not an archive")
    assert_refused(place, command.split(), reason)


@pytest.mark.parametrize("number", [0, 10, 27, 28])
def test_bad_commands_in_a_process_of_their_own(place: Place, number: int) -> None:
    command, reason = BAD_COMMANDS[number]
    before = place.names()
    done = place.run(*command.split())
    assert_one_line(done.returncode, done.stdout, done.stderr, reason)
    assert place.names() == before


def test_bad_graph_file(place: Place) -> None:
    """Of `train`: an edge to a node that does not exist."""
    np.savez(
        place.folder / "g.npz", indptr=np.array([0, 1, 2]), indices=np.array([1, 2]),
        x_shape=np.array([2, 2]), x_indptr=np.array([0, 1, 2]), x_indices=np.array([0, 1]),
    )  # fmt: skip
    assert_refused(place, ["train", "./g.npz", "-o", "f.npz"], "g.npz: indices: values 1..2")


def test_help_and_version(place: Place) -> None:
    done = place.run("--help")
    assert (done.returncode, done.stderr) == (0, "")
    for command in ("train", "quantize", "golden", "generate", "pack", "cosim", "budget"):
        assert f"\n  {command} " in done.stdout
    done = place.run("generate", "-h")
    assert done.returncode == 0
    assert "--lanes" in done.stdout


HEAVY = ("torch", "numpy", "scipy", "sklearn", "matplotlib", "networkx", "jinja2", "dask", "rich")


def test_help_imports_nothing_heavy(place: Place) -> None:
    """The modules of all commands are imported for it; each imports what it needs when it runs."""
    program = (
        "import sys\n"
        "sys.argv = ['sgq-hw', '--help']\n"
        "from sgq_hw.cli import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        f"print('heavy:', [name for name in {HEAVY} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=place.folder, env=place.environment,
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    assert done.stdout.endswith("heavy: []\n")


def test_the_chain_and_its_json(place: Place) -> None:
    """Train, quantise, run: files appear, JSON has the keys that tools rely on."""
    steps = [
        "train karate --epochs 30 -o out/float.npz --json train.json",
        "quantize out/float.npz --bits 4 --finetune --epochs 6 -o q4.npz --json quantize.json",
        "golden q4.npz --json golden.json",
    ]
    for step in steps:
        code, stdout, stderr = place.call(step.split())
        assert (code, stderr) == (0, "")
        assert stdout.count("\n") == 1
    for name in ("train", "quantize", "golden"):
        accuracy = place.read_json(f"{name}.json")["accuracy"]
        assert set(accuracy) == {"train", "val", "test"}
        assert all(0 <= value <= 100 for value in accuracy.values())
    results = [place.read_json(f"{name}.json")["accuracy"] for name in ("quantize", "golden")]
    assert results[0] == results[1]
    assert {"q4.npz", "out/float.npz"} <= set(place.names())
    assert not [name for name in place.names() if "tmp" in name]


@pytest.mark.parametrize("model", ["gat", "agnn", "sage"])
def test_other_models(place: Place, model: str) -> None:
    code, stdout, stderr = place.call(f"train karate --model {model} --epochs 2 -o f.npz".split())
    assert (code, stderr) == (0, "")
    assert stdout.startswith(f"f.npz: {model} on karate, train ")
    quantize = "quantize f.npz --bits 4 --finetune --epochs 2 -o q4.npz --json quantize.json"
    assert place.call(quantize.split())[0] == 0
    assert place.call("golden q4.npz --json golden.json".split())[0] == 0
    results = [place.read_json(f"{name}.json")["accuracy"] for name in ("quantize", "golden")]
    assert results[0] == results[1]
    assert place.call("generate q4.npz --lanes 4 -o rtl".split())[0] == 0
    place.call("budget q4.npz --json budget.json".split())
    written = {entry["name"] for entry in place.read_json("budget.json")["memories"]}
    assert ("exponential_memory" in written) == (model != "sage")


def test_budget_says_whether_it_fits(place: Place) -> None:
    """Exit code 1 is an answer, not an error; the result is written all the same."""
    done = place.run("budget", "q.npz", "--device", "XC7Z020", "--json", "fits.json")
    assert (done.returncode, done.stderr) == (0, "")
    data = place.read_json("fits.json")
    keys = {"memories", "feature_memory", "bits_total", "bits_fp32", "devices"}
    keys |= {f"compression_{kind}" for kind in ("features", "hidden", "stored", "total")}
    assert keys <= set(data)
    assert [device["fits"] for device in data["devices"]] == [True]
    capacity = "nodes=1000000,edges=9000000"
    done = place.run(
        "budget", "q.npz", "--device", "XC7Z020", "--capacity", capacity, "--json", "no.json"
    )
    assert (done.returncode, done.stderr) == (1, "")
    assert [device["fits"] for device in place.read_json("no.json")["devices"]] == [False]
    assert "XC7Z020" in done.stdout


def test_generate_writes_a_folder(place: Place) -> None:
    done = place.run("generate", "q.npz", "--lanes", "4", "-o", "new/rtl")
    assert (done.returncode, done.stderr) == (0, "")
    assert "layer0.combine" in done.stdout
    assert "new/rtl/design.json" in place.names()
    assert sorted(path.name for path in (place.folder / "new").iterdir()) == ["rtl"]
