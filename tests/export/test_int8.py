"""`ovsdino-export int8`: the bundle gains a graph with integer products, or stays as it was."""

from __future__ import annotations

import json
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from ovsdino_export import cli
from ovsdino_export.evidence import evidence_of
from ovsdino_export.fp16 import write_fp16
from ovsdino_export.int8 import write_int8
from ovsdino_export.integer_graph import integer_graph, kept_by_name
from ovsdino_export.integer_products import WEIGHT_LEVELS, products, rounding_errors, to_int8
from ovsdino_export.islands import WIDENINGS
from ovsdino_export.pipeline import export_onnx
from ovsdino_export.typed_graph import with_plain_weights
from ovsdino_export.verify import load_golden, run_onnx
from ovsdino_runtime import builtin
from ovsdino_runtime import cli as run_cli
from ovsdino_runtime.backends.ort import open_ort
from ovsdino_runtime.backends.selection import open_backend
from ovsdino_runtime.bundle import GOLDEN, IMAGE_GRAPH, IMAGE_GRAPH_FP16, IMAGE_GRAPH_INT8, MANIFEST, Bundle
from ovsdino_runtime.errors import ExportError, ParityError
from ovsdino_runtime.metrics import GATES, agreement

if TYPE_CHECKING:
    from conftest import TinyCheckpoint


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory, tiny_checkpoint: TinyCheckpoint) -> Path:
    folder = tmp_path_factory.mktemp("exported") / "bundle"
    export_onnx(tiny_checkpoint.path, folder, text=tiny_checkpoint.text)
    return folder


@pytest.fixture
def bundle(tmp_path: Path, exported: Path) -> Path:
    return Path(shutil.copytree(exported, tmp_path / "bundle"))


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """A picture with large areas, as photographs have."""
    coarse = np.random.default_rng(0).integers(0, 256, (6, 10, 3), dtype=np.uint8)
    Image.fromarray(coarse).resize((150, 90), Image.Resampling.BILINEAR).save(tmp_path / "picture.png")
    return tmp_path / "picture.png"


def _graph(bundle: Path) -> onnx.ModelProto:
    return with_plain_weights(onnx.load(Bundle.open(bundle).file(IMAGE_GRAPH)))


def test_the_bundle_gains_a_graph_of_integer_products_that_agrees_with_fp32(
    bundle: Path, picture: Path, call: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(cli.main, "int8", bundle, "--images", picture, "--json") == 0
    said = json.loads(capsys.readouterr().out)
    opened = Bundle.open(bundle)  # every file has its hash in the manifest
    record = opened.manifest.precisions["int8"]
    assert said["parity"] == record["parity"]
    assert said["bytes"] == opened.file(IMAGE_GRAPH_INT8).stat().st_size
    assert said["bytes"] < 0.7 * opened.file(IMAGE_GRAPH).stat().st_size
    assert "3 windows of 1 pictures" in record["evidence"]
    model = onnx.load(opened.file(IMAGE_GRAPH_INT8))
    operators = [node.op_type for node in model.graph.node]
    assert operators.count("MatMulInteger") == record["products_in_int8"] == len(products(_graph(bundle)))
    assert {node.domain for node in model.graph.node} == {""}
    windows, features = load_golden(opened.file(GOLDEN))
    found = agreement(
        features, open_backend(opened, "cpu", "int8").features(windows), opened.embeddings().embeddings
    )
    assert found.cosine_mean == pytest.approx(record["golden_parity"]["cosine_mean"], abs=1e-4)
    assert 0.99 < found.cosine_mean < 0.999999  # near FP32, and not FP32 itself


def test_the_lines_for_people_say_what_agrees_and_how_to_serve_it(
    bundle: Path, picture: Path, call: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    kept = products(_graph(bundle))[0]
    assert call(cli.main, "int8", bundle, "--images", picture, "--fp32-node", kept) == 0
    out = capsys.readouterr().out
    assert "label_agreement" in out
    assert "1 in FP32; serve it with --precision int8" in out
    assert f"  {kept}: asked for by name" in out


def test_weights_keep_the_bit_free_that_an_old_processor_may_overflow(bundle: Path) -> None:
    model = to_int8(_graph(bundle))
    weights = [
        numpy_helper.to_array(item).astype(int)
        for item in model.graph.initializer
        if item.data_type == TensorProto.INT8 and len(item.dims) == 2
    ]
    assert len(weights) == len(products(_graph(bundle)))
    assert max(np.abs(item).max() for item in weights) == WEIGHT_LEVELS
    assert 2 * 255 * WEIGHT_LEVELS < 2**15


def test_a_window_s_features_do_not_depend_on_its_neighbours(bundle: Path, picture: Path) -> None:
    written, _ = write_int8(Bundle.open(bundle), [picture])
    windows, _ = load_golden(written.file(GOLDEN))
    backend = open_backend(written, "cpu", "int8")
    together = backend.features(windows)
    np.testing.assert_array_equal(together, np.concatenate([backend.features(w[None]) for w in windows]))
    with pytest.raises(ParityError, match="does not run on a batch of 3"):
        run_onnx(written.file(IMAGE_GRAPH_INT8), windows)
    free = onnx.load(written.file(IMAGE_GRAPH_INT8))
    for value in (*free.graph.input, *free.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    onnx.save(free, bundle / "free.onnx")
    batched = run_onnx(bundle / "free.onnx", windows)
    assert np.abs(batched - together).max() > 1e-5  # which is why


def test_both_precisions_live_side_by_side_and_deriving_again_replaces(bundle: Path, picture: Path) -> None:
    half, _ = write_fp16(Bundle.open(bundle))
    (bundle / "engines").mkdir()
    (bundle / "engines" / "x.engine").write_bytes(b"plan")
    first, _ = write_int8(half, [picture])
    second, _ = write_int8(first, [picture], fp32_nodes=products(_graph(bundle))[:2])
    assert second.manifest.files[IMAGE_GRAPH_FP16] == half.manifest.files[IMAGE_GRAPH_FP16]
    assert second.manifest.files[IMAGE_GRAPH_INT8] != first.manifest.files[IMAGE_GRAPH_INT8]
    third, _ = write_fp16(second)
    assert third.manifest.files[IMAGE_GRAPH_INT8] == second.manifest.files[IMAGE_GRAPH_INT8]
    assert set(third.manifest.precisions) >= {"fp16", "int8"}
    assert (bundle / "engines" / "x.engine").read_bytes() == b"plan"


def _with_outliers(model: onnx.ModelProto, names: Iterable[str]) -> onnx.ModelProto:
    """Return a graph that computes the same, but a number dwarfs the others in some products' inputs."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    graph = changed.graph
    weights = {item.name: item for item in graph.initializer}
    for name in names:
        (place,) = (i for i, node in enumerate(graph.node) if node.name == name)
        node = graph.node[place]
        matrix = numpy_helper.to_array(weights[node.input[1]])
        factors = np.ones(len(matrix), np.float32)
        factors[0] = 3e4
        weights[node.input[1]].CopyFrom(numpy_helper.from_array(matrix / factors[:, None], node.input[1]))
        graph.initializer.append(numpy_helper.from_array(factors, f"{name}_factors"))
        scaled = helper.make_node(
            "Mul", [node.input[0], f"{name}_factors"], [f"{name}_scaled"], name=f"{name}_scale"
        )
        node.input[0] = f"{name}_scaled"
        graph.node.insert(place, scaled)
    return changed


def test_products_that_lose_their_precision_are_found_and_stay_in_fp32(
    bundle: Path, picture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evidence = evidence_of(Bundle.open(bundle), [picture])
    plain = _graph(bundle)
    worst = products(plain)[3]
    spoiled = _with_outliers(plain, [worst])
    errors = rounding_errors(spoiled, evidence.windows[:2])
    assert max(errors, key=lambda name: errors[name]) == worst
    made = integer_graph(spoiled, evidence, window_px=64)
    assert made.widened >= 1
    assert made.islands[0].node == worst
    assert made.islands[0].reason.startswith("widened to meet the gates: INT8 changes its result by")
    assert not made.parity.failures(GATES["int8"])
    names = products(plain)
    half = round(WIDENINGS[-1] * len(names))
    with pytest.raises(ParityError, match="INT8 misses its gates: on pictures") as caught:
        integer_graph(_with_outliers(plain, names), evidence, window_px=64)
    assert f"and {half} of {len(names)} products are in FP32 already" in str(caught.value)
    _unreachable(monkeypatch)
    errors = rounding_errors(plain, evidence.windows)
    kept = kept_by_name(plain, sorted(names, key=lambda name: errors[name])[:-1])  # widening leaves none
    with pytest.raises(ParityError, match=rf"the gate is 1\.1; it changes most .* and {len(names)} of"):
        integer_graph(plain, evidence, window_px=64, kept=kept)


def test_labels_are_gated_on_pictures_and_not_on_golden_windows(
    bundle: Path, picture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, evidence = _graph(bundle), evidence_of(Bundle.open(bundle), [picture])
    windows, features = evidence.windows[[0, -1]], evidence.features[[0, -1]]
    angles = np.linspace(0, 2 * np.pi, 500, endpoint=False)  # names so near that any rounding shows
    names = np.zeros((len(angles), features.shape[1]), np.float32)
    names[:, 0], names[:, 1] = np.cos(angles), np.sin(angles)
    evidence = replace(evidence, windows=windows, features=features, embeddings=names, golden=1)
    made = to_int8(plain)
    monkeypatch.setattr("ovsdino_export.integer_graph.to_int8", lambda *_: made)
    monkeypatch.setattr("ovsdino_export.integer_graph.WIDENINGS", ())
    said = r"misses its gates: on pictures label agreement is 0\.\d+, the gate is 0\.985; it changes most"
    with pytest.raises(ParityError, match=said):
        integer_graph(plain, evidence, window_px=64)
    onnx.save(made, tmp_path / "int8.onnx")
    features = features.copy()
    features[1:] = open_ort(tmp_path / "int8.onnx", "cpu", 64).features(windows[1:])
    found = integer_graph(plain, replace(evidence, features=features), window_px=64)
    assert found.parity.label_agreement == 1
    assert found.golden.label_agreement < GATES["int8"].label_agreement
    assert found.record()["golden_parity"]["label_agreement"] == found.golden.label_agreement


def _unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    gate = type(GATES["int8"])(cosine_mean=1.1, cosine_p1=0, label_agreement=0, delta_miou_points=1)
    monkeypatch.setattr("ovsdino_export.integer_graph.GATES", {"int8": gate})


def test_a_graph_without_products_or_with_all_of_them_kept_is_refused(bundle: Path) -> None:
    plain = _graph(bundle)
    with pytest.raises(ExportError, match=rf"keeps every one of the {len(products(plain))} products"):
        kept_by_name(plain, products(plain))
    with pytest.raises(ExportError, match=r"of that name; it has (MatMul_\w+, ){2}MatMul_\w+ and \d+ more"):
        kept_by_name(plain, ["Nothing_1"])
    for node in [node for node in plain.graph.node if node.op_type == "MatMul"]:
        node.op_type = "Add"
    with pytest.raises(ExportError, match="has no product with a weight matrix, so nothing"):
        kept_by_name(plain, [])


def test_a_full_disk_is_one_line(
    bundle: Path, picture: Path, call: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    size = (bundle / IMAGE_GRAPH).stat().st_size // 2
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        assert call(cli.main, "int8", bundle, "--images", picture) == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    (error,) = (line for line in capsys.readouterr().err.splitlines() if line.startswith("error"))
    assert "there is no room in" in error
    assert error.endswith("set TMPDIR to another folder")
    assert not Bundle.open(bundle).has(IMAGE_GRAPH_INT8)


def test_what_the_quantizer_raises_is_an_error_of_the_export(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("Unable to find data type\nfor weight")

    monkeypatch.setattr("onnxruntime.quantization.quantize_dynamic", broken)
    with pytest.raises(ExportError, match=r"graph to INT8: Unable to find data type$"):
        to_int8(_graph(bundle))


def test_the_error_of_a_product_is_what_onnx_runtime_makes_of_it(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    matrix = random.normal(size=(3, 40)).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["image"], ["pixels"], name="Enter", to=TensorProto.FLOAT),
            helper.make_node("MatMul", ["pixels", "matrix"], ["features"], name="Product"),
        ],
        "a product",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["batch", 8, 8, 3])],
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", 8, 8, 40])],
        initializer=[numpy_helper.from_array(matrix, "matrix")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    windows = random.integers(0, 200, (2, 8, 8, 3), dtype=np.uint8)
    onnx.save(to_int8(model), tmp_path / "int8.onnx")
    exact = windows.astype(np.float32) @ matrix
    backend = open_ort(tmp_path / "int8.onnx", "cpu", 8)
    found = backend.features(windows)
    shares = [np.linalg.norm(f - e) / np.linalg.norm(e) for f, e in zip(found, exact, strict=True)]
    assert rounding_errors(model, windows)["Product"] == pytest.approx(max(shares), rel=1e-3)
    assert 1e-3 < max(shares) < 2e-2


def test_what_misses_the_gates_leaves_the_bundle_as_it_was(
    bundle: Path, picture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {item.name: item.read_bytes() for item in bundle.iterdir()}
    _unreachable(monkeypatch)
    with pytest.raises(ParityError, match=r"on golden windows mean patch cosine is .*, the gate is 1\.1"):
        write_int8(Bundle.open(bundle), [picture])
    assert {item.name: item.read_bytes() for item in bundle.iterdir()} == before
    assert [item.name for item in bundle.parent.iterdir() if item.name.startswith(".")] == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "INT8 is proven on pictures, and none is given"),
        (["--images", "missing.jpg"], "missing.jpg"),
        (["--images", "PICTURE", "--fp32-node", "Nothing_1"], "no product with a weight matrix of that name"),
    ],
)
def test_what_cannot_be_is_one_line(
    words: list[str],
    message: str,
    bundle: Path,
    picture: Path,
    call: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    manifest = (bundle / MANIFEST).read_bytes()
    assert call(cli.main, "int8", bundle, *(word.replace("PICTURE", str(picture)) for word in words)) == 1
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert len(errors) == 1
    assert message in errors[0]
    assert (bundle / MANIFEST).read_bytes() == manifest


def test_it_runs_without_torch_and_is_quiet_about_the_quantizer(bundle: Path, picture: Path) -> None:
    blocked = (
        "import sys\n"
        "for name in ('torch', 'timm', 'open_clip', 'transformers'): sys.modules[name] = None\n"
        "from ovsdino_export.cli import main\n"
        f"sys.argv = ['ovsdino-export', 'int8', {str(bundle)!r}, '--images', {str(picture)!r}]\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", blocked], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "agreement with FP32" in done.stdout
    assert "WARNING" not in done.stderr


def test_of_the_built_in_model_it_is_derived_in_a_copy_and_served_from_there(
    bundle: Path,
    picture: Path,
    tmp_path: Path,
    call: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(builtin, "BUILT_IN", bundle)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    words = (picture, "--classes", "car,road", "--precision", "int8", "--out", tmp_path / "out")
    assert call(run_cli.main, *words) == 1
    assert "derive it with `ovsdino-export int8 --images PICTURES`" in capsys.readouterr().err
    assert call(cli.main, "int8", "--images", picture) == 0
    assert not Bundle.open(bundle).has(IMAGE_GRAPH_INT8)
    assert call(run_cli.main, *words) == 0
    assert "onnxruntime-cpu-int8" in capsys.readouterr().out
