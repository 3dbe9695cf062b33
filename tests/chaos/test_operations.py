"""A part of the crash matrix of operations: the creation of a group where it is hardest to get right."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.chaos.operations import run

pytestmark = pytest.mark.slow


async def test_a_group_is_created_once_although_gateway_or_host_is_killed(tmp_path: Path) -> None:
    """WhatsApp created it, and its answer was lost with the gateway or with the engine host."""
    strikes = [("create a group", "answer lost", "gateway"), ("create a group", "answer lost", "host")]
    figures = await run(tmp_path, strikes=strikes, randomness=random.Random(1), tell=print)
    assert (figures["groupsCreated"], figures["lost"], figures["doubled"], figures["unknown"]) == (2, 0, 0, 0)
