"""What docs/edge.md tells people to type exists, and its figures are the gates'."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import typer.main

from ovsdino_export import cli as export
from ovsdino_runtime import cli as run
from ovsdino_runtime.metrics import GATES

PAGE = Path(__file__).parents[1] / "docs" / "edge.md"
TEXT = PAGE.read_text(encoding="utf-8")


def test_every_option_of_its_commands_exists() -> None:
    group = typer.main.get_command(export.app)
    known = {
        "ovsdino-export": lambda words: group.commands[words[1]],  # type: ignore[attr-defined]
        "ovsdino-run": lambda words: typer.main.get_command(run.app),
    }
    lines = [line.strip() for line in TEXT.splitlines() if re.match(r"^    ovsdino-(export|run) ", line)]
    assert len(lines) >= 6
    for line in lines:
        words = shlex.split(line.replace("[", "").replace("]", "").replace("|", " "))
        options = {option for item in known[words[0]](words).params for option in item.opts}
        assert {word for word in words if word.startswith("--")} <= options, line


def test_its_links_lead_somewhere_and_its_gates_are_the_projects() -> None:
    for link in re.findall(r"\]\(([^)#:]+)\)", TEXT):
        assert (PAGE.parent / link).exists(), link
    gate = GATES["fp16"]
    assert f"a mean patch cosine of {gate.cosine_mean}, {gate.cosine_p1} at the first percentile" in TEXT
    assert f"{gate.label_agreement} of labels" in TEXT
