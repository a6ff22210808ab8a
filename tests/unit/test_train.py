"""Training: the network against a dense NumPy one, the recipe, and the float file."""

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from sgq_hw.errors import InputError, ToolError
from sgq_hw.graphs import Graph, load_graph
from sgq_hw.models.catalogue import inputs_for
from sgq_hw.models.gcn import GCN
from sgq_hw.models.sparse import sparse_product
from sgq_hw.train import TrainedModel, load_trained, predict, save_trained, train
from tests import dense_models

Arrays = dict[str, npt.NDArray[Any]]


@pytest.fixture(scope="module")
def karate() -> Graph:
    return load_graph("karate")


@pytest.fixture(scope="module")
def trained(karate: Graph) -> TrainedModel:
    return train(karate, epochs=60)


@pytest.fixture
def float_file(tmp_path: Path, karate: Graph, trained: TrainedModel) -> Path:
    path = tmp_path / "model.npz"
    save_trained(path, trained, karate)
    return path


def same_parameters(left: TrainedModel, right: TrainedModel) -> bool:
    assert list(left.parameters) == list(right.parameters)
    pairs = zip(left.parameters.values(), right.parameters.values(), strict=True)
    return all(np.array_equal(one, other) for one, other in pairs)


@pytest.mark.parametrize("layers", [2, 3])
@pytest.mark.parametrize("inputs", ["one-hot", "real", "negative", "self loop"])
def test_forward_against_dense(karate: Graph, layers: int, inputs: str) -> None:
    rng = np.random.default_rng(7)
    graph = karate
    if inputs in {"real", "negative"}:
        values = rng.random(34) + 0.1 if inputs == "real" else rng.normal(size=34)
        graph = replace(karate, x_values=values)
    if inputs == "self loop":
        indptr = karate.indptr + (np.arange(35) > 0)
        graph = replace(karate, indptr=indptr, indices=np.insert(karate.indices, 0, 0))
    model = train(graph, layers=layers, epochs=20, lr=0.1)
    assert model.num_layers == layers
    assert len(model.parameters) == 2 * layers
    expected = dense_models.NETWORKS["gcn"](graph, model.parameters, model.num_layers)
    assert np.abs(predict(model, graph) - expected).max() < 1e-5


def test_directed_edges_aggregate_from_the_stored_row(karate: Graph) -> None:
    indptr = np.concatenate([[0, 2], np.full(33, 2)])
    graph = replace(karate, indptr=indptr, indices=np.array([5, 9]))
    model = train(graph, epochs=5)
    expected = dense_models.NETWORKS["gcn"](graph, model.parameters, model.num_layers)
    assert np.abs(predict(model, graph) - expected).max() < 1e-5


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 6), st.integers(1, 6), st.integers(1, 4), st.integers(0, 2**32 - 1))
def test_sparse_product_gradient(rows: int, columns: int, channels: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    matrix = (rng.random((rows, columns)) * (rng.random((rows, columns)) < 0.5)).astype(np.float32)
    operand = rng.normal(size=(columns, channels)).astype(np.float32)
    pull = torch.from_numpy(rng.normal(size=(rows, channels)).astype(np.float32))
    left, right = (torch.tensor(operand, requires_grad=True) for _ in range(2))
    product = sparse_product(sparse.csr_array(matrix), left)
    expected = torch.from_numpy(matrix) @ right
    torch.testing.assert_close(product, expected)
    torch.autograd.backward([product, expected], [pull, pull])
    torch.testing.assert_close(left.grad, right.grad)


def test_dropout_on_stored_inputs(karate: Graph) -> None:
    """In expectation dropout changes nothing; each value is zero or doubled."""
    torch.manual_seed(0)
    parameters = {"layer0/combine/weight": torch.eye(34), "layer0/bias": torch.zeros(34)}
    network = GCN(parameters, dropout=0.5)
    inputs = inputs_for(GCN, karate)
    inputs = replace(inputs, adjacency=sparse.csr_array(np.eye(34, dtype=np.float32)))
    network.train()
    with torch.no_grad():
        draws = np.stack([np.diag(network(inputs).numpy()) for _ in range(400)])
    assert set(np.unique(draws)) == {0.0, 2.0}
    assert abs(draws.mean() - 1) < 0.05
    network.eval()
    assert np.array_equal(network(inputs).detach().numpy(), np.eye(34))


def test_karate_trains(karate: Graph) -> None:
    model = train(karate)
    assert model.accuracy["train"] == 100
    assert model.accuracy["test"] >= 85
    assert {name: array.shape for name, array in model.parameters.items()} == {
        "layer0/combine/weight": (34, 16),
        "layer0/bias": (16,),
        "layer1/combine/weight": (16, 2),
        "layer1/bias": (2,),
    }
    assert {array.dtype for array in model.parameters.values()} == {np.dtype(np.float32)}
    assert 1 <= model.recipe["best_epoch"] <= model.recipe["epochs"] == 200


def test_same_seed_same_network(karate: Graph, trained: TrainedModel) -> None:
    torch.manual_seed(123)
    threads, before = torch.get_num_threads(), torch.random.get_rng_state()
    again, other = train(karate, epochs=60), train(karate, epochs=60, seed=1)
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.random.get_rng_state(), before)
    assert same_parameters(trained, again)
    assert not same_parameters(trained, other)


def test_unlabelled_nodes_never_count(karate: Graph, trained: TrainedModel) -> None:
    assert karate.y is not None
    assert karate.test_mask is not None
    node = int(np.flatnonzero(karate.test_mask)[0])
    y = karate.y.copy()
    y[node] = -1
    without = train(replace(karate, y=y), epochs=60)
    assert same_parameters(trained, without)
    right = round(trained.accuracy["test"] * 18 / 100)
    hit = int(predict(trained, karate)[node].argmax() == karate.y[node])
    assert without.accuracy["test"] == pytest.approx(100 * (right - hit) / 17)
    everywhere = np.ones(34, np.bool_)
    train(replace(karate, y=y, train_mask=everywhere, val_mask=everywhere), epochs=2)


def test_best_validation_epoch_is_kept(karate: Graph) -> None:
    """Training only up to the best epoch gives the same network as training past it."""
    long = train(karate, epochs=60)
    best = int(long.recipe["best_epoch"])
    short = train(karate, epochs=best)
    assert short.recipe["best_epoch"] == best
    assert same_parameters(long, short)


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"model": "mlp"}, "model"),
        ({"hidden": 0}, "hidden"),
        ({"layers": 1}, "layers"),
        ({"epochs": 0}, "epochs"),
        ({"seed": -1}, "seed"),
        ({"lr": 0.0}, "lr"),
        ({"lr": float("nan")}, "lr"),
        ({"lr": 1e30}, "lr"),  # accepted as a number, but training diverges
        ({"weight_decay": -1.0}, "weight_decay"),
        ({"weight_decay": float("inf")}, "weight_decay"),
        ({"dropout": 1.0}, "dropout"),
    ],
)
def test_argument_refusals(karate: Graph, arguments: dict[str, Any], field: str) -> None:
    with pytest.raises(InputError, match=f"^train: {field}: "):
        train(karate, **{"epochs": 50, **arguments})


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"y": None}, "train_mask"),
        ({"val_mask": None}, "val_mask"),
        ({"test_mask": np.zeros(34, np.bool_)}, "test_mask"),
        ({"x_known": np.zeros(34, np.bool_)}, "x_known"),
    ],
)
def test_graph_refusals(karate: Graph, changes: dict[str, Any], field: str) -> None:
    with pytest.raises(InputError, match=f"^karate: {field}: "):
        train(replace(karate, **changes))


def test_predict_needs_the_same_features(karate: Graph, trained: TrainedModel) -> None:
    with pytest.raises(InputError, match=r"karate: num_features: 35, but .* 34"):
        predict(trained, replace(karate, num_features=35))


def test_missing_torch_is_one_line(karate: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sgq_hw.train.find_spec", lambda name: None)
    with pytest.raises(ToolError, match=r"pip install 'sgq-hw\[train\]'"):
        train(karate)


def test_progress_is_silent_without_a_terminal(
    karate: Graph, capfd: pytest.CaptureFixture[str]
) -> None:
    train(karate, epochs=2, progress=True)
    assert capfd.readouterr() == ("", "")


def test_loading_needs_no_torch(float_file: Path, repository_root: Path) -> None:
    """Golden model and generator read float files on machines without PyTorch."""
    code = (
        "import sys; from pathlib import Path; from sgq_hw.train import load_trained;"
        "load_trained(Path(sys.argv[1])); sys.exit('torch' in sys.modules)"
    )
    command = [sys.executable, "-c", code, str(float_file)]
    assert subprocess.run(command, cwd=repository_root, check=False).returncode == 0


def test_file_round_trip(float_file: Path, karate: Graph, trained: TrainedModel) -> None:
    loaded, graph = load_trained(float_file)
    assert (loaded.model, loaded.accuracy, loaded.seed, loaded.recipe) == (
        trained.model, trained.accuracy, trained.seed, trained.recipe,
    )  # fmt: skip
    assert same_parameters(loaded, trained)
    assert np.array_equal(predict(loaded, graph), predict(trained, karate))
    again = float_file.with_name("again.npz")
    save_trained(again, loaded, graph)
    assert again.read_bytes() == float_file.read_bytes()


def manifest_bytes(manifest: dict[str, Any]) -> npt.NDArray[np.uint8]:
    return np.frombuffer(json.dumps(manifest).encode(), np.uint8)


WEIGHT = np.zeros((34, 16), np.float32)
LAYERS: list[dict[str, Any]] = [
    {"kind": "gcn", "shapes": {"combine/weight": [34, 16], "bias": [16]}},
    {"kind": "gcn", "shapes": {"combine/weight": [16, 2], "bias": [2]}},
]


def with_shapes(layer: int, **shapes: list[int] | None) -> dict[str, Any]:
    """Return LAYERS with some shapes of a layer changed (None: left out); `_` stands for `/`."""
    changed = LAYERS[layer]["shapes"] | {k.replace("_", "/"): v for k, v in shapes.items()}
    kept = {name: shape for name, shape in changed.items() if shape is not None}
    layers = list(LAYERS)
    layers[layer] = {"kind": "gcn", "shapes": kept}
    return {"layers": layers}


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("manifest", None, "missing"),
        ("manifest", np.zeros(4), "wrong type float64"),
        ("manifest", np.frombuffer(b"{", np.uint8), ""),
        ("manifest", np.frombuffer(b"\xff", np.uint8), "not UTF-8"),
        ("layer1/combine/weight", None, "missing"),
        ("layer0/bias", None, "missing"),
        ("layer2/combine/weight", WEIGHT, "unknown field"),
        ("extra", WEIGHT, "unknown field"),
        ("layer0/combine/weight", WEIGHT.astype(np.float64), "wrong type float64"),
        ("layer0/combine/weight", WEIGHT.astype(np.int32), "wrong type int32"),
        ("layer0/combine/weight", WEIGHT.T, r"shape \[16, 34\], expected \[34, 16\]"),
        ("layer0/combine/weight", WEIGHT + np.float32(np.nan), "NaN"),
        ("layer1/bias", np.full(2, np.inf, np.float32), "infinity"),
        ("layer1/bias", np.zeros(3, np.float32), "shape"),
        ("graph/indptr", None, "missing"),
        ("graph/y", np.full(34, 2, np.int8), "3 classes, but the network has 2 outputs"),
        ("graph/y", np.array([None] * 34, object), "object arrays"),
    ],
)
def test_file_refusals(float_file: Path, name: str, value: Any, reason: str) -> None:
    check_refusal(float_file, {name: value}, f"{name}: .*{reason}")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"format": "other"}, "format: 'other' is not sgq-hw-float"),
        ({"version": 1}, "version: 1; this program reads 2"),
        ({"version": 3, "layers": "new kind of entry"}, "version: 3; this program reads 2"),
        ({"version": "1"}, r"Expected `int`.*\$\.version"),
        ({"model": "mlp\n"}, "model: 'mlp.n' is not one of gcn"),
        ({"model": None}, "missing required field `model`"),
        ({"colour": 1}, "unknown field `colour`"),
        ({"seed": -1}, r"\$\.seed"),
        ({"accuracy": {"train": 1.0, "val": 2.0, "test": 101.0}}, r"\$\.accuracy\.test"),
        ({"accuracy": {"train": 1.0, "val": 2.0}}, "missing required field `test`"),
        ({"recipe": {"lr": "fast"}}, r"\$\.recipe"),
        ({"layers": LAYERS[:1]}, r"length >= 2 - at `\$\.layers`"),
        ({"layers": [LAYERS[0], LAYERS[1] | {"kind": "gat"}]}, r"layers\[1\]\.kind: .*'gat'"),
        (with_shapes(0, combine_weight=[33, 16]), r"layers\[0\]: 33 inputs; it must have 34"),
        (with_shapes(1, combine_weight=[16, 0]), r"layers\[1\].*combine/weight: \[16, 0\]"),
        (with_shapes(1, bias=[3]), r"layers\[1\].*bias: \[3\] does not fit"),
        (with_shapes(1, bias=[2, 1]), r"layers\[1\].*bias: 2 dimensions, expected 1"),
        (with_shapes(1, bias=None), r"layers\[1\]\.shapes: bias: missing"),
        (with_shapes(1, beta=[1]), r"layers\[1\]\.shapes: beta: unknown parameter"),
    ],
)
def test_manifest_refusals(float_file: Path, changes: dict[str, Any], reason: str) -> None:
    with np.load(float_file) as archive:
        manifest = json.loads(archive["manifest"].tobytes())
    manifest = {key: value for key, value in (manifest | changes).items() if value is not None}
    changed = {"manifest": manifest_bytes(manifest)}
    check_refusal(float_file, changed, f"manifest: .*{reason}")


def check_refusal(path: Path, changes: Arrays, pattern: str) -> None:
    """Rewrite a valid file with some arrays changed (None: left out); it must be refused."""
    with np.load(path) as archive:
        arrays = {name: archive[name] for name in archive.files} | changes
    np.savez(path, allow_pickle=True, **{k: v for k, v in arrays.items() if v is not None})
    with pytest.raises(InputError) as caught:
        load_trained(path)
    assert re.fullmatch(f"{re.escape(str(path))}: {pattern}.*", str(caught.value))


def test_cora_reaches_the_known_accuracy(data_folder: Path) -> None:
    """Kipf & Welling 2017 report 81.5 percent; ten seeds of this recipe give 81.8 +- 0.7."""
    graph = load_graph(str(data_folder / "cora.npz"))
    model = train(graph)
    assert 80.4 <= model.accuracy["test"] <= 83
