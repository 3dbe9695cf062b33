"""A site on the loopback, and a client that may reach it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from holdfast.web.addresses import parse_allowed
from holdfast.web.client import WebClient
from tests.web.site import Site


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    async with Site().open() as opened:
        yield opened


@pytest.fixture
async def web() -> AsyncIterator[WebClient]:
    """A client that may connect to the loopback."""
    async with WebClient(parse_allowed("127.0.0.0/8, ::1")) as client:
        yield client


@pytest.fixture
async def guarded() -> AsyncIterator[WebClient]:
    """A client with the default rules."""
    async with WebClient() as client:
        yield client
