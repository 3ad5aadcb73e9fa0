"""What marks a run, from texts as systems give them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ovsdino_bench.gpu_telemetry import GpuSample, throttle_reasons
from ovsdino_bench.telemetry import CpuTimes, Telemetry, clocks_mhz, load_of, others_share, tegrastats_of

STAT = "cpu  1000 50 300 8000 150 0 20 80 500 0\ncpu0 500 25 150 4000 75 0 10 40 0 0\nintr 5\n"
QUIET = Telemetry(cores=2, load_before=0.4, others=0.02, cpu_mhz=(3000, 2900))
SAMPLE = GpuSample(clock_mhz=1500, celsius=60, watts=70, used_bytes=1, throttling=())


def test_busy_time_is_all_but_idle_and_waiting_and_counts_guests_once() -> None:
    found = CpuTimes.of(STAT)
    assert found == CpuTimes(busy=pytest.approx(14.5), total=pytest.approx(96.0))
    assert CpuTimes.of("nothing") is None


def test_what_others_took_is_the_busy_time_less_ones_own() -> None:
    before, after = CpuTimes(busy=10, total=100), CpuTimes(busy=25, total=120)
    assert others_share(before, after, own_s=5) == pytest.approx(0.5)
    assert others_share(before, after, own_s=15.5) == 0
    assert others_share(before, before, own_s=0) is None


def test_clocks_loads_and_tegrastats_are_read() -> None:
    assert clocks_mhz("processor : 0\ncpu MHz\t\t: 2450.5\nflags: x\ncpu MHz\t\t: 1200.000\n") == [
        2450.5,
        1200,
    ]
    assert clocks_mhz("") == []
    assert load_of("3.94 2.00 1.00 2/300 12345\n") == 3.94
    assert load_of("") is None
    line = (
        "11-24-2026 10:00:00 RAM 3000/7620MB (lfb 2x4MB) CPU [5%@1510,off] GR3D_FREQ 87% "
        "cpu@48.5C gpu@51.25C VDD_IN 5500mW/5400mW VDD_CPU_GPU_CV 1800mW/1700mW"
    )
    assert tegrastats_of(line) == {
        "gpu_percent": 87, "cpu_celsius": 48.5, "gpu_celsius": 51.25, "vdd_in_mw": 5500,
        "vdd_cpu_gpu_cv_mw": 1800,
    }  # fmt: skip


def test_a_quiet_run_is_not_marked_and_each_limit_marks_one() -> None:
    assert QUIET.marks() == []
    assert Telemetry(cores=4).marks() == [], "where nothing is known, nothing is claimed"
    for changed, text in (
        (replace(QUIET, others=0.11), "busy: other processes took 11 %"),
        (replace(QUIET, load_before=1.01), "busy: the load was 1.01 on 2 cores"),
        (replace(QUIET, cpu_mhz=(3000, 2399)), "throttled: the processor's clock fell from 3000 to 2399"),
        (
            replace(QUIET, gpu=(SAMPLE, replace(SAMPLE, throttling=throttle_reasons(0x41)))),
            "throttled: the GPU reports thermal slowdown (hardware)",
        ),
    ):
        (mark,) = changed.marks()
        assert mark.startswith(text)
    assert replace(QUIET, gpu=(replace(SAMPLE, throttling=("idle",)),)).marks() == []
