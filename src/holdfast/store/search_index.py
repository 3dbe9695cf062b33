"""The full-text index of outbox and inbox: FTS5 on SQLite, a GIN index over text vectors on PostgreSQL.

`holdfast.delivery.search` makes the tokens. `SearchIndexer` adds them soon after a message was stored, in the order of
the messages' `seq`; a trigger or foreign key removes them with the message. On SQLite that is the order of commits. On
PostgreSQL a message may be committed after one of another company with a higher `seq`. Each token
begins with a short hash of the company, so that the cost of a search depends on its own company only. Backups do not
contain the index: a restore builds it.
"""

from __future__ import annotations

import functools
import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Table, TableClause, column, func, select, text

from holdfast.delivery.message import OPEN, MessageState
from holdfast.delivery.search import Search, texts_of, tokens
from holdfast.store.company_locks import company_lock_holders
from holdfast.store.tables import inbox, outbox

log = logging.getLogger(__name__)

INDEXED = (outbox, inbox)
_AT_ONCE = 2000
_LOGGED_EVERY = 100_000
_WINDOWS = (150, 1500)
"""Numbers of messages that are scanned, newest first, before the index is used. The first finds a word of many messages
at once; the index would collect all of them first. The second, when one state is searched, covers a rare state."""

_FTS5 = (
    "CREATE VIRTUAL TABLE IF NOT EXISTS {table}_search USING fts5(words, tokenize='ascii', detail=none, columnsize=0)"
)
_FTS5_REMOVAL = (
    "CREATE TRIGGER IF NOT EXISTS {table}_search_removed AFTER DELETE ON {table} BEGIN "
    "DELETE FROM {table}_search WHERE rowid = OLD.seq; END"
)
_NO_AUTOMERGE = {
    "sqlite": ("INSERT INTO {table}_search ({table}_search, rank) VALUES ('automerge', 0)",),
    "postgresql": (),
}
_MERGE = "INSERT INTO {table}_search ({table}_search, rank) VALUES ('merge', ?)"
"""FTS5 adds the changes of each transaction as a segment, and would merge segments in large steps by itself: with
millions of messages every tenth transaction took 30 ms more. A small step in each transaction takes a millisecond."""
_MIN_MERGED = 16
"""Pages in one step."""
_CHANGED_PER_PAGE = 3
"""A hundred messages write about eight pages, each of which is merged at each of four levels: 32 pages."""
_OPTIMIZED_AT_ONCE = 100
"""Pages: about ten milliseconds."""
_CHANGES = text("SELECT total_changes()")
_VECTORS = (
    "CREATE TABLE IF NOT EXISTS {table}_search (seq BIGINT PRIMARY KEY REFERENCES {table} (seq) ON DELETE CASCADE, "
    "words TSVECTOR NOT NULL)"
)
_GIN = "CREATE INDEX {table}_search_words ON {table}_search USING gin (words) WITH (fastupdate = off)"
"""Without a list of pending entries: one write in hundreds had to empty it, which took a second in a large index."""
_CREATE = {"sqlite": (_FTS5, _FTS5_REMOVAL, *_NO_AUTOMERGE["sqlite"]), "postgresql": (_VECTORS,)}
_CREATE_LOOKUP = {"sqlite": (), "postgresql": (_GIN,)}
_DROP_LOOKUP = {"sqlite": (), "postgresql": ("DROP INDEX {table}_search_words",)}
_ADD = {
    "sqlite": "INSERT INTO {table}_search (rowid, words) VALUES (?, ?)",
    "postgresql": "INSERT INTO {table}_search (seq, words) VALUES (%s, array_to_tsvector(%s::text[])) "
    "ON CONFLICT (seq) DO NOTHING",  # another process may index the same messages
}
_LAST = {
    "sqlite": "SELECT MAX(id) FROM {table}_search_content",  # the table in which FTS5 keeps the texts
    "postgresql": "SELECT MAX(seq) FROM {table}_search",
}
_REMOVE = {
    "sqlite": "DELETE FROM {table}_search WHERE rowid = ?",
    "postgresql": "DELETE FROM {table}_search WHERE seq = %s",
}
_FIND = {
    "sqlite": "SELECT rowid FROM {table}_search WHERE {table}_search MATCH ? AND rowid < ? ORDER BY rowid DESC LIMIT ?",
    # Materialized: the planner does not know how rare a prefix is, and might scan all rows backwards instead.
    "postgresql": "WITH found AS MATERIALIZED (SELECT seq FROM {table}_search WHERE words @@ %s::tsquery) "
    "SELECT seq FROM found WHERE seq < %s ORDER BY seq DESC LIMIT %s",
}
_FIND_IN_WINDOW = (
    "WITH newest AS MATERIALIZED (SELECT seq FROM {table} WHERE company_id = %s AND seq < %s{state} "
    "ORDER BY seq DESC LIMIT %s) "
    "SELECT seq, (SELECT words @@ %s::tsquery FROM {table}_search AS entry WHERE entry.seq = newest.seq) FROM newest "
    "ORDER BY seq DESC"
)
_ENTRIES_IN_WINDOW = (
    "SELECT newest.seq, entry.words FROM (SELECT seq FROM {table} WHERE company_id = ? AND seq < ?{state} "
    "ORDER BY seq DESC LIMIT ?) AS newest CROSS JOIN {table}_search AS entry ON entry.rowid = newest.seq"
)
_COLUMNS = {
    outbox: outbox.c["seq", "company_id", "id", "whatsapp_id", "recipient", "content"],
    inbox: inbox.c[
        "seq", "company_id", "id", "whatsapp_id", "sender", "chat", "text", "push_name", "content", "media"
    ],
}  # fmt: skip
"""Columns that are indexed. Renaming one needs a migration that knows both names."""


def create(connection: Connection) -> None:
    """Make the index and fill it with the messages that are not in it yet."""
    _execute(connection, _CREATE)
    for table in INDEXED:
        while index_part(connection, table=table, limit=_AT_ONCE):
            pass
    create_lookup(connection)


def create_in_parts(connection: Connection) -> None:
    """Make the index without its lookup, in short transactions: when it is interrupted, the next call continues.

    No message may be stored at the same time.
    """
    _execute(connection, _CREATE)
    connection.commit()
    for table in INDEXED:
        total = connection.scalar(select(func.count()).select_from(table).where(table.c.seq > _last(connection, table)))
        done = 0
        while count := index_part(connection, table=table, limit=_AT_ONCE):
            connection.commit()
            done += count
            if done % _LOGGED_EVERY == 0:
                log.info("Indexing messages for search: %d of %d of the %s", done, total, table.name)
        connection.rollback()


def disable_automerge(connection: Connection) -> None:
    """Leave all merging to `merge`, in an index that an earlier version created."""
    _execute(connection, _NO_AUTOMERGE)


def create_lookup(connection: Connection) -> None:
    """Create the GIN index of PostgreSQL, which is several times faster after the entries were added."""
    _execute(connection, _CREATE_LOOKUP)


def drop_lookup(connection: Connection) -> None:
    """Drop the GIN index, before many entries are added."""
    _execute(connection, _DROP_LOOKUP)


def _execute(connection: Connection, statements: Mapping[str, Sequence[str]]) -> None:
    for table in INDEXED:
        for statement in statements[connection.dialect.name]:
            connection.exec_driver_sql(statement.format(table=table.name))


def index_part(connection: Connection, *, table: Table, limit: int, complete_to: int | None = None) -> int:
    """Index the oldest messages that are not indexed yet, at most so many; returns how many.

    complete_to: see `is_behind`.
    """
    missing = _missing(connection, table, complete_to)
    page = select(*_COLUMNS[table]).where(*missing).order_by(table.c.seq).limit(limit)
    if table is inbox:  # the content of an undecryptable message can change meanwhile
        page = page.with_for_update(read=True)
    rows = connection.execute(page).mappings().all()
    if rows:
        add_all(connection, table, rows)
    return len(rows)


def is_behind(connection: Connection, *, table: Table, complete_to: int | None = None) -> bool:
    """Whether a message is not indexed yet.

    complete_to: every message up to this `seq` is known to be indexed; None: up to the last that is.
    """
    missing = select(table.c.seq).where(*_missing(connection, table, complete_to)).limit(1)
    return connection.scalar(missing) is not None


def _missing(connection: Connection, table: Table, complete_to: int | None) -> tuple[ColumnElement[bool], ...]:
    if complete_to is None:
        return (table.c.seq > _last(connection, table),)
    entry = TableClause(f"{table.name}_search", column("seq"))
    is_indexed = select(entry.c.seq).where(entry.c.seq == table.c.seq, entry.c.seq > complete_to).exists()
    return table.c.seq > complete_to, ~is_indexed


@dataclass(frozen=True, slots=True, kw_only=True)
class Numbering:
    """Which numbers of messages may still appear, on PostgreSQL."""

    newest: int
    writers: frozenset[str]
    """Transactions that may have drawn lower numbers and are not committed."""


def numbering(connection: Connection, *, table: Table) -> Numbering:
    """Numbers are drawn under the lock of a company, so every transaction that has drawn one holds such a lock."""
    newest = connection.scalar(select(func.max(table.c.seq))) or 0
    return Numbering(newest=newest, writers=company_lock_holders(connection))


def last_indexed(connection: Connection, *, table: Table) -> int:
    return _last(connection, table)


def _last(connection: Connection, table: Table) -> int:
    return connection.exec_driver_sql(_sql(_LAST, connection, table)).scalar() or 0


def add_all(connection: Connection, table: Table, rows: Sequence[Mapping[Any, Any]]) -> None:
    """Index many messages."""
    connection.exec_driver_sql(_sql(_ADD, connection, table), [_values(connection, table, row) for row in rows])
    merge(connection, table, changed=len(rows))


def merge(connection: Connection, table: Table, *, changed: int) -> None:
    """Merge a small part of the FTS5 index. `changed`: messages that this transaction added or removed."""
    if connection.dialect.name == "sqlite":
        pages = max(_MIN_MERGED, changed // _CHANGED_PER_PAGE)
        connection.exec_driver_sql(_MERGE.format(table=table.name), (pages,))


def replace(connection: Connection, table: Table, row: Mapping[Any, Any]) -> None:
    """Index a message again after its content changed, unless it is not indexed yet. `row` has at least the indexed
    columns."""
    if row["seq"] > _last(connection, table):
        return
    connection.exec_driver_sql(_sql(_REMOVE, connection, table), (row["seq"],))
    add_all(connection, table, [row])


def find(
    connection: Connection,
    table: Table,
    company: str,
    search: Search,
    *,
    before: int,
    limit: int,
    index_limit: int,
    state: MessageState | None,
) -> list[int]:
    """Return the `seq` of matching messages below `before`, newest first.

    At most `limit` of them, or `index_limit` when the index was needed.
    Some may have another state, or belong to a company with the same hash: the caller must check the rows.
    """
    for window in _WINDOWS[:1] if state is None else _WINDOWS:
        scanned = _find_in_window(connection, table, company, search, before=before, state=state, window=window)
        newest = [seq for seq, matches in scanned if matches]
        if len(newest) >= limit or len(scanned) < window:
            return newest[:limit]
    match = _match(connection, company, search)
    return list(connection.exec_driver_sql(_sql(_FIND, connection, table), (match, before, index_limit)).scalars())


def _find_in_window(
    connection: Connection,
    table: Table,
    company: str,
    search: Search,
    *,
    before: int,
    state: MessageState | None,
    window: int,
) -> list[tuple[int, bool]]:
    """Return the `seq` of the newest messages, in the state if one is given, and whether each matches."""
    where, values = ("", ()) if state is None else (_IN_STATE[state in OPEN], (state.value,))
    bounds = (company, before, *values, window)
    if connection.dialect.name == "postgresql":
        statement = _FIND_IN_WINDOW.format(table=table.name, state=where)
        found = connection.exec_driver_sql(statement, (*bounds, _match(connection, company, search)))
        return [(seq, bool(matches)) for seq, matches in found]
    # FTS5 can't test whether one row matches, so the indexed words are compared here.
    statement = _ENTRIES_IN_WINDOW.format(table=table.name, state=where.replace("%s", "?"))
    entries = connection.exec_driver_sql(statement, bounds).all()
    scope = _scope(company)
    names, words = ([f" {scope}{each}" for each in part] for part in (search.names, search.words))

    def matches(entry: str) -> bool:
        return any(name in entry for name in names) or (bool(words) and all(word in entry for word in words))

    return [(seq, matches(f" {entry}")) for seq, entry in entries]


_IN_STATE = {
    True: " AND state = %s AND state IN ('queued','sending')",
    False: " AND state = %s AND state NOT IN ('queued','sending')",
}
"""Spelled as in the partial indexes."""


def optimize_part(connection: Connection, *, table: Table, is_first: bool) -> bool:
    """Merge a part of all segments of the FTS5 index, which drops the entries of removed messages.

    is_first: begin a merge of all segments; otherwise continue it.
    Returns whether there was anything to merge.
    """
    if connection.dialect.name != "sqlite":
        return False
    pages = -_OPTIMIZED_AT_ONCE if is_first else _OPTIMIZED_AT_ONCE  # a negative number begins
    before = connection.scalar(_CHANGES)
    connection.exec_driver_sql(_MERGE.format(table=table.name), (pages,))
    return bool(connection.scalar(_CHANGES) - before >= 2)  # it changes one row even if there is nothing to merge


def _sql(statements: Mapping[str, str], connection: Connection, table: Table) -> str:
    return statements[connection.dialect.name].format(table=table.name)


def entry(table: Table, row: Mapping[Any, Any]) -> list[str]:
    """Return the indexed tokens of a message."""
    scope = _scope(row["company_id"])
    return [f"{scope}{token}" for token in (_outbox_tokens(row) if table is outbox else _inbox_tokens(row))]


def _values(connection: Connection, table: Table, row: Mapping[Any, Any]) -> tuple[int, str | list[str]]:
    found = entry(table, row)
    return row["seq"], " ".join(found) if connection.dialect.name == "sqlite" else found


def _outbox_tokens(row: Mapping[Any, Any]) -> list[str]:
    return tokens(
        texts=texts_of(json.loads(row["content"])), ids=(row["id"], row["whatsapp_id"]), numbers=(row["recipient"],)
    )


def _inbox_tokens(row: Mapping[Any, Any]) -> list[str]:
    texts = (part for name in ("content", "media") if row[name] is not None for part in texts_of(json.loads(row[name])))
    return tokens(
        texts=(row["text"], row["push_name"], *texts),
        ids=(row["id"], row["whatsapp_id"]),
        numbers=dict.fromkeys((row["sender"], row["chat"])),
    )


@functools.lru_cache
def _scope(company: str) -> str:
    return hashlib.blake2s(company.encode(), digest_size=3).hexdigest()


def _match(connection: Connection, company: str, search: Search) -> str:
    """Return the search in the database's query syntax. Tokens have no quotes, so no escaping is needed."""
    scope = _scope(company)
    form, and_, or_ = ('"{}"*', " AND ", " OR ") if connection.dialect.name == "sqlite" else ("'{}':*", " & ", " | ")
    alternatives = [form.format(f"{scope}{name}") for name in search.names]
    if search.words:
        alternatives.append(f"({and_.join(form.format(f'{scope}{word}') for word in search.words)})")
    return or_.join(alternatives)
