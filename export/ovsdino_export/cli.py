"""The command line `ovsdino-export`: checkpoints to files that run without PyTorch."""

from __future__ import annotations

import json
import sys
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ovsdino_export import engine_command, fp16_command, int8_command
from ovsdino_export.baked_options import PANEL, Background, Output
from ovsdino_export.steps import progress_bar
from ovsdino_runtime import command_line
from ovsdino_runtime.extras import needing

if TYPE_CHECKING:
    from ovsdino_export.class_vectors import TextSource

app = typer.Typer(
    help="Export OVS-DINO to files that run without PyTorch, each held against PyTorch before it is written.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(fp16_command.fp16)
app.command()(int8_command.int8)
_STEPS = 6
_BUNDLE = "Bundle"


class Input(str, Enum):
    """What a baked graph takes."""

    UINT8 = "uint8-nhwc"
    FLOAT = "float-nchw"


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=command_line.version_of("ovsdino-export"),
            is_eager=True,
            help="Print the version and exit.",
        ),
    ] = False,
) -> None:
    """Hold the commands together, also while there is only one."""


@app.command()
def onnx(
    checkpoint: Annotated[Path, typer.Argument(help="A folder that `ovsdino-train fit` wrote.")],
    out: Annotated[
        Path, typer.Option(help="The bundle's folder; with --classes a file NAME.onnx or a folder.")
    ],
    backbone_weights: Annotated[
        str | None,
        typer.Option(help="A file, hub:OWNER/REPO or timm's hub by default: the backbone's weights."),
    ] = None,
    vocabulary: Annotated[
        list[str] | None, typer.Option(help="A benchmark whose names are known; repeat it. All by default.")
    ] = None,
    text_embeddings: Annotated[
        Path | None, typer.Option(help="Ready-made text vectors (.npz) in place of the text encoder.")
    ] = None,
    text_names: Annotated[Path | None, typer.Option(help="The names of --text-embeddings (.json).")] = None,
    text_model: Annotated[
        str | None,
        typer.Option(help="open_clip's architecture, ViT-B-16 by default."),
    ] = None,
    text_pretrained: Annotated[
        str | None,
        typer.Option(help="open_clip's weights, openai by default: a tag or a file."),
    ] = None,
    text_encoder: Annotated[
        bool, typer.Option("--text-encoder", help="Ship the text encoder too: then any word can be asked.")
    ] = False,
    half_weights: Annotated[
        bool,
        typer.Option(
            "--half-weights",
            help="Store the graph's weights in FP16; it still computes in FP32.",
            rich_help_panel=_BUNDLE,
        ),
    ] = False,
    name: Annotated[
        str | None, typer.Option(help="What the model is called.", rich_help_panel=_BUNDLE)
    ] = None,
    license: Annotated[
        str | None, typer.Option(help="Terms of the weights; the checkpoint's by default.")
    ] = None,
    classes: Annotated[
        str | None,
        typer.Option(
            help="Bake these into a self-contained graph: cars,road,vehicle=bus|truck.",
            rich_help_panel=PANEL,
        ),
    ] = None,
    output: Annotated[
        Output | None,
        typer.Option(
            help="scores: cosines [B, C, h, w] (the default); labels: [B, H, W].", rich_help_panel=PANEL
        ),
    ] = None,
    input: Annotated[
        Input | None,
        typer.Option(
            help="uint8-nhwc: RGB, 0 to 255 (the default); float-nchw: RGB, 0 to 1.", rich_help_panel=PANEL
        ),
    ] = None,
    background: Background = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Write a bundle, or with --classes one graph with its vocabulary inside."""
    baked_only = {"--output": output, "--input": input, "--background": background}
    bundle_only = {
        "--text-encoder": text_encoder or None,
        "--half-weights": half_weights or None,
        "--name": name,
        "--vocabulary": vocabulary or None,
    }
    for option, value in (baked_only if classes is None else bundle_only).items():
        if value is not None:
            needed = "needs" if classes is None else "cannot be combined with"
            raise typer.BadParameter(f"{option} {needed} --classes")
    if (text_embeddings is None) != (text_names is None):
        raise typer.BadParameter("--text-embeddings and --text-names go together")
    with needing("export,cpu", "exporting"):
        from ovsdino_export.class_vectors import TextSource

    source = TextSource(
        vocabularies=tuple(vocabulary or ()),
        embeddings=text_embeddings,
        names=text_names,
        model=text_model,
        pretrained=text_pretrained,
    )
    if classes is None:
        _bundle(
            checkpoint,
            out,
            backbone_weights=backbone_weights,
            source=source,
            text_encoder=text_encoder,
            half_weights=half_weights,
            name=name,
            license=license,
            as_json=as_json,
        )
    else:
        _baked(
            checkpoint,
            out,
            classes,
            output=output or Output.SCORES,
            input=input or Input.UINT8,
            background=background or "none",
            backbone_weights=backbone_weights,
            source=source,
            license=license,
            as_json=as_json,
        )


app.command()(engine_command.trt)


def _bundle(
    checkpoint: Path,
    out: Path,
    *,
    backbone_weights: str | None,
    source: TextSource,
    text_encoder: bool,
    half_weights: bool,
    name: str | None,
    license: str | None,
    as_json: bool,
) -> None:
    with needing("export,cpu", "exporting"):
        from ovsdino_export.pipeline import export_onnx

    with progress_bar(_STEPS) as progress:
        bundle = export_onnx(
            checkpoint,
            out,
            backbone_weights=backbone_weights,
            text=source,
            text_encoder=text_encoder,
            half_weights=half_weights,
            name=name,
            license=license,
            progress=progress,
        )
    parity = {key: dict(figures) for key, figures in bundle.manifest.parity.items()}
    names = len(bundle.embeddings().names)
    if as_json:
        files = {key: entry.bytes for key, entry in bundle.manifest.files.items()}
        print(json.dumps({"bundle": str(out), "names": names, "files": files, "parity": parity}))
        return
    size_mb = sum(entry.bytes for entry in bundle.manifest.files.values()) / 1e6
    print(f"{out}: {size_mb:.1f} MB, {names} names{', any other word' if text_encoder else ''}")
    print(f"agreement with PyTorch: {_figures(parity['fp32'])}")


def _baked(
    checkpoint: Path,
    out: Path,
    classes: str,
    *,
    output: Output,
    input: Input,
    background: str,
    backbone_weights: str | None,
    source: TextSource,
    license: str | None,
    as_json: bool,
) -> None:
    with needing("export,cpu", "exporting"):
        from ovsdino_export.baking import export_baked
    from ovsdino_runtime.background import parse_background
    from ovsdino_runtime.vocabulary import parse_classes

    with progress_bar(_STEPS) as progress:
        baked = export_baked(
            checkpoint,
            out,
            parse_classes(classes),
            output=output.value,
            input=input.value,
            background=parse_background(background),
            backbone_weights=backbone_weights,
            text=source,
            license=license,
            progress=progress,
        )
    for note in baked.notes:
        print(note, file=sys.stderr)
    if as_json:
        print(json.dumps({"graph": str(baked.path), "classes": baked.class_names, "parity": baked.parity}))
        return
    print(f"{baked.path}: {', '.join(baked.class_names)}")
    print(f"agreement with PyTorch: {_figures(baked.parity)}")


def _figures(parity: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.7g}" for name, value in parity.items())


def main() -> None:
    """Run the command line."""
    command_line.run(app)
