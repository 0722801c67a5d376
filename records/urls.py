"""Routes of the history, below /api."""

from django.urls import URLPattern, URLResolver

from backupcenter.api.router import Router
from records.api import BackupRecordViewSet, RecoveryRecordViewSet

router = Router()
router.register("record/backup", BackupRecordViewSet, basename="backup-record")
router.register("record/recovery", RecoveryRecordViewSet, basename="recovery-record")

urlpatterns: list[URLPattern | URLResolver] = [*router.urls]
