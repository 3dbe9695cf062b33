"""HTTP on the clients' port: the routes that test suites made for other simulated servers expect there."""

from __future__ import annotations

from aiohttp import web

from wasim.requests import SIMULATOR
from wasim.server.pairing import BadQr, PairingError, parse_qr
from wasim.shell import Simulator

SCAN_PATH = "/admin/mock-phone/scan-qr"
"""The route of bartender, the server for which Baileys' own end-to-end tests were written."""


def make_compatibility_app(simulator: Simulator) -> web.Application:
    app = web.Application()
    app[SIMULATOR] = simulator
    app.router.add_post(SCAN_PATH, _scan_qr)
    return app


async def _scan_qr(request: web.Request) -> web.Response:
    """The body is the text of a QR code; the server chooses the phone that scans it."""
    status, text = await _scan_result(request)
    response = web.Response(status=status, text=text)
    response.force_close()  # the next request on this port may be a WebSocket, which this handler can't answer
    return response


async def _scan_result(request: web.Request) -> tuple[int, str]:
    try:
        await request.app[SIMULATOR].pairings.scan_with_any(parse_qr(await request.text()))
    except BadQr as error:
        return 400, f"{error}\n"
    except PairingError as error:
        return 404, f"{error}\n"
    except TimeoutError:
        return 504, "the device did not finish in time\n"
    return 200, ""
