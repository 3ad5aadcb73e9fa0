"""`ovsdino-train distill`: a small model learns from a larger one."""

from __future__ import annotations

import typer

from ovsdino import options as o
from ovsdino.options import Device, Head, Optimizer, Precision
from ovsdino.running import settings_of, train
from ovsdino_runtime.extras import needing

_OWN = "random:0"  # what a ViT of our own begins with, as nobody has other weights of it


def distill(
    teacher: o.Teaching,
    data: o.Data,
    out: o.Out,
    config: o.Recipe = None,
    labelled_only: o.LabelledOnly = [],  # noqa: B006
    teacher_weights: o.TeacherWeights = None,
    val: o.Val = [],  # noqa: B006
    val_fraction: o.ValFraction = 0.1,
    val_blocks: o.ValBlocks = 4,
    val_every: o.ValEvery = 1,
    negatives: o.Negatives = 10,
    backbone: o.Backbone = "ovsdino_nano_patch16",
    backbone_weights: o.StudentWeights = None,
    start: o.Start = None,
    window_px: o.WindowPx = 448,
    head: o.HeadOption = Head.structure,
    decoder_stride: o.DecoderStride = 2,
    shorten_text: o.ShortenText = 128,
    text_embeddings: o.TextEmbeddings = None,
    text_names: o.TextNames = None,
    text_model: o.TextModel = None,
    text_pretrained: o.TextPretrained = None,
    epochs: o.Epochs = 100,
    warmup_epochs: o.WarmupEpochs = 3.0,
    batch_size: o.BatchSize = 16,
    micro_batch: o.MicroBatch = 16,
    optimizer: o.OptimizerOption = Optimizer.adamw,
    lr: o.Rate = 1e-3,
    lr_blocks: o.RateOfBlocks = 1e-3,
    lr_scalars: o.RateOfScalars = 1e-2,
    weight_decay: o.WeightDecay = 0.02,
    grad_clip: o.GradClip = 1.0,
    dice_weight: o.DiceWeight = 1.0,
    cross_entropy_weight: o.CrossEntropyWeight = 1.0,
    distill_weight: o.DistillWeight = 1.0,
    temperature: o.Temperature = 0.05,
    seed: o.Seed = 0,
    mask_px: o.MaskPx = 112,
    crop_scale: o.CropScale = (0.35, 1.0),
    object_crops: o.ObjectCrops = 0.0,
    flip: o.Flip = 0.5,
    colour: o.Colour = 0.5,
    grey: o.Grey = 0.1,
    blur: o.Blur = 1.5,
    noise: o.Noise = 12.0,
    cache_views: o.TaughtCrops = 4,
    cache_folder: o.CacheFolder = None,
    device: o.DeviceOption = Device.auto,
    precision: o.PrecisionOption = Precision.fp32,
    workers: o.Workers = 0,
    save_every: o.SaveEvery = 0,
    resume: o.Resume = False,
) -> None:
    """Train a small model, all of it, on a larger one's scores of every known name and on labels.

    The loss is L_seg (eq. 15) plus, at every place of an image, the divergence from the teacher's
    distribution over the known names. The teacher sees fixed crops once (--cache-views of each photograph);
    the student sees the same crops in ever new colours, blur and noise. Of --labelled-only data every crop is
    new. A training on small windows (--window-px 224 --head linear, quick) goes on on large ones with
    --backbone-weights CHECKPOINT.
    """
    options = dict(locals())
    with needing("train", "distilling"):
        from ovsdino.config import ModelConfig
        from ovsdino.nano import ARCHITECTURES
        from ovsdino.settings import Distill

    try:
        model = ModelConfig(
            backbone=backbone,
            window_px=window_px,
            head=head.value,
            gate=head is Head.structure,
            alignment=False,
            backbone_trainable_blocks=0,
            whole_backbone=True,
            decoder_stride=decoder_stride,  # type: ignore[arg-type]  # checked by the config
        )
        taught = Distill(
            checkpoint=teacher,
            backbone_weights=teacher_weights,
            weight=distill_weight,
            temperature=temperature,
        )
        begun = backbone_weights or (_OWN if backbone in ARCHITECTURES else None)
        settings = settings_of(options, model=model, teacher="none", distill=taught, backbone_weights=begun)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    train(settings)
