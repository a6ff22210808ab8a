"""Commands about cost: budget, devices."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sgq_hw.cli.common import EXIT_NO, json_option, pairs, unused_seed_option, write_json
from sgq_hw.errors import InputError

if TYPE_CHECKING:
    from sgq_hw.budget import Budget
    from sgq_hw.throughput import Throughput


def _budget_of(
    target: Path, options: dict[str, Any], capacity: str | None, devices: Sequence[Any]
) -> "Budget":
    from sgq_hw.budget import make_budget  # noqa: PLC0415
    from sgq_hw.bundle import load_bundle  # noqa: PLC0415
    from sgq_hw.generate import design_for, load_generated  # noqa: PLC0415

    if target.is_dir():
        if options or capacity:
            decided = "--pes, --lanes, --inputs and --capacity"
            raise InputError(f"{target}: {decided} were decided by generate")
        generated = load_generated(target)
        return make_budget(generated.bundle, generated.design, tuple(devices))
    bundle = load_bundle(target)
    design = design_for(
        bundle,
        pes=options.get("pes", 1),
        lanes=options.get("lanes", 16),
        inputs_on_chip=options.get("inputs") == "on-chip",
        capacity=pairs(capacity, "--capacity"),
    )
    return make_budget(bundle, design, tuple(devices))


def _arrays_of(
    target: Path, slots: int, inputs: str | None, capacity: str | None
) -> "list[Throughput]":
    from sgq_hw.bundle import load_bundle  # noqa: PLC0415
    from sgq_hw.throughput import arrays_of  # noqa: PLC0415

    return arrays_of(
        load_bundle(target), slots, inputs_on_chip=inputs == "on-chip",
        capacity=pairs(capacity, "--capacity"),
    )  # fmt: skip


@click.command()
@click.argument("target", type=click.Path(path_type=Path))
@click.option("--pes", type=int, help="Processing elements of a bundle's design, default 1.")
@click.option("--lanes", type=int, help="Its lanes, 1 to 64, default 16.")
@click.option("--capacity", help="Larger capacities: nodes=,edges=,edge_words=,row_edges=,"
              "row_nonzeros=,input_words=, and the nodes of degree buckets: bucket0= and so on.")
@click.option("--inputs", type=click.Choice(["stream", "on-chip"]),
              help="Where the inputs of a bundle's design lie, default stream.")
@click.option("--device", help="Exit with 1 if this device does not hold it.")
@click.option("--all", "every", is_flag=True, help="Try every known device.")
@click.option("--fit", "slots", type=int,
              help="Compare all arrays of so many multiply-accumulate slots.")
@unused_seed_option
@json_option
def budget(
    target: Path, pes: int | None, lanes: int | None, capacity: str | None, inputs: str | None,
    device: str | None, every: bool, slots: int | None, json_path: Path | None,
) -> None:  # fmt: skip
    """Price the memories of TARGET, a bundle or a generated folder, and predict its cycles.

    With --fit: which number of processing elements and lanes does most with so many slots.
    """
    from sgq_hw.cost.devices import find_device, load_devices  # noqa: PLC0415
    from sgq_hw.report import print_arrays, print_budget  # noqa: PLC0415

    if slots is not None:
        given_too = {"--pes": pes, "--lanes": lanes, "--device": device, "--all": every or None}
        wrong = [name for name, value in given_too.items() if value is not None]
        if wrong or target.is_dir():
            raise InputError(f"--fit: chooses the array of a bundle; not with {wrong or target}")
        arrays = _arrays_of(target, slots, inputs, capacity)
        write_json(json_path, {"arrays": [array.as_json() for array in arrays]})
        print_arrays(arrays)
        return

    devices: Sequence[Any] = load_devices() if every else ()
    if device is not None:
        devices = [find_device(device)]
    given = {"pes": pes, "lanes": lanes, "inputs": inputs}
    options = {name: value for name, value in given.items() if value is not None}
    result = _budget_of(target, options, capacity, devices)
    write_json(json_path, result.as_json())
    print_budget(result)
    if result.fits and not any(fit.fits for fit in result.fits):
        sys.exit(EXIT_NO)


@click.command()
@unused_seed_option
@json_option
def devices(json_path: Path | None) -> None:
    """List the known devices and where their figures come from."""
    from sgq_hw.cost.devices import load_devices  # noqa: PLC0415
    from sgq_hw.report import print_devices  # noqa: PLC0415

    known = load_devices()
    write_json(json_path, {"devices": [{"part": d.part, "family": d.family} for d in known]})
    print_devices(known)
