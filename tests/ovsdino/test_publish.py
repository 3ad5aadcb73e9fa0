"""A published checkpoint is the trained one, smaller, named, and silent about the machine it came from."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from ovsdino import cli
from ovsdino.backbone_weights import load_backbone_weights
from ovsdino.checkpoint import CONFIG, WEIGHTS, CheckpointInfo, load_checkpoint, read_info, save_checkpoint
from ovsdino.config import ModelConfig
from ovsdino.model import OVSDINO, resample_positions
from ovsdino.publish import _without_folders, publish
from ovsdino.text import text_model_name
from ovsdino_runtime.errors import CheckpointError, OutputError
from ovsdino_runtime.manifest import BackboneInfo

CONFIG_OF_MODEL = ModelConfig(
    backbone="test_vit", window_px=64, embedding_dim=16, backbone_trainable_blocks=2
)
COMMAND = (
    "ovsdino-train fit --data 'folder:/home/ann/camvid/train:road,car,traffic sign' --data yolo:coco128 "
    "--text-names ../up/names.json --out ~/runs/x --lr 1e-3"
)


def trained(folder: Path, *, source: str = "random:3", scale: float = 1.0) -> OVSDINO:
    torch.manual_seed(0)
    model = OVSDINO(CONFIG_OF_MODEL).eval()
    weights = load_backbone_weights("test_vit", "random:3")
    model.load_backbone(weights)
    with torch.no_grad():
        model.projector.weight.mul_(scale)
        model.score_scale.fill_(13.3333333)
    info = CheckpointInfo(
        model=CONFIG_OF_MODEL,
        backbone=BackboneInfo(name="test_vit", source=source, fingerprint=weights.fingerprint),
        training={"command": COMMAND, "settings": {"data": ["folder:/data/a/train:car"], "lr": 1e-3}},
    )
    save_checkpoint(folder, model, info)
    return model


def test_a_published_checkpoint_loads_is_half_the_size_and_gives_nearly_the_same(tmp_path: Path) -> None:
    model = trained(tmp_path / "c")
    written = publish(tmp_path / "c", tmp_path / "p", name="tiny", license="CC0-1.0")
    loaded, info = load_checkpoint(tmp_path / "p")
    images = torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8)
    with torch.no_grad():
        before, after = model(images).embeddings, loaded(images).embeddings
    assert torch.nn.functional.cosine_similarity(before, after).min() > 0.99999
    assert (info.name, info.license) == ("tiny", "CC0-1.0")
    assert written.bytes < 0.6 * (tmp_path / "c" / WEIGHTS).stat().st_size
    assert loaded.score_scale.item() == model.score_scale.item()  # what is little stays FP32


def test_the_record_names_no_folder_of_the_machine_but_all_else(tmp_path: Path) -> None:
    trained(tmp_path / "c")
    written = publish(tmp_path / "c", tmp_path / "p", name="tiny", license="CC0-1.0")
    text = (tmp_path / "p" / CONFIG).read_text()
    assert written.removed == ("../up/", "/data/a/", "/home/ann/camvid/", "~/runs/")
    assert not any(folder in text for folder in ("/home", "/data", "../", "~", "ann"))
    record = read_info(tmp_path / "p").training
    assert shlex.split(record["command"])[2:] == [
        "--data", "folder:train:road,car,traffic sign", "--data", "yolo:coco128",
        "--text-names", "names.json", "--out", "x", "--lr", "1e-3",
    ]  # fmt: skip
    assert record["settings"] == {"data": ["folder:train:car"], "lr": 1e-3}


@pytest.mark.parametrize(
    "kept",
    [
        "folder:camvid/train:road,-",
        "hub:depth-anything/Depth-Anything-V2-Small",
        "hub:owner/repo/file.pth",
        "1/2",
        "vehicle=car|bus",
        "open_clip ViT-B-16 openai",
    ],
)
def test_relative_paths_and_hub_names_are_kept(kept: str) -> None:
    removed: set[str] = set()
    assert _without_folders({"x": kept}, removed) == {"x": kept}
    assert not removed


@given(st.lists(st.from_regex(r"[a-z0-9_.\-]{1,8}", fullmatch=True), min_size=1, max_size=5))
def test_an_absolute_path_is_reduced_to_its_last_part_wherever_it_stands(parts: list[str]) -> None:
    path = "/" + "/".join(parts)
    removed: set[str] = set()
    record = {"a": [f"--out {path} --x", f"coco:{path}:{path}", {"b": f"'{path}'"}], "n": 3}
    last = parts[-1]
    assert _without_folders(record, removed) == {
        "a": [f"--out {last} --x", f"coco:{last}:{last}", {"b": f"'{last}'"}],
        "n": 3,
    }
    assert removed == {path[: -len(last)]}


def test_a_backbone_from_a_file_needs_a_place_where_others_find_it(tmp_path: Path) -> None:
    trained(tmp_path / "c", source="/weights/mine.pth")
    with pytest.raises(CheckpointError, match="--backbone-source hub:OWNER/REPO"):
        publish(tmp_path / "c", tmp_path / "p", name="tiny", license="x")
    assert not (tmp_path / "p").exists()
    publish(tmp_path / "c", tmp_path / "p", name="tiny", license="x", backbone_source="hub:owner/repo")
    backbone = json.loads((tmp_path / "p" / CONFIG).read_text())["backbone"]
    assert backbone["source"] == "hub:owner/repo"
    model, _ = load_checkpoint(tmp_path / "p", "random:3")  # the fingerprint is that of the training
    assert model.score_scale > 0


def test_a_weight_beyond_fp16_is_an_error_and_nothing_is_written(tmp_path: Path) -> None:
    trained(tmp_path / "c", scale=1e7)
    with pytest.raises(CheckpointError, match=r"projector\.weight reaches .* float32"):
        publish(tmp_path / "c", tmp_path / "p", name="tiny", license="x")
    assert not (tmp_path / "p").exists()
    publish(tmp_path / "c", tmp_path / "p", name="tiny", license="x", half=False)


def test_nothing_that_exists_is_overwritten(tmp_path: Path) -> None:
    trained(tmp_path / "c")
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "README.md").write_text("a card")
    with pytest.raises(OutputError, match="exists already"):
        publish(tmp_path / "c", tmp_path / "p", name="tiny", license="x")
    assert (tmp_path / "p" / "README.md").read_text() == "a card"


@pytest.mark.parametrize(
    ("private", "public", "removed"),
    [
        ("/home/ann smith/data/clip.pt", "clip.pt", "/home/ann smith/data/"),
        ("folder:/home/ann smith/camvid/train:sky,road", "folder:train:sky,road", "/home/ann smith/camvid/"),
        ("C:\\Users\\Ann Smith\\clip.pt", "clip.pt", "C:\\Users\\Ann Smith\\"),
        ("--text-pretrained=/home/ann smith/clip.pt", "--text-pretrained=clip.pt", "/home/ann smith/"),
        ("open_clip ViT-B-16 /home/ann/clip.pt", "open_clip ViT-B-16 clip.pt", "/home/ann/"),
        ("yolo:~/my data/coco128/", "yolo:coco128/", "~/my data/"),
    ],
)
def test_a_path_with_spaces_is_reduced_as_a_whole(private: str, public: str, removed: str) -> None:
    gone: set[str] = set()
    assert _without_folders({"x": private}, gone) == {"x": public}
    assert gone == {removed}
    command = shlex.join(["ovsdino-train", "fit", "--data", private])
    reduced = _without_folders({"command": command}, set())["command"]
    assert shlex.split(reduced) == ["ovsdino-train", "fit", "--data", public]


def test_web_addresses_are_kept() -> None:
    record = {"x": "see https://example.org/models/s.pth"}
    assert _without_folders(record, set()) == record


def test_a_text_encoder_s_file_is_called_by_name_and_hash_wherever_it_lies(tmp_path: Path) -> None:
    names = []
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "clip.pt").write_bytes(b"weights")
        names.append(text_model_name("ViT-B-16", str(tmp_path / folder / "clip.pt")))
    assert names[0] == names[1]
    assert str(tmp_path) not in names[0]
    (tmp_path / "b" / "clip.pt").write_bytes(b"other weights")
    assert text_model_name("ViT-B-16", str(tmp_path / "b" / "clip.pt")) != names[0]
    assert text_model_name() == "open_clip ViT-B-16 openai"


def test_the_name_of_a_text_encoder_holds_no_path_once_published(tmp_path: Path) -> None:
    trained(tmp_path / "c")
    config = json.loads((tmp_path / "c" / CONFIG).read_text())
    config["text_model"] = "open_clip ViT-B-16 /home/ann/clip.pt"
    (tmp_path / "c" / CONFIG).write_text(json.dumps(config))
    publish(tmp_path / "c", tmp_path / "p", name="tiny", license="x")
    assert read_info(tmp_path / "p").text_model == "open_clip ViT-B-16 clip.pt"


def test_a_complete_checkpoint_needs_no_place_to_find_its_backbone(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = OVSDINO(CONFIG_OF_MODEL).eval()
    backbone = BackboneInfo(name="test_vit", source="/weights/mine.pth", fingerprint="0" * 64)
    save_checkpoint(
        tmp_path / "c", model, CheckpointInfo(model=CONFIG_OF_MODEL, backbone=backbone, complete=True)
    )
    publish(tmp_path / "c", tmp_path / "p", name="tiny", license="x")
    loaded, info = load_checkpoint(tmp_path / "p")
    assert info.backbone is not None
    assert info.backbone.source == "in the checkpoint"
    images = torch.randint(0, 256, (1, 64, 64, 3), dtype=torch.uint8)
    torch.testing.assert_close(loaded(images).embeddings, model(images).embeddings, atol=1e-2, rtol=0)


@pytest.mark.parametrize(("precision", "kept"), [("float16", torch.float16), ("float32", torch.float32)])
def test_publish_is_a_command(
    precision: str,
    kept: torch.dtype,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    trained(tmp_path / "c")
    words = [
        "ovsdino-train", "publish", tmp_path / "c", "--out", tmp_path / "p", "--name", "tiny",
        "--license", "CC0-1.0", "--precision", precision, "--window-px", 128,
        "--backbone-source", "hub:someone/weights",
    ]  # fmt: skip
    monkeypatch.setattr(sys, "argv", [str(word) for word in words])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    said = capsys.readouterr()
    assert stopped.value.code in (0, None), said.err
    info = read_info(tmp_path / "p")
    assert (info.name, info.license, info.model.window_px) == ("tiny", "CC0-1.0", 128)
    assert info.backbone is not None
    assert info.backbone.source == "hub:someone/weights"
    assert load_file(tmp_path / "p" / WEIGHTS)["projector.weight"].dtype == kept
    assert "MB, tiny, CC0-1.0" in said.out
    assert "left out of the record: /data/a/" in said.out


def test_a_checkpoint_is_published_for_windows_of_another_size(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = OVSDINO(CONFIG_OF_MODEL).eval()
    backbone = BackboneInfo(name="test_vit", source="random:3", fingerprint="0" * 64)
    for complete in (True, False):
        info = CheckpointInfo(model=CONFIG_OF_MODEL, backbone=backbone, complete=complete)
        save_checkpoint(tmp_path / f"c{complete}", model, info)
        publish(tmp_path / f"c{complete}", tmp_path / f"p{complete}", name="t", license="x", window_px=128)
    loaded, info = load_checkpoint(tmp_path / "pTrue")
    assert (info.model.window_px, loaded.config.window_px) == (128, 128)
    assert read_info(tmp_path / "pFalse").model == info.model
    before, after = model.state_dict(), loaded.state_dict()
    changed = [name for name in before if before[name].shape != after[name].shape]
    assert changed == ["backbone.vit.pos_embed"]
    assert loaded.backbone is not None
    wanted = resample_positions(before[changed[0]], loaded.backbone.vit)
    torch.testing.assert_close(after[changed[0]], wanted, atol=1e-3, rtol=1e-3)  # stored in half
    one = torch.full((1, 128, 128, 3), 90, dtype=torch.uint8)
    assert loaded(one).embeddings.shape == model(one[:, :64, :64]).embeddings.shape


def test_a_window_that_the_patch_does_not_divide_is_refused(tmp_path: Path) -> None:
    trained(tmp_path / "c")
    with pytest.raises(CheckpointError, match="do not divide 100 px"):
        publish(tmp_path / "c", tmp_path / "p", name="tiny", license="x", window_px=100)
    assert not (tmp_path / "p").exists()
