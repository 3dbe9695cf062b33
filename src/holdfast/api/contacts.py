"""People: what is known of them, which phone numbers are on WhatsApp, and pictures."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from fastapi import Depends, Query, Request
from pydantic import Field

from holdfast.api.chat_models import NamesModel
from holdfast.api.deferred import deferred
from holdfast.api.description import problem
from holdfast.api.groups import shown_time
from holdfast.api.operations import STARTING, OperationModel, StarterDependency
from holdfast.api.queries import QUERY_FAILURES, ChatJid, ChatPath, ask, queries_of
from holdfast.api.routing import CompanyPath, Limit, LoadedGateway, PeopleDependency, from_state, keyed_router
from holdfast.api.schemas import SHORT_PAGES, ApiModel, ListPage, RequestModel, Text
from holdfast.base.errors import BadInput
from holdfast.delivery.chats import Names
from holdfast.delivery.recipient import parse_recipient, username_in
from holdfast.runtime.people import check_people
from holdfast.session import operations as kinds
from holdfast.session import queries as asked
from holdfast.session.contacts import HIDDEN, PERSON, Contacts, KnownContact

MAX_NUMBERS = 500
_LONGEST_JID = 200


class NumbersRequest(RequestModel):
    numbers: Annotated[
        list[Annotated[Text, Field(max_length=100)]],
        Field(
            min_length=1,
            max_length=MAX_NUMBERS,
            description="phone numbers in any usual spelling; also hidden ids (…@lid) and usernames (@name)",
        ),
    ]

    def check(self) -> None:
        check_people(self.numbers, field="numbers")


class CheckedNumberModel(ApiModel):
    number: Annotated[str, Field(description="as it was given")]
    exists: Annotated[bool, Field(description="whether it is on WhatsApp")]
    chat: Annotated[
        str | None,
        Field(description="the chat: the number in WhatsApp's own spelling, or the hidden id of somebody without one"),
    ]
    phone_number: Annotated[str | None, Field(description="digits in WhatsApp's own spelling, where known")] = None
    lid: Annotated[str | None, Field(description="the id that hides the number, where WhatsApp reports it")] = None
    username: Annotated[str | None, Field(description="without @, where known")] = None


class PictureModel(ApiModel):
    chat: str
    url: str


class OpeningHoursModel(ApiModel):
    day: Annotated[str, Field(description="sun, mon, tue, wed, thu, fri or sat")]
    mode: Annotated[str | None, Field(description="WhatsApp's own: specific_hours, open_24h or appointment_only")]
    opens: Annotated[str | None, Field(description="HH:MM in the business's timezone")]
    closes: str | None


class BusinessModel(ApiModel):
    description: str | None
    category: str | None
    address: str | None
    email: str | None
    websites: list[str]
    timezone: str | None
    hours: list[OpeningHoursModel]


class PersonAboutModel(ApiModel):
    chat: str
    about: Annotated[str | None, Field(description="null: the person has no text, or hides it from this account")]
    about_set_at: str | None
    business: Annotated[BusinessModel | None, Field(description="null: it is no business account")]

    @classmethod
    def of(cls, chat: str, found: asked.About) -> Self:
        business = found.business
        return cls(
            chat=chat,
            about=found.about,
            about_set_at=shown_time(found.set_at_s),
            business=None if business is None else BusinessModel.from_fields(business),
        )


class ContactRequest(ApiModel):
    name: Annotated[Text, Field(min_length=1, max_length=100, description="as the account's owner calls the person")]
    first_name: Annotated[Text | None, Field(max_length=100)] = None
    on_phone: Annotated[
        bool, Field(description="also save it in the phone's own address book, not only in WhatsApp's")
    ] = False


class PersonModel(ApiModel):
    chat: Annotated[
        str, Field(description="the one JID of the person: by number, or by hidden id where it is not known")
    ]
    name: Annotated[str, Field(description="saved name, push name, business name, username or number: the first one")]
    names: NamesModel
    phone_number: str | None
    lid: Annotated[str | None, Field(description="the id that hides the number (…@lid)")]
    updated_at: Annotated[str | None, Field(description="null: nothing is known of this person")]

    @classmethod
    def of(cls, contact: KnownContact) -> Self:
        names = Names(
            saved=contact.saved_name,
            push=contact.push_name,
            business=contact.business_name,
            username=contact.username,
            number=contact.number,
        )
        return cls(
            chat=contact.jid,
            name=names.shown(contact.jid),
            names=NamesModel.from_fields(names),
            phone_number=contact.number,
            lid=contact.lid,
            updated_at=contact.updated_at,
        )


def _names_person(cure: str) -> Any:
    """A dependency: the person in the path as it is written. Raises `BadInput` for a group, with `cure`."""

    async def check(chat: ChatPath) -> str:
        if username_in(chat) is None and not parse_recipient(chat, field="chat")[1].endswith((PERSON, HIDDEN)):
            raise BadInput(f'chat "{chat[:60]}" is not a person: {cure}', field="chat")
        return chat

    return Depends(check)


def _person(only: str) -> Any:
    """A dependency: the JID of the person in the path. Raises `BadInput`, in which `only` says who may be named."""
    names_person = _names_person(f"only {only}")

    async def read(jid: ChatJid, _: str = names_person) -> str:
        return jid

    return deferred(read)


async def _numbered(chat: ChatPath, jid: Annotated[str, _person("people can be saved")]) -> str:
    if jid.endswith(HIDDEN):
        raise BadInput(f'chat "{chat[:60]}" has no known number: the address book needs one', field="chat")
    return jid


Person = Annotated[str, _person("people have this text")]
Blockable = Annotated[str, _person("people can be blocked")]
Numbered = Annotated[str, deferred(_numbered)]

router = keyed_router("contacts")


@router.post("/v1/sessions/{company}/contacts/check", responses=QUERY_FAILURES)
async def check_numbers(
    company: CompanyPath, body: NumbersRequest, request: Request, people: PeopleDependency
) -> ListPage[CheckedNumberModel]:
    """Which of these people are on WhatsApp. Answers are cached for an hour, and for five minutes where there is no
    account."""
    async with queries_of(request, company):
        found = await people.check(company, body.numbers, field="numbers")
    items = [
        CheckedNumberModel(
            number=each.given,
            exists=each.chat is not None,
            chat=each.chat,
            phone_number=each.number,
            lid=each.lid,
            username=each.username,
        )
        for each in found
    ]
    return ListPage(items=items, next=None)


@router.get("/v1/sessions/{company}/contacts")
async def list_contacts(
    company: CompanyPath,
    _: LoadedGateway,
    contacts: Annotated[Contacts, from_state("contacts")],
    after: Annotated[str | None, Query(description="`next` of the previous page", max_length=_LONGEST_JID)] = None,
    limit: Limit = 100,
    q: Annotated[Text, Query(description=f"a part of a name or of the number{SHORT_PAGES}", max_length=100)] = "",
) -> ListPage[PersonModel]:
    """The people about whom WhatsApp reported anything, ordered by JID."""
    found = await contacts.contacts(company, after=after or "", limit=limit, words=q.strip())
    return ListPage(items=[PersonModel.of(contact) for contact in found.people], next=found.next)


@router.get(
    "/v1/sessions/{company}/contacts/{chat}",
    responses={**QUERY_FAILURES, 404: problem("nobody on WhatsApp has this number, hidden id or username")},
)
async def get_contact(
    company: CompanyPath,
    chat: Annotated[str, _names_person("give a number, a hidden id or a username")],
    people: PeopleDependency,
) -> PersonModel:
    """What is known about a person, found by number or by hidden id. WhatsApp is queried for the one that is
    missing; it reveals nobody's number by the hidden id alone.
    """
    return PersonModel.of(await people.contact(company, chat, field="chat"))


@router.get(
    "/v1/sessions/{company}/contacts/{chat}/picture",
    responses={**QUERY_FAILURES, 404: problem("there is no picture, or it is hidden from this account")},
)
async def get_picture(
    company: CompanyPath,
    jid: ChatJid,
    request: Request,
    size: Annotated[Literal["preview", "full"], Query(description="preview: 96 pixels wide")] = "preview",
) -> PictureModel:
    """The address of the picture of a person or group at WhatsApp. It needs no key and expires after some days."""
    return PictureModel(chat=jid, url=(await ask(request, company, asked.picture(jid, size=size))).url)


@router.get("/v1/sessions/{company}/contacts/{chat}/about", responses=QUERY_FAILURES)
async def get_contact_about(company: CompanyPath, jid: Person, request: Request) -> PersonAboutModel:
    """The text that a person shows about themselves, and the profile of a business."""
    return PersonAboutModel.of(jid, await ask(request, company, asked.about(jid)))


@router.put("/v1/sessions/{company}/contacts/{chat}", status_code=202, responses=STARTING)
async def save_contact(
    company: CompanyPath, jid: Numbered, body: ContactRequest, starter: StarterDependency
) -> OperationModel:
    """Save a person in the account's address book, or rename the entry. The name is shown on all of the account's
    devices."""
    return await starter.start(company, kinds.SaveContact(jid=jid, **body.model_dump(exclude_none=True)))


@router.delete("/v1/sessions/{company}/contacts/{chat}", status_code=202, responses=STARTING)
async def remove_contact(company: CompanyPath, jid: Numbered, starter: StarterDependency) -> OperationModel:
    """Remove a person from the account's address book. Messages and the chat stay."""
    return await starter.start(company, kinds.SaveContact(jid=jid))


@router.post("/v1/sessions/{company}/contacts/{chat}/block", status_code=202, responses=STARTING)
async def block(company: CompanyPath, jid: Blockable, starter: StarterDependency) -> OperationModel:
    """Block a person: this account gets no more messages and calls from there."""
    return await starter.start(company, kinds.Block(jid=jid, blocked=True))


@router.post("/v1/sessions/{company}/contacts/{chat}/unblock", status_code=202, responses=STARTING)
async def unblock(company: CompanyPath, jid: Blockable, starter: StarterDependency) -> OperationModel:
    """Unblock a person."""
    return await starter.start(company, kinds.Block(jid=jid, blocked=False))
