"""Engines as the stand-in's builder would write them, without the export package."""

from __future__ import annotations

from pathlib import Path

from ovsdino_runtime.backends.trt import machine_of
from ovsdino_runtime.bundle import Bundle
from ovsdino_runtime.engine_trust import trust
from ovsdino_runtime.engines import GRAPHS, engine_name, sidecar_of
from ovsdino_runtime.files import sha256_of
from ovsdino_runtime.sidecar import BatchProfile, Precision, Sidecar
from tests.standins.strict import StrictModule


def write_engine(
    trt: StrictModule,
    bundle: Bundle,
    precision: Precision,
    *,
    folder: Path | None = None,
    profile: BatchProfile | None = None,
    hardware_compatible: bool = False,
    version_compatible: bool = False,
    trusted: bool = True,
) -> Path:
    """Write an engine of a bundle's graph and its sidecar, trusted or not, and return where."""
    profile = profile or BatchProfile()
    folder = folder or bundle.path / "engines"
    folder.mkdir(parents=True, exist_ok=True)
    machine = machine_of(trt, trt.cuda)
    path, graph = folder / engine_name(machine, precision), bundle.file(GRAPHS[precision])
    path.write_bytes(_plan(trt, graph, profile, version_compatible=version_compatible))
    sidecar = Sidecar(
        sha256=sha256_of(path),
        bytes=path.stat().st_size,
        onnx={graph.name: sha256_of(graph)},
        machine=machine,
        precision=precision,
        profile=profile,
        created_by="tests",
        hardware_compatible=hardware_compatible,
        version_compatible=version_compatible,
    )
    sidecar_of(path).write_text(sidecar.to_json())
    if trusted:
        trust(sidecar.sha256, path.name)
    return path


def _plan(trt: StrictModule, graph: Path, profile: BatchProfile, *, version_compatible: bool) -> bytes:
    class Quiet(trt.ILogger):  # type: ignore[misc, name-defined]
        def log(self, severity: object, msg: str) -> None: ...

    builder = trt.Builder(Quiet())
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    trt.OnnxParser(network, Quiet()).parse_from_file(str(graph))
    config = builder.create_builder_config()
    if version_compatible:
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
    config.set_timing_cache(config.create_timing_cache(b""), False)
    shapes = builder.create_optimization_profile()
    shapes.set_shape("image", *((count, 28, 28, 3) for count in (profile.least, profile.usual, profile.most)))
    config.add_optimization_profile(shapes)
    return bytes(builder.build_serialized_network(network, config))
