"""Overloaded methods of the stand-in take what one of their signatures takes, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.standins.overloads import OVERLOADS, overloads
from tests.standins.release import make_release
from tests.standins.strict import RELEASES, StrictModule, listing, parameters


class _Echo:
    """Gives back what each method was given."""

    def __getattr__(self, name: str) -> Callable[..., tuple[Any, ...]]:
        return lambda *arguments: arguments


def _made(module: StrictModule, name: str) -> Any:
    return module.new(name, _Echo())


@pytest.mark.parametrize("release", RELEASES)
def test_arguments_are_taken_in_place_and_by_name(release: str) -> None:
    module, _ = make_release(release)
    network, config = _made(module, "INetworkDefinition"), _made(module, "IBuilderConfig")
    builder = _made(module, "Builder")
    assert builder.build_serialized_network(network, config) == (network, config)
    assert builder.build_serialized_network(config=config, network=network) == (network, config)
    context = _made(module, "IExecutionContext")
    for shape in ((3, 28, 28, 3), [3, 28, 28, 3]):
        assert context.set_input_shape("image", shape) == ("image", shape)
        assert context.set_input_shape(shape=shape, name="image") == ("image", shape)
    engine, strategy = _made(module, "ICudaEngine"), module.ExecutionContextAllocationStrategy.USER_MANAGED
    assert engine.create_execution_context() == ()
    assert engine.create_execution_context(strategy) == (strategy,)
    assert _made(module, "Runtime").deserialize_cuda_engine(b"plan") == (b"plan",)


@pytest.mark.parametrize("release", RELEASES)
def test_what_no_signature_takes_is_refused(release: str) -> None:
    module, _ = make_release(release)
    network, config = _made(module, "INetworkDefinition"), _made(module, "IBuilderConfig")
    builder, context = _made(module, "Builder"), _made(module, "IExecutionContext")
    engine, runtime = _made(module, "ICudaEngine"), _made(module, "Runtime")
    for wrong in (
        lambda: builder.build_serialized_network(network),
        lambda: builder.build_serialized_network(config, network),
        lambda: builder.build_serialized_network(network, config, flags=0),
        lambda: context.set_input_shape((3, 28, 28, 3)),
        lambda: context.set_input_shape(0, (3, 28, 28, 3)),
        lambda: context.set_input_shape("image", 3),
        lambda: context.set_input_shape("image", (3, 28.0, 28, 3)),
        lambda: engine.create_execution_context(module.DataType.HALF),
        lambda: engine.create_execution_context(allocation=1),
        lambda: runtime.deserialize_cuda_engine("plan"),
        lambda: runtime.deserialize_cuda_engine(b"plan", 4),
    ):
        with pytest.raises(TypeError):
            wrong()


def test_an_overload_of_a_later_release_is_none_of_an_earlier_one() -> None:
    where = "ICudaEngine.create_execution_context"
    assert len(overloads(where, listing("10.3")["names"])) == 1
    assert len(overloads(where, listing("10.13")["names"])) == 2


@pytest.mark.parametrize("release", RELEASES)
def test_every_signature_is_of_a_method_that_the_release_has_and_can_be_read(release: str) -> None:
    names = listing(release)["names"]
    for where in OVERLOADS:
        owner, _, member = where.partition(".")
        assert names[owner]["members"][member]["kind"] == "method"
        known = overloads(where, names)
        assert known
        for signature in known:
            assert signature.startswith(f"{member}(self: tensorrt.{owner}")
            assert all(name.isidentifier() for name, _, _ in parameters(signature))


def test_an_overloaded_method_whose_signatures_nobody_wrote_down_fails_the_test_that_calls_it() -> None:
    module, _ = make_release("10.13")
    with pytest.raises(AssertionError, match="overloaded, and the tests know none of its signatures"):
        _made(module, "ICudaEngine").get_tensor_format("features")
