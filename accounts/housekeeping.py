"""What is thrown away after a while: sessions and tokens that expired, and what of the audit log is older than it is kept."""

from datetime import timedelta

from django.conf import settings
from django.db.models import QuerySet
from django.utils import timezone
from knox.models import AuthToken

from accounts.models import AuditEntry
from accounts.sessions import SessionStore


def delete_expired() -> None:
    SessionStore.clear_expired()
    AuthToken.objects.filter(expiry__lt=timezone.now()).delete()
    forget_old_entries()


def forget_old_entries() -> int:
    """Delete what of the audit log is older than the settings keep it, 0 days: for ever; return how many."""
    if not settings.AUDIT_KEEP_DAYS:
        return 0
    limit = timezone.now() - timedelta(days=settings.AUDIT_KEEP_DAYS)
    # Past the model's own refusal; the database's still holds for what is young.
    return QuerySet(AuditEntry).filter(time__lt=limit).delete()[0]
