"""The passkey ceremony through the bridge, with real Baileys against wasim."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from holdfast.session.assertions import LONGEST, checked
from holdfast.session.engine import (
    AnswerPasskey,
    AskPairingCode,
    Commit,
    ConfirmPasskey,
    CutLink,
    LinkClosed,
    OpenLink,
    Paired,
    PairingCodeShown,
    PasskeyContinued,
    PasskeyFailed,
    PasskeyRequested,
    QrShown,
)
from tests.doubles.authenticator import Authenticator
from tests.doubles.engine_recorder import Recorder
from tests.integration.conftest import Party, StartHost
from tests.processes import Wasim

pytestmark = pytest.mark.slow
NUMBER = "962700000001"
DAMAGES: tuple[dict[str, str], ...] = (
    {"signature": "AAAA"},
    {"signature": "A" * LONGEST},
    {"userHandle": "A" * LONGEST, "signature": "_-" * 40},
)


@pytest.fixture
async def party(start_host: StartHost, wasim: Wasim) -> AsyncIterator[Party]:
    """An unlinked session whose phone has a passkey."""
    recorder = Recorder()
    async with start_host(recorder) as host:
        yield Party(NUMBER, first_link=1, host=host, recorder=recorder, wasim=wasim)


@pytest.fixture
async def owner(wasim: Wasim) -> Authenticator:
    authenticator = Authenticator()
    await wasim.post("/phones", {"number": NUMBER})
    await wasim.post(f"/phones/{NUMBER}/passkey", authenticator.passkey)
    return authenticator


def show_code(party: Party) -> None:
    party.host.command(OpenLink(link=party.link, company=NUMBER, credentials=None, url=party.wasim.url))


async def scan(party: Party) -> PasskeyRequested:
    """Show a QR code, scan it, and get the challenge."""
    show_code(party)
    shown = await party.recorder.wait(QrShown, party.link)
    answer = await party.wasim.post(f"/phones/{NUMBER}/scan", {"qr": shown.qr})
    assert answer == {"passkey": "required"}
    return await party.recorder.wait(PasskeyRequested, party.link)


async def test_a_signed_challenge_links_the_device_after_a_qr_code(party: Party, owner: Authenticator) -> None:
    """No code has to be compared while the handoff proof is fresh; the new secret is committed, and the device
    logs in.
    """
    asked = await scan(party)
    party.host.command(AnswerPasskey(link=party.link, assertion=owner.sign(asked.options)))
    went_on = await party.recorder.wait(PasskeyContinued, party.link)
    assert not went_on.confirm
    await party.recorder.wait(Paired, party.link)
    assert (await party.recorder.wait(LinkClosed, party.link)).code == 515
    await party.log_in()


async def test_a_signed_challenge_links_the_device_after_a_pairing_code(party: Party, owner: Authenticator) -> None:
    """The same challenge, after a code was typed on the phone."""
    show_code(party)
    await party.recorder.wait(QrShown, party.link)
    party.host.command(AskPairingCode(link=party.link, request=1, phone=NUMBER))
    shown = await party.recorder.wait(PairingCodeShown, party.link)
    assert await party.wasim.post(f"/phones/{NUMBER}/code", {"code": shown.code}) == {"passkey": "required"}
    asked = await party.recorder.wait(PasskeyRequested, party.link)
    party.host.command(AnswerPasskey(link=party.link, assertion=owner.sign(asked.options)))
    await party.recorder.wait(Paired, party.link)
    await party.recorder.wait(LinkClosed, party.link)
    await party.log_in()


async def test_another_site_s_signature_is_refused_by_whatsapp(party: Party, owner: Authenticator) -> None:
    """The ceremony ends with a code of its own, and the next link starts from the beginning."""
    asked = await scan(party)
    owner.origin = "https://evil.example"
    party.host.command(AnswerPasskey(link=party.link, assertion=owner.sign(asked.options)))
    failed = await party.recorder.wait(PasskeyFailed, party.link)
    assert failed.code == "passkey-refused"
    party.host.command(ConfirmPasskey(link=party.link))
    assert not party.recorder.of(Paired, party.link)


async def test_a_damaged_assertion_is_sent_as_a_valid_stanza(party: Party, owner: Authenticator) -> None:
    """What Holdfast lets pass is well-formed for WhatsApp, which refuses the signature and nothing else; it waits for
    nobody once the link is cut, and the good signature links the same phone."""
    for damage in DAMAGES:
        asked = await scan(party)
        body = owner.sign(asked.options)
        response = body["response"]
        assert isinstance(response, dict)
        response |= damage
        party.host.command(AnswerPasskey(link=party.link, assertion=checked(body, asked.options)))
        failed = await party.recorder.wait(PasskeyFailed, party.link)
        assert (failed.code, failed.detail) == (
            "passkey-refused",
            "WhatsApp refused passkey_prologue: the signature is wrong (400)",
        )
        party.host.command(CutLink(link=party.link))
        await party.recorder.wait(LinkClosed, party.link)
        assert (await party.wasim.get(f"/phones/{NUMBER}/passkey"))["pending"] is None
        party.link += 1
    asked = await scan(party)
    party.host.command(AnswerPasskey(link=party.link, assertion=checked(owner.sign(asked.options), asked.options)))
    await party.recorder.wait(Paired, party.link)
    assert (await party.wasim.get("/stats"))["protocolErrors"] == 0


async def test_the_new_secret_is_stored_before_the_ceremony_continues(party: Party, owner: Authenticator) -> None:
    """The secret that the phone will sign must survive a crash: it is in the committed credentials."""
    await scan(party)
    credentials = [commit.credentials for commit in party.recorder.of(Commit, party.link) if commit.credentials]
    secrets = {_secret(text) for text in credentials}
    assert len(secrets) == 2
    assert _secret(party.store.credentials or "") == _secret(credentials[-1])


def _secret(credentials: str) -> str:
    return credentials.partition('"advSecretKey":"')[2].partition('"')[0]
