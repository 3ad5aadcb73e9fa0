"""Engines are programs: only those that this machine has proven, or a person trusts, are loaded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ovsdino_runtime.backends.devices import list_devices
from ovsdino_runtime.backends.selection import choose_backend
from ovsdino_runtime.backends.trt import open_trt
from ovsdino_runtime.bundle import Bundle
from ovsdino_runtime.engine_trust import RECORD, is_trusted, require_record, trust
from ovsdino_runtime.engines import sidecar_of
from ovsdino_runtime.errors import BackendUnavailable, OutputError
from ovsdino_runtime.files import sha256_of
from tests.standins.half_bundle import write_half_bundle
from tests.standins.plans import write_engine
from tests.standins.release import install
from tests.standins.strict import StrictModule

Features = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
Run = Callable[..., Any]  # returns the `Ran` of conftest.py


@pytest.fixture
def bundle(tiny_bundle: Path, tmp_path: Path) -> Bundle:
    return Bundle.open(write_half_bundle(tiny_bundle, tmp_path / "my bundle"))


@pytest.fixture
def trt(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> StrictModule:
    return install(monkeypatch, tmp_path / "cache", "10.3")


@pytest.fixture
def copied(trt: StrictModule, bundle: Bundle) -> Path:
    """An engine that fits in every way, but that another machine has built."""
    return write_engine(trt, bundle, "fp16", trusted=False)


def test_an_engine_that_came_with_its_bundle_is_not_loaded_and_the_line_says_how_to_trust_it(
    bundle: Bundle, copied: Path
) -> None:
    with pytest.raises(BackendUnavailable) as caught:
        open_trt(bundle)
    message = str(caught.value)
    assert message.startswith(f"the engine {copied} was not proven on this machine")
    assert "loading one runs native code" in message
    assert f"`ovsdino-run --trust-engine '{copied}'`" in message  # quoted: there is a space in it
    assert f"rebuild it here with `ovsdino-export trt '{bundle.path}' --fp16`" in message
    assert "\n" not in message


def test_auto_passes_it_over_and_says_why_as_the_list_does(bundle: Bundle, copied: Path) -> None:
    backend, note = choose_backend(bundle, "auto")
    assert not backend.name.startswith("tensorrt")
    assert note is not None
    assert f"TensorRT cannot serve it: the engine {copied} was not proven on this machine" in note
    state = list_devices(bundle)[2]
    assert not state.available
    assert "--trust-engine" in state.explanation


def test_the_command_says_what_it_is_and_then_it_is_loaded(
    bundle: Bundle, copied: Path, ovsdino_run: Run, tmp_path: Path, tiny_features: Features
) -> None:
    ran = ovsdino_run("--trust-engine", copied)
    assert (ran.code, ran.err) == (0, "")
    what, recorded = ran.out.splitlines()
    digest = sha256_of(copied)
    assert what == (
        f"{copied}: an engine in FP16 from image.fp16.onnx, built by tests with TensorRT 10.3.0 for "
        f"NVIDIA L4 (compute 8.9); SHA-256 {digest}"
    )
    record = tmp_path / "cache" / "ovsdino" / RECORD
    assert recorded.endswith(str(record))
    assert record.read_text() == f"{digest}  {copied.name}\n"  # as sha256sum writes it
    with open_trt(bundle) as backend:
        windows = np.random.default_rng(0).integers(0, 256, (2, 28, 28, 3), dtype=np.uint8)
        np.testing.assert_allclose(backend.features(windows), tiny_features(windows), atol=2e-3)
    assert ovsdino_run("--trust-engine", copied).code == 0
    assert len(record.read_text().splitlines()) == 1


def test_what_is_no_engine_or_not_what_its_sidecar_says_is_not_trusted(
    copied: Path, ovsdino_run: Run, tmp_path: Path
) -> None:
    def refusal(path: Path) -> str:
        ran = ovsdino_run("--trust-engine", path)
        assert (ran.code, ran.out) == (1, "")
        (line,) = ran.errors
        return str(line)

    assert f"there is no engine {tmp_path / 'gone.engine'}" in refusal(tmp_path / "gone.engine")
    content = copied.read_bytes()
    copied.write_bytes(content + b"x")
    assert "has changed: its SHA-256 is" in refusal(copied)
    copied.write_bytes(content)
    sidecar_of(copied).write_text("{}")
    assert "is no sidecar of an engine" in refusal(copied)
    sidecar_of(copied).unlink()
    assert refusal(copied).endswith("copy it again, with its sidecar, from where it was built")
    assert not is_trusted(sha256_of(copied))


def test_a_sidecar_cannot_write_to_the_terminal_what_is_no_text(copied: Path, ovsdino_run: Run) -> None:
    sidecar = sidecar_of(copied)
    sidecar.write_text(sidecar.read_text().replace("NVIDIA L4", "\\u001b[2J\\n"))
    ran = ovsdino_run("--trust-engine", copied)
    assert ran.code == 0
    assert "\x1b" not in ran.out
    assert "for ?[2J  (compute" in ran.out.splitlines()[0]


def test_an_engine_that_was_changed_after_it_was_proven_is_not_loaded(
    trt: StrictModule, bundle: Bundle
) -> None:
    engine = write_engine(trt, bundle, "fp16")
    engine.write_bytes(engine.read_bytes() + b" and more")
    with pytest.raises(BackendUnavailable, match="has changed: its SHA-256 is"):
        open_trt(bundle)


def test_what_is_loaded_is_what_was_hashed_though_the_file_is_swapped_meanwhile(
    trt: StrictModule, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, known = write_engine(trt, bundle, "fp16"), Path.read_bytes

    def read_and_swap(path: Path) -> bytes:
        content = known(path)
        if path == engine:
            engine.write_bytes(b"another program")
        return content

    monkeypatch.setattr(Path, "read_bytes", read_and_swap)
    with open_trt(bundle) as backend:
        assert backend.features(np.zeros((1, 28, 28, 3), np.uint8)).shape == (1, 4, 4, 4)
    assert known(engine) == b"another program"


def test_a_record_has_a_line_an_engine_and_vouches_for_nothing_that_it_does_not_hold(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    ours, theirs = "a" * 64, "b" * 64
    record = trust(ours, f"x.engine\n{theirs}  y.engine\u2028{theirs}")
    assert is_trusted(ours)
    assert not is_trusted(theirs)
    assert not is_trusted("")
    assert record == require_record()
    record.write_bytes(b"\xff\xfe")
    assert not is_trusted(ours)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "another"))
    assert not is_trusted(ours)


def test_where_nothing_can_be_recorded_the_line_says_what_to_set(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "ovsdino" / RECORD).mkdir(parents=True)
    with pytest.raises(OutputError, match=rf"recorded in {tmp_path}.*: Is a directory; set XDG_CACHE_HOME"):
        trust("a" * 64, "x.engine")
    monkeypatch.setattr("ovsdino_runtime.engine_trust.user_cache", lambda: None)
    assert not is_trusted("a" * 64)
    with pytest.raises(OutputError, match="there is no cache folder to record engines in; set XDG_CACHE"):
        require_record()
