"""Where no media are kept: contents are given on as they are."""

from __future__ import annotations

from holdfast.delivery.ports import Content


class NoFiles:
    """Keeps `holdfast.delivery.ports.MediaFiles` where there are no media."""

    async def content_for_engine(self, content: Content) -> Content:
        return content
