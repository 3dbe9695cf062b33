"""Let whatsmeow, which checks what Baileys does not, link to a running wasim and use it: texts, media, groups …

    wasim serve --port 8090 --control-port 8091
    uv run --isolated --no-project --with neonize==0.5.2 --with 'protobuf>=7.34.1' \\
        python scripts/try_whatsmeow.py ws://127.0.0.1:8090/ws/chat http://127.0.0.1:8091

neonize (whatsmeow's Python binding) has no option for another server. So a copy of it in a temporary folder gets the
server's URL and the root of its certificate chain; nothing else of it is touched. Prints one JSON line with every
check: true, false, or its error. Exit code 0 when all of them are true.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from foreign_clients import Control, prepare

NUMBER, CONTACT, OTHER = "962310", "962311", "962312"
TEXTS = ["one", "two", "three"]
MEDIA_BYTES = 50_000
DEADLINE_S = 60.0
ARRIVAL_S = 5.0


class Checks:
    """What a connected client is tried with. Methods that begin with `check_` are run in their order."""

    def __init__(self, control: Control, client: Any) -> None:
        from neonize.utils import build_jid  # type: ignore[import-not-found]

        self._control = control
        self._client = client
        self._jid = build_jid
        self.messages: list[Any] = []
        self.typing: list[Any] = []
        self.presences: list[Any] = []
        for number in (CONTACT, OTHER):
            control.post("/phones", {"number": number})
        self._group = control.post("/groups", {"subject": "Team", "members": [NUMBER, CONTACT]})["id"]

    def run(self) -> dict[str, bool | str]:
        report: dict[str, bool | str] = {}
        for name in [name for name in type(self).__dict__ if name.startswith("check_")]:
            try:
                report[name.removeprefix("check_")] = getattr(self, name)()
            except Exception as error:  # noqa: BLE001 – the report contains it
                report[name.removeprefix("check_")] = f"{type(error).__name__}: {error}"
        report["no_unknown_queries"] = self._control.get("/stats")["unknownQueries"] == 0
        return report

    def check_texts_out(self) -> bool:
        """They arrive at a phone, directly and in a group."""
        for text in TEXTS:
            self._client.send_message(self._jid(CONTACT), text)
            self._client.send_message(self._group_jid, text)
        wanted = sorted((in_group, text) for in_group in (False, True) for text in TEXTS)
        return _becomes(lambda: sorted((m["group"] == self._group, m["text"]) for m in self._inbox()) == wanted)

    def check_texts_in(self) -> bool:
        for to, text in ((NUMBER, "hello whatsmeow"), (self._group, "hello group")):
            self._control.post(f"/phones/{CONTACT}/send", {"to": to, "text": text})
        wanted = {"hello whatsmeow", "hello group"}
        return _becomes(lambda: wanted <= {message.Message.conversation for message in self.messages})

    def check_media_in(self) -> bool:
        """The client downloads and decrypts it, and checks its hash."""
        sent = self._control.post(f"/phones/{CONTACT}/send", {"to": NUMBER, "image": {"sizeBytes": MEDIA_BYTES}})["id"]
        return len(self._client.download_any(self._received(sent).Message)) == MEDIA_BYTES

    def check_media_out(self) -> bool:
        self._client.send_document(self._jid(CONTACT), bytes(MEDIA_BYTES), filename="zeros", mimetype="application/x-z")
        _becomes(lambda: any(message["kind"] == "document" for message in self._inbox()))
        (id_,) = [message["id"] for message in self._inbox() if message["kind"] == "document"]
        media = self._control.get(f"/phones/{CONTACT}/inbox/{id_}/media")
        return (media["genuine"], media["sizeBytes"]) == (True, MEDIA_BYTES)

    def check_polls(self) -> bool:
        """The client reads the vote of a phone in its poll, and a phone the client's vote in its own."""
        from neonize._binder import consume_bytes_struct, gocode  # type: ignore[import-not-found]
        from neonize.utils.enum import VoteType  # type: ignore[import-not-found]

        gocode.DecryptPollVote.errcheck = consume_bytes_struct  # neonize 0.5.2 forgets it for this function

        options = ["Falafel", "Mansaf"]
        made = self._client.build_poll_vote_creation("Lunch?", options, VoteType.SINGLE)
        sent = self._client.send_message(self._jid(CONTACT), made).ID
        _becomes(lambda: any(message["id"] == sent for message in self._inbox()))
        vote = {"to": NUMBER, "vote": {"id": sent, "options": ["Mansaf"]}}
        received = self._received(self._control.post(f"/phones/{CONTACT}/send", vote)["id"])
        chosen = list(self._client.decrypt_poll_vote(received).selectedOptions)
        poll = {"to": NUMBER, "poll": {"name": "Dinner?", "options": options}}
        asked = self._received(self._control.post(f"/phones/{CONTACT}/send", poll)["id"])
        self._client.send_message(self._jid(CONTACT), self._client.build_poll_vote(asked.Info, ["Falafel"]))
        told = _becomes(lambda: any(message["chosen"] == ["Falafel"] for message in self._inbox()))
        return chosen == [hashlib.sha256(b"Mansaf").digest()] and told

    def check_numbers(self) -> bool:
        """A number with an account and one without are told apart."""
        found = self._client.is_on_whatsapp(f"+{CONTACT}", "+99999999")
        return {answer.JID.User: answer.IsIn for answer in found} == {CONTACT: True, "99999999": False}

    def check_own_presence(self) -> bool:
        from neonize.utils.enum import Presence

        self._client.send_presence(Presence.AVAILABLE)
        return _becomes(lambda: any(link["available"] for link in self._control.get("/links")))

    def check_typing_out(self) -> bool:
        from neonize.utils.enum import ChatPresence, ChatPresenceMedia

        self._client.send_chat_presence(
            self._jid(CONTACT), ChatPresence.CHAT_PRESENCE_COMPOSING, ChatPresenceMedia.CHAT_PRESENCE_MEDIA_TEXT
        )
        return _becomes(lambda: (self._phone(CONTACT)["typing"] or {}).get("state") == "composing")

    def check_typing_in(self) -> bool:
        self._control.post(f"/phones/{CONTACT}/typing", {"to": NUMBER})
        return _becomes(lambda: bool(self.typing))

    def check_presence_of_a_contact(self) -> bool:
        self._client.subscribe_presence(self._jid(CONTACT))
        return _becomes(lambda: bool(self.presences))

    def check_groups_listed(self) -> bool:
        listed = {group.GroupName.Name: len(group.Participants) for group in self._client.get_joined_groups()}
        return listed == {"Team": 2} and self._client.get_group_info(self._group_jid).GroupName.Name == "Team"

    def check_group_created(self) -> bool:
        """With a member; then a second one is added and made an admin, the first one removed, the name changed."""
        from neonize.utils.enum import ParticipantChange

        created = self._client.create_group("Crew", [self._jid(CONTACT)])
        jid = created.JID
        self._client.update_group_participants(jid, [self._jid(OTHER)], ParticipantChange.ADD)
        self._client.update_group_participants(jid, [self._jid(OTHER)], ParticipantChange.PROMOTE)
        self._client.update_group_participants(jid, [self._jid(CONTACT)], ParticipantChange.REMOVE)
        self._client.set_group_name(jid, "New crew")
        (group,) = [group for group in self._control.get("/groups") if group["id"] == f"{jid.User}@g.us"]
        members = {member["number"]: member["admin"] for member in group["members"]}
        return (group["subject"], members) == ("New crew", {NUMBER: True, OTHER: True})

    @property
    def _group_jid(self) -> Any:
        return self._jid(self._group.partition("@")[0], "g.us")

    def _received(self, id_: str) -> Any:
        """The message with that id, once it has arrived."""
        _becomes(lambda: any(id_ in message.Info.ID for message in self.messages))
        return next(message for message in self.messages if id_ in message.Info.ID)

    def _inbox(self) -> Any:
        return self._control.get(f"/phones/{CONTACT}/inbox")

    def _phone(self, number: str) -> Any:
        return next(phone for phone in self._control.get("/phones") if phone["number"] == number)


def _becomes(condition: Callable[[], bool]) -> bool:
    """Whether the condition becomes true in time."""
    end = time.monotonic() + ARRIVAL_S
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def talk(control: Control, folder: Path) -> None:
    from neonize.client import NewClient  # type: ignore[import-not-found]
    from neonize.events import ChatPresenceEv, ConnectedEv, MessageEv, PresenceEv  # type: ignore[import-not-found]

    client = NewClient(str(folder / "whatsmeow.db"))
    checks = Checks(control, client)

    @client.qr  # type: ignore[untyped-decorator]
    def scan(_: Any, code: bytes) -> None:
        control.post(f"/phones/{NUMBER}/scan", {"qr": code.decode()})

    @client.event(ConnectedEv)  # type: ignore[untyped-decorator]
    def connected(_: Any, __: Any) -> None:
        threading.Thread(target=run).start()

    client.event(MessageEv)(lambda _, message: checks.messages.append(message))
    client.event(ChatPresenceEv)(lambda _, typing: checks.typing.append(typing))
    client.event(PresenceEv)(lambda _, presence: checks.presences.append(presence))

    def run() -> None:
        report = checks.run()
        print(json.dumps(report), flush=True)
        os._exit(0 if all(result is True for result in report.values()) else 1)

    threading.Timer(DEADLINE_S, lambda: os._exit(1)).start()
    client.connect()


def main(url: str, control_url: str) -> None:
    control = Control(control_url)
    control.post("/phones", {"number": NUMBER, "name": "Alice"})
    with tempfile.TemporaryDirectory() as folder:
        prepare("neonize", "neonize-linux-*.so", url, control.root, Path(folder))
        authority = Path(folder) / "ca.pem"
        authority.write_bytes(control.get_bytes("/ca.pem"))
        os.environ["SSL_CERT_FILE"] = str(authority)
        talk(control, Path(folder))


if __name__ == "__main__":
    main(*sys.argv[1:])
