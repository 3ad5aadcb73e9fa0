"""Parity: recorded once by PyTorch, held against every form, judged by gates."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ovsdino_bench import cli
from ovsdino_bench.forms import FORMS, runnable
from ovsdino_bench.machine import typed_command
from ovsdino_bench.parity import Form, gate_of, measure_parity
from ovsdino_bench.recorded import Recorded, RecordedImage, record
from ovsdino_runtime.backends.recording import RecordingBackend
from ovsdino_runtime.backends.selection import open_backend
from ovsdino_runtime.bundle import Bundle
from ovsdino_runtime.errors import DataError, InferenceError
from ovsdino_runtime.metrics import GATES, confusion, mean_iou
from ovsdino_runtime.segmenter import Segmenter

NAMES = ("car", "road", "sky", "tree")
SIZES = ((56, 84), (40, 28), (28, 90))


class Changed:
    """Another backend whose features are changed."""

    name = "changed"

    def __init__(self, backend: object, change: Callable[[np.ndarray], np.ndarray]) -> None:
        self.backend, self.change = backend, change

    def features(self, windows: np.ndarray) -> np.ndarray:
        return self.change(self.backend.features(windows).copy())


@pytest.fixture(scope="module")
def painted(tiny_colours: dict[str, tuple[int, int, int]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of blocks in the classes' colours, with their labels."""
    folder = tmp_path_factory.mktemp("painted")
    random = np.random.default_rng(0)
    for part in ("images", "labels"):
        (folder / part).mkdir()
    for number, (height, width) in enumerate(SIZES):
        coarse = random.integers(0, len(NAMES), (-(-height // 8), -(-width // 8)))
        labels = coarse.repeat(8, 0).repeat(8, 1)[:height, :width].astype(np.uint8)
        colours = np.array([tiny_colours[name] for name in NAMES], dtype=np.float64)
        pixels = colours[labels] + random.normal(scale=25, size=(height, width, 3))
        labels[:2] = 255
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / "images" / f"{number}.png")
        Image.fromarray(labels).save(folder / "labels" / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def recorded(tiny_bundle: Path, painted: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What ONNX Runtime gives for them, standing for PyTorch."""
    bundle = Bundle.open(tiny_bundle)
    question = Segmenter(bundle, open_backend(bundle, "cpu")).ask(NAMES, "none")
    items = []
    for path in sorted((painted / "images").iterdir()):
        seen = RecordingBackend(open_backend(bundle, "cpu"))
        grid = Segmenter(bundle, seen).encode(path).grid
        truth = np.array(Image.open(painted / "labels" / path.name))
        size = (grid.rows.output_px, grid.columns.output_px)
        windows, features = seen.kept[0]
        items.append(
            RecordedImage(file=path.name, size_hw=size, windows=windows, features=features, truth=truth)
        )
    path = tmp_path_factory.mktemp("recorded") / "reference.npz"
    assert record(path, bundle.manifest, question, {"backend": "a test"}, items) == len(SIZES)
    return path


def one(bundle: Bundle, recorded: Path, change: Callable[[np.ndarray], np.ndarray], precision: str = "fp32"):
    backend = Changed(open_backend(bundle, "cpu"), change)
    form = Form(name="changed", precision=precision, backend=backend)
    (found,) = measure_parity(bundle, Recorded.open(recorded), [form])
    return found


def test_what_is_recorded_reads_back_as_it_was(tiny_bundle: Path, recorded: Path, painted: Path) -> None:
    opened = Recorded.open(recorded)
    assert len(opened) == len(SIZES)
    assert opened.question.names == NAMES
    bundle = Bundle.open(tiny_bundle)
    opened.check(bundle.manifest)
    backend = open_backend(bundle, "cpu")
    for image, size in zip(opened, SIZES, strict=True):
        assert image.size_hw == size
        np.testing.assert_array_equal(backend.features(image.windows), image.features)
        truth = np.array(Image.open(painted / "labels" / image.file))
        np.testing.assert_array_equal(image.truth, truth)


def test_the_same_features_agree_wholly_and_meet_every_gate(tiny_bundle: Path, recorded: Path) -> None:
    found = one(Bundle.open(tiny_bundle), recorded, lambda features: features)
    assert (found.label_agreement, found.relative_frobenius, found.delta_miou_points) == (1.0, 0.0, 0.0)
    assert found.cosine_min == pytest.approx(1)
    assert found.delta_interval_95 == (0.0, 0.0)
    assert not found.failures(GATES["fp32"])


def test_every_figure_is_what_it_says(tiny_bundle: Path, recorded: Path, painted: Path) -> None:
    bundle = Bundle.open(tiny_bundle)
    noise = np.random.default_rng(5)

    def disturbed(features: np.ndarray) -> np.ndarray:
        changed = features + noise.normal(scale=0.4, size=features.shape).astype(np.float32)
        return changed / np.linalg.norm(changed, axis=1, keepdims=True)

    kept: list[np.ndarray] = []

    def keeping(features: np.ndarray) -> np.ndarray:
        kept.append(disturbed(features))
        return kept[-1]

    found = one(bundle, recorded, keeping, "int8")
    images = list(Recorded.open(recorded))
    cosines = np.concatenate(
        [(image.features * changed).sum(axis=1).ravel() for image, changed in zip(images, kept, strict=True)]
    )
    assert found.cosine_mean == pytest.approx(cosines.mean(), abs=1e-6)
    assert found.cosine_p1 == pytest.approx(np.percentile(cosines, 1), abs=1e-6)
    squares = [
        (float(((c - i.features) ** 2).sum()), float((i.features**2).sum()))
        for i, c in zip(images, kept, strict=True)
    ]
    assert found.relative_frobenius == pytest.approx(
        np.sqrt(sum(a for a, _ in squares) / sum(b for _, b in squares)), rel=1e-5
    )

    # the labels as the whole pipeline gives them, with the changed features in place of the backend's
    class Replayed:
        name = "replayed"

        def __init__(self) -> None:
            self.left = list(kept)

        def features(self, windows: np.ndarray) -> np.ndarray:
            return self.left.pop(0)

    plain, changed = Segmenter(bundle, open_backend(bundle, "cpu")), Segmenter(bundle, Replayed())
    same = pixels = 0
    counts = np.zeros((2, 4, 4), dtype=np.int64)
    shares = {}
    for image in images:
        path = painted / "images" / image.file
        before = plain.segment(path, NAMES, background="none").labels
        after = changed.segment(path, NAMES, background="none").labels
        same, pixels = same + int((before == after).sum()), pixels + before.size
        shares[image.file] = (before == after).mean()
        counts += np.stack([confusion(image.truth, labels, 4) for labels in (before, after)])
    assert found.label_agreement == pytest.approx(same / pixels)
    assert found.miou == pytest.approx((mean_iou(counts[0]), mean_iou(counts[1])))
    assert found.delta_miou_points == pytest.approx(100 * (mean_iou(counts[1]) - mean_iou(counts[0])))
    low, high = found.delta_interval_95
    assert low <= found.delta_miou_points <= high
    assert found.worst[0] == (min(shares, key=shares.get), pytest.approx(min(shares.values())))
    assert any("label agreement" in failure for failure in found.failures(GATES["int8"]))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_features_that_are_not_finite_miss_the_gates(tiny_bundle: Path, recorded: Path, value: float) -> None:
    def broken(features: np.ndarray) -> np.ndarray:
        features[0, 0, 0, 0] = value
        return features

    with np.errstate(invalid="ignore"):
        found = one(Bundle.open(tiny_bundle), recorded, broken, "int8")
    assert found.failures(GATES["int8"])


def test_features_of_another_shape_are_an_error_that_names_the_form(
    tiny_bundle: Path, recorded: Path
) -> None:
    with pytest.raises(InferenceError, match=r"changed gave features of \(.*PyTorch gave"):
        one(Bundle.open(tiny_bundle), recorded, lambda features: features[:, :, :-1])


def test_a_gate_can_be_changed_for_a_run() -> None:
    assert gate_of("fp16", GATES, {"cosine_p1": 0.5}).cosine_p1 == 0.5
    assert gate_of("fp16", GATES, {}) == GATES["fp16"]


def test_of_the_forms_this_machine_lacks_the_reason_is_known(tiny_bundle: Path) -> None:
    opened, missing = runnable(Bundle.open(tiny_bundle))
    assert "onnx-fp32-cpu" in opened
    assert set(opened) | set(missing) == set(FORMS)
    assert "ovsdino-export fp16" in missing["onnx-fp16-emulated"]


def test_the_command_prints_a_table_writes_a_report_and_exits_1_beyond_a_gate(
    tiny_bundle: Path,
    recorded: Path,
    tmp_path: Path,
    call: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ("parity", "--bundle", tiny_bundle, "--reference", recorded, "--form", "onnx-fp32-cpu")
    assert call(cli.main, *words, "--out", tmp_path / "report.json") == 0
    printed = capsys.readouterr().out
    assert "onnx-fp32-cpu" in printed
    assert "  met" in printed
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["forms"][0]["missed"] == []
    assert report["forms"][0]["gate"]["label_agreement"] == GATES["fp32"].label_agreement
    assert set(report["files"]) == set(Bundle.open(tiny_bundle).manifest.files)
    assert report["machine"]["cores"]
    assert call(cli.main, *words, "--gate", "label_agreement=1.5", "--json") == 1
    said = capsys.readouterr()
    assert json.loads(said.out)["forms"][0]["missed"] == ["label agreement is 1.000000, the gate is 1.5"]
    assert "error: onnx-fp32-cpu: label agreement" in said.err
    assert call(cli.main, *words, "--gate", "speed=3") == 2
    assert call(cli.main, *words[:-1], "onnx-int4-abacus") == 2
    assert "there are onnx-fp32-cpu" in capsys.readouterr().err


def test_it_runs_without_torch(tiny_bundle: Path, recorded: Path) -> None:
    blocked = (
        "import sys\n"
        "for name in ('torch', 'timm', 'open_clip', 'transformers'): sys.modules[name] = None\n"
        "from ovsdino_bench.cli import main\n"
        f"sys.argv = ['ovsdino-bench', 'parity', '--bundle', {str(tiny_bundle)!r}, '--reference', "
        f"{str(recorded)!r}]\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", blocked], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "note: tensorrt-fp16 is left out" in done.stderr


def test_a_reference_of_another_model_a_newer_schema_and_other_files_are_refused(
    tiny_bundle: Path, recorded: Path, tmp_path: Path
) -> None:
    bundle, opened = Bundle.open(tiny_bundle), Recorded.open(recorded)
    images = list(opened)
    other = tmp_path / "other.npz"
    record(other, bundle.manifest, opened.question, {"model": {"score_scale": 3.0}}, images)
    with pytest.raises(DataError, match=r"whose backbone is None"):
        Recorded.open(other).check(bundle.manifest)
    record(other, bundle.manifest, opened.question, {"schema": 2}, images)
    with pytest.raises(DataError, match="schema 2, this version reads up to 1"):
        Recorded.open(other)
    other.write_bytes(recorded.read_bytes()[:1000])
    for wrong in (other, tmp_path / "missing.npz", tiny_bundle / "golden.npz"):
        with pytest.raises(DataError, match="holds no reference"):
            Recorded.open(wrong)


@pytest.fixture
def told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> tuple[object, ...]:
    """Options that name an exported bundle, with its FP16 graph, and its checkpoint."""
    import torch

    from ovsdino.backbone_weights import load_backbone_weights
    from ovsdino.checkpoint import CheckpointInfo, save_checkpoint
    from ovsdino.config import ModelConfig
    from ovsdino.model import OVSDINO
    from ovsdino_export.class_vectors import TextSource
    from ovsdino_export.fp16 import write_fp16
    from ovsdino_export.pipeline import export_onnx
    from ovsdino_runtime.manifest import BackboneInfo

    torch.manual_seed(0)
    config = ModelConfig(backbone="test_vit", window_px=64, embedding_dim=8, alignment=False)
    model = OVSDINO(config)
    weights = load_backbone_weights("test_vit", "random:0")
    model.load_backbone(weights)
    info = CheckpointInfo(
        model=config,
        backbone=BackboneInfo(name="test_vit", source="random:0", fingerprint=weights.fingerprint),
    )
    save_checkpoint(tmp_path / "checkpoint", model, info)
    vectors = np.random.default_rng(1).normal(size=(len(NAMES), 8)).astype(np.float32)
    np.savez(tmp_path / "text.npz", street=vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
    (tmp_path / "names.json").write_text(json.dumps({"street": NAMES}))
    text = TextSource(embeddings=tmp_path / "text.npz", names=tmp_path / "names.json")
    write_fp16(export_onnx(tmp_path / "checkpoint", tmp_path / "bundle", text=text))
    capsys.readouterr()
    return ("--bundle", tmp_path / "bundle", "--checkpoint", tmp_path / "checkpoint")


def test_pytorch_is_recorded_by_a_command_and_the_exported_bundle_meets_its_gates(
    tmp_path: Path,
    painted: Path,
    told: tuple[object, ...],
    call: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "reference.npz"
    assert (
        call(cli.main, "reference", *told, "--data", painted, "--classes", ",".join(NAMES), "--out", out) == 0
    )
    assert "3 images" in capsys.readouterr().out
    assert call(cli.main, "parity", "--bundle", tmp_path / "bundle", "--reference", out, "--json") == 0
    forms = {item["form"]: item for item in json.loads(capsys.readouterr().out)["forms"]}
    assert set(forms) >= {"onnx-fp32-cpu", "onnx-fp16-emulated"}
    assert forms["onnx-fp32-cpu"]["cosine_mean"] > 0.9999999
    assert 0.999 < forms["onnx-fp16-emulated"]["cosine_mean"] < 1
    # pictures without ground truth have no mIoU
    images = ("--images", painted / "images", "--classes", "car,road", "--limit", 1, "--out", out)
    assert call(cli.main, "reference", *told, *images) == 0
    assert call(cli.main, "parity", "--bundle", tmp_path / "bundle", "--reference", out) == 0
    assert "over 1 images" in capsys.readouterr().out
    assert call(cli.main, "reference", *told, "--out", out) == 2


def test_a_picture_that_cannot_be_read_costs_a_reference_only_itself(
    tmp_path: Path,
    painted: Path,
    told: tuple[object, ...],
    call: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    damaged = shutil.copytree(painted, tmp_path / "damaged")
    names = sorted(path.name for path in (damaged / "images").iterdir())
    (damaged / "images" / names[1]).write_bytes(b"no picture")
    data = ("--data", damaged, "--classes", ",".join(NAMES), "--out", tmp_path / "two.npz")
    assert call(cli.main, "reference", *told, *data) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: 1 of 3 images could not be recorded, the others are; the first: ")
    two = Recorded.open(tmp_path / "two.npz")
    assert [image.file for image in two] == [names[0], names[2]]
    assert [item["image"] for item in two.about["failed"]] == [names[1]]
    for name in names:
        (damaged / "images" / name).write_bytes(b"no picture")
    (tmp_path / "two.npz").unlink()
    assert call(cli.main, "reference", *told, *data) == 1
    assert "none of 3 images could be recorded" in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "two.npz").exists()


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (
            ["parity", "--bundle", "/home/ann/b", "--out=../x/r.json"],
            "parity --bundle b --out=r.json",
        ),
        (
            ["accuracy", "--dataset", "voc21=/data/VOC devkit"],
            "accuracy --dataset 'voc21=VOC devkit'",
        ),
        (["parity", "--bundle", "runs/b"], "parity --bundle runs/b"),
    ],
)
def test_a_report_says_how_it_was_made_without_where_things_lie(
    typed: list[str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["ovsdino-bench", *typed])
    assert typed_command() == f"ovsdino-bench {said}"
