"""The wheel is complete: the whole chain runs from it, outside the checkout."""

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

SOURCES = ("sgq_hw", "golden", "sim", "templates", "pyproject.toml", "README.md", "LICENSE")


@pytest.fixture(scope="module")
def installed(repository_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    # Building in a copy keeps the checkout free of build folders.
    source = folder / "source"
    source.mkdir()
    for name in SOURCES:
        path = repository_root / name
        if path.is_dir():
            shutil.copytree(path, source / name, symlinks=True)
        else:
            shutil.copy(path, source / name)
    run([sys.executable, "-m", "build", "--wheel", "--no-isolation", "-o", "..", "."], source)
    (wheel,) = folder.glob("*.whl")
    target = folder / "site"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(target)]
    run([*pip, str(wheel)], folder)
    return target


def run(command: list[str], folder: Path, **extra: str) -> str:
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, **extra}, capture_output=True, text=True,
        check=False, timeout=800,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_chain_runs_from_the_wheel(installed: Path, tmp_path: Path) -> None:
    path = str(installed)
    where = run(
        [sys.executable, "-c", "import sgq_hw; print(sgq_hw.__file__)"], tmp_path, PYTHONPATH=path
    )
    assert where.startswith(path)
    output = run([sys.executable, "-m", "sgq_hw", "demo", "karate"], tmp_path, PYTHONPATH=path)
    assert "RTL equals golden model on every word" in output


def test_packages_and_data_are_those_of_the_tree(repository_root: Path, installed: Path) -> None:
    with (repository_root / "pyproject.toml").open("rb") as stream:
        listed = set(tomllib.load(stream)["tool"]["setuptools"]["packages"])
    found = {"sgq_hw"}
    for folder in ("golden", "sim", "templates"):
        found.add(f"sgq_hw.{folder}")
    for init in (repository_root / "sgq_hw").glob("*/__init__.py"):
        found.add(f"sgq_hw.{init.parent.name}")
    assert listed == found
    for folder in ("golden", "sim", "templates"):
        for file in (repository_root / folder).iterdir():
            if file.suffix in {".py", ".j2", ".v", ".cpp", ".vlt"}:
                assert (installed / "sgq_hw" / folder / file.name).is_file(), file


def test_golden_stands_alone(repository_root: Path) -> None:
    # What the package needs at most: the bundle reader and what that reads files with.
    reader = ("bundle", "manifest", "layers", "formats", "fields", "errors", "files", "npz")
    allowed = {"sgq_hw.golden", *(f"sgq_hw.{name}" for name in reader)}
    script = (
        "import sys, pathlib, importlib\n"
        "for f in sorted(pathlib.Path(sys.argv[1]).glob('[a-z]*.py')):\n"
        "    importlib.import_module(f'sgq_hw.golden.{f.stem}')\n"
        "print(*(m for m in sys.modules if m.startswith('sgq_hw.')))\n"
        "print(*(m for m in ('torch', 'jinja2', 'networkx', 'click') if m in sys.modules))\n"
    )
    own, foreign = run(
        [sys.executable, "-c", script, str(repository_root / "golden")], repository_root
    ).split("\n")[:2]
    extra = {m for m in own.split() if not m.startswith("sgq_hw.golden.")} - allowed
    assert extra == set()
    assert foreign == ""
