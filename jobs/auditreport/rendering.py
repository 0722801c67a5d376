"""A month's figures as a page: one file of HTML that needs nothing else, in either language."""

from datetime import UTC, datetime
from typing import Any

from django.conf import settings
from django.template.loader import render_to_string
from django.utils.translation import override

from records.display import duration_text, size_text
from records.models import RESTORABLE_STATES, DrillRecord, State
from storage.models import Verification


def render(content: dict[str, Any], language: str, fingerprint: str) -> str:
    """Return the page. `fingerprint`: that of the key which signs it."""
    with override(language):
        context = {
            **content,
            "language": language,
            "fingerprint": fingerprint,
            "time_zone": settings.TIME_ZONE,
            "made_at": _moment(content["made_at"]),
            "plans": [_plan(plan) for plan in content["plans"]],
            "repositories": [_repository(repository) for repository in content["repositories"]],
            "totals": _totals(content),
        }
        return render_to_string("auditreport.html", context)


def _totals(content: dict[str, Any]) -> dict[str, int]:
    runs = [plan["runs"] for plan in content["plans"]]
    drills = [drill for plan in content["plans"] for drill in plan["drills"]]
    good = [state.name.lower() for state in State if state in RESTORABLE_STATES]
    proven = {plan["uuid"] for plan in content["plans"] if any(_is_good(drill) for drill in plan["drills"])}
    return {
        "plans": len(content["plans"]),
        "runs": sum(sum(states.values()) for states in runs),
        "good_runs": sum(states.get(name, 0) for states in runs for name in good),
        "drills": len(drills),
        "good_drills": sum(map(_is_good, drills)),
        "proven": len(proven),
        "checks": sum(repository["checks"] for repository in content["repositories"]),
        "failed_checks": sum(repository["failed"] for repository in content["repositories"]),
    }


def _plan(plan: dict[str, Any]) -> dict[str, Any]:
    states = [(State[name.upper()].label, count) for name, count in plan["runs"].items()]
    return {
        **plan,
        "states": states,
        "last_success": _moment(plan["last_success"]),
        "drills": [_drill(drill) for drill in plan["drills"]],
    }


def _drill(drill: dict[str, Any]) -> dict[str, Any]:
    return {
        **drill,
        "at": _moment(drill["at"]),
        "is_good": _is_good(drill),
        "state": State(drill["state"]).label,
        "extent": DrillRecord.Extent(drill["extent"]).label,
        "size": size_text(drill["bytes"]),
        "duration": duration_text(drill["duration_s"]),
        "age": duration_text(drill["age_s"]),
    }


def _repository(repository: dict[str, Any]) -> dict[str, Any]:
    return {
        **repository,
        "is_good": repository["state"] == Verification.State.SOUND,
        "state": Verification.State(repository["state"]).label,
        "structure_at": _moment(repository["structure_at"]),
        "data_since": _moment(repository["data_since"]),
        "percent": int(repository["data_share"] * 100),
        "read": size_text(repository["bytes_read"]),
    }


def _is_good(drill: dict[str, Any]) -> bool:
    return drill["state"] in RESTORABLE_STATES


def _moment(seconds: int | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
