"""What each setting belongs to, and what turning it does and costs: for `holdfast settings` and docs/settings.md.

The settings themselves, with their bounds and their one sentence, stand in settings.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from pydantic_core import PydanticUndefined

from holdfast.settings import Settings, allowed, variable

_GROUPS = (
    ("Where it listens, and who may ask", ("host", "port", "url", "public_url", "api_key", "trusted_proxies", "http")),
    ("What is kept, and where", ("data_dir", "database_url", "redis_url", "node", "cache_dir")),
    ("Links to WhatsApp", ("keepalive", "backoff", "health", "whatsapp", "device_name")),
    ("Pace of messages", ("pacing",)),
    ("Quotas of tenants", ("quota", "disk")),
    ("Media, events and webhooks", ("media", "events", "webhook", "allowed_addresses")),
    (
        "How long rows are kept",
        ("messages_keep_days", "inbox_keep_days", "timeline_keep_days", "quarantine_keep_days"),
    ),
    ("Alerts and log", ("alert", "log")),
    ("Backups", ("backup",)),
    ("The engine", ("node_bin", "npm_cache", "engine")),
)
"""Headings, with names or their first words. The longest that fits counts."""
OTHER = "Other"

TUNING: Mapping[str, str] = MappingProxyType({
    "keepalive_interval_s": (
        "Lower: a link that died in silence is found sooner (this time and 5 s more, when nothing is sent; "
        "with a send waiting it takes 7 s, whatever this is). It costs one small frame each way and session. "
        "Higher: less traffic, and routers that forget idle connections after a minute cut them. Leave it "
        "between 15 and 60."
    ),
    "keepalive_presence": (
        "On: the account shows as online, and the phone shows no notifications of its own. Off: the phone "
        "notifies as if no device were linked; pings alone keep the link."
    ),
    "backoff_base_ms": (
        "Lower: back a little sooner after the second failed attempt (the first comes at once). It costs "
        "attempts that WhatsApp counts: too many in an hour get numbers blocked. Higher: calmer, and each "
        "outage lasts longer."
    ),
    "backoff_factor": (
        "Lower: attempts stay close together in a long outage. Higher: they spread out sooner. At 1 every "
        "attempt waits the base delay, which WhatsApp may take for abuse."
    ),
    "backoff_cap_ms": (
        "How long a session may be away after WhatsApp is back. Lower: sooner back, more attempts in a long "
        "outage. It can't be above a minute."
    ),
    "engine_host_memory_mb": (
        "Lower: an engine host that grows is replaced sooner; its sessions reconnect once each, one a second. "
        "Below what its sessions need (100 MB and about 3 MB a session) hosts are replaced for nothing. 0: never."
    ),
    "health_interval_s": (
        "Lower: alerts and verdicts come sooner; each look costs two short reads of the database and nothing "
        "on the wire. Higher: a hanging session is noticed later; links themselves are watched at every "
        "moment."
    ),
    "pacing_per_minute": (
        "Lower: looks more like a person and is safer for young numbers; a burst waits longer in the outbox. "
        "0 sends as fast as WhatsApp acknowledges."
    ),
    "pacing_burst": (
        "Higher: a batch leaves at once before the average counts. Lower: it is spread out from the start."
    ),
    "pacing_gap_ms": (
        "Higher: messages never leave in one breath, at the price of throughput: 1000 means 30 to 60 a "
        "minute."
    ),
    "pacing_bulk_per_minute": (
        "Lower: campaigns take longer and disturb conversations less; these go first either way."
    ),
    "pacing_bulk_burst": (
        "Higher: a campaign begins faster. Lower: it is spread out from the start."
    ),
    "pacing_new_per_minute": (
        "Lower: safer. Writing to many strangers is what gets numbers banned."
    ),
    "pacing_new_burst": (
        "Higher: a list of new customers leaves faster, and looks more like spam."
    ),
    "pacing_new_per_day": (
        "Lower: safer, above all in a number's first weeks. What is above it waits, shown as held."
    ),
    "quota_requests_per_minute": (
        "Lower: one tenant's program takes less of the machine from the others. Higher: faster bursts of one tenant; "
        "a minute's worth may come at once."
    ),
    "quota_streams": (
        "Higher: more programs and browsers of one tenant listen at once; each costs memory and a connection."
    ),
    "quota_outbox_messages": (
        "Higher: a tenant hands over larger campaigns at once. Lower: a mistake in a tenant's program fills less."
    ),
    "quota_outbox_mb": (
        "Higher: a tenant's waiting messages may take more of the disk that all share."
    ),
    "quota_media_mb": (
        "Higher: a tenant's media may take more of the disk that all share. They are removed after media_keep_days."
    ),
    "disk_free_mb": (
        "Higher: more is left for the sessions when tenants fill the disk. Below what a day of sessions writes, the "
        "floor protects nothing."
    ),
    "media_max_mb": (
        "Higher: larger files are taken; each is stored in the database until it is old enough to go."
    ),
    "media_keep_days": (
        "Higher: media can be fetched for longer; the database grows by all that comes in meanwhile."
    ),
    "events_keep_days": (
        "Higher: readers and webhooks that were away for longer miss nothing; the database grows."
    ),
    "messages_keep_days": (
        "Higher: messages can be looked up, answered and edited for longer, and their idempotency keys are "
        "recognised for longer; the database grows by about 1 kB a message. What was removed is unknown: a repeated "
        "idempotency key is a new message then. Known contacts stay known."
    ),
    "inbox_keep_days": (
        "Higher: readers of the inbox that were away for longer miss nothing, and old messages can be "
        "answered; the database grows."
    ),
    "timeline_keep_days": (
        "Higher: the history of a session reaches further back. The newest entry of a session always stays."
    ),
    "quarantine_keep_days": (
        "Lower: keys of former devices are not kept for longer than needed. What was removed can't be "
        "restored; that device would have to be linked again anyway."
    ),
    "backup_every_h": (
        "Lower: less is lost with the disk, and fewer sessions have moved on when one is restored; each "
        "backup reads the whole database once."
    ),
    "backup_keep": (
        "Higher: further back to go, at a database's size each."
    ),
})  # fmt: skip
"""What turning it does, and what that costs (M33)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Explained:
    """One setting, for people."""

    name: str
    variable: str
    group: str
    meaning: str
    allowed: str
    default: str | None
    """None: unset."""
    tuning: str | None

    @property
    def is_tuned(self) -> bool:
        return self.tuning is not None


def explained(name: str) -> Explained:
    field = Settings.model_fields[name]
    return Explained(
        name=name,
        variable=variable(name),
        group=group_of(name),
        meaning=field.description or "",
        allowed=allowed(name),
        default=_default(name),
        tuning=TUNING.get(name),
    )


def groups() -> Mapping[str, Sequence[Explained]]:
    """All settings by heading, in the order in which a person would set them."""
    headings = [*(heading for heading, _ in _GROUPS), OTHER]
    known = [explained(name) for name in Settings.model_fields]
    found = {heading: [each for each in known if each.group == heading] for heading in headings}
    return {heading: each for heading, each in found.items() if each}


def group_of(name: str) -> str:
    fitting = [
        (len(word), heading)
        for heading, words in _GROUPS
        for word in words
        if name == word or name.startswith(f"{word}_")
    ]
    return max(fitting, default=(0, OTHER))[1]


def _default(name: str) -> str | None:
    """Of a setting that depends on the machine, what it depends on."""
    made = {"cache_dir": "~/.cache/holdfast", "node": "this machine's name"}
    value = Settings.model_fields[name].default
    if value is PydanticUndefined:
        return made[name]
    if isinstance(value, bool):
        return "on" if value else "off"
    return None if value is None else str(value)
