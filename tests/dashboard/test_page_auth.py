"""Access to pages: who may see what, which forms are accepted, and what browsers may do with our pages."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from holdfast.dashboard.logins import IDLE_S
from holdfast.dashboard.page_auth import HEADERS
from holdfast.delivery.webhooks import OF_ALL, Endpoint
from holdfast.store.webhooks import WebhookRows
from tests.api.api_client import KEY_OF_ONE, OTHER
from tests.dashboard.browser import ORIGIN, Browser, make_browser
from tests.gateway_harness import COMPANY, GatewayHarness

PAGES = (
    "/",
    f"/companies/{COMPANY}",
    f"/companies/{COMPANY}/inbox",
    "/webhooks",
    "/docs",
    "/login",
    "/companies/nobody",
)
FORMS = (
    "/companies",
    f"/companies/{COMPANY}/action/stop",
    f"/companies/{COMPANY}/messages",
    "/webhooks/replay",
    "/sign-out",
)
CLOSED = (
    "/",
    "/live",
    f"/companies/{COMPANY}",
    f"/companies/{COMPANY}/live",
    f"/companies/{COMPANY}/chart.json",
    "/webhooks",
)


@pytest.mark.parametrize("path", CLOSED)
async def test_without_a_session_there_is_only_the_login_page(browser: Browser, path: str) -> None:
    """Pages redirect to the login, which knows the requested page; a request of a script for a fragment gets a
    header.
    """
    answer = await browser.get(path)
    assert (answer.status, answer.headers["location"]) == (303, "/login" if path == "/" else f"/login?next={path}")
    answer = await browser.get(path, **{"HX-Request": "true"})
    assert (answer.status, answer.headers["hx-redirect"], answer.body) == (401, "/login", b"")


async def test_a_key_signs_in_and_out_again(browser: Browser) -> None:
    """The cookie is sent only with this site's own requests and is not readable by scripts; signing out ends it."""
    answer = await browser.sign_in()
    assert (answer.status, answer.headers["location"]) == (303, "/")
    cookie = answer.headers["set-cookie"].lower()
    assert all(word in cookie for word in ("httponly", "samesite=strict", "path=/", f"max-age={IDLE_S}"))
    assert "secure" not in cookie
    assert (await browser.get("/")).status == 200
    assert (await browser.get("/login")).headers["location"] == "/"
    kept = browser.cookie
    assert (await browser.post("/sign-out")).headers["location"] == "/login"
    assert browser.cookie is None
    browser.cookie = kept
    assert (await browser.get("/")).status == 303


async def test_signing_in_leads_to_the_requested_page(browser: Browser, harness: GatewayHarness) -> None:
    """Also after a wrong key, and when only a fragment of that page was requested; never to another site."""
    await harness.pair()
    wanted = f"/companies/{COMPANY}/inbox?words=962"
    answer = await browser.get(wanted)
    assert answer.headers["location"] == f"/login?next=/companies/{COMPANY}/inbox%3Fwords%3D962"
    part = await browser.get("/webhooks", **{"HX-Request": "true", "HX-Current-URL": f"http://testserver{wanted}"})
    assert part.headers["hx-redirect"] == answer.headers["location"]
    assert f'name="next" value="{wanted}"' in (await browser.get(answer.headers["location"])).body.decode()
    assert f'name="next" value="{wanted}"' in (await browser.post("/login", key="wrong", next=wanted)).body.decode()
    for elsewhere in ("//evil.example/", "https://evil.example/", "/\\evil.example"):
        answer = await browser.post("/login", key="a-key-for-all-companies", next=elsewhere)
        assert (answer.status, answer.headers["location"]) == (303, "/")
    answer = await browser.post("/login", key="a-key-for-all-companies", next=wanted)
    assert (answer.status, answer.headers["location"]) == (303, wanted)


async def test_headers_that_are_no_urls_are_no_defects(browser: Browser) -> None:
    """Anybody can send them: each would write a trace into the log."""
    answer = await browser.post("/login", headers={"Origin": "http://["}, key="wrong")
    assert answer.status == 403
    answer = await browser.get("/webhooks", **{"HX-Request": "true", "HX-Current-URL": "http://["})
    assert (answer.status, answer.headers["hx-redirect"]) == (401, "/login")


async def test_a_nul_is_refused_wherever_it_is(browser: Browser, harness: GatewayHarness) -> None:
    """PostgreSQL accepts no text with it, not even to look for it."""
    await harness.pair()
    assert (await browser.get("/login?next=%00")).status == 422
    await browser.sign_in()
    for path in ("messages/%00/steps", "messages?words=%00", "inbox?words=%00", "chats?q=%00"):
        answer = await browser.get(f"/companies/{COMPANY}/{path}")
        assert answer.status == 422, path
        assert "U+0000" in answer.body.decode()
    answer = await browser.post(f"/companies/{COMPANY}/messages", to="962790000001", text="a\0b")
    assert answer.status == 422


@pytest.mark.parametrize("headers", [{"Origin": "https://testserver"}, {"X-Forwarded-Proto": "https"}])
async def test_over_https_the_cookie_is_for_https_only(browser: Browser, headers: dict[str, str]) -> None:
    """Also when TLS ends at a proxy that reports it, or the form's origin shows it."""
    answer = await browser.post("/login", headers=headers, key="a-key-for-all-companies")
    cookie = answer.headers["set-cookie"].lower()
    assert cookie.startswith("__host-holdfast_session=")
    assert all(word in cookie for word in ("; secure", "; path=/", "; httponly"))
    assert "domain" not in cookie


async def test_over_https_only_the_host_cookie_is_accepted(browser: Browser) -> None:
    """Another site of the same domain can set a cookie with the plain name, but not one with `__Host-`; a renewal keeps
    the name.
    """
    await browser.sign_in()
    https = {"X-Forwarded-Proto": "https"}
    assert (await browser.get("/")).status == 200
    assert (await browser.get("/", **https)).status == 303
    secure = {"Cookie": f"__Host-holdfast_session={browser.cookie}"}
    assert (await browser.get("/", **https, **secure)).status == 200
    browser.cookie = None
    answer = await browser.post("/sign-out", headers={**https, **secure})
    assert answer.headers["set-cookie"].startswith("__Host-holdfast_session=")
    assert (await browser.get("/", **https, **secure)).status == 303


async def test_a_wrong_key_is_reported_and_many_are_too_many(browser: Browser) -> None:
    """The entered key is not shown again; after ten, only the right one is accepted."""
    answer = await browser.post("/login", key="a-key-of-somebody-else")
    assert answer.status == 401
    assert b"This API key is unknown" in answer.body
    assert b"somebody-else" not in answer.body
    for _ in range(9):
        await browser.post("/login", key="wrong")
    assert (await browser.post("/login", key="wrong")).status == 429
    assert (await browser.sign_in()).status == 303


async def test_every_page_has_the_strict_policy(browser: Browser, harness: GatewayHarness) -> None:
    """Only our own scripts run; no page can be framed, cached, or reported to other sites."""
    assert HEADERS["Content-Security-Policy"].startswith("default-src 'none'; script-src 'self'; style-src 'self'")
    await harness.pair()
    await browser.sign_in()
    for path in PAGES:
        answer = await browser.get(path)
        assert {name: answer.headers[name.lower()] for name in HEADERS} == HEADERS
        assert not re.search(r"<script(?![^>]*\bsrc=\"/assets/)|<style|\sstyle=|\son[a-z]+=", answer.body.decode())


async def test_a_page_answers_head(browser: Browser, harness: GatewayHarness) -> None:
    """As monitors request it: the same status and headers, without the body."""
    await harness.pair()
    await browser.sign_in()
    for path in (*PAGES, "/nothing-here"):
        head = await browser.client("HEAD", path, key=None, headers=browser.cookies())
        got = await browser.get(path)
        assert (head.status, head.headers.keys(), head.body) == (got.status, got.headers.keys(), b""), path


async def test_assets_may_be_cached_forever(browser: Browser) -> None:
    """They need no key; their URL changes with their content."""
    page = (await browser.get("/login")).body.decode()
    addresses = re.findall(r'(?:src|href)="(/assets/[^"]+)"', page)
    assert len(addresses) >= 4
    for address in addresses:
        answer = await browser.get(address, **{"Accept-Encoding": "gzip"})
        assert answer.status == 200
        assert answer.headers["content-encoding"] == "gzip"
        assert "immutable" in answer.headers["cache-control"]
    assert (await browser.get("/assets/000000000000/dashboard.css")).status == 404


async def test_a_form_without_its_token_or_from_elsewhere_does_nothing(
    browser: Browser, harness: GatewayHarness
) -> None:
    """Another site's form, one that does not say where it comes from, and one with another session's token."""
    await harness.pair()
    await browser.sign_in()
    for path in FORMS:
        for token, headers in _FORGED:
            given = browser.token if token is None else token
            assert (await browser.post(path, token=given, headers=headers, company="x")).status == 403
    assert harness.state() == "connected"
    assert len(harness.gateway.views()) == 1
    assert (await browser.get("/")).status == 200


_FORGED: tuple[tuple[str | None, dict[str, str]], ...] = (
    ("", {}),
    ("0" * 64, {}),
    (None, {"Origin": "http://elsewhere"}),
    (None, {"Origin": "null"}),
    (None, {"Origin": ""}),
    (None, {"Origin": "http://["}),
    (None, {"Sec-Fetch-Site": "cross-site"}),
    (None, {"Sec-Fetch-Site": "same-site"}),
)


async def test_a_malformed_form_is_refused(browser: Browser) -> None:
    """JSON sent as text, as another site could do; bytes that are not text; an endless form."""
    await browser.sign_in()
    assert (await browser.post("/companies", headers={"Content-Type": "text/plain"})).status == 422
    headers = {**ORIGIN, "Content-Type": "application/x-www-form-urlencoded"}
    for body in (b"key=%ff", b"a=1&" * 60):
        assert (await browser.client("POST", "/login", key=None, headers=headers, raw=[body])).status == 422


async def test_a_key_of_one_company_sees_no_other(browser: Browser, harness: GatewayHarness) -> None:
    """Neither in the list, nor by its URL, nor in streams; whether it exists is not revealed."""
    await harness.pair()
    await harness.now(harness.gateway.put(OTHER))
    await browser.sign_in(KEY_OF_ONE)
    page = (await browser.get("/")).body.decode()
    assert f'id="c-{COMPANY}"' in page
    assert OTHER not in page
    for company in (OTHER, "nobody"):
        for path in ("", "/live", "/inbox", "/messages", "/chart.json"):
            assert (await browser.get(f"/companies/{company}{path}")).status == 403
        for path in ("/action/stop", "/messages", "/pairing-code"):
            assert (await browser.post(f"/companies/{company}{path}", to="1", text="x")).status == 403
        assert (await browser.post("/companies", company=company)).status == 422
    assert len(harness.gateway.views()) == 2


async def test_input_is_always_escaped(browser: Browser, harness: GatewayHarness) -> None:
    """In URLs, in redisplayed forms, in outbound and inbound messages, in searches."""
    await harness.pair()
    await browser.sign_in()
    evil = '"><script>alert(1)</script>'
    await browser.post(f"/companies/{COMPANY}/messages", to="962790000001", text=evil)
    shown = [
        await browser.get(f"/companies/{COMPANY}"),
        await browser.get("/companies/%3Cscript%3Ealert(1)"),
        await browser.get(f"/companies/{COMPANY}/messages?words=%3Cscript%3E&before=9"),
        await browser.get(f"/companies/{COMPANY}/inbox?words=%22%3E%3Cscript%3Ealert(1)"),
        await browser.post("/companies", company=evil),
    ]
    assert "&lt;script&gt;alert(1)" in shown[0].body.decode()
    assert not any(b"<script>alert" in answer.body or b"<script>" in answer.body for answer in shown)


async def test_pages_renew_the_cookie_of_a_used_session(browser: Browser, harness: GatewayHarness) -> None:
    """Twelve hours without a page end it."""
    await browser.sign_in()
    first = browser.cookie
    for _ in range(3):
        harness.clock.advance_to(harness.clock.monotonic() + IDLE_S - 60)
        assert (await browser.get("/")).status == 200
    assert browser.cookie != first
    harness.clock.advance_to(harness.clock.monotonic() + IDLE_S + 60)
    assert (await browser.get("/")).status == 303


async def test_the_page_waits_until_the_sessions_are_loaded(harness: GatewayHarness) -> None:
    """An empty list would be misleading."""
    harness.host_starts.close()
    async with harness.running(until_ready=False) as gateway:
        browser = make_browser(harness, gateway)
        await browser.sign_in()
        answer = await browser.get("/")
        assert answer.status == 503
        assert b"Holdfast is starting" in answer.body
        assert b'http-equiv="refresh"' in answer.body


async def test_the_api_is_not_affected_by_the_pages(browser: Browser) -> None:
    """Other paths are answered with a problem; pages are not in the OpenAPI document."""
    answer = await browser.client("GET", "/v1/nothing")
    answer.problem(404, "not-found")
    described = (await browser.client("GET", "/openapi.json")).json["paths"]
    assert not [path for path in described if path in {"/", "/login", "/companies", "/live", "/docs"}]


async def test_a_key_of_one_company_controls_no_webhook_of_another(browser: Browser, harness: GatewayHarness) -> None:
    """Neither a delivery, nor its endpoint, nor the default endpoint: the error says that they are unknown."""
    rows = browser.client.api.state.context.webhooks
    await harness.now(rows.set_default("https://crm.example/", "whsec_x"))
    await harness.pair(OTHER)
    made = await harness.now(harness.events.after(0, companies=[OTHER], limit=1))
    await browser.sign_in(KEY_OF_ONE)
    assert (await browser.post("/webhooks/replay", id=made[0].id)).status == 404
    assert (await browser.post("/webhooks/resume", id="default")).status == 404
    await browser.sign_in()
    assert (await browser.post("/webhooks/replay", id=made[0].id)).status == 303
    assert (await browser.post("/webhooks/resume", id="default")).status == 303


async def test_an_endpoint_that_is_removed_while_it_is_resumed_is_unknown(
    browser: Browser, harness: GatewayHarness
) -> None:
    """Another request may remove it after the page was shown; the person must not read that it is active again."""
    state = browser.client.api.state
    await harness.now(WebhookRows(harness.database).set_default("https://crm.example/", "whsec_x"))
    state.context = replace(state.context, webhooks=RemovedBefore(harness.database))
    await browser.sign_in()
    answer = await browser.post("/webhooks/resume", id="default")
    assert answer.status == 404
    assert b"reload the page" in answer.body


class RemovedBefore(WebhookRows):
    """Another request removes the endpoint just before it is resumed."""

    async def resume(self, endpoint_id: str) -> Endpoint | None:
        await self.put(OF_ALL, lambda _: None)
        return await super().resume(endpoint_id)


async def test_an_unknown_path_is_a_page_for_browsers_and_a_problem_for_programs(browser: Browser) -> None:
    """Both 404, signed in or not; the page has the headers of all pages and escapes the path."""
    for _ in range(2):
        shown = await browser.get("/nothing/<b>", Accept="text/html,application/xhtml+xml")
        assert (shown.status, shown.headers["content-security-policy"]) == (404, HEADERS["Content-Security-Policy"])
        assert b"<h1>Page not found</h1>" in shown.body
        assert b"&lt;b&gt;" in shown.body
        await browser.sign_in()
    assert b'class="quiet">Sign out' in shown.body
    (await browser.get("/nothing", Accept="*/*")).problem(404, "not-found")
    (await browser.post("/nothing", headers={"Accept": "text/html"})).problem(404, "not-found")


async def test_an_unknown_path_while_the_database_fails_is_a_page_that_says_so(
    browser: Browser, harness: GatewayHarness
) -> None:
    """Like every other page: 503, with the headers of all pages, and no error in the log."""
    await browser.sign_in()
    await harness.now(
        harness.database.write(
            lambda connection: connection.exec_driver_sql("ALTER TABLE webhook_endpoints RENAME TO x")
        )
    )
    await harness.wait(60)  # the problems shown on every page are cached for some seconds
    answer = await browser.get("/no-such-page", Accept="text/html")
    assert answer.status == 503
    assert "The database is not available" in answer.body.decode()
    assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]


async def test_a_defect_is_shown_as_a_page(
    browser: Browser, harness: GatewayHarness, caplog: pytest.LogCaptureFixture
) -> None:
    """500 with the headers of all pages and a sentence instead of JSON; the log has the traceback."""
    await harness.pair()
    await browser.sign_in()
    harness.database.failing = "disk I/O error"
    whole = await browser.post(f"/companies/{COMPANY}/settings", label="Bakery")
    part = await browser.post(f"/companies/{COMPANY}/settings", headers={"HX-Request": "true"}, label="Bakery")
    harness.database.failing = None
    for answer in (whole, part):
        assert (answer.status, answer.headers["cache-control"]) == (500, "no-store")
        assert "Holdfast failed to show this page: its log has the cause." in answer.body.decode()
    assert "OSError: disk I/O error" in caplog.text
