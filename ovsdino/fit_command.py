"""`ovsdino-train fit`: train on photographs."""

from __future__ import annotations

import typer

from ovsdino import options as o
from ovsdino.options import Device, Head, Layers, Optimizer, Precision, Stored
from ovsdino.running import settings_of, train
from ovsdino_runtime.extras import needing


def fit(
    data: o.Data,
    out: o.Out,
    config: o.Recipe = None,
    leave_out: o.LeaveOut = "",
    val: o.Val = [],  # noqa: B006
    val_fraction: o.ValFraction = 0.1,
    val_blocks: o.ValBlocks = 4,
    val_every: o.ValEvery = 1,
    negatives: o.Negatives = 10,
    backbone: o.Backbone = "vit_base_patch14_dinov2",
    backbone_weights: o.BackboneWeights = None,
    start: o.Start = None,
    window_px: o.WindowPx = 448,
    layers: o.LayersOption = Layers.dense,
    alignment: o.Alignment = True,
    encoder: o.Encoder = True,
    head: o.HeadOption = Head.structure,
    gate: o.Gate = True,
    trainable_blocks: o.TrainableBlocks = 3,
    whole_backbone: o.WholeBackbone = False,
    shorten_text: o.ShortenText = 0,
    decoder_stride: o.DecoderStride = 2,
    teacher: o.Teacher = "sam",
    text_embeddings: o.TextEmbeddings = None,
    text_names: o.TextNames = None,
    text_model: o.TextModel = None,
    text_pretrained: o.TextPretrained = None,
    epochs: o.Epochs = 25,
    warmup_epochs: o.WarmupEpochs = 1.0,
    batch_size: o.BatchSize = 64,
    micro_batch: o.MicroBatch = 8,
    optimizer: o.OptimizerOption = Optimizer.adamw,
    lr: o.Rate = 1e-4,
    lr_blocks: o.RateOfBlocks = 1e-5,
    lr_scalars: o.RateOfScalars = 1e-2,
    weight_decay: o.WeightDecay = 1e-4,
    grad_clip: o.GradClip = 0.0,
    dice_weight: o.DiceWeight = 1.0,
    cross_entropy_weight: o.CrossEntropyWeight = 0.0,
    seed: o.Seed = 0,
    mask_px: o.MaskPx = 112,
    crop_scale: o.CropScale = (0.5, 1.0),
    object_crops: o.ObjectCrops = 0.0,
    flip: o.Flip = 0.5,
    colour: o.Colour = 0.3,
    grey: o.Grey = 0.0,
    blur: o.Blur = 0.0,
    noise: o.Noise = 0.0,
    cache_views: o.CacheViews = 0,
    cache_folder: o.CacheFolder = None,
    cache_dtype: o.CacheDtype = Stored.float16,
    device: o.DeviceOption = Device.auto,
    precision: o.PrecisionOption = Precision.fp32,
    workers: o.Workers = 0,
    self_contained: o.SelfContained = False,
    save_every: o.SaveEvery = 0,
    resume: o.Resume = False,
) -> None:
    """Train on photographs with masks; torchrun starts it on several GPUs or machines."""
    options = dict(locals())
    with needing("train", "training"):
        from ovsdino.config import ModelConfig

    # What a model without encoder or with a linear head cannot have needs no switch of its own.
    structured = encoder and head is Head.structure
    try:
        model = ModelConfig(
            backbone=backbone,
            window_px=window_px,
            layers=layers.value,
            head=head.value,
            alignment=alignment and structured,
            encoder=encoder,
            gate=gate and structured,
            backbone_trainable_blocks=trainable_blocks if encoder and not whole_backbone else 0,
            whole_backbone=whole_backbone,
            decoder_stride=decoder_stride,  # type: ignore[arg-type]  # checked by the config
        )
        settings = settings_of(options, model=model)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    train(settings)
