"""Counting data sets one after the other, so that a run goes on where it was stopped."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ovsdino_bench.accuracy import count_images
from ovsdino_bench.benchmark import Benchmark
from ovsdino_bench.folder import LabelledImage
from ovsdino_bench.journal import Journal
from ovsdino_bench.measured import Measured
from ovsdino_bench.prompts import with_synonyms
from ovsdino_bench.report import run_of
from ovsdino_bench.runs import PLACE, Recorded, Run, file_name
from ovsdino_bench.selection import Selection, Shard
from ovsdino_bench.shards import Stamp, counted_with_failures, merge, wait_for_shards
from ovsdino_runtime.question import Question


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is to be counted.

    Attributes:
        run: what is measured, in full.
        question: the classes.
        images: those selected, over all shards.
        earlier_files: shards' files with failures of an earlier launch, see `wait_for_shards`.
    """

    run: Run
    question: Question
    images: Sequence[LabelledImage]
    earlier_files: Mapping[Path, Stamp]


@dataclass(frozen=True, kw_only=True)
class Session:
    """How data sets are counted.

    Attributes:
        measured: what runs.
        selection: which images.
        shard: which part of them.
        launched: whether the other shards run beside this one; the first then puts them together.
        background: the policy for benchmarks with a background; None is their default.
        synonyms: whether benchmarks are asked by words of the same meaning too.
        out: where counts are kept; None keeps them in memory.
        machine: on what, as JSON takes it; described before models are loaded, which may change
            the cores that this process may use.
        command: as it was typed.
    """

    measured: Measured
    selection: Selection
    shard: Shard
    launched: bool
    background: str | None
    synonyms: bool
    out: Path | None
    machine: Mapping[str, Any]
    command: str

    @property
    def _merges(self) -> bool:
        """Whether this process waits for the others of a launch and puts their counts together."""
        return self.launched and self.shard.number == 1 and self.shard.count > 1

    def plan(self, benchmark: Benchmark) -> Plan:
        """Return what is to be counted of a data set.

        Raises:
            DataError: no image is selected, the reference lacks one, or the background policy does not fit.
            VocabularyError: a name is unknown.
        """
        background = self.background if benchmark.has_background else None
        segmenter = self.measured.segmenters[0]
        if self.synonyms:
            benchmark = with_synonyms(benchmark, segmenter.text)
        question = benchmark.question(segmenter, background)
        images = self.selection.of(benchmark)
        reference = self.measured.reference
        if reference is not None:
            reference.check_images([item.image.name for item in images])
        run = run_of(
            benchmark,
            images,
            self.selection,
            question,
            benchmark.policy(background),
            self.measured.manifest,
            self.measured.backends,
            self.measured.checkpoint_sha256,
            None if reference is None else reference.facts,
            self.measured.engines,
        )
        earlier: Mapping[Path, Stamp] = {}
        if self.out is not None and self._merges:
            earlier = counted_with_failures(self.out, run, self.shard.count)
        return Plan(run=run, question=question, images=images, earlier_files=earlier)

    def count(self, plan: Plan) -> Recorded:
        """Count a data set; return all its counts, or those of the shard that this process counts.

        Raises:
            DataError: the file of counts is of another run, or the other processes do not come to an end.
            InferenceError: a backend fails.
            OutputError: counts cannot be written.
        """
        run, shard = plan.run, self.shard
        path = None if self.out is None else self.out / file_name(run.name, shard)
        with Journal.open(path, run, shard, self.machine, self.command) as journal:
            places = shard.places(run.images)
            left = [place for place in places if place not in journal.recorded.results]
            earlier = journal.recorded.run.facts
            moved = earlier.get(PLACE, run.facts[PLACE]) != run.facts[PLACE]
            if journal.recorded.results and (moved or earlier.get("data") != run.facts["data"]):
                note = (
                    f"going on with counts in {path} of {earlier.get('data')}, which lay elsewhere; if these "
                    "are other images or labels, name another --out"
                )
                tqdm.write(f"note: {note}", file=sys.stderr)
            bar = tqdm(total=len(places), initial=len(places) - len(left), desc=run.name, unit="image")
            with bar:
                selected = ((place, plan.images[place]) for place in left)
                for result in count_images(self.measured.segmenters, plan.question, selected):
                    journal.add(result)
                    bar.update()
        if self.out is None or not self._merges:
            return journal.recorded
        return merge(wait_for_shards(self.out, run, shard.count, plan.earlier_files))[0]
