"""What the OpenAPI document says that no view of Django's declares: the event stream, and plans as records remember them."""

from typing import Any

from backupcenter.api.schema import DESCRIPTIONS

# The part of a plan that holds only for the moment.
MOMENTARY = ("state", "next_time", "proof")

EVENT_STREAM = {
    "operationId": "event_stream",
    "description": (
        "Server-sent events. The data of a `message` is an `Event` in JSON; `progress` tells how far active jobs are. "
        "Without an id the stream begins now; with one, what followed comes first."
    ),
    "tags": ["event"],
    "security": [{"token": []}, {"bearer": []}, {"cookieAuth": []}, {}],
    "parameters": [
        {
            "in": "query",
            "name": "token",
            "schema": {"type": "string"},
            "description": "The token, for callers that cannot send headers, as a browser's EventSource.",
        },
        {
            "in": "header",
            "name": "Last-Event-ID",
            "schema": {"type": "string"},
            "description": "Id of the last event that the caller has, like `events:12`.",
        },
        {
            "in": "query",
            "name": "lastEventId",
            "schema": {"type": "string"},
            "description": "The same, for callers that cannot send headers.",
        },
    ],
    "responses": {
        "200": {
            "description": "The stream, which lasts.",
            "content": {
                "text/event-stream": {
                    "schema": {"type": "string"},
                    "example": (
                        "id: events:12\nevent: message\n"
                        'data: {"type": 33, "title": "Backup of client1 succeeded", "message": "", "record": '
                        '{"kind": "backup", "id": 7}, "backup": "4f9b6e0e-37a5-4a0f-8f4c-6c1f0a7c2d11", "time": 1589627522}\n\n'
                    ),
                }
            },
        },
        "503": {
            "description": "The database does not answer; `Retry-After` says when to ask again.",
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
        },
    },
}
EVENT = {
    "type": "object",
    "description": "Something that happened.",
    "required": ["type", "title", "message", "record", "backup", "time"],
    "properties": {
        "type": {
            "type": "integer",
            "description": "0x0_ info, 0x2_ success, 0x4_ warning, 0x5_ error; the low digit: 0 general, 1 backup, 2 recovery, "
            "3 client, 4 storage, 5 maintenance, 6 account.",
        },
        "title": {"type": "string"},
        "message": {"type": "string"},
        "record": {
            "type": "object",
            "nullable": True,
            "properties": {"kind": {"type": "string", "enum": ["backup", "recovery"]}, "id": {"type": "integer"}},
        },
        "backup": {"type": "string", "format": "uuid", "nullable": True},
        "time": {"type": "integer", "format": "int64", "description": "Unix seconds."},
    },
}


def describe_event_stream(result: dict[str, Any], **_options: Any) -> dict[str, Any]:
    """Add `/api/event`, which is answered before Django's routes are looked at."""
    errors = {
        str(code): {
            "description": DESCRIPTIONS[code],
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
        }
        for code in (400, 401, 405)
    }
    result["paths"]["/api/event"] = {"get": {**EVENT_STREAM, "responses": {**EVENT_STREAM["responses"], **errors}}}  # type: ignore[dict-item]
    result["components"]["schemas"]["Event"] = EVENT
    return result


def describe_plan_details(result: dict[str, Any], **_options: Any) -> dict[str, Any]:
    """Add `PlanDetail`: the plan as a record remembers it, whose room knows nothing of plans."""
    schemas = result["components"]["schemas"]
    properties = {name: schema for name, schema in schemas["Plan"]["properties"].items() if name not in MOMENTARY}
    # Nothing is required: an old record lacks what plans got later.
    schemas["PlanDetail"] = {"type": "object", "description": "A backup plan as it was.", "properties": properties}
    return result
