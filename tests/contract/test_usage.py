"""The counts for quotas, and sign-outs, on each database."""

from __future__ import annotations

from holdfast.delivery.content import StoredMedia
from holdfast.delivery.usage import OutboxUsage
from holdfast.store.media import MediaRows
from holdfast.store.sign_outs import SignOutRows
from holdfast.store.usage import UsageRows
from tests.contract.rows import COMPANY, OTHER, Store, draft

T1, T2, T3 = (f"2026-01-0{n}T00:00:00.000Z" for n in (1, 2, 3))


async def test_only_queued_messages_of_one_company_count(store: Store) -> None:
    """A cancelled message no longer counts; an empty company has none."""
    usage = UsageRows(store.database)
    assert await usage.outbox(COMPANY) == OutboxUsage(messages=0, bytes=0)
    first = (await store.outbox.accept(draft(1))).message
    await store.outbox.accept(draft(2))
    assert await usage.outbox(COMPANY) == OutboxUsage(messages=2, bytes=2 * len('{"text":"message 1"}'))
    await store.outbox.cancel(first.id)
    assert (await usage.outbox(COMPANY)).messages == 1
    assert (await usage.outbox(OTHER)).messages == 0


async def test_stored_media_count_by_company(store: Store) -> None:
    """The sum of their sizes, whether messages need them or not."""
    usage = UsageRows(store.database)
    assert await usage.media_bytes(COMPANY) == 0
    media = MediaRows(store.database, clock=store.clock)
    for n, company in enumerate((COMPANY, COMPANY, OTHER)):
        stored = StoredMedia(
            id=f"med_{n}", company=company, mimetype="image/png", filename=None, size_bytes=1000, sha256="0"
        )
        await media.begin(stored)
        await media.finish(stored)
    assert await usage.media_bytes(COMPANY) == 2000


async def test_a_sign_out_is_known_to_all_processes_until_its_cookie_expires(store: Store) -> None:
    """It may be repeated; expired ones are removed when another is added."""
    rows = SignOutRows(store.database)
    assert not await rows.has("a")
    for _ in range(2):
        await rows.add("a", now=T1, forget_at=T2)
    assert await SignOutRows(store.database).has("a")
    await rows.add("b", now=T3, forget_at=T3)
    assert (await rows.has("a"), await rows.has("b")) == (False, True)
