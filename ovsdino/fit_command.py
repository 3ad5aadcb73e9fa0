"""`ovsdino-train fit`: train on photographs."""

from __future__ import annotations

import typer

from ovsdino import options as o
from ovsdino.options import Device, Head, Layers, Optimizer, Precision, Stored
from ovsdino.running import command_line, train
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
    with needing("train", "training"):
        from ovsdino.config import ModelConfig
        from ovsdino.data.augment import Augmentation
        from ovsdino.settings import TrainConfig

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
                backbone_trainable_blocks=trainable_blocks if encoder and not whole_backbone else 0,
                whole_backbone=whole_backbone,
                decoder_stride=decoder_stride,  # type: ignore[arg-type]  # checked by the config
            ),
            backbone_weights=backbone_weights,
            start=start,
            text_embeddings=text_embeddings,
            text_names=text_names,
            text_model=text_model,
            text_pretrained=text_pretrained,
            teacher=teacher,
            leave_out=leave_out,
            shorten_text=shorten_text,
            val=tuple(val),
            val_fraction=val_fraction,
            val_blocks=val_blocks,
            val_every=val_every,
            batch_size=batch_size,
            micro_batch=micro_batch,
            epochs=epochs,
            warmup_epochs=warmup_epochs,
            optimizer=optimizer.value,
            lr_heads=lr,
            lr_blocks=lr_blocks,
            lr_scalars=lr_scalars,
            weight_decay=weight_decay,
            grad_clip=grad_clip,
            negatives=negatives,
            dice_weight=dice_weight,
            cross_entropy_weight=cross_entropy_weight,
            mask_px=mask_px,
            augmentation=Augmentation(
                scale=crop_scale,
                object_crops=object_crops,
                flip=flip,
                colour=colour,
                grey=grey,
                blur=blur,
                noise=noise,
            ),
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
            command=command_line(),
        )
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    train(settings)
