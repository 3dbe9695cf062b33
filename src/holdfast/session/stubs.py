"""Stubs: what is stored in place of an inbound message that can't be stored.

WhatsApp delivers a message again until it is acknowledged. One that the store refuses each time would end every link of
its session; a stub lets it be acknowledged, and says that there was a message.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec.structs import replace

from holdfast.session.engine import Commit, Decrypted, InboundMessage
from holdfast.session.untrusted import EMPTY_PLAINTEXT

NOT_STORED = "notStored"
"""In the content of a stub: `{ciphertextSha256, error}`. The engine makes stubs too, of what is too long to report."""


def identities(commit: Commit) -> frozenset[str]:
    """What tells that two commits hold the same messages from WhatsApp, also on different links."""
    unread = (f"{item.chat} {item.sender} {item.whatsapp_id}" for item in commit.undecryptable)
    named = (f"group {jid}" for jid in commit.groups)
    return frozenset((*(item.ciphertext_sha256 for item in commit.decrypted), *unread, *named))


def with_stubs(commit: Commit, *, error: str) -> Commit:
    """The same keys, with stubs for what was decrypted.

    What can't be read anyway is left out, for it comes again; so are names of groups.
    """
    return replace(commit, decrypted=[_stub(item, error) for item in commit.decrypted], undecryptable=[], groups={})


def not_stored(messages: Iterable[InboundMessage]) -> list[InboundMessage]:
    """Those that are stubs."""
    return [message for message in messages if NOT_STORED in message.content]


def _stub(item: Decrypted, error: str) -> Decrypted:
    content: dict[str, object] = {NOT_STORED: {"ciphertextSha256": item.ciphertext_sha256, "error": error}}
    message = item.message and replace(
        item.message,
        type="unknown",
        text=None,
        push_name=None,
        target=None,
        media=None,
        media_keys=None,
        content=content,
    )
    return replace(item, plaintext=EMPTY_PLAINTEXT, message=message)
