"""Whether an exported graph computes what PyTorch computes, on generated windows. Needs no torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from ovsdino_export.output_agreement import classes_agreement, labels_agreement, scores_agreement
from ovsdino_runtime.backends.ort import open_session
from ovsdino_runtime.errors import BundleError, ParityError
from ovsdino_runtime.files import NPZ_DAMAGE
from ovsdino_runtime.metrics import GATES, Agreement, agreement

GOLDEN_WINDOWS = 4
SCENES = 2  # of them, the first ones
_BLOCK_PX = 16  # of the extremes


def golden_windows(window_px: int, seed: int = 0) -> NDArray[np.uint8]:
    """Return windows to compare on: two scene-like pictures, noise, and blocks of 0 and 255.

    Args:
        window_px: side of the window.
        seed: other seeds give other windows.

    Returns:
        uint8 [4, window, window, 3], RGB.
    """
    random = np.random.default_rng(seed)
    noise = random.integers(0, 256, (window_px, window_px, 3), dtype=np.uint8)
    blocks = -(-window_px // _BLOCK_PX)
    coarse = random.integers(0, 2, (blocks, blocks, 3), dtype=np.uint8) * np.uint8(255)
    extremes = coarse.repeat(_BLOCK_PX, axis=0).repeat(_BLOCK_PX, axis=1)[:window_px, :window_px]
    return np.stack([_scene(window_px, random), _scene(window_px, random), noise, extremes])


def save_golden(
    path: Path, windows: NDArray[np.uint8], features: NDArray[np.float32], *, compact: bool = False
) -> None:
    """Write windows and the features PyTorch gave for them (golden.npz).

    Args:
        path: the file.
        windows: those of `golden_windows`.
        features: float32 [4, D, h, w].
        compact: keep a scene and the blocks alone, and their features in FP16, whose rounding changes a
            cosine by 1e-7 at most: a quarter of the size.
    """
    with path.open("wb") as file:
        if compact:
            kept = [0, len(windows) - 1]
            np.savez_compressed(file, windows=windows[kept], features=features[kept].astype(np.float16))
        else:
            np.savez_compressed(file, windows=windows, features=features)


def load_golden(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Return the windows [n, window, window, 3] and features [n, D, h, w] of a golden.npz.

    Raises:
        BundleError: the file is none.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as data:
            return data["windows"].astype(np.uint8), data["features"].astype(np.float32)
    except NPZ_DAMAGE as error:
        raise BundleError(f"{path} holds no golden windows ({error}); export the bundle again") from error


def run_onnx(path: Path, inputs: NDArray[np.generic]) -> NDArray[np.generic]:
    """Return what ONNX Runtime's CPU provider gives for inputs [n, …].

    The first runs alone, the others as a batch, so a graph whose batch is not dynamic fails.

    Args:
        path: a graph with one input and one output.
        inputs: at least two.

    Raises:
        ParityError: the graph does not run.
    """
    session = open_session(path, "cpu")
    name = session.get_inputs()[0].name
    results = []
    for batch in (inputs[:1], inputs[1:]):
        try:
            (result,) = session.run(None, {name: batch})
        except Exception as error:  # ONNX Runtime's exceptions have no common base but Exception
            first = (str(error) or type(error).__name__).splitlines()[0]
            raise ParityError(f"{path.name} does not run on a batch of {len(batch)}: {first}") from error
        results.append(result)
    joined: NDArray[np.generic] = np.concatenate(results)
    return joined


def verify_features(
    path: Path, windows: NDArray[np.uint8], reference: NDArray[np.float32], embeddings: NDArray[np.float32]
) -> Agreement:
    """Run an image graph and return how it agrees with PyTorch.

    Args:
        path: the graph.
        windows: uint8 [n, window, window, 3].
        reference: what PyTorch gives for them, float32 [n, D, h, w].
        embeddings: text embeddings [C, D] for the labels of the gate.

    Raises:
        ParityError: it misses a gate of FP32.
    """
    found = np.asarray(run_onnx(path, windows), dtype=np.float32)
    require_shape(path.name, found.shape, reference.shape)
    measured = agreement(reference, found, embeddings, GATES["fp32"].reach)
    require(path.name, measured.failures(GATES["fp32"]))
    return measured


def verify_scores(
    path: Path, inputs: NDArray[np.generic], reference: NDArray[np.float32]
) -> dict[str, float]:
    """Run a graph that gives cosines [n, C, h, w] and return how it agrees with PyTorch.

    Raises:
        ParityError: it misses a gate of FP32.
    """
    found = np.asarray(run_onnx(path, inputs), dtype=np.float32)
    require_shape(path.name, found.shape, reference.shape)
    figures, failures = scores_agreement(reference, found, GATES["fp32"])
    require(path.name, failures)
    return figures


def verify_labels(
    path: Path, inputs: NDArray[np.generic], reference: NDArray[np.integer]
) -> dict[str, float]:
    """Run a graph that gives labels [n, window, window] and return how it agrees with PyTorch.

    Raises:
        ParityError: it misses the gate of FP32 on labels.
    """
    found = run_onnx(path, inputs)
    require_shape(path.name, found.shape, reference.shape)
    figures, failures = labels_agreement(reference, found, GATES["fp32"])
    by_class, missed = classes_agreement(reference, found.astype(reference.dtype))
    require(path.name, failures + missed)
    return figures | by_class


def require(name: str, failures: Sequence[str]) -> None:
    """Let nothing pass that misses a gate.

    Raises:
        ParityError: there are failures.
    """
    if failures:
        raise ParityError(
            f"{name} does not compute what PyTorch computes: {'; '.join(failures)}; nothing was written: "
            "try other versions of torch and onnxruntime, and report it"
        )


def require_shape(name: str, found: tuple[int, ...], wanted: tuple[int, ...]) -> None:
    """Let no output of another shape pass.

    Raises:
        ParityError: the shapes differ.
    """
    require(name, [] if found == wanted else [f"its output is {found} where PyTorch gives {wanted}"])


def _scene(window_px: int, random: np.random.Generator) -> NDArray[np.uint8]:
    """Return a picture with what photographs have: shading, regions with edges, thin things, texture."""
    rows = np.linspace(0, 1, window_px, dtype=np.float32)[:, None, None]
    top, bottom = random.uniform(60, 255, 3), random.uniform(0, 160, 3)
    picture = np.broadcast_to(top * (1 - rows) + bottom * rows, (window_px, window_px, 3)).astype(np.float32)
    picture = np.ascontiguousarray(picture)
    for _ in range(12):
        colour = random.uniform(0, 255, 3).tolist()
        corners = random.integers(0, window_px, (random.integers(3, 7), 1, 2)).astype(np.int32)
        cv2.fillPoly(picture, [cv2.convexHull(corners)], colour)
    for _ in range(4):
        x = int(random.integers(0, window_px))
        cv2.line(
            picture, (x, 0), (x, window_px), random.uniform(0, 255, 3).tolist(), max(1, window_px // 112)
        )
    smooth = cv2.GaussianBlur(picture, (0, 0), sigmaX=max(0.5, window_px / 400))
    # Two pixels wide, as a camera's colour filter leaves it; that also makes golden.npz a fifth smaller.
    half = -(-window_px // 2)
    grain = random.normal(0, 6, (half, half, 3)).repeat(2, axis=0).repeat(2, axis=1)
    return np.clip(smooth + grain[:window_px, :window_px], 0, 255).astype(np.uint8)
