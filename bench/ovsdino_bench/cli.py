"""`ovsdino-bench`: prove what an artifact does."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ovsdino_bench import options as o
from ovsdino_bench.accuracy_command import accuracy, merge
from ovsdino_bench.latency_command import latency
from ovsdino_bench.parity_command import parity
from ovsdino_bench.prepare_command import prepare
from ovsdino_bench.reference_command import reference
from ovsdino_bench.report_command import readme, report
from ovsdino_runtime import command_line
from ovsdino_runtime.extras import needing

app = typer.Typer(
    add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None
)
app.command()(prepare)
app.command()(accuracy)
app.command()(merge)
app.command()(reference)
app.command()(parity)
app.command()(latency)
app.command()(report)
app.command()(readme)


@app.callback()
def bench(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=command_line.version_of("ovsdino-bench"),
            is_eager=True,
            help="Print the version.",
        ),
    ] = False,
) -> None:
    """Measure what a bundle does, and the checkpoint it was exported from."""


@app.command()
def compare(
    before: Annotated[
        Path, typer.Argument(help="Counts of `accuracy --counts` (.npz), or a report (.json).")
    ],
    after: Annotated[Path, typer.Argument(help="Another model's on the same images, or a later report.")],
    block: o.Block = 1,
    as_json: o.Json = False,
) -> None:
    """Say what changed from one model, or report of latency or parity, to another beyond the noise."""
    from ovsdino_bench.plain_json import json_text

    if before.suffix == ".json" or after.suffix == ".json":
        from ovsdino_bench.comparing import compare_files

        changes, text = compare_files(before, after)
        typer.echo(json_text(changes) if as_json else text)
        return
    from ovsdino_bench.counts import ImageCounts, gain
    from ovsdino_bench.tables import gain_table

    found = gain(ImageCounts.load(before), ImageCounts.load(after), block)
    typer.echo(json_text(found.as_dict()) if as_json else gain_table(found))


@app.command()
def table(
    reports: Annotated[list[Path], typer.Argument(help="Reports of one kind.")],
    paper: Annotated[
        bool, typer.Option("--paper", help="Show the eight benchmarks beside the paper's Table 1.")
    ] = False,
) -> None:
    """Print reports side by side as a Markdown table, named by their files."""
    from ovsdino_bench.documents import read_document
    from ovsdino_bench.paper import beside_the_paper
    from ovsdino_bench.report import read_reports
    from ovsdino_bench.short_table import short_table
    from ovsdino_bench.tables import heading_of, markdown

    if not paper and any(read_document(path)[0] != "accuracy" for path in reports):
        typer.echo(short_table(reports))
        return
    read = [(path, read_reports(path)) for path in reports]
    if paper:
        typer.echo(beside_the_paper([report for _, found in read for report in found]))
        return
    columns = [(heading_of(path.stem, report, found), report) for path, found in read for report in found]
    typer.echo(markdown(columns))


@app.command()
def merging(
    image: Annotated[Path, typer.Argument(help="A picture; it is resized to every size.")],
    bundle: o.Bundle = None,
    size: Annotated[list[str], typer.Option(help="Width x height, any number of times.")] = [  # noqa: B006
        "480x360",
        "1920x1080",
    ],
    vocabulary: Annotated[list[str], typer.Option(help="Class lists, any number of times.")] = [  # noqa: B006
        "camvid",
        "ade20k",
    ],
    runs: Annotated[int, typer.Option(min=1, help="Counted runs of each.")] = 5,
) -> None:
    """Time window scores to labels, against the usual C x H x W logits in PyTorch; prints JSON."""
    from ovsdino_bench.documents import SCHEMAS, as_document
    from ovsdino_bench.machine import machine

    with needing("bench", "timing the usual way"):
        from ovsdino_bench.merging import time_merging
    from ovsdino_runtime.preprocess import load_image
    from ovsdino_runtime.segmenter import Segmenter

    sizes = [o.parse_size(text) for text in size]
    segmenter = Segmenter.open(o.opened(bundle).path, "cpu")
    timings = time_merging(segmenter, load_image(image), sizes, vocabulary, runs)
    report = {
        "kind": "merging",
        "schema": SCHEMAS["merging"],
        "machine": machine(),
        "timings": [item.as_dict() for item in timings],
    }
    typer.echo(as_document(report))


def main() -> None:
    """Run the command line."""
    command_line.run(app)


if __name__ == "__main__":
    main()
