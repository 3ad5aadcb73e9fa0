"""The stand-in for TensorRT is as strict as the releases it was made from."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from tests.standins.cuda_runtime import Error, FakeCuda
from tests.standins.release import make_release
from tests.standins.strict import RELEASES, StrictModule, listing, parameters


def _builder(module: StrictModule) -> tuple[Any, Any]:
    class Logger(module.ILogger):  # type: ignore[misc, name-defined]
        def log(self, severity: object, msg: str) -> None: ...

    logger = Logger()
    return module.Builder(logger), logger


@pytest.mark.parametrize(
    ("path", "has"),
    [
        ("BuilderFlag.FP16", {"10.3", "10.13", "10.16"}),
        ("NetworkDefinitionCreationFlag.EXPLICIT_BATCH", {"10.3", "10.13", "10.16"}),
        ("NetworkDefinitionCreationFlag.STRONGLY_TYPED", set(RELEASES)),
        ("HardwareCompatibilityLevel.SAME_COMPUTE_CAPABILITY", {"10.13", "10.16", "11.4"}),
        ("ICudaEngine.create_execution_context_without_device_memory", {"10.3", "10.13", "10.16"}),
        ("ICudaEngine.device_memory_size", {"10.3", "10.13", "10.16"}),
        ("ILayer.precision", {"10.3", "10.13", "10.16"}),
        ("Builder.platform_has_fast_fp16", {"10.3", "10.13", "10.16"}),
        ("ICudaEngine.get_binding_index", set()),
        ("IInt8Calibrators", set()),
    ],
)
def test_names_are_there_in_exactly_the_releases_that_have_them(path: str, has: set[str]) -> None:
    for release in RELEASES:
        module, _ = make_release(release)
        owner, _, member = path.partition(".")
        if release in has:
            assert getattr(getattr(module, owner), member) is not None
        else:
            with pytest.raises(AttributeError):
                getattr(getattr(module, owner), member)


@pytest.mark.parametrize("release", RELEASES)
def test_members_of_objects_that_a_release_lacks_raise(release: str) -> None:
    module, _ = make_release(release)
    builder, _ = _builder(module)
    config = builder.create_builder_config()
    with pytest.raises(AttributeError, match=r"has no IBuilderConfig\.max_workspace_size"):
        config.max_workspace_size = 1
    with pytest.raises(AttributeError, match=r"has no Builder\.build_engine"):
        builder.build_engine()


@pytest.mark.parametrize("release", RELEASES)
def test_read_only_properties_cannot_be_written(release: str) -> None:
    module, _ = make_release(release)
    builder, _ = _builder(module)
    config = builder.create_builder_config()
    config.builder_optimization_level = 4
    assert config.builder_optimization_level == 4
    with pytest.raises(AttributeError, match="can't set"):
        config.num_optimization_profiles = 2
    with pytest.raises(AttributeError, match="can't set"):
        builder.create_network(0).num_layers = 1


@pytest.mark.parametrize("release", RELEASES)
def test_arguments_are_bound_to_the_documented_signatures(release: str) -> None:
    module, _ = make_release(release)
    builder, logger = _builder(module)
    config = builder.create_builder_config()
    assert config.set_memory_pool_limit(pool=module.MemoryPoolType.WORKSPACE, pool_size=5) is None
    for wrong in (
        lambda: config.set_memory_pool_limit(5),
        lambda: config.set_memory_pool_limit(module.MemoryPoolType.WORKSPACE, size=5),
        lambda: config.set_memory_pool_limit(module.MemoryPoolType.WORKSPACE, "5"),
        lambda: config.set_flag(module.MemoryPoolType.WORKSPACE),
        lambda: builder.create_network("strongly typed"),
        lambda: module.OnnxParser(None, logger),
        module.Builder,
        lambda: module.Builder(object()),
        module.INetworkDefinition,
    ):
        with pytest.raises(TypeError):
            wrong()


def test_a_logger_whose_base_was_not_constructed_is_refused() -> None:
    module, _ = make_release("10.3")

    class Logger(module.ILogger):  # type: ignore[misc, name-defined]
        def __init__(self) -> None: ...

    with pytest.raises(TypeError):
        module.Builder(Logger())


def test_a_name_of_the_release_without_a_behaviour_fails_the_test_that_uses_it() -> None:
    module, _ = make_release("10.3")
    builder, _ = _builder(module)
    with pytest.raises(AssertionError, match=r"no behaviour for Builder\.reset"):
        builder.reset()
    with pytest.raises(AssertionError, match=r"no behaviour for Builder\.max_threads"):
        builder.max_threads = 1


def test_every_documented_signature_of_the_listings_can_be_read() -> None:
    for release in RELEASES:
        for name, spec in listing(release)["names"].items():
            for member, item in spec.get("members", {}).items():
                if "signature" in item and " -> " in item["signature"]:
                    found = parameters(item["signature"])
                    assert found[0][0] == "self" or member == "parse", (name, member)  # parse is static
                    assert all(part[0].isidentifier() for part in found), (name, member)


def test_an_event_has_a_time_only_when_the_work_before_it_is_done() -> None:
    cuda = FakeCuda()
    _, stream = cuda.cudaStreamCreateWithFlags(cuda.cudaStreamNonBlocking)
    _, host = cuda.cudaMallocHost(64)
    _, device = cuda.cudaMalloc(64)
    (_, first), (_, last) = cuda.cudaEventCreate(), cuda.cudaEventCreate()
    assert cuda.cudaEventElapsedTime(first, last)[0] == Error.cudaErrorInvalidResourceHandle
    assert cuda.cudaEventSynchronize(first) == (Error.cudaSuccess,)  # an event of no work
    cuda.cudaEventRecord(first, stream)
    cuda.cudaMemcpyAsync(device, host, 64, 1, stream)
    cuda.cudaEventRecord(last, stream)
    cuda.cudaMemcpyAsync(device, host, 64, 1, stream)
    assert cuda.cudaEventElapsedTime(first, last)[0] == Error.cudaErrorNotReady
    cuda.cudaEventSynchronize(last)
    assert cuda.cudaEventElapsedTime(first, last) == (Error.cudaSuccess, 64 * cuda.copy_ms_per_byte)
    assert len(stream.waiting) == 1  # what comes after the event is not waited for
    cuda.cudaStreamBeginCapture(stream, 1)
    cuda.cudaEventRecord(last, stream)
    cuda.cudaStreamEndCapture(stream)
    assert cuda.cudaEventElapsedTime(first, last)[0] == Error.cudaErrorCapturedEvent
    cuda.cudaEventDestroy(last)
    assert cuda.cudaEventRecord(last, stream) == (Error.cudaErrorInvalidResourceHandle,)
    assert cuda.cudaEventDestroy(last) == (Error.cudaErrorInvalidResourceHandle,)
    assert cuda.alive["event"] == 1


def test_the_stand_in_for_cuda_has_the_functions_and_argument_counts_of_the_real_one() -> None:
    runtime = pytest.importorskip("cuda.bindings.runtime", reason="cuda-python is not installed")
    functions = [
        name for name, _ in inspect.getmembers(FakeCuda, inspect.isfunction) if name.startswith("cuda")
    ]
    assert len(functions) > 15
    for name in functions:
        documented = (getattr(runtime, name).__doc__ or "").splitlines()[0]
        inside = documented[documented.index("(") + 1 : documented.rindex(")")]
        count = len([part for part in inside.split(",") if part.strip()])
        assert len(inspect.signature(getattr(FakeCuda, name)).parameters) - 1 == count, documented
    for group in ("cudaMemcpyKind", "cudaStreamCaptureMode"):
        for value, number in vars(getattr(FakeCuda(), group)).items():
            assert int(getattr(getattr(runtime, group), value)) == number
    for error in Error:
        assert int(getattr(runtime.cudaError_t, error.name)) == error
    assert runtime.cudaStreamNonBlocking == FakeCuda().cudaStreamNonBlocking
