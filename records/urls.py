"""Routes of the history, below /api."""

from django.urls import URLPattern, URLResolver, re_path

from backupcenter.api.keys import ID_PATTERN
from backupcenter.api.router import Router
from records.adopting_api import AdoptView
from records.api import BackupRecordViewSet, RecoveryRecordViewSet
from records.check_api import CheckViewSet
from records.drill_api import DrillRecordViewSet
from records.notifying.api import ChannelViewSet, DeliveryViewSet, RuleViewSet
from records.prune_api import PruneViewSet

router = Router()
router.register("record/backup", BackupRecordViewSet, basename="backup-record")
router.register("record/recovery", RecoveryRecordViewSet, basename="recovery-record")
router.register("record/drill", DrillRecordViewSet, basename="drill-record")
router.register("notification/channel", ChannelViewSet, basename="notification-channel")
router.register("notification/rule", RuleViewSet, basename="notification-rule")
router.register("notification/delivery", DeliveryViewSet, basename="notification-delivery")

urlpatterns: list[URLPattern | URLResolver] = [
    *router.urls,
    re_path(
        rf"^repository/(?P<pk>{ID_PATTERN})/checks/?$", CheckViewSet.as_view({"get": "list", "post": "create"}), name="checks"
    ),
    re_path(
        rf"^repository/(?P<pk>{ID_PATTERN})/prune/?$", PruneViewSet.as_view({"get": "list", "post": "create"}), name="prune"
    ),
    re_path(r"^repository/adopt/?$", AdoptView.as_view(), name="repository-adopt"),
]
