"""Routes of endpoints and tenants, below /api."""

from django.urls import URLPattern, URLResolver

from backupcenter.api.router import Router
from storage.api import EndpointViewSet, TenantViewSet

router = Router()
router.register("endpoint", EndpointViewSet, basename="endpoint")
router.register("tenant", TenantViewSet, basename="tenant")

urlpatterns: list[URLPattern | URLResolver] = [*router.urls]
