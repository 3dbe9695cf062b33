"""HTTP on the clients' port: the routes that test suites made for other simulated servers expect there."""

from __future__ import annotations

from aiohttp import web

from wasim.requests import HUB
from wasim.server.pairing import BadQr, PairingError, parse_qr
from wasim.shell import Simulator

SCAN_PATH = "/admin/mock-phone/scan-qr"
"""The route of bartender, the server that Baileys' own end-to-end tests were made for."""


def make_foreign_app(simulator: Simulator) -> web.Application:
    app = web.Application()
    app[HUB] = simulator
    app.router.add_post(SCAN_PATH, _scan)
    return app


async def _scan(request: web.Request) -> web.Response:
    """The body is the text of a QR code; which phone scans it is up to the server."""
    status, text = await _outcome(request)
    response = web.Response(status=status, text=text)
    response.force_close()  # the next request on this port may be a WebSocket, which this handler can't answer
    return response


async def _outcome(request: web.Request) -> tuple[int, str]:
    try:
        await request.app[HUB].pairings.scan_with_any(parse_qr(await request.text()))
    except BadQr as error:
        return 400, f"{error}\n"
    except PairingError as error:
        return 404, f"{error}\n"
    except TimeoutError:
        return 504, "the device did not finish in time\n"
    return 200, ""
