"""What every route of the control interface needs: application keys, and parsing of requests."""

from __future__ import annotations

import json
import re
from typing import Any

from aiohttp import web

from wasim.authority import Authority
from wasim.media import MediaFolder
from wasim.server.state import Account
from wasim.shell import Simulator

SIMULATOR = web.AppKey("simulator", Simulator)
AUTHORITY = web.AppKey("authority", Authority)
MEDIA_FOLDER = web.AppKey("media-folder", MediaFolder)
Json = dict[str, Any]

_NUMBER = re.compile(r"[1-9]\d{2,14}")


class ControlError(Exception):
    """A request that can't be served, with its HTTP status."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status


async def body_of(request: web.Request) -> Json:
    try:
        body = await request.json() if request.can_read_body else {}
    except json.JSONDecodeError as error:
        raise ControlError(400, f"the body is not JSON: {error}") from error
    if not isinstance(body, dict):
        raise ControlError(400, "the body must be a JSON object")
    return body


def text_of(body: Json, name: str) -> str:
    value = body.get(name)
    if not isinstance(value, str) or not value:
        raise ControlError(400, f"{name!r} must be a text that is not empty, not {value!r}")
    return value


def number_of(text: object) -> str:
    if not isinstance(text, str) or not _NUMBER.fullmatch(text):
        raise ControlError(400, f"phone number {text!r}: it must be 3 to 15 digits that don't begin with 0")
    return text


def numbers_of(body: Json, name: str) -> list[str]:
    value = body.get(name, [])
    if not isinstance(value, list):
        raise ControlError(400, f"{name!r} must be a list of numbers, not {value!r}")
    return [number_of(item) for item in value]


def known_phone(request: web.Request) -> Account:
    number = number_of(request.match_info["number"])
    account = request.app[SIMULATOR].server.directory.accounts.get(number)
    if account is None:
        raise ControlError(404, f"there is no phone {number}; POST /phones creates one")
    return account
