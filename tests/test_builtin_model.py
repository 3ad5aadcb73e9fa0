"""The model inside the runtime: small, honest about itself, and as good as its card says."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from ovsdino.checkpoint import load_checkpoint, read_info
from ovsdino.recipe import read_recipe
from ovsdino.scenes.folder import write_scenes
from ovsdino.scenes.names import SCENE_CLASSES
from ovsdino.text import read_embedding_sets
from ovsdino.text_map import distinguishing_map, mapped
from ovsdino_bench.accuracy import measure
from ovsdino_bench.folder import labelled_folder
from ovsdino_bench.report import read_reports
from ovsdino_bench.tables import markdown
from ovsdino_export.verify import load_golden
from ovsdino_runtime.backends.selection import choose_backend
from ovsdino_runtime.builtin import BUILT_IN
from ovsdino_runtime.bundle import GOLDEN, Bundle
from ovsdino_runtime.embeddings import EmbeddingTable
from ovsdino_runtime.metrics import GATES, agreement
from ovsdino_runtime.segmenter import Segmenter
from ovsdino_runtime.vocabulary import parse_classes

ROOT = Path(__file__).parents[1]
CHECKPOINT = ROOT / "checkpoints" / "ovsdino-nano"
RESULTS = ROOT / "bench" / "results" / "ovsdino-nano"
CARD = BUILT_IN.parent / "ovsdino-nano.md"
FRAMES = ROOT.parent / "shared" / "data" / "camvid" / "val"
VECTORS = ROOT.parent / "shared" / "weights" / "clip_vitb16_class_text.npz"
CAMVID = "sky,building,pole,road,sidewalk,tree,traffic sign,fence,car,person,bicyclist=rider,-"
HANDFUL = 17  # every 17th frame of the drive


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return Bundle.open(BUILT_IN)


def test_it_is_small_and_names_itself_and_its_terms(bundle: Bundle) -> None:
    assert sum(file.stat().st_size for file in BUILT_IN.rglob("*")) <= 12e6
    assert bundle.manifest.name == "ovsdino-nano"
    assert "research and evaluation only" in bundle.manifest.license
    assert "CC BY-NC" in (BUILT_IN.parent / "ovsdino-nano.LICENSE.md").read_text(encoding="utf-8")


def test_it_is_its_checkpoint(bundle: Bundle) -> None:
    info = read_info(CHECKPOINT)
    assert info.complete
    assert (info.name, info.license) == (bundle.manifest.name, bundle.manifest.license)
    assert info.backbone is not None
    assert info.backbone.fingerprint == bundle.manifest.backbone.fingerprint


def test_its_features_are_the_checkpoints(bundle: Bundle) -> None:
    windows, features = load_golden(bundle.file(GOLDEN))
    model, info = load_checkpoint(CHECKPOINT)
    with torch.no_grad():
        found = model(torch.from_numpy(windows[:1])).embeddings.numpy()
    stored = features[0] / np.linalg.norm(features[0], axis=0)  # kept in FP16
    assert np.einsum("dhw,dhw->hw", found[0], stored).min() > 0.99999
    assert bundle.manifest.score_scale == pytest.approx(info.training["scalars"]["scale"])


def test_it_knows_all_names_and_marks_those_never_trained(bundle: Bundle) -> None:
    segmenter = Segmenter(bundle, choose_backend(bundle, "cpu")[0])
    question = segmenter.ask(["cars", "vehicles", "roads", "grandstand"], "none")
    assert "grandstand" in question.untrained
    assert {"car", "road", "bus"} <= set(question.prompts)
    assert "car" not in question.untrained
    assert len(set(bundle.embeddings().names)) == 273


def test_the_cards_figures_are_those_of_the_result_files() -> None:
    card = CARD.read_text(encoding="utf-8")
    for heading, file in (("CamVid val", "camvid.json"), ("generated scenes", "scenes.json")):
        assert markdown([(heading, read_reports(RESULTS / file)[0])]) in card


def test_a_few_scenes_it_never_saw_give_the_figures_they_gave(bundle: Bundle, tmp_path: Path) -> None:
    recorded = json.loads((RESULTS / "scenes-handful.json").read_text())
    write_scenes(tmp_path, recorded["images"], first_seed=900100, size_hw=(360, 480))
    found = _miou(bundle, tmp_path, ",".join(SCENE_CLASSES))
    assert found == pytest.approx(recorded["backends"][-1]["miou"], abs=0.005)


@pytest.mark.real
@pytest.mark.skipif(not FRAMES.is_dir(), reason="CamVid is not here")
def test_a_handful_of_frames_gives_the_cards_miou(bundle: Bundle) -> None:
    recorded = json.loads((RESULTS / "camvid-handful.json").read_text())
    found = _miou(bundle, FRAMES, CAMVID, HANDFUL)
    assert found == pytest.approx(recorded["backends"][-1]["miou"], abs=0.0005)


def _miou(bundle: Bundle, folder: Path, classes: str, every: int = 1) -> float:
    names = parse_classes(classes)
    backend, _ = choose_backend(bundle, "cpu")
    (found,) = measure(bundle, [backend], labelled_folder(folder, names)[::every], names).accuracies
    return found.miou


def test_the_figures_on_clear_labels_are_those_of_the_built_in_model(bundle: Bundle) -> None:
    gate, names = GATES["fp16"], bundle.embeddings().embeddings
    random, figures = np.random.default_rng(0), []
    for features in load_golden(bundle.file(GOLDEN))[1]:
        true = features / np.linalg.norm(features, axis=0)
        aside = random.normal(size=true.shape)
        aside -= (aside * true).sum(axis=0) * true
        aside /= np.linalg.norm(aside, axis=0)
        cosine = gate.cosine_mean
        turned = (cosine * true + math.sqrt(1 - cosine**2) * aside).astype(np.float32)
        found = agreement(true[None], turned[None], names, gate.reach)
        assert found.clear_label_agreement == 1
        figures += [f"{100 * (1 - found.label_agreement):.1f} %", f"{100 * found.clear_share:.0f} %"]
    page = " ".join((ROOT / "docs" / "precision.md").read_text(encoding="utf-8").split())
    said = re.search(
        r"lose (\S+ %) of the labels of a generated scene and (\S+ %) of those of black and white blocks, "
        r"not one of them clear\. Of the scene's labels (\S+ %) are clear, of the blocks' (\S+ %)\.",
        page,
    )
    assert said
    lost_scene, lost_blocks, clear_scene, clear_blocks = said.groups()
    assert figures == [lost_scene, clear_scene, lost_blocks, clear_blocks]


@pytest.mark.real
@pytest.mark.skipif(not VECTORS.is_file(), reason="the text vectors are not here")
def test_the_cosines_on_the_page_on_distillation_are_those_of_the_text_vectors() -> None:
    sets = read_embedding_sets(VECTORS, VECTORS.with_name(f"{VECTORS.stem}_names.json"))
    table = EmbeddingTable.from_sets(sets, ())
    names = sorted(table.names)
    before = table.lookup(names)
    car, truck = names.index("car"), names.index("truck")
    shown = []
    for vectors in (before, mapped(distinguishing_map(before, 128), before)):
        cosines = vectors @ vectors.T
        others = (cosines.sum() - len(names)) / (len(names) ** 2 - len(names))
        shown += [f"{others:.1f}".replace("-0.0", "0").replace("0.0", "0"), f"{cosines[car, truck]:.2f}"]
    page = " ".join((ROOT / "docs" / "distillation.md").read_text(encoding="utf-8").split())
    mean, pair, mean_after, pair_after = shown
    assert f"a cosine of {mean} on average, without it {mean_after}, and of car and truck {pair}" in page
    assert f"without it {pair_after}." in page


def test_what_the_page_says_of_muon_is_in_its_file() -> None:
    trials = json.loads((RESULTS / "optimizers.json").read_text())
    losses = [np.array(trials[name]["seg"]) for name in ("adamw", "muon")]
    means = [np.array([part.mean() for part in np.array_split(values[10:], 11)]) for values in losses]
    less = 100 * (1 - means[1] / means[0])
    medians = [np.median(trials[name]["seconds"]) for name in ("adamw", "muon")]
    page = " ".join((ROOT / "docs" / "distillation.md").read_text(encoding="utf-8").split())
    assert f"{less.min():.0f} to {less.max():.0f} % below AdamW's from the second ten steps on" in page
    miou = trials["miou_60_fresh_scenes"]
    assert f"gave {100 * miou['muon']:.1f} mIoU after it against {100 * miou['adamw']:.1f}" in page
    assert f"a step took {100 * (medians[1] / medians[0] - 1):.0f} % longer" in page


@pytest.mark.parametrize("name", ["ovsdino-s", "ovsdino-nano", "ovsdino-nano-small-windows"])
def test_the_recipes_have_only_options_of_their_command(name: str) -> None:
    import inspect

    from ovsdino.distill_command import distill
    from ovsdino.fit_command import fit

    command = distill if "nano" in name else fit
    assert read_recipe(ROOT / "recipes" / f"{name}.toml", inspect.signature(command).parameters)
