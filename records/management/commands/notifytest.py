"""`manage.py notifytest CHANNEL`: try a notification channel now."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from records.notifying.models import Channel
from records.notifying.sending import send_test
from records.notifying.speaking import NotTold


class Command(BaseCommand):
    help = "Send a test on a notification channel."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("channel", help="the channel's name")

    def handle(self, *arguments: Any, **options: Any) -> None:
        channel = Channel.objects.filter(name=options["channel"]).first()
        if channel is None:
            raise CommandError(f"there is no channel named {options['channel']}")
        try:
            send_test(channel)
        except NotTold as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"a test was sent on {channel}")
