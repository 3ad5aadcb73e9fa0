"""A reference in place of PyTorch: accuracy has a row of it, latency holds what it times against it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ovsdino_bench.agreement import agreement_with
from ovsdino_bench.recorded import Recorded, RecordedImage, record
from ovsdino_bench.replay import ReplayBackend
from ovsdino_runtime.backends.selection import open_backend
from ovsdino_runtime.bundle import Bundle
from ovsdino_runtime.files import sha256_of
from ovsdino_runtime.metrics import confusion, iou_per_class
from ovsdino_runtime.segmenter import Segmenter
from tests.bench.painted import NAMES


@pytest.fixture
def rewrite(recorded: Path, tiny_bundle: Path, tmp_path: Path) -> Callable[..., Path]:
    """Writes the reference anew with other images or other things said of it."""

    def call(name: str, images: Sequence[RecordedImage] | None = None, **about: Any) -> Path:
        opened = Recorded.open(recorded)
        manifest = Bundle.open(tiny_bundle).manifest
        items = list(opened) if images is None else images
        record(tmp_path / name, manifest, opened.question, {"backend": "torch-cpu", **about}, items)
        return tmp_path / name

    return call


@pytest.fixture
def disturbed(recorded: Path, rewrite: Callable[..., Path]) -> Path:
    """A reference whose features are others than the bundle's, so that its row can be told."""
    random = np.random.default_rng(3)
    items = []
    for item in Recorded.open(recorded):
        changed = item.features + random.normal(scale=0.4, size=item.features.shape).astype(np.float32)
        changed /= np.linalg.norm(changed, axis=1, keepdims=True)
        items.append(
            RecordedImage(
                file=item.file, size_hw=item.size_hw, windows=item.windows, features=changed, truth=item.truth
            )
        )
    return rewrite("disturbed.npz", items)


def without_torch(*words: object) -> subprocess.CompletedProcess[str]:
    script = (
        "import sys\nfor name in ('torch', 'timm', 'open_clip', 'transformers'): sys.modules[name] = None\n"
        f"sys.argv = ['ovsdino-bench', *{[str(word) for word in words]!r}]\n"
        "from ovsdino_bench.cli import main\nmain()\n"
    )
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)


def test_accuracy_has_a_row_of_what_pytorch_gave_and_needs_no_torch(
    tiny_bundle: Path, painted: Path, disturbed: Path
) -> None:
    done = without_torch(
        *("accuracy", "--bundle", tiny_bundle, "--data", painted, "--classes", ",".join(NAMES)),
        *("--device", "cpu", "--reference", disturbed, "--json"),
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert [row["backend"] for row in report["backends"]] == ["pytorch-recorded", "onnxruntime-cpu"]
    assert report["reference"]["sha256"] == sha256_of(disturbed)
    assert report["reference"]["backend"] == "torch-cpu"

    # by hand, picture by picture, with the recorded features in the backend's place
    bundle = Bundle.open(tiny_bundle)
    kept = [item.features for item in Recorded.open(disturbed)]

    class Replayed:
        name = "replayed"

        def features(self, windows: np.ndarray) -> np.ndarray:
            return kept.pop(0)

    counts, same, pixels = np.zeros((2, 4, 4), dtype=np.int64), 0, 0
    ways = Segmenter(bundle, Replayed()), Segmenter(bundle, open_backend(bundle, "cpu"))
    for path in sorted((painted / "images").iterdir()):
        truth = np.array(Image.open(painted / "labels" / path.name))
        labels = [way.segment(path, NAMES, background="none").labels for way in ways]
        counts += np.stack([confusion(truth, found, 4) for found in labels])
        same, pixels = same + int((labels[0] == labels[1]).sum()), pixels + truth.size
    for row, own in zip(report["backends"], counts, strict=True):
        assert list(row["iou"].values()) == pytest.approx(iou_per_class(own).tolist())
    assert report["backends"][0]["iou"] != report["backends"][1]["iou"]
    assert report["label_agreement_with_first"]["onnxruntime-cpu"] == pytest.approx(same / pixels)
    assert same < pixels


def test_a_reference_that_does_not_fit_is_refused_in_one_line(
    tiny_bundle: Path,
    painted: Path,
    recorded: Path,
    rewrite: Callable[..., Path],
    tmp_path: Path,
    bench: Callable,
) -> None:
    items = list(Recorded.open(recorded))
    given = ("accuracy", "--bundle", tiny_bundle, "--classes", ",".join(NAMES), "--device", "cpu", "--data")
    two = rewrite("two.npz", items[:2])
    for reference, code, said in (
        (two, 1, "two.npz lacks 1 of 3 pictures, the first is 2.png; record a reference of this data"),
        (rewrite("other.npz", model={"score_scale": 3.0}), 1, "recorded with a model whose backbone is None"),
        (painted / "labels" / "0.png", 1, "0.png holds no reference"),
        (rewrite("odd.npz", failed=[3]), 1, "odd.npz holds no reference"),
    ):
        ran = bench(*given, painted, "--reference", reference)
        assert (ran.code, len(ran.err.splitlines())) == (code, 1), ran.err
        assert said in ran.error
    assert bench(*given, painted, "--reference", two, "--limit", 2).code == 0
    both = bench(*given, painted, "--reference", recorded, "--checkpoint", tmp_path)
    assert both.code == 2
    assert "leave out one of the two" in " ".join(both.err.replace("│", " ").split())

    # a picture of the same name and size that is another one, and one that could not be read there either
    changed = shutil.copytree(painted, tmp_path / "changed")
    pixels = np.array(Image.open(changed / "images" / "1.png"))
    pixels[20, 20] ^= 1
    Image.fromarray(pixels).save(changed / "images" / "1.png")
    (changed / "images" / "2.png").write_bytes(b"no picture")
    failed = rewrite("failed.npz", items[:2], failed=[{"image": "2.png", "error": "broken"}])
    out = tmp_path / "out"
    ran = bench(*given, changed, "--reference", failed, "--out", out, "--json")
    assert ran.code == 1
    assert "2 of 3 images could not be measured" in ran.error
    errors = [item["error"] for item in json.loads(ran.out)["failed"]]
    assert "1.png: its pixels are not those of any picture in " in errors[0]
    assert "2.png" in errors[1]
    assert json.loads(ran.out)["images"] == 1
    again = bench(*given, changed, "--reference", recorded, "--out", out)
    assert "run.facts.reference." in again.error, "counts of another reference are not gone on with"


def test_latency_holds_what_it_times_against_the_reference_and_needs_no_torch(
    tiny_bundle: Path, painted: Path, recorded: Path, disturbed: Path, tmp_path: Path
) -> None:
    words = (
        *("latency", "--bundle", tiny_bundle, "--image", painted / "images" / "0.png", "--classes", "car"),
        *("--runs", 1, "--warmup", 0, "--cold", 0, "--batches", "", "--form", "onnx-fp32-cpu"),
    )
    out = tmp_path / "l.json"
    done = without_torch(*words, "--reference", disturbed, "--out", out)
    assert done.returncode == 0, done.stderr
    found = json.loads(out.read_text())["agreement"]
    assert (found["images"], found["reference_sha256"]) == (3, sha256_of(disturbed))
    (way,) = found["ways"]
    assert way["way"] == "onnx-fp32-cpu"
    pairs = zip(Recorded.open(recorded), Recorded.open(disturbed), strict=True)
    cosines = np.concatenate([(one.features * other.features).sum(axis=1).ravel() for one, other in pairs])
    assert way["cosine_mean"] == pytest.approx(cosines.mean(), abs=1e-6)
    assert 0.5 < way["label_agreement"] < 1
    assert f"| onnx-fp32-cpu | {100 * way['label_agreement']:.4f} % |" in done.stdout


def test_latency_reads_the_load_before_it_works_itself(
    tiny_bundle: Path, painted: Path, disturbed: Path, bench: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []

    def load() -> float:
        done.append("load")
        return 0.25

    def agreeing(*given: Any) -> dict[str, Any]:
        done.append("agreement")
        return agreement_with(*given)

    monkeypatch.setattr("ovsdino_bench.cpu_telemetry.load_now", load)
    monkeypatch.setattr("ovsdino_bench.agreement.agreement_with", agreeing)
    ran = bench(
        *("latency", "--bundle", tiny_bundle, "--image", painted / "images" / "0.png", "--classes", "car"),
        *("--runs", 1, "--warmup", 0, "--cold", 0, "--batches", "", "--form", "onnx-fp32-cpu"),
        *("--reference", disturbed, "--json"),
    )
    assert ran.code == 0, ran.err
    assert done == ["load", "agreement"]
    assert json.loads(ran.out)["telemetry"]["load_before"] == 0.25


def test_a_row_of_a_reference_says_its_checkpoint_where_the_file_does(
    tiny_bundle: Path, recorded: Path, rewrite: Callable[..., Path]
) -> None:
    manifest = Bundle.open(tiny_bundle).manifest
    assert "checkpoint_sha256" not in ReplayBackend(recorded, manifest).facts
    told = rewrite("told.npz", checkpoint_sha256="ab" * 32)
    assert ReplayBackend(told, manifest).facts["checkpoint_sha256"] == "ab" * 32


def test_latency_refuses_a_reference_of_another_model_before_anything_is_timed(
    tiny_bundle: Path, painted: Path, rewrite: Callable[..., Path], bench: Callable, tmp_path: Path
) -> None:
    other = rewrite("other.npz", model={"score_scale": 3.0})
    ran = bench(
        *("latency", "--bundle", tiny_bundle, "--image", painted / "images" / "0.png", "--classes", "car"),
        *("--form", "onnx-fp32-cpu", "--reference", other, "--out", tmp_path / "l.json"),
    )
    assert ran.code == 1
    assert "recorded with a model whose backbone is None" in ran.error
    assert not (tmp_path / "l.json").exists()
