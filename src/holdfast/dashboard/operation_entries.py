"""Operations as entries of a session's history."""

from __future__ import annotations

from collections.abc import Iterable

from holdfast.dashboard.fleet import Tone
from holdfast.dashboard.timeline import TimelineEntry
from holdfast.session.operation_states import Operation, OperationState, is_light

TITLES = {
    "create-group": "Create a group",
    "change-members": "Change the members of a group",
    "update-group": "Change a group",
    "leave-group": "Leave a group",
    "set-picture": "Change a picture",
    "revoke-invite": "Revoke an invite link",
    "join-group": "Join a group",
    "answer-join-requests": "Answer requests to join a group",
    "set-profile": "Change the profile",
    "set-privacy": "Change the privacy settings",
    "read-chat": "Mark a chat as read",
    "update-chat": "Change a chat",
}
"""By kind of operation."""
TITLES_BY_ARGUMENT = {
    "block": ("blocked", "Block a contact", "Unblock a contact"),
    "edit-label": ("deleted", "Delete a label", "Create or change a label"),
    "follow-channel": ("followed", "Follow a channel", "Leave a channel"),
    "label-chat": ("labelled", "Label a chat", "Remove a label from a chat"),
    "save-contact": ("name", "Save a contact", "Remove a contact"),
    "star-message": ("starred", "Star a message", "Remove the star from a message"),
}
"""By kind of operation: an argument, the title when it is true, and the title when it is not."""
_STATES = {
    OperationState.QUEUED: (Tone.INFO, "waiting to be carried out"),
    OperationState.RUNNING: (Tone.INFO, "sent to WhatsApp; waiting for the answer"),
    OperationState.SUCCEEDED: (Tone.SUCCESS, "done"),
    OperationState.FAILED: (Tone.CRITICAL, "WhatsApp refused it"),
    OperationState.EXPIRED: (Tone.CRITICAL, "not done: it expired before it could be carried out"),
    OperationState.CANCELLED: (Tone.NEUTRAL, "cancelled before it was carried out"),
    OperationState.UNKNOWN: (Tone.CRITICAL, "it is not known whether this was done: look at the phone"),
}
_UNEVENTFUL = {OperationState.QUEUED, OperationState.RUNNING, OperationState.SUCCEEDED, OperationState.CANCELLED}


def operation_entries(operations: Iterable[Operation], *, since: str) -> list[TimelineEntry]:
    """Entries of operations that were accepted since a time. Light operations, of which there are many, are shown only
    when something went wrong."""
    return [
        _entry(operation)
        for operation in operations
        if operation.accepted_at >= since and not (is_light(operation) and operation.state in _UNEVENTFUL)
    ]


def _entry(operation: Operation) -> TimelineEntry:
    tone, line = _STATES[operation.state]
    if operation.state is OperationState.QUEUED and operation.retry_message is not None:
        line = f"will be retried: {operation.retry_message}"
    subject = operation.arguments.get("subject")
    return TimelineEntry(
        at=operation.accepted_at,
        tone=tone,
        title=_title(operation),
        lines=((f"name: {subject}",) if subject else ()) + (operation.error or line,),
        operation_id=operation.id,
    )


def _title(operation: Operation) -> str:
    """A kind without a title, as another version may have stored it, is shown by its name."""
    if operation.kind in TITLES_BY_ARGUMENT:
        argument, when_true, otherwise = TITLES_BY_ARGUMENT[operation.kind]
        return when_true if operation.arguments.get(argument) else otherwise
    return TITLES.get(operation.kind, operation.kind.replace("-", " ").capitalize())
