"""Adds the dashboard to an HTTP application."""

from __future__ import annotations

from fastapi import FastAPI

from holdfast.dashboard import (
    chat_pages,
    company_pages,
    fleet_pages,
    key_pages,
    login_pages,
    passkey_pages,
    people_pages,
    picture_pages,
    settings_pages,
    webhook_pages,
)
from holdfast.dashboard.context import AppContext
from holdfast.dashboard.unknown_pages import show_unknown_pages


def add_dashboard(api: FastAPI, context: AppContext) -> None:
    """Add the pages to the routes of `api`."""
    api.state.context = context
    for router in (
        login_pages.open_pages,
        login_pages.pages,
        fleet_pages.pages,
        company_pages.pages,
        people_pages.pages,
        chat_pages.pages,
        chat_pages.uploads,
        picture_pages.pages,
        passkey_pages.open_pages,
        passkey_pages.pages,
        settings_pages.pages,
        webhook_pages.pages,
        key_pages.pages,
    ):
        api.include_router(router)
    show_unknown_pages(api)
