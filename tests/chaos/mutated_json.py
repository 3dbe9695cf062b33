"""Mutations of JSON: values of another type or size, members missing, duplicated or with hostile names, damaged text.

For code that reads files written by other programs. Everything is drawn from a `random.Random`, so a seed repeats it.
"""

from __future__ import annotations

import base64
import copy
import json
import random
from collections.abc import Sequence
from typing import Any

from tests.chaos.hostile import STRINGS

NUMBERS: tuple[Any, ...] = (
    0, -1, 1, 0.5, True, 2**24 - 1, 2**24, 900_001, 1_000_000_000, 2**31, 2**53, 2**63, 2**64, 10**40, 1e308, -1e308,
    float("nan"), float("inf"),
)  # fmt: skip
NAMES = ("__proto__", "constructor", "toString", "length", "then", "0", "", "type", "data")
_SIZES = (0, 1, 31, 32, 33, 64, 65, 5000, 20_000)


class JsonMutator:
    """Makes damaged variants of valid JSON."""

    def __init__(self, randomness: random.Random) -> None:
        self._random = randomness

    def text(self, honest: str, *, changes: int = 3) -> str:
        """A variant of a JSON text; one in eight is not valid JSON any more."""
        if self._random.random() < 0.125:
            return self._damaged(honest)
        return json.dumps(self.value(json.loads(honest), changes=changes))

    def value(self, honest: Any, *, changes: int = 3) -> Any:
        """A variant of a value, changed in one to `changes` places."""
        changed = copy.deepcopy(honest)
        for _ in range(self._random.randint(1, changes)):
            changed = self._changed(changed)
        return changed

    def _changed(self, value: Any) -> Any:
        """The value with one change, at any depth."""
        if not isinstance(value, dict | list) or not value or self._random.random() < 0.1:
            return self._other(value)
        at = self._random.choice(sorted(value) if isinstance(value, dict) else range(len(value)))
        match self._random.randrange(10):
            case 0:
                del value[at]
            case 1 if isinstance(value, dict):
                value[self._random.choice(NAMES)] = copy.deepcopy(value[at])
            case 1 if isinstance(value, list):
                most = 2 if isinstance(value[at], dict | list) else 2000
                value += [value[at]] * self._random.choice((1, most))
            case 2 if isinstance(value, dict):
                other = self._random.choice(sorted(value))
                value[at], value[other] = value[other], value[at]
            case _:
                value[at] = self._changed(value[at])
        return value

    def _other(self, value: Any) -> Any:
        match self._random.randrange(8):
            case 0 | 1:
                return self._random.choice(NUMBERS)
            case 2:
                return self._random.choice(STRINGS)
            case 3:
                return self._random.choice((None, [], {}, [[]], {"type": "Buffer"}, False))
            case 4 | 5:
                return self._buffer()
            case 6:
                return self._nested(self._random.choice((3, 30, 300)))
            case _:
                return self._damaged(value) if isinstance(value, str) else [value]

    def _buffer(self) -> Any:
        """Bytes as Baileys writes them, in any of its forms."""
        data = self._random.randbytes(self._random.choice(_SIZES))
        encoded = base64.b64encode(data).decode()
        forms: Sequence[Any] = (encoded, list(data[:500]), dict(enumerate(data[:40])), encoded[:-1], "!", -1)
        return {"type": "Buffer", "data": self._random.choice(forms)}

    def _nested(self, depth: int) -> Any:
        value: Any = self._random.choice(NUMBERS)
        for _ in range(depth):
            value = [value] if self._random.random() < 0.5 else {self._random.choice(NAMES): value}
        return value

    def _damaged(self, text: str) -> str:
        at = self._random.randint(0, len(text))
        match self._random.randrange(4):
            case 0:
                return text[:at]
            case 1:
                return text[:at] + self._random.choice(STRINGS) + text[at:]
            case 2:
                return text[:at] + text[at + 1 :]
            case _:
                return text + text
