"""Holdfast as a whole: the only place that joins the rooms."""

from holdfast.app.claiming import Claim, claim, make_folder
from holdfast.app.serving import serve

__all__ = ["Claim", "claim", "make_folder", "serve"]
