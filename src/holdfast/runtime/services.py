"""The services that all sessions of a gateway share."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from holdfast.base.clock import Clock, ClockWatch
from holdfast.base.ids import RandomSource
from holdfast.delivery.calls import Calls
from holdfast.delivery.chats import Chats
from holdfast.delivery.rate_limits import Pacing
from holdfast.delivery.stores import Accounts, MediaFiles, Outbox
from holdfast.runtime.client_versions import ClientVersions
from holdfast.runtime.connect_limiter import ConnectLimiter
from holdfast.runtime.contact_presence import EventLog
from holdfast.runtime.engine_supervisor import EngineSupervisor
from holdfast.runtime.ownership import Ownership
from holdfast.runtime.rate_limiter import SendShares
from holdfast.session.state import Policy
from holdfast.session.stores import EngineStore, LiveState, Operations, Sessions, Timeline


async def _unrestricted(_: str) -> None:
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """The services that all sessions of a gateway share."""

    supervisor: EngineSupervisor
    connect_limiter: ConnectLimiter
    shares: SendShares
    sessions: Sessions
    timeline: Timeline
    live: LiveState
    store: EngineStore
    outbox: Outbox
    operations: Operations
    chats: Chats
    calls: Calls
    event_log: EventLog
    accounts: Accounts
    files: MediaFiles
    clock: Clock
    clock_watch: ClockWatch
    randomness: RandomSource
    policy: Policy
    whatsapp_url: str | None
    """Server to connect to; None: WhatsApp's own."""
    client_versions: ClientVersions | None = None
    """Chooses the client version; None: the engine's own is used."""
    device_name: str | None = None
    """Device name of sessions that don't set one."""
    proxy_url: str | None = field(default=None, repr=False)
    """Proxy of sessions that have none of their own."""
    proxy_addresses: Callable[[str], Awaitable[Sequence[str] | None]] = _unrestricted
    """The IP addresses at which a session's own proxy may be reached; None: any. Raises `NotReached`."""
    pacing: Pacing = field(default_factory=Pacing)
    """Pacing of companies without settings of their own."""
    node: str | None = None
    """The name of this process in a cluster."""
    ownership: Ownership | None = None
    """None: this process does not share the database, and runs all sessions."""
    wake_owner: Callable[[str], None] = lambda company: None
    """Called with a company whose session another process may run, when work for it was stored."""
    qr_shown: Callable[[str, str], None] = lambda company, code: None
    """Called with company and QR code whenever a new one is shown."""
