"""Two that have never written to each other, both at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.mail import COMPANIES, CONTACT, Mail
from tests.parts import Wasim
from tests.served import served

pytestmark = pytest.mark.slow


async def test_two_that_begin_to_write_to_each_other_at_once_can_read_every_word(tmp_path: Path, wasim: Wasim) -> None:
    """Both begin a Signal session with the other; no message of either is unreadable or has to be asked for again."""
    await wasim.post("/phones", {"number": CONTACT})
    async with served(tmp_path, wasim=wasim) as gateway:
        for company, number in COMPANIES.items():
            await gateway.pair(company, number, wasim)
        mail = Mail(gateway, wasim)
        await mail.post(60)
        await mail.until_arrived(within_s=30)
        await mail.check()
