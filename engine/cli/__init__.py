"""The engine's command line: `python -m engine -r REPO VERB …`, with restic's words, options and exit statuses.

0: done; 1: failed; 2: the words make no sense; 3: a backup is incomplete, since some files could not be read; 10: there is no
repository; 11: it is locked; 12: the password is wrong; 130: interrupted. With `--json` standard output holds JSON in restic's
shapes. What a verb does lives in `engine.commands`; here it is only called and shown: `main` reads the words, `run` and `options`
are what verbs share, and `saving`, `looking`, `finding`, `restoring`, `keeping`, `repairing` and `access` are the verbs.
"""

from engine.cli.main import main

__all__ = ["main"]
