"""The user's pictures on which forms differ most from PyTorch, with labels, as HTML for a page."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from html import escape
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from ovsdino_bench.asked import asked_again
from ovsdino_bench.documents import Document
from ovsdino_bench.forms import FORMS, engine_hashes
from ovsdino_bench.panels import marked, panel, picture
from ovsdino_bench.recorded import Recorded, RecordedImage
from ovsdino_bench.recorded_windows import features_of, labels_of, recorded_grid
from ovsdino_runtime.backends import Backend, NoBackend
from ovsdino_runtime.bundle import Bundle
from ovsdino_runtime.errors import BackendUnavailable, DataError, OvsDinoError
from ovsdino_runtime.preprocess import load_image
from ovsdino_runtime.render import Labels, overlay_image
from ovsdino_runtime.segmenter import Segmentation, Segmenter


def worst_pictures(path: Path, report: Document, images: Path, bundle: Path | None) -> str:
    """Return the pictures that any form differs most on, with the bundle's own labels beside them if asked.

    Args:
        path: the report's file, for errors.
        report: of parity.
        images: folder of the user's pictures.
        bundle: the bundle that was measured; asked what was measured, on the best device here.

    Raises:
        DataError: the report names no pictures as it should, the folder lacks all of them, the bundle is
            another one, or the report is of a version that did not keep what was asked.
        BundleError, VocabularyError: the bundle cannot be used.
    """
    shares: dict[str, float] = {}
    for worst in _named(path, report).values():
        for name, share in worst.items():
            shares[name] = min(share, shares.get(name, 1.0))
    there = _there(images, list(shares))
    segment = None if bundle is None else _segmenting(path, report, bundle)
    parts = [_missing(images, shares, there)]
    for name in sorted(there, key=lambda item: shares[item]):
        pixels = load_image(images / name)
        shown = [picture(pixels, "picture")]
        if segment is not None:
            found = segment(pixels)
            overlay = overlay_image(
                pixels, found.labels, found.names, background_index=found.background_index
            )
            shown.append(picture(overlay, "labels"))
        caption = f"{escape(name)}: {100 * shares[name]:.3f} % of labels agree with PyTorch"
        parts.append(
            f'<figure><figcaption>{caption}</figcaption><div class="pair">{"".join(shown)}</div></figure>'
        )
    return "".join(parts)


def worst_labels(path: Path, report: Document, images: Path, bundle: Path, reference: Path) -> str:
    """Return the pictures that each form differs most on: PyTorch's labels, its own, and where they differ.

    The labels are computed here, PyTorch's from the features that were recorded. A form that does not run
    here, or whose engine is another one here, is named with the reason.

    Args:
        path: the report's file, for errors.
        report: of parity.
        images: folder of the user's pictures.
        bundle: the bundle that was measured.
        reference: the file it was measured against.

    Raises:
        DataError: one of them is not what the report was made from, or the folder lacks all pictures.
        BundleError, InferenceError: the bundle cannot be used.
    """
    opened, recorded = Bundle.open(bundle), Recorded.open(reference)
    recorded.check(opened.manifest)
    _same_graphs(path, report, opened)
    if list(recorded.question.names) != list(report["classes"]):
        raise DataError(
            f"{reference} was recorded for {len(recorded.question.names)} classes, {path} measured "
            f"{len(report['classes'])} or others; name the reference that it was measured against"
        )
    differing = {
        form: {name: share for name, share in worst.items() if share < 1}
        for form, worst in _named(path, report).items()
    }
    named = list(dict.fromkeys(name for worst in differing.values() for name in worst))
    there = _there(images, named)
    kept = {name: _Expected(opened, recorded, item, images) for name, item in _recorded(recorded, there)}
    parts = [_missing(images, named, there)]
    for form, worst in differing.items():
        parts.append(f"<h3>{escape(form)}</h3>")
        shown = [name for name in worst if name in kept]
        if not worst:
            parts.append("<p>Every label of every picture is PyTorch&#x27;s.</p>")
        if not shown:
            continue
        try:
            backend = _open(form, opened, report)
        except OvsDinoError as error:
            parts.append(f"<p>Its labels are not shown, it does not run here: {escape(str(error))}</p>")
            continue
        for name in tqdm(shown, form, unit="image"):
            parts.append(kept[name].beside(form, backend, worst[name]))
    return "".join(parts)


class _Expected:
    """A picture with PyTorch's labels, to hold those of forms beside."""

    def __init__(self, bundle: Bundle, recorded: Recorded, image: RecordedImage, images: Path) -> None:
        self._image, self._question = image, recorded.question
        self._segmenter = Segmenter(bundle, NoBackend())
        self._grid = recorded_grid(recorded, bundle.manifest, image)
        self._pixels = load_image(images / image.file)
        if self._pixels.shape[:2] != image.size_hw:
            height, width = self._pixels.shape[:2]
            raise DataError(
                f"{images / image.file} is {width}x{height}, but was {image.size_hw[1]}x{image.size_hw[0]} "
                f"when {recorded.path} was recorded; name the folder of those pictures"
            )
        self._labels = labels_of(self._segmenter, image.features, self._grid, self._question)

    def beside(self, form: str, backend: Backend, measured: float) -> str:
        """Return PyTorch's labels, a form's, the picture, and where they differ, as one figure."""
        features = features_of(form, backend, self._image)
        found = labels_of(self._segmenter, features, self._grid, self._question)
        differs = found != self._labels
        share = f"{100 * (1 - differs.mean()):.4f}"
        caption = f"{self._image.file}: {share} % of labels agree with PyTorch"
        if share != f"{100 * measured:.4f}":
            caption += f" here, {100 * measured:.4f} % when it was measured"
        count = f"pixels that differ: {int(differs.sum())} of {differs.size}; marks are widened to be seen"
        shown = (
            panel("PyTorch", self._overlay(self._labels)),
            panel(form, self._overlay(found)),
            panel("picture", self._pixels),
            panel(count, marked(self._pixels, differs)),
        )
        heading = f"<figcaption>{escape(caption)}</figcaption>"
        return f'<figure>{heading}<div class="four">{"".join(shown)}</div></figure>'

    def _overlay(self, labels: Labels) -> Image.Image:
        names, background = self._question.names, self._question.background_index
        return overlay_image(self._pixels, labels, names, background_index=background)


def _named(path: Path, report: Document) -> dict[str, dict[str, float]]:
    """Return the pictures that each form differs most on and the share of their labels that agree."""
    try:
        return {
            str(form["form"]): {
                Path(item["file"]).name: float(item["label_agreement"]) for item in form["worst_images"]
            }
            for form in report["forms"]
        }
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path} is damaged: it lacks {error}; measure again") from error


def _there(images: Path, named: Sequence[str]) -> list[str]:
    there = [name for name in named if (images / name).is_file()]
    if named and not there:
        raise DataError(
            f"{images} holds none of the {len(named)} pictures that differ most; name their folder"
        )
    return there


def _missing(images: Path, named: Mapping[str, float] | Sequence[str], there: Sequence[str]) -> str:
    missing = [name for name in named if name not in there]
    return f"<p>Not in {escape(images.resolve().name)}: {escape(', '.join(missing))}</p>" if missing else ""


def _recorded(recorded: Recorded, names: Sequence[str]) -> Iterator[tuple[str, RecordedImage]]:
    held = [str(item["file"]) for item in recorded.about["images"]]
    for name in names:
        count = held.count(name)
        if count != 1:
            raise DataError(
                f"{recorded.path} holds {count or 'no'} pictures called {name}, whose labels differ; name "
                "the reference that was measured against, of pictures that each have a name of their own"
            )
    for image in recorded.of(names):
        yield image.file, image


def _same_graphs(path: Path, report: Document, bundle: Bundle) -> None:
    ours = {name: entry.sha256 for name, entry in bundle.manifest.files.items()}
    files = report.get("files", {})
    if not isinstance(files, Mapping):
        raise DataError(f"{path} is damaged: its files are no table of hashes; measure again")
    for name, sha256 in files.items():
        if name.startswith("image.") and ours.get(name) != sha256:
            raise DataError(
                f"{path} was measured with another {name} than {bundle.path} holds; name the bundle that was "
                "measured, or measure again"
            )


def _segmenting(path: Path, report: Document, bundle: Path) -> Callable[[NDArray[np.uint8]], Segmentation]:
    """Return what segments a picture into what was measured."""
    segmenter = Segmenter.open(bundle)
    _same_graphs(path, report, segmenter.bundle)
    question = asked_again(path, report, segmenter.text)
    return lambda pixels: segmenter.segment(pixels, question)


def _open(form: str, bundle: Bundle, report: Document) -> Backend:
    """Return what runs a form.

    Raises:
        BackendUnavailable: it cannot be had, or its engine is not the one that was measured.
        OvsDinoError: it is there and broken.
    """
    if form not in FORMS:
        raise BackendUnavailable(f"this version knows no form of that name; it knows {', '.join(FORMS)}")
    backend = FORMS[form].open(bundle)
    engines, ours = report.get("engines"), engine_hashes({form: backend}).get(form)
    measured = engines.get(form) if isinstance(engines, Mapping) else None
    if measured is not None and measured != ours:
        raise BackendUnavailable(
            f"the engine here is another than the one that was measured, whose SHA-256 is {measured}; "
            "measure again"
        )
    return backend
