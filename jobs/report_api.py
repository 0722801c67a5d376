"""`/api/auditreport`: the monthly reports for auditors."""

from typing import Any

from django.http import HttpResponse
from django.utils.translation import gettext as _
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.exceptions import NotFound, ValidationError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.models import User
from backupcenter.api.fields import UnixTimeField
from jobs.auditreport.reporting import language_of, parse_month, signed_report
from jobs.auditreport.signing import fingerprint
from jobs.models import AuditReport
from jobs.signing import public_key

MONTH = OpenApiParameter("month", str, OpenApiParameter.PATH, description="A month like 2026-11.")
LANGUAGE = OpenApiParameter("lang", str, enum=["en", "zh-hans"], description="The language (default: the server's).")


class KeptReportSerializer(serializers.Serializer[Any]):
    """A report that was made when its month had ended."""

    month = serializers.DateField(format="%Y-%m")
    made_at = UnixTimeField()


class ReportsSerializer(serializers.Serializer[Any]):
    """The reports that are kept, and the key that signs them: 32 bytes of Ed25519 in base64, and their SHA-256."""

    reports = KeptReportSerializer(many=True)
    public_key = serializers.CharField()
    fingerprint = serializers.CharField()


class ReportsView(APIView):
    """Which reports there are."""

    read_role = User.Role.ADMINISTRATOR
    schema_tags = ["audit"]

    @extend_schema(operation_id="auditreport_list", responses=ReportsSerializer)
    def get(self, request: Request) -> Response:
        """List the reports that are kept, and the key that signs them."""
        key = public_key()
        found = {"reports": AuditReport.objects.all(), "public_key": key, "fingerprint": fingerprint(key)}
        return Response(ReportsSerializer(found).data)


class ReportView(APIView):
    """A report."""

    read_role = User.Role.ADMINISTRATOR
    schema_tags = ["audit"]

    @extend_schema(parameters=[MONTH, LANGUAGE], responses={(200, "text/html"): OpenApiTypes.STR})
    def get(self, request: Request, month: str) -> HttpResponse:
        """Send a month's report as one signed page of HTML; of a month that was not kept, what is known of it now."""
        language = language_of(request.query_params.get("lang"))
        if language is None:
            raise ValidationError({"lang": [_("Must be en or zh-hans.")]})
        first = parse_month(month)
        page = None if first is None else signed_report(first, language)
        if page is None:
            raise NotFound(_("There is no report of this month."))
        response = HttpResponse(page, content_type="text/html; charset=utf-8")
        response["Content-Disposition"] = f'attachment; filename="backup-report-{month}.html"'
        return response
