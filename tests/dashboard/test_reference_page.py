"""The API reference page, rendered from the description of the real routes."""

from __future__ import annotations

import html
import json
import re
import shlex

from tests.dashboard.browser import Browser


async def test_every_example_of_the_page_has_a_valid_body(browser: Browser) -> None:
    """A JSON object with values, never `null`; a message goes to a number and has a text."""
    page = html.unescape((await browser.get("/docs")).body.decode())
    examples = [
        shlex.split(found.replace("\\\n", " ")) for found in re.findall(r"<pre[^>]*>(curl .*?)</pre>", page, re.S)
    ]
    bodies = {words[3]: json.loads(words[words.index("-d") + 1]) for words in examples if "-d" in words}
    assert len(examples) > 20
    assert len(bodies) > 3
    assert not {url: body for url, body in bodies.items() if not isinstance(body, dict)}
    (message,) = [body for url, body in bodies.items() if url.endswith("/messages")]
    assert message == {"to": "962790000001", "text": "Your order is on its way."}
    assert not [url for url, body in bodies.items() if url.endswith("/v1/sessions/962302") and not body]
    (upload,) = [words for words in examples if "--data-binary" in words]
    assert upload[3].endswith("/media")


async def test_the_reference_is_rendered_once(browser: Browser) -> None:
    """Anybody may ask for it, so it must cost no time. Its examples have the address of each request."""
    first = (await browser.get("/docs", Host="localhost:1")).body.decode()
    browser.client.api.openapi_schema = {"paths": {}}
    second = (await browser.get("/docs", Host="localhost:2")).body.decode()
    assert first.count("http://localhost:1/v1/sessions/") > 20
    assert second == first.replace("http://localhost:1/", "http://localhost:2/")
    assert "holdfast.invalid" not in first
