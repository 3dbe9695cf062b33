"""Opens the links of one session: with which credentials, and as which client version."""

from __future__ import annotations

from holdfast.runtime.engine_storage import EngineStorage
from holdfast.runtime.services import Services
from holdfast.session.client_version import ClientVersion
from holdfast.session.engine import (
    PROXY_NOT_ALLOWED,
    PROXY_UNREACHABLE,
    AnyReport,
    CutLink,
    LinkClosed,
    LinkId,
    LinkOpened,
    OpenLink,
)
from holdfast.session.reasons import CLIENT_OUTDATED_CODE
from holdfast.session.stores import Record
from holdfast.web.client import NotReached, PrivateAddress


class LinkOpener:
    def __init__(self, company: str, services: Services, *, storage: EngineStorage) -> None:
        self._company = company
        self._services = services
        self._storage = storage
        self._version: ClientVersion | None = None
        """The client version with which the newest link logs in; None: the engine's own."""

    async def open(self, link: LinkId, record: Record) -> LinkClosed | None:
        """`record` may name a proxy and a device of its own. The credentials are read after everything that the link
        before wanted stored. Returns why the link ended before any engine knew of it, if it did.
        """
        await self._storage.caught_up()
        try:
            proxy_addresses = await self._addresses(record.proxy_url)
        except NotReached as error:
            self._services.supervisor.command(CutLink(link=link))
            code = PROXY_NOT_ALLOWED if isinstance(error, PrivateAddress) else PROXY_UNREACHABLE
            return LinkClosed(link=link, code=code, detail=str(error)[:200])
        credentials = await self._services.store.credentials(self._company)
        versions = self._services.client_versions
        self._version = None if versions is None else versions.current
        self._services.supervisor.command(
            OpenLink(
                link=link,
                company=self._company,
                credentials=credentials,
                url=self._services.whatsapp_url,
                device_name=record.device_name or self._services.device_name,
                proxy_url=record.proxy_url or self._services.proxy_url,
                proxy_addresses=proxy_addresses,
                history=record.history or "none",
                version=None if self._version is None else list(self._version.numbers),
            )
        )
        return None

    async def _addresses(self, own_proxy: str | None) -> list[str] | None:
        """The addresses at which the session's own proxy may be reached now; the proxy of the settings may be
        anywhere.
        """
        found = None if own_proxy is None else await self._services.proxy_addresses(own_proxy)
        return None if found is None else list(found)

    def handle(self, report: AnyReport) -> None:
        """Report how WhatsApp took the client version of the newest link."""
        versions = self._services.client_versions
        if versions is None:
            return
        if isinstance(report, LinkOpened):
            versions.worked(self._version)
        elif isinstance(report, LinkClosed) and report.code == CLIENT_OUTDATED_CODE:
            versions.refused(self._version)

    async def quarantine(self, newest_link: LinkId, *, reason: str) -> None:
        """Quarantine the credentials. What the ending link still wants stored must not bring them back."""
        self._storage.forget_keys(newest_link)
        await self._storage.caught_up()
        await self._services.store.quarantine(self._company, reason=reason)
