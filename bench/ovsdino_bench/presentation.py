"""What a command shows and writes when counting is done."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import typer

from ovsdino_bench.accuracy import Comparison
from ovsdino_bench.counts import ImageCounts
from ovsdino_bench.report import Report, as_text, report_of, save_report
from ovsdino_bench.runs import Recorded
from ovsdino_bench.tables import accuracy_table
from ovsdino_runtime import command_line
from ovsdino_runtime.errors import DataError, one_line
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
        DataError: images could not be measured, or none of a data set's; everything else is printed and
            written before.
        OutputError: something cannot be written.
    """
    done: list[Recorded] = []
    reports: list[Report] = []
    comparisons: list[Comparison] = []
    without: list[tuple[str, DataError]] = []
    for recorded in finished:
        try:
            report, found = report_of(recorded, block)
        except DataError as error:
            without.append((recorded.run.name, error))
            continue
        done.append(recorded)
        reports.append(report)
        comparisons.append(found)
        if out is not None:
            ensure_folder(out)
            save_report(report, out / f"{recorded.run.name}.json")
    several = len(finished) > 1
    if as_json and done:
        typer.echo(as_text(reports, several=several))
    elif done:
        tables = []
        for recorded, found in zip(done, comparisons, strict=True):
            heading = f"{recorded.run.name}: {recorded.run.facts['data']}\n" if several else ""
            tables.append(heading + accuracy_table(found, block))
        typer.echo("\n\n".join(tables))
    if counts is not None and done:
        last = comparisons[0].accuracies[-1]
        ImageCounts(names=last.names, images=comparisons[0].images, counts=last.counts).save(counts)
    if without:
        _complain_of_nothing(done, without, several=several)
    complain(done)


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
        typer.echo(f"not measured: {one_line(error)}", err=True)
    raise DataError(
        f"{len(errors)} of {len(results)} images could not be measured, and the figures are over the others; "
        f"the first: {errors[0]}"
    )


def _complain_of_nothing(
    done: Sequence[Recorded], without: Sequence[tuple[str, DataError]], *, several: bool
) -> NoReturn:
    """Name the data sets of which nothing could be measured, after what failed of the others.

    Args:
        done: the others.
        without: name and reason.
        several: whether several were asked for.

    Raises:
        DataError: always.
    """
    try:
        complain(done)
    except DataError as error:
        command_line.complain(str(error))
    reasons = "; ".join(f"{name}: {error}" if several else str(error) for name, error in without)
    raise DataError(reasons + ("; the other data sets are done" if done else "")) from without[0][1]
