"""A tiny real bundle whose labels can be foretold: its features are a known function of colour.

A patch's feature is its mean colour laid on the unit sphere (inverse stereographic projection of the RGB cube
scaled to [-1, 1]); a class's embedding is the same function of the class's colour. So an area painted in the
colour of "car" scores exactly 1 with "car" and less with every other name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from ovsdino_runtime.bundle import GOLDEN, IMAGE_GRAPH, VOCABULARY
from ovsdino_runtime.bundle_writing import new_bundle
from ovsdino_runtime.embeddings import EmbeddingSet, EmbeddingTable
from ovsdino_runtime.manifest import BackboneInfo, Manifest, TensorSpec

WINDOW_PX = 28
STRIDE_PX = 14
LONG_SIDE_PX = 128  # as 2048 stands to 448
PATCH_PX = 7
GRID = WINDOW_PX // PATCH_PX
EMBEDDING_DIM = 4
UNTRAINED = ("dog", "cat")
COLOURS: dict[str, tuple[int, int, int]] = {
    "car": (220, 20, 20),
    "road": (110, 110, 110),
    "sky": (60, 140, 240),
    "tree": (20, 120, 20),
    "building": (160, 90, 30),
    "person": (250, 180, 150),
    "bus": (250, 220, 0),
    "truck": (120, 0, 60),
    "grass": (120, 220, 40),
    "wall": (225, 215, 190),
    "fence": (70, 50, 20),
    "pole": (30, 30, 30),
    "traffic sign": (240, 0, 240),
    "sidewalk": (180, 150, 220),
    "dog": (0, 0, 150),
    "cat": (0, 230, 200),
}


def _on_the_sphere(colours: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return unit vectors [..., 4] of colours [..., 3] in [0, 255]."""
    position = colours / 127.5 - 1.0
    square = np.sum(position**2, axis=-1, keepdims=True)
    return (np.concatenate([2 * position, square - 1], axis=-1) / (square + 1)).astype(np.float32)


def _features(windows: NDArray[np.uint8]) -> NDArray[np.float32]:
    patches = windows.reshape(len(windows), GRID, PATCH_PX, GRID, PATCH_PX, 3).astype(np.float64)
    return np.ascontiguousarray(_on_the_sphere(patches.mean(axis=(2, 4))).transpose(0, 3, 1, 2))


def _write_image_graph(path: Path) -> None:
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    def constant(name: str, values: object, dtype: type[np.generic]) -> onnx.TensorProto:
        return numpy_helper.from_array(np.array(values, dtype=dtype), name)

    nodes = [
        helper.make_node("Cast", ["image"], ["as_float"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["as_float"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node(
            "AveragePool", ["planes"], ["means"], kernel_shape=[PATCH_PX] * 2, strides=[PATCH_PX] * 2
        ),
        helper.make_node("Div", ["means", "half"], ["scaled"]),
        helper.make_node("Sub", ["scaled", "one"], ["position"]),
        helper.make_node("Mul", ["position", "position"], ["squares"]),
        helper.make_node("ReduceSum", ["squares", "channel_axis"], ["square"], keepdims=1),
        helper.make_node("Add", ["position", "position"], ["twice"]),
        helper.make_node("Sub", ["square", "one"], ["height"]),
        helper.make_node("Concat", ["twice", "height"], ["lifted"], axis=1),
        helper.make_node("Add", ["square", "one"], ["norm"]),
        helper.make_node("Div", ["lifted", "norm"], ["features"]),
    ]
    graph = helper.make_graph(
        nodes,
        "colour_on_the_sphere",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["batch", WINDOW_PX, WINDOW_PX, 3])],
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", EMBEDDING_DIM, GRID, GRID])],
        initializer=[
            constant("half", 127.5, np.float32),
            constant("one", 1.0, np.float32),
            constant("channel_axis", [1], np.int64),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, str(path))


def _manifest() -> Manifest:
    return Manifest(
        name="tiny-colours",
        created_by="tests",
        backbone=BackboneInfo(name="colour", source="made by the tests", fingerprint="0" * 64),
        window_px=WINDOW_PX,
        stride_px=STRIDE_PX,
        short_side_px=WINDOW_PX,
        long_side_px=LONG_SIDE_PX,
        grid_hw=(GRID, GRID),
        embedding_dim=EMBEDDING_DIM,
        score_scale=10.0,
        score_bias=0.0,
        image_input=TensorSpec(name="image", dtype="uint8", shape=("batch", WINDOW_PX, WINDOW_PX, 3)),
        image_output=TensorSpec(name="features", dtype="float32", shape=("batch", EMBEDDING_DIM, GRID, GRID)),
        text_model="colours",
        templates=("a photo of a {}.",),
        license="none: made by the tests",
    )


def _write_bundle(folder: Path, colours: Mapping[str, tuple[int, int, int]]) -> Path:
    embeddings = _on_the_sphere(np.array(list(colours.values()), dtype=np.float64))
    names = EmbeddingSet(names=tuple(colours), embeddings=embeddings)
    trained = [name for name in colours if name not in UNTRAINED]
    windows = np.random.default_rng(0).integers(0, 256, (2, WINDOW_PX, WINDOW_PX, 3), dtype=np.uint8)
    with new_bundle(folder, _manifest()) as staged:
        _write_image_graph(staged / IMAGE_GRAPH)
        EmbeddingTable.from_sets({"street": names}, trained=trained).save(staged / VOCABULARY)
        np.savez(staged / GOLDEN, windows=windows, features=_features(windows))
    return folder


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a bundle of 28-pixel windows that knows 16 names; read-only by agreement."""
    return _write_bundle(tmp_path_factory.mktemp("bundles") / "tiny", COLOURS)


@pytest.fixture(scope="session")
def write_tiny_bundle() -> Callable[[Path, Mapping[str, tuple[int, int, int]]], Path]:
    """Writes such a bundle into a folder, with other names and their colours."""
    return _write_bundle


@pytest.fixture(scope="session")
def tiny_colours() -> Mapping[str, tuple[int, int, int]]:
    """The colour, RGB in [0, 255], of each name the tiny bundle knows."""
    return dict(COLOURS)


@pytest.fixture(scope="session")
def tiny_features() -> Callable[[NDArray[np.uint8]], NDArray[np.float32]]:
    """What the tiny bundle's graph computes, in NumPy: uint8 [B, 28, 28, 3] -> float32 [B, 4, 4, 4]."""
    return _features


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Runs a command line's `main` with words, and returns its exit status."""

    def run(main: Callable[[], None], *words: object) -> int:
        monkeypatch.setattr("sys.argv", ["the command", *map(str, words)])
        try:
            main()
        except SystemExit as end:
            return int(end.code or 0)
        return 0

    return run


@pytest.fixture(scope="session")
def tiny_sam(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a random SAM of one narrow layer that gives 256 channels on 64 x 64."""
    import torch
    from transformers import SamConfig, SamModel

    torch.manual_seed(0)
    config = SamConfig(
        vision_config={
            "hidden_size": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "mlp_dim": 16,
            "image_size": 1024,
            "patch_size": 16,
            "window_size": 14,
            "global_attn_indexes": [],
        },
        mask_decoder_config={"num_hidden_layers": 1, "mlp_dim": 16, "iou_head_hidden_dim": 16},
    )
    folder = tmp_path_factory.mktemp("teachers") / "tiny-sam"
    model = SamModel(config)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)  # SamModel's own start is 1e-10: features of nothing
    model.save_pretrained(folder)
    return folder
