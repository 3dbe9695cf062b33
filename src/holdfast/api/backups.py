"""Routes for backups, and for importing, exporting and removing a company. Those about everything need a key for all
companies."""

from __future__ import annotations

from typing import Annotated

from fastapi import FastAPI, Path, Query, Request, Response
from fastapi.responses import FileResponse
from pydantic import Field

from holdfast.api import description
from holdfast.api.bodies import check_import
from holdfast.api.forwarding import elsewhere, others_of
from holdfast.api.keys import KeyGrant
from holdfast.api.routing import (
    MAY_BE_NEW,
    CompanyPath,
    KeyedRoute,
    LoadedGateway,
    ShutdownDependency,
    for_all_companies,
    from_state,
    keyed_router,
)
from holdfast.api.schemas import ApiModel, Text
from holdfast.api.session_models import SessionModel
from holdfast.api.sessions import Answers
from holdfast.backup.backup_dir import BackupFile
from holdfast.backup.baileys import checked
from holdfast.backup.company import Device
from holdfast.backup.creating import BackupResult
from holdfast.backup.ratchets import RatchetKey as SignalKey
from holdfast.backup.service import BackupService
from holdfast.base.errors import NotFound


class BackupModel(ApiModel):
    name: Annotated[str, Field(description="name of the file in the folder `backups` of the data folder")]
    size_bytes: int
    created_at: Annotated[str | None, Field(description="null when the file can't be read")]
    companies: Annotated[list[str] | None, Field(description="the companies in it")]
    only_company: Annotated[
        str | None, Field(description="the file holds this company and nothing else; null: everything")
    ]
    encrypted: bool
    problem: Annotated[str | None, Field(description="what is wrong with the file; null when nothing was found")]
    node: Annotated[str | None, Field(description="the node of a cluster that has the file; null: there is one")] = None

    @classmethod
    def of(cls, found: BackupFile) -> BackupModel:
        manifest = found.manifest
        return cls(
            name=found.path.name,
            size_bytes=found.size_bytes,
            created_at=None if manifest is None else manifest.created_at,
            companies=None if manifest is None else [each.company_id for each in manifest.companies],
            only_company=None if manifest is None else manifest.only_company,
            encrypted=found.is_encrypted,
            problem=found.problem,
        )

    @classmethod
    def made(cls, made: BackupResult) -> BackupModel:
        return cls.of(BackupFile(path=made.path, size_bytes=made.size_bytes, manifest=made.manifest, problem=None))


class CompactedModel(ApiModel):
    freed_bytes: Annotated[int, Field(description="bytes returned to the file system")]
    size_bytes: Annotated[int, Field(description="size of the database now")]
    advice: Annotated[str | None, Field(description="what else can be done; null: nothing")]


class BackupsModel(ApiModel):
    items: list[BackupModel]
    next: None = None
    missing: Annotated[
        list[str],
        Field(default_factory=list, description="nodes of the cluster that did not answer: their backups are left out"),
    ]


class KeyModel(ApiModel):
    type: Text
    id: Text
    value: Annotated[Text, Field(description="JSON text")]


class DeviceModel(ApiModel):
    """The keys of a linked device: anybody who has them can read and write for the company."""

    credentials: Annotated[Text, Field(description="the text of Baileys' creds.json")]
    keys: Annotated[list[KeyModel], Field(description="the Signal keys, by type and id as Baileys names them")]


class ImportRequest(DeviceModel):
    in_use: Annotated[
        bool, Field(description="another program may have used the keys since: chats get new ones before they send")
    ] = False


Keeping = Annotated[BackupService, from_state("backup_service", loaded=True)]
ForAll = Annotated[
    KeyGrant,
    for_all_companies("this API key is limited to some companies, but a backup contains all: use a key without `=`"),
]

router = keyed_router("backups")


@router.post("/v1/backups", status_code=201)
async def make_backup(_: ForAll, backup_service: Keeping, shutdown: ShutdownDependency) -> BackupModel:
    """Back up everything into one file, while sessions keep running."""
    async with shutdown.until_stopping():
        return BackupModel.made(await backup_service.make())


@router.get("/v1/backups")
async def list_backups(
    request: Request,
    _: ForAll,
    backup_service: Keeping,
    shutdown: ShutdownDependency,
    verify: Annotated[bool, Query(description="read each file completely to verify it")] = False,
) -> BackupsModel:
    """All backups in the data folder, of a cluster those in the data folders of all nodes, newest first."""
    async with shutdown.until_stopping():
        items, missing = [BackupModel.of(found) for found in await backup_service.found(verify=verify)], []
        for node, answer in (await others_of(request)).items():
            if answer is None:
                missing.append(node)
            else:
                found = BackupsModel.model_validate_json(answer).items
                items += [backup.model_copy(update={"node": node}) for backup in found]
    return BackupsModel(items=sorted(items, key=lambda backup: backup.name, reverse=True), missing=missing)


@router.get(
    "/v1/backups/{name}", response_class=FileResponse, responses=description.picture("application/octet-stream")
)
async def get_backup(
    request: Request, _: ForAll, backup_service: Keeping, name: Annotated[str, Path(description="name of the file")]
) -> Response:
    """Download a backup file. Another node that has it is asked for it."""
    try:
        path, status = backup_service.file(name)
    except NotFound:
        found = await elsewhere(request)
        if found is None:
            raise
        return found
    headers = {"Cache-Control": "no-store"}
    return FileResponse(path, stat_result=status, media_type="application/octet-stream", headers=headers)


@router.post("/v1/sessions/{company}/clear")
async def clear_session(company: CompanyPath, _: ForAll, backup_service: Keeping) -> BackupModel:
    """Back up the company, then remove it with everything it has; API keys for it alone are revoked. Log out first,
    or the phone keeps listing its device."""
    return BackupModel.made(await backup_service.clear(company))


@router.post("/v1/compact")
async def compact_database(_: ForAll, backup_service: Keeping, waits: ShutdownDependency) -> CompactedModel:
    """Return the space of removed rows to the file system, while sessions keep running."""
    async with waits.until_stopping():
        done = await backup_service.compact()
    freed = max(done.before - done.after, 0)
    return CompactedModel(freed_bytes=freed, size_bytes=done.after, advice=done.advice)


class ImportRoute(KeyedRoute):
    """Takes up to 64 MB, so a hostile body is refused before it is parsed as a whole."""

    async def check_body(self, request: Request) -> None:
        await check_import(await request.body())


imports = keyed_router("backups", route_class=ImportRoute)


@imports.post("/v1/sessions/{company}/import", dependencies=[MAY_BE_NEW])
async def import_session(
    company: CompanyPath, body: ImportRequest, gateway: LoadedGateway, answers: Answers, backup_service: Keeping
) -> SessionModel:
    """Give the company a device that was linked elsewhere, and connect it. Everything is imported, or nothing."""
    device = checked(body.credentials, [SignalKey(key.type, key.id, key.value) for key in body.keys])
    await backup_service.import_device(company, device, in_use=body.in_use)
    return await answers.of(await gateway.cluster_view(company))


@router.get("/v1/sessions/{company}/export")
async def export_session(company: CompanyPath, backup_service: Keeping) -> DeviceModel:
    """The keys of the company's device. Stop the session first: two programs on one device keep replacing each
    other."""
    device: Device = await backup_service.device(company)
    return DeviceModel(
        credentials=device.credentials,
        keys=[KeyModel.from_fields(key) for key in device.keys],
    )


def add_backups(api: FastAPI, backup_service: BackupService) -> None:
    """Add these routes to the application `api`."""
    api.state.backup_service = backup_service
    api.include_router(router)
    api.include_router(imports)
