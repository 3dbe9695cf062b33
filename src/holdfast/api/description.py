"""Additions to the OpenAPI document beyond the routes: problem responses, and pictures."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute
from pydantic.alias_generators import to_camel

from holdfast.api import bodies
from holdfast.api.examples import BODIES
from holdfast.api.problems import MEDIA_TYPE
from holdfast.api.schemas import Problem

Answers = dict[int | str, dict[str, Any]]


def problem(sentence: str) -> dict[str, Any]:
    """A response with a problem. It names the schema: from `model`, FastAPI would build a validator for each error of
    each route, which was half of the time that building the routes takes."""
    schema = {"$ref": f"#/components/schemas/{Problem.__name__}"}
    return {"description": sentence, "content": {MEDIA_TYPE: {"schema": schema}}}


KEYED: Answers = {
    400: problem("the body can't be read as JSON in UTF-8"),
    401: problem("no key, or an unknown one"),
    403: problem("this API key has no access to this company"),
    404: problem("there is no such company or message"),
    409: problem("not possible in the present state; the sentence says why"),
    413: problem("the body is too large"),
    422: problem("a value can't be used; `field` names it"),
    503: problem("Holdfast is starting or stopping: try again after `Retry-After` seconds"),
}
"""The errors that every route with a key may return."""


def picture(media_type: str) -> Answers:
    return {200: {"content": {media_type: {"schema": {"type": "string", "format": "binary"}}}}}


def body(name: str) -> dict[str, Any]:
    """A JSON body that the route reads itself, by the name of its schema."""
    schema = {"$ref": f"#/components/schemas/{name}"}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def install(api: FastAPI) -> None:
    """Add the schemas of problems and messages, which FastAPI does not know."""
    make = api.openapi

    def described() -> dict[str, Any]:
        made = api.openapi_schema is not None
        document = make()
        if not made:
            document["components"]["schemas"][Problem.__name__] = _schema_of_problems()
            _add_examples(document)
            _name_schemas(document)
            messages = bodies.schemas()
            clash = document["components"]["schemas"].keys() & messages.keys()
            assert not clash, f"names with two meanings: {clash}"
            document["components"]["schemas"] |= messages
        return document

    api.openapi = described  # type: ignore[method-assign]  # the way FastAPI's own documentation names


def operation_id(route: APIRoute) -> str:
    """`send_message` → `sendMessage`: the method name in generated clients."""
    return to_camel(route.name)


def _add_examples(document: dict[str, Any]) -> None:
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            content = operation.get("requestBody", {}).get("content", {})
            example = BODIES.get(f"{method.upper()} {path}")
            if example is not None:
                content["application/json"]["example"] = example


_LIST = re.compile(r"ListPage_(\w+?)(?:Model)?_")


def _name_schemas(document: dict[str, Any]) -> None:
    """`SessionModel` → `Session`, `ListPage_SessionModel_` → `SessionList`: the type names in generated clients."""
    schemas = document["components"]["schemas"]
    names = {name: _LIST.sub(r"\1List", name).removesuffix("Model") for name in schemas}
    assert len(set(names.values())) == len(names), "a name would have two meanings"
    document["components"]["schemas"] = {names[name]: schema for name, schema in schemas.items()}
    _refer(document, names)


def _refer(part: Any, names: Mapping[str, str]) -> None:
    """Apply the new names wherever a schema is referred to."""
    if isinstance(part, list):
        for each in part:
            _refer(each, names)
    elif isinstance(part, dict):
        head, _, name = str(part.get("$ref", "")).rpartition("/")
        if name in names:
            part["$ref"] = f"{head}/{names[name]}"
        for each in part.values():
            _refer(each, names)


def _schema_of_problems() -> dict[str, Any]:
    schema = Problem.model_json_schema(mode="serialization")
    for each in schema["properties"].values():
        each.pop("default", None)  # FastAPI leaves it out of responses
    return schema
