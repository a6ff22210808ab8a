"""Marks of template lines change nothing, and counts of several runs add up."""

import re
from pathlib import Path

from sgq_hw.render import environment, render
from tests.coverage import MARK, marking, read, report
from tests.rtl.unit_runs import random_design


def test_marks_are_comments_with_the_line(repository_root: Path) -> None:
    design = random_design(3, pes=2, lanes=3, nodes=9, streamed=True, layers=2)
    plain = render(design, "unit")
    env = environment()
    loader = env.loader
    assert loader is not None
    env.loader = marking(env)
    assert env.cache is not None
    env.cache.clear()
    try:
        found = render(design, "unit")
    finally:
        env.loader = loader
        env.cache.clear()
    for name, text in found.items():
        bare = "\n".join(MARK.sub("", line) for line in text.splitlines())
        assert bare.split() == plain[name].split(), name
    template = (repository_root / "templates" / "mac_array.v.j2").read_text().splitlines()
    lines = [line for line in found["sgq_mac_array.v"].splitlines() if "base + term" in line]
    (mark,) = [MARK.search(line) for line in lines]
    assert mark is not None
    assert "base + term" in template[int(mark[1]) - 1]


def test_counts_add_up(tmp_path: Path) -> None:
    source = tmp_path / "build"
    (source / "src").mkdir(parents=True)
    (source / "src" / "sgq_ram_auto.v").write_text("if (we) begin //@31\nmem <= 0; //@32\n")
    data = tmp_path / "data"
    data.mkdir()
    for run, counts in enumerate([(0, 2, 0), (0, 0, 0)]):
        (data / f"{run}.src").write_text(str(source))
        points = [
            ("1", "v_branch", "if"),
            ("1", "v_branch", "else"),
            ("2", "v_toggle", "a[0]:0->1"),
        ]
        (data / f"{run}.dat").write_text(
            "".join(
                f"C '\x01f\x02src/sgq_ram_auto.v\x01l\x02{line}\x01n\x021\x01page\x02{page}/ram"
                f"\x01o\x02{what}\x01h\x02top' {count}\n"
                for (line, page, what), count in zip(points, counts, strict=True)
            )
        )
    units = read(data)
    assert units["ram"].share("line") == (1, 2)
    assert units["ram"].share("toggle") == (0, 1)
    text = report(units)
    assert re.search(r"\| ram \| 1 of 2 \| 50.0 % \| 0 of 1 \| 0.0 % \|", text)
    assert "`ram` line 31, branch if: `if (we) begin`" in text
    assert "`ram` line 32: `a` 1 of 1" in text
