"""Routes of logging in and of accounts."""

from django.urls import URLPattern, URLResolver, include, path, re_path

from accounts.api import AccountViewSet, LoginView, LogoutView
from accounts.audit.api import AuditViewSet
from backupcenter.api.router import Router

router = Router()
router.register("account", AccountViewSet, basename="account")
router.register("audit", AuditViewSet, basename="audit")

urlpatterns: list[URLPattern | URLResolver] = [
    re_path(r"^login/?$", LoginView.as_view(), name="login"),
    re_path(r"^logout/?$", LogoutView.as_view(), name="logout"),
    path("api/", include(router.urls)),
]
