"""Polls and their votes. A vote is encrypted with the poll's secret, so that only members of the chat can read it."""

# ruff: noqa: RUF009 – a field specification is immutable

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from wasim.wire.attachments import ContextInfo, MessageKey
from wasim.wire.errors import WireError
from wasim.wire.protobuf import decode, encode, optional, repeated, unknown_fields

IV_BYTES = 12
SECRET_BYTES = 32
_USE = b"Poll Vote"


@dataclass(frozen=True, slots=True, kw_only=True)
class PollOption:
    name: str | None = optional(1, "string")


@dataclass(frozen=True, slots=True, kw_only=True)
class Poll:
    """PollCreationMessage."""

    key: bytes | None = optional(1, "bytes")
    name: str | None = optional(2, "string")
    options: tuple[PollOption, ...] = repeated(3, lambda: PollOption)
    selectable: int | None = optional(4, "uint")
    """How many options a person may choose; 0: any number."""
    context: ContextInfo | None = optional(5, lambda: ContextInfo)
    unknown_fields: bytes = unknown_fields()

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(option.name or "" for option in self.options)


@dataclass(frozen=True, slots=True, kw_only=True)
class EncryptedVote:
    """PollEncValue."""

    payload: bytes | None = optional(1, "bytes")
    iv: bytes | None = optional(2, "bytes")


@dataclass(frozen=True, slots=True, kw_only=True)
class PollUpdate:
    key: MessageKey | None = optional(1, lambda: MessageKey)
    vote: EncryptedVote | None = optional(2, lambda: EncryptedVote)
    timestamp_ms: int | None = optional(4, "uint")


@dataclass(frozen=True, slots=True, kw_only=True)
class PollVote:
    """PollVoteMessage: the hashes of the chosen options."""

    chosen: tuple[bytes, ...] = repeated(1, "bytes")


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageContext:
    """MessageContextInfo."""

    secret: bytes | None = optional(3, "bytes")
    unknown_fields: bytes = unknown_fields()


@dataclass(frozen=True, slots=True, kw_only=True)
class VoteKey:
    """The inputs of the key of a vote."""

    secret: bytes
    """The secret of the poll."""
    poll: str
    """The poll's message id."""
    creator: str
    """The address of the poll's author, without device."""
    voter: str

    def _cipher(self) -> AESGCM:
        extracted = hmac.digest(bytes(32), self.secret, hashlib.sha256)
        names = self.poll.encode() + self.creator.encode() + self.voter.encode()
        return AESGCM(hmac.digest(extracted, names + _USE + b"\x01", hashlib.sha256))

    def encrypt(self, options: Iterable[str], *, iv: bytes) -> EncryptedVote:
        """A vote for these options."""
        vote = encode(PollVote(chosen=tuple(_hash(option) for option in options)))
        return EncryptedVote(payload=self._cipher().encrypt(iv, vote, self._voter), iv=iv)

    def decrypt(self, vote: EncryptedVote, options: Iterable[str]) -> tuple[str, ...]:
        """The options that were chosen. Raises WireError when the vote was encrypted with another key."""
        try:
            plain = self._cipher().decrypt(vote.iv or b"", vote.payload or b"", self._voter)
        except (InvalidTag, ValueError) as error:
            raise WireError("the vote does not decrypt") from error
        chosen = decode(PollVote, plain).chosen
        return tuple(option for option in options if _hash(option) in chosen)

    @property
    def _voter(self) -> bytes:
        return f"{self.poll}\0{self.voter}".encode()


def _hash(option: str) -> bytes:
    return hashlib.sha256(option.encode()).digest()
