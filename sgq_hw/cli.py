"""The command line: thin, since each command is a function of the package.

Exit codes: 0 done and true, 1 ran and the answer is no, 2 bad input. Bad input is one line on
stderr. Heavy modules are imported by the command that needs them.
"""

import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sgq_hw import __version__
from sgq_hw.errors import InputError, SgqError
from sgq_hw.files import write_text

if TYPE_CHECKING:
    from sgq_hw.budget import Budget
    from sgq_hw.graph_sets import GraphSet
    from sgq_hw.graphs import Graph
    from sgq_hw.quantize.config import Taq
    from sgq_hw.quantize.pipeline import Clipping

EXIT_NO = 1
EXIT_BAD_INPUT = 2

Command = Callable[..., None]


def _writable(_: click.Context, __: click.Parameter, path: Path | None) -> Path | None:
    """Refuse a result file that could not be written, before the work and not after it."""
    if path is not None:
        existing = next(parent for parent in path.absolute().parents if parent.exists())
        if path.is_dir():
            raise InputError(f"{path}: is a folder")
        if not existing.is_dir() or not os.access(existing, os.W_OK):
            raise InputError(f"{path}: cannot write: {existing} is not a writable folder")
    return path


def _json_option(function: Command) -> Command:
    return click.option(
        "--json",
        "json_path",
        type=click.Path(path_type=Path),
        callback=_writable,
        help="Write the result as JSON.",
    )(function)


def _seed_option(function: Command) -> Command:
    return click.option("--seed", type=int, default=0, show_default=True, help="Random seed.")(
        function
    )


def _unused_seed_option(function: Command) -> Command:
    """Accept --seed in a command that draws nothing, so that scripts may give it to all."""
    return click.option(
        "--seed", type=int, expose_value=False, help="Accepted by all; nothing is drawn here."
    )(function)


def _pickle_option(function: Command) -> Command:
    return click.option(
        "--allow-pickle", is_flag=True, help="Read the pickled files of a raw Planetoid folder."
    )(function)




def _write_json(path: Path | None, data: dict[str, Any]) -> None:
    if path is not None:
        write_text(path, json.dumps(data, indent=1, sort_keys=True) + "\n")


def _pairs(text: str | None, option: str) -> dict[str, int]:
    """Parse `name=number,name=number`."""
    result: dict[str, int] = {}
    for part in filter(None, (text or "").split(",")):
        name, _, number = part.partition("=")
        try:
            result[name.strip()] = int(number)
        except ValueError:
            raise InputError(f"{option}: '{part}' is not name=number") from None
    return result


def _percent(accuracy: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.2f} %" for name, value in accuracy.items())


def _load_data(
    name: str, split: int, fold: int | None, allow_pickle: bool
) -> "Graph | GraphSet":
    from sgq_hw.graph_sets import load_graph_set  # noqa: PLC0415
    from sgq_hw.graphs import load_graph  # noqa: PLC0415

    if fold is None:
        return load_graph(name, split=split, allow_pickle=allow_pickle)
    if split != 0:
        raise InputError("give one of --split and --fold")
    return load_graph_set(name, fold=fold)


@click.group(no_args_is_help=False, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="sgq-hw")
def cli() -> None:
    """Turn a trained graph neural network into a small, verified FPGA accelerator."""


@cli.command()
@click.argument("graph")
@click.option(
    "--model", default="gcn", show_default=True, help="Network: gcn, gat, agnn, sage or gin."
)
@click.option(
    "--hidden", type=int, help="Hidden channels, default 16; of gat, channels a head, default 8."
)
@click.option("--epochs", type=int, help="Full-graph steps; default from the recipe.")
@click.option("--split", type=int, default=0, show_default=True, help="Which of several splits.")
@click.option("--fold", type=int, help="Of a set of graphs: which tenth tests, 0 to 9.")
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path))
@_seed_option
@_pickle_option
@_json_option
def train(
    graph: str, model: str, hidden: int | None, epochs: int | None, split: int, fold: int | None,
    output: Path, seed: int, allow_pickle: bool, json_path: Path | None,
) -> None:  # fmt: skip
    """Train a float network on GRAPH: a name, an .npz, or a Planetoid folder."""
    from sgq_hw import train as training  # noqa: PLC0415

    loaded = _load_data(graph, split, fold, allow_pickle)
    trained = training.train(
        loaded, model=model, hidden=hidden, epochs=epochs, seed=seed, progress=True
    )
    training.save_trained(output, trained, loaded)
    _write_json(json_path, {"accuracy": trained.accuracy, "seed": seed, "model": model})
    click.echo(f"{output}: {model} on {loaded.name}, {_percent(trained.accuracy)}")


def _numbers(text: str | None, option: str) -> tuple[int, ...] | None:
    """Parse `number,number`."""
    try:
        return None if text is None else tuple(int(part) for part in text.split(","))
    except ValueError:
        raise InputError(f"{option}: '{text}' is not a list of numbers") from None


def _taq(splits: str | None, bits: str | None) -> "Taq | None":
    from sgq_hw.quantize.config import make_taq  # noqa: PLC0415

    found = (_numbers(splits, "--taq-splits"), _numbers(bits, "--taq-bits"))
    if found[1] is None:
        if found[0] is not None:
            raise InputError("--taq-splits: needs --taq-bits")
        return None
    return make_taq(found[0] or (4, 8, 16), found[1])


@cli.command()
@click.argument("network", type=click.Path(path_type=Path))
@click.option("--bits", type=int, help="Bits of hidden features, 1 to 16; the rest follows.")
@click.option("--config", type=click.Path(path_type=Path), help="Bit configuration, TOML.")
@click.option("--taq-splits", help="First in-degrees of the buckets; default 4,8,16.")
@click.option("--taq-bits", help="Bits of hidden features by bucket, low degrees first: 8,4,2,1.")
@click.option(
    "--calibration", type=click.Choice(["error", "range", "row-range", "percentile"]),
    help="How scales follow from values; default error (least squares).",
)
@click.option("--finetune", is_flag=True, help="Tune the weights for the rounded network.")
@click.option("--epochs", type=int, default=150, show_default=True, help="Fine-tuning steps.")
@click.option("--distill", type=float, default=3.0, show_default=True,
              help="Fine-tuning: weight of the float network's outputs on all nodes.")
@click.option("--protect", type=float, nargs=2, help="Fine-tuning: Degree-Quant's probabilities.")
@click.option("--clipping", type=click.Choice(["tracked", "learned"]), default="tracked",
              show_default=True, help="Fine-tuning: scales follow the values, or are trained.")
@click.option(
    "--norm", type=click.Choice(["factored", "edge"]), help="GCN normalisation; default factored."
)
@click.option("--attention-bound", type=click.Choice(["row", "global"]),
              help="GAT: what a row's logits are subtracted from; default row.")
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path))
@_seed_option
@_json_option
def quantize(
    network: Path, bits: int | None, config: Path | None, taq_splits: str | None,
    taq_bits: str | None, calibration: str | None, finetune: bool, epochs: int, distill: float,
    protect: tuple[float, float] | None, clipping: "Clipping", norm: str | None,
    attention_bound: str | None, output: Path, seed: int, json_path: Path | None,
) -> None:  # fmt: skip
    """Quantise NETWORK, a file written by train, into integers."""
    if (bits is None) == (config is None):
        raise InputError("give one of --bits and --config")
    for option, value in (
        ("norm", norm), ("taq-bits", taq_bits), ("calibration", calibration),
        ("attention-bound", attention_bound),
    ):  # fmt: skip
        if config is not None and value is not None:
            raise InputError(f"--{option}: the configuration file decides it")
    from sgq_hw.quantize import config as configs  # noqa: PLC0415

    if bits is not None:
        configs.uniform_config(bits, 1)  # a bad number is refused before the slow imports
    taq = _taq(taq_splits, taq_bits)
    if clipping == "learned" and not finetune:
        raise InputError("--clipping: learned needs --finetune")
    if epochs < 1:
        raise InputError(f"--epochs: {epochs} is less than 1")
    from sgq_hw.bundle import save_bundle  # noqa: PLC0415
    from sgq_hw.train import load_trained  # noqa: PLC0415

    trained, data = load_trained(network)
    kinds = configs.kinds_for(trained, data)
    if config is not None:
        chosen = configs.load_config(config, kinds)
    else:
        chosen = configs.uniform_config(
            bits or 0, kinds, norm or "factored", calibration or "error", attention_bound or "row"
        )
        chosen = chosen if taq is None else configs.with_taq(chosen, kinds, taq)
    from sgq_hw.golden import network as golden_network  # noqa: PLC0415
    from sgq_hw.quantize import pipeline  # noqa: PLC0415

    tuning = None
    if finetune:
        tuning = pipeline.FineTuning(
            epochs=epochs, distill=distill, protect=protect or None, clipping=clipping
        )
    bundle = pipeline.quantize(trained, data, chosen, tuning=tuning, seed=seed, progress=True)
    save_bundle(output, bundle)
    from sgq_hw.compression import as_json, compression  # noqa: PLC0415

    accuracy = golden_network.evaluate(bundle)
    figures = as_json(compression(bundle))
    _write_json(json_path, {"accuracy": accuracy, "accuracy_float": trained.accuracy} | figures)
    click.echo(f"{output}: {_percent(accuracy)} (float: {_percent(trained.accuracy)})")


@cli.command()
@click.argument("graph")
@click.option(
    "--model", default="gcn", show_default=True, help="Network: gcn, gat, agnn, sage or gin."
)
@click.option("--hidden", type=int, help="Hidden channels; default from the recipe.")
@click.option("--split", type=int, default=0, show_default=True, help="Which of several splits.")
@click.option("--fold", type=int, help="Of a set of graphs: which tenth tests, 0 to 9.")
@click.option("--max-drop", type=float, default=0.4, show_default=True,
              help="Allowed loss of validation accuracy, points.")
@click.option("--trials", type=int, default=40, show_default=True, help="Points to measure.")
@click.option("--method", type=click.Choice(["abs", "random", "exhaustive"]), default="abs",
              show_default=True)
@click.option("--epochs", type=int, default=150, show_default=True, help="Fine-tuning steps.")
@click.option("--jobs", type=int, help="Local processes; default one for each core.")
@click.option("--dask", help="Run on the Dask cluster whose scheduler has this address.")
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path))
@_seed_option
@_pickle_option
@_json_option
def search(
    graph: str, model: str, hidden: int | None, split: int, fold: int | None, max_drop: float,
    trials: int, method: str, epochs: int, jobs: int | None, dask: str | None, output: Path,
    seed: int, allow_pickle: bool, json_path: Path | None,
) -> None:  # fmt: skip
    """Find the bits of least memory for a network on GRAPH; the same call again continues."""
    loaded = _load_data(graph, split, fold, allow_pickle)
    from sgq_hw.report import print_search  # noqa: PLC0415
    from sgq_hw.search import session  # noqa: PLC0415

    options = session.Options(
        model=model, hidden=hidden, method=session.Method(method), max_drop=max_drop,
        trials=trials, epochs=epochs, seed=seed, jobs=jobs, dask=dask,
    )  # fmt: skip
    result = session.search(loaded, output, options)
    _write_json(json_path, result.as_json())
    print_search(result)
    if result.winner is None:
        sys.exit(EXIT_NO)


@cli.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@_unused_seed_option
@_json_option
def golden(bundle: Path, json_path: Path | None) -> None:
    """Run BUNDLE on the bit-accurate integer model."""
    from sgq_hw.bundle import load_bundle  # noqa: PLC0415
    from sgq_hw.golden import network  # noqa: PLC0415

    loaded = load_bundle(bundle)
    trace = network.run(loaded.network, loaded.workload)
    accuracy = network.accuracy_of(loaded, trace)
    attention = network.attention_rows(loaded, trace)
    nodes = loaded.workload.num_nodes
    rows = [asdict(layer) for layer in attention]
    _write_json(json_path, {"accuracy": accuracy, "nodes": nodes, "attention": rows})
    click.echo(f"{bundle}: {nodes} nodes, {_percent(accuracy)}")
    for layer in attention:
        click.echo(
            f"layer {layer.layer}: attention bound {layer.bound}, {layer.zeroed_rows:,} of "
            f"{layer.rows:,} rows lose all weights"
        )


def _design_options(function: Command) -> Command:
    options = (
        click.option("--pes", type=int, default=1, show_default=True, help="Processing elements."),
        click.option("--lanes", type=int, default=16, show_default=True, help="Lanes, 1 to 64."),
        click.option("--stream-bits", type=int, default=64, show_default=True,
                     help="Bits of a stream beat."),
        click.option("--input", "input_form", default="auto", show_default=True,
                     type=click.Choice(["auto", "sparse", "dense"]), help="Form of the inputs."),
        click.option("--capacity", help="Larger capacities: nodes=,edges=,row_edges=,"
                     "row_nonzeros=."),
        click.option("--rom", is_flag=True, help="Bake parameters and graph in."),
    )  # fmt: skip
    for option in reversed(options):
        function = option(function)
    return function


_SPARSE = {"auto": None, "sparse": True, "dense": False}


@cli.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@_design_options
@click.option("--unit", help="Only this hardware unit.")
@click.option("--force", is_flag=True, help="Replace a folder that holds other files.")
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path))
@_unused_seed_option
@_json_option
def generate(
    bundle: Path, pes: int, lanes: int, stream_bits: int, input_form: str, capacity: str | None,
    rom: bool, unit: str | None, force: bool, output: Path, json_path: Path | None,
) -> None:  # fmt: skip
    """Write the Verilog accelerator of BUNDLE into a folder."""
    from sgq_hw import generate as generating  # noqa: PLC0415

    if unit is not None:
        paths = generating.generate_unit(
            bundle, unit, output, pes=pes, lanes=lanes, stream_bits=stream_bits,
            sparse_input=_SPARSE[input_form], rom=rom, capacity=_pairs(capacity, "--capacity"),
        )  # fmt: skip
        _write_json(json_path, {"files": [str(path) for path in paths]})
        click.echo("\n".join(map(str, paths)))
        return
    generated = generating.generate(
        bundle, output, pes=pes, lanes=lanes, stream_bits=stream_bits,
        sparse_input=_SPARSE[input_form], rom=rom, capacity=_pairs(capacity, "--capacity"),
        force=force,
    )  # fmt: skip
    from sgq_hw.report import print_build_report  # noqa: PLC0415

    _write_json(json_path, json.loads((output / generating.DESIGN_FILE).read_text()))
    print_build_report(generated)


@cli.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.argument("graph")
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path))
@_pickle_option
@_unused_seed_option
@_json_option
def pack(
    folder: Path, graph: str, output: Path, allow_pickle: bool, json_path: Path | None
) -> None:
    """Pack GRAPH for the design in FOLDER: stream beats that load it and run one inference."""
    from sgq_hw.cosim import bind_graph  # noqa: PLC0415
    from sgq_hw.generate import load_generated  # noqa: PLC0415
    from sgq_hw.graphs import load_graph  # noqa: PLC0415
    from sgq_hw.packer import input_packet, load_packets  # noqa: PLC0415
    from sgq_hw.words import write_lines  # noqa: PLC0415

    generated = load_generated(folder)
    if generated.design.rom:
        raise InputError(f"{folder}: this design has its graph baked in (--rom)")
    bundle = bind_graph(
        generated.bundle.network, load_graph(graph, allow_pickle=allow_pickle)
    )
    load = load_packets(generated.design, bundle).lines()
    infer = input_packet(generated.design, bundle.workload).lines()
    write_lines(output, load + infer)
    _write_json(json_path, {"load_beats": len(load), "inference_beats": len(infer)})
    click.echo(f"{output}: {len(load)} beats load, {len(infer)} beats an inference")


@cli.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--graph", help="Another graph within capacity.")
@click.option("--input", "features", type=click.Path(path_type=Path),
              help="Other input features for the same graph: an .npz with x_shape and x_....")
@click.option("--inferences", type=click.IntRange(1), default=2, show_default=True)
@click.option("--waves", type=click.Path(path_type=Path), help="Write a waveform here.")
@_seed_option
@_pickle_option
@_json_option
def cosim(
    folder: Path, graph: str | None, features: Path | None, inferences: int, waves: Path | None,
    seed: int, allow_pickle: bool, json_path: Path | None,
) -> None:  # fmt: skip
    """Simulate the design in FOLDER and compare every word with the golden model."""
    from sgq_hw import cosim as cosimulation  # noqa: PLC0415
    from sgq_hw.generate import load_generated  # noqa: PLC0415
    from sgq_hw.graphs import load_graph  # noqa: PLC0415
    from sgq_hw.progress import spinner  # noqa: PLC0415
    from sgq_hw.report import print_cosim  # noqa: PLC0415

    generated = load_generated(folder)
    if graph is not None and features is not None:
        raise InputError("give at most one of --graph and --input")
    other = None
    if graph is not None:
        other = load_graph(graph, allow_pickle=allow_pickle)
    if features is not None:
        other = cosimulation.graph_with_features(generated.bundle, features)
    with spinner("building and simulating"):
        result = cosimulation.cosim(
            generated, graph=other, inferences=inferences, waves=waves, random_init=True, seed=seed
        )
    _write_json(json_path, result.as_json())
    command = " ".join(["sgq-hw cosim", str(folder), *(["--graph", graph] if graph else [])])
    print_cosim(result, command)
    if not result.equal:
        sys.exit(EXIT_NO)


def _budget_of(
    target: Path, options: dict[str, int], capacity: str | None, devices: Sequence[Any]
) -> "Budget":
    from sgq_hw.budget import make_budget  # noqa: PLC0415
    from sgq_hw.bundle import load_bundle  # noqa: PLC0415
    from sgq_hw.generate import design_for, load_generated  # noqa: PLC0415

    if target.is_dir():
        if options or capacity:
            raise InputError(f"{target}: --pes, --lanes and --capacity were decided by generate")
        generated = load_generated(target)
        return make_budget(generated.bundle, generated.design, tuple(devices))
    bundle = load_bundle(target)
    design = design_for(
        bundle,
        pes=options.get("pes", 1),
        lanes=options.get("lanes", 16),
        capacity=_pairs(capacity, "--capacity"),
    )
    return make_budget(bundle, design, tuple(devices))


@cli.command()
@click.argument("target", type=click.Path(path_type=Path))
@click.option("--pes", type=int, help="Processing elements of a bundle's design, default 1.")
@click.option("--lanes", type=int, help="Its lanes, 1 to 64, default 16.")
@click.option("--capacity", help="Larger capacities: nodes=,edges=,row_edges=,row_nonzeros=.")
@click.option("--device", help="Exit with 1 if this device does not hold it.")
@click.option("--all", "every", is_flag=True, help="Try every known device.")
@_unused_seed_option
@_json_option
def budget(
    target: Path, pes: int | None, lanes: int | None, capacity: str | None, device: str | None,
    every: bool, json_path: Path | None,
) -> None:  # fmt: skip
    """Price the memories of TARGET, a bundle or a generated folder, on real devices."""
    from sgq_hw.cost.devices import find_device, load_devices  # noqa: PLC0415
    from sgq_hw.report import print_budget  # noqa: PLC0415

    devices: Sequence[Any] = load_devices() if every else ()
    if device is not None:
        devices = [find_device(device)]
    given = {"pes": pes, "lanes": lanes}
    options = {name: value for name, value in given.items() if value is not None}
    result = _budget_of(target, options, capacity, devices)
    _write_json(json_path, result.as_json())
    print_budget(result)
    if result.fits and not any(fit.fits for fit in result.fits):
        sys.exit(EXIT_NO)


@cli.command()
@_unused_seed_option
@_json_option
def devices(json_path: Path | None) -> None:
    """List the known devices and where their figures come from."""
    from sgq_hw.cost.devices import load_devices  # noqa: PLC0415
    from sgq_hw.report import print_devices  # noqa: PLC0415

    known = load_devices()
    _write_json(json_path, {"devices": [{"part": d.part, "family": d.family} for d in known]})
    print_devices(known)


@cli.command()
@click.argument("graph", default="karate")
@click.option("--bits", type=int, default=4, show_default=True)
@click.option("--lanes", type=int, default=16, show_default=True)
@click.option("-o", "--output", default="build/demo", type=click.Path(path_type=Path))
@_seed_option
@click.pass_context
def demo(
    context: click.Context, graph: str, bits: int, lanes: int, output: Path, seed: int
) -> None:
    """Take GRAPH through the whole chain: train, quantise, generate, simulate, budget."""
    steps: list[tuple[click.Command, dict[str, Any]]] = [
        (train, {"graph": graph, "output": output / "float.npz", "seed": seed}),
        (quantize, {"network": output / "float.npz", "bits": bits, "finetune": True,
                    "output": output / "quantised.npz", "seed": seed}),
        (golden, {"bundle": output / "quantised.npz", "json_path": output / "golden.json"}),
        (generate, {"bundle": output / "quantised.npz", "lanes": lanes, "output": output / "rtl"}),
        (cosim, {"folder": output / "rtl", "seed": seed, "json_path": output / "cosim.json"}),
        (budget, {"target": output / "rtl", "every": True, "json_path": output / "budget.json"}),
    ]  # fmt: skip
    for command, arguments in steps:
        click.secho(f"\n== {command.name}", bold=True)
        context.invoke(command, **arguments)


def main() -> None:
    """Entry point: turns every deliberate error into one line and exit code 2."""
    try:
        status = cli.main(standalone_mode=False)
    except click.exceptions.Abort:
        click.echo("sgq-hw: interrupted", err=True)
        sys.exit(130)
    except click.ClickException as error:
        message = " ".join(error.format_message().split())
    except SgqError as error:
        message = " ".join(str(error).split())
    except OSError as error:
        message = f"{error.filename or 'input or output'}: {error.strerror or error}"
    else:
        sys.exit(status if isinstance(status, int) else 0)
    click.echo(f"sgq-hw: error: {message}", err=True)
    sys.exit(EXIT_BAD_INPUT)
