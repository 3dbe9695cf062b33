"""`holdfast pair`: what a person is shown from the first code to the linked session."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, cast

import pytest

from holdfast.base.clock import SystemClock
from holdfast.base.errors import BadInput
from holdfast.cli.pairing import NotPaired, PairingOutput, pair
from holdfast.client import Client, Json, Refused

PATH = "/v1/sessions/962302"
LINKED = "can't pair a phone: the session is connecting; log it out first"


def session(state: str, reason: str | None = None) -> Json:
    return {"companyId": "962302", "state": state, "reason": reason and {"code": reason, "message": reason}}


class Server:
    """Answers of a Holdfast, in the order in which they are asked for; the last one is repeated."""

    def __init__(
        self,
        *,
        sessions: Iterable[Json],
        codes: Iterable[str | Refused] = (),
        passkey: Iterable[Json | Refused] = (),
    ) -> None:
        self._passkey = list(passkey)
        self._sessions, self._codes = list(sessions), list(codes)
        self.asked: list[str] = []

    async def put(self, path: str) -> Json:
        self.asked.append(f"PUT {path}")
        return {}

    async def get(self, path: str) -> Json:
        self.asked.append(f"GET {path}")
        if path.endswith("/passkey"):
            return {"snippet": "sign()"}
        return {"qr": self._code()} if path.endswith("/qr") else _next(self._sessions)

    async def post(self, path: str, body: Json) -> Json:
        self.asked.append(f"POST {path} {body}")
        if "/passkey" in path:
            answer: Json | Refused = _next(self._passkey)
            if isinstance(answer, Refused):
                raise answer
            return answer
        return {"code": self._code()}

    def _code(self) -> str:
        code: str | Refused = _next(self._codes)
        if isinstance(code, Refused):
            raise code
        return code


def _next(answers: list[Any]) -> Any:
    return answers.pop(0) if len(answers) > 1 else answers[0]


class Patient(SystemClock):
    """Nobody waits here."""

    async def sleep(self, seconds: float) -> None:
        assert seconds > 0


async def shown(server: Server, *, phone: str | None = None, pasted: str = "") -> list[tuple[str, str]]:
    """What was printed for the person, and of which kind, until the session was connected."""
    shown_codes: list[tuple[str, str]] = []

    def tells(kind: str) -> Callable[[str], None]:
        return lambda text: shown_codes.append((kind, text))

    async def sign(snippet: str) -> str:
        shown_codes.append(("passkey", snippet))
        return pasted

    async def compare(code: str) -> bool:
        shown_codes.append(("compare", code))
        return True

    output = PairingOutput(qr=tells("qr"), code=tells("code"), problem=tells("problem"), passkey=sign, compare=compare)
    await pair(cast(Client, server), PATH, phone=phone, output=output, clock=Patient())
    return shown_codes


async def test_each_new_code_is_drawn_once_until_the_phone_has_scanned() -> None:
    """A code that is still valid is not drawn again; after the scan no further code is requested."""
    server = Server(
        sessions=[*[session("pairing")] * 4, session("connecting"), session("connected")], codes=["a", "a", "b", "b"]
    )
    assert await shown(server) == [("qr", "a"), ("qr", "b")]
    assert server.asked[0] == f"PUT {PATH}"
    assert server.asked.count(f"GET {PATH}/qr") == 4


async def test_a_phone_that_is_quicker_than_the_question_is_no_error() -> None:
    """The phone scanned between two requests: the server refuses another code, and the command succeeds."""
    server = Server(
        sessions=[session("pairing"), session("connecting"), session("connecting"), session("connected")],
        codes=[Refused(409, LINKED)],
    )
    assert await shown(server) == []


@pytest.mark.parametrize("state", ["unpaired", "logged_out", "stopped"])
async def test_a_session_without_a_link_gets_a_code(state: str) -> None:
    """A logged-out session can be paired: the request for a code starts it."""
    server = Server(sessions=[session(state), session("connected")], codes=["a"])
    assert await shown(server) == [("qr", "a")]


async def test_a_linked_session_needs_no_code() -> None:
    """The command only waits until it is connected."""
    server = Server(sessions=[session("reconnecting"), session("connected")])
    assert await shown(server) == []


async def test_an_error_is_printed_once_while_there_is_no_code() -> None:
    """While WhatsApp can't be reached, the error with its reason is printed once; later the code is printed."""
    none = Refused(409, "WhatsApp showed no QR code in time: the session is pairing; try again")
    server = Server(
        sessions=[*[session("pairing", "WhatsApp could not be reached")] * 5, session("connected")],
        codes=[none, none, "a"],
    )
    assert await shown(server) == [("problem", f"{none.sentence} (WhatsApp could not be reached)"), ("qr", "a")]


async def test_a_paused_session_is_not_waited_for() -> None:
    """A ban doesn't end by scanning: the command prints the reason and exits."""
    server = Server(sessions=[session("paused", "WhatsApp banned this number")])
    with pytest.raises(NotPaired, match="company 962302 is linked, but paused: WhatsApp banned this number"):
        await shown(server)


async def test_another_refusal_is_an_answer() -> None:
    """The server's error is printed unchanged."""
    with pytest.raises(Refused, match="wrong key"):
        await shown(Server(sessions=[session("pairing")], codes=[Refused(401, "wrong key")]), phone="962790000001")


async def test_a_number_that_cannot_be_used_leaves_no_session_behind() -> None:
    """The number is refused before any request is sent."""
    server = Server(sessions=[session("pairing")])
    with pytest.raises(BadInput, match='--phone "12" is not a phone number'):
        await shown(server, phone="12")
    assert server.asked == []


async def test_a_pairing_code_is_requested_once_per_link() -> None:
    """Typing takes a while: no new code is requested until the first one has expired."""
    server = Server(
        sessions=[*[session("pairing")] * 3, session("unpaired"), session("pairing"), session("connected")],
        codes=["AAAA", "BBBB"],
    )
    assert await shown(server, phone="962790000001") == [("code", "AAAA"), ("code", "BBBB")]
    assert f"POST {PATH}/pairing-code {{'phoneNumber': '962790000001'}}" in server.asked


ASKED = session("pairing", "passkey-required")


async def test_an_account_with_a_passkey_is_signed_for() -> None:
    """The snippet is printed once, the pasted answer is sent, and codes are compared if WhatsApp requires it."""
    server = Server(
        sessions=[ASKED, ASKED, session("connected")],
        passkey=[{"step": "confirm", "code": "G7R3-N352"}, {"step": "finishing"}],
    )
    assert await shown(server, pasted='{"id": "a"}') == [("passkey", "sign()"), ("compare", "G7R3-N352")]
    posts = [asked for asked in server.asked if asked.startswith("POST")]
    assert posts == [f"POST {PATH}/passkey {{'id': 'a'}}", f"POST {PATH}/passkey/confirm {{'matches': True}}"]


async def test_a_passkey_may_be_signed_for_elsewhere() -> None:
    """If nothing is pasted, the command waits for the session and requests no QR code in the meantime."""
    server = Server(sessions=[ASKED, ASKED, session("connected")])
    assert await shown(server) == [("passkey", "sign()")]
    assert not [asked for asked in server.asked if asked.startswith("POST") or asked.endswith("/qr")]


@pytest.mark.parametrize(
    ("pasted", "answers", "problem"),
    [
        ("not json", [], "This is not what the console shows"),
        ("{}", [Refused(422, "WhatsApp did not accept this signature")], "WhatsApp did not accept this signature"),
    ],
)
async def test_the_reason_is_printed_when_a_signature_does_not_link(
    pasted: str, answers: list[Json | Refused], problem: str
) -> None:
    """The reason is printed; the next code is shown when the session provides one."""
    server = Server(sessions=[ASKED, session("unpaired"), session("connected")], codes=["a"], passkey=answers)
    shown_codes = await shown(server, pasted=pasted)
    assert [kind for kind, _ in shown_codes] == ["passkey", "problem", "qr"]
    assert problem in shown_codes[1][1]
