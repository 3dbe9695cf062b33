"""How many messages each session may have in flight, so that a burst of one company does not delay the others.

Engine hosts, this process and the store are shared. A session that sends alone uses all of them; as soon as others
send, each gets a share, and what a message of theirs finds ahead of it in those queues is short.
"""

from __future__ import annotations

from holdfast.base.clock import Clock

MOST, LEAST = 20, 4
"""Messages in flight of a session that sends alone, and of one among many."""
_ACTIVE_S = 1.0
"""A session counts as sending for so long after its last message."""


class SendShares:
    def __init__(self, *, clock: Clock) -> None:
        self._clock = clock
        self._sent_at: dict[str, float] = {}

    def sends(self, company: str) -> None:
        """This company sends a message now."""
        self._sent_at[company] = self._clock.monotonic()

    def share(self, company: str) -> int:
        """How many messages it may have in flight now."""
        since = self._clock.monotonic() - _ACTIVE_S
        self._sent_at = {name: at for name, at in self._sent_at.items() if at >= since}
        others = len(self._sent_at.keys() - {company})
        return max(MOST // (1 + others), LEAST)
