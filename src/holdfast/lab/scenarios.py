"""The scenarios: each is a list of times and faults. Only values; `runner.py` executes them.

Moments are for a minute, and move with its length; how long a fault lasts does not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

ALL = ("962302", "962303")
FIRST, SECOND = ALL[:1], ALL[1:]

USUAL_S = 60
"""The length that the moments are for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One injected fault. Faults have wasim's names (docs/wasim.md)."""

    at_s: float
    kind: str
    targets: tuple[str, ...]
    """Companies; all of them for what concerns the whole server."""
    lasts_s: float = 0
    """How long no client can connect or stay connected. The time to reconnect is measured from the end of it."""
    severs: bool = True
    """Does it end links? If not, no link may be lost."""
    details: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    name: str
    sentence: str
    steps: tuple[Step, ...]
    settings: Mapping[str, str] = field(default_factory=dict)
    """Settings of this Holdfast that differ from the usual ones."""


def _cut(at_s: float, targets: tuple[str, ...], **details: object) -> Step:
    return Step(at_s=at_s, kind="cut", targets=targets, details=details)


def _restart(at_s: float, down_s: float) -> Step:
    return Step(at_s=at_s, kind="restart", targets=ALL, lasts_s=down_s, details={"downS": down_s})


def _freeze(at_s: float, targets: tuple[str, ...]) -> Step:
    return Step(at_s=at_s, kind="freeze", targets=targets)


def _fault(at_s: float, kind: str, targets: tuple[str, ...], lasts_s: float, **details: object) -> Step:
    return Step(at_s=at_s, kind=kind, targets=targets, lasts_s=lasts_s, severs=False, details=details)


_SCENARIOS = (
    Scenario(
        name="demo",
        sentence="a bit of everything: the server restarts, links are cut and frozen",
        steps=(
            _restart(4, 2),
            _cut(11, FIRST),
            _cut(16, SECOND),
            _freeze(22, FIRST),
            _freeze(30, SECOND),
            _cut(39, FIRST),
            _cut(44, SECOND),
        ),
    ),
    Scenario(
        name="calm",
        sentence="nothing is broken: not one link may be lost",
        steps=(),
    ),
    Scenario(
        name="cuts",
        sentence="links end every few seconds: reset, ended, closed",
        steps=(
            _cut(5, FIRST, how="rst"),
            _cut(10, SECOND, how="fin"),
            _cut(15, FIRST, how="close", closeCode=1000),
            _cut(20, SECOND, how="close", closeCode=1011),
            _cut(30, FIRST, how="fin"),
            _cut(40, SECOND, how="rst"),
        ),
    ),
    Scenario(
        name="freeze",
        sentence="links stay open but carry no data, as behind a router that dropped the connection",
        steps=(_freeze(5, FIRST), _freeze(20, SECOND), _freeze(35, FIRST)),
    ),
    Scenario(
        name="acks",
        sentence="WhatsApp answers late, twice, or not until later; no link may be lost",
        steps=(
            _fault(5, "delay-acks", FIRST, 8, ms=1000),
            _fault(16, "double-acks", SECOND, 8),
            _fault(28, "withhold-acks", FIRST, 6, release=True),
        ),
    ),
    Scenario(
        name="restart",
        sentence="the server goes away for 2 seconds and for 4, with everybody connected",
        steps=(_restart(5, 2), _restart(30, 4)),
    ),
    Scenario(
        name="refused",
        sentence="links are cut, and the next logins are refused with 503; then HTTP itself says 503",
        steps=(
            Step(at_s=5, kind="failure", targets=FIRST, details={"reason": 503, "count": 2}),
            Step(at_s=20, kind="failure", targets=SECOND, details={"reason": 503, "count": 2}),
            Step(at_s=35, kind="refuse", targets=ALL, lasts_s=4, details={"status": 503}),
        ),
    ),
    Scenario(
        name="flapping",
        sentence="every link dies a second after its login, for a while",
        steps=(
            Step(at_s=5, kind="flap", targets=FIRST, lasts_s=6, details={"afterMs": 1000}),
            Step(at_s=30, kind="flap", targets=SECOND, lasts_s=6, details={"afterMs": 1000}),
        ),
    ),
    Scenario(
        name="redis-less",
        sentence="a Redis is set and never answers, while links are cut and the server restarts",
        steps=(_cut(6, FIRST), _restart(15, 2), _cut(30, SECOND)),
        settings={"HOLDFAST_REDIS_URL": "redis://127.0.0.1:9/0"},
    ),
)

SCENARIOS = MappingProxyType({scenario.name: scenario for scenario in _SCENARIOS})
