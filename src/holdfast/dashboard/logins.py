"""Who is signed in: an API key once, then a signed cookie. A key is never kept, shown or logged.

The cookie names the key by a keyed hash, so a key that is taken away ends its sessions, and the time at which it was
last used, so a forgotten one ends by itself. It is signed with a secret in the data folder and outlives a restart.
What is signed out is remembered by this process until the cookie would have ended anyway.
"""

from __future__ import annotations

import hashlib
import hmac
from collections import deque
from dataclasses import dataclass
from pathlib import Path

from holdfast.base.clock import Clock
from holdfast.base.errors import Fault, HoldfastError
from holdfast.base.ids import RandomSource
from holdfast.base.private import kept_private
from holdfast.dashboard.ports import CompanyGrant, KeyLookup

COOKIE = "holdfast_session"
IDLE_S = 12 * 3600
"""An unused session ends after this."""
RENEW_S = 300
"""A cookie older than this is replaced by a fresh one at the next page."""
FILE = "dashboard-secret"
"""In the data folder."""

_MOST_TRIES = 10
_TRIES_WITHIN_S = 60
_MOST_ADDRESSES = 1000


class TooManyTries(HoldfastError):
    """This address gave too many wrong keys."""

    code = "too-many-tries"
    fault = Fault.CALLER


class WrongKey(HoldfastError):
    """No such key."""

    code = "unauthorized"
    fault = Fault.CALLER


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """Somebody who is signed in."""

    id: str
    mark: str
    """Of the key."""
    grant: CompanyGrant
    used_at: int
    """Seconds of the epoch, of the cookie."""


class Logins:
    def __init__(self, keys: KeyLookup, *, secret: bytes, clock: Clock, randomness: RandomSource) -> None:
        self._keys = keys
        self._secret = secret
        self._clock = clock
        self._randomness = randomness
        self._ended: dict[str, int] = {}
        self._tries = Tries(clock)

    def sign_in(self, key: str, *, address: str) -> str:
        """The value of a fresh cookie. Raises `WrongKey` and `TooManyTries`."""
        self._tries.check(address)
        try:
            digest, _ = self._keys.entry(key.strip())
        except HoldfastError as error:
            self._tries.failed(address)
            raise WrongKey("this is no API key of this Holdfast: see HOLDFAST_API_KEY, or the file api-key") from error
        return self._cookie(self._randomness.secret(), self._mark(digest))

    def read(self, cookie: str | None) -> Login | None:
        """Who sent this cookie; None when nobody is signed in by it."""
        parts = (cookie or "").split(".")
        if len(parts) != 4:
            return None
        login_id, mark, used_at, signature = parts
        if not hmac.compare_digest(signature.encode(), self._sign("login", login_id, mark, used_at).encode()):
            return None
        grant = self._grants().get(mark)
        is_over = login_id in self._ended or int(used_at) < self._now() - IDLE_S
        return None if grant is None or is_over else Login(id=login_id, mark=mark, grant=grant, used_at=int(used_at))

    def renewed(self, login: Login) -> str | None:
        """A fresh cookie for one that is no longer fresh."""
        return self._cookie(login.id, login.mark) if login.used_at < self._now() - RENEW_S else None

    def sign_out(self, login: Login) -> None:
        now = self._now()
        self._ended = {known: at for known, at in self._ended.items() if at > now - IDLE_S}
        self._ended[login.id] = now

    def is_signed_out(self, login: Login) -> bool:
        """Has it been signed out since it was read? For what outlives a request."""
        return login.id in self._ended

    def form_token(self, login: Login) -> str:
        """What every form of this session carries, and no other site can know."""
        return self._sign("form", login.id)

    def is_form_token(self, login: Login, token: str) -> bool:
        return hmac.compare_digest(self.form_token(login).encode(), token.encode())

    def _cookie(self, login_id: str, mark: str) -> str:
        used_at = str(self._now())
        return f"{login_id}.{mark}.{used_at}.{self._sign('login', login_id, mark, used_at)}"

    def _grants(self) -> dict[str, CompanyGrant]:
        return {self._mark(digest): grant for digest, grant in self._keys.grants}

    def _mark(self, digest: bytes) -> str:
        return self._sign("key", digest.hex())

    def _sign(self, *words: str) -> str:
        return hmac.new(self._secret, ".".join(words).encode(), hashlib.sha256).hexdigest()

    def _now(self) -> int:
        return int(self._clock.now().timestamp())


class Tries:
    """Wrong keys by address, forgotten after a minute. Guessing is hopeless; this keeps it quiet as well."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._failed: dict[str, deque[float]] = {}

    def check(self, address: str) -> None:
        """Raises `TooManyTries`."""
        now = self._clock.monotonic()
        tries = self._failed.get(address, deque())
        while tries and tries[0] <= now - _TRIES_WITHIN_S:
            tries.popleft()
        if len(tries) >= _MOST_TRIES:
            wait_s = int(tries[0] + _TRIES_WITHIN_S - now) + 1
            raise TooManyTries(f"{len(tries)} wrong keys came from your address within a minute: wait {wait_s} s")

    def failed(self, address: str) -> None:
        tries = self._failed.pop(address, deque(maxlen=_MOST_TRIES))
        tries.append(self._clock.monotonic())
        self._failed[address] = tries
        if len(self._failed) > _MOST_ADDRESSES:
            del self._failed[next(iter(self._failed))]


def kept_secret(data_dir: Path, randomness: RandomSource) -> bytes:
    """The secret of this data folder, made at the first start, for its owner only. Raises `Misconfigured`."""
    return kept_private(data_dir / FILE, randomness.secret, what="the dashboard's secret").encode()
