"""Dataclasses from the JSON of a run."""

import dataclasses
import math
from pathlib import Path
from typing import Any, ClassVar

import pytest

from worldmodel.support.settings import from_json


@dataclasses.dataclass(frozen=True)
class Inner:
    a: int = 1
    b: float = 0.5


@dataclasses.dataclass(frozen=True)
class Outer:
    RETIRED: ClassVar[dict[str, Any]] = {"old_steps": 0, "old_name": None}
    ADDED: ClassVar[dict[str, Any]] = {"kind": "old"}

    inner: Inner
    path: Path
    each: dict[str, Inner]
    many: list[Inner]
    numbers: list[float]
    pair: tuple[int, ...] = ()
    maybe: float | None = None
    flag: bool = False
    kind: str = "new"


WHOLE: dict[str, Any] = {
    "inner": {"a": 3},
    "path": "x/y",
    "each": {"one": {"b": 2}, "two": {}},
    "many": [{"a": 5, "b": None}],
    "numbers": [1, 2.5],
    "pair": [4, 5],
    "maybe": None,
    "flag": True,
}


def test_every_kind_of_field_comes_back():
    found = from_json(Outer, WHOLE)
    assert found.inner == Inner(3)
    assert found.path == Path("x/y")
    assert found.each == {"one": Inner(b=2.0), "two": Inner()}
    assert all(type(inner.b) is float for inner in found.each.values())
    assert found.many[0].a == 5
    assert math.isnan(found.many[0].b)  # what was no number is null in JSON
    assert found.numbers == [1.0, 2.5]
    assert type(found.numbers[0]) is float
    assert (found.pair, found.maybe, found.flag) == ((4, 5), None, True)
    assert from_json(Outer, WHOLE | {"maybe": 2}).maybe == 2.0


def test_what_is_not_there_has_its_default():
    needed = {name: WHOLE[name] for name in ("inner", "path", "each", "many", "numbers")}
    found = from_json(Outer, needed)
    assert (found.pair, found.maybe, found.flag) == ((), None, False)
    with pytest.raises(TypeError):
        from_json(Outer, {"path": "x"})


def test_a_retired_name_is_passed_over_at_its_value_only():
    whole = WHOLE | {"many": []}
    assert from_json(Outer, whole | {"old_steps": 0, "old_name": None}) == from_json(Outer, whole)
    for retired in ({"old_steps": 7}, {"old_name": "x"}):
        with pytest.raises(TypeError):
            from_json(Outer, WHOLE | retired)


def test_an_added_name_that_is_not_there_is_what_it_was_before():
    assert from_json(Outer, WHOLE).kind == "old"
    assert from_json(Outer, WHOLE | {"kind": "new"}).kind == "new"


@pytest.mark.parametrize(
    "change",
    [
        {"unknown": 1},
        {"inner": {"c": 1}},
        {"inner": {"a": "3"}},
        {"inner": {"a": 1.5}},
        {"inner": {"a": True}},
        {"flag": 1},
        {"many": {"a": 1}},
        {"many": [{"c": 1}]},
        {"numbers": ["1"]},
        {"each": {"one": {"b": "2"}}},
        {"maybe": "2"},
    ],
)
def test_what_does_not_fit_is_a_type_error(change: dict):
    with pytest.raises(TypeError):
        from_json(Outer, WHOLE | change)
