"""What a report of parity says was asked for, and the same question asked of a bundle again."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np

from ovsdino_bench.documents import Document
from ovsdino_runtime.class_lists import canonical_set
from ovsdino_runtime.errors import DataError
from ovsdino_runtime.question import Question
from ovsdino_runtime.text import TextEmbeddings


def asked(question: Question, vocabulary: str | None) -> dict[str, Any]:
    """Return what a report says of a question, as JSON takes it.

    Args:
        question: the classes.
        vocabulary: the benchmark whose own vectors served, or None.
    """
    index = question.background_index
    return {
        "vocabulary": vocabulary,
        "prompts": question.by_class,
        "background_class": None if index is None else question.names[index],
        "threshold_cosine": question.threshold,
    }


def asked_again(path: Path, report: Document, text: TextEmbeddings) -> Question:
    """Return the question of a report, with a bundle's own text vectors.

    Args:
        path: the report's file, for errors.
        report: of parity.
        text: the bundle's.

    Raises:
        DataError: the report is of a version that did not say what was asked, or damaged.
        VocabularyError: the bundle does not know a name.
    """
    said = report.get("question")
    if said is None:
        raise DataError(
            f"{path} is of an earlier version, which did not keep what was asked; name the file it was "
            "measured against with --reference, or measure again"
        )
    try:
        prompts = _prompts(said["prompts"])
        names, background, threshold = tuple(prompts), said["background_class"], said["threshold_cosine"]
        index = None if background is None else names.index(background)
        unasked = [name for name in names if not prompts[name]]
        # what scores below a threshold is asked for by no name, and comes last
        if unasked != ([] if threshold is None else [background]) or unasked not in ([], [*names[-1:]]):
            raise ValueError("a class without a name")
        threshold = None if threshold is None else float(threshold)
        vocabulary = None if said["vocabulary"] is None else canonical_set(str(said["vocabulary"]))
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{path} is damaged: its question is not as it was written ({error!r}); measure again"
        ) from error
    asked_for = tuple(itertools.chain.from_iterable(prompts.values()))
    return Question(
        names=names,
        background_index=index,
        prompts=asked_for,
        embeddings=text.embed(asked_for, vocabulary),
        groups=np.repeat(np.arange(len(names)), [len(found) for found in prompts.values()]),
        threshold=threshold,
        notes=(),
        untrained=(),
    )


def _prompts(value: Any) -> dict[str, tuple[str, ...]]:
    """Return the names by class.

    Raises:
        TypeError, ValueError: there are none, or some are no texts.
    """
    found = {name: tuple(prompts) for name, prompts in dict(value).items()}
    if not any(found.values()):
        raise ValueError("no names")
    if not all(isinstance(prompt, str) for prompts in found.values() for prompt in prompts):
        raise ValueError("a name that is no text")
    return found
