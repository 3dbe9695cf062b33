"""Identifiers and randomness: the only module that creates them."""

from __future__ import annotations

import base64
import random  # noqa: TID251 – the one home
import re
import secrets
from typing import Protocol

from holdfast.base.clock import SystemClock

_COMPANY = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
COMPANY_RULE = 'give 1 to 64 letters, digits, "_" or "-", beginning with a letter or digit'
"""What a company id is, for people."""


def is_company_id(text: str) -> bool:
    """Such a word is safe in paths, headers, logs and file names."""
    return _COMPANY.fullmatch(text) is not None


def may_be_id(text: str) -> bool:
    """Whether the text has the form of an id. Some databases reject a query for a text with a NUL."""
    return text.isascii() and text.isprintable()


class RandomSource(Protocol):
    """The source of ids and jitter; tests pass one with known values."""

    def message_id(self) -> str: ...
    def whatsapp_id(self) -> str: ...
    def media_id(self) -> str: ...
    def operation_id(self) -> str: ...
    def api_key(self) -> str: ...
    def api_key_id(self) -> str: ...
    def webhook_secret(self) -> str: ...
    def secret(self) -> str:
        """43 random characters that can't be guessed."""

    def jitter(self) -> float:
        """Uniform in [0, 1)."""


class SystemRandomSource:
    def __init__(self) -> None:
        self._clock = SystemClock()

    def message_id(self) -> str:
        """An id that begins with the time: new rows are then neighbours in the index of ids.

        With random ids each row changes another page of the index, and all of them are written at the next commit.
        """
        milliseconds = int(self._clock.now().timestamp() * 1000)
        return f"msg_{milliseconds:012x}{secrets.token_hex(6)}"

    def whatsapp_id(self) -> str:
        """Twenty-two characters that begin with 3EB0, as WhatsApp Web makes them (source: Baileys, generics)."""
        return f"3EB0{secrets.token_hex(9).upper()}"

    def media_id(self) -> str:
        return f"med_{secrets.token_hex(12)}"

    def operation_id(self) -> str:
        return f"op_{secrets.token_hex(12)}"

    def api_key(self) -> str:
        return f"hf_{secrets.token_urlsafe(32)}"

    def api_key_id(self) -> str:
        return f"key_{secrets.token_hex(8)}"

    def secret(self) -> str:
        return secrets.token_urlsafe(32)

    def webhook_secret(self) -> str:
        """As Standard Webhooks has it: 32 bytes in base64 behind its prefix."""
        return f"whsec_{base64.b64encode(secrets.token_bytes(32)).decode()}"

    def jitter(self) -> float:
        return random.random()  # noqa: S311 – spreads load, guards nothing
