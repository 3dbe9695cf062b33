"""How long people wait for chats: a company with 2,000 groups and 20,000 contacts, beside one with a single chat.

    uv run python -m bench.chat_list [--groups 2000] [--contacts 20000] [--calls 200] [--databases sqlite,postgres]

Every chat has five messages in each direction, and one chat has ten thousand more. Sessions are stopped: nothing here
needs a link. Each line is requested over HTTP, one request after another, for the large and the small company in turn.
Goal: the p95 of the list of chats is below 200 ms. PostgreSQL is a server of the bench's own with default settings.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
from sqlalchemy import URL, Connection, Table, insert, text

from bench.big_store_fill import address
from bench.figures import percentile
from holdfast.base.clock import iso
from holdfast.store.database import Database
from holdfast.store.postgres import parse
from holdfast.store.tables import chats, contacts, groups, inbox, outbox, sessions
from tests import filling
from tests.postgres_process import running_postgres
from tests.served import KEY, Served

BIG, SMALL = "962302", "962303"
EACH_WAY = 5
LONG_CHAT = 10_000
_AT_ONCE = 5000
_TEXT = "Your order number {} is ready, please pick it up until tomorrow evening"


def person(n: int) -> str:
    return f"9627{n:08}@s.whatsapp.net"


def group(n: int) -> str:
    return f"1203630{n:011}@g.us"


def fill(connection: Connection, *, groups_: int, people: int) -> None:
    at = iso(filling.FIRST)
    connection.execute(
        insert(sessions),
        [{"company_id": each, "state": "stopped", "since": at, "created_at": at} for each in (BIG, SMALL)],
    )
    names = [*map(group, range(groups_)), *map(person, range(people))]
    everything = [(BIG, name) for name in names] + [(SMALL, person(0))]
    messages = [(company, chat, n) for n in range(EACH_WAY) for company, chat in everything]
    messages += [(BIG, person(0), n) for n in range(LONG_CHAT)]
    _load(connection, outbox, (_sent(seq, *each) for seq, each in enumerate(messages, start=1)))
    _load(connection, inbox, (_received(seq, *each) for seq, each in enumerate(messages, start=1)))
    last = {(company, chat): seq for seq, (company, chat, _) in enumerate(messages, start=1)}
    _load(connection, chats, (_chat(seq, *each) for each, seq in last.items()))
    _load(connection, contacts, (_contact(n) for n in range(people)))
    _load(connection, groups, (_group(n) for n in range(groups_)))


def _load(connection: Connection, table: Table, rows: Iterator[dict[str, Any]]) -> None:
    part: list[dict[str, Any]] = []
    for row in rows:
        part.append(row)
        if len(part) == _AT_ONCE:
            connection.execute(insert(table), part)
            part = []
    if part:
        connection.execute(insert(table), part)


def _at(seq: int) -> str:
    return iso(filling.FIRST + timedelta(seconds=seq))


def _sent(seq: int, company: str, chat: str, _: int) -> dict[str, Any]:
    return {
        "seq": seq, "id": f"msg_{seq:012}", "company_id": company, "whatsapp_id": f"3EB0{seq:016}", "chat": chat,
        "recipient": chat.partition("@")[0], "content": f'{{"text": "{_TEXT.format(seq)}"}}', "state": "read",
        "accepted_at": _at(seq), "sent_at": _at(seq), "attempts": 1,
    }  # fmt: skip


def _received(seq: int, company: str, chat: str, _: int) -> dict[str, Any]:
    return {
        "seq": seq, "id": f"in_{seq:012}", "company_id": company, "chat": chat, "sender": person(seq % 1000),
        "whatsapp_id": f"3A{seq:016}", "type": "text", "text": _TEXT.format(seq), "from_me": False,
        "push_name": "Rami", "sent_at": _at(seq), "stored_at": _at(seq),
    }  # fmt: skip


def _chat(seq: int, company: str, chat: str) -> dict[str, Any]:
    return {
        "company_id": company, "chat": chat, "first_sent_at": _at(1), "last_at": _at(seq), "last_seq": seq,
        "last_is_sent": seq % 2 == 0, "unread": int(seq % 50 == 0),
    }  # fmt: skip


def _contact(n: int) -> dict[str, Any]:
    jid = person(n)
    return {
        "company_id": BIG, "jid": jid, "number": jid.partition("@")[0], "push_name": f"Person {n}",
        "updated_at": _at(1),
    }  # fmt: skip


def _group(n: int) -> dict[str, Any]:
    return {"company_id": BIG, "jid": group(n), "subject": f"Group {n}", "learned_at": _at(1)}


PATHS = {
    "list of chats, 50": "chats",
    "list of chats, 500": "chats?limit=500",
    "unread chats": "chats?unread=true",
    "chats, found by name": "chats?q=person%2019",
    "chats, nothing found": "chats?q=nothing",
    "one chat": f"chats/{person(0)}",
    "timeline, 50": f"chats/{person(0)}/messages",
    "contacts, 100": "contacts",
    "contacts, nothing found": "contacts?q=nothing",
}


async def measure(place: Path | URL, folder: Path, calls: int) -> None:
    settings = {} if isinstance(place, Path) else {"HOLDFAST_DATABASE_URL": address(place)}
    served = Served(folder, whatsapp_url="ws://127.0.0.1:9", settings=settings)
    await served.start()
    try:
        async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {KEY}"}) as http:
            for name, path in PATHS.items():
                took: dict[str, list[float]] = {BIG: [], SMALL: []}
                for company, ms in [(each, took[each]) for _ in range(calls) for each in (BIG, SMALL)]:
                    began_at = time.perf_counter()
                    async with http.get(f"{served.url}/v1/sessions/{company}/{path}") as answer:
                        await answer.read()
                        assert answer.status == 200 or company == SMALL, await answer.text()
                    ms.append((time.perf_counter() - began_at) * 1000)
                print(f"  {name:24} {_words(took[BIG])}   {_words(took[SMALL])}", flush=True)
    finally:
        await served.stop()
        await served.close()


def _words(ms: Sequence[float]) -> str:
    return f"p50 {percentile(ms, 50):7.1f} ms  p95 {percentile(ms, 95):7.1f} ms"


@contextlib.asynccontextmanager
async def filled(name: str, folder: Path, *, groups_: int, people: int) -> AsyncIterator[Path | URL]:
    with contextlib.ExitStack() as held:
        place: Path | URL
        if name == "sqlite":
            (folder / "data").mkdir(parents=True)
            place = folder / "data" / "holdfast.db"
        else:
            place = parse(held.enter_context(running_postgres()).new_database())
        database = Database(place)
        await database.write(lambda connection: fill(connection, groups_=groups_, people=people))
        # Otherwise PostgreSQL sorts all chats for each page, until it has statistics of the tables.
        await database.write(lambda connection: connection.execute(text("ANALYZE")))
        database.close()
        yield place


async def main() -> None:
    parser = argparse.ArgumentParser(description="How long people wait for chats.")
    parser.add_argument("--groups", type=int, default=2000)
    parser.add_argument("--contacts", type=int, default=20_000)
    parser.add_argument("--calls", type=int, default=200)
    parser.add_argument("--databases", default="sqlite,postgres")
    given = parser.parse_args()
    print(f"{given.groups} groups and {given.contacts} contacts, beside one chat; {given.calls} calls each")
    for name in given.databases.split(","):
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            async with filled(name, folder, groups_=given.groups, people=given.contacts) as place:
                print(name)
                await measure(place, folder, given.calls)


if __name__ == "__main__":
    asyncio.run(main())
