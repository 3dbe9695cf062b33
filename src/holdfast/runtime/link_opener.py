"""Opens the links of one session: with which credentials, and as which client version."""

from __future__ import annotations

from holdfast.runtime.engine_storage import EngineStorage
from holdfast.runtime.services import Services
from holdfast.session.client_version import ClientVersion
from holdfast.session.engine import AnyReport, LinkClosed, LinkId, LinkOpened, OpenLink
from holdfast.session.reasons import CLIENT_OUTDATED_CODE
from holdfast.session.stores import Record


class LinkOpener:
    def __init__(self, company: str, services: Services, *, storage: EngineStorage) -> None:
        self._company = company
        self._services = services
        self._storage = storage
        self._version: ClientVersion | None = None
        """With which the newest link logs in; None: the engine's own."""

    async def open(self, link: LinkId, record: Record) -> None:
        """`record` may name a proxy and a device of its own. The credentials are read after everything that the link
        before wanted stored."""
        await self._storage.caught_up()
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
                version=None if self._version is None else list(self._version.numbers),
            )
        )

    def hear(self, report: AnyReport) -> None:
        """Report how WhatsApp took the client version of the newest link."""
        versions = self._services.client_versions
        if versions is None:
            return
        if isinstance(report, LinkOpened):
            versions.worked(self._version)
        elif isinstance(report, LinkClosed) and report.code == CLIENT_OUTDATED_CODE:
            versions.refused(self._version)

    async def quarantine(self, newest_link: LinkId, *, reason: str) -> None:
        """Set the credentials aside. What the ending link still wants stored must not bring them back."""
        self._storage.forget_keys(newest_link)
        await self._storage.caught_up()
        await self._services.store.quarantine(self._company, reason=reason)
