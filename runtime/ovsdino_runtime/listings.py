"""What a run can be asked for: devices and classes, as lines for people and as JSON for programs."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import typer


def list_devices(bundle: Path | None, *, as_json: bool) -> None:
    """Print what can compute here, and what is missing.

    Args:
        bundle: see `open_bundle`.
        as_json: whether to print JSON.
    """
    from ovsdino_runtime.backends import devices  # noqa: PLC0415 - the help is instant without these
    from ovsdino_runtime.builtin import open_bundle  # noqa: PLC0415 - as above

    states = devices.list_devices(open_bundle(bundle))
    if as_json:
        typer.echo(json.dumps([dataclasses.asdict(state) for state in states], indent=2))
        return
    for state in states:
        typer.echo(f"{state.device:<9} {'yes' if state.available else 'no':<4} {state.explanation}")


def list_classes(bundle: Path | None, *, as_json: bool) -> None:
    """Print the names that a bundle knows without a text encoder, and which of them were trained.

    Args:
        bundle: see `open_bundle`.
        as_json: whether to print JSON.
    """
    from ovsdino_runtime.builtin import open_bundle  # noqa: PLC0415 - the help is instant without these
    from ovsdino_runtime.text import TextEmbeddings  # noqa: PLC0415 - as above

    opened = open_bundle(bundle)
    text = TextEmbeddings(opened)
    names = sorted(text.known)
    if as_json:
        document = {
            "bundle": opened.manifest.name,
            "open_vocabulary": text.open_vocabulary,
            "classes": [{"name": name, "trained": name in text.trained} for name in names],
        }
        typer.echo(json.dumps(document, indent=2))
        return
    column = max(len(name) for name in names)
    for name in names:
        typer.echo(f"{name:<{column}}  {'trained' if name in text.trained else 'untrained'}")
    if text.open_vocabulary:
        typer.echo("note: this bundle has a text encoder, which takes any other name too", err=True)
