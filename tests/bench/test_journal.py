"""The file of counts on a disk that takes no more."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from ovsdino_bench.journal import Journal
from ovsdino_bench.results import ImageResult
from ovsdino_bench.runs import Recorded, Run
from ovsdino_bench.selection import Shard
from ovsdino_runtime.errors import InferenceError, OutputError

FULL = Path("/dev/full")
RESULT = ImageResult(place=0, image="a.png", error="broken")


@pytest.fixture
def recorded() -> Recorded:
    run = Run(name="ade20k", names=("car",), backends=("b",), images=1, facts={})
    return Recorded(run=run, shard=Shard(), machines=(), results={})


class _Unclosable:
    """A file whose last bytes cannot be written."""

    def write(self, text: str) -> None:
        """Keep nothing."""

    def flush(self) -> None:
        """Fail later."""

    def close(self) -> None:
        raise OSError(errno.EDQUOT, "Disk quota exceeded")


@pytest.mark.skipif(not FULL.exists(), reason="there is no /dev/full")
def test_a_full_disk_is_one_error_though_closing_fails_too(recorded: Recorded) -> None:
    said = "cannot write /dev/full: No space left on device; free space and run the command again"
    with pytest.raises(OutputError, match=said), Journal(recorded, FULL) as journal:
        journal.add(RESULT)
    assert journal.recorded.results == {0: RESULT}


def test_a_disk_that_is_full_only_when_the_file_is_closed_is_an_error_too(
    recorded: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "open", lambda *rest, **options: _Unclosable())
    with (
        pytest.raises(OutputError, match=r"cannot write c\.jsonl: Disk quota exceeded; free space"),
        Journal(recorded, Path("c.jsonl")) as journal,
    ):
        journal.add(RESULT)


def test_what_went_wrong_before_is_not_hidden_by_closing(
    recorded: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "open", lambda *rest, **options: _Unclosable())
    with pytest.raises(InferenceError, match="out of memory"), Journal(recorded, Path("c.jsonl")):
        raise InferenceError("out of memory")
