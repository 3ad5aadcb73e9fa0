"""Every error a user can cause, in one tree.

    OvsDinoError
    ├── BundleError           a bundle is missing, changed, unsafe, newer, or not a bundle
    ├── BackendUnavailable    a device, runtime or extra that was asked for is not there
    ├── InferenceError        a graph was loaded, but failed on an image
    ├── VocabularyError       a class, class list or background policy makes no sense
    ├── ImageError            a picture cannot be read
    ├── OutputError           a result cannot be written
    ├── DataError             a training or benchmark data set is not as it should be
    ├── CheckpointError       a checkpoint or a weights file does not fit
    ├── TrainingError         a training cannot go on
    └── ExportError           a model cannot be exported
        └── ParityError       an artifact does not compute what PyTorch computes

A message says in one line what was asked, what was found and what to do. Command lines catch
`OvsDinoError` once, print it and exit 1. Programming mistakes stay ValueError and TypeError.
"""

from __future__ import annotations


class OvsDinoError(Exception):
    """Base of every error a user can cause."""


class BundleError(OvsDinoError):
    """A bundle is missing, changed, unsafe, of a newer schema, or not a bundle."""


class BackendUnavailable(OvsDinoError):  # noqa: N818 - a state of the machine, not a mistake
    """A device, a runtime or an optional dependency that was asked for is not there."""


class InferenceError(OvsDinoError):
    """A graph was loaded, but failed on an image: out of memory, for instance."""


class VocabularyError(OvsDinoError):
    """A class name, a class list or a background policy makes no sense."""


class ImageError(OvsDinoError):
    """A picture cannot be read, or is too large to be."""


class OutputError(OvsDinoError):
    """A result cannot be written."""


class DataError(OvsDinoError):
    """A data set is missing, empty or not of the layout that was named."""


class CheckpointError(OvsDinoError):
    """A checkpoint or a weights file is missing, broken or does not fit the model."""


class TrainingError(OvsDinoError):
    """A training has come to where it cannot go on."""


class ExportError(OvsDinoError):
    """A model cannot be exported as asked."""


class ParityError(ExportError):
    """An exported artifact does not compute what PyTorch computes."""


def one_line(message: str) -> str:
    """Return a message without line breaks and terminal codes that names from elsewhere may hold."""
    return "".join(letter if letter.isprintable() else "?" for letter in " ".join(message.splitlines()))
