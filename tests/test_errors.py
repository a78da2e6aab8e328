from __future__ import annotations

from collections.abc import Iterator
from http import HTTPStatus

import pytest

from comfyui_stateless import errors
from comfyui_stateless.errors import RequestError, StatelessError


def tree(cls: type[StatelessError]) -> Iterator[type[StatelessError]]:
    yield cls
    for child in cls.__subclasses__():
        yield from tree(child)


CLASSES = list(tree(StatelessError))


def test_every_class_has_a_code_of_its_own() -> None:
    codes = [cls.code for cls in CLASSES]
    assert len(set(codes)) == len(codes)
    assert all(code.islower() and code.replace("_", "").isalpha() for code in codes)


@pytest.mark.parametrize("cls", CLASSES)
def test_every_class_stands_in_the_tree_with_its_status_and_code(cls: type[StatelessError]) -> None:
    lines = (errors.__doc__ or "").splitlines()
    (line,) = [line for line in lines if line.split()[:1] == [cls.__name__]]
    assert line.split()[1:3] == [str(cls.status), cls.code]
    depth = (len(line) - len(line.lstrip())) // 2
    assert depth == len([base for base in cls.__mro__ if issubclass(base, StatelessError)]) - 1


@pytest.mark.parametrize("cls", CLASSES)
def test_every_status_is_one_of_an_error(cls: type[StatelessError]) -> None:
    assert HTTPStatus(cls.status) >= 400


def test_a_body_leaves_the_place_out_where_nothing_can_be_named() -> None:
    error = RequestError("No.")
    assert error.body() == {"error": "No.", "code": "invalid_request", "details": {}}


def test_a_body_holds_place_and_details() -> None:
    error = RequestError("No.", location="prompt.3", details={"x": 1})
    assert error.body() == {
        "error": "No.",
        "code": "invalid_request",
        "location": "prompt.3",
        "details": {"x": 1},
    }


def test_details_are_the_error_s_own() -> None:
    details = {"x": 1}
    error = RequestError("No.", details=details)
    details["x"] = 2
    assert error.details == {"x": 1}
