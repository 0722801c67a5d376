"""The audit log as files."""

from django.db.models import QuerySet
from django.http import StreamingHttpResponse

from accounts.models import AuditEntry
from backupcenter.exporting import export

COLUMNS = ["id", "time", "actor", "address", "via", "action", "path", "outcome", "status", "touched", "unnamed"]


def export_audit(entries: QuerySet[AuditEntry], form: str) -> StreamingHttpResponse:
    """Return an answer that sends the entries, oldest first. `form`: csv or jsonl."""
    return export(entries, COLUMNS, "audit", form)
