"""Stubs: placeholders that are stored for inbound messages that can't be stored.

WhatsApp delivers a message again until it is acknowledged. A message that the store always refuses would end every link
of its session; with a stub it can be acknowledged, and people see that there was a message.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec.structs import replace

from holdfast.session.engine import Commit, Decrypted, InboundMessage
from holdfast.session.untrusted import EMPTY_PLAINTEXT

NOT_STORED = "notStored"
"""The field in the content of a stub: `{ciphertextSha256, error}`. The engine also creates stubs, for messages that are
too long to report."""


def identities(commit: Commit) -> frozenset[str]:
    """Identifiers of the messages in a commit. They are the same when another link delivers the messages again."""
    unread = (f"{item.chat} {item.sender} {item.whatsapp_id}" for item in commit.undecryptable)
    named = (f"group {jid}" for jid in commit.groups)
    usernames = (f"username {lid}" for lid in commit.usernames)
    calls = (f"call {call.call_id} {call.kind}" for call in commit.calls)
    changes = (f"group change {change.notice_id}" for change in commit.group_changes)
    decrypted = (item.ciphertext_sha256 for item in commit.decrypted)
    return frozenset((*decrypted, *unread, *named, *usernames, *calls, *changes))


def with_stubs(commit: Commit, *, error: str) -> Commit:
    """A commit with the same keys and with stubs in place of the decrypted messages.

    Undecryptable messages, and names of groups and people, are left out, because WhatsApp delivers them again. Calls,
    changes of groups and history are left out, because there is nothing to put in their place.
    """
    return replace(
        commit,
        decrypted=[_stub(item, error) for item in commit.decrypted],
        undecryptable=[],
        groups={},
        usernames={},
        calls=[],
        group_changes=[],
        history=[],
    )


def not_stored(messages: Iterable[InboundMessage]) -> list[InboundMessage]:
    """The messages that are stubs."""
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
        message_secret=None,
        content=content,
    )
    return replace(item, plaintext=EMPTY_PLAINTEXT, message=message)
