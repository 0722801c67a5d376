"""Verbs that search snapshots and compare them."""

import argparse
from dataclasses import asdict
from typing import TYPE_CHECKING

from engine.cli.run import DONE, FAILED, Run, Verb
from engine.terminal import size_text

if TYPE_CHECKING:
    from engine.commands.diff import Change


def diff(run: Run) -> int:
    from engine.commands.diff import diff
    from engine.commands.ls import open_directory

    options, repository = run.options, run.open()
    (source, before), (target, after) = (open_directory(repository, name) for name in options.snapshots)

    def show(change: "Change") -> None:
        if options.json:
            path = change.path.decode(errors="replace")
            run.write({"message_type": "change", "path": path, "modifier": change.modifier})
        else:
            run.write(change.modifier.encode().ljust(5) + change.path)

    if not options.json and not options.quiet:
        run.write(f"comparing snapshot {source.short_id} to {target.short_id}:\n".encode())
    found = diff(
        repository,
        before,
        after,
        metadata=options.metadata,
        on_change=None if options.quiet else show,
        on_error=run.tell_unreadable,
    )
    added, removed = found.added, found.removed
    if options.json:
        head = {"message_type": "statistics", "source_snapshot": options.snapshots[0], "target_snapshot": options.snapshots[1]}
        run.write(head | {"changed_files": found.changed_files, "added": asdict(added), "removed": asdict(removed)})
    else:
        lines = (
            "",
            f"Files:       {added.files:5} new, {removed.files:5} removed, {found.changed_files:5} changed",
            f"Dirs:        {added.dirs:5} new, {removed.dirs:5} removed",
            f"Others:      {added.others:5} new, {removed.others:5} removed",
            f"Data Blobs:  {added.data_blobs:5} new, {removed.data_blobs:5} removed",
            f"Tree Blobs:  {added.tree_blobs:5} new, {removed.tree_blobs:5} removed",
            f"  Added:   {size_text(added.bytes)}",
            f"  Removed: {size_text(removed.bytes)}",
        )
        run.write("\n".join(lines).encode())
    return FAILED if found.errors else DONE


def _diff_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("snapshots", nargs=2, metavar="SNAPSHOT[:/FOLDER]")
    parser.add_argument("--metadata", action="store_true", help="also show what has other metadata only")


VERBS = (Verb("diff", "show what two snapshots differ in", diff, _diff_arguments),)
