"""The API reference page agrees with the OpenAPI document."""

from __future__ import annotations

import json
import shlex
from typing import Any

from holdfast.dashboard.reference import chapters, example, shapes

DOCUMENT: dict[str, Any] = {
    "paths": {
        "/v1/sessions/{company}/messages": {
            "post": {
                "tags": ["messages"],
                "description": "Accept a message.",
                "security": [{"HTTPBearer": []}],
                "parameters": [
                    {"name": "company", "in": "path", "required": True, "schema": {"type": "string"}},
                    {"name": "limit", "in": "query", "schema": {"type": "integer", "minimum": 1, "default": 100}},
                ],
                "requestBody": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Wish"}}}},
                "responses": {
                    "202": {
                        "description": "Successful Response",
                        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Wish"}}},
                    },
                    "404": {"description": "there is none"},
                },
            }
        },
        "/healthz": {"get": {"tags": ["service"], "description": "Alive.", "responses": {"200": {}}}},
    },
    "components": {
        "schemas": {
            "Wish": {
                "type": "object",
                "description": "What is wanted.",
                "required": ["to", "kinds"],
                "properties": {
                    "to": {"type": "string", "description": "a number"},
                    "kinds": {"type": "array", "items": {"$ref": "#/components/schemas/Kind"}},
                    "again": {"anyOf": [{"$ref": "#/components/schemas/Wish"}, {"type": "null"}]},
                },
            },
            "Kind": {"enum": ["text", "image"], "type": "string"},
            "HTTPValidationError": {"type": "object"},
        }
    },
}
URL = "http://127.0.0.1:3000"


def test_operations_are_grouped_by_tag_with_parameters_and_responses() -> None:
    """Bounds and defaults beside the type; whether a key is needed."""
    messages, service = chapters(DOCUMENT, url=URL)
    (send,) = messages.operations
    assert (messages.name, service.name) == ("messages", "service")
    assert (send.method, send.path, send.needs_key) == ("POST", "/v1/sessions/{company}/messages", True)
    assert [(field.name, field.place, field.kind, field.is_required) for field in send.fields] == [
        ("company", "path", "text", True),
        ("limit", "query", "whole number (default 100, at least 1)", False),
    ]
    assert send.body_shape == "Wish"
    assert [(answer.status, answer.description, answer.shape) for answer in send.answers] == [
        ("202", "", "Wish"),
        ("404", "there is none", None),
    ]
    assert not service.operations[0].needs_key


def test_examples_are_valid_shell_commands() -> None:
    """A valid body, and the key from the environment."""
    send = chapters(DOCUMENT, url=URL)[0].operations[0]
    words = shlex.split(send.curl.replace("\\\n", " "))
    assert words[:4] == ["curl", "-X", "POST", f"{URL}/v1/sessions/962302/messages"]
    assert json.loads(words[words.index("-d") + 1]) == {"to": "962790000001", "kinds": ["text"]}
    assert "Authorization: Bearer $HOLDFAST_API_KEY" in words


def test_shapes_are_listed_with_their_fields_and_values() -> None:
    """FastAPI's own error schemas, which are never returned, are left out."""
    kind, action = shapes(DOCUMENT)
    assert (kind.name, kind.values) == ("Kind", ("text", "image"))
    assert [(field.name, field.kind, field.shapes) for field in action.fields] == [
        ("to", "text", ()),
        ("kinds", "list of Kind", ("Kind",)),
        ("again", "Wish or null", ("Wish",)),
    ]


def test_a_recursive_schema_has_a_finite_example() -> None:
    """Nested schemas are shortened."""
    looped = {"components": {"schemas": {"Tree": {"type": "object", "required": ["left"],
              "properties": {"left": {"$ref": "#/components/schemas/Tree"}}}}}}  # fmt: skip
    assert json.dumps(example(looped, {"$ref": "#/components/schemas/Tree"})).count("left") <= 4
