"""Routes of plans, recoveries and the agents' jobs, below /api."""

from django.urls import URLPattern, URLResolver, re_path

from backupcenter.api.router import Router
from jobs.agent_api import ClaimView, FinishView, ProgressView, StoresView
from jobs.api import PlanViewSet, RecoveryView
from jobs.looking_api import NUMBER, AnswerView, BrowseView, EstimateView, LookView, QuestionView
from jobs.ownbackup.api import OwnBackupView
from jobs.pinging_api import PingView
from jobs.report_api import ReportsView, ReportView

router = Router()
router.register("backup", PlanViewSet, basename="backup")

PLAN = rf"^backup/(?P<uuid>{PlanViewSet.lookup_value_regex})"

JOB = r"^agent/job/(?P<job>[a-z]+-[0-9]{1,18})"

urlpatterns: list[URLPattern | URLResolver] = [
    *router.urls,
    re_path(rf"{PLAN}/ping/?$", PingView.as_view(), name="backup-ping"),
    re_path(r"^serverbackup/?$", OwnBackupView.as_view(), name="server-backup"),
    re_path(r"^recovery/?$", RecoveryView.as_view(), name="recovery"),
    re_path(rf"{JOB}/claim/?$", ClaimView.as_view(), name="agent-claim"),
    re_path(rf"{JOB}/progress/?$", ProgressView.as_view(), name="agent-progress"),
    re_path(rf"{JOB}/finish/?$", FinishView.as_view(), name="agent-finish"),
    re_path(r"^auditreport/?$", ReportsView.as_view(), name="audit-reports"),
    re_path(r"^auditreport/(?P<month>[0-9]{4}-[0-9]{2})/?$", ReportView.as_view(), name="audit-report"),
    re_path(r"^agent/stores/?$", StoresView.as_view(), name="agent-stores"),
    re_path(r"^client/(?P<ipv4>[^/]+)/browse/?$", BrowseView.as_view(), name="client-browse"),
    re_path(r"^client/(?P<ipv4>[^/]+)/estimate/?$", EstimateView.as_view(), name="client-estimate"),
    re_path(rf"^look/(?P<look>{NUMBER})/?$", LookView.as_view(), name="look"),
    re_path(rf"^agent/look/(?P<look>{NUMBER})/question/?$", QuestionView.as_view(), name="agent-look-question"),
    re_path(rf"^agent/look/(?P<look>{NUMBER})/answer/?$", AnswerView.as_view(), name="agent-look-answer"),
]
