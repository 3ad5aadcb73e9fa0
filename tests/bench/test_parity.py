"""Parity: every form against what PyTorch gave, figure by figure, judged by gates."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ovsdino_bench import cli
from ovsdino_bench.confusions import Confusions
from ovsdino_bench.failures import Failures
from ovsdino_bench.forms import FORMS, runnable
from ovsdino_bench.parity import Form, Parity, gate_of, measure_parity
from ovsdino_bench.recorded import Recorded, record
from ovsdino_runtime.backends.selection import open_backend
from ovsdino_runtime.bundle import Bundle
from ovsdino_runtime.files import sha256_of
from ovsdino_runtime.metrics import GATES, confusion, mean_iou
from ovsdino_runtime.segmenter import Segmenter
from tests.bench.painted import NAMES


class Changed:
    """Another backend whose features are changed."""

    name = "changed"

    def __init__(self, backend: object, change: Callable[[np.ndarray], np.ndarray]) -> None:
        self.backend, self.change = backend, change

    def features(self, windows: np.ndarray) -> np.ndarray:
        return self.change(self.backend.features(windows).copy())


def one(bundle: Bundle, recorded: Path, change: Callable[[np.ndarray], np.ndarray], precision: str = "fp32"):
    backend = Changed(open_backend(bundle, "cpu"), change)
    form = Form(name="changed", precision=precision, backend=backend)
    failures = Failures()
    measured = measure_parity(bundle, Recorded.open(recorded), [form], failures)
    assert failures.found == []
    return measured[0]


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


@pytest.mark.parametrize(
    ("precision", "delta", "missed"),
    [
        ("int8", -0.6, ["mIoU falls by 0.600 points, the gate is 0.5"]),
        ("int8", -0.5, []),
        ("int8", 0.6, []),
        ("int8", None, []),
        ("int8", float("nan"), ["mIoU falls by nan points, the gate is 0.5"]),
        ("fp16", -0.06, ["mIoU falls by 0.060 points, the gate is 0.05"]),
        ("fp32", -0.03, ["mIoU falls by 0.030 points, the gate is 0.02"]),
    ],
)
def test_miou_may_rise_but_fall_no_further_than_the_gate(
    precision: str, delta: float | None, missed: list[str]
) -> None:
    assert parity_of(precision, delta_miou_points=delta).failures(GATES[precision]) == missed


def test_the_percentile_of_cosines_is_held_to_its_own_gate() -> None:
    found = parity_of("int8", cosine_mean=0.991, cosine_p1=0.951)
    assert found.failures(GATES["int8"]) == []
    missed = ["1st percentile of patch cosines is 0.949000, the gate is 0.95"]
    assert replace(found, cosine_p1=0.949).failures(GATES["int8"]) == missed
    assert replace(found, cosine_p1=0.949).as_dict(GATES["int8"])["missed"] == missed


def parity_of(precision: str, **changes: Any) -> Parity:
    """A form that agrees wholly, some figures changed."""
    figures: dict[str, Any] = {
        **dict.fromkeys(("cosine_mean", "cosine_p1", "cosine_min", "label_agreement"), 1.0),
        **{"relative_frobenius": 0.0, "miou": (0.5, 0.5), "delta_miou_points": 0.0},
        **{"delta_interval_95": (-9.0, 9.0), "worst": ()},
    }
    return Parity(form="a form", precision=precision, **(figures | changes))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_features_that_are_not_finite_miss_the_gates_and_are_null_in_a_report(
    tiny_bundle: Path, recorded: Path, value: float
) -> None:
    def broken(features: np.ndarray) -> np.ndarray:
        features[0, 0, 0, 0] = value
        return features

    found = one(Bundle.open(tiny_bundle), recorded, broken, "int8")
    assert found.failures(GATES["int8"])
    told = found.as_dict(GATES["int8"])
    for name in ("cosine_mean", "cosine_p1", "cosine_min", "relative_frobenius"):
        assert told[name] is None
    assert told["missed"]
    json.dumps(told, allow_nan=False)


def test_confusions_are_kept_sparse(
    tiny_bundle: Path, recorded: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[np.ndarray] = []
    of_images = Confusions.of_images

    def keeping(parts: Sequence[np.ndarray], classes: int) -> Confusions:
        kept.extend(parts)
        return of_images(parts, classes)

    monkeypatch.setattr(Confusions, "of_images", staticmethod(keeping))
    one(Bundle.open(tiny_bundle), recorded, lambda features: features)
    assert len(kept) == 2 * 3, "PyTorch's and the form's, of three images"
    assert all(part.shape[1] == 3 and (part[:, 2] > 0).all() for part in kept)


def test_pictures_without_a_labelled_pixel_have_no_miou(
    tiny_bundle: Path, recorded: Path, tmp_path: Path
) -> None:
    bundle, opened = Bundle.open(tiny_bundle), Recorded.open(recorded)
    blank = [replace(item, truth=np.full_like(item.truth, 255)) for item in opened]
    record(tmp_path / "blank.npz", bundle.manifest, opened.question, {}, blank)
    found = one(bundle, tmp_path / "blank.npz", lambda features: features)
    assert (found.miou, found.delta_miou_points, found.delta_interval_95) == (None, None, None)
    assert not found.failures(GATES["fp32"])


def test_a_gate_can_be_changed_for_a_run() -> None:
    assert gate_of("fp16", GATES, {"cosine_p1": 0.5}).cosine_p1 == 0.5
    assert gate_of("fp16", GATES, {}) == GATES["fp16"]


def test_of_the_forms_this_machine_lacks_the_reason_is_known(tiny_bundle: Path) -> None:
    failures = Failures()
    opened, missing = runnable(Bundle.open(tiny_bundle), failures)
    assert failures.found == []
    assert "onnx-fp32-cpu" in opened
    assert set(opened) | set(missing) == set(FORMS)
    assert "ovsdino-export fp16" in missing["onnx-fp16-emulated"]
    assert "ovsdino-export int8" in missing["onnx-int8-cpu"]


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
    assert report["reference"]["sha256"] == sha256_of(recorded)
    assert report["reference"]["checkpoint_sha256"] is None, "as in references of earlier versions"
    assert (report["engines"], report["failed"]) == ({}, [])
    assert report["question"]["prompts"] == {name: [name] for name in NAMES}
    assert report["interval"] == "frames taken as independent (block 1)"
    assert "interval: frames taken as independent (block 1)" in printed
    assert call(cli.main, *words, "--block", 2) == 0
    assert "interval: runs of 2 neighbouring frames drawn together" in capsys.readouterr().out
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
