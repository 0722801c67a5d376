"""Saving channels: what leads nowhere is refused, and a webhook gets the secret that it is verified by."""

import base64
import secrets

from records.notifying.addresses import require_usable
from records.notifying.models import Channel


def save_channel(channel: Channel) -> str:
    """Save a channel; return the secret that was made for it, "" if it has one or needs none. Raises ChannelRefused."""
    require_usable(channel)
    made = ""
    if channel.kind == Channel.Kind.WEBHOOK and not channel.secret:
        made = channel.secret = "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()
    channel.save()
    return made
