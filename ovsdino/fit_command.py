"""`ovsdino-train fit`: the options of a training."""

from __future__ import annotations

import shlex
import sys
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from ovsdino_runtime.extras import needing

_DATA, _MODEL, _TEXT, _STEPS, _VIEWS, _PLACE = (
    "Data",
    "Model",
    "Text",
    "Optimisation",
    "Views",
    "Where and how",
)


class Layers(str, Enum):
    """Which blocks eq. 7 fuses."""

    dense = "dense"
    sparse = "sparse"


class Head(str, Enum):
    """What stands on the backbone."""

    structure = "structure"
    linear = "linear"


class Precision(str, Enum):
    """Arithmetic of the model."""

    fp32 = "fp32"
    bf16 = "bf16"


class Stored(str, Enum):
    """Precision of cached features."""

    float16 = "float16"
    float32 = "float32"


class Device(str, Enum):
    """Where to compute."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


def _recipe(context: typer.Context, path: Optional[Path]) -> Optional[Path]:  # noqa: UP045 (typer reads it)
    """Make a recipe's settings the defaults, which the command line overrides."""
    if path is not None:
        from ovsdino.recipe import read_recipe

        options = {str(option.name) for option in context.command.params} - {"config", "help"}
        context.default_map = read_recipe(path, options)
    return path


def _panel(text: str, panel: str, *names: str, **more: Any) -> Any:
    return typer.Option(*names, help=text, rich_help_panel=panel, **more)


def fit(
    data: Annotated[
        list[str],
        _panel(
            "Training data, any number of times: coco:JSON:IMAGES[:NAMES], folder:DIR:NAMES or "
            "yolo:DIR[:NAMES]. NAMES: a file or name,name,…; label=prompt asks the text encoder for another "
            "name, - is unlabelled.",
            _DATA,
            "--data",
        ),
    ],
    out: Annotated[Path, _panel("Folder for checkpoints, metrics.jsonl and curves.png.", _PLACE)],
    config: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(
            help="Recipe: a TOML file whose keys are these options; the command line overrides it.",
            is_eager=True,
            callback=_recipe,
            rich_help_panel=_PLACE,
        ),
    ] = None,
    leave_out: Annotated[
        str,
        _panel(
            "Names not to train, as bus,dog: images of objects that show one are left out, in label maps its "
            "pixels are unlabelled.",
            _DATA,
        ),
    ] = "",
    val: Annotated[list[str], _panel("Validation data, as --data; holds nothing out then.", _DATA)] = [],  # noqa: B006
    val_fraction: Annotated[float, _panel("Share of each data set to hold out.", _DATA)] = 0.1,
    val_blocks: Annotated[int, _panel("Runs of neighbouring images to hold out.", _DATA)] = 4,
    val_every: Annotated[int, _panel("Epochs between validations.", _DATA)] = 1,
    negatives: Annotated[int, _panel("Absent classes asked of an image.", _DATA)] = 10,
    backbone: Annotated[str, _panel("timm's name of a ViT.", _MODEL)] = "vit_base_patch14_dinov2",
    backbone_weights: Annotated[
        Optional[str],  # noqa: UP045
        _panel("File, hub:OWNER/REPO[/FILE] or random:SEED; timm's own from the hub by default.", _MODEL),
    ] = None,
    window_px: Annotated[int, _panel("Side of the model's input.", _MODEL)] = 448,
    layers: Annotated[Layers, _panel("Blocks fused into the last (table 3).", _MODEL)] = Layers.dense,
    alignment: Annotated[bool, _panel("Learn SAM's features (table 2, w/o SA).", _MODEL)] = True,
    encoder: Annotated[bool, _panel("Have DINO and SAE at all (table 2, w/o Encoder).", _MODEL)] = True,
    head: Annotated[
        Head, _panel("structure: SAE and SMD; linear: neither, a projection of the last block.", _MODEL)
    ] = Head.structure,
    gate: Annotated[bool, _panel("Have the Preservation Gate (table 2, w/o PG).", _MODEL)] = True,
    trainable_blocks: Annotated[int, _panel("Last blocks of the backbone to train (table 3).", _MODEL)] = 3,
    decoder_stride: Annotated[int, _panel("2 as in the paper, or 1 for a 64x64 grid.", _MODEL)] = 2,
    teacher: Annotated[
        str, _panel("sam (SAM ViT-B), none, or another SAM: hub name or folder.", _MODEL)
    ] = "sam",
    text_embeddings: Annotated[
        Optional[Path],  # noqa: UP045
        _panel("Ready-made text vectors (.npz).", _TEXT),
    ] = None,
    text_names: Annotated[Optional[Path], _panel("Their names (.json).", _TEXT)] = None,  # noqa: UP045
    text_model: Annotated[
        Optional[str],  # noqa: UP045
        _panel(
            "open_clip's model, ViT-B-16 by default; for OpenAI's weights from a file ViT-B-16-quickgelu, as "
            "a file does not tell which GELU it was trained with. Beside ready-made vectors: what made them.",
            _TEXT,
        ),
    ] = None,
    text_pretrained: Annotated[
        Optional[str],  # noqa: UP045
        _panel("open_clip's tag of its weights, openai by default, or a file.", _TEXT),
    ] = None,
    epochs: Annotated[int, _panel("Epochs.", _STEPS)] = 25,
    warmup_epochs: Annotated[float, _panel("Epochs of linear warm-up.", _STEPS)] = 1.0,
    batch_size: Annotated[int, _panel("Images a step, over all processes.", _STEPS)] = 64,
    micro_batch: Annotated[int, _panel("Images at once; gradients add up to the batch.", _STEPS)] = 8,
    lr: Annotated[float, _panel("Rate of encoder, decoder and projector.", _STEPS)] = 1e-4,
    lr_blocks: Annotated[float, _panel("Rate of the backbone's trained blocks.", _STEPS)] = 1e-5,
    lr_scalars: Annotated[float, _panel("Rate of γ, α, score scale and bias.", _STEPS)] = 1e-2,
    weight_decay: Annotated[float, _panel("AdamW's weight decay; none on the scalars.", _STEPS)] = 1e-4,
    grad_clip: Annotated[float, _panel("Largest gradient norm of a step; 0: no limit.", _STEPS)] = 0.0,
    dice_weight: Annotated[float, _panel("Factor on the Dice loss; 0: cross-entropy alone.", _STEPS)] = 1.0,
    seed: Annotated[int, _panel("Seed of weights, views and order.", _STEPS)] = 0,
    mask_px: Annotated[int, _panel("Cells a side of the masks in the loss.", _VIEWS)] = 112,
    crop_scale: Annotated[
        tuple[float, float], _panel("Least and greatest crop, relative to the short side.", _VIEWS)
    ] = (0.5, 1.0),
    flip: Annotated[float, _panel("Probability of a mirrored view.", _VIEWS)] = 0.5,
    colour: Annotated[float, _panel("Change of brightness, contrast, saturation: 1 ± this.", _VIEWS)] = 0.3,
    cache_views: Annotated[
        int, _panel("Fixed views a photograph with cached backbone features; 0: new views.", _VIEWS)
    ] = 0,
    cache_folder: Annotated[
        Optional[Path],  # noqa: UP045
        _panel("Where the cache lies; OUT/views by default.", _VIEWS),
    ] = None,
    cache_dtype: Annotated[Stored, _panel("Precision of cached features.", _VIEWS)] = Stored.float16,
    device: Annotated[Device, _panel("Where to compute.", _PLACE)] = Device.auto,
    precision: Annotated[Precision, _panel("bf16: autocast, on GPU and CPU.", _PLACE)] = Precision.fp32,
    workers: Annotated[int, _panel("Processes that read images.", _PLACE)] = 0,
    self_contained: Annotated[
        bool, _panel("Store the frozen backbone in the checkpoints too.", _PLACE, "--self-contained")
    ] = False,
    save_every: Annotated[int, _panel("Steps between saved states; 0: each epoch.", _PLACE)] = 0,
    resume: Annotated[bool, _panel("Go on with the training in OUT.", _PLACE, "--resume")] = False,
) -> None:
    """Train on photographs with masks; torchrun starts it on several GPUs or machines."""
    with needing("train", "training"):
        from ovsdino.config import ModelConfig
        from ovsdino.data.augment import Augmentation
        from ovsdino.settings import TrainConfig
        from ovsdino.trainer import fit as run

    try:
        settings = TrainConfig(
            data=tuple(data),
            out=out,
            model=ModelConfig(
                backbone=backbone,
                window_px=window_px,
                layers=layers.value,
                head=head.value,
                # What a model without encoder or with a linear head cannot have needs no switch of its own.
                alignment=alignment and encoder and head is Head.structure,
                encoder=encoder,
                gate=gate and encoder and head is Head.structure,
                backbone_trainable_blocks=trainable_blocks if encoder else 0,
                decoder_stride=decoder_stride,  # type: ignore[arg-type]  # checked by the config
            ),
            backbone_weights=backbone_weights,
            text_embeddings=text_embeddings,
            text_names=text_names,
            text_model=text_model,
            text_pretrained=text_pretrained,
            teacher=teacher,
            leave_out=leave_out,
            val=tuple(val),
            val_fraction=val_fraction,
            val_blocks=val_blocks,
            val_every=val_every,
            batch_size=batch_size,
            micro_batch=micro_batch,
            epochs=epochs,
            warmup_epochs=warmup_epochs,
            lr_heads=lr,
            lr_blocks=lr_blocks,
            lr_scalars=lr_scalars,
            weight_decay=weight_decay,
            grad_clip=grad_clip,
            negatives=negatives,
            dice_weight=dice_weight,
            mask_px=mask_px,
            augmentation=Augmentation(scale=crop_scale, flip=flip, colour=colour),
            cache_views=cache_views,
            cache_folder=cache_folder,
            cache_dtype=cache_dtype.value,
            precision=precision.value,
            seed=seed,
            device=device.value,
            workers=workers,
            self_contained=self_contained,
            save_every=save_every,
            resume=resume,
            command=shlex.join(["ovsdino-train", *sys.argv[1:]]),
        )
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    try:
        result = run(settings, say=lambda sentence: typer.echo(sentence, err=True))
    except KeyboardInterrupt:
        from ovsdino.progress import STATE

        if (out / STATE).exists():
            typer.echo("interrupted; the same command with --resume goes on", err=True)
        else:
            typer.echo("interrupted before a state was saved; the same command begins again", err=True)
        raise typer.Exit(130) from None
    if not result.main:
        return
    reached = "" if result.best_miou is None else f" (validation mIoU {100 * result.best_miou:.1f})"
    typer.echo(f"best checkpoint: {result.best}{reached}")
    typer.echo(f"last checkpoint: {result.last}")
    typer.echo(f"next: ovsdino-export onnx {shlex.quote(str(result.best))} --out BUNDLE")
