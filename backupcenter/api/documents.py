"""The API's own description, `/api/schema`, and a page to try it from, `/api/docs` (static files of our own, no CDN)."""

from typing import Any

from drf_spectacular.openapi import AutoSchema
from drf_spectacular.views import SpectacularJSONAPIView, SpectacularSwaggerView
from rest_framework.permissions import AllowAny
from rest_framework.renderers import TemplateHTMLRenderer


class SchemaView(SpectacularJSONAPIView):
    """The OpenAPI document; it holds nothing that is not public."""

    permission_classes = [AllowAny]
    authentication_classes: list[Any] = []


class SwaggerView(SpectacularSwaggerView):
    """The browsable page."""

    permission_classes = [AllowAny]
    authentication_classes: list[Any] = []
    renderer_classes = [TemplateHTMLRenderer]
    schema: AutoSchema | None = None
