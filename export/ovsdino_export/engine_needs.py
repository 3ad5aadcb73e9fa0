"""What an engine's commands lack, said package by package: a Jetson must not install the whole extra."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ovsdino_runtime.backends.gpu import import_tensorrt
from ovsdino_runtime.builtin import open_bundle
from ovsdino_runtime.bundle import IMAGE_GRAPH_FP16
from ovsdino_runtime.errors import BackendUnavailable
from ovsdino_runtime.extras import explained, lacking
from ovsdino_runtime.sidecar import Precision

_READING, _DERIVING = ("onnx",), ("onnx", "onnxruntime")


@contextmanager
def needing_for_an_engine(source: Path | None, precision: Precision, *, dry_run: bool) -> Iterator[None]:
    """Turn the lack of a package, while importing, into one line on what is missing, and no more.

    Args:
        source: a bundle's folder, a baked graph, or None for the built-in bundle.
        precision: of the engine; an FP16 graph that the bundle lacks must be derived, by ONNX Runtime.
        dry_run: whether nothing is built, so that TensorRT is not needed.

    Raises:
        BackendUnavailable: a package is not installed; TensorRT's lack, which concerns the whole
            machine, is said first where it is needed.
        BundleError: see `open_bundle`.
    """

    def explain(error: ModuleNotFoundError) -> BackendUnavailable:
        if not dry_run:
            import_tensorrt()
        what = "looking at a build" if dry_run else "building an engine"
        return lacking(_packages(source, precision), what, error)

    with explained(explain):
        yield


def _packages(source: Path | None, precision: Precision) -> tuple[str, ...]:
    if precision == "fp32" or (source is not None and source.suffix == ".onnx"):
        return _READING
    return _READING if open_bundle(source).has(IMAGE_GRAPH_FP16) else _DERIVING
