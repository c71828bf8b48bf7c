"""[P] Records as JSON objects, for programs: every fact under one name, whatever the kind.

Names are those of the body's fields in log.proto. Times are RFC 3339 in UTC and the same
as `_ns`. Names are only added, never changed: scripts read them.
"""

from __future__ import annotations

from typing import Any

from hermes.broker.state import Session
from hermes.cli.text import payload_fields, rfc3339
from hermes_inspect.model import Message, RecordView
from hermes_inspect.views import Who


def record_fields(view: RecordView, who: Who, messages: list[Message] | None) -> dict[str, Any]:
    """A record as one JSON object. `messages` None: they were not asked for."""
    fields: dict[str, Any] = {
        "lsn": view.lsn,
        "at": rfc3339(view.at_ns),
        "at_ns": view.at_ns,
        "kind": view.name,
    }
    for name in ("subject", "consumer", "pattern", "reason", "member", "attempt", "broken"):
        value = getattr(view, name)
        if value:
            fields[name] = value
    if view.ranges:
        fields["first"], fields["last"] = view.ranges[0][0], view.ranges[-1][1]
        fields["ranges"] = [list(pair) for pair in view.ranges]
    if view.messages:
        fields["messages"] = view.messages
    if view.ids:
        fields["ids"] = list(view.ids)
    if view.payload_bytes is not None:
        fields["payload_bytes"] = view.payload_bytes
    if view.session:
        fields["session"] = view.session
        fields.update(client_fields(who(view.session)))
    for name, value in view.details.items():
        # A delivery's times are the broker's, told on the wall clock of the record.
        fields.setdefault(name, value)
    if messages is not None and view.payload_bytes is not None:
        fields["content"] = [message_fields(message) for message in messages]
        fields["payload_retired"] = view.retired
    return fields


def message_fields(message: Message) -> dict[str, Any]:
    """`payload` when it is UTF-8, else `payload_base64`."""
    fields: dict[str, Any] = {"id": message.id or None, "headers": message.headers}
    if message.offset is not None:
        fields = {"offset": message.offset} | fields
    return fields | payload_fields(message.payload)


def client_fields(client: Session | None) -> dict[str, Any]:
    """A client for a JSON object, its empty fields left out."""
    if client is None:
        return {}
    names = ("principal", "peer", "client_name", "client_version", "client_id")
    return {name: getattr(client, name) for name in names if getattr(client, name)}
