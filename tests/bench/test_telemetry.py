"""What marks a run, from texts as systems give them."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from ovsdino_bench import telemetry
from ovsdino_bench.cold import peak_host_bytes
from ovsdino_bench.cpu_telemetry import (
    CpuTimes,
    busiest_core,
    clocks_mhz,
    load_of,
    others_share,
    scaling_clocks_mhz,
)
from ovsdino_bench.gpu_telemetry import GpuSample, throttle_reasons
from ovsdino_bench.tegrastats import sample_of
from ovsdino_bench.telemetry import Telemetry, Watch

STAT = "cpu  1000 50 300 8000 150 0 20 80 500 0\ncpu0 500 25 150 4000 75 0 10 40 0 0\nintr 5\n"


def cpu(*samples: tuple[float, float]) -> tuple[dict[str, float], ...]:
    """What was seen of the busiest core: its load and its clock."""
    return tuple({"cpu_percent": load, "cpu_mhz": clock} for load, clock in samples)


QUIET = Telemetry(cores=2, load_before=0.4, others=0.02, cpu=cpu((99, 3000), (98, 2900)))
SAMPLE = GpuSample(clock_mhz=1500, celsius=60, watts=70, used_bytes=1, throttling=())


def test_busy_time_is_all_but_idle_and_waiting_and_counts_guests_once() -> None:
    found = CpuTimes.of(STAT)
    assert found == CpuTimes(busy=pytest.approx(14.5), total=pytest.approx(96.0))
    assert CpuTimes.of("nothing") is None
    assert CpuTimes.of_cores(STAT) == {0: CpuTimes(busy=pytest.approx(7.25), total=pytest.approx(48.0))}
    assert CpuTimes.of_cores("nothing") == {}


def test_what_others_took_is_the_busy_time_less_ones_own() -> None:
    before, after = CpuTimes(busy=10, total=100), CpuTimes(busy=25, total=120)
    assert others_share(before, after, own_s=5) == pytest.approx(0.5)
    assert others_share(before, after, own_s=15.5) == 0
    assert others_share(before, before, own_s=0) is None


def test_clocks_and_loads_are_read() -> None:
    cores = "processor : 0\ncpu MHz\t\t: 2450.5\nflags: x\nprocessor : 3\ncpu MHz\t\t: 1200.000\n"
    assert clocks_mhz(cores) == {0: 2450.5, 3: 1200}
    assert clocks_mhz("processor : 0\nBogoMIPS : 48.00\n") == {}, "as on ARM"
    assert load_of("3.94 2.00 1.00 2/300 12345\n") == 3.94
    assert load_of("") is None


def test_where_cpuinfo_has_no_clocks_those_of_cpufreq_are_read(tmp_path: Path) -> None:
    for name, text in (("cpu0", "1510400\n"), ("cpu11", "729600\n"), ("cpu2", "<unknown>\n")):
        (tmp_path / name / "cpufreq").mkdir(parents=True)
        (tmp_path / name / "cpufreq" / "scaling_cur_freq").write_text(text)
    (tmp_path / "cpu3").mkdir()  # off
    (tmp_path / "cpufreq" / "policy0").mkdir(parents=True)
    assert scaling_clocks_mhz(tmp_path) == {0: 1510.4, 11: 729.6}
    assert scaling_clocks_mhz(tmp_path / "none") == {}


def test_the_busiest_core_is_the_one_that_worked_most_since_the_look_before() -> None:
    def at(*busy_and_total: tuple[float, float]) -> dict[int, CpuTimes]:
        return {core: CpuTimes(busy=busy, total=total) for core, (busy, total) in enumerate(busy_and_total)}

    before, after = at((50, 100), (0, 100), (9, 100)), at((50.2, 101), (0.9, 101), (9, 100))
    assert busiest_core(before, after, {0: 4000, 1: 2000, 2: 9000}) == {"cpu_percent": 90, "cpu_mhz": 2000}
    assert busiest_core(before, after, {0: 4000, 2: 9000}) == {"cpu_percent": 20, "cpu_mhz": 4000}
    assert busiest_core({}, after, {0: 4000}) is None
    assert busiest_core(before, before, {0: 4000}) is None
    assert busiest_core(before, after, {}) is None


def test_peak_memory_is_read_from_the_kernels_text() -> None:
    assert peak_host_bytes("Name:\tx\nVmHWM:\t   2048 kB\nVmRSS:\t 3 kB\n") == 2048 * 1024
    assert peak_host_bytes("Name:\tx\n") is None


def test_a_line_of_tegrastats_is_read_and_what_it_does_not_say_is_not_there() -> None:
    line = (
        "11-24-2026 10:00:00 RAM 3000/7620MB (lfb 2x4MB) CPU [5%@1510,off,62%@1420] EMC_FREQ 1%@2133 "
        "GR3D_FREQ 87%@[1300,1297] "
        "cpu@48.5C gpu@51.25C VDD_IN 5500mW/5400mW VDD_CPU_GPU_CV 1800mW/1700mW"
    )
    assert sample_of(line) == {
        "gpu_percent": 87, "gpu_mhz": 1300, "cpu_percent": 62, "cpu_mhz": 1420, "cpu_celsius": 48.5,
        "gpu_celsius": 51.25, "vdd_in_mw": 5500,
        "vdd_cpu_gpu_cv_mw": 1800,
    }  # fmt: skip
    assert sample_of("RAM 3000/7620MB CPU [off,off] GR3D_FREQ 3%") == {"gpu_percent": 3}
    assert sample_of("GR3D_FREQ 99%@1109 APE 150") == {"gpu_percent": 99, "gpu_mhz": 1109}
    assert sample_of("tegrastats: not permitted") == {}


def fake_tegrastats(folder: Path, monkeypatch: pytest.MonkeyPatch, lines: Sequence[str]) -> Path:
    """A program of that name that says some lines and goes on; returns a file that is there once it has."""
    folder.mkdir()
    said = folder / "said"
    program = folder / "tegrastats"
    program.write_text(
        f"#!{sys.executable}\n"
        "import os, pathlib, sys, time\n"
        f"assert sys.argv[1:] == ['--interval', '1000']\n"
        f"print({chr(10).join(lines)!r}, flush=True)\n"
        f"pathlib.Path({str(said)!r} + '.new').write_text(str(os.getpid()))\n"
        f"os.rename({str(said)!r} + '.new', {str(said)!r})\n"
        "time.sleep(60)\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return said


@pytest.mark.parametrize(
    ("clocks", "mark"),
    [
        ([(99, 1300), (98, 1300), (97, 1039), (99, 1300)], "clock under load fell from 1300 to 1039 MHz by"),
        ([(99, 1300), (98, 1040)], None),
        ([(99, 1300), (3, 306)], None),  # at rest
        ([(60, 306), (99, 1300)], None),  # as it rises
    ],
)
def test_a_jetson_is_looked_at_throughout_the_run_and_throttling_marks_it(
    clocks: list[tuple[int, int]], mark: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [f"RAM 1/2MB CPU [5%@1510,off] GR3D_FREQ {load}%@[{mhz}] gpu@50C" for load, mhz in clocks]
    said = fake_tegrastats(tmp_path / "bin", monkeypatch, lines)
    with Watch(None) as watch:
        until = time.monotonic() + 30
        while not said.exists() and time.monotonic() < until:
            time.sleep(0.01)
    assert [(item["gpu_percent"], item["gpu_mhz"]) for item in watch.seen.tegrastats] == clocks
    assert watch.seen.as_dict()["tegrastats"][0]["gpu_celsius"] == 50
    marks = [text for text in watch.seen.marks() if "tegrastats" in text]
    assert len(marks) == (mark is not None)
    assert not marks or marks[0].startswith(f"throttled: the GPU's {mark}")
    with pytest.raises(ProcessLookupError):
        os.kill(int(said.read_text()), 0)


def test_a_tegrastats_that_does_not_start_is_as_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tegrastats").write_bytes(b"\x7fnot a program")
    (tmp_path / "tegrastats").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with Watch(None) as watch:
        pass
    assert watch.seen.tegrastats == ()


def test_a_quiet_run_is_not_marked_and_each_limit_marks_one() -> None:
    assert QUIET.marks() == []
    assert Telemetry(cores=4).marks() == [], "where nothing is known, nothing is claimed"
    for changed, text in (
        (replace(QUIET, others=0.11), "busy: other processes took 11 %"),
        (replace(QUIET, load_before=1.01), "busy: the load was 1.01 on 2 cores"),
        (
            replace(QUIET, cpu=cpu((99, 3000), (99, 2399))),
            "throttled: the processor's clock under load fell from 3000 to 2399 MHz, the limit is 80 %",
        ),
        (
            replace(QUIET, gpu=(SAMPLE, replace(SAMPLE, throttling=throttle_reasons(0x41)))),
            "throttled: the GPU reports thermal slowdown (hardware)",
        ),
        (
            replace(QUIET, looks=60, unseen=2, unseen_because="GPU is lost"),
            "unseen: 2 of 60 looks at the machine failed, the last with GPU is lost; whether it was",
        ),
    ):
        (mark,) = changed.marks()
        assert mark.startswith(text)
    hot = ({"cpu_percent": 90.0, "cpu_mhz": 1500.0}, {"cpu_percent": 90.0, "cpu_mhz": 1190.0})
    (mark,) = replace(QUIET, tegrastats=hot).marks()
    assert mark.startswith("throttled: the processor's clock under load fell from 1500 to 1190 MHz")
    assert replace(QUIET, gpu=(replace(SAMPLE, throttling=("idle",)),)).marks() == []


@pytest.mark.parametrize(
    "samples",
    [
        ((99, 800), (99, 3000), (99, 3000)),  # it wakes up
        ((99, 3000), (5, 800)),  # at rest
        ((99, 3000), (99, 2401)),
    ],
)
def test_a_processor_that_wakes_up_or_rests_is_not_throttled(samples: tuple[tuple[float, float]]) -> None:
    assert replace(QUIET, cpu=cpu(*samples)).marks() == []


def test_a_run_is_judged_by_the_load_before_its_command_and_not_by_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    with Watch(0.75) as watch:
        pass
    assert watch.seen.load_before == 0.75
    assert not any(mark.startswith("busy: the load") for mark in watch.seen.marks())


def test_a_look_that_fails_ends_no_other_and_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    class Flaky:
        looks = 0

        def sample(self) -> GpuSample:
            self.looks += 1
            if self.looks == 2:
                raise RuntimeError("GPU is\nlost")
            return SAMPLE

    flaky = Flaky()
    monkeypatch.setattr(telemetry, "_EVERY_S", 0.001)
    monkeypatch.setattr(telemetry.Nvml, "open", lambda: flaky)
    with Watch(None) as watch:
        until = time.monotonic() + 30
        while flaky.looks < 4 and time.monotonic() < until:
            time.sleep(0.001)
    seen = watch.seen
    assert (seen.unseen, seen.unseen_because) == (1, "GPU is lost")
    assert len(seen.gpu) == seen.looks - 1 >= 3
    (mark,) = [text for text in seen.marks() if text.startswith("unseen")]
    assert f"1 of {seen.looks} looks" in mark
    assert seen.as_dict()["looks"] == {"count": seen.looks, "failed": 1, "last_error": "GPU is lost"}
