"""`ovsdino-train`: learn, shrink, and publish what was learned."""

from __future__ import annotations

from typing import Annotated

import typer

from ovsdino.distill_command import distill
from ovsdino.fit_command import fit
from ovsdino.publish_command import publish
from ovsdino.scenes_command import scenes
from ovsdino_runtime import command_line

app = typer.Typer(
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None
)
app.command()(fit)
app.command()(distill)
app.command()(publish)
app.command()(scenes)


@app.callback()
def train(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=command_line.version_of("ovsdino-train"),
            is_eager=True,
            help="Print the version.",
        ),
    ] = False,
) -> None:
    """Train OVS-DINO."""


def main() -> None:
    """Run the command line."""
    command_line.run(app)


if __name__ == "__main__":
    main()
