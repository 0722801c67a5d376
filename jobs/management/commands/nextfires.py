"""`manage.py nextfires`: show when a Quartz expression fires, or what is wrong with it."""

import argparse
import json
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from jobs.quartz import InvalidExpression, QuartzExpression


class Command(BaseCommand):
    help = "Show the next times at which a Quartz expression fires."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("expression", metavar="EXPR", help="six or seven fields, seconds first")
        parser.add_argument("--after", type=_moment, metavar="ISO", help="fires strictly after this time (default: now)")
        parser.add_argument("--timezone", default=settings.TIME_ZONE, metavar="TZ", help="IANA name (default: the server's)")
        parser.add_argument("--count", type=int, default=5, metavar="N", help="how many (default: 5)")
        parser.add_argument("--jitter", type=int, default=0, metavar="S", help="the plan's jitter: show windows (default: 0)")
        parser.add_argument("--json", action="store_true", help="for machines")

    def handle(self, *arguments: Any, **options: Any) -> None:
        try:
            zone = ZoneInfo(options["timezone"])
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise CommandError(f"{options['timezone']} is no time zone") from error
        after = options["after"] or datetime.now(UTC)
        if after.tzinfo is None:
            after = after.replace(tzinfo=zone)
        try:
            expression = QuartzExpression.parse(options["expression"])
        except InvalidExpression as error:
            raise CommandError(str(error)) from error
        fires = list(expression.fires(after, zone, options["count"]))
        local = [fire.astimezone(zone).isoformat() for fire in fires]
        if options["json"]:
            answer = {
                "expression": expression.text,
                "timezone": options["timezone"],
                "fires": local,
                "unix": [int(fire.timestamp()) for fire in fires],
            }
            self.stdout.write(json.dumps(answer))
            return
        for line in local or ["never"]:
            self.stdout.write(f"{line} to {options['jitter']} s later" if options["jitter"] and local else line)


def _moment(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text} is no ISO 8601 time") from error
