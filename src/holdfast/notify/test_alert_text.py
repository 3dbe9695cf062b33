"""The text of alerts."""

from dataclasses import replace
from datetime import timedelta

import pytest

from holdfast.health.alerts import Alert, AlertKind
from holdfast.health.conditions import Severity
from holdfast.notify.alert_text import body, pending_alert, title
from holdfast.notify.conftest import BANNED, NOON, alert

MANY = tuple(f"c{number}" for number in range(1, 13))
REDIS = replace(
    BANNED,
    company=None,
    cause="redis-unavailable",
    severity=Severity.WARNING,
    title="Redis is unavailable",
    sentence="Redis does not answer.",
    action="check-redis",
)


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (alert(), "Holdfast: 962302 – paused (banned)"),
        (alert(AlertKind.REMINDED), "Holdfast, still: 962302 – paused (banned)"),
        (alert(AlertKind.CLEARED), "Holdfast, over: 962302 – paused (banned)"),
        (alert(condition=REDIS, companies=()), "Holdfast: Redis is unavailable"),
        (alert(companies=MANY, digest=True), "Holdfast: 12 companies – paused (banned)"),
        (alert(AlertKind.GREW, companies=MANY, digest=True), "Holdfast, more: 12 companies – paused (banned)"),
        (alert(AlertKind.REMINDED, companies=("c1",), digest=True), "Holdfast, still: 1 company – paused (banned)"),
    ],
)
def test_titles(made: Alert, words: str) -> None:
    """It names the company, the problem, and whether it is new, unchanged or over, for a lock screen."""
    assert title(made) == words


def test_the_body_has_advice_and_start_time() -> None:
    """It has everything that a person needs to act on it."""
    assert body(alert()).splitlines() == [
        "Company: 962302",
        "The session is paused because WhatsApp banned this number (406).",
        "What to do: ask for a review in WhatsApp on the company's phone, or write to WhatsApp's support.",
        "Since 2026-11-22 11:55 UTC (5 min).",
    ]


@pytest.mark.parametrize(
    ("made", "link"),
    [
        (alert(), "https://wa.example/companies/962302"),
        (alert(AlertKind.CLEARED), "https://wa.example/companies/962302"),
        (alert(companies=MANY, digest=True), "https://wa.example/"),
        (alert(condition=replace(BANNED, action="check-webhook")), "https://wa.example/webhooks"),
        (alert(condition=REDIS, companies=()), "https://wa.example/"),
    ],
)
def test_an_alert_links_to_the_page_that_shows_the_problem(made: Alert, link: str) -> None:
    """If the operator configured the URL of the dashboard."""
    assert body(made, public_url="https://wa.example/").splitlines()[-1] == link
    assert "http" not in body(made)


def test_a_problem_that_has_just_begun_has_no_duration() -> None:
    """A duration such as "0.7 s" is left out."""
    assert body(replace(alert(), since=NOON - timedelta(seconds=0.7))).splitlines()[-1] == "Since 2026-11-22 11:59 UTC."


def test_the_all_clear_has_the_duration() -> None:
    """It also names the problem, for people who read only this message."""
    assert body(alert(AlertKind.CLEARED, at=NOON + timedelta(minutes=20))).splitlines() == [
        "Company: 962302",
        "This is over. It lasted 25 min, since 2026-11-22 11:55 UTC.",
        "The last that was known: The session is paused because WhatsApp banned this number (406).",
    ]


def test_a_condition_of_the_whole_installation_names_no_company() -> None:
    """Redis concerns no single company; an advice without a text is shown by its name."""
    assert body(alert(condition=replace(REDIS, action="dance"), companies=())).splitlines()[:2] == [
        "Redis does not answer.",
        "What to do: dance.",
    ]


def test_many_companies_are_named_up_to_ten() -> None:
    """Further ones are counted."""
    lines = body(alert(companies=MANY, digest=True)).splitlines()
    assert lines[0] == "12 companies: c1, c2, c3, c4, c5, c6, c7, c8, c9, c10 and 2 more"
    assert lines[1] == "Of one of them: The session is paused because WhatsApp banned this number (406)."


def test_the_all_clear_of_many_names_who_is_left() -> None:
    """Those whose condition still holds."""
    over = alert(AlertKind.CLEARED, companies=("c1", "c2", "c3", "c4"), digest=True, remaining=("c4",))
    assert body(over).splitlines()[0] == "4 companies: c1, c2, c3, c4"
    assert body(over).splitlines()[-1] == "Not over for: c4"


def test_a_pending_alert_is_made_for_one_address() -> None:
    """With a severity, a subject that keeps order, and an id that is the same for the same alert and no other."""
    made = pending_alert(alert(), address="f00d")
    assert (made.address, made.severity, made.subject) == ("f00d", "critical", "banned 962302")
    assert made.made_at == "2026-11-22T12:00:00.000Z"
    assert pending_alert(alert(AlertKind.CLEARED), address="f00d").severity == "over"
    assert pending_alert(alert(companies=MANY, digest=True), address="f00d").subject == "banned *"
    others = [
        alert(AlertKind.CLEARED),
        alert(at=NOON + timedelta(seconds=1)),
        alert(companies=("962303",)),
        alert(digest=True),
        alert(condition=replace(BANNED, cause="zombie")),
    ]
    assert len({made.id, *(pending_alert(other, address="f00d").id for other in others)}) == 6
    assert pending_alert(alert(), address="beef").id == made.id


def test_companies_are_named_as_people_know_them() -> None:
    """By their label, in title and text; no alert has a phone number."""
    labels = {"962302": "Bakery Irbid"}
    single = alert(AlertKind.RAISED)
    assert title(single, labels).startswith("Holdfast: 962302 (Bakery Irbid) – ")
    assert body(single, labels=labels).splitlines()[0] == "Company: 962302 (Bakery Irbid)"
    many = alert(AlertKind.RAISED, companies=("962302", "962303"), digest=True)
    assert body(many, labels=labels).splitlines()[0] == "2 companies: 962302 (Bakery Irbid), 962303"
