"""Does deferred work about contacts in small parts, so that no message waits for it."""

from __future__ import annotations

import logging

from holdfast.base.clock import Clock
from holdfast.session.contacts import Contacts

log = logging.getLogger(__name__)

FIRST_S = 30
INTERVAL_S = 60
PAUSE_S = 0.1
"""Between two parts."""


class ContactCatchUp:
    """Runs every minute. A failure, such as an unavailable database, is logged and retried."""

    def __init__(self, contacts: Contacts, *, clock: Clock) -> None:
        self._contacts = contacts
        self._clock = clock

    async def run(self) -> None:
        """Run until cancelled."""
        pause_s: float = FIRST_S
        while True:
            await self._clock.sleep(pause_s)
            pause_s = INTERVAL_S
            try:
                while await self._contacts.catch_up():
                    await self._clock.sleep(PAUSE_S)
            except Exception:
                log.exception("Contacts could not be brought up to date; next try in %d s", INTERVAL_S)
