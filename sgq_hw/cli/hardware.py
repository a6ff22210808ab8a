"""Commands about hardware: generate, pack, cosim."""

import json
import sys
from pathlib import Path

import click

from sgq_hw.cli.common import (
    EXIT_NO,
    Command,
    json_option,
    pairs,
    pickle_option,
    seed_option,
    unused_seed_option,
    write_json,
)
from sgq_hw.errors import InputError


def _design_options(function: Command) -> Command:
    options = (
        click.option("--pes", type=int, default=1, show_default=True, help="Processing elements."),
        click.option("--lanes", type=int, default=16, show_default=True, help="Lanes, 1 to 64."),
        click.option("--stream-bits", type=int,
                     help="Bits of a stream beat; by default as few as cost no cycles."),
        click.option("--input", "input_form", default="auto", show_default=True,
                     type=click.Choice(["auto", "sparse", "dense"]), help="Form of the inputs."),
        click.option("--capacity", help="Larger capacities: nodes=,edges=,row_edges=,"
                     "edge_words=,row_nonzeros=,input_words=, and the nodes of degree buckets: "
                     "bucket0=..."),
        click.option("--rom", is_flag=True, help="Bake parameters and graph in."),
        click.option("--graph", "graph_form", default="on-chip", show_default=True,
                     type=click.Choice(["on-chip", "streamed"]),
                     help="Keep the graph on chip, or stream it past with every inference."),
        click.option("--inputs", "inputs_place", default="stream", show_default=True,
                     type=click.Choice(["stream", "on-chip"]),
                     help="Send inputs with every inference, or load them like the graph."),
    )  # fmt: skip
    for option in reversed(options):
        function = option(function)
    return function


_SPARSE = {"auto": None, "sparse": True, "dense": False}


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@_design_options
@click.option("--unit", help="Only this hardware unit.")
@click.option("--force", is_flag=True, help="Replace a folder that holds other files.")
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path))
@unused_seed_option
@json_option
def generate(
    bundle: Path, pes: int, lanes: int, stream_bits: int | None, input_form: str,
    capacity: str | None, rom: bool, graph_form: str, inputs_place: str, unit: str | None,
    force: bool, output: Path, json_path: Path | None,
) -> None:  # fmt: skip
    """Write the Verilog accelerator of BUNDLE into a folder."""
    from sgq_hw import generate as generating  # noqa: PLC0415

    if unit is not None:
        paths = generating.generate_unit(
            bundle, unit, output, pes=pes, lanes=lanes, stream_bits=stream_bits,
            sparse_input=_SPARSE[input_form], rom=rom, streamed=graph_form == "streamed",
            inputs_on_chip=inputs_place == "on-chip", capacity=pairs(capacity, "--capacity"),
        )  # fmt: skip
        write_json(json_path, {"files": [str(path) for path in paths]})
        click.echo("\n".join(map(str, paths)))
        return
    generated = generating.generate(
        bundle, output, pes=pes, lanes=lanes, stream_bits=stream_bits,
        sparse_input=_SPARSE[input_form], rom=rom, streamed=graph_form == "streamed",
        inputs_on_chip=inputs_place == "on-chip", capacity=pairs(capacity, "--capacity"),
        force=force,
    )  # fmt: skip
    from sgq_hw.report import print_build_report  # noqa: PLC0415

    write_json(json_path, json.loads((output / generating.DESIGN_FILE).read_text()))
    print_build_report(generated)


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.argument("graph")
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path))
@click.option("--serial", is_flag=True, help="Leave edges and inputs unscheduled: slow.")
@pickle_option
@unused_seed_option
@json_option
def pack(
    folder: Path, graph: str, output: Path, serial: bool, allow_pickle: bool,
    json_path: Path | None,
) -> None:  # fmt: skip
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
    load = load_packets(generated.design, bundle, serial=serial).lines()
    infer = input_packet(generated.design, bundle.workload, serial=serial).lines()
    write_lines(output, load + infer)
    write_json(json_path, {"load_beats": len(load), "inference_beats": len(infer)})
    click.echo(f"{output}: {len(load)} beats load, {len(infer)} beats an inference")


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--graph", help="Another graph within capacity.")
@click.option("--input", "features", type=click.Path(path_type=Path),
              help="Other input features for the same graph: an .npz with x_shape and x_....")
@click.option("--inferences", type=click.IntRange(1), default=2, show_default=True)
@click.option("--serial", is_flag=True, help="Send edges and inputs unscheduled: slow.")
@click.option("--waves", type=click.Path(path_type=Path), help="Write a waveform here.")
@seed_option
@pickle_option
@json_option
def cosim(
    folder: Path, graph: str | None, features: Path | None, inferences: int, serial: bool,
    waves: Path | None, seed: int, allow_pickle: bool, json_path: Path | None,
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
            generated, graph=other, inferences=inferences, waves=waves, random_init=True,
            seed=seed, serial=serial,
        )  # fmt: skip
    write_json(json_path, result.as_json())
    command = " ".join(["sgq-hw cosim", str(folder), *(["--graph", graph] if graph else [])])
    print_cosim(result, command)
    if not result.equal:
        sys.exit(EXIT_NO)
