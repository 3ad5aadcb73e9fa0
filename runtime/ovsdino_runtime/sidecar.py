"""What is known about a TensorRT engine, written beside it: its sidecar."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from ovsdino_runtime.bundle import Bundle

Precision = Literal["fp16", "fp32"]
PRECISIONS: tuple[Precision, ...] = ("fp16", "fp32")  # the preferred one first
SIDECAR_SCHEMA = 1
_AMPERE = (8, 0)


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What an engine depends on beside its graph.

    Attributes:
        gpu: the GPU's name, as CUDA gives it.
        compute: its compute capability: `8.9`.
        driver: the NVIDIA driver's version.
        tensorrt: TensorRT's version: `10.3.0`.
    """

    gpu: str
    compute: str
    driver: str
    tensorrt: str


@dataclass(frozen=True, kw_only=True)
class BatchProfile:
    """How many windows an engine takes at once.

    Attributes:
        least: the smallest batch.
        usual: the batch it was tuned for.
        most: the largest batch.
    """

    least: int = 1
    usual: int = 3
    most: int = 9


@dataclass(frozen=True, kw_only=True)
class Sidecar:
    """What is known about an engine.

    Attributes:
        sha256: of the engine file.
        bytes: its size.
        onnx: SHA-256 of the files it was parsed from, by name: the graph, and its weights where they lie
            in a second file.
        machine: where it was built.
        precision: what was asked for, and is what was built, see `built`.
        profile: the batches it takes.
        hardware_compatible: whether it was built for every GPU from Ampere on.
        version_compatible: whether later TensorRT releases of the same major version load it.
        built: layers of the parsed network by the type they compute in, the inspector's share of
            half-precision layers in the engine, and the batches that were held against PyTorch.
        islands: nodes that compute in FP32 in an FP16 engine, with reasons.
        parity: agreement with PyTorch's golden outputs, measured on the machine.
        settings: what the builder was told.
        created_by: the program and version that wrote it.
        schema: version of this format.
    """

    sha256: str
    bytes: int
    onnx: Mapping[str, str]
    machine: Machine
    precision: Precision
    profile: BatchProfile
    created_by: str
    hardware_compatible: bool = False
    version_compatible: bool = False
    built: Mapping[str, Any] = field(default_factory=dict)
    islands: tuple[Mapping[str, str], ...] = ()
    parity: Mapping[str, float] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    schema: int = SIDECAR_SCHEMA

    def to_json(self) -> str:
        """Return the sidecar as JSON text, stable in order."""
        return json.dumps(dataclasses.asdict(self), indent=2, sort_keys=True) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Sidecar:
        """Read a sidecar.

        Raises:
            ValueError: it is none, or of a newer schema.
        """
        try:
            data = json.loads(text)
            if data["schema"] != SIDECAR_SCHEMA:
                raise ValueError(f"its schema is {data['schema']}, this version reads {SIDECAR_SCHEMA}")
            known = {item.name: data[item.name] for item in dataclasses.fields(cls) if item.name in data}
            known["machine"] = Machine(**data["machine"])
            known["profile"] = BatchProfile(**data["profile"])
            known["islands"] = tuple(data.get("islands", ()))
            sidecar = cls(**known)
            texts = [
                sidecar.sha256,
                *dataclasses.astuple(sidecar.machine),
                *sidecar.onnx,
                *sidecar.onnx.values(),
            ]
            if sidecar.precision not in PRECISIONS or not all(isinstance(text, str) for text in texts):
                raise ValueError("its precision, its machine or a hash is no text")
            flags = (sidecar.hardware_compatible, sidecar.version_compatible)
            if not all(isinstance(flag, bool) for flag in flags):
                raise ValueError("what it is compatible with is not true or false")
        except (KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError(f"it is incomplete ({error!r})") from error
        return sidecar

    def mismatches(self, bundle: Bundle, machine: Machine) -> list[str]:
        """Return what keeps the engine from serving a bundle on a machine, naming both sides."""
        then, found = self.machine, []
        any_gpu = self.hardware_compatible and _numbers(machine.compute) >= _AMPERE
        if not any_gpu and (then.gpu, then.compute) != (machine.gpu, machine.compute):
            found.append(
                f"it was built for {then.gpu} (compute {then.compute}), "
                f"this is {machine.gpu} (compute {machine.compute})"
            )
        built, here = _numbers(then.tensorrt), _numbers(machine.tensorrt)
        loads = built == here or (self.version_compatible and built[:1] == here[:1] and built <= here)
        if not loads:
            found.append(f"it was built by TensorRT {then.tensorrt}, this is TensorRT {machine.tensorrt}")
        for name, digest in self.onnx.items():
            entry = bundle.manifest.files.get(name)
            if entry is None or entry.sha256 != digest:
                other = "ships none" if entry is None else f"ships {entry.sha256[:12]}…"
                found.append(f"it was built from {name} {digest[:12]}…, the bundle {other}")
        return found


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version))
