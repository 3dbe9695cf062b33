"""After signing in, people get the page that they requested, and never another site."""

from __future__ import annotations

import pytest

from holdfast.dashboard.return_path import login_address, return_path


@pytest.mark.parametrize(
    "path", ["/companies/962302", "/webhooks", "/?tone=critical", "/companies/a/inbox?words=%D8%A7"]
)
def test_our_own_pages_are_returned_to(path: str) -> None:
    """With its query string."""
    assert return_path(path) == path


@pytest.mark.parametrize(
    "given",
    [
        "", "https://evil.example/", "//evil.example/", "///evil.example", "/\\evil.example", "\\\\evil.example",
        "evil.example",
        "javascript:alert(1)", "/\tevil", "/\n/evil.example", "/ /evil.example", "/\r\nSet-Cookie: a=b", "/login",
        "/login?next=/login", "/" + "a" * 600, "/ü", "/\u2028",
    ],
)  # fmt: skip
def test_everything_else_leads_to_the_first_page(given: str) -> None:
    """Other sites in every spelling that browsers accept, and invalid addresses."""
    assert return_path(given) == "/"


def test_the_login_page_carries_the_path() -> None:
    """It is quoted, so that its own query string is kept."""
    assert login_address("/") == "/login"
    assert (
        login_address("/companies/1/inbox?words=a&before=2")
        == "/login?next=/companies/1/inbox%3Fwords%3Da%26before%3D2"
    )
    assert login_address("//evil.example") == "/login"
