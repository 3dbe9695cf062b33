"""The tables for SQLAlchemy Core. `migrations/` creates them; a test compares the two.

Times are ISO 8601 text in UTC with milliseconds, as in every record of Holdfast: they sort, and the time types of
SQLite and PostgreSQL differ.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ColumnElement,
    DateTime,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    TextClause,
    false,
    text,
)

metadata = MetaData()


def _partial_index(
    name: str, *columns: ColumnElement[Any], where: ColumnElement[bool] | TextClause, unique: bool = False
) -> None:
    """An index of the rows that satisfy `where`."""
    Index(name, *columns, unique=unique, sqlite_where=where, postgresql_where=where)


# Conditions of partial indexes. Queries use these very conditions, because a planner recognises them only if they are
# spelled as in the index, with literals instead of bound values.
IS_OPEN = text("state IN ('queued','sending')")
IS_SETTLED = text("state NOT IN ('queued','sending')")
IS_HEAD = text("next_at IS NOT NULL")
IS_SENT_MEDIUM = text("kind IN ('image','video','audio','document','sticker') AND sent_at IS NOT NULL")
IS_OPEN_OPERATION = text("state IN ('queued','running')")
IS_UNREAD = text("unread <> 0")
IS_UNMOVED = text("moved_at IS NULL")
IS_PENDING = text("state = 'pending'")
HAS_MEDIUM = text("media_id IS NOT NULL")

_SEQ = BigInteger().with_variant(Integer(), "sqlite")  # SQLite increments only INTEGER PRIMARY KEY columns

sessions = Table(
    "sessions",
    metadata,
    Column("company_id", Text, primary_key=True),
    Column("state", Text, nullable=False),
    Column("since", Text, nullable=False),
    Column("reason", Text),
    Column("code", Integer),
    Column("attempts", Integer, nullable=False, server_default=text("0")),
    Column("resumes_at", Text),
    Column("phone_number", Text),
    Column("jid", Text),
    Column("connected_at", Text),
    Column("last_activity", Text),
    Column("created_at", Text, nullable=False),
    Column("device_name", Text),
    Column("proxy_url", Text),
    Column("label", Text),
    Column("media_links_revoked_at", Text),
    Column("ignored", Text),
    Column("history", Text),
    Column("auto_reject_calls", Text),
    Column("rejected_call_text", Text),
    Column("shown_available", Text),
    Column("auto_read", Text),
)

transitions = Table(
    "turns",
    metadata,
    Column("seq", _SEQ, primary_key=True),
    Column("company_id", Text, nullable=False),
    Column("at", Text, nullable=False),
    Column("before", Text, nullable=False),
    Column("after", Text, nullable=False),
    Column("event", Text, nullable=False),
    Column("reason", Text),
    Column("code", Integer),
    Column("attempts", Integer, nullable=False),
    Column("next_attempt_at", Text),
    Column("lasted_s", Float, nullable=False),
    sqlite_autoincrement=True,
)
Index("turns_by_company", transitions.c.company_id, transitions.c.seq)
Index("turns_at", transitions.c.at)

alerts = Table(
    "alerts",
    metadata,
    Column("seq", _SEQ, primary_key=True),
    *(Column(name, Text, nullable=False) for name in ("id", "address", "subject", "title", "body", "severity")),
    Column("made_at", Text, nullable=False),
    Column("owner", Text),  # the name of the node that delivers it, where several share the database
    sqlite_autoincrement=True,
)
Index("alerts_address", alerts.c.id, alerts.c.address, unique=True)

notes = Table(
    "notes",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", Text, nullable=False),
)

sign_outs = Table(
    "sign_outs",
    metadata,
    Column("login_id", Text, primary_key=True),
    Column("forget_at", Text, nullable=False),
)
Index("sign_outs_forget_at", sign_outs.c.forget_at)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", Text, primary_key=True),
    *(Column(name, Text, nullable=False) for name in ("name", "digest", "companies", "created_at")),
    Column("used_at", Text),
)
Index("api_keys_digest", api_keys.c.digest, unique=True)

credentials = Table(
    "credentials",
    metadata,
    Column("company_id", Text, primary_key=True),
    Column("creds", Text, nullable=False),
    Column("paired", Boolean, nullable=False),
    Column("updated_at", Text, nullable=False),
)

signal_keys = Table(
    "signal_keys",
    metadata,
    Column("company_id", Text, primary_key=True),
    Column("type", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("value", Text, nullable=False),
    sqlite_with_rowid=False,
)

quarantine = Table(
    "quarantine",
    metadata,
    Column("seq", _SEQ, primary_key=True),
    Column("company_id", Text, nullable=False),
    Column("at", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("creds", Text, nullable=False),
    Column("keys", Text, nullable=False),
    sqlite_autoincrement=True,
)

outbox = Table(
    "outbox",
    metadata,
    Column("seq", _SEQ, primary_key=True),
    Column("id", Text, nullable=False, unique=True),
    Column("company_id", Text, ForeignKey("sessions.company_id"), nullable=False),
    Column("whatsapp_id", Text, nullable=False),
    Column("chat", Text, nullable=False),
    Column("recipient", Text, nullable=False),
    Column("content", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("attempts", Integer, nullable=False, server_default=text("0")),
    Column("accepted_at", Text, nullable=False),
    Column("sent_at", Text),
    Column("delivered_at", Text),
    Column("read_at", Text),
    Column("played_at", Text),
    Column("expires_at", Text),
    Column("error_code", Text),
    Column("error", Text),
    Column("idempotency_key", Text),
    Column("request_hash", Text),
    Column("made", Text),
    Column("held_code", Text),
    Column("held_until", Text),
    Column("kind", Text, nullable=False, server_default="text"),
    Column("priority", Integer, nullable=False, server_default=text("0")),
    Column("next_at", Text),
    Column("lane", Integer),
    Column("refusals", Integer, nullable=False, server_default=text("0")),
    *(Column(name, Text) for name in ("retry_at", "retry_code", "retry_message")),
    Column("retry_count", Integer, nullable=False, server_default=text("0")),
    Column("crash_score", Integer, nullable=False, server_default=text("0")),
    Column("target", Text),
    Column("members", Integer),
    CheckConstraint(
        "state IN ('queued','sending','sent','delivered','read','played','failed','expired','cancelled')",
        name="outbox_state",
    ),
    sqlite_autoincrement=True,
)
Index("outbox_whatsapp_id", outbox.c.company_id, outbox.c.whatsapp_id, unique=True)
Index("outbox_idempotency_key", outbox.c.company_id, outbox.c.idempotency_key, unique=True)
_partial_index(
    "outbox_open",
    *outbox.c["company_id", "seq", "state", "priority", "accepted_at", "held_code"],
    where=IS_OPEN,
)
Index("outbox_by_company", outbox.c.company_id, outbox.c.seq)
Index("outbox_by_chat", outbox.c.company_id, outbox.c.chat, outbox.c.seq)
Index("outbox_by_time", outbox.c.company_id, outbox.c.accepted_at, outbox.c.state)
_partial_index("outbox_settled", *outbox.c["company_id", "state", "seq"], where=IS_SETTLED)
_partial_index("outbox_head", outbox.c.company_id, outbox.c.chat, unique=True, where=IS_HEAD)
_partial_index("outbox_due", outbox.c.company_id, outbox.c.lane, outbox.c.next_at, outbox.c.seq, where=IS_HEAD)
_INTERACTIVE = text("priority = 0 AND state IN ('queued','sending')")
_partial_index("outbox_interactive", outbox.c.company_id, outbox.c.chat, where=_INTERACTIVE)
_CAN_EXPIRE = text("expires_at IS NOT NULL AND state IN ('queued','sending')")
_partial_index("outbox_expiry", outbox.c.company_id, outbox.c.expires_at, where=_CAN_EXPIRE)
_partial_index("outbox_sent_media", outbox.c.company_id, outbox.c.sent_at, where=IS_SENT_MEDIUM)

_HAS_TARGET = text("target IS NOT NULL")
_partial_index("outbox_targets", outbox.c.company_id, outbox.c.chat, outbox.c.target, where=_HAS_TARGET)

operations = Table(
    "operations",
    metadata,
    Column("seq", _SEQ, primary_key=True),
    Column("id", Text, nullable=False, unique=True),
    Column("company_id", Text, ForeignKey("sessions.company_id"), nullable=False),
    *(Column(name, Text, nullable=False) for name in ("kind", "target", "arguments", "state")),
    Column("attempts", Integer, nullable=False, server_default=text("0")),
    Column("accepted_at", Text, nullable=False),
    *(Column(name, Text) for name in ("tried_at", "settled_at", "expires_at", "next_at")),
    *(Column(name, Text) for name in ("observed", "result", "error_code", "error")),
    Column("whatsapp_code", Integer),
    *(Column(name, Text) for name in ("retry_at", "retry_code", "retry_message")),
    *(Column(name, Text) for name in ("idempotency_key", "request_hash")),
    CheckConstraint(
        "state IN ('queued','running','succeeded','failed','expired','cancelled','unknown')", name="operations_state"
    ),
    sqlite_autoincrement=True,
)
Index("operations_idempotency_key", operations.c.company_id, operations.c.idempotency_key, unique=True)
Index("operations_by_company", operations.c.company_id, operations.c.seq)
_partial_index("operations_open", operations.c.company_id, operations.c.seq, where=IS_OPEN_OPERATION)

member_receipts = Table(
    "member_receipts",
    metadata,
    Column("company_id", Text, primary_key=True),
    Column("message_id", Text, primary_key=True),
    Column("member", Text, primary_key=True),
    Column("delivered_at", Text),
    Column("read_at", Text),
    Column("played_at", Text),
)

inbox = Table(
    "inbox",
    metadata,
    Column("seq", _SEQ, primary_key=True),
    Column("id", Text, nullable=False, unique=True),
    Column("company_id", Text, nullable=False),
    Column("chat", Text, nullable=False),
    Column("sender", Text, nullable=False),
    Column("whatsapp_id", Text, nullable=False),
    Column("type", Text, nullable=False),
    Column("text", Text),
    Column("from_me", Boolean, nullable=False),
    Column("push_name", Text),
    Column("sent_at", Text, nullable=False),
    Column("stored_at", Text, nullable=False),
    *(Column(name, Text) for name in ("content", "target", "media", "media_keys", "media_id", "completed_at")),
    Column("sender_lid", Text),
    Column("message_secret", Text),
    Column("origin", Text),
    sqlite_autoincrement=True,
)
Index("inbox_message", inbox.c.company_id, inbox.c.chat, inbox.c.whatsapp_id, inbox.c.sender, unique=True)
Index("inbox_by_chat", inbox.c.company_id, inbox.c.chat, inbox.c.seq)
Index("inbox_by_company", inbox.c.company_id, inbox.c.seq)
Index("inbox_by_time", inbox.c.company_id, inbox.c.chat, inbox.c.sent_at, inbox.c.seq)
_partial_index("inbox_targets", inbox.c.company_id, inbox.c.chat, inbox.c.target, where=_HAS_TARGET)
_partial_index("inbox_media", inbox.c.company_id, inbox.c.stored_at, where=HAS_MEDIUM)

groups = Table(
    "groups",
    metadata,
    Column("company_id", Text, primary_key=True),
    Column("jid", Text, primary_key=True),
    Column("subject", Text, nullable=False),
    Column("learned_at", Text, nullable=False),
)

media = Table(
    "media",
    metadata,
    Column("id", Text, primary_key=True),
    Column("company_id", Text, nullable=False),
    Column("mimetype", Text, nullable=False),
    Column("filename", Text),
    Column("size_bytes", BigInteger, nullable=False),
    Column("sha256", Text, nullable=False),
    Column("created_at", Text, nullable=False),
    Column("is_whole", Boolean, nullable=False, server_default=false()),
)
Index("media_created_at", media.c.created_at)
Index("media_by_company", media.c.company_id)

media_chunks = Table(
    "media_chunks",
    metadata,
    Column("media_id", Text, primary_key=True),
    Column("n", Integer, primary_key=True),
    Column("bytes", LargeBinary, nullable=False),
)

chats = Table(
    "chats",
    metadata,
    Column("company_id", Text, primary_key=True),
    Column("chat", Text, primary_key=True),
    Column("first_sent_at", Text),
    Column("first_received_at", Text),
    Column("last_at", Text),
    Column("last_seq", BigInteger),
    Column("last_is_sent", Boolean, nullable=False, server_default=false()),
    Column("unread", Integer, nullable=False, server_default=text("0")),
    Column("read_seq", BigInteger, nullable=False, server_default=text("0")),
    Column("pinned_at", Text),
    Column("is_archived", Boolean, nullable=False, server_default=false()),
    Column("muted_until", Text),
    Column("disappearing_s", Integer),
    Column("disappearing_set_at", Text),
)
Index("chats_first_sent", chats.c.company_id, chats.c.first_sent_at)
Index("chats_by_last", chats.c.company_id, chats.c.last_at, chats.c.chat)
_partial_index("chats_unread", chats.c.company_id, chats.c.last_at, chats.c.chat, where=IS_UNREAD)

contacts = Table(
    "contacts",
    metadata,
    Column("company_id", Text, primary_key=True),
    Column("jid", Text, primary_key=True),
    *(Column(name, Text) for name in ("number", "lid", "username", "push_name", "saved_name", "business_name")),
    Column("updated_at", Text, nullable=False),
)
for _name in ("number", "lid", "username"):
    Index(f"contacts_{_name}", contacts.c.company_id, contacts.c[_name], unique=True)

chat_aliases = Table(
    "chat_aliases",
    metadata,
    Column("company_id", Text, primary_key=True),
    Column("alias", Text, primary_key=True),
    Column("chat", Text, nullable=False),
    Column("moved_at", Text),  # NULL: history under the alias is still to be moved
)
Index("chat_aliases_chat", chat_aliases.c.company_id, chat_aliases.c.chat)
_partial_index("chat_aliases_unmoved", chat_aliases.c.company_id, chat_aliases.c.alias, where=IS_UNMOVED)

labels = Table(
    "labels",
    metadata,
    Column("company_id", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("color", Integer),
)

labelled = Table(
    "labelled",
    metadata,
    Column("company_id", Text, primary_key=True),
    Column("label_id", Text, primary_key=True),
    Column("chat", Text, primary_key=True),
    Column("whatsapp_id", Text, primary_key=True),  # empty: the chat itself
)
Index("labelled_by_chat", labelled.c.company_id, labelled.c.chat)

starred = Table(
    "starred",
    metadata,
    Column("company_id", Text, primary_key=True),
    Column("chat", Text, primary_key=True),
    Column("whatsapp_id", Text, primary_key=True),
    Column("starred_at", Text, nullable=False),
)

limits = Table(
    "limits",
    metadata,
    Column("company_id", Text, primary_key=True),
    Column("reach_out_until", Text),
    Column("quota_until", Text),
    Column("tight_until", Text),
    Column("pacing", Text),
)

events = Table(
    "events",
    metadata,
    Column("seq", _SEQ, primary_key=True),
    *(Column(name, Text, nullable=False) for name in ("id", "company_id", "type", "chat", "at", "body")),
    sqlite_autoincrement=True,
)
Index("events_by_company", events.c.company_id, events.c.seq)
Index("events_id", events.c.id)
Index("events_at", events.c.at)

webhook_endpoints = Table(
    "webhook_endpoints",
    metadata,
    Column("company_id", Text, primary_key=True),  # empty: the default endpoint, for companies without one
    Column("id", Text, nullable=False, unique=True),
    *(Column(name, Text) for name in ("url", "secret", "events")),
    Column("state", Text, nullable=False, server_default="active"),
    Column("failures", Integer, nullable=False, server_default=text("0")),
    *(Column(name, Text) for name in ("failing_since", "probe_at", "last_success_at", "last_failure_at", "last_error")),
    Column("last_status", Integer),
    Column("probes", Integer, nullable=False, server_default=text("0")),
    CheckConstraint("state IN ('active','aside','off')", name="webhook_endpoints_state"),
)

webhook_deliveries = Table(
    "webhook_deliveries",
    metadata,
    Column("event_seq", BigInteger, ForeignKey("events.seq"), primary_key=True, autoincrement=False),
    *(Column(name, Text, nullable=False) for name in ("company_id", "chat", "state", "at")),
    Column("attempts", Integer, nullable=False, server_default=text("0")),
    *(Column(name, Text) for name in ("next_at", "first_at", "last_at", "last_error")),
    Column("last_status", Integer),
    CheckConstraint("state IN ('pending','delivered','failed')", name="webhook_deliveries_state"),
)
_FAILED = text("state = 'failed'")
_RETRIED = text("state = 'pending' AND attempts > 0")
_partial_index(
    "webhook_deliveries_pending",
    webhook_deliveries.c.company_id,
    webhook_deliveries.c.chat,
    webhook_deliveries.c.event_seq,
    where=IS_PENDING,
)
_partial_index("webhook_deliveries_heads", webhook_deliveries.c.company_id, webhook_deliveries.c.next_at, where=IS_HEAD)
_partial_index(
    "webhook_deliveries_failed", webhook_deliveries.c.company_id, webhook_deliveries.c.event_seq, where=_FAILED
)
for _name, _columns, _where in (
    ("webhook_deliveries_all_failed", ("event_seq",), _FAILED),
    ("webhook_deliveries_retried", ("company_id", "event_seq"), _RETRIED),
    ("webhook_deliveries_all_retried", ("event_seq",), _RETRIED),
    ("webhook_deliveries_old", ("at",), IS_PENDING),
):
    _partial_index(_name, *webhook_deliveries.c[_columns], where=_where)

decrypted = Table(
    "decrypted",
    metadata,
    Column("company_id", Text, primary_key=True),
    Column("ciphertext_sha256", Text, primary_key=True),
    Column("plaintext", LargeBinary, nullable=False),
    Column("stored_at", Text, nullable=False),
    sqlite_with_rowid=False,
)
Index("decrypted_stored_at", decrypted.c.stored_at)

leases = Table(
    "leases",
    metadata,
    Column("company_id", Text, primary_key=True),
    Column("node", Text, nullable=False),
    Column("holder", Text, nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("expires_at", DateTime(timezone=True), nullable=False),  # PostgreSQL only, by the server's clock
)

nodes = Table(
    "nodes",
    metadata,
    Column("id", Text, primary_key=True),  # drawn at each start of a process
    Column("name", Text, nullable=False),
    Column("url", Text, nullable=False),
    Column("holder", Text, nullable=False),  # the same as in the leases that the process holds now
    Column("capacity", Integer, nullable=False, server_default=text("0")),
    Column("draining", Boolean, nullable=False, server_default=false()),
    Column("sessions", Integer, nullable=False, server_default=text("0")),
    Column("connecting", Integer, nullable=False, server_default=text("0")),  # sessions that wait to connect
    Column("started_at", DateTime(timezone=True), nullable=False),  # PostgreSQL only, by the server's clock
    Column("seen_at", DateTime(timezone=True), nullable=False),
)
