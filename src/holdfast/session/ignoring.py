"""Messages that a company does not want in its inbox: status posts, channels, groups, messages to broadcast lists.

They are acknowledged to WhatsApp and counted, and neither stored nor reported. Their ratchet steps are stored like all
others, so that a later change of the setting loses nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping

from msgspec.structs import replace

from holdfast.base.errors import BadInput
from holdfast.session.engine import Commit, Decrypted

IGNORABLE = ("status", "channels", "groups", "broadcast")
"""The kinds of messages that can be ignored. `broadcast`: messages to a broadcast list that the account is on."""
STATUS = "status@broadcast"
"""The chat of all status posts."""
CHANNEL = "@newsletter"
GROUP = "@g.us"
_SUFFIXES = {STATUS: "status", CHANNEL: "channels", GROUP: "groups"}


def checked_ignored(kinds: Iterable[str]) -> str | None:
    """The kinds in the form in which they are stored; None for none. Raises `BadInput`."""
    wanted = set(kinds)
    for kind in sorted(wanted - set(IGNORABLE)):
        raise BadInput(f'ignore "{kind[:40]}": give any of {", ".join(IGNORABLE)}', field="ignore")
    return " ".join(kind for kind in IGNORABLE if kind in wanted) or None


def ignored_kinds(stored: str | None) -> tuple[str, ...]:
    """The kinds in a stored setting."""
    return tuple((stored or "").split())


def kind_of(chat: str, content: Mapping[str, object] | None = None) -> str | None:
    """The kind of a message that can be ignored; None for an ordinary message between two people."""
    if content is not None and content.get("broadcast") is True:
        return "broadcast"
    return next((kind for suffix, kind in _SUFFIXES.items() if chat.endswith(suffix)), None)


def without_ignored(commit: Commit, ignored: Collection[str]) -> tuple[Commit, Counter[str]]:
    """The commit without the messages of these kinds, and how many of each kind were left out."""
    if not ignored:
        return commit, Counter()
    left_out: Counter[str] = Counter()

    def is_kept(kind: str | None) -> bool:
        if kind not in ignored:
            return True
        left_out[str(kind)] += 1
        return False

    def kept(item: Decrypted) -> Decrypted:
        message = item.message
        if message is None or is_kept(kind_of(message.chat, message.content)):
            return item
        return replace(item, message=None)

    decrypted = [kept(item) for item in commit.decrypted]
    undecryptable = [item for item in commit.undecryptable if is_kept(kind_of(item.chat))]
    history = [message for message in commit.history if is_kept(kind_of(message.chat, message.content))]
    return replace(commit, decrypted=decrypted, undecryptable=undecryptable, history=history), left_out
