"""Random requests, generated from the OpenAPI document: none may break Holdfast, no invalid input may be accepted."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import pytest

from holdfast.client import Json
from tests.processes import Wasim
from tests.served import served

pytestmark = pytest.mark.slow

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
)
LEFT_OUT = (
    "/v1/events",  # a stream, which has no end
    "/v1/sessions/{company}/clear",  # would leave no company to ask about
    "/v1/sessions/{company}/media",  # accepts any bytes under any name: no input is invalid
    "/webhook/whatsapp/baileys/health/{company}",  # says with 503 that a session is not healthy
)
CONFIG = """
[parameters]
"path.company" = "962302"
[generation]
mode = "all"
max-examples = 5
"""
ASKING = """
[[operations]]
include-name = "{name}"
[operations.checks.not_a_server_error]
expected-statuses = ["2xx", "3xx", "4xx", {statuses}]
"""
"""A route that asks WhatsApp: without a connection, which other requests of this test end, the answer is 503."""


def _with_key(document: Json) -> Json:
    """The document for a client that sends the key with every request, because generated keys would end nearly all of
    them with 401, and that does not wait for the outcome of operations, of which most have none here.
    """
    for operations in document["paths"].values():
        for operation in operations.values():
            operation.pop("security", None)
            operation["parameters"] = [each for each in operation.get("parameters", []) if each["name"] != "wait"]
    return document


def _config(document: Json) -> str:
    """Server errors are allowed to operations that describe their own of WhatsApp (502, 504), and only those."""
    asking = [
        ASKING.format(name=f"{method.upper()} {path}", statuses=", ".join(f'"{status}"' for status in sorted(failures)))
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
        if (failures := {status for status in operation["responses"] if status >= "500"}) & {"502", "504"}
    ]
    assert asking
    return "".join([CONFIG, *asking])


@pytest.mark.timeout(240)
async def test_no_request_breaks_holdfast_and_invalid_input_is_refused(tmp_path: Path, wasim: Wasim) -> None:
    """Every route of the document except the endless stream: no 5xx unless WhatsApp is queried, responses as described,
    bad input refused.
    """
    async with served(tmp_path, wasim=wasim, HOLDFAST_BACKUP_EVERY_H="0") as gateway:
        await gateway.pair("962302", "962790000002", wasim)
        where = gateway.settings_of_commands
        document = _with_key(await gateway.client.get("/openapi.json"))
        (tmp_path / "openapi.json").write_text(json.dumps(document))
        (tmp_path / "schemathesis.toml").write_text(_config(document))
        left_out = [word for path in LEFT_OUT for word in ("--exclude-path", path)]
        process = await asyncio.create_subprocess_exec(
            str(Path(sys.executable).with_name("st")), "--config-file", str(tmp_path / "schemathesis.toml"),
            "run", "openapi.json", "--url", where["HOLDFAST_URL"],
            "--header", f"X-API-Key: {where['HOLDFAST_API_KEY']}",
            "--checks", ",".join(CHECKS), *left_out, "--phases", "examples,coverage,fuzzing",
            "--request-timeout", "30", "--no-color", "--continue-on-failure",
            cwd=tmp_path,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        said, _ = await process.communicate()
        print(said.decode())  # noqa: T201 – shown when the test fails
        assert process.returncode == 0
