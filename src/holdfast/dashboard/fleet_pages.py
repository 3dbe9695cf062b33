"""The overview page of all companies, updated live."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from holdfast.base.errors import BadInput, HoldfastError
from holdfast.base.ids import COMPANY_RULE, is_company_id
from holdfast.dashboard.attention import NOTHING, Attention
from holdfast.dashboard.context import check_company, context_of, login_of
from holdfast.dashboard.fleet import POLL_INTERVAL_S, FleetRow, counted, ranked
from holdfast.dashboard.live import event, event_stream
from holdfast.dashboard.page_auth import ProtectedPage, is_part, page
from holdfast.dashboard.ports import CompanyGrant
from holdfast.dashboard.rendering import STATES, Templates
from holdfast.http.event_stream import Chunks
from holdfast.runtime.ownership import RunsElsewhere

pages = APIRouter(route_class=ProtectedPage, include_in_schema=False)

_HEARTBEAT_EVERY = 5
"""Number of reads without a change after which the stream sends a heartbeat."""
_MAX_ANNOUNCEMENTS = 3


@pages.get("/")
async def show_fleet(request: Request) -> Response:
    return await _show(request, message=None)


async def _show(request: Request, *, message: str | None, wanted: str = "", status: int = 200) -> Response:
    rows = _visible(await context_of(request).fleet.rows(), login_of(request).grant)
    return page(
        request,
        "fleet.html",
        status=status,
        rows=ranked(rows),
        counts=counted(rows),
        shown=digest(rows),
        message=message,
        wanted=wanted,
    )


@pages.post("/companies")
async def add_company(request: Request) -> Response:
    """Create the company unless it exists, and open its page."""
    context, company = context_of(request), request.state.form.get("company", "").strip()
    try:
        if not is_company_id(company):
            raise BadInput(f'company "{company[:80]}" is not usable: {COMPANY_RULE}', field="company")
        check_company(request, company)
        await context.gateway.put(company)
    except RunsElsewhere:
        raise  # forwarded to the node that runs the session
    except HoldfastError as error:
        if is_part(request):
            raise
        return await _show(request, message=error.sentence, wanted=company, status=422)
    context.fleet.forget()
    return RedirectResponse(f"/companies/{company}", status_code=303)


@pages.get("/live")
async def stream_fleet(request: Request) -> Response:
    context, grant = context_of(request), login_of(request).grant

    async def events() -> Chunks:
        rows = _visible(await context.fleet.rows(), grant)
        watcher = Watcher(
            context.templates, {row.company: row for row in rows}, attention=await context.attention.of(grant)
        )
        # A stale page gets its rows from the stream itself: fetched beside it, they could replace newer ones.
        yield event("fleet", "" if request.query_params.get("shown") == digest(rows) else watcher.everything())
        calm = 0
        while True:
            await context.clock.sleep(POLL_INTERVAL_S)
            changed = watcher.update(_visible(await context.fleet.rows(), grant), await context.attention.of(grant))
            calm += 1
            if changed or calm == _HEARTBEAT_EVERY:
                yield event("fleet", changed)
                calm = 0

    return event_stream(request, events())


def _visible(rows: Iterable[FleetRow], grant: CompanyGrant) -> list[FleetRow]:
    return [row for row in rows if grant.covers(row.company)]


def digest(rows: Sequence[FleetRow]) -> str:
    """Hash of all rows. A page whose hash differs from the stream's first state gets all rows."""
    return hashlib.sha256(repr(rows).encode()).hexdigest()[:16]


@dataclass(slots=True)
class Watcher:
    """The rows that one browser shows, to send it only what changed."""

    templates: Templates
    shown: dict[str, FleetRow]
    attention: Attention = NOTHING

    def everything(self) -> str:
        """Fragments that replace all rows of the page."""
        rows = list(self.shown.values())
        return self._render(rows, every_row=ranked(rows), attention=self.attention)

    def update(self, rows: Sequence[FleetRow], attention: Attention = NOTHING) -> str:
        """Fragments that update the page; empty when nothing changed."""
        is_same_attention, self.attention = attention == self.attention, attention
        before, self.shown = self.shown, {row.company: row for row in rows}
        changed = [row for row in rows if before.get(row.company) != row]
        gone = [company for company in before if company not in self.shown]
        if not changed and not gone and is_same_attention:
            return ""
        return self._render(
            rows,
            changed=[(row, row.company in before) for row in changed],
            gone=gone,
            announcements=_announcements(before, changed),
            attention=None if is_same_attention else attention,
        )

    def _render(
        self,
        rows: Sequence[FleetRow],
        *,
        attention: Attention | None,
        every_row: Sequence[FleetRow] | None = None,
        changed: Sequence[tuple[FleetRow, bool]] = (),
        gone: Sequence[str] = (),
        announcements: Sequence[str] = (),
    ) -> str:
        """changed: rows, and whether the page shows them already. None: unchanged."""
        return self.templates.render(
            "fleet_changes.html",
            counts=counted(rows),
            total=len(rows),
            attention=attention,
            every_row=every_row,
            changed=changed,
            gone=gone,
            announcements=announcements,
        )


def _announcements(before: dict[str, FleetRow], changed: Sequence[FleetRow]) -> list[str]:
    """Changes of state for screen readers: a few, worst first."""
    turned = [row for row in ranked(changed) if row.company in before and before[row.company].state is not row.state]
    lines = [f"{row.company}: {STATES[row.state].lower()}" for row in turned[:_MAX_ANNOUNCEMENTS]]
    left = len(turned) - len(lines)
    return [*lines, *([f"and {left} more"] if left > 0 else [])]
