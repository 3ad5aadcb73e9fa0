"""The whole path: photographs -> fit -> export -> run -> labels, each step by its own command line."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

SHARED = Path(__file__).parents[1].parent / "shared"
WEIGHTS = SHARED / "weights"
BACKBONE = WEIGHTS / "dav2_vits14_backbone_fp16.safetensors"
CAMVID = "sky,building,pole,road,sidewalk,tree,traffic sign,fence,car,person,bicyclist=rider"
COLOURS = {"car": (200, 30, 40), "road": (110, 110, 115), "tree": (30, 130, 40)}
BLOCKED = ("torch", "torchvision", "timm", "open_clip", "onnx", "transformers", "safetensors")


def command(main: Callable[[], None], monkeypatch: pytest.MonkeyPatch, line: str) -> None:
    """Run a command line in this process."""
    monkeypatch.setattr(sys, "argv", shlex.split(line))
    try:
        main()
    except SystemExit as stopped:
        assert stopped.code in (0, None), stopped.code  # noqa: PT017


def run_without_torch(line: str) -> subprocess.CompletedProcess[str]:
    """Run `ovsdino-run` in a process in which torch and all that trains cannot be imported."""
    program = f"""
import sys
for name in {BLOCKED!r}:
    sys.modules[name] = None
sys.argv[0] = "ovsdino-run"
from ovsdino_runtime.cli import main
main()
"""
    words = [sys.executable, "-c", program, *shlex.split(line)]
    return subprocess.run(words, capture_output=True, text=True, check=False)


def scene(rng: np.random.Generator, side: int = 128) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """A tree beside a road with a car on it, and the labels in the order of COLOURS."""
    labels = np.full((side, side), 1, dtype=np.uint8)
    labels[:, : int(side * rng.uniform(0.25, 0.45))] = 2
    top, left = rng.integers(side // 8, side // 2), rng.integers(side // 2, side * 5 // 8)
    labels[top : top + side * 3 // 8, left : left + side * 3 // 8] = 0
    image = np.array(list(COLOURS.values()), dtype=np.float64)[labels]
    noisy = image + rng.normal(scale=8, size=image.shape)
    return noisy.clip(0, 255).astype(np.uint8), labels


def dataset(folder: Path, count: int) -> Path:
    rng = np.random.default_rng(0)
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True)
    for number in range(count):
        image, labels = scene(rng)
        Image.fromarray(image).save(folder / "images" / f"{number}.png")
        Image.fromarray(labels).save(folder / "labels" / f"{number}.png")
    return folder


def text_vectors(folder: Path) -> str:
    """Return options that name ready-made text vectors of a 16-dimensional space."""
    vectors = np.random.default_rng(1).normal(size=(len(COLOURS) + 1, 16))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    np.savez(folder / "text.npz", street=vectors.astype(np.float32))
    (folder / "names.json").write_text(json.dumps({"street": [*COLOURS, "sky"]}))
    return f"--text-embeddings {folder}/text.npz --text-names {folder}/names.json"


def outcome(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert done.returncode == 0, done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def test_a_model_is_trained_exported_and_run_without_torch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ovsdino.cli import main as train
    from ovsdino_export.cli import main as export

    data, text = dataset(tmp_path / "data", 8), text_vectors(tmp_path)
    fit, best, bundle, out = (tmp_path / name for name in ("fit", "fit/best", "bundle", "out"))
    command(
        train,
        monkeypatch,
        f"ovsdino-train fit --data folder:{data}:{','.join(COLOURS)} --out {fit} --window-px 64 {text} "
        "--backbone vit_tiny_patch16_224 --backbone-weights random:0 --trainable-blocks 0 --teacher none "
        "--epochs 6 --batch-size 4 --lr 3e-3 --mask-px 32 --cache-views 2 --crop-scale 0.9 1.0 "
        "--val-fraction 0.25",
    )
    command(export, monkeypatch, f"ovsdino-export onnx {best} --out {bundle} {text}")
    picture = data / "images" / "0.png"
    done = run_without_torch(
        f"{picture} --classes cars,road,trees --background none --bundle {bundle} --out {out} "
        "--device cpu --json"
    )
    (result,) = outcome(done)["images"]
    assert "car" in done.stderr  # that "cars" was understood as car
    written = sorted(out.iterdir())
    assert len(written) == 2
    (labels_file,) = (path for path in written if "labels" in path.name)
    found = np.array(Image.open(labels_file))
    truth = np.array(Image.open(data / "labels" / "0.png"))
    assert found.shape == truth.shape
    assert (found == truth).mean() > 0.8
    assert result["classes"]

    from ovsdino.torch_backend import TorchBackend
    from ovsdino_bench.accuracy import measure
    from ovsdino_bench.folder import labelled_folder
    from ovsdino_runtime.backends.selection import open_backend
    from ovsdino_runtime.bundle import Bundle
    from ovsdino_runtime.metrics import GATES

    opened = Bundle.open(bundle)
    backends = [TorchBackend.open(best), open_backend(opened, "cpu")]
    compared = measure(opened, backends, labelled_folder(data, list(COLOURS)), list(COLOURS))
    in_torch, in_onnx = compared.accuracies
    assert in_torch.miou > 0.6
    assert abs(in_torch.miou - in_onnx.miou) * 100 <= GATES["fp32"].delta_miou_points
    assert compared.label_agreement["onnxruntime-cpu"] >= GATES["fp32"].label_agreement


@pytest.mark.real
@pytest.mark.skipif(not BACKBONE.is_file(), reason="the real images and weights are not here")
def test_the_real_backbone_goes_the_whole_path_on_photographs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A few steps on CamVid: too few to segment well, enough to hold every contract of the path."""
    from ovsdino.cli import main as train
    from ovsdino.torch_backend import TorchBackend
    from ovsdino_export.cli import main as export
    from ovsdino_runtime.bundle import Bundle
    from ovsdino_runtime.metrics import GATES
    from ovsdino_runtime.segmenter import Segmenter

    data = tmp_path / "data"
    for name in ("images", "labels"):
        (data / name).mkdir(parents=True)
        for path in sorted((SHARED / "data" / "camvid" / "train" / name).iterdir())[:8]:
            (data / name / path.name).symlink_to(path)
    text = " ".join(
        f"--text-{option} {WEIGHTS}/clip_vitb16_class_text{ending}"
        for option, ending in (("embeddings", ".npz"), ("names", "_names.json"))
    )
    fit, bundle = tmp_path / "fit", tmp_path / "bundle"
    command(
        train,
        monkeypatch,
        f"ovsdino-train fit --data 'folder:{data}:{CAMVID},-' --out {fit} {text} --teacher none "
        f"--backbone vit_small_patch14_dinov2 --backbone-weights {BACKBONE} --trainable-blocks 0 "
        "--epochs 4 --batch-size 4 --lr 2e-3 --cache-views 1 --val-fraction 0",
    )
    command(export, monkeypatch, f"ovsdino-export onnx {fit}/last --out {bundle} {text}")
    manifest = json.loads((bundle / "manifest.json").read_text())
    assert manifest["parity"]["fp32"]["cosine_mean"] > 0.99999

    picture = sorted((SHARED / "data" / "camvid" / "val" / "images").iterdir())[0]
    done = run_without_torch(
        f"{picture} --classes '{CAMVID}' --background none --bundle {bundle} --out {tmp_path}/out "
        "--device cpu --json"
    )
    (result,) = outcome(done)["images"]
    assert sum(row["area_share"] for row in result["classes"]) == pytest.approx(1)
    found = np.array(Image.open(result["outputs"]["labels"]))
    in_torch = Segmenter(Bundle.open(bundle), TorchBackend.open(fit / "last"))
    expected = in_torch.segment(picture, CAMVID.split(","), background="none").labels
    assert (found == expected).mean() >= GATES["fp32"].label_agreement

    lines = [json.loads(line) for line in (fit / "metrics.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if line["kind"] == "step"]
    assert losses[-1] < 0.95 * losses[0]
