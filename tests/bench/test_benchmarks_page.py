"""docs/benchmarks.md says what the program does: its commands, its numbers of images, its links."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import typer.main

from ovsdino_bench import cli
from ovsdino_bench.datasets import ADAPTERS

PAGE = Path(__file__).parents[2] / "docs" / "benchmarks.md"
TEXT = PAGE.read_text(encoding="utf-8")


def test_every_command_and_option_exists() -> None:
    group = typer.main.get_command(cli.app)
    commands = [
        line.split("ovsdino_bench.cli ")[-1] for line in re.findall(r"^    (\S.*)$", TEXT, flags=re.M)
    ]
    assert len(commands) >= 4
    known: set[str] = set()
    for line in commands:
        words = shlex.split(line.removeprefix("ovsdino-bench "))
        options = {option for item in group.commands[words[0]].params for option in item.opts}  # type: ignore[attr-defined]
        assert {word for word in words if word.startswith("--")} <= options, line
    for command in group.commands.values():  # type: ignore[attr-defined]
        known |= {option for item in command.params for option in item.opts}
    mentioned = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", TEXT)) - {"--nproc-per-node"}
    assert mentioned <= known, mentioned - known


def test_the_table_of_layouts_has_every_benchmark_and_its_number_of_images() -> None:
    rows = [
        [cell.strip() for cell in line.split("|")[1:-1]]
        for line in TEXT.splitlines()
        if line.startswith("| `")
    ]
    found = {name: row for row in rows for name in re.findall(r"`(\w+)`", row[0])}
    assert set(found) == set(ADAPTERS)
    for name, row in found.items():
        assert tuple(map(int, re.findall(r"\d+", row[2]))) == ADAPTERS[name].published
        assert (row[3] == "nothing") == (ADAPTERS[name].conversions is None)


def test_links_lead_somewhere() -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", TEXT)
    assert links
    for link in links:
        assert (PAGE.parent / link).exists(), link
