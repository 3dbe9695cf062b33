"""Operations through the bridge, on real Baileys against wasim."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any, Literal

import pytest

from holdfast.session.engine import OperationAnswered, QueryAnswered, RunOperation, RunQuery
from tests.integration.conftest import Party
from tests.processes import Wasim

pytestmark = pytest.mark.slow

ANNA, BASHIR, CEM = "962788888881", "962788888882", "962788888883"
JPEG = b"\xff\xd8\xff\xe0a picture"


def jid(number: str) -> str:
    return f"{number}@s.whatsapp.net"


class Operator:
    """Passes operations to the engine and waits for their answers."""

    def __init__(self, party: Party) -> None:
        self.party = party
        self.begun = 0

    async def answer(
        self,
        name: str,
        arguments: dict[str, object],
        *,
        step: Literal["run", "observe"] = "run",
        file: Path | None = None,
    ) -> OperationAnswered:
        self.begun += 1
        operation = f"op_{self.begun:024x}"
        self.party.host.command(
            RunOperation(
                link=self.party.link,
                operation=operation,
                step=step,
                name=name,
                arguments=arguments,
                file=None if file is None else str(file),
            )
        )

        def found() -> list[OperationAnswered]:
            return [each for each in self.party.recorder.of(OperationAnswered) if each.operation == operation]

        await self.party.recorder.until(lambda: bool(found()), what=f"the answer to {name}")
        return found()[0]

    async def run(self, name: str, arguments: dict[str, object], **options: Any) -> Any:
        answer = await self.answer(name, arguments, **options)
        assert answer.error is None, answer
        return answer.result

    async def ask(self, name: str, **arguments: object) -> QueryAnswered:
        self.begun += 1
        self.party.host.command(
            RunQuery(link=self.party.link, request=self.begun, name=name, arguments=dict(arguments))
        )
        return await self.party.recorder.wait(QueryAnswered, self.party.link, nth=self._asked())

    def _asked(self) -> int:
        return len(self.party.recorder.of(QueryAnswered, self.party.link)) + 1


@pytest.fixture
async def ours_(ours: Party, wasim: Wasim) -> Operator:
    for number in (ANNA, BASHIR, CEM):
        await wasim.post("/phones", {"number": number})
    return Operator(ours)


async def group_in(wasim: Wasim, id_: str) -> dict[str, Any]:
    return next(group for group in await wasim.get("/groups") if group["id"] == id_)


async def test_a_group_can_be_created_changed_and_left(ours_: Operator, wasim: Wasim, tmp_path: Path) -> None:
    """Each step has WhatsApp's answer and takes effect at WhatsApp; an observation shows the created group."""
    await wasim.post("/phones", {"number": CEM, "addedBy": "none"})
    given: dict[str, object] = {"subject": "Flowers", "members": [jid(ANNA), jid(CEM), jid("962700000999")]}
    assert await ours_.run("create-group", given, step="observe") == []
    made = await ours_.run("create-group", given)
    group = made["id"]
    codes = {row["jid"]: row["code"] for row in made["members"]}
    assert codes == {jid(ANNA): 200, jid(CEM): 403, jid("962700000999"): 404}
    assert next(row for row in made["members"] if row["code"] == 403)["inviteCode"]
    (seen,) = await ours_.run("create-group", given, step="observe")
    assert (seen["id"], {member["jid"] for member in seen["members"]}) == (group, {jid(ANNA), ours_.party.jid})
    changed = await ours_.run(
        "change-members", {"group": group, "add": [jid(BASHIR), jid(ANNA)], "promote": [jid(ANNA)]}
    )
    assert [(row["jid"], row["code"]) for row in changed["add"]] == [(jid(BASHIR), 200), (jid(ANNA), 409)]
    assert [row["code"] for row in changed["promote"]] == [200]
    settings: dict[str, object] = {
        "subject": "Bread", "description": "Fresh", "announceOnly": True, "locked": True, "joinApproval": True,
        "membersAdd": True, "disappearingS": 86_400,
    }  # fmt: skip
    assert await ours_.run("update-group", {"group": group, **settings}) == {"changed": list(settings)}
    assert await ours_.run("update-group", {"group": group, **settings}) == {"changed": []}
    found = await group_in(wasim, group)
    assert (found["subject"], found["description"], found["disappearingS"]) == ("Bread", "Fresh", 86_400)
    assert all(found[name] for name in ("announce", "locked", "joinApproval", "membersAdd"))
    picture = tmp_path / "picture"
    picture.write_bytes(JPEG)
    before = await ours_.run("set-picture", {"jid": group}, step="observe")
    after = await ours_.run("set-picture", {"jid": group}, file=picture)
    assert (before["id"], (await group_in(wasim, group))["picture"]) == (None, after["id"])
    assert await ours_.run("set-picture", {"jid": group}, step="observe") == after
    assert await ours_.run("set-picture", {"jid": group}) == {"id": None}
    code = (await ours_.run("revoke-invite", {"group": group}, step="observe"))["code"]
    assert (await ours_.run("revoke-invite", {"group": group}))["code"] not in {None, code}
    await wasim.patch(f"/groups/{group}", {"requests": [CEM]})
    requests: Any = (await ours_.ask("join-requests", jid=group)).result
    assert [(each["jid"], each["method"]) for each in requests] == [(jid(CEM), "invite_link")]
    answered = await ours_.run("answer-join-requests", {"group": group, "approve": [jid(CEM)]})
    assert [row["code"] for row in answered["approve"]] == [200]
    assert await ours_.run("leave-group", {"group": group}) == {}
    assert {member["number"] for member in (await group_in(wasim, group))["members"]} == {ANNA, BASHIR, CEM}
    assert (await ours_.answer("leave-group", {"group": group})).code == 404


async def test_refusals_have_whatsapps_code(ours_: Operator, wasim: Wasim) -> None:
    """Not an admin, not a member, no such group, a wrong and a revoked link, a limit, an unknown number."""
    theirs = (await wasim.post("/groups", {"subject": "Theirs", "members": [ANNA, ours_.party.number]}))["id"]
    foreign = (await wasim.post("/groups", {"subject": "Foreign", "members": [ANNA]}))["id"]
    for group, code in ((theirs, 403), (foreign, 403), ("120363999999999999@g.us", 404)):
        answer = await ours_.answer("change-members", {"group": group, "add": [jid(BASHIR)]})
        assert (answer.error, answer.code) == ("refused", code)
    assert (await ours_.answer("join-group", {"code": "nonsense"})).code == 406
    assert (await ours_.ask("invite", jid=theirs)).code == 401
    assert (await ours_.ask("invited-group", code="nonsense")).code == 406
    unknown = await ours_.answer("block", {"jid": jid("962700000999"), "blocked": True})
    assert unknown.error == "not-on-whatsapp"
    await wasim.fault("query-error", xmlns="w:g2", code=429, count=1)
    limited = await ours_.answer("leave-group", {"group": theirs})
    assert (limited.error, limited.code) == ("rate-limited", None)
    assert limited.retry_after_s is not None


async def test_the_profile_and_the_block_list(ours_: Operator, wasim: Wasim, tmp_path: Path) -> None:
    """Others see the text and the picture, whose file can be fetched; who is blocked is listed by number."""
    picture = tmp_path / "picture"
    picture.write_bytes(JPEG)
    assert await ours_.run("set-profile", {"about": "Open from 7 to 20"}) == {"about": "Open from 7 to 20"}
    assert (await ours_.run("set-picture", {}, file=picture))["id"]
    profile: Any = (await ours_.ask("profile")).result
    assert profile["about"] == "Open from 7 to 20"
    assert profile["picture"]
    file = {"mimetype": "image/jpeg", "base64": base64.b64encode(JPEG).decode()}
    assert (await ours_.ask("picture-file", jid=ours_.party.jid)).result == file
    assert await ours_.run("block", {"jid": jid(ANNA), "blocked": True}) == {"blocked": True}
    assert (await ours_.ask("blocklist")).result == [jid(ANNA)]
    assert await ours_.run("block", {"jid": jid(ANNA), "blocked": False}) == {"blocked": False}
    assert (await ours_.ask("blocklist")).result == []


async def test_privacy_settings(ours_: Operator, wasim: Wasim) -> None:
    """WhatsApp has them, a repetition changes nothing, and read receipts follow a changed setting at once."""
    before: Any = (await ours_.ask("privacy")).result
    assert before == dict.fromkeys(
        ("lastSeen", "online", "picture", "about", "readReceipts", "groupsAdd", "calls", "messages"), "all"
    )
    wanted: dict[str, object] = {
        "lastSeen": "none", "online": "match_last_seen", "picture": "contacts", "about": "contacts",
        "readReceipts": "none", "groupsAdd": "contacts", "calls": "known", "messages": "contacts",
    }  # fmt: skip
    await wasim.post("/phones", {"number": ours_.party.number, "autoRead": False})
    sent = await wasim.post(f"/phones/{ANNA}/send", {"to": ours_.party.number, "text": "hello"})
    await ours_.party.shown(1)
    assert await ours_.run("set-privacy", wanted) == {"changed": list(wanted)}
    read = {"id": sent["id"], "sender": jid(ANNA), "senderLid": None}
    assert await ours_.run("read-chat", {"chat": jid(ANNA), "messages": [read]}) == {"messages": 1}
    assert await ours_.run("set-privacy", wanted) == {"changed": []}
    assert (await ours_.ask("privacy")).result == wanted
    (message,) = await wasim.get(f"/messages?id={sent['id']}")
    assert message["receipts"]["read"] == 0
    (phone,) = [each for each in await wasim.get("/phones") if each["number"] == ours_.party.number]
    assert (phone["privacy"]["last"], phone["privacy"]["calladd"]) == ("none", "known")
    await wasim.fault("query-error", xmlns="privacy", code=429, count=1)
    limited = await ours_.answer("set-privacy", {"calls": "all"})
    assert (limited.error, limited.code) == ("rate-limited", None)


async def test_channels(ours_: Operator, wasim: Wasim) -> None:
    """They are found by invite code, followed, listed and unfollowed. The account can post only where it is an
    admin.
    """
    own = await wasim.post("/channels", {"name": "Roses", "owner": ANNA, "admins": [ours_.party.number]})
    other = await wasim.post("/channels", {"name": "Bread", "owner": ANNA, "description": "Every day"})
    followed: Any = (await ours_.ask("channels")).result
    (listed,) = followed
    assert (listed["id"], listed["name"], listed["role"], listed["followers"]) == (own["id"], "Roses", "admin", 2)
    found: Any = (await ours_.ask("channel", invite=other["invite"])).result
    assert (found["id"], found["description"], found["role"]) == (other["id"], "Every day", "guest")
    assert (await ours_.ask("channel", jid="1@newsletter")).code == 404
    for _ in range(2):
        assert await ours_.run("follow-channel", {"channel": other["id"], "followed": True}) == {"followed": True}
    followed = (await ours_.ask("channels")).result
    assert {each["role"] for each in followed} == {"admin", "subscriber"}
    party = ours_.party
    party.send("3EB0AA01", own["id"], "new roses")
    assert (await party.acked("3EB0AA01")).error is None
    party.send("3EB0AA02", other["id"], "mine")
    assert (await party.acked("3EB0AA02")).error == "403"
    posts = {each["name"]: [post["text"] for post in each["posts"]] for each in await wasim.get("/channels")}
    assert posts == {"Roses": ["new roses"], "Bread": []}
    assert await ours_.run("follow-channel", {"channel": other["id"], "followed": False}) == {"followed": False}
    unknown = await ours_.answer("follow-channel", {"channel": "1@newsletter", "followed": True})
    assert (unknown.error, unknown.code) == ("refused", 404)
    await wasim.fault("query-error", xmlns="w:mex", code=429, count=1)
    limited = await ours_.answer("follow-channel", {"channel": other["id"], "followed": True})
    assert (limited.error, limited.code) == ("rate-limited", None)


async def test_groups_are_joined_by_link_and_by_invitation(ours_: Operator, wasim: Wasim) -> None:
    """With approval the account waits for an admin; joining twice is a conflict."""
    own = (await ours_.run("create-group", {"subject": "Own", "members": [jid(ANNA)]}))["id"]
    code = (await ours_.run("revoke-invite", {"group": own}, step="observe"))["code"]
    invited: Any = (await ours_.ask("invited-group", code=code)).result
    assert invited["subject"] == "Own"
    assert (await ours_.answer("join-group", {"code": code})).code == 409
    await ours_.run("update-group", {"group": own, "joinApproval": True})
    await ours_.run("leave-group", {"group": own})
    joined = await ours_.run("join-group", {"code": code})
    assert joined == {"id": own, "waitsForApproval": True}
    gone = await ours_.answer("join-group", {"code": "x", "group": own, "admin": jid(ANNA), "expiresS": 1})
    assert (gone.error, gone.code) == ("refused", 410)
