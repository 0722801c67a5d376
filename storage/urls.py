"""Routes of endpoints, repositories and tenants, below /api."""

from django.urls import URLPattern, URLResolver

from backupcenter.api.router import Router
from storage.api import EndpointViewSet, TenantViewSet
from storage.repository_api import RepositoryViewSet

router = Router()
router.register("endpoint", EndpointViewSet, basename="endpoint")
router.register("repository", RepositoryViewSet, basename="repository")
router.register("tenant", TenantViewSet, basename="tenant")

urlpatterns: list[URLPattern | URLResolver] = [*router.urls]
