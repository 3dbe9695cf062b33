"""Wires all packages together for `holdfast serve`."""

from holdfast.app.serving import serve
from holdfast.app.startup_claims import StartupClaims, claim, make_folder
from holdfast.store.database_failures import DatabaseFailures

__all__ = ["DatabaseFailures", "StartupClaims", "claim", "make_folder", "serve"]
