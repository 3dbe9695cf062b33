"""The API reference page: routes, parameters, bodies, examples and schemas, rendered from the OpenAPI document."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

JsonMapping = Mapping[str, Any]

_METHODS = ("get", "put", "post", "patch", "delete")
_EXAMPLES = {
    "to": "962790000001",
    "phoneNumber": "962790000002",
    "text": "Your order is on its way.",
    "webhookUrl": "https://example.com/hook",
    "url": "https://example.com/hook",
}
_DEEPEST = 4
_HIDDEN = {"HTTPValidationError", "ValidationError"}
"""Error schemas of FastAPI that Holdfast never returns; it returns problems."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    name: str
    place: str
    """`path`, `query`, `header` or `body`."""
    kind: str
    shapes: tuple[str, ...]
    """Schemas that `kind` refers to."""
    is_required: bool
    description: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponseDoc:
    status: str
    description: str
    shape: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiOperation:
    anchor: str
    method: str
    path: str
    description: str
    needs_key: bool
    fields: tuple[Field, ...]
    body_shape: str | None
    curl: str
    answers: tuple[ResponseDoc, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Chapter:
    name: str
    operations: tuple[ApiOperation, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SchemaDoc:
    name: str
    description: str
    fields: tuple[Field, ...]
    values: tuple[str, ...]
    """Values of an enumeration."""


def chapters(document: JsonMapping, *, url: str) -> list[Chapter]:
    """Operations by tag, in the order of the document. `url` is the base URL in the examples."""
    found: dict[str, list[ApiOperation]] = {}
    for path, methods in document["paths"].items():
        for method in (method for method in _METHODS if method in methods):
            tag = next(iter(methods[method].get("tags", ())), "other")
            found.setdefault(tag, []).append(_operation(document, path, method, methods[method], url))
    return [Chapter(name=name, operations=tuple(operations)) for name, operations in found.items()]


def shapes(document: JsonMapping) -> list[SchemaDoc]:
    """Schemas of requests and responses, by name."""
    schemas = document.get("components", {}).get("schemas", {})
    return [_shape(name, schema) for name, schema in sorted(schemas.items()) if name not in _HIDDEN]


def _operation(document: JsonMapping, path: str, method: str, operation: JsonMapping, url: str) -> ApiOperation:
    body = _body_schema(operation)
    return ApiOperation(
        anchor=f"{method}{path}".replace("/", "-").replace("{", "").replace("}", ""),
        method=method.upper(),
        path=path,
        description=operation.get("description", operation.get("summary", "")),
        needs_key=bool(operation.get("security")),
        fields=tuple(_parameter(each) for each in operation.get("parameters", ())),
        body_shape=None if body is None else next(iter(_names(body)), None),
        curl=_curl(document, path, method, operation, url),
        answers=tuple(_answer(status, each) for status, each in operation["responses"].items()),
    )


def _body_schema(operation: JsonMapping) -> JsonMapping | None:
    for content in operation.get("requestBody", {}).get("content", {}).values():
        schema: JsonMapping = content.get("schema", {})
        return schema
    return None


def _parameter(parameter: JsonMapping) -> Field:
    schema = parameter.get("schema", {})
    return _field(
        parameter["name"], schema, place=parameter["in"], is_required=parameter.get("required", False),
        description=parameter.get("description", ""),
    )  # fmt: skip


def _answer(status: str, answer: JsonMapping) -> ResponseDoc:
    schema: JsonMapping = next((content.get("schema", {}) for content in answer.get("content", {}).values()), {})
    description = answer.get("description", "")
    return ResponseDoc(
        status=status,
        description="" if description == "Successful Response" else description,
        shape=next(iter(_names(schema)), None),
    )


def _shape(name: str, schema: JsonMapping) -> SchemaDoc:
    required = set(schema.get("required", ()))
    return SchemaDoc(
        name=name,
        description=schema.get("description", ""),
        fields=tuple(
            _field(field, each, place="body", is_required=field in required, description=each.get("description", ""))
            for field, each in schema.get("properties", {}).items()
        ),
        values=tuple(str(value) for value in schema.get("enum", ())),
    )


def _field(name: str, schema: JsonMapping, *, place: str, is_required: bool, description: str) -> Field:
    default = schema.get("default")
    bounds = [] if default is None else [f"default {json.dumps(default)}"]
    for part in (schema, *schema.get("anyOf", ())):
        bounds += _bounds(part)
    kind = _kind(schema) + (f" ({', '.join(bounds)})" if bounds else "")
    if place in {"query", "header"}:
        kind = kind.replace(" or null", "")  # such a parameter is left out, and never null
    return Field(
        name=name,
        place=place,
        kind=kind,
        shapes=tuple(_names(schema)),
        is_required=is_required,
        description=description,
    )


def _bounds(schema: JsonMapping) -> list[str]:
    """`1 to 255 characters`, `from 1`."""
    bounds = []
    for lowest, highest, unit in (("minimum", "maximum", ""), ("minLength", "maxLength", " characters")):
        low, high = schema.get(lowest), schema.get(highest)
        if low is not None and high is not None:
            bounds.append(f"{low} to {high}{unit}")
        elif low is not None:
            bounds.append(f"at least {low}{unit}")
        elif high is not None:
            bounds.append(f"at most {high}{unit}")
    return bounds


def _kind(schema: JsonMapping) -> str:
    """A type in words: `text or null`, `list of SessionShape`."""
    for join in ("anyOf", "oneOf", "allOf"):
        if join in schema:
            return " or ".join(dict.fromkeys(_kind(each) for each in schema[join]))
    if "$ref" in schema:
        return _ref(schema)
    if "enum" in schema or "const" in schema:
        return " or ".join(json.dumps(value) for value in schema.get("enum", [schema.get("const")]))
    match schema.get("type"):
        case "array":
            return f"list of {_kind(schema.get('items', {}))}"
        case "string":
            return "text"
        case "integer":
            return "whole number"
        case "object" if isinstance(schema.get("additionalProperties"), Mapping):
            return f"object of {_kind(schema['additionalProperties'])}"
        case None:
            return "anything"
        case other:
            return str(other)


def _ref(schema: JsonMapping) -> str:
    return str(schema["$ref"]).rpartition("/")[2]


def _names(schema: Any) -> Iterable[str]:
    """Names of the schemas that a schema refers to."""
    if isinstance(schema, Mapping):
        if "$ref" in schema:
            yield _ref(schema)
        for key, each in schema.items():
            if key != "properties":
                yield from _names(each)
    elif isinstance(schema, list):
        for each in schema:
            yield from _names(each)


def _curl(document: JsonMapping, path: str, method: str, operation: JsonMapping, url: str) -> str:
    shown = path.replace("{company}", "962302").replace("{id}", "ID")
    parts = [f"curl {'' if method == 'get' else f'-X {method.upper()} '}'{url}{shown}'"]
    if operation.get("security"):
        parts.append('-H "Authorization: Bearer $HOLDFAST_API_KEY"')
    contents = operation.get("requestBody", {}).get("content", {})
    for media_type, content in [*contents.items()][:1]:
        if media_type == "application/json":
            body = json.dumps(example(document, content.get("schema", {})), ensure_ascii=False)
            parts += ["-H 'Content-Type: application/json'", f"-d '{body}'"]
        else:
            parts += ["-H 'Content-Type: application/pdf'", "--data-binary @invoice.pdf"]
    return " \\\n  ".join(parts)


def example(document: JsonMapping, schema: JsonMapping, *, name: str = "", depth: int = 0) -> Any:
    """A minimal value that matches a schema: required fields only."""
    if "examples" in schema or "example" in schema:
        return schema.get("example", next(iter(schema.get("examples", ())), None))
    if "$ref" in schema:
        named = document["components"]["schemas"].get(_ref(schema), {})
        return example(document, named, name=name, depth=depth + 1) if depth < _DEEPEST else {}
    for join in ("anyOf", "oneOf", "allOf"):
        if join in schema:
            return example(document, schema[join][0], name=name, depth=depth)
    if "enum" in schema:
        return schema["enum"][0]
    return _simple(document, schema, name, depth)


def _simple(document: JsonMapping, schema: JsonMapping, name: str, depth: int) -> Any:
    match schema.get("type"):
        case "object":
            required, known = schema.get("required", ()), schema.get("properties", {})
            return {field: example(document, known[field], name=field, depth=depth + 1) for field in required}
        case "array":
            return [example(document, schema.get("items", {}), name=name, depth=depth + 1)] if depth < _DEEPEST else []
        case "integer" | "number":
            return schema.get("default", schema.get("minimum", 1))
        case "boolean":
            return schema.get("default", True)
        case "string":
            return _EXAMPLES.get(name, "text")
    return None
