"""Holdfast as a whole: the only place that joins the rooms."""

from holdfast.app.serving import serve
from holdfast.app.startup_claims import Claim, claim, make_folder

__all__ = ["Claim", "claim", "make_folder", "serve"]
