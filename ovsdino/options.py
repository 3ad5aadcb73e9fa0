"""The options that the commands of `ovsdino-train` share."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Optional

import typer

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


class Optimizer(str, Enum):
    """What steps."""

    adamw = "adamw"
    muon = "muon"


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


Data = Annotated[
    list[str],
    _panel(
        "Training data, any number of times: coco:JSON:IMAGES[:NAMES], folder:DIR:NAMES or "
        "yolo:DIR[:NAMES]. NAMES: a file or name,name,…; label=prompt asks the text encoder for another "
        "name, - is unlabelled.",
        _DATA,
        "--data",
    ),
]
Teaching = Annotated[Path, typer.Argument(help="The teacher: a checkpoint of `fit`, or a published one.")]
TeacherWeights = Annotated[
    Optional[str],  # noqa: UP045
    _panel("The teacher's backbone: file, hub:OWNER/REPO; by default the one it names.", _MODEL),
]
LabelledOnly = Annotated[
    list[str], _panel("Further data, as --data, whose labels alone teach: generated scenes.", _DATA)
]
DistillWeight = Annotated[float, _panel("Factor on the distillation loss.", _STEPS)]
Temperature = Annotated[float, _panel("Temperature of the distillation, in cosines.", _STEPS)]
Out = Annotated[Path, _panel("Folder for checkpoints, metrics.jsonl and curves.png.", _PLACE)]
Recipe = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option(
        help="Recipe: a TOML file whose keys are these options; the command line overrides it.",
        is_eager=True,
        callback=_recipe,
        rich_help_panel=_PLACE,
    ),
]
LeaveOut = Annotated[
    str,
    _panel(
        "Names not to train, as bus,dog: images of objects that show one are left out, in label maps its "
        "pixels are unlabelled.",
        _DATA,
    ),
]
Val = Annotated[list[str], _panel("Validation data, as --data; holds nothing out then.", _DATA)]
ValFraction = Annotated[float, _panel("Share of each data set to hold out.", _DATA)]
ValBlocks = Annotated[int, _panel("Runs of neighbouring images to hold out.", _DATA)]
ValEvery = Annotated[int, _panel("Epochs between validations.", _DATA)]
Negatives = Annotated[int, _panel("Absent classes asked of an image.", _DATA)]
Backbone = Annotated[
    str, _panel("timm's name of a ViT (appendix B), as vit_base_patch14_reg4_dinov2.", _MODEL)
]
BackboneWeights = Annotated[
    Optional[str],  # noqa: UP045
    _panel(
        "File, checkpoint that holds its backbone, hub:OWNER/REPO[/FILE] or random:SEED; timm's own from the "
        "hub by default.",
        _MODEL,
    ),
]
StudentWeights = Annotated[
    Optional[str],  # noqa: UP045
    _panel(
        "What the student's backbone begins with: file, checkpoint that holds its backbone, "
        "hub:OWNER/REPO[/FILE] or random:SEED; by default random:0 for this project's own ViTs, timm's "
        "weights from the hub for timm's.",
        _MODEL,
        "--backbone-weights",
    ),
]
Start = Annotated[
    Optional[Path],  # noqa: UP045
    _panel("Checkpoint of the same model whose weights to begin with, heads included: fine-tuning.", _MODEL),
]
WindowPx = Annotated[int, _panel("Side of the model's input.", _MODEL)]
LayersOption = Annotated[Layers, _panel("Blocks fused into the last (table 3).", _MODEL)]
Alignment = Annotated[bool, _panel("Learn SAM's features (table 2, w/o SA).", _MODEL)]
Encoder = Annotated[bool, _panel("Have DINO and SAE at all (table 2, w/o Encoder).", _MODEL)]
HeadOption = Annotated[
    Head, _panel("structure: SAE and SMD; linear: neither, a projection of the last block.", _MODEL)
]
Gate = Annotated[bool, _panel("Have the Preservation Gate (table 2, w/o PG).", _MODEL)]
WholeBackbone = Annotated[
    bool,
    _panel("Train all of the backbone, as a small one of random weights must.", _MODEL, "--whole-backbone"),
]
ShortenText = Annotated[int, _panel("Numbers that text vectors are shortened to; 0: all.", _MODEL)]
TrainableBlocks = Annotated[int, _panel("Last blocks of the backbone to train (table 3).", _MODEL)]
DecoderStride = Annotated[int, _panel("2 as in the paper, or 1 for a 64x64 grid.", _MODEL)]
Teacher = Annotated[str, _panel("sam (SAM ViT-B), none, or another SAM: hub name or folder.", _MODEL)]
TextEmbeddings = Annotated[
    Optional[Path],  # noqa: UP045
    _panel("Ready-made text vectors (.npz).", _TEXT),
]
TextNames = Annotated[Optional[Path], _panel("Their names (.json).", _TEXT)]  # noqa: UP045
TextModel = Annotated[
    Optional[str],  # noqa: UP045
    _panel(
        "open_clip's model, ViT-B-16 by default; for OpenAI's weights from a file ViT-B-16-quickgelu, as "
        "a file does not tell which GELU it was trained with. Beside ready-made vectors: what made them.",
        _TEXT,
    ),
]
TextPretrained = Annotated[
    Optional[str],  # noqa: UP045
    _panel("open_clip's tag of its weights, openai by default, or a file.", _TEXT),
]
Epochs = Annotated[int, _panel("Epochs.", _STEPS)]
WarmupEpochs = Annotated[float, _panel("Epochs of linear warm-up.", _STEPS)]
BatchSize = Annotated[int, _panel("Images a step, over all processes.", _STEPS)]
MicroBatch = Annotated[int, _panel("Images at once; gradients add up to the batch.", _STEPS)]
OptimizerOption = Annotated[
    Optimizer, _panel("adamw as in the paper, or muon: matrices step by Muon, the rest by AdamW.", _STEPS)
]
Rate = Annotated[float, _panel("Rate of encoder, decoder and projector.", _STEPS)]
RateOfBlocks = Annotated[float, _panel("Rate of the backbone's trained blocks.", _STEPS)]
RateOfScalars = Annotated[float, _panel("Rate of γ, α, score scale and bias.", _STEPS)]
WeightDecay = Annotated[float, _panel("AdamW's weight decay; none on the scalars.", _STEPS)]
GradClip = Annotated[float, _panel("Largest gradient norm of a step; 0: no limit.", _STEPS)]
DiceWeight = Annotated[float, _panel("Factor on the Dice loss, beside binary cross-entropy.", _STEPS)]
CrossEntropyWeight = Annotated[
    float, _panel("Factor on the cross-entropy of the softmax over an image's classes; the paper: 0.", _STEPS)
]
Seed = Annotated[int, _panel("Seed of weights, views and order.", _STEPS)]
MaskPx = Annotated[int, _panel("Cells a side of the masks in the loss.", _VIEWS)]
CropScale = Annotated[
    tuple[float, float], _panel("Least and greatest crop, relative to the short side.", _VIEWS)
]
ObjectCrops = Annotated[float, _panel("Probability of a crop around an object of a random class.", _VIEWS)]
Flip = Annotated[float, _panel("Probability of a mirrored view.", _VIEWS)]
Colour = Annotated[float, _panel("Change of brightness, contrast, saturation: 1 ± this.", _VIEWS)]
Grey = Annotated[float, _panel("Probability of a view without colour.", _VIEWS)]
Blur = Annotated[float, _panel("Largest blur of a view, pixels.", _VIEWS)]
Noise = Annotated[float, _panel("Largest noise of a view, grey levels.", _VIEWS)]
CacheViews = Annotated[
    int, _panel("Fixed views a photograph with cached backbone features; 0: new views.", _VIEWS)
]
TaughtCrops = Annotated[
    int,
    _panel(
        "Fixed crops a photograph whose scores by the teacher are kept, at least 1.", _VIEWS, "--cache-views"
    ),
]
CacheFolder = Annotated[
    Optional[Path],  # noqa: UP045
    _panel("Where the cache lies; OUT/views by default.", _VIEWS),
]
CacheDtype = Annotated[Stored, _panel("Precision of cached features.", _VIEWS)]
DeviceOption = Annotated[Device, _panel("Where to compute.", _PLACE)]
PrecisionOption = Annotated[Precision, _panel("bf16: autocast, on GPU and CPU.", _PLACE)]
Workers = Annotated[int, _panel("Processes that read images.", _PLACE)]
SelfContained = Annotated[
    bool, _panel("Store the frozen backbone in the checkpoints too.", _PLACE, "--self-contained")
]
SaveEvery = Annotated[int, _panel("Steps between saved states; 0: each epoch.", _PLACE)]
Resume = Annotated[bool, _panel("Go on with the training in OUT.", _PLACE, "--resume")]
