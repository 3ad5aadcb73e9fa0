"""The folded graph against the model it was folded from, before and after tracing."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
import torch
from torch import Tensor, nn

from ovsdino.model import OVSDINO
from ovsdino_export.graph import ImageGraph
from ovsdino_export.operators import check_file
from ovsdino_export.trace import EXTERNAL_DATA_BYTES, save, trace
from ovsdino_export.vit import FoldedBlock, PlainBlock
from ovsdino_runtime.errors import ExportError

Build = Callable[..., OVSDINO]
NODES_PER_BLOCK = 22
NODES_PER_ROTATED_BLOCK = 28
NODES_BESIDE_BLOCKS = 60  # with one Resize of F_12, where the grids differ

DINO = {"backbone": "vit_tiny_patch16_224"}
DINOV2_REG = {"backbone": "vit_small_patch14_reg4_dinov2", "window_px": 56, "norm_groups": 32}
DINOV3 = {"backbone": "vit_tiny_patch16_dinov3_qkvb"}
VARIANTS = {
    "a register instead of a class token": {},
    "DINO": DINO,
    "DINOv2 with registers, patch 14": DINOV2_REG,
    "DINOv3": DINOV3,
    "DINOv3 with SwiGLU, no bias": {"backbone": "vit_small_plus_patch16_dinov3"},
    "packed SwiGLU, as the giant DINOv2": {"backbone": "vit_small_patch16_224", "layers": "sparse"},
    "interleaved rotation, left as it is": {"backbone": "eva02_tiny_patch14_224", "window_px": 56},
    "no gate": {"gate": False},
    "sparse layers": {"layers": "sparse"},
    "decoder of stride 1": {"decoder_stride": 1},
    "a grid larger than SAM's": {"window_px": 1040},
}


def _windows(side: int, count: int = 2, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, side, side, 3), dtype=torch.uint8, generator=generator)


def _traced(graph: ImageGraph) -> onnx.ModelProto:
    example = torch.zeros(1, graph.window_px, graph.window_px, 3, dtype=torch.uint8)
    return onnx.ModelProto.FromString(_bytes(graph, example))


def _bytes(graph: nn.Module, example: Tensor) -> bytes:
    import onnx_ir

    model = trace(graph, example, input_name="image", output_name="features", metadata={"name": "tiny"})
    return onnx_ir.serde.serialize_model(model).SerializeToString(deterministic=True)


@pytest.mark.parametrize("fields", VARIANTS.values(), ids=VARIANTS)
def test_the_folded_graph_computes_what_the_model_computes(build_model: Build, fields: dict) -> None:
    model = build_model(**fields)
    windows = _windows(model.config.window_px, count=1 if model.config.window_px > 1000 else 2)
    with torch.inference_mode():
        expected, found = model(windows).embeddings, ImageGraph(model)(windows)
    assert found.shape == expected.shape
    assert torch.allclose(found, expected, atol=2e-6)


def test_packed_swiglu_of_the_giant_folds_too(build_model: Build) -> None:
    import timm

    from ovsdino_export.vit import foldable

    model = build_model(**DINO)
    packed = timm.create_model("vit_giant_patch14_dinov2", depth=1, embed_dim=48, num_heads=2, img_size=56)
    block = packed.blocks[0].eval()
    nn.init.normal_(block.ls1.gamma), nn.init.normal_(block.ls2.gamma)
    tokens = torch.randn(2, 5, 48)
    assert foldable(block, None)
    with torch.inference_mode():
        assert torch.allclose(FoldedBlock(block, None)(tokens), block(tokens), atol=1e-5)
    assert isinstance(ImageGraph(model).backbone.blocks[0], FoldedBlock)


def test_a_block_that_cannot_be_folded_stays_as_timm_has_it(build_model: Build) -> None:
    graph = ImageGraph(build_model(backbone="eva02_tiny_patch14_224", window_px=56))
    assert {type(block) for block in graph.backbone.blocks} == {PlainBlock}


@pytest.mark.parametrize("alpha", [0.0, -0.7])
def test_fusion_weights_of_any_sign_fold(build_model: Build, alpha: float) -> None:
    model = build_model()
    assert model.encoder is not None
    nn.init.constant_(model.encoder.fusion.alpha, alpha)
    windows = _windows(64)
    with torch.inference_mode():
        assert torch.allclose(ImageGraph(model)(windows), model(windows).embeddings, atol=2e-6)


def test_folding_leaves_the_model_untouched(build_model: Build) -> None:
    model = build_model()
    before = copy.deepcopy(model.state_dict())
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    graph = ImageGraph(model)
    for parameter in (*graph.parameters(), *graph.buffers()):
        parameter.zero_()
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert {name for name, parameter in model.named_parameters() if not parameter.requires_grad} == frozen


def test_a_float_input_from_0_to_1_gives_the_features_of_the_uint8_input(build_model: Build) -> None:
    model, windows = build_model(), _windows(64)
    with torch.inference_mode():
        expected = ImageGraph(model)(windows)
        found = ImageGraph(model, float_input=True)(windows.permute(0, 3, 1, 2) / 255)
    assert torch.allclose(found, expected, atol=2e-6)


def test_a_model_without_encoder_is_refused_as_not_sam_free(build_model: Build) -> None:
    model = build_model(encoder=False, gate=False, alignment=False, backbone_trainable_blocks=0)
    with pytest.raises(ExportError, match="SAM-free"):
        ImageGraph(model)


@pytest.fixture(scope="module")
def tiny_graph(build_model: Build) -> onnx.ModelProto:
    return _traced(ImageGraph(build_model()))


def test_a_block_takes_22_nodes_and_the_rest_60(build_model: Build, tiny_graph: onnx.ModelProto) -> None:
    assert len(tiny_graph.graph.node) == 8 * NODES_PER_BLOCK + NODES_BESIDE_BLOCKS
    rotated = _traced(ImageGraph(build_model(**DINOV3, decoder_stride=1)))
    assert len(rotated.graph.node) == 12 * NODES_PER_ROTATED_BLOCK + NODES_BESIDE_BLOCKS


def test_the_traced_graph_has_fewer_nodes_than_a_plain_export(
    build_model: Build, tiny_graph: onnx.ModelProto
) -> None:
    class Plain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = build_model()

        def forward(self, image: Tensor) -> Tensor:
            return self.model(image).embeddings

    with_timm = trace(Plain().eval(), _windows(64, 1), input_name="image", output_name="features")
    assert len(tiny_graph.graph.node) < 0.75 * len(list(with_timm.graph))


def test_the_graph_asks_no_shapes_and_holds_native_norms_and_gelu(tiny_graph: onnx.ModelProto) -> None:
    count = Counter(node.op_type for node in tiny_graph.graph.node)
    assert not {"Shape", "Gather", "Expand", "Erf", "Pow", "Sqrt", "ReduceMean"} & set(count)
    assert count["LayerNormalization"] == 2 * 8 + 1
    assert count["InstanceNormalization"] == 4
    assert count["Gelu"] == 8 + 3


def test_mean_and_deviation_stay_operations_behind_the_cast(tiny_graph: onnx.ModelProto) -> None:
    first = [node.op_type for node in tiny_graph.graph.node[:5]]
    assert first == ["Cast", "Transpose", "Sub", "Div", "Conv"]


def test_epsilons_are_the_trained_ones(tiny_graph: onnx.ModelProto) -> None:
    found = {
        node.op_type: round(onnx.helper.get_attribute_value(item), 9)
        for node in tiny_graph.graph.node
        for item in node.attribute
        if item.name == "epsilon"
    }
    assert found == {"LayerNormalization": 1e-6, "InstanceNormalization": 1e-5}


def test_tracing_twice_gives_the_same_bytes_without_file_names(
    build_model: Build, tiny_graph: onnx.ModelProto
) -> None:
    again = _traced(ImageGraph(build_model()))
    data = again.SerializeToString(deterministic=True)
    assert data == tiny_graph.SerializeToString(deterministic=True)
    assert b".py" not in data
    assert b"pkg.torch" not in data


def test_shapes_versions_and_names_are_those_of_the_contract(tiny_graph: onnx.ModelProto) -> None:
    def shape(value: onnx.ValueInfoProto) -> list[str | int]:
        return [item.dim_param or item.dim_value for item in value.type.tensor_type.shape.dim]

    (image,), (features,) = tiny_graph.graph.input, tiny_graph.graph.output
    assert (image.name, shape(image)) == ("image", ["batch", 64, 64, 3])
    assert (features.name, shape(features)) == ("features", ["batch", 16, 32, 32])
    assert image.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert [(item.domain, item.version) for item in tiny_graph.opset_import] == [("", 20)]
    assert tiny_graph.ir_version <= 10
    assert {item.key: item.value for item in tiny_graph.metadata_props} == {"name": "tiny"}


@pytest.mark.parametrize("limit", [EXTERNAL_DATA_BYTES, 1000])
def test_weights_beyond_the_limit_go_beside_the_graph(build_model: Build, tmp_path: Path, limit: int) -> None:
    graph = ImageGraph(build_model(layers="sparse"))
    path = tmp_path / "image.onnx"
    save(trace(graph, _windows(64, 1), input_name="image", output_name="features"), path, limit)
    written = {item.name for item in tmp_path.iterdir()}
    assert written == ({"image.onnx"} if limit > 1000 else {"image.onnx", "image.onnx.data"})
    check_file(path)
