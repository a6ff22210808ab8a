"""What cocotb needs around it: its libraries, a Python to embed, and where that finds modules."""

import os
import re
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import sgq_hw
from sgq_hw.errors import ToolError

# What a caller's shell may hold and would quietly run fewer tests, or run them differently.
_FOREIGN_VARIABLES = (
    "COCOTB_TESTCASE", "COCOTB_TEST_FILTER", "COCOTB_LIST_TESTS", "COCOTB_MAX_FAILURES",
    "COCOTB_RANDOM_TEST_ORDER", "COCOTB_PDB_ON_EXCEPTION", "COCOTB_RESOLVE_X", "GPI_EXTRA",
    "MODULE", "TESTCASE", "RANDOM_SEED",
)  # fmt: skip


@cache
def cocotb_libraries() -> Path:
    """Return the folder of cocotb's simulator libraries.

    Raises:
        ToolError: cocotb is not installed.
    """
    try:
        from cocotb_tools import config  # noqa: PLC0415 (needed only when something is simulated)
    except ImportError as error:
        raise ToolError(
            "cocotb is not installed; install it with: pip install 'sgq-hw[sim]'"
        ) from error
    return Path(config.libs_dir)


def cocotb_environment(
    *,
    top: str,
    module: str,
    results: Path,
    seed: int,
    testcase: str | None,
    python_path: Sequence[Path],
    env: Mapping[str, str],
) -> dict[str, str]:
    """Return the environment in which a simulator runs the tests of `module`.

    Args:
        top: Top module.
        module: Name of the Python module with the tests.
        results: Where cocotb writes its results.
        seed: Of the random numbers.
        testcase: Only the tests of this name.
        python_path: Folders that are searched for modules first.
        env: Variables on top of this process's own.

    Raises:
        ToolError: cocotb or a shared library of Python is missing.
    """
    variables = {name: text for name, text in os.environ.items() if name not in _FOREIGN_VARIABLES}
    variables |= {
        **env,
        "COCOTB_TOPLEVEL": top,
        "COCOTB_TEST_MODULES": module,
        "COCOTB_RESULTS_FILE": str(results),
        "COCOTB_RANDOM_SEED": str(seed),
        "TOPLEVEL_LANG": "verilog",
        "GPI_USERS": _gpi_users(),
        "PYGPI_PYTHON_BIN": sys.executable,
        "PYTHONPATH": os.pathsep.join(_python_path(python_path)),
        "PYTHONUNBUFFERED": "1",  # a crash must not swallow the last lines
        # cocotb starts pytest for its assertion messages alone; plugins would cost 0.3 s a run.
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
    }
    if testcase is not None:
        variables["COCOTB_TEST_FILTER"] = rf"\.{re.escape(testcase)}(/|$)"
    return variables


@cache
def _gpi_users() -> str:
    """Return what cocotb's libraries load: Python itself, then cocotb's entry point."""
    cocotb_libraries()
    import find_libpython  # noqa: PLC0415 (comes with cocotb)
    from cocotb_tools import config  # noqa: PLC0415

    library = os.environ.get("LIBPYTHON_LOC") or find_libpython.find_libpython()
    if library is None:
        raise ToolError(
            f"{sys.executable}: this Python has no shared library (libpython), which cocotb loads; "
            "use one from the system's packages or built with --enable-shared"
        )
    return f"{library};{config.pygpi_entry_point()}"


def _python_path(extra: Sequence[Path]) -> list[str]:
    """Return what the simulator's Python searches: the same places, in the same order, as ours.

    The folder of this package comes last: in an editable installation a hook finds the package,
    and no place in `sys.path` does.
    """
    found = [str(path.absolute()) for path in extra]
    found += [str(Path(entry).absolute()) for entry in sys.path if Path(entry).exists()]
    found.append(str(Path(sgq_hw.__file__).absolute().parents[1]))
    return list(dict.fromkeys(found))
