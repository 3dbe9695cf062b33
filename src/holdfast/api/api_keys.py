"""`/v1/keys`: list, create and revoke API keys. All of it needs a key for all companies."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from fastapi import Depends, FastAPI, Path
from pydantic import Field

from holdfast.api.key_registry import KeyRegistry
from holdfast.api.keys import KeyGrant
from holdfast.api.routing import for_all_companies, from_state, keyed_router
from holdfast.api.schemas import ApiModel, ListPage, Text
from holdfast.base.api_keys import ListedKey


class ApiKeyRequest(ApiModel):
    name: Annotated[Text, Field(description="who or what uses the key: 1 to 100 characters")]
    companies: Annotated[list[str], Field(description="the companies that the key may access; they need not exist yet")]


class ApiKeyModel(ApiModel):
    id: str
    name: str
    companies: Annotated[list[str] | None, Field(description="null: all companies")]
    source: Annotated[
        Literal["settings", "created"],
        Field(
            description="settings: from HOLDFAST_API_KEY or the data folder, and removed there; created: by this API"
        ),
    ]
    created_at: Annotated[str | None, Field(description="null for a key of the settings")]
    last_used_at: Annotated[
        str | None, Field(description="to the minute; for a key of the settings, uses since the last start")
    ]

    @classmethod
    def of(cls, listed: ListedKey, **others: str) -> Self:
        companies = None if listed.companies is None else sorted(listed.companies)
        return cls.from_fields(listed, companies=companies, last_used_at=listed.used_at, **others)


class CreatedApiKeyModel(ApiKeyModel):
    key: Annotated[str, Field(description="the API key itself: it is stored as a hash, and never shown again")]


ForAll = Annotated[
    KeyGrant,
    for_all_companies("this API key is limited to some companies: only a key for all companies can manage keys"),
]


async def _registry(_: ForAll, registry: Annotated[KeyRegistry, from_state("key_registry")]) -> KeyRegistry:
    return registry


Registry = Annotated[KeyRegistry, Depends(_registry)]

router = keyed_router("keys", prefix="/v1/keys")


@router.get("")
async def list_keys(registry: Registry) -> ListPage[ApiKeyModel]:
    """The API keys, without the keys themselves. Needs a key for all companies."""
    return ListPage(items=[ApiKeyModel.of(key) for key in registry.listed()], next=None)


@router.post("", status_code=201)
async def create_key(registry: Registry, body: ApiKeyRequest) -> CreatedApiKeyModel:
    """Create an API key for some companies. It is valid at once, in a cluster on every node within seconds. Needs a key
    for all companies."""
    created, key = await registry.create(name=body.name, companies=body.companies)
    return CreatedApiKeyModel.of(created, key=key)


@router.delete("/{id}")
async def revoke_key(
    registry: Registry, id: Annotated[str, Path(description="the id in the list", max_length=100)]
) -> ApiKeyModel:
    """Revoke an API key: its requests are refused, and its event streams and dashboard sessions end. Needs a key for
    all companies."""
    return ApiKeyModel.of(await registry.revoke(id))


def add_api_keys(api: FastAPI, registry: KeyRegistry) -> None:
    api.state.key_registry = registry
    api.include_router(router)
