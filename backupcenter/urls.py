"""Routes: the API, the admin console and the pages beside them.

`/api/event` is not here: `backupcenter.asgi` answers it before Django (see `records.stream`).
"""

from typing import Any

from django.contrib import admin
from django.urls import URLPattern, URLResolver, include, path, re_path
from django.utils.translation import gettext_lazy as _
from django.views.generic import RedirectView

from backupcenter.api.documents import SchemaView, SwaggerView
from backupcenter.api.errors import unknown_route
from backupcenter.metrics.views import show_metrics


class WithSlash(RedirectView):
    """To the console's address with the slash at its end, which people leave out and all its addresses have."""

    http_method_names = ["get", "head"]

    def get_redirect_url(self, *arguments: Any, **named: Any) -> str:
        return self.request.get_full_path(force_append_slash=True)


# What the front page answers; Django would call it the administration of a site.
admin.site.index_title = _("Are we safe?")  # type: ignore[assignment]

handler400 = "backupcenter.api.errors.bad_request"
handler403 = "backupcenter.api.errors.permission_denied"
handler404 = "backupcenter.api.errors.not_found"
handler500 = "backupcenter.api.errors.server_error"

urlpatterns: list[URLPattern | URLResolver] = [
    path("", RedirectView.as_view(pattern_name="admin:index")),
    re_path(r"^admin(?:/.*[^/])?$", WithSlash.as_view()),
    path("admin/", admin.site.urls),
    path("metrics", show_metrics, name="metrics"),
    path("", include("accounts.urls")),
    path("api/", include("storage.urls")),
    path("api/", include("clients.urls")),
    path("api/", include("records.urls")),
    path("api/", include("jobs.urls")),
    re_path(r"^api/schema/?$", SchemaView.as_view(), name="schema"),
    re_path(r"^api/docs/?$", SwaggerView.as_view(url_name="schema"), name="docs"),
    # Nothing may follow this line below /api.
    re_path(r"^api(?:/.*)?$", unknown_route),
]
