"""What all schemas of requests and responses are built from: camelCase, times ISO 8601 UTC with `Z`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Generic, Self, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, model_validator
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError

from holdfast.base.errors import BadInput

T = TypeVar("T")


def _valid_unicode(text: str) -> str:
    """Reject lone surrogates (`\\ud83d`), which JSON can express but nothing behind this can store."""
    if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        raise PydanticCustomError("string_unicode", "a character is not whole")
    return text


Text = Annotated[str, AfterValidator(_valid_unicode)]


def checked_by(check: Callable[[str], object]) -> AfterValidator:
    """For the type of a parameter: refuse a text for which `check` raises `BadInput`; others stay as they are."""

    def checked(text: str | None) -> str | None:
        if text is not None:
            check(text)
        return text

    return AfterValidator(checked)


class ApiModel(BaseModel):
    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, extra="forbid", strict=True, hide_input_in_errors=True
    )

    @model_validator(mode="before")
    @classmethod
    def _without_many_unknown(cls, value: object) -> object:
        """Keep only the first unknown field of an object with many: pydantic would report each, which takes a second
        for a hundred thousand, on the event loop."""
        if not isinstance(value, dict) or len(value) <= 2 * len(cls.model_fields) + 1:
            return value
        known = {name for field, info in cls.model_fields.items() for name in (field, info.alias)}
        first = next((name for name in value if name not in known), None)
        return {name: each for name, each in value.items() if name in known or name == first}

    @classmethod
    def from_fields(cls, source: object, **others: object) -> Self:
        """A model with the values that `source` has under the names of the model's fields, and with `others`."""
        same = {
            name: getattr(source, name) for name in cls.model_fields if name not in others and hasattr(source, name)
        }
        return cls.model_validate(same | others, from_attributes=True)


class RequestModel(ApiModel):
    """The body of a request. Everything that is wrong with the body itself is found here, before anything is looked
    up for the request."""

    @model_validator(mode="after")
    def _checked(self) -> Self:
        self.check()
        return self

    def check(self) -> None:
        """Raises `BadInput` for values that have the right type and can't be used."""


class ErrorModel(ApiModel):
    code: str
    message: str | None


class ListPage(ApiModel, Generic[T]):
    """One page of a list. Pass `next` as `after` to get the next page; it is null on the last one."""

    items: list[T]
    next: str | None


SHORT_PAGES = "; one page searches up to 5,000 entries, so it can have few items or none while `next` is not null"
"""Completes the description of a search."""


def cursor(after: str | None) -> int:
    """Where a page of a list starts. Raises `BadInput`."""
    if after is None:
        return 0
    if not after.isascii() or not after.isdigit() or len(after) > 18:
        raise BadInput(
            f'after "{after[:40]}" is not a position in this list: give `next` of the previous page', field="after"
        )
    return int(after)


class Problem(ApiModel):
    """RFC 9457, with the stable `code` of the error, and the `field` at fault if there is one.

    `node` and `retryAfterS`: the node of a cluster that should have answered, and when to ask again.
    """

    type: str
    title: str
    status: int
    detail: str
    code: str
    field: str | None = None
    node: str | None = None
    retry_after_s: int | None = None
