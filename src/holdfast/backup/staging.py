"""Makes a restored copy of an installation harmless: it has all data for tests and reaches nobody.

A staging copy must never have the linked devices of the original: WhatsApp would let the two replace each other (440),
and two users of one ratchet break it. Nor may it send what the original sends: messages, webhooks, pending alerts.
"""

from __future__ import annotations

from sqlalchemy import Connection, delete, select, update

from holdfast.backup.errors import RestoreRefused
from holdfast.session.state import State
from holdfast.store.tables import (
    alerts,
    credentials,
    decrypted,
    limits,
    outbox,
    quarantine,
    sessions,
    signal_keys,
    webhook_deliveries,
    webhook_endpoints,
)

_LEFT_OUT = (credentials, signal_keys, quarantine, decrypted, limits, alerts, webhook_deliveries, webhook_endpoints)


def refuse_original(connection: Connection) -> None:
    """Raises `RestoreRefused` when this installation has linked phones: it is not a staging installation."""
    company = connection.scalar(select(credentials.c.company_id).where(credentials.c.paired).limit(1))
    if company is not None:
        raise RestoreRefused(
            f'--staging refused: company "{company}" is linked in this installation, and a staging copy would replace '
            "it: set HOLDFAST_DATA_DIR (or HOLDFAST_DATABASE_URL) to another place"
        )


def make_harmless(connection: Connection, *, now: str) -> None:
    """Remove what would reach WhatsApp, a webhook endpoint or a person; every company becomes unpaired."""
    for table in _LEFT_OUT:
        connection.execute(delete(table))
    is_open = outbox.c.state.in_(["queued", "sending"])
    connection.execute(update(outbox).where(is_open).values(state="cancelled", held_code=None, held_until=None))
    unpaired = {"state": State.UNPAIRED, "since": now, "attempts": 0}
    gone = ("reason", "code", "resumes_at", "phone_number", "jid", "connected_at")
    connection.execute(update(sessions).values({**unpaired, **dict.fromkeys(gone)}))
