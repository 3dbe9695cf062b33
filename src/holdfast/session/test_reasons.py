"""The meaning of each close code, by literal values."""

import pytest

from holdfast.session import reasons
from holdfast.session.engine import (
    BAD_CREDENTIALS,
    PROXY_LOGIN,
    PROXY_REFUSED,
    PROXY_TIMEOUT,
    PROXY_TLS,
    PROXY_UNREACHABLE,
)
from holdfast.session.reasons import (
    BY_CODE,
    DEVICE_REMOVED,
    OWN,
    QR_EXPIRED,
    Action,
    Reason,
    SessionReaction,
    current_name,
    reason_of,
    stored_reason,
)

EVERY = (*BY_CODE.values(), DEVICE_REMOVED, *OWN, reason_of(418, {}), reason_of(403, {}, "WebSocket Error (x)"))


@pytest.mark.parametrize(
    ("code", "name", "reaction", "action"),
    [
        (515, "restart-required", "restart", "wait"),
        (428, "transport-closed", "backoff", "wait"),
        (408, "link-lost", "backoff", "check-network"),
        (503, "server-unavailable", "backoff", "wait"),
        (500, "server-error", "backoff", "wait"),
        (429, "rate-limited", "long-backoff", "wait"),
        (440, "replaced", "replaced", "stop-other-connection"),
        (401, "logged-out", "confirm-logout", "scan-qr"),
        (516, "unlinked", "logged-out", "scan-qr"),
        (403, "account-locked", "stop", "check-phone"),
        (406, "banned", "stop", "contact-whatsapp"),
        (402, "temporarily-banned", "pause-until", "wait"),
        (405, "client-outdated", "probe", "update"),
        (409, "bad-user-agent", "probe", "update"),
        (411, "no-multidevice", "stop", "check-phone"),
    ],
)
def test_known_codes(code: int, name: str, reaction: str, action: str) -> None:
    """Every code of the protocol document has its name, its reaction and its action for people."""
    reason = reason_of(code, {})
    assert (reason.code, reason.name, reason.reaction, reason.action) == (code, name, reaction, action)


def test_credentials_that_holdfast_itself_refused_stop_the_session() -> None:
    """No attempt is made, because none would change what is stored."""
    reason = reason_of(BAD_CREDENTIALS, {}, "have nextPreKeyId -1")
    assert (reason.name, reason.code, reason.reaction) == ("bad-credentials", None, SessionReaction.STOP)


@pytest.mark.parametrize(
    ("code", "name"),
    [
        (PROXY_UNREACHABLE, "proxy-unreachable"),
        (PROXY_LOGIN, "proxy-login-refused"),
        (PROXY_REFUSED, "proxy-refused"),
        (PROXY_TIMEOUT, "proxy-timeout"),
        (PROXY_TLS, "proxy-tls-failed"),
    ],
)
def test_proxy_problems_are_network_problems_and_retried(code: int, name: str) -> None:
    """It is named as a proxy problem and not blamed on the session; the stored name gives the same reason."""
    reason = reason_of(code, {}, "proxy 127.0.0.1:3128: connect ECONNREFUSED")
    assert (reason.name, reason.fault, reason.reaction) == (name, "network", SessionReaction.BACKOFF)
    assert stored_reason(name, reason.code) is reason


@pytest.mark.parametrize("code", [400, 415, 418, 501, 413, 0, -9, 99_999])
def test_unknown_codes_keep_the_raw_number(code: int) -> None:
    """An unknown code is probed slowly, and its number is kept and shown."""
    reason = reason_of(code, {})
    assert (reason.name, reason.code, reason.reaction) == ("unknown", code, SessionReaction.PROBE)
    assert str(code) in reason.sentence


@pytest.mark.parametrize("code", [401, 440])
def test_device_removed_is_an_unlinking(code: int) -> None:
    """A conflict of type device_removed needs no confirmation, whatever code Baileys derived from it."""
    assert reason_of(code, {"type": "device_removed"}) is DEVICE_REMOVED
    assert DEVICE_REMOVED.reaction is SessionReaction.LOGGED_OUT


def test_device_removed_counts_only_for_a_conflict() -> None:
    """With that attribute, any other code keeps its own meaning."""
    assert reason_of(503, {"type": "device_removed"}).name == "server-unavailable"


def test_409_has_two_meanings() -> None:
    """409 is a bad user agent, unless WhatsApp says that the connection was replaced."""
    assert reason_of(409, {"type": "replaced"}).name == "replaced"
    assert reason_of(409, {"reason": "409"}).name == "bad-user-agent"


def test_408_has_two_meanings() -> None:
    """408 is a lost link, unless Baileys says that the QR codes are used up."""
    assert reason_of(408, {}, "QR refs attempts ended") is QR_EXPIRED
    assert reason_of(408, {}, "Connection was lost").name == "link-lost"
    assert reason_of(408, {}, "WebSocket Error (connect ECONNREFUSED 127.0.0.1:9)").name == "link-lost"


@pytest.mark.parametrize("status", [400, 401, 402, 403, 405, 406, 407, 409, 411, 440, 500, 502, 515, 516])
def test_http_status_is_not_whatsapps_word(status: int) -> None:
    """A proxy's answer to the WebSocket upgrade never logs out, bans or pauses a session: it is the network."""
    reason = reason_of(status, {}, f"WebSocket Error (Unexpected server response: {status})")
    assert (reason.name, reason.code, reason.reaction) == ("connect-failed", status, SessionReaction.BACKOFF)
    assert reason.action is Action.CHECK_NETWORK


@pytest.mark.parametrize(("status", "name"), [(429, "rate-limited"), (503, "server-unavailable")])
def test_http_status_that_says_wait(status: int, name: str) -> None:
    """WhatsApp's own edge servers may refuse the upgrade under load: those two codes keep their meaning."""
    assert reason_of(status, {}, f"WebSocket Error (Unexpected server response: {status})").name == name


@pytest.mark.parametrize("reason", EVERY, ids=lambda reason: f"{reason.name}-{reason.code}")
def test_stored_reason_comes_back(reason: Reason) -> None:
    """Name and code, as they are stored, give the same reason again."""
    assert stored_reason(reason.name, reason.code) == reason


@pytest.mark.parametrize("before", ["asked", "logout-asked", "not-kept", "not-opened", "waits-turn", "fleet-held"])
def test_a_name_that_an_earlier_version_stored_is_known(before: str) -> None:
    """It is read as the current name, which the table of reasons has."""
    assert current_name(before) in {reason.name for reason in EVERY}
    assert current_name("banned") == "banned"


def test_stored_reason_without_its_code() -> None:
    """A known name with a foreign code is still that reason; an unknown name becomes unknown, not an error."""
    assert stored_reason("banned", None).code == 406
    assert stored_reason("from-another-version", 7).name == "unknown"


@pytest.mark.parametrize("reason", EVERY, ids=lambda reason: f"{reason.name}-{reason.code}")
def test_sentences_fit_into_others(reason: Reason) -> None:
    """Sentences complete "not connected because …": no full stop, no capital but a name's, no stray spaces."""
    assert reason.sentence.strip(" .") == reason.sentence
    assert reason.sentence.startswith(("WhatsApp", "Holdfast")) or reason.sentence[0].islower()
    assert reason.fault in {
        "nobody",
        "network",
        "whatsapp",
        "operator",
        "phone",
        "engine",
        "holdfast",
        "person",
        "unknown",
    }


def test_names_are_stable_words() -> None:
    """Names are unique and in kebab-case; only the two ways of being unlinked share one."""
    names = [reason.name for reason in EVERY]
    assert sorted(name for name in names if names.count(name) > 1) == ["unlinked", "unlinked"]
    assert all(name.replace("-", "").isalpha() and name.islower() for name in names)


def test_nothing_deletes_credentials() -> None:
    """Only a logout quarantines credentials: no reaction to a ban, a lock, a timeout or an unknown code does."""
    by_reaction = {
        reason.name
        for reason in EVERY
        if reason.reaction in {SessionReaction.LOGGED_OUT, SessionReaction.CONFIRM_LOGOUT}
    }
    assert by_reaction == {"logged-out", "unlinked", "logout-requested"}


def test_own_reasons_have_no_code_of_whatsapps() -> None:
    """Holdfast's own findings carry no number, except the 408 of used-up QR codes."""
    assert [reason.name for reason in reasons.OWN if reason.code is not None] == ["qr-expired"]
