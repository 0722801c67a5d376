"""What `manage.py check --deploy` says of the broker."""

from typing import Any

from django.core.checks import CheckMessage, Tags, Warning, register
from django.utils.translation import gettext as _

from clients.broker import AWAY, Sharing, ask_sharing


@register(Tags.security, deploy=True)
def check_broker(app_configs: Any, **_options: Any) -> list[CheckMessage]:
    """Warn if agents share one login to the broker; while it does not answer nothing is known."""
    try:
        sharing = ask_sharing()
    except AWAY:
        return []
    if sharing is Sharing.NOT:
        return []
    message = _("All agents share one login to the broker: %(reason)s.") % {"reason": sharing.label}
    hint = _("A stolen host could read other clients' queues. See “Redis” in docs/operating.md.")
    return [Warning(message, hint=hint, id="clients.W001")]
