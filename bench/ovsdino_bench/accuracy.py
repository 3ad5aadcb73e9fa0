"""mIoU of one or several backends on the same images, through the same Segmenter."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ovsdino_bench.benchmark import own_data
from ovsdino_bench.bootstrap import miou_interval
from ovsdino_bench.boundary import BoundaryCounts
from ovsdino_bench.confusions import Confusions
from ovsdino_bench.folder import LabelledImage
from ovsdino_bench.plain_json import finite
from ovsdino_bench.results import BackendCounts, ImageResult, boundaries_of
from ovsdino_runtime.backends import Backend
from ovsdino_runtime.bundle import Bundle
from ovsdino_runtime.errors import DataError, ImageError, InferenceError
from ovsdino_runtime.metrics import iou_per_class, mean_iou
from ovsdino_runtime.question import Question
from ovsdino_runtime.segmenter import Segmenter

_MISTAKES = 3  # classes that a class is mistaken for, in a report


@dataclass(frozen=True, kw_only=True)
class Accuracy:
    """What one backend reached.

    Attributes:
        backend: what ran.
        names: the classes.
        counts: pixels by image and (true, predicted) class.
        boundaries: boundary pixels by class, over all images.
    """

    backend: str
    names: tuple[str, ...]
    counts: Confusions
    boundaries: BoundaryCounts

    @property
    def miou(self) -> float:
        """Mean IoU in [0, 1]."""
        return mean_iou(self.counts.total())

    def as_dict(self, block: int = 1) -> dict[str, Any]:
        """Return the figures as JSON takes them; null where a class never occurs.

        Args:
            block: neighbouring images that count as one sample, see `miou_interval`.
        """
        score = self.boundaries.f_score()
        known = score[np.isfinite(score)]
        total = self.counts.total()
        return {
            "backend": self.backend,
            "miou": finite(mean_iou(total)),
            "miou_interval_95": [finite(end) for end in miou_interval(self.counts.sums(), block=block)],
            "block": block,
            "iou": _by_name(self.names, iou_per_class(total)),
            "boundary_f_mean": float(known.mean()) if known.size else None,
            "boundary_f": _by_name(self.names, score),
            "taken_for": _taken_for(self.names, total),
        }


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Accuracy of every backend, and how far their labels agree with the first one's.

    Attributes:
        images: the images that were measured, by file name.
        failures: those that could not be: file name, and why.
        accuracies: one a backend, in the order given.
        label_agreement: by backend name, share of pixels with the first backend's label.
    """

    images: tuple[str, ...]
    failures: tuple[tuple[str, str], ...]
    accuracies: tuple[Accuracy, ...]
    label_agreement: Mapping[str, float]

    @classmethod
    def of(
        cls, names: tuple[str, ...], backends: Sequence[str], results: Iterable[ImageResult]
    ) -> Comparison:
        """Add up what images gave; the order in which they come does not matter.

        Args:
            names: the classes.
            backends: what ran, in the order of the results' counts.
            results: of every image.

        Raises:
            DataError: no image could be measured.
        """
        ordered = sorted(results, key=lambda item: item.place)
        measured = [item for item in ordered if not item.error]
        failures = tuple((item.image, item.error) for item in ordered if item.error)
        if not measured:
            raise DataError(
                f"none of {len(ordered)} images could be measured, the first because: {failures[0][1]}"
                if failures
                else "there is no image to measure"
            )
        pixels = sum(item.pixels for item in measured)
        accuracies, agreement = [], {}
        for number, backend in enumerate(backends):
            parts = [item.backends[number] for item in measured]
            accuracies.append(
                Accuracy(
                    backend=backend,
                    names=names,
                    counts=Confusions.of_images([part.confusion for part in parts], len(names)),
                    boundaries=boundaries_of([part.boundary for part in parts], len(names)),
                )
            )
            agreement[backend] = sum(part.same for part in parts) / pixels
        return cls(
            images=tuple(item.image for item in measured),
            failures=failures,
            accuracies=tuple(accuracies),
            label_agreement=agreement,
        )

    def as_dict(self, block: int = 1) -> dict[str, Any]:
        """Return the figures as JSON takes them; `block` as in `Accuracy.as_dict`."""
        return {
            "images": len(self.images),
            "failed": [{"image": image, "error": error} for image, error in self.failures],
            "backends": [item.as_dict(block) for item in self.accuracies],
            "label_agreement_with_first": dict(self.label_agreement),
        }


def measure(
    bundle: Bundle, backends: Sequence[Backend], images: Sequence[LabelledImage], classes: Sequence[str]
) -> Comparison:
    """Run every backend over the images and count.

    Args:
        bundle: geometry and text embeddings, the same for all.
        backends: what turns windows into features; the first is the reference for agreement.
        images: pictures with ground truth.
        classes: names in label order; `label=prompt|prompt` as on the command line,
            `-` for values that are unlabelled.

    Raises:
        DataError: an image cannot be measured: it or its labels cannot be read, or differ in size.
    """
    segmenters = [Segmenter(bundle, backend) for backend in backends]
    question = own_data("", images, classes).question(segmenters[0])
    results = list(count_images(segmenters, question, enumerate(images)))
    found = Comparison.of(question.names, [backend.name for backend in backends], results)
    if found.failures:
        raise DataError(found.failures[0][1])
    return found


def count_images(
    segmenters: Sequence[Segmenter], question: Question, images: Iterable[tuple[int, LabelledImage]]
) -> Iterator[ImageResult]:
    """Return what each image gives, one after the other; one that cannot be measured gives its error.

    Args:
        segmenters: one a backend; the first is the reference for agreement.
        question: the classes, in the order of the places in the ground truth.
        images: place and picture.

    Raises:
        InferenceError: a backend fails, which is no fault of the image.
    """
    for place, item in images:
        try:
            truth = item.truth()
            found = [segmenter.segment(item.image, question).labels for segmenter in segmenters]
            if truth.shape != found[0].shape:
                raise DataError(f"{item.image} is {found[0].shape}, but its labels are {truth.shape}")
        except (DataError, ImageError) as error:
            text = str(error)
            named = text if item.image.name in text else f"{item.image}: {text}"
            yield ImageResult(place=place, image=item.image.name, error=named)
            continue
        except InferenceError as error:
            raise InferenceError(f"{item.image}: {error}") from error
        yield ImageResult(
            place=place,
            image=item.image.name,
            pixels=int(truth.size),
            backends=tuple(
                BackendCounts.of(truth, labels, found[0], len(question.names)) for labels in found
            ),
        )


def _taken_for(names: Sequence[str], counts: NDArray[np.int64]) -> dict[str, dict[str, float]]:
    """Return for each class the classes most of its pixels are mistaken for, with their share of them."""
    mistaken: dict[str, dict[str, float]] = {}
    for place, name in enumerate(names):
        shares = counts[place] / max(1, counts[place].sum())
        shares[place] = 0
        most = [other for other in np.argsort(-shares, kind="stable")[:_MISTAKES] if shares[other] > 0]
        mistaken[name] = {names[other]: float(shares[other]) for other in most}
    return mistaken


def _by_name(names: Sequence[str], values: NDArray[np.float64]) -> dict[str, float | None]:
    return {
        name: None if np.isnan(value) else float(value) for name, value in zip(names, values, strict=True)
    }
