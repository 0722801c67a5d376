"""Verbs that keep a repository in order."""

import argparse
from dataclasses import asdict

from engine.cli.run import DONE, FAILED, Run, Verb


def check(run: Run) -> int:
    from engine.commands.check import check

    report = check(run.open(), read_data=run.options.read_data, on_progress=run.on_progress, cancel=run.cancel)
    for problem in report.problems:
        run.tell({"message_type": "error", "message": problem}, problem)
    for note in report.notes:
        run.tell({"message_type": "note", "message": note}, f"note: {note}")
    found = f"{len(report.problems)} problems" if report.problems else "no problems"
    run.show(
        {"message_type": "summary", "num_errors": len(report.problems), **asdict(report)},
        f"{report.snapshots} snapshots, {report.packs} packs, {report.blobs} blobs: {found} found",
    )
    return FAILED if report.problems else DONE


def _check_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--read-data", action="store_true", help="read every byte")


VERBS = (Verb("check", "look for damage", check, _check_arguments, can_cancel=True),)
