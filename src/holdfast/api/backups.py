"""Routes of backups, and of moving a company in, out and away. Those about everything need a key for all companies."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, FastAPI, Path, Query, Request
from fastapi.responses import FileResponse
from pydantic import Field

from holdfast.api import description
from holdfast.api.keys import Grant, NotAllowed
from holdfast.api.routes import Company, Holdfast, Key, KeyedRoute, Waiting, described
from holdfast.api.schemas import SessionShape, Shape, Text
from holdfast.backup.baileys import checked
from holdfast.backup.company import Device
from holdfast.backup.custody import Custody
from holdfast.backup.making import Made
from holdfast.backup.ratchets import Key as SignalKey
from holdfast.backup.shelf import Found


class BackupShape(Shape):
    name: Annotated[str, Field(description="of the file, in the folder `backups` of the data folder")]
    size_bytes: int
    created_at: Annotated[str | None, Field(description="null when the file can't be looked into")]
    companies: Annotated[list[str] | None, Field(description="the companies in it")]
    encrypted: bool
    trouble: Annotated[str | None, Field(description="what is wrong with the file; null when nothing was found")]

    @classmethod
    def of(cls, found: Found) -> BackupShape:
        manifest = found.manifest
        return cls(
            name=found.path.name,
            size_bytes=found.size_bytes,
            created_at=None if manifest is None else manifest.created_at,
            companies=None if manifest is None else [each.company_id for each in manifest.companies],
            encrypted=found.is_encrypted,
            trouble=found.trouble,
        )

    @classmethod
    def made(cls, made: Made) -> BackupShape:
        return cls.of(Found(path=made.path, size_bytes=made.size_bytes, manifest=made.manifest, trouble=None))


class BackupsShape(Shape):
    items: list[BackupShape]
    next: None = None


class KeyShape(Shape):
    type: Text
    id: Text
    value: Annotated[Text, Field(description="JSON text")]


class DeviceShape(Shape):
    """The keys of a linked device: whoever has them can read and write for the company."""

    credentials: Annotated[Text, Field(description="the text of Baileys' creds.json")]
    keys: Annotated[list[KeyShape], Field(description="the Signal keys, by type and id as Baileys names them")]


class ImportWish(DeviceShape):
    in_use: Annotated[
        bool, Field(description="another program may have used the keys since: chats get new ones before they send")
    ] = False


async def _custody(request: Request, _: Holdfast) -> Custody:
    custody: Custody = request.app.state.custody
    return custody


async def _everything(grant: Key) -> Grant:
    if grant.companies is not None:
        raise NotAllowed("this API key covers some companies, and a backup holds all: use one without `=`")
    return grant


Keeping = Annotated[Custody, Depends(_custody)]
ForAll = Annotated[Grant, Depends(_everything)]

backups = APIRouter(tags=["backups"], route_class=KeyedRoute, dependencies=described, responses=description.KEYED)


@backups.post("/v1/backups", status_code=201)
async def make_backup(_: ForAll, custody: Keeping, waits: Waiting) -> BackupShape:
    """Back up everything into one file, while sessions go on."""
    async with waits.until_stopping():
        return BackupShape.made(await custody.make())


@backups.get("/v1/backups")
async def list_backups(
    _: ForAll,
    custody: Keeping,
    waits: Waiting,
    verify: Annotated[bool, Query(description="read each file to its end")] = False,
) -> BackupsShape:
    """All backups in the data folder, newest first."""
    async with waits.until_stopping():
        return BackupsShape(items=[BackupShape.of(found) for found in await custody.found(verify=verify)])


@backups.get(
    "/v1/backups/{name}", response_class=FileResponse, responses=description.picture("application/octet-stream")
)
async def get_backup(
    _: ForAll, custody: Keeping, name: Annotated[str, Path(description="of the file")]
) -> FileResponse:
    """The file itself."""
    return FileResponse(
        custody.file(name), media_type="application/octet-stream", headers={"Cache-Control": "no-store"}
    )


@backups.post("/v1/sessions/{company}/clear")
async def clear_session(company: Company, _: ForAll, custody: Keeping) -> BackupShape:
    """Back everything up, then remove the company and all it has. WhatsApp is told nothing: log out first for that."""
    return BackupShape.made(await custody.clear(company))


@backups.post("/v1/sessions/{company}/import")
async def import_session(company: Company, wish: ImportWish, gateway: Holdfast, custody: Keeping) -> SessionShape:
    """Give the company a device that was linked elsewhere, and connect it. All of it is imported, or nothing."""
    device = checked(wish.credentials, [SignalKey(key.type, key.id, key.value) for key in wish.keys])
    await custody.take_in(company, device, in_use=wish.in_use)
    return SessionShape.of(await gateway.look(company))


@backups.get("/v1/sessions/{company}/export")
async def export_session(company: Company, custody: Keeping) -> DeviceShape:
    """The keys of the company's device. Stop the session first: two programs on one device fight."""
    device: Device = await custody.device(company)
    return DeviceShape(
        credentials=device.credentials,
        keys=[KeyShape(type=key.type, id=key.id, value=key.value) for key in device.keys],
    )


def add_backups(api: FastAPI, custody: Custody) -> None:
    """Serve these routes beside what `api` serves."""
    api.state.custody = custody
    api.include_router(backups)
