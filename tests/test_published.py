"""The published checkpoint: what it says of itself is true, and it exports as its card says."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from ovsdino.checkpoint import CONFIG, WEIGHTS, read_info
from ovsdino_bench.accuracy import measure
from ovsdino_bench.folder import labelled_folder
from ovsdino_bench.report import read_reports
from ovsdino_bench.tables import markdown
from ovsdino_export.class_vectors import TextSource
from ovsdino_export.pipeline import export_onnx
from ovsdino_runtime.backends.selection import choose_backend
from ovsdino_runtime.bundle import Bundle
from ovsdino_runtime.segmenter import Segmenter
from ovsdino_runtime.vocabulary import parse_classes

ROOT = Path(__file__).parents[1]
CHECKPOINT = ROOT / "checkpoints" / "ovsdino-s"
RESULTS = ROOT / "bench" / "results" / "ovsdino-s"
SHARED = ROOT.parent / "shared"
BACKBONE = SHARED / "weights" / "dav2_vits14_backbone_fp16.safetensors"
TEXT = SHARED / "weights" / "clip_vitb16_class_text.npz"
FRAMES = SHARED / "data" / "camvid" / "val"
CAMVID = "sky,building,pole,road,sidewalk,tree,traffic sign,fence,car,person,bicyclist=rider,-"
HANDFUL = 17  # every 17th frame of the drive
HUB = "depth-anything/Depth-Anything-V2-Small"

real = pytest.mark.skipif(
    not (BACKBONE.is_file() and FRAMES.is_dir()), reason="the backbone's weights and CamVid are not here"
)


def test_the_checkpoint_names_itself_its_terms_and_a_backbone_others_can_fetch() -> None:
    info = read_info(CHECKPOINT)
    assert info.name == "ovsdino-s"
    assert "research" in info.license.lower()
    assert info.backbone is not None
    assert info.backbone.source == f"hub:{HUB}"
    assert info.text_model == "open_clip ViT-B-16 openai"
    assert not info.complete
    assert {"car", "road", "rider", "dog", "traffic sign"} <= set(info.trained_names)


def test_its_record_names_no_place_on_anyone_s_machine() -> None:
    text = (CHECKPOINT / CONFIG).read_text(encoding="utf-8")
    assert not re.search(r"(?<![\w:./-])(~|\.\.)?/\w", text)


def test_its_kernels_and_matrices_are_fp16_and_only_what_was_trained() -> None:
    tensors = load_file(CHECKPOINT / WEIGHTS)
    assert {value.dtype for value in tensors.values() if value.ndim >= 2} == {torch.float16}
    assert {value.dtype for value in tensors.values() if value.ndim < 2} == {torch.float32}
    blocks = {
        int(found[1]) for name in tensors if (found := re.match(r"backbone\.vit\.blocks\.(\d+)\.", name))
    }
    assert blocks == {9, 10, 11}
    assert (CHECKPOINT / WEIGHTS).stat().st_size < 15e6


def test_the_card_s_figures_are_those_of_the_result_files() -> None:
    card = (CHECKPOINT / "README.md").read_text(encoding="utf-8")
    assert markdown([("CamVid val", read_reports(RESULTS / "published.json")[0])]) in card
    handful = read_reports(RESULTS / "handful.json")[0]["backends"][-1]["miou"]
    assert f"{100 * handful:.2f}" in card


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The checkpoint exported by its backbone's hub name, from a hub that holds the same weights in FP32."""
    folder = tmp_path_factory.mktemp("published")
    fetched = folder / "depth_anything_v2_vits.pth"
    weights = {f"pretrained.{name}": value.float() for name, value in load_file(BACKBONE).items()}
    torch.save({**weights, "depth_head.projects.0.bias": torch.zeros(3)}, fetched)
    asked: list[tuple[str, str]] = []

    def download(repo: str, name: str) -> str:
        asked.append((repo, name))
        return str(fetched)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("huggingface_hub.list_repo_files", lambda repo: ["README.md", fetched.name])
        patch.setattr("huggingface_hub.hf_hub_download", download)
        text = TextSource(embeddings=TEXT, names=TEXT.with_name("clip_vitb16_class_text_names.json"))
        made = export_onnx(CHECKPOINT, folder / "bundle", text=text)
    assert asked == [(HUB, fetched.name)]
    return made


@real
@pytest.mark.real
def test_it_exports_by_its_hub_name_and_the_bundle_says_what_it_is(bundle: Bundle) -> None:
    manifest = bundle.manifest
    assert manifest.name == "ovsdino-s"
    assert manifest.license == read_info(CHECKPOINT).license
    assert manifest.text_model == "open_clip ViT-B-16 openai"
    question = Segmenter.open(bundle.path, "cpu").ask(["car", "road", "grandstand"], "none")
    assert question.untrained == ("grandstand",)


@real
@pytest.mark.real
def test_a_handful_of_frames_gives_the_card_s_miou(bundle: Bundle) -> None:
    recorded = json.loads((RESULTS / "handful.json").read_text())
    names = parse_classes(CAMVID)
    images = labelled_folder(FRAMES, names)[::HANDFUL]
    assert len(images) == recorded["images"] == 6
    backend, _ = choose_backend(bundle, "cpu")
    (found,) = measure(bundle, [backend], images, names).accuracies
    assert found.miou == pytest.approx(recorded["backends"][-1]["miou"], abs=0.0005)
