"""The API's own description, `/api/schema`, and a page to try it from, `/api/docs` (static files of our own, no CDN)."""

from typing import Any

from drf_spectacular.openapi import AutoSchema
from drf_spectacular.views import SpectacularJSONAPIView, SpectacularSwaggerView
from rest_framework.permissions import AllowAny
from rest_framework.renderers import JSONRenderer, TemplateHTMLRenderer
from rest_framework.response import Response
from rest_framework.views import APIView


class FailsInJSON(APIView):
    """A view of another format, whose failures are those of the API all the same."""

    permission_classes = [AllowAny]
    authentication_classes: list[Any] = []

    def handle_exception(self, exc: Exception) -> Response:
        self.request.accepted_renderer = JSONRenderer()
        self.request.accepted_media_type = JSONRenderer.media_type
        return super().handle_exception(exc)


class SchemaView(FailsInJSON, SpectacularJSONAPIView):
    """The OpenAPI document; it holds nothing that is not public."""


class SwaggerView(FailsInJSON, SpectacularSwaggerView):
    """The browsable page."""

    renderer_classes = [TemplateHTMLRenderer]
    schema: AutoSchema | None = None
