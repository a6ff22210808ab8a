"""The command line: thin, since each command is a function of the package.

One module for each group of commands. Exit codes: 0 done and true, 1 ran and the answer is no, 2
bad input. Bad input is one line on stderr. Heavy modules are imported by the command that needs
them.
"""

import sys

import click

from sgq_hw import __version__
from sgq_hw.cli.common import EXIT_BAD_INPUT
from sgq_hw.cli.cost import budget, devices
from sgq_hw.cli.demo import demo
from sgq_hw.cli.hardware import cosim, generate, pack
from sgq_hw.cli.networks import golden, quantize, search, train
from sgq_hw.errors import SgqError


@click.group(no_args_is_help=False, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="sgq-hw")
def cli() -> None:
    """Turn a trained graph neural network into a small, verified FPGA accelerator."""


for _command in (
    train, quantize, search, golden, generate, pack, cosim, budget, devices, demo,
):  # fmt: skip
    cli.add_command(_command)


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
