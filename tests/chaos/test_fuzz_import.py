"""Imports damaged devices into a running Holdfast: a part of `tests.chaos.fuzz_import` for CI."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.fuzz_import import run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180), pytest.mark.usefixtures("bridge")]


async def test_no_damaged_device_costs_a_host_or_the_link_of_another_company(tmp_path: Path) -> None:
    """Each is refused with a sentence, or accepted and started."""
    await run(tmp_path, count=30, tenants=2, seed="1", tell=print)
