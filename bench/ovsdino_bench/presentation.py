"""What a command shows and writes when counting is done."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import typer

from ovsdino_bench.counts import ImageCounts
from ovsdino_bench.report import as_text, report_of, save_report
from ovsdino_bench.runs import Recorded
from ovsdino_bench.tables import accuracy_table
from ovsdino_runtime import command_line
from ovsdino_runtime.errors import DataError
from ovsdino_runtime.files import ensure_folder

_NAMED = 10  # images that failed and are named on stderr; the report names all


def present(
    finished: Sequence[Recorded], *, block: int, out: Path | None, counts: Path | None, as_json: bool
) -> None:
    """Print the figures of every data set, and write what was asked for.

    Args:
        finished: the counts of each, all shards together.
        block: neighbouring images that count as one sample of the interval.
        out: folder of the reports.
        counts: file of the last backend's counts by image; for a single data set.
        as_json: whether to print JSON in place of tables.

    Raises:
        DataError: images could not be measured; everything else is printed and written before.
        OutputError: something cannot be written.
    """
    reports, comparisons = [], []
    for recorded in finished:
        report, found = report_of(recorded, block)
        reports.append(report)
        comparisons.append(found)
        if out is not None:
            ensure_folder(out)
            save_report(report, out / f"{recorded.run.name}.json")
    if counts is not None:
        last = comparisons[0].accuracies[-1]
        ImageCounts(names=last.names, images=comparisons[0].images, counts=last.counts).save(counts)
    if as_json:
        typer.echo(as_text(reports))
    else:
        tables = []
        for recorded, found in zip(finished, comparisons, strict=True):
            heading = f"{recorded.run.name}: {recorded.run.facts['data']}\n" if len(finished) > 1 else ""
            tables.append(heading + accuracy_table(found, block))
        typer.echo("\n\n".join(tables))
    complain(finished)


def complain(counted: Sequence[Recorded]) -> None:
    """Name the images that could not be measured.

    Raises:
        DataError: there are any.
    """
    results = [item for recorded in counted for item in recorded.results.values()]
    errors = [item.error for item in results if item.error]
    if not errors:
        return
    for error in errors[1:_NAMED]:
        typer.echo(f"not measured: {command_line.one_line(error)}", err=True)
    raise DataError(
        f"{len(errors)} of {len(results)} images could not be measured, and the figures are over the others; "
        f"the first: {errors[0]}"
    )
