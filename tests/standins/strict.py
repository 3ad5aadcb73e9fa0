"""A strict stand-in for the module `tensorrt`, made from the published listing of one release.

What the listing does not name raises AttributeError, arguments are bound to the documented signatures and
their types are held to, and read-only properties cannot be written. What a name does comes from a table
of behaviours; a name without one fails the test that uses it, rather than doing nothing.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from tests.standins.overloads import overloads

LISTINGS = Path(__file__).parent / "tensorrt_api"
RELEASES = ("10.3", "10.13", "10.16", "11.4")
_DEFAULT = object()


@cache
def listing(release: str) -> dict[str, Any]:
    """The release's public names with their members and signatures."""
    found: dict[str, Any] = json.loads((LISTINGS / f"{release}.json").read_text(encoding="utf-8"))
    return found


class EnumValue:
    """A value of an enumeration, with pybind's `name`, `value` and whole number."""

    def __init__(self, owner: str, name: str, value: int) -> None:
        self.owner, self.name, self.value = owner, name, value

    def __int__(self) -> int:
        return self.value

    __index__ = __int__

    def __repr__(self) -> str:
        return f"<{self.owner}.{self.name}: {self.value}>"


class StrictModule(ModuleType):
    """The module; attributes that the listing lacks raise."""

    def __init__(self, release: str, behaviours: Mapping[str, type]) -> None:
        super().__init__("tensorrt")
        self.__version__ = listing(release)["version"]
        self.__dict__["_release"] = release
        names = listing(release)["names"]
        for name, spec in names.items():
            if spec["kind"] == "class":
                made = _enum if _is_enum(spec) else _class
                self.__dict__[name] = made(self, name, spec["members"], behaviours)
        severities = names["ILogger"]["members"]
        for owner in ("ILogger", "Logger"):
            for name in (name for name, item in severities.items() if item["kind"] == "attribute"):
                value = self.__dict__["ILogger"].__dict__.get(name) or EnumValue("Severity", name, 0)
                setattr(self.__dict__[owner], name, value)

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"TensorRT {self.__dict__['_release']} has no {name!r} that the tests know of")

    def new(self, name: str, behaviour: object) -> Any:
        """An object of a class that has no constructor of its own, as the library would return it."""
        made = object.__new__(self.__dict__[name])
        made.__dict__["_behaviour"] = behaviour
        return made


def _is_enum(spec: Mapping[str, Any]) -> bool:
    return any(item["kind"] == "value" for item in spec["members"].values())


def _enum(module: StrictModule, name: str, members: Mapping[str, Any], behaviours: object) -> type:
    values = [member for member, item in members.items() if item["kind"] == "value"]

    class Meta(type):
        def __getattr__(cls, member: str) -> Any:
            raise AttributeError(f"TensorRT {module.__version__} has no {name}.{member}")

        def __instancecheck__(cls, value: object) -> bool:
            return isinstance(value, EnumValue) and value.owner == name

    return Meta(name, (), {member: EnumValue(name, member, i) for i, member in enumerate(values)})


def _class(
    module: StrictModule, name: str, members: Mapping[str, Any], behaviours: Mapping[str, type]
) -> type:
    behaviour = behaviours.get(name)

    def construct(self: Any, *args: Any, **kwargs: Any) -> None:
        if "__init__" not in members:
            raise TypeError(f"tensorrt.{name}: No constructor defined!")
        bound = _bind(module, f"{name}.__init__", members["__init__"].get("signature"), self, args, kwargs)
        assert behaviour is not None, f"the stand-in has no behaviour for {name}"
        self.__dict__["_behaviour"] = behaviour(module, *bound)

    def lacking(self: Any, member: str) -> Any:
        raise AttributeError(f"TensorRT {module.__version__} has no {name}.{member}")

    def assign(self: Any, member: str, value: Any) -> None:
        if member not in members and type(self) is made:
            raise AttributeError(f"TensorRT {module.__version__} has no {name}.{member}")
        object.__setattr__(self, member, value)

    namespace: dict[str, Any] = {
        "__init__": construct,
        "__getattr__": lacking,
        "__setattr__": assign,
        "__bytes__": lambda self: bytes(_behaviour_of(self, name)),
    }
    for member, item in members.items():
        if item["kind"] == "method" and member != "__init__":
            namespace[member] = _method(module, name, member, item.get("signature"))
        elif item["kind"] == "property":
            namespace[member] = _property(module, name, member, writable=item["writable"])
    made = type(name, (), namespace)
    return made


def _behaviour_of(instance: Any, name: str) -> Any:
    try:
        return instance.__dict__["_behaviour"]
    except KeyError:
        raise TypeError(f"{name}.__init__() must be called when overriding __init__") from None


def _method(module: StrictModule, owner: str, member: str, signature: str | None) -> Callable[..., Any]:
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        bound = _bind(module, f"{owner}.{member}", signature, self, args, kwargs)
        behaviour = getattr(_behaviour_of(self, owner), member, None)
        assert behaviour is not None, f"the stand-in has no behaviour for {owner}.{member}"
        return behaviour(*bound)

    return call


def _property(module: StrictModule, owner: str, member: str, *, writable: bool) -> property:
    def get(self: Any) -> Any:
        behaviour = _behaviour_of(self, owner)
        assert hasattr(behaviour, member), f"the stand-in has no behaviour for {owner}.{member}"
        return getattr(behaviour, member)

    def put(self: Any, value: Any) -> None:
        if not writable:
            raise AttributeError(f"TensorRT {module.__version__}: can't set {owner}.{member}")
        behaviour = _behaviour_of(self, owner)
        assert hasattr(behaviour, member), f"the stand-in has no behaviour for {owner}.{member}"
        setattr(behaviour, member, value)

    return property(get, put)


def _bind(
    module: StrictModule,
    where: str,
    signature: str | None,
    instance: object,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> list[Any]:
    """The arguments in the documented order; of an overloaded method, in that of the first one they fit."""
    if signature is not None:
        return _bind_to(module, where, signature, instance, args, kwargs)
    known = overloads(where, listing(module.__dict__["_release"])["names"])
    assert known, f"{where} is overloaded, and the tests know none of its signatures"
    for candidate in known:
        try:
            return _bind_to(module, where, candidate, instance, args, kwargs)
        except TypeError:
            continue
    raise TypeError(f"{where}: incompatible arguments {args} {kwargs}; it is one of {'; '.join(known)}")


def _bind_to(
    module: StrictModule,
    where: str,
    signature: str,
    instance: object,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> list[Any]:
    """The arguments in the order of a signature, whose types they have."""
    documented = parameters(signature)
    parsed = inspect.Signature(
        [
            inspect.Parameter(
                name,
                inspect.Parameter.POSITIONAL_OR_KEYWORD,
                default=inspect.Parameter.empty if default is None else default,
            )
            for name, _, default in documented
        ]
    )
    try:
        bound = parsed.bind(instance, *args, **kwargs)
    except TypeError as error:
        raise TypeError(f"{where}: incompatible arguments ({error}); it is {signature}") from None
    for name, annotation, _ in documented[1:]:
        if name in bound.arguments and not _is(module, annotation, bound.arguments[name]):
            raise TypeError(f"{where}: {name} is {bound.arguments[name]!r}, but must be {annotation}")
    return list(bound.arguments.values())[1:]


@cache
def parameters(signature: str) -> list[tuple[str, str, Any]]:
    """Names, types and defaults (None where there is none) of a signature as pybind writes it."""
    inside = signature[signature.index("(") + 1 : signature.rindex(") ->")]
    parts, depth, start = [], 0, 0
    for index, letter in enumerate(inside):
        depth += (letter in "([<") - (letter in ")]>")
        if letter == "," and depth == 0:
            parts.append(inside[start:index])
            start = index + 1
    parts.append(inside[start:])
    found = []
    for part in parts:
        name, _, rest = part.strip().partition(":")
        annotation, _, default = rest.partition(" = ")
        found.append((name, annotation.strip(), _DEFAULT if default else None))
    return found


def _is(module: StrictModule, annotation: str, value: Any) -> bool:  # noqa: PLR0911 - a table of types
    """Whether pybind would take a value for a documented type."""
    if value is _DEFAULT:
        return True
    if annotation in ("int", "typing.SupportsInt"):
        return hasattr(value, "__index__")
    if annotation in ("str", "bool"):
        return type(value).__name__ == annotation
    if annotation in ("tuple", "list"):  # of lengths; the binding casts every one
        return type(value).__name__ == annotation and all(hasattr(length, "__index__") for length in value)
    if annotation in ("buffer", "typing_extensions.Buffer"):
        return isinstance(value, (bytes, bytearray, memoryview))
    if annotation == "tensorrt.Dims":
        return isinstance(value, (tuple, list)) and all(hasattr(length, "__index__") for length in value)
    known = re.fullmatch(r"tensorrt\.(\w+)", annotation)
    if known is not None:
        kind = getattr(module, known[1])
        return isinstance(value, kind) and (isinstance(value, EnumValue) or "_behaviour" in value.__dict__)
    return True
