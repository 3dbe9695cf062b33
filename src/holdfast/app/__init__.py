"""Wires all packages together for `holdfast serve`."""

from holdfast.app.serving import serve
from holdfast.app.startup_claims import StartupClaims, claim, make_folder

__all__ = ["StartupClaims", "claim", "make_folder", "serve"]
