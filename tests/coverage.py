"""Coverage of the templates: lines, branches and toggles in the simulations that `make cover` runs.

As a pytest plugin (`-p tests.coverage`) it lets every rendered line tell its line in the template,
so that the counts of many designs add up. As a command it reads what the runs left in the folder of
`$SGQ_HW_COVERAGE` and writes `report.md` and `report.json` beside it: percentages of every
template, what no run reached, and an example of its Verilog.
"""

import json
import os
import re
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import pytest
from jinja2 import BaseLoader, Environment, FunctionLoader

from sgq_hw.render import MEMORY_TEMPLATES, UNITS, environment
from sgq_hw.sim.runner import COVERAGE_VARIABLE

TEMPLATES = Path(__file__).resolve().parents[1] / "templates"
MARKED = frozenset(f"{name}.v.j2" for name in (*UNITS, *MEMORY_TEMPLATES))
MARK = re.compile(r" *//@(\d+)$")
TAGS = re.compile(r"\{%.*?%\}|\{#.*?#\}")
POINT = re.compile(r"^C '(.*)' (\d+)$")


def marked(text: str) -> str:
    """Return a template whose lines end with a comment that holds their number."""
    lines = text.split("\n")
    result = []
    for number, (line, after) in enumerate(zip(lines, [*lines[1:], ""], strict=True), 1):
        # A line of tags renders to nothing; `{%-` and `-}}` join lines.
        joined = after.startswith("{%-") or line.endswith("-}}")
        plain = not TAGS.sub("", line).strip() or joined
        result.append(line if plain else f"{line} //@{number}")
    return "\n".join(result)


def marking(env: Environment) -> BaseLoader:
    """Return the loader of an environment, but with marked templates of Verilog."""
    loader = env.loader
    assert loader is not None

    def load(name: str) -> str:
        text = loader.get_source(env, name)[0]
        return marked(text) if name in MARKED else text

    return FunctionLoader(load)


@pytest.hookimpl
def pytest_configure() -> None:
    """Mark all lines that are rendered from now on."""
    if COVERAGE_VARIABLE not in os.environ:
        raise pytest.UsageError(f"set {COVERAGE_VARIABLE} to the folder of the counts")
    env = environment()
    env.loader = marking(env)


Key = tuple[int, str, str, int]
"""Line of the template, kind of point, what it is, and which of several such in the line."""


@dataclass
class Unit:
    """Points of one template, in all designs.

    Attributes:
        counts: How often each was reached.
        example: Some Verilog of each line.
    """

    counts: dict[Key, int] = field(default_factory=lambda: defaultdict(int))
    example: dict[int, str] = field(default_factory=dict)

    def points(self, kind: str) -> dict[Key, int]:
        """Return the points of lines, or of toggles."""
        toggles = kind == "toggle"
        return {key: count for key, count in self.counts.items() if (key[1] == "toggle") == toggles}

    def share(self, kind: str) -> tuple[int, int]:
        """Return how many points were reached, and how many there are."""
        points = self.points(kind)
        return sum(bool(count) for count in points.values()), len(points)


def _template(file: str) -> str | None:
    name = Path(file).stem.removeprefix("sgq_")
    name = re.sub(r"^(ram|rom)_.*", r"\1", name)
    return name if (TEMPLATES / f"{name}.v.j2").is_file() else None


@cache
def _checks(template: str) -> frozenset[int]:
    """Return the lines that only simulation sees."""
    found, inside = set(), False
    for number, line in enumerate((TEMPLATES / f"{template}.v.j2").read_text().splitlines(), 1):
        inside = (inside or line.startswith("`ifdef SGQ_CHECKS")) and not line.startswith("`endif")
        if inside:
            found.add(number)
    return frozenset(found)


@cache
def _lines(path: Path) -> tuple[tuple[int, str], ...]:
    """Return the template's line number and the text of each line of a source."""
    found, number = [], 0
    for line in path.read_text().splitlines():
        match = MARK.search(line)
        number = int(match[1]) if match else number
        found.append((number, MARK.sub("", line).strip()))
    return tuple(found)


def _points(path: Path) -> Iterator[tuple[dict[str, str], int]]:
    for line in path.read_text(errors="replace").splitlines():
        match = POINT.match(line)
        if match:
            pairs = (pair.split("\x02", 1) for pair in match[1].split("\x01") if pair)
            yield {pair[0]: pair[1] for pair in pairs}, int(match[2])


def read(folder: Path) -> dict[str, Unit]:
    """Return what all runs reached, by template."""
    units: dict[str, Unit] = defaultdict(Unit)
    for counts in sorted(folder.glob("*.dat")):
        source = Path(counts.with_suffix(".src").read_text())
        places: dict[tuple[str, int, str, str], dict[int, int]] = defaultdict(dict)
        for fields, count in _points(counts):
            file, kind = fields["f"], fields["page"].split("/")[0].removeprefix("v_")
            place = (file, int(fields["l"]), kind, fields.get("o", ""))
            column = int(fields.get("n", 0))
            # Instances of a module count together.
            places[place][column] = places[place].get(column, 0) + count
        for (file, line, kind, what), columns in places.items():
            template = _template(file)
            if template is None:
                continue
            number, text = _lines(source / file)[line - 1]
            if number == 0 or number in _checks(template):
                continue
            unit = units[template]
            unit.example.setdefault(number, text)
            for order, column in enumerate(sorted(columns)):
                unit.counts[number, kind, what, order] += columns[column]
    return dict(sorted(units.items()))


def _percent(share: tuple[int, int]) -> str:
    return f"{100 * share[0] / share[1]:.1f} %" if share[1] else "-"


def _signal(what: str) -> str:
    return re.sub(r"\[\d+\]|:.*", "", what)


def report(units: dict[str, Unit]) -> str:
    """Return the report as Markdown."""
    text = ["| template | lines and branches | | toggles | |", "|---|---|---|---|---|"]
    totals = {"line": [0, 0], "toggle": [0, 0]}
    for name, unit in units.items():
        cells = []
        for kind, total in totals.items():
            share = unit.share(kind)
            total[0] += share[0]
            total[1] += share[1]
            cells += [f"{share[0]} of {share[1]}", _percent(share)]
        text.append(f"| {name} | {' | '.join(cells)} |")
    cells = [
        cell for done, wanted in totals.values()
        for cell in (f"{done} of {wanted}", _percent((done, wanted)))
    ]  # fmt: skip
    text += [f"| **all** | {' | '.join(cells)} |", "", "## Never reached", ""]
    for name, unit in units.items():
        missed = sorted(key for key, count in unit.points("line").items() if not count)
        for number, kind, what, _ in missed:
            text.append(f"- `{name}` line {number}, {kind} {what}: `{unit.example[number]}`")
    text += ["", "## Never toggled, bits and directions of all", ""]
    for name, unit in units.items():
        missing: dict[tuple[int, str], list[int]] = defaultdict(lambda: [0, 0])
        for (number, _, what, _), count in unit.points("toggle").items():
            entry = missing[number, _signal(what)]
            entry[0] += not count
            entry[1] += 1
        for (number, signal), (missed_bits, bits) in sorted(missing.items()):
            if missed_bits:
                text.append(f"- `{name}` line {number}: `{signal}` {missed_bits} of {bits}")
    return "\n".join(text) + "\n"


def main() -> int:
    """Write the reports; returns 1 if nothing was counted."""
    folder = Path(os.environ[COVERAGE_VARIABLE])
    units = read(folder)
    if not units:
        print(f"{folder}: no counts", file=sys.stderr)
        return 1
    text = report(units)
    (folder.parent / "report.md").write_text(text)
    data = {
        name: {kind: dict(zip(("reached", "points"), unit.share(kind), strict=True))
               for kind in ("line", "toggle")}
        for name, unit in units.items()
    }  # fmt: skip
    (folder.parent / "report.json").write_text(json.dumps(data, indent=1) + "\n")
    print(text.split("\n## Never toggled")[0])
    print(f"{folder.parent / 'report.md'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
