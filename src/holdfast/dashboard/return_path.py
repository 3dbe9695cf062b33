"""The page to return to after signing in. It is always a path on this site."""

from __future__ import annotations

from urllib.parse import quote, urlsplit

HOME = "/"
_LONGEST = 500


def return_path(given: str) -> str:
    """The given path if it certainly stays on this site; otherwise the first page.

    Browsers read `//host`, `/\\host` and paths with control characters as another site's address, so such a path is
    rejected as a whole instead of being repaired.
    """
    is_path = given.startswith("/") and not given.startswith(("//", "/login"))
    is_plain = given.isascii() and given.isprintable() and not set(given) & {"\\", " "}
    if not is_path or not is_plain or len(given) > _LONGEST:
        return HOME
    try:
        parts = urlsplit(given)
    except ValueError:
        return HOME
    return HOME if parts.scheme or parts.netloc else given


def login_address(path: str) -> str:
    """Path of the login page that returns to this path."""
    back = return_path(path)
    return "/login" if back == HOME else f"/login?next={quote(back, safe='/')}"
