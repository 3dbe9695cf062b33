"""Settings: environment variables `HOLDFAST_…` over `holdfast.toml` over defaults, frozen once read.

The one place that reads the environment. In the file a section's name and a key make the setting's name:
`[keepalive] interval_s = 30` is `HOLDFAST_KEEPALIVE_INTERVAL_S=30`. An empty value is as good as none.
"""

from __future__ import annotations

import difflib
import os
import socket
import tomllib
from collections.abc import Iterator, Mapping
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainSerializer, ValidationError

from holdfast.base.errors import Misconfigured

PREFIX = "HOLDFAST_"
FILE = Path("holdfast.toml")

_URL = r"://[^\s/]\S*$"
_EVERY_ADDRESS = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 – what it is answered by
"""Where a server that listens on every address is reached from its own machine."""


def _networks(text: str) -> str:
    """Addresses and networks, separated by commas, in one spelling."""
    return ",".join(str(ip_network(word)) for word in text.replace(",", " ").split())


Networks = Annotated[str, AfterValidator(_networks)]
Secret = Annotated[str, PlainSerializer(lambda _: "(set)")]
Place = Annotated[Path, AfterValidator(lambda path: path.expanduser())]


class BadSetting(Misconfigured):
    """A setting that does not exist, or a value that it can't take."""

    code = "bad-setting"


class Settings(BaseModel):
    """Everything that can be set. Durations are in the unit that the name ends with."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    host: str = Field("127.0.0.1", description="address on which HTTP listens")
    port: int = Field(3000, ge=0, le=65535, description="port on which HTTP listens; 0 takes a free one")
    data_dir: Place = Field(Path("holdfast-data"), description="database, backups, generated API key")
    database_url: Secret | None = Field(
        None,
        repr=False,
        pattern="^postgres(ql)?://",
        description="PostgreSQL that several Holdfast processes may share; unset: SQLite in the data folder",
    )
    cache_dir: Place = Field(
        default_factory=lambda: Path.home() / ".cache" / "holdfast",
        description="where Baileys is installed, once for all",
    )
    api_key: Secret | None = Field(
        None,
        repr=False,
        description="keys for the API, separated by commas; KEY=company|company limits one to companies; "
        "unset: one is generated at the first start",
    )
    redis_url: Secret | None = Field(
        None,
        repr=False,
        description="Redis that shows each session's live state, such as redis://127.0.0.1:6379/0; unset: in memory",
    )
    node: str = Field(
        default_factory=socket.gethostname, pattern=r"^[A-Za-z0-9._:-]{1,64}$", description="this process's name"
    )
    alert_urls: Secret | None = Field(
        None,
        repr=False,
        description="where alerts go: Apprise addresses, separated by commas or spaces; unset: only to the log",
    )
    public_url: str | None = Field(
        None,
        pattern="^https?" + _URL,
        description="what others know this Holdfast by, in the addresses of media that webhooks tell; "
        "unset: the one at host and port",
    )
    trusted_proxies: Networks = Field(
        "127.0.0.1,::1",
        description="addresses and networks of the proxies in front of Holdfast: X-Forwarded-For and "
        "X-Forwarded-Proto count only when they come from these",
    )
    http_connections: int = Field(
        4096,
        ge=64,
        le=60_000,
        description="connections at once; at the limit idle ones are closed, those that showed no API key first",
    )
    quota_requests_per_minute: int = Field(
        3000,
        ge=0,
        le=1_000_000,
        description="requests a minute of one API key that is limited to companies; 0: no limit",
    )
    quota_streams: int = Field(
        20,
        ge=0,
        le=10_000,
        description="event streams that one API key limited to companies has open at once; 0: no limit",
    )
    quota_outbox_messages: int = Field(
        50_000,
        ge=0,
        le=10_000_000,
        description="messages of one company that may wait in the outbox before an API key limited to companies gets "
        "429; 0: no limit",
    )
    quota_outbox_mb: int = Field(
        256,
        ge=0,
        le=1_000_000,
        description="the same, by the size of these messages without their media, in MB; 0: no limit",
    )
    quota_media_mb: int = Field(
        2048,
        ge=0,
        le=1_000_000,
        description="media that one company may have stored before an API key limited to companies gets 429, in MB; "
        "0: no limit",
    )
    disk_free_mb: int = Field(
        1024,
        ge=0,
        le=1_000_000,
        description="with less free space on the disk of the data folder, only API keys for all companies may write; "
        "0: no such floor",
    )
    allowed_addresses: str | None = Field(
        None,
        description="private networks and hosts that the media and webhooks of all companies may reach, each with or "
        "without a port, separated by commas, such as 10.1.0.0/16, 192.168.1.7:8080, crm.internal; unset: public "
        "addresses alone. HOLDFAST_WEBHOOK_URL needs no entry",
    )
    media_max_mb: int = Field(64, ge=1, le=100, description="largest medium, in MB; WhatsApp's own limits may be lower")
    media_keep_days: int = Field(
        7, ge=1, le=365, description="how long the media of messages are kept after these were sent, or came in"
    )
    webhook_url: Secret | None = Field(
        None,
        repr=False,
        pattern="^https?" + _URL,
        description="where events go of all sessions that have no webhook of their own",
    )
    webhook_secret: Secret | None = Field(
        None,
        repr=False,
        description="signs those webhooks: whsec_ and 24 to 64 bytes in base64; unset: one is made and kept in the "
        "file webhook-secret of the data folder",
    )
    events_keep_days: float = Field(
        7, ge=1, le=365, description="how long events are kept for readers that come back, and webhooks for replay"
    )
    messages_keep_days: int = Field(
        0,
        ge=0,
        le=3650,
        description="how long outbound messages are kept after they were settled (sent, failed, expired or "
        "cancelled) and last changed; 0: for ever",
    )
    inbox_keep_days: int = Field(
        0,
        ge=0,
        le=3650,
        description="how long inbound messages are kept, at least the 4 days that their webhooks may be "
        "retried; 0: for ever",
    )
    timeline_keep_days: int = Field(
        8,
        ge=8,
        le=3650,
        description="how long the history of the sessions' states is kept; diagnostics look back seven days",
    )
    quarantine_keep_days: int = Field(
        0,
        ge=0,
        le=3650,
        description="how long credentials of devices that were unlinked stay in quarantine; 0: for ever",
    )
    health_interval_s: float = Field(30, ge=1, le=300, description="time between two looks of the health monitor")
    whatsapp_url: str | None = Field(
        None, pattern="^wss?" + _URL, description="another server than WhatsApp's own, for tests"
    )
    whatsapp_version: str = Field(
        "auto",
        pattern=r"^(auto|2\.3000\.\d{10})$",
        description="client version: auto, as WhatsApp publishes it, or 2.3000.N to pin it",
    )
    whatsapp_web_url: str | None = Field(
        None,
        pattern="^https?" + _URL,
        description="where auto reads /sw.js; unset: https://web.whatsapp.com, or with another HOLDFAST_WHATSAPP_URL "
        "that server's host",
    )
    device_name: str = Field(
        "Ubuntu",
        min_length=1,
        max_length=50,
        description="name of new devices in the phone's list of linked devices; WhatsApp refuses pairing codes of some "
        "accounts to unusual ones",
    )
    keepalive_interval_s: float = Field(30, ge=5, le=300, description="time between two pings of a quiet link")
    keepalive_presence: bool = Field(
        True,
        description="also tell WhatsApp that this device is in use; the phone then shows no notifications of its own",
    )
    backoff_base_ms: int = Field(
        1000, ge=100, le=60_000, description="base of the backoff, min(base * factor ** attempts, cap)"
    )
    backoff_factor: float = Field(1.5, ge=1, le=10, description="factor of the backoff")
    backoff_cap_ms: int = Field(60_000, ge=1000, le=60_000, description="cap of the backoff, a minute at most")
    backup_every_h: float = Field(24, ge=0, le=720, description="hours between two scheduled backups; 0: none")
    backup_keep: int = Field(7, ge=1, le=365, description="how many scheduled backups are kept")
    backup_passphrase: Secret | None = Field(
        None, repr=False, description="encrypts backups with age, and opens them; unset: they are not encrypted"
    )
    backup_recipients: str | None = Field(
        None, description="encrypts backups to these public keys of age (age1…), separated by commas or spaces"
    )
    pacing_per_minute: float = Field(
        0, ge=0, le=6000, description="messages of one session, on average; 0: as many as WhatsApp takes"
    )
    pacing_burst: int = Field(50, ge=1, le=10_000, description="messages at once before that average counts")
    pacing_gap_ms: int = Field(
        0, ge=0, le=60_000, description="least time between two messages; up to as much is added by chance"
    )
    pacing_bulk_per_minute: float = Field(
        60, ge=0, le=6000, description='messages sent with priority "bulk"; 0: no limit of their own'
    )
    pacing_bulk_burst: int = Field(20, ge=1, le=10_000, description="bulk messages at once before that average counts")
    pacing_new_per_minute: float = Field(
        20, ge=0, le=6000, description="first messages to people the company has no chat with; 0: no limit of their own"
    )
    pacing_new_burst: int = Field(50, ge=1, le=10_000, description="such messages at once before that average counts")
    pacing_new_per_day: int = Field(
        250, ge=0, le=100_000, description="people written to for the first time in 24 hours; 0: no limit"
    )
    engine_hosts: int | None = Field(
        None,
        ge=1,
        le=64,
        description="engine hosts (Node processes) that sessions are spread over; each needs about 100 MB of "
        "memory and is started when a session is placed on it; unset: one for each CPU core",
    )
    engine_host_memory_mb: int = Field(
        1024,
        ge=0,
        le=65_536,
        description="an engine host with more resident memory is replaced, its sessions one by one; 0: never",
    )
    node_bin: Place | None = Field(None, description="another Node than the one that came with Holdfast")
    npm_cache: Place | None = Field(
        None, description="install Baileys from this folder, made by `holdfast fill-npm-cache`, without a registry"
    )
    log_level: str = Field("info", pattern="(?i)^(debug|info|warning|error)$", description="what is logged at least")
    url: str | None = Field(
        None,
        pattern="^https?" + _URL,
        description="the running Holdfast that commands talk to; unset: the one at host and port on this machine",
    )

    @property
    def spool_dir(self) -> Path:
        """Where media lie that an engine host sends or has fetched."""
        return (self.data_dir / "spool").absolute()

    @property
    def server_url(self) -> str:
        """Where commands find the running Holdfast."""
        return self.url if self.url is not None else self.own_url(self.port)

    @property
    def version_url(self) -> str:
        """Where the client version is read. With another server than WhatsApp's own, the real site is never asked."""
        if self.whatsapp_web_url is not None:
            return self.whatsapp_web_url
        if self.whatsapp_url is None:
            return "https://web.whatsapp.com"
        parts = urlsplit(self.whatsapp_url)
        return f"{parts.scheme.replace('ws', 'http', 1)}://{parts.netloc}"

    def own_url(self, port: int) -> str:
        """Where what listens on that port is reached from this machine."""
        host = _EVERY_ADDRESS.get(self.host, self.host)
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


_ALLOWED = {
    "database_url": "an address that begins with postgresql://",
    "whatsapp_url": "an address that begins with ws:// or wss://",
    "webhook_url": "an address that begins with http:// or https://",
    "url": "an address that begins with http:// or https://",
    "public_url": "an address that begins with http:// or https://",
    "trusted_proxies": "addresses and networks such as 127.0.0.1, 10.0.0.0/8, separated by commas",
    "log_level": "debug, info, warning or error",
}


def load(environment: Mapping[str, str] | None = None, *, file: Path = FILE) -> Settings:
    """Read the settings. Raises `BadSetting`, naming setting, value and what is allowed."""
    environment = process_environment() if environment is None else environment
    from_file = _from_file(file)
    values = {**_cache_home(environment), **from_file, **_from_environment(environment)}
    try:
        settings = Settings(**values)
    except ValidationError as error:
        in_file = from_file.keys() - _from_environment(environment).keys()
        raise BadSetting(_sentence(error, file, values, in_file)) from error
    except RuntimeError as error:  # Path.home(), Path.expanduser()
        raise BadSetting(f"{error} Set {variable('cache_dir')}, and write no ~ in settings") from error
    _check_together(settings)
    return settings


def origins(environment: Mapping[str, str] | None = None, *, file: Path = FILE) -> dict[str, str]:
    """Where each setting that is not a default came from."""
    found = dict.fromkeys(_from_file(file), str(file))
    env = process_environment() if environment is None else environment
    return found | dict.fromkeys(_from_environment(env), "environment")


def variable(name: str) -> str:
    """The environment variable of a setting: `data_dir` → `HOLDFAST_DATA_DIR`."""
    return PREFIX + name.upper()


def process_environment() -> Mapping[str, str]:
    """The environment of this process."""
    return os.environ  # noqa: TID251 – the one home


def _from_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    return {
        name.removeprefix(PREFIX).lower(): value
        for name, value in environment.items()
        if name.startswith(PREFIX) and value
    }


def _cache_home(environment: Mapping[str, str]) -> dict[str, Any]:
    base = environment.get("XDG_CACHE_HOME")
    return {"cache_dir": Path(base) / "holdfast"} if base else {}


def _from_file(file: Path) -> dict[str, Any]:
    try:
        with file.open("rb") as opened:
            return {name: value for name, value in _flat(tomllib.load(opened)) if value != ""}
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise BadSetting(f"{file} can't be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadSetting(f"{file} is not TOML: {error}") from error


def _flat(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in table.items():
        name = f"{prefix}{key}".lower()
        if isinstance(value, dict):
            yield from _flat(value, f"{name}_")
        else:
            yield name, value


def _check_together(settings: Settings) -> None:
    base, cap = settings.backoff_base_ms, settings.backoff_cap_ms
    if base > cap:
        raise BadSetting(
            f"{variable('backoff_base_ms')} is {base} and {variable('backoff_cap_ms')} is {cap}: "
            "the base may not be above the cap"
        )


# Sentences.


def _sentence(error: ValidationError, file: Path, values: Mapping[str, Any], in_file: set[str]) -> str:
    troubles = ((str(item["loc"][0]), item["type"] == "extra_forbidden") for item in error.errors())
    return "; ".join(
        _unknown(name, file if name in in_file else None)
        if unknown
        else _unusable(name, values[name], file if name in in_file else None)
        for name, unknown in troubles
    )


def _unknown(name: str, file: Path | None) -> str:
    place = f" (in {file})" if file else ""
    near = difflib.get_close_matches(name, Settings.model_fields, n=1)
    cure = f"do you mean {variable(near[0])}?" if near else "`holdfast settings` lists those there are"
    return f"{variable(name)}{place} is no setting of Holdfast: {cure}"


def _unusable(name: str, value: object, file: Path | None) -> str:
    place = f" (in {file})" if file else ""
    shown = f'"{value}"' if Settings.model_fields[name].repr else "(hidden)"
    return f"{variable(name)}{place} is {shown}: give {allowed(name)} – {Settings.model_fields[name].description}"


def allowed(name: str) -> str:
    """What a setting may be, for people: `a whole number from 0 to 65535`."""
    field = Settings.model_fields[name]
    least = next((bound.ge for bound in field.metadata if hasattr(bound, "ge")), None)
    most = next((bound.le for bound in field.metadata if hasattr(bound, "le")), None)
    if field.annotation is bool:
        return "on or off"
    if least is not None:
        return f"a {'whole ' if field.annotation is int else ''}number from {least} to {most}"
    return _ALLOWED.get(name, "a text")
