"""What commands share: exit codes, options, and how results are written."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from sgq_hw.errors import InputError
from sgq_hw.files import write_text

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


def json_option(function: Command) -> Command:
    """Add --json FILE, which is refused at once where it could not be written."""
    return click.option(
        "--json",
        "json_path",
        type=click.Path(path_type=Path),
        callback=_writable,
        help="Write the result as JSON.",
    )(function)


def seed_option(function: Command) -> Command:
    """Add --seed."""
    return click.option("--seed", type=int, default=0, show_default=True, help="Random seed.")(
        function
    )


def unused_seed_option(function: Command) -> Command:
    """Accept --seed in a command that draws nothing, so that scripts may give it to all."""
    return click.option(
        "--seed", type=int, expose_value=False, help="Accepted by all; nothing is drawn here."
    )(function)


def pickle_option(function: Command) -> Command:
    """Add --allow-pickle."""
    return click.option(
        "--allow-pickle", is_flag=True, help="Read the pickled files of a raw Planetoid folder."
    )(function)


def write_json(path: Path | None, data: dict[str, Any]) -> None:
    """Write a result as JSON, if a file was asked for."""
    if path is not None:
        write_text(path, json.dumps(data, indent=1, sort_keys=True) + "\n")


def pairs(text: str | None, option: str) -> dict[str, int]:
    """Parse `name=number,name=number`.

    Raises:
        InputError: it is something else; names the option.
    """
    result: dict[str, int] = {}
    for part in filter(None, (text or "").split(",")):
        name, _, number = part.partition("=")
        try:
            result[name.strip()] = int(number)
        except ValueError:
            raise InputError(f"{option}: '{part}' is not name=number") from None
    return result


def percent(accuracy: dict[str, float]) -> str:
    """Return accuracies as text."""
    return ", ".join(f"{name} {value:.2f} %" for name, value in accuracy.items())
