#!/usr/bin/env python
"""Django's command line for Backup Center."""

import os
import sys


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "backupcenter.settings")
    from django.core.management import execute_from_command_line

    from accounts.audit.commands import recorded

    with recorded(sys.argv):
        execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
