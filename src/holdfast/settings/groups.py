"""Every setting: its type, bounds and default, what it means, and what changing it does and costs.

A setting is declared here and nowhere else. The docstring of its class is the heading under which `holdfast settings`
and docs/settings.md show it. The first paragraph below a setting is its meaning. The second one says what changing it
does and costs; every interval, delay, limit and rate has one. Durations are in the unit that the name ends with.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainSerializer

from holdfast.base.device_names import ALLOWED as DEVICE_NAMES
from holdfast.base.device_names import device_name
from holdfast.base.proxy_urls import ALLOWED as PROXIES
from holdfast.base.proxy_urls import proxy_url


@dataclass(frozen=True, slots=True)
class AllowedValues:
    """The values that a type of setting allows, described for people."""

    text: str


@dataclass(frozen=True, slots=True)
class Default:
    """What a default depends on where it is no constant, described for people."""

    text: str


class Section(BaseModel):
    """Settings under one heading."""

    model_config = ConfigDict(use_attribute_docstrings=True)


def _networks(text: str) -> str:
    """Addresses and networks, separated by commas, in one spelling."""
    return ",".join(str(ip_network(word)) for word in text.replace(",", " ").split())


_HTTP = (Field(pattern=r"^https?://[^\s/]\S*$"), AllowedValues("an address that begins with http:// or https://"))

Place = Annotated[Path, AfterValidator(lambda path: path.expanduser()), AllowedValues("a folder")]
Networks = Annotated[
    str,
    AfterValidator(_networks),
    AllowedValues("addresses and networks such as 127.0.0.1, 10.0.0.0/8, separated by commas"),
]
LogLevel = Annotated[
    str, Field(pattern="(?i)^(debug|info|warning|error)$"), AllowedValues("debug, info, warning or error")
]
HttpUrl = Annotated[str | None, *_HTTP]
WebSocketUrl = Annotated[
    str | None, Field(pattern=r"^wss?://[^\s/]\S*$"), AllowedValues("an address that begins with ws:// or wss://")
]
Secret = Annotated[str | None, Field(repr=False), PlainSerializer(lambda _: "(set)", when_used="unless-none")]
SecretHttpUrl = Annotated[Secret, *_HTTP]
DatabaseUrl = Annotated[
    Secret, Field(pattern="^postgres(ql)?://"), AllowedValues("an address that begins with postgresql://")
]
NodeName = Annotated[
    str,
    Field(pattern=r"^[A-Za-z0-9._:-]{1,64}$"),
    AllowedValues("1 to 64 letters, digits, dots, colons, hyphens and underscores"),
]
ClientVersion = Annotated[
    str, Field(pattern=r"^(auto|2\.3000\.\d{10})$"), AllowedValues("auto, or a version such as 2.3000.1043857760")
]
DeviceName = Annotated[str, AfterValidator(device_name), AllowedValues(DEVICE_NAMES)]
ProxyUrl = Annotated[Secret, AfterValidator(lambda text: text and proxy_url(text)), AllowedValues(PROXIES)]


class ListeningSettings(Section):
    """HTTP: addresses, keys and limits"""

    host: str = "127.0.0.1"
    """address on which HTTP listens"""
    port: int = Field(3000, ge=0, le=65535)
    """port on which HTTP listens; 0: any free port"""
    api_key: Secret = None
    """keys for the API, separated by commas; KEY=company|company limits one to companies; unset: one is generated at
    the first start
    """
    public_url: HttpUrl = None
    """where others reach this Holdfast: used for links in alerts and media URLs in webhooks; may have a
    path, such as https://example.com/holdfast; unset: the one at host and port
    """
    allowed_hosts: str = ""
    """names in the Host header that are served, besides loopback names, IP addresses, names without a dot and the host
    of HOLDFAST_PUBLIC_URL: separated by commas, such as wa.internal, *.example.com; * allows every name
    """
    trusted_proxies: Networks = "127.0.0.1,::1"
    """addresses and networks of the proxies in front of Holdfast: X-Forwarded-For and X-Forwarded-Proto count only when
    they come from these
    """
    http_connections: int = Field(4096, ge=64, le=60_000)
    """maximum number of open HTTP connections; at the limit idle ones are closed, those without an API key first"""
    url: HttpUrl = None
    """the running Holdfast that commands talk to; unset: the one at host and port on this machine"""


class StorageSettings(Section):
    """Storage"""

    data_dir: Place = Path("holdfast-data")
    """folder for database, backups and the generated API key"""
    database_url: DatabaseUrl = None
    """PostgreSQL database, which several Holdfast processes may share; unset: SQLite in the data folder"""
    cache_dir: Annotated[Place, Default("~/.cache/holdfast")] = Field(
        default_factory=lambda: Path.home() / ".cache" / "holdfast"
    )
    """folder where Baileys is installed once for all Holdfast processes"""
    redis_url: Secret = None
    """Redis for each session's live state, such as redis://127.0.0.1:6379/0; unset: only in memory"""
    node: Annotated[NodeName, Default("this machine's name")] = Field(default_factory=socket.gethostname)
    """name of this process"""
    node_url: HttpUrl = None
    """where the other nodes of a cluster reach this process by HTTP; unset: the address from which it connects to
    PostgreSQL, or HOLDFAST_HOST if that is one address, and the port

    Requests for a session that another node runs are forwarded to this address. If it is wrong, requests for sessions
    of this node that reach another node get 503.
    """
    restart_grace_s: float = Field(5, ge=0, le=60)
    """how long the sessions of a node that was stopped wait for the next process with its HOLDFAST_NODE

    A restart within this time moves no session to another node: each connects once, to the same node. After it, the
    other nodes take the sessions. On a busy machine the sessions wait longer: one and a half times as long as the
    process took to load its code, up to 60 s. Lower: after a permanent stop they are connected elsewhere sooner; at 0
    at once. Higher: for installations in which the next process starts later. It has no effect on a node that was
    drained before.
    """


class LinksSettings(Section):
    """Links to WhatsApp"""

    health_interval_s: float = Field(30, ge=1, le=300)
    """time between two checks of the health monitor

    Lower: alerts and verdicts come sooner; each check costs two short reads of the database and no network traffic.
    Higher: a hanging session is noticed later; links themselves are watched all the time.
    """
    whatsapp_url: WebSocketUrl = None
    """a server other than WhatsApp's own, for tests"""
    whatsapp_version: ClientVersion = "auto"
    """client version: auto, as WhatsApp publishes it, or 2.3000.N to pin it"""
    whatsapp_web_url: HttpUrl = None
    """where auto reads /sw.js; unset: https://web.whatsapp.com, or with another HOLDFAST_WHATSAPP_URL that server's
    host
    """
    device_name: DeviceName = "Ubuntu"
    """name of new devices in the phone's list of linked devices; for some accounts WhatsApp refuses pairing codes to
    unusual names
    """
    proxy_url: ProxyUrl = None
    """http, https or socks5 proxy, with credentials if it needs them, for all traffic to WhatsApp (socket, media,
    client version) of sessions without a proxy of their own
    """
    keepalive_interval_s: float = Field(30, ge=5, le=300)
    """time between two pings of a quiet link

    Lower: a link that died silently is found sooner (after this time plus 5 s; with a message in flight it takes 7 s,
    whatever this is). It costs one small frame each way for each session. Higher: less traffic, but routers that drop
    idle connections after a minute cut them. Leave it between 15 and 60.
    """
    keepalive_presence: bool = True
    """report to WhatsApp that this device is in use; the phone then shows no notifications

    On: the account shows as online, and the phone shows no notifications. Off: the phone notifies as if no device were
    linked; pings alone keep the link open.
    """
    backoff_base_ms: int = Field(1000, ge=100, le=60_000)
    """base of the backoff, min(base * factor ** attempts, cap)

    Lower: the session is back a little sooner after the second failed attempt (the first comes at once), but WhatsApp
    counts attempts: too many in an hour get numbers blocked. Higher: fewer attempts, and each outage lasts longer.
    """
    backoff_factor: float = Field(1.5, ge=1, le=10)
    """factor of the backoff

    Lower: attempts stay close together in a long outage. Higher: they spread out sooner. At 1 every attempt waits
    the base delay, which WhatsApp may treat as abuse.
    """
    backoff_cap_ms: int = Field(60_000, ge=1000, le=60_000)
    """cap of the backoff, a minute at most

    The longest time between two attempts. Lower: more attempts in a long outage. It can't be above a minute.
    """
    connects_per_second: int = Field(100, ge=1, le=10_000)
    """maximum number of links started within a second, by all processes that share a database together

    Sessions that lost their links at the same time reconnect at 20 a second, and at up to this rate while logins are
    fast; when WhatsApp refuses logins, or they become slow, the rate falls. Lower: less load on WhatsApp and on a small
    machine. Higher: thousands of sessions are back sooner after a restart of WhatsApp, if the machines have enough CPU.
    """


class PacingSettings(Section):
    """Message pacing"""

    pacing_per_minute: float = Field(0, ge=0, le=6000)
    """average messages a minute of one session; 0: as many as WhatsApp accepts

    Lower: looks more like a person and is safer for new numbers; a burst waits longer in the outbox. 0: messages are
    sent as fast as WhatsApp acknowledges them.
    """
    pacing_burst: int = Field(50, ge=1, le=10_000)
    """messages that may be sent at once before the average rate applies

    Higher: a larger batch is sent at once. Lower: it is spread out from the start.
    """
    pacing_gap_ms: int = Field(0, ge=0, le=60_000)
    """minimum time between two messages; jitter adds up to as much again

    Higher: messages are never sent back to back, at the price of throughput: 1000 means 30 to 60 a minute.
    """
    pacing_bulk_per_minute: float = Field(60, ge=0, le=6000)
    """average messages a minute with priority "bulk"; 0: no separate limit

    Lower: campaigns take longer and disturb conversations less; conversations always go first.
    """
    pacing_bulk_burst: int = Field(20, ge=1, le=10_000)
    """bulk messages that may be sent at once before the average rate applies

    Higher: a campaign begins faster. Lower: it is spread out from the start.
    """
    pacing_new_per_minute: float = Field(20, ge=0, le=6000)
    """average first messages a minute to people the company has no chat with; 0: no separate limit

    Lower: safer. Writing to many strangers is what gets numbers banned.
    """
    pacing_new_burst: int = Field(50, ge=1, le=10_000)
    """first messages that may be sent at once before the average rate applies

    Higher: messages to new customers are sent faster, but look more like spam.
    """
    pacing_new_per_day: int = Field(250, ge=0, le=100_000)
    """people written to for the first time in 24 hours; 0: no limit

    Lower: safer, above all in a number's first weeks. Further first messages wait and are shown as held.
    """


class QuotasSettings(Section):
    """Quotas of tenants"""

    quota_requests_per_minute: int = Field(3000, ge=0, le=1_000_000)
    """requests a minute of one API key that is limited to companies; 0: no limit

    Lower: one tenant's program takes less capacity from the others. Higher: faster bursts of one tenant; the requests
    of a minute may come at once.
    """
    quota_streams: int = Field(20, ge=0, le=10_000)
    """event streams that one API key limited to companies has open at once; 0: no limit

    Higher: more programs and browsers of one tenant can listen at once; each costs memory and a connection.
    """
    quota_outbox_messages: int = Field(50_000, ge=0, le=10_000_000)
    """messages of one company that may wait in the outbox before an API key limited to companies gets 429; 0: no limit

    Higher: a tenant can submit larger campaigns at once. Lower: a mistake in a tenant's program fills less of the disk.
    """
    quota_outbox_mb: int = Field(256, ge=0, le=1_000_000)
    """the same, by the size of these messages without their media, in MB; 0: no limit

    Higher: a tenant's waiting messages may take more of the shared disk.
    """
    quota_media_mb: int = Field(2048, ge=0, le=1_000_000)
    """media that one company may have stored before an API key limited to companies gets 429, in MB; 0: no limit

    Higher: a tenant's media may take more of the shared disk. They are removed after media_keep_days.
    """
    disk_free_mb: int = Field(1024, ge=0, le=1_000_000)
    """with less free space on the disk of the data folder, only API keys for all companies may write; 0: no minimum

    Higher: more is left for the sessions when tenants fill the disk. A minimum below what sessions write in a day
    protects nothing.
    """


class DeliverySettings(Section):
    """Media, events and webhooks"""

    allowed_addresses: str | None = None
    """private networks and hosts that the media and webhooks of all companies may reach, each with or without a port,
    separated by commas, such as 10.1.0.0/16, 192.168.1.7:8080, crm.internal; unset: only public addresses.
    HOLDFAST_WEBHOOK_URL needs no entry
    """
    media_max_mb: int = Field(64, ge=1, le=100)
    """maximum size of a media file, in MB; WhatsApp's own limits may be lower

    Higher: larger files are accepted; each is stored in the database until it is old enough to be removed.
    """
    media_keep_days: int = Field(7, ge=1, le=365)
    """how long the media of messages are kept after the message was sent or received

    Higher: media can be fetched for longer; the database grows by what arrives in that time.
    """
    webhook_url: SecretHttpUrl = None
    """where events of all sessions without a webhook of their own are sent"""
    webhook_secret: Secret = None
    """signs those webhooks: whsec_ and 24 to 64 bytes in base64; unset: one is generated and stored in
    the file webhook-secret of the data folder
    """
    webhook_timeout_s: float = Field(15, ge=1, le=120)
    """how long a webhook receiver may take to answer an event

    After that the event counts as not delivered and is sent again. Higher: a slow receiver gets each event only once.
    But while it does not answer, the next events of the chat wait for that long, and it occupies up to 8 of the 32
    deliveries that can be in flight at once. Lower: less time is lost with receivers that hang.
    """
    events_keep_days: float = Field(7, ge=1, le=365)
    """how long events are kept for readers that reconnect, and webhooks for replay

    Higher: readers and webhooks that were away for longer miss nothing; the database grows.
    """


class RetentionSettings(Section):
    """Retention"""

    messages_keep_days: int = Field(0, ge=0, le=3650)
    """how long outbound messages are kept after they were settled (sent, failed, expired or cancelled) and last
    changed; 0: forever

    Higher: messages can be looked up, answered and edited for longer, and their idempotency keys are recognised for
    longer; the database grows by about 1 kB a message. Removed messages are unknown: a repeated idempotency key then
    creates a new message. Known contacts stay known.
    """
    inbox_keep_days: int = Field(0, ge=0, le=3650)
    """how long inbound messages are kept, at least the 4 days that their webhooks may be retried; 0: forever

    Higher: readers of the inbox that were away for longer miss nothing, and old messages can be answered; the
    database grows.
    """
    operations_keep_days: int = Field(90, ge=0, le=3650)
    """how long operations, such as the creation of a group, are kept after they were settled; 0: forever

    Higher: outcomes can be looked up, and their idempotency keys are recognised, for longer; the database grows by
    about 1 kB an operation.
    """
    timeline_keep_days: int = Field(8, ge=8, le=3650)
    """how long the history of session states is kept; diagnostics use the last seven days

    Higher: the history of a session reaches further back. The newest entry of a session always stays.
    """
    quarantine_keep_days: int = Field(0, ge=0, le=3650)
    """how long credentials of devices that were unlinked stay in quarantine; 0: forever

    Lower: keys of former devices are not kept for longer than needed. Removed credentials can't be restored; that
    device would have to be linked again anyway.
    """


class ReportingSettings(Section):
    """Alerts and log"""

    alert_urls: Secret = None
    """where alerts are sent: Apprise URLs, separated by commas or spaces; unset: only to the log"""
    log_level: LogLevel = "info"
    """minimum level of log lines"""


class BackupsSettings(Section):
    """Backups"""

    backup_every_h: float = Field(24, ge=0, le=720)
    """hours between two scheduled backups; 0: none

    Lower: less is lost when the disk fails, and more sessions can be restored as they are; each backup reads the
    whole database once.
    """
    backup_keep: int = Field(7, ge=1, le=365)
    """how many scheduled backups are kept

    Higher: older states can be restored; each backup takes about the size of the database.
    """
    backup_passphrase: Secret = None
    """encrypts backups with age, and opens them; unset: they are not encrypted"""
    backup_recipients: str | None = None
    """encrypts backups to these public keys of age (age1…), separated by commas or spaces"""


class EngineSettings(Section):
    """The engine"""

    engine_hosts: int | None = Field(None, ge=1, le=64)
    """engine hosts (Node processes) that sessions are spread over; each needs about 100 MB of memory and is started
    when a session is placed on it; unset: one for each CPU core
    """
    engine_host_memory_mb: int = Field(1024, ge=0, le=65_536)
    """an engine host with more resident memory is replaced, its sessions one by one; 0: never

    Lower: an engine host that grows is replaced sooner; its sessions reconnect once each, one a second. Below what
    its sessions need (100 MB and about 3 MB a session) hosts are replaced without need. 0: never.
    """
    node_bin: Place | None = None
    """a Node executable other than the one that came with Holdfast"""
    npm_cache: Place | None = None
    """folder made by `holdfast fill-npm-cache`, from which Baileys is installed without a registry"""
