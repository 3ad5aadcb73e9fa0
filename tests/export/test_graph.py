"""The folded graph against the model it was folded from, before and after tracing."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx_ir
import pytest
import timm
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from ovsdino.model import OVSDINO
from ovsdino_export.graph import ImageGraph
from ovsdino_export.large_graph import EXTERNAL_DATA_BYTES
from ovsdino_export.operators import check_file, resize_scale
from ovsdino_export.trace import save, trace, weight_bytes
from ovsdino_export.verify import run_onnx
from ovsdino_export.vit import FoldedBlock, PlainBlock, foldable
from ovsdino_runtime.errors import ExportError

Build = Callable[..., OVSDINO]
NODES_PER_BLOCK = 22
NODES_PER_ROTATED_BLOCK = 28
NODES_BESIDE_BLOCKS = 60  # with one Resize of F_12, where the grids differ

DINOV2_REG = {"backbone": "vit_small_patch14_reg4_dinov2", "window_px": 56, "norm_groups": 32}
DINOV3 = {"backbone": "vit_tiny_patch16_dinov3_qkvb"}
VARIANTS = {
    "DINO": {},
    "LayerScale and a register instead of a class token": {"backbone": "test_vit2"},
    "DINOv2 with registers, patch 14": DINOV2_REG,
    "DINOv3": DINOV3,
    "DINOv3 with SwiGLU, no bias": {"backbone": "vit_small_plus_patch16_dinov3"},
    "interleaved rotation, left as it is": {"backbone": "eva02_tiny_patch14_224", "window_px": 56},
    "no gate": {"gate": False},
    "linear head": {"head": "linear", "gate": False, "alignment": False},
    "sparse layers": {"layers": "sparse"},
    "decoder of stride 1": {"decoder_stride": 1},
}


def _windows(side: int, count: int = 2, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, side, side, 3), dtype=torch.uint8, generator=generator)


def _traced(graph: ImageGraph) -> onnx_ir.Model:
    example = torch.zeros(1, graph.window_px, graph.window_px, 3, dtype=torch.uint8)
    return trace(graph, example, input_name="image", output_name="features", metadata={"name": "tiny"})


def _proto(model: onnx_ir.Model) -> onnx.ModelProto:
    return onnx.ModelProto.FromString(onnx_ir.to_proto(model).SerializeToString())


@pytest.mark.parametrize("fields", VARIANTS.values(), ids=VARIANTS)
def test_the_folded_graph_computes_what_the_model_computes(build_model: Build, fields: dict) -> None:
    model = build_model(**fields)
    windows = _windows(model.config.window_px, count=2)
    with torch.inference_mode():
        expected, found = model(windows).embeddings, ImageGraph(model)(windows)
    assert found.shape == expected.shape
    assert torch.allclose(found, expected, atol=2e-6)


def test_a_block_of_the_giant_dinov2_with_its_packed_swiglu_folds() -> None:
    packed = timm.create_model("vit_giant_patch14_dinov2", depth=1, embed_dim=48, num_heads=2, img_size=56)
    block = packed.blocks[0].eval()
    for scale in (block.ls1.gamma, block.ls2.gamma):
        nn.init.uniform_(scale, -1, 1)
    tokens = torch.randn(2, 5, 48)
    assert foldable(block, None)
    with torch.inference_mode():
        assert torch.allclose(FoldedBlock(block, None)(tokens), block(tokens), atol=1e-5)


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
def tiny_model(build_model: Build) -> onnx_ir.Model:
    return _traced(ImageGraph(build_model()))


@pytest.fixture(scope="module")
def tiny_graph(tiny_model: onnx_ir.Model) -> onnx.ModelProto:
    return _proto(tiny_model)


def test_a_block_takes_22_nodes_and_the_rest_60(build_model: Build, tiny_graph: onnx.ModelProto) -> None:
    assert len(tiny_graph.graph.node) == 6 * NODES_PER_BLOCK + NODES_BESIDE_BLOCKS
    rotated = _traced(ImageGraph(build_model(**DINOV3, decoder_stride=1)))
    assert len(list(rotated.graph)) == 12 * NODES_PER_ROTATED_BLOCK + NODES_BESIDE_BLOCKS


def test_the_graph_asks_no_shapes_and_holds_native_norms_and_gelu(tiny_graph: onnx.ModelProto) -> None:
    count = Counter(node.op_type for node in tiny_graph.graph.node)
    assert not {"Shape", "Gather", "Expand", "Erf", "Pow", "Sqrt", "ReduceMean"} & set(count)
    assert count["LayerNormalization"] == 2 * 6 + 1
    assert count["InstanceNormalization"] == 4
    assert count["Gelu"] == 6 + 3


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
    again = _proto(_traced(ImageGraph(build_model())))
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
def test_weights_beyond_the_limit_go_beside_the_graph(
    tiny_model: onnx_ir.Model, tmp_path: Path, limit: int
) -> None:
    path = tmp_path / "image.onnx"
    save(tiny_model, path, limit)
    written = {item.name for item in tmp_path.iterdir()}
    assert written == ({"image.onnx"} if limit > 1000 else {"image.onnx", "image.onnx.data"})
    check_file(path)
    assert path.stat().st_size > weight_bytes(tiny_model) or limit == 1000


class Resizes(nn.Module):
    """Every resizing that models of this family need, side by side."""

    SIZES = ((28, 64), (32, 64), (28, 32), (32, 448), (73, 64), (1, 64))

    def forward(self, maps: Tensor) -> Tensor:
        results = [
            F.interpolate(maps[:, :, :old, :old], size=(new, new), mode="bilinear", align_corners=False)
            for old, new in self.SIZES
        ]
        return torch.cat([result.flatten(2) for result in results], dim=2)


def test_resizing_with_constant_scales_equals_torch_to_a_given_size(tmp_path: Path) -> None:
    maps = torch.randn(3, 2, 73, 73, generator=torch.Generator().manual_seed(0))
    model = trace(Resizes(), maps[:1], input_name="maps", output_name="resized")
    assert sum(node.op_type == "Resize" for node in model.graph) == len(Resizes.SIZES)
    save(model, tmp_path / "resizes.onnx")
    found = run_onnx(tmp_path / "resizes.onnx", maps.numpy())
    assert torch.allclose(torch.from_numpy(found), Resizes()(maps), atol=2e-5)


@given(old=st.integers(1, 300), new=st.integers(1, 2000))
def test_a_scale_gives_the_size_it_was_made_for(old: int, new: int) -> None:
    scale = resize_scale(old, new)
    assert np.floor(np.float32(old) * scale) == new
    assert float(scale) == pytest.approx(new / old, rel=1e-6)
