"""Links devices that have no account yet: QR codes, pairing codes, passkeys, and the signatures that complete them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from wasim.server import codes, events, pairing, passkeys, queries
from wasim.server.directory import Directory
from wasim.server.entropy import Entropy, new_id
from wasim.server.fault_hooks import FaultHooks
from wasim.server.link import Link, Pairing, Phase
from wasim.server.links import Links
from wasim.server.pairing import PairingError, ScannedQr
from wasim.server.passkeys import Ceremony, PasskeyError
from wasim.server.phones import Phones
from wasim.server.state import PHONE, Account, Address, Device
from wasim.server.timers import Timers
from wasim.server.webauthn import Passkey
from wasim.wire.errors import WireError
from wasim.wire.messages import PairingData
from wasim.wire.nodes import Node


class Announce(Protocol):
    """Notifies other devices that a device was linked or removed."""

    def __call__(self, device: Device, change: str, *, now: float) -> None: ...


class PairingFlow:
    def __init__(
        self,
        directory: Directory,
        phones: Phones,
        entropy: Entropy,
        fault_hooks: FaultHooks,
        links: Links,
        timers: Timers,
        *,
        announce: Announce,
        report: Callable[[events.Event], None],
    ) -> None:
        self._directory = directory
        self._phones = phones
        self._entropy = entropy
        self._fault_hooks = fault_hooks
        self._links = links
        self._timers = timers
        self._announce = announce
        self._report = report

    def register(self, link: Link, noise_key: bytes, data: PairingData) -> None:
        """A device without an account registers: it gets references for its QR codes.

        Raises WireError when its keys are not its own.
        """
        pairing.check_keys(data)
        refs = pairing.make_refs(self._entropy)
        link.pairing = Pairing(noise_key=noise_key, data=data, refs=refs)
        self._links.send(link, pairing.pair_device(new_id(self._entropy), refs))

    # Actions of phones

    def scan(self, account: Account, qr: ScannedQr, *, now: float) -> int:
        """The account's phone scans a QR code. Returns the link of the device; `DevicePaired` follows on that link.

        Raises PairingError when no connected device shows that code.
        """
        link = next((one for one in self._pairing_links() if one.pairing and qr.ref in one.pairing.refs), None)
        if link is None or link.pairing is None:
            raise PairingError("no device shows this code: it is unknown, used, or its connection is gone")
        if link.pairing.data.identity != qr.identity or link.pairing.noise_key != qr.noise_key:
            raise PairingError("the code's keys are not those of the device that shows it")
        self._approve(link, link.pairing, account, qr, now)
        return link.id

    def enter_code(self, account: Account, code: str, *, now: float) -> int:
        """The owner types the code that a device shows on the account's phone. Returns that device's link.

        Raises PairingError when no connected device requested a code for this number. A wrong code is detected only
        when the device answers: `DevicePaired` or `PairingFailed` follows.
        """
        requesting = [one for one in self._pairing_links() if one.pairing and one.pairing.code]
        link = next((one for one in reversed(requesting) if _code_number(one) == account.number), None)
        if link is None or link.pairing is None or link.pairing.code is None:
            raise PairingError(f"no device requested a code for {account.number}, or its connection is gone")
        notice = codes.enter(
            link.pairing.code,
            code,
            self._phones.identity(account.number),
            notice_id=new_id(self._entropy),
            entropy=self._entropy,
            now=now,
        )
        self._links.send(link, notice)
        return link.id

    def _pairing_links(self) -> list[Link]:
        return [link for link in self._links if link.phase is Phase.PAIRING]

    def _approve(self, link: Link, waiting: Pairing, account: Account, qr: ScannedQr, now: float) -> None:
        """Let the phone sign, after an assertion by a passkey if the account requires one."""
        if not account.passkeys:
            return self._offer(link, waiting, account, qr, now)
        keys = list(account.passkeys)
        waiting.refs = []
        waiting.passkey = passkeys.begin(account.number, keys, qr.adv_secret, entropy=self._entropy, now=now)
        self._links.send(link, passkeys.notice(waiting.passkey, new_id(self._entropy), now=now))
        self._report(events.PasskeyRequested(number=account.number, link=link.id))
        return None

    def ceremony(self, number: str) -> Ceremony | None:
        """The newest passkey ceremony of this account."""
        ceremonies = [one.pairing.passkey for one in self._pairing_links() if one.pairing and one.pairing.passkey]
        return next((one for one in reversed(ceremonies) if one.number == number and not one.is_over), None)

    def confirm(self, account: Account, code: str, *, now: float) -> None:
        """The owner compares the code that the device shows with the phone's. Raises PairingError."""
        for link in self._pairing_links():
            waiting = link.pairing
            if waiting is not None and waiting.passkey is not None and waiting.passkey.number == account.number:
                try:
                    passkeys.confirm(waiting.passkey, code)
                except PasskeyError as error:
                    self._fail(link, waiting.passkey, str(error))
                    raise PairingError(str(error)) from error
                return self._offer_by_passkey(link, waiting, now)
        raise PairingError(f"no device is being linked to {account.number} with a passkey")

    def _offer(self, link: Link, waiting: Pairing, account: Account, qr: ScannedQr, now: float) -> None:
        phone = self._phones.identity(account.number)
        waiting.offer, node = pairing.offer(
            account=account, phone=phone, qr=qr, iq_id=new_id(self._entropy), entropy=self._entropy, now=now
        )
        waiting.refs = []
        account.next_device += 1
        self._directory.touch(account)
        self._links.send(link, node)

    # Nodes from devices

    def receive(self, link: Link, node: Node, *, now: float) -> None:
        """A node from a device that is not linked yet."""
        waiting = link.pairing
        assert waiting is not None, "a device that is being linked has registered"
        if node.tag != "iq":
            return
        if waiting.offer is not None and node.attrs.get("id") == waiting.offer.iq_id:
            self._complete(link, waiting, node, now)
        elif node.attrs.get("type") in ("get", "set"):
            self._links.send(link, queries.reply(node, self._answer(link, waiting, node, now)))
            self._offer_by_code(link, waiting, now)
            self._offer_by_passkey(link, waiting, now)

    def _answer(self, link: Link, waiting: Pairing, node: Node, now: float) -> queries.QueryAnswer:
        """A device without an account may ping, ask for a pairing code, and send passkey stanzas."""
        body = node.children[0] if node.children else Node("")
        if body.tag in passkeys.TAGS and node.attrs.get("xmlns") == "md":
            return self._passkey(link, waiting, body, now)
        reg = node.child(codes.TAG)
        if reg is not None:
            return self._code(link, waiting, reg, now)
        xmlns, tag = node.attrs.get("xmlns", ""), body.tag
        if xmlns in ("w:p", "urn:xmpp:ping"):
            return queries.QueryAnswer()
        self._report(events.UnknownQuery(link=link.id, xmlns=xmlns, tag=tag))
        return queries.QueryAnswer(error=queries.NOT_IMPLEMENTED)

    def _code(self, link: Link, waiting: Pairing, reg: Node, now: float) -> queries.QueryAnswer:
        try:
            if reg.attrs.get("stage") == "companion_hello":
                request = codes.hello(reg, self._entropy)
                account = Address(request.number, PHONE)
                if error := self._fault_hooks.on_query(account, xmlns="md", tag=codes.TAG, now=now):
                    return queries.QueryAnswer(error=error)
                waiting.code = request
                return queries.QueryAnswer(content=codes.hello_answer(waiting.code))
            self._finish_code(waiting, reg)
        except (codes.CodeError, WireError) as error:
            self._report(events.PairingFailed(link=link.id, detail=str(error)))
            return queries.QueryAnswer(error=(queries.BAD_REQUEST[0], str(error)))
        return queries.QueryAnswer()

    def _finish_code(self, waiting: Pairing, reg: Node) -> None:
        account = self._directory.accounts.get(waiting.code.number) if waiting.code else None
        if waiting.code is None or account is None:
            raise codes.CodeError("the code has not been typed yet")
        phone = self._phones.identity(account.number)
        waiting.code.secret = codes.finish(waiting.code, reg, phone, waiting.data.identity or b"")

    def _offer_by_code(self, link: Link, waiting: Pairing, now: float) -> None:
        """Once both sides agreed on a secret by code, let the phone sign as after scanning a QR code."""
        if waiting.code is None or not waiting.code.secret or waiting.offer is not None or waiting.passkey is not None:
            return
        account = self._directory.accounts[waiting.code.number]
        qr = ScannedQr(
            ref="",
            noise_key=waiting.noise_key,
            identity=waiting.data.identity or b"",
            adv_secret=waiting.code.secret,
        )
        self._approve(link, waiting, account, qr, now)

    # Passkeys

    def _passkey(self, link: Link, waiting: Pairing, body: Node, now: float) -> queries.QueryAnswer:
        ceremony = waiting.passkey
        if ceremony is None or ceremony.is_over:
            return queries.QueryAnswer(error=queries.BAD_REQUEST)
        try:
            return queries.QueryAnswer(content=self._handle_passkey_step(link, waiting, ceremony, body, now))
        except (PasskeyError, WireError) as error:
            self._fail(link, ceremony, str(error))
            return queries.QueryAnswer(error=(queries.BAD_REQUEST[0], str(error)))

    def _handle_passkey_step(
        self, link: Link, waiting: Pairing, ceremony: Ceremony, body: Node, now: float
    ) -> list[Node] | None:
        match body.tag:
            case passkeys.OPTIONS:
                return [passkeys.options(ceremony)]
            case passkeys.REF:
                return [passkeys.new_ref(ceremony, self._entropy)]
            case passkeys.PROLOGUE:
                self._prologue(link, ceremony, body, now)
            case passkeys.NONCE:
                passkeys.verify_commitment(ceremony, body.data)
            case passkeys.REQUEST:
                identity = waiting.data.identity or b""
                passkeys.accept_request(ceremony, body.data, noise_key=waiting.noise_key, identity=identity)
        return None

    def _prologue(self, link: Link, ceremony: Ceremony, body: Node, now: float) -> None:
        signer = passkeys.prologue(ceremony, body, now=now)
        verdict = self._fault_hooks.on_passkey(ceremony.number, now=now)
        if verdict.refused:
            raise PasskeyError("not accepted")
        self._store_counter(ceremony.number, signer)
        if not verdict.silent:
            # Scheduled, because the answer must be sent first; it is sent when this returns.
            self._timers.schedule(now + verdict.delay_s, lambda at: self._send_continuation(link, ceremony, at))

    def _store_counter(self, number: str, signer: Passkey) -> None:
        account = self._directory.accounts[number]
        account.passkeys = [signer if known.id == signer.id else known for known in account.passkeys]
        self._directory.touch(account)

    def _send_continuation(self, link: Link, ceremony: Ceremony, now: float) -> None:
        if self._links.get(link.id) is link and link.phase is Phase.PAIRING and not ceremony.is_over:
            notice = passkeys.continuation(ceremony, new_id(self._entropy), entropy=self._entropy, now=now)
            self._links.send(link, notice)

    def _fail(self, link: Link, ceremony: Ceremony, detail: str) -> None:
        ceremony.is_over = True
        self._report(events.PairingFailed(link=link.id, detail=detail))

    def _offer_by_passkey(self, link: Link, waiting: Pairing, now: float) -> None:
        """Once the device sent its keys, let the phone sign as after scanning them."""
        ceremony = waiting.passkey
        if ceremony is None or ceremony.is_over or not ceremony.is_done:
            return
        ceremony.is_over = True
        qr = ScannedQr(
            ref="",
            noise_key=waiting.noise_key,
            identity=waiting.data.identity or b"",
            adv_secret=ceremony.new_secret,
        )
        self._offer(link, waiting, self._directory.accounts[ceremony.number], qr, now)

    def _complete(self, link: Link, waiting: Pairing, node: Node, now: float) -> None:
        try:
            device = pairing.complete(waiting, node, now=now)
        except PairingError as error:
            self._report(events.PairingFailed(link=link.id, detail=str(error)))
            self._links.close(link)
            return
        self._directory.add_device(device)
        self._report(events.DevicePaired(address=device.address, link=link.id))
        self._announce(device, "add", now=now)
        self._links.close_with(link, Node("stream:error", {"code": "515"}), now=now)


def _code_number(link: Link) -> str | None:
    return link.pairing.code.number if link.pairing is not None and link.pairing.code is not None else None
