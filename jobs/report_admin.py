"""The console's page of the reports for auditors."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html_join
from django.utils.translation import gettext_lazy as _
from unfold.admin import ModelAdmin

from accounts.models import User
from backupcenter.console import LookOnly
from jobs.models import AuditReport

LANGUAGES = [("en", "English"), ("zh-hans", "中文")]


@admin.register(AuditReport)
class AuditReportAdmin(LookOnly, ModelAdmin):
    """Reports for auditors, which administrators download and nobody changes."""

    list_display = ["shown_month", "made_at", "pages"]
    fields = ["shown_month", "made_at", "pages"]
    list_display_links = None

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return isinstance(request.user, User) and request.user.has_role(User.Role.ADMINISTRATOR)

    def has_module_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request)

    @admin.display(description=_("month"), ordering="month")
    def shown_month(self, report: AuditReport) -> str:
        return str(report)

    @admin.display(description=_("signed pages"))
    def pages(self, report: AuditReport) -> str:
        address = reverse("audit-report", args=[str(report)])
        links = ((f"{address}?lang={code}", name) for code, name in LANGUAGES)
        return format_html_join(" · ", '<a class="text-link" href="{}">{}</a>', links)
