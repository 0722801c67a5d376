"""Routes of clients, of join tokens and of the agents' own presence, below /api."""

from django.urls import URLPattern, URLResolver, re_path

from backupcenter.api.router import Router
from clients.agent_api import ChecksView, HeartbeatView, JoinView, LoginView
from clients.api import ClientViewSet, JoinTokenView

router = Router()
router.register("client", ClientViewSet, basename="client")

urlpatterns: list[URLPattern | URLResolver] = [
    *router.urls,
    re_path(r"^jointoken/?$", JoinTokenView.as_view(), name="jointoken"),
    re_path(r"^agent/join/?$", JoinView.as_view(), name="agent-join"),
    re_path(r"^agent/login/?$", LoginView.as_view(), name="agent-login"),
    re_path(r"^agent/heartbeat/?$", HeartbeatView.as_view(), name="agent-heartbeat"),
    re_path(r"^agent/checks/?$", ChecksView.as_view(), name="agent-checks"),
]
