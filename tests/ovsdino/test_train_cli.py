"""`ovsdino-train` as a person meets it."""

from __future__ import annotations

import dataclasses
import inspect
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ovsdino.checkpoint import load_checkpoint, read_info
from ovsdino.cli import distill, fit, main
from ovsdino.settings import TrainConfig
from ovsdino_runtime.errors import OvsDinoError

if TYPE_CHECKING:
    from conftest import World

SHARED = Path(__file__).parents[2].parent / "shared"
WEIGHTS = SHARED / "weights"
BACKBONE = WEIGHTS / "dav2_vits14_backbone_fp16.safetensors"
CAMVID = "sky,building,pole,road,sidewalk,tree,traffic sign,fence,car,person,bicyclist=rider,-"


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    """Run the command line in this process and return its exit status."""
    monkeypatch.setattr(sys, "argv", ["ovsdino-train", *map(str, arguments)])
    try:
        main()
    except SystemExit as stopped:
        return int(stopped.code or 0)
    return 0


def usual(world: World, out: str = "run") -> list[object]:
    return [
        "fit", "--data", f"folder:{world.data}:car,road,tree,sky", "--out", world.folder / out,
        "--backbone", "test_vit", "--backbone-weights", "random:0", "--window-px", 64,
        "--trainable-blocks", 0, "--teacher", "none", "--text-embeddings", world.text_embeddings,
        "--text-names", world.text_names,
        "--epochs", 1, "--batch-size", 4, "--mask-px", 16, "--device", "cpu",
    ]  # fmt: skip


def test_fit_trains_and_says_where_the_checkpoint_lies_and_what_comes_next(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, *usual(world)) == 0
    out, err = capsys.readouterr()
    best = world.folder / "run" / "best"
    assert f"best checkpoint: {best}" in out
    assert f"ovsdino-export onnx {best} --out" in out
    assert "training" in err
    assert "training" not in out
    model, info = load_checkpoint(best)
    assert info.training["command"].startswith("ovsdino-train fit --data")
    assert not model.training


def test_every_switch_of_the_model_is_an_option(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    switches = (
        "--layers",
        "sparse",
        "--no-gate",
        "--decoder-stride",
        1,
        "--no-alignment",
        "--trainable-blocks",
        2,
    )
    assert run(monkeypatch, *usual(world), *switches) == 0
    model = read_info(world.folder / "run" / "last").model
    assert (model.layers, model.gate, model.decoder_stride, model.alignment) == ("sparse", False, 1, False)
    assert model.backbone_trainable_blocks == 2


def test_without_encoder_nothing_else_need_be_switched_off(
    world: World, tiny_sam: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(monkeypatch, *usual(world), "--no-encoder", "--teacher", tiny_sam) == 0
    assert not read_info(world.folder / "run" / "last").model.encoder


def test_a_recipe_gives_the_defaults_and_the_command_line_overrides_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = world.folder / "recipe.toml"
    recipe.write_text(
        f'data = ["folder:{world.data}:car,road,tree,sky"]\n'
        f'text-embeddings = "{world.text_embeddings}"\ntext-names = "{world.text_names}"\n'
        'backbone = "test_vit"\nbackbone-weights = "random:0"\nwindow-px = 64\ntrainable-blocks = 0\n'
        'teacher = "none"\ngate = false\nepochs = 5\nbatch-size = 4\nmask-px = 16\nseed = 3\n'
        "crop-scale = [0.6, 0.9]\n"
    )
    assert run(monkeypatch, "fit", "--config", recipe, "--out", world.folder / "run", "--epochs", 1) == 0
    info = read_info(world.folder / "run" / "last")
    settings = info.training["settings"]
    assert (settings["epochs"], settings["seed"], settings["batch_size"]) == (1, 3, 4)
    assert settings["augmentation"]["scale"] == [0.6, 0.9]
    assert not info.model.gate


@pytest.mark.parametrize(
    ("text", "said"),
    [("epochs = ", "no TOML"), ("epoch = 3", "'epoch'"), ("config = 'x'", "'config'"), (None, "cannot read")],
)
def test_a_faulty_recipe_is_refused_in_one_line(
    text: str | None, said: str, world: World, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    recipe = world.folder / "recipe.toml"
    if text is not None:
        recipe.write_text(text)
    assert run(monkeypatch, *usual(world), "--config", recipe) == 1
    assert said in _only_line(capsys)


FAULTS: dict[str, tuple[list[object], str]] = {
    "data": (["--data", "folder:/nowhere:car"], "/nowhere"),
    "grammar": (["--data", "voc:there"], "coco:JSON:IMAGES"),
    "class": (["--data", "folder:{data}:car,rode"], "'rode'"),
    "weights": (["--backbone-weights", "/nowhere.safetensors"], "/nowhere.safetensors"),
    "backbone": (["--backbone", "resnet50"], "resnet50"),
    "vectors": (["--text-embeddings", "/nowhere.npz"], "/nowhere.npz"),
    "teacher": (["--teacher", "/nowhere/sam"], "--teacher none"),
    "resume": (["--resume"], "--resume"),
    "window": (["--window-px", "65"], "65 px"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_a_person_gets_wrong_is_one_line_and_exit_status_1(
    fault: str, world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    changes, said = FAULTS[fault]
    changes = [str(word).replace("{data}", str(world.data)) for word in changes]
    assert run(monkeypatch, *usual(world), *changes) == 1
    assert said in _only_line(capsys)


@pytest.mark.parametrize(
    "changes",
    [
        ["--epochs", "0"],
        ["--crop-scale", "0.9", "0.1"],
        ["--text-names"],
        ["--decoder-stride", "3"],
        ["--precision", "fp8"],
        ["--no-such-option"],
    ],
)
def test_usage_errors_exit_with_2(changes: list[str], world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(monkeypatch, *usual(world), *changes) == 2


def test_help_needs_no_torch() -> None:
    program = (
        "import sys; sys.modules['torch'] = None; sys.modules['timm'] = None\n"
        "sys.argv = ['ovsdino-train', 'fit', '--help']\nfrom ovsdino.cli import main\nmain()"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for option in ("--cache-views", "--teacher", "--no-gate", "--trainable-blocks", "--resume", "--config"):
        assert option in done.stdout


def test_an_interruption_says_how_to_go_on(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from ovsdino import trainer

    def interrupted(*arguments: object, **more: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(trainer, "fit", interrupted)
    assert run(monkeypatch, *usual(world)) == 130
    said = capsys.readouterr().err
    assert "begins again" in said
    assert "--resume" not in said  # there is nothing to go on with yet
    (world.folder / "run").mkdir()
    (world.folder / "run" / "state.pt").touch()
    assert run(monkeypatch, *usual(world)) == 130
    assert "--resume goes on" in capsys.readouterr().err


def test_the_options_defaults_are_the_settings_defaults_and_the_papers() -> None:
    elsewhere = {
        "trainable_blocks": "backbone_trainable_blocks",
        "lr": "lr_heads",
        "crop_scale": "scale",
    }
    settings = TrainConfig(data=("x",), out=Path("x"))
    known = {
        field.name: getattr(part, field.name)
        for part in (settings, settings.model, settings.augmentation)
        for field in dataclasses.fields(part)
    }
    options = {
        elsewhere.get(name, name): tuple(option.default) if option.default == [] else option.default
        for name, option in inspect.signature(fit).parameters.items()
        if name not in ("data", "out", "config")
    }
    assert options == {name: known[name] for name in options}
    assert {field.name for field in dataclasses.fields(TrainConfig)} - set(options) == {
        "data", "out", "model", "augmentation", "command", "distill", "labelled_only",
    }  # fmt: skip
    paper = {  # sec. 5.1
        "batch_size": 64, "epochs": 25, "warmup_epochs": 1, "lr_heads": 1e-4, "lr_blocks": 1e-5,
        "weight_decay": 1e-4, "window_px": 448, "backbone": "vit_base_patch14_dinov2", "teacher": "sam",
        "backbone_trainable_blocks": 3, "dice_weight": 1,
        "layers": "dense", "decoder_stride": 2,
    }  # fmt: skip
    assert {name: options[name] for name in paper} == paper


def flattened(config: TrainConfig) -> dict[str, object]:
    """Settings by name; those of groups by `group.name`."""
    values: dict[str, object] = {}
    for name, value in dataclasses.asdict(config).items():
        inner = value if isinstance(value, dict) else {}
        values |= {f"{name}.{key}": item for key, item in inner.items()} or {name: value}
    return values


@pytest.mark.parametrize(("command", "words"), [(fit, ("fit",)), (distill, ("distill", "teacher"))])
def test_every_option_reaches_the_settings(
    monkeypatch: pytest.MonkeyPatch, command: Callable[..., None], words: tuple[str, ...]
) -> None:
    """Each option is changed alone; the setting that it is for must change, and what depends on it."""
    elsewhere = {
        "trainable_blocks": "model.backbone_trainable_blocks", "lr": "lr_heads",
        "crop_scale": "augmentation.scale", "distill_weight": "distill.weight",
        "temperature": "distill.temperature", "teacher_weights": "distill.backbone_weights",
    }  # fmt: skip
    along = {
        "text_embeddings": {"text_names"}, "head": {"model.gate", "model.alignment"}, "gate": {"teacher"},
        "encoder": {"teacher", "model.gate", "model.alignment", "model.backbone_trainable_blocks"},
        "backbone": {"backbone_weights"}, "whole_backbone": {"model.backbone_trainable_blocks"},
    }  # fmt: skip
    begun: list[TrainConfig] = []
    monkeypatch.setattr(f"{command.__module__}.train", begun.append)
    usual = [*words, "--data", "folder:a:b", "--out", "out"]
    assert run(monkeypatch, *usual) == 0
    (plain,) = begun
    changed = {
        "val": ["folder:c:d"], "data": ["folder:e:f"], "labelled_only": ["folder:g:h"],
        "crop_scale": [0.2, 0.3], "layers": ["sparse"], "head": ["linear"], "precision": ["bf16"],
        "optimizer": ["muon"], "device": ["cpu"], "cache_dtype": ["float32"], "window_px": [896],
        "decoder_stride": [1], "backbone": ["vit_small_patch14_dinov2"], "teacher": ["another"],
    }  # fmt: skip
    for name, parameter in inspect.signature(command).parameters.items():
        if name in ("config", "text_names", "out") or (name == "teacher" and command is distill):
            continue
        option, default = f"--{name.replace('_', '-')}", parameter.default
        if isinstance(default, bool):
            more = [f"--no-{option[2:]}" if default else option]
        elif name == "text_embeddings":
            more = [option, "a.npz", "--text-names", "a.json"]
        elif name in changed:
            more = [option, *changed[name]]
        elif isinstance(default, int):
            more = [option, default + 1]
        elif isinstance(default, float):
            more = [option, default / 2 or 0.5]
        else:
            more = [option, "something"]
        if name in ("encoder", "gate"):
            more += ["--teacher", "sam"]
        assert run(monkeypatch, *usual, *more) == 0, more
        other = dataclasses.replace(begun[-1], command=plain.command)
        one, two = flattened(plain), flattened(other)
        differ = {setting for setting in one if one[setting] != two[setting]}
        wanted = elsewhere.get(name) or next(
            setting for setting in (name, f"model.{name}", f"augmentation.{name}") if setting in one
        )
        assert wanted in differ, more
        assert differ <= {wanted} | along.get(name, set()), more


@pytest.mark.real
@pytest.mark.skipif(not BACKBONE.is_file(), reason="the real images and weights are not here")
def test_the_three_real_data_sets_train_together_on_the_real_backbone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two photographs of each; CamVid, YOLO text and COCO JSON share classes such as car."""
    data = SHARED / "data"
    for layout, images, labels in (
        ("folder", data / "camvid/train/images", data / "camvid/train/labels"),
        ("yolo", data / "coco128/images", data / "coco128/labels"),
    ):
        for name, origin in (("images", images), ("labels", labels)):
            (tmp_path / layout / name).mkdir(parents=True)
            for path in sorted(origin.iterdir())[:2]:
                (tmp_path / layout / name / path.name).symlink_to(path)
    document = json.loads((data / "tiny_coco/annotations/instances_train2017.json").read_text())
    document["images"] = document["images"][:2]
    kept = {item["id"] for item in document["images"]}
    document["annotations"] = [item for item in document["annotations"] if item["image_id"] in kept]
    (tmp_path / "instances.json").write_text(json.dumps(document))
    sources = (
        f"folder:{tmp_path / 'folder'}:{CAMVID}",
        f"yolo:{tmp_path / 'yolo'}",
        f"coco:{tmp_path / 'instances.json'}:{data / 'tiny_coco/train2017'}",
    )
    status = run(
        monkeypatch, "fit", *(word for source in sources for word in ("--data", source)),
        "--out", tmp_path / "run", "--backbone", "vit_small_patch14_dinov2", "--backbone-weights", BACKBONE,
        "--trainable-blocks", 0, "--teacher", "none", "--epochs", 3, "--batch-size", 6, "--micro-batch", 3,
        "--text-embeddings", WEIGHTS / "clip_vitb16_class_text.npz", "--lr", 1e-3,
        "--text-names", WEIGHTS / "clip_vitb16_class_text_names.json", "--cache-views", 1,
        "--val-fraction", 0,
    )  # fmt: skip
    assert status == 0
    info = read_info(tmp_path / "run" / "last")
    # Of the 80 + 9 names (car and person stand in both) those that the six photographs show.
    assert {"sky", "road", "building"} <= set(info.trained_names)
    assert len(info.trained_names) == 89 - 71
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    steps = [line for line in lines if line["kind"] == "step"]
    assert steps[-1]["seg"] < steps[0]["seg"]


def _only_line(capsys: pytest.CaptureFixture[str]) -> str:
    """Return the error line; what else stands on stderr are notes and progress."""
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    return errors[0]


def test_all_errors_of_the_tree_are_caught(
    monkeypatch: pytest.MonkeyPatch, world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    from ovsdino import trainer

    def fails(*arguments: object, **more: object) -> None:
        raise OvsDinoError("what was asked, what was found, what to do")

    monkeypatch.setattr(trainer, "fit", fails)
    assert run(monkeypatch, *usual(world)) == 1
    assert _only_line(capsys) == "error: what was asked, what was found, what to do"
