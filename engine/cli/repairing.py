"""Verbs that bring a damaged repository back as far as that can be."""

import argparse
from dataclasses import asdict

from engine.cli.options import filter_arguments, snapshot_filter
from engine.cli.run import DONE, FAILED, Run, Verb
from engine.snapshot import Snapshot
from engine.treerepair import Loss


def repair_index(run: Run) -> int:
    from engine.commands.repair_index import repair_index

    report = repair_index(run.open(), read_all_packs=run.options.read_all_packs, on_progress=run.on_progress, cancel=run.cancel)
    said = [
        *(f"index file {name}: {reason}" for name, reason in report.damaged_files),
        *(f"pack {name} was in no index file" for name in report.added),
        *(f"pack {name} is not as the index said" for name in report.corrected),
        *(f"pack {name} does not exist any more" for name in report.gone),
        *(f"{name} among the packs is no pack" for name in report.foreign),
    ]
    for sentence in said:
        run.tell({"message_type": "note", "message": sentence}, sentence)
    for name, reason in report.unreadable:
        sentence = f"pack {name} has no header that can be read, so that nothing in it can be found: {reason}"
        run.tell({"message_type": "error", "message": sentence}, sentence)
    run.show(
        {"message_type": "summary", "num_errors": len(report.unreadable), **asdict(report)},
        f"{len(report.added)} packs added, {len(report.corrected)} corrected, {len(report.gone)} removed, "
        f"{len(report.unreadable)} unreadable; {report.files_replaced} index files replaced",
    )
    return FAILED if report.unreadable else DONE


def _index_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--read-all-packs", action="store_true", help="believe no index file, and read every pack's header")


def repair_snapshots(run: Run) -> int:
    from engine.commands.repair_snapshots import SnapshotRepair, repair_snapshots

    options = run.options
    would = "would be " if options.dry_run else ""

    def tell_loss(snapshot: Snapshot, loss: Loss) -> None:
        path = loss.path.decode(errors="replace")
        run.tell(
            {"message_type": "loss", "snapshot": snapshot.id, "path": path, "message": loss.what},
            f"{snapshot.short_id} {path}: {loss.what}",
        )

    def told(repair: SnapshotRepair) -> str:
        if repair.tree is None:
            rest = "nothing is left"
        elif repair.repaired_id is None:
            rest = "would be repaired"
        else:
            rest = f"repaired as {repair.repaired_id[:8]}"
        kept = f", {would}forgotten" if repair.is_forgotten else ", kept: --forget removes it" if repair.tree is None else ""
        return f"snapshot {repair.snapshot.short_id}: {repair.losses} losses, {rest}{kept}"

    report = repair_snapshots(
        run.open(),
        options.snapshots,
        only=snapshot_filter(options),
        dry_run=options.dry_run,
        forget=options.forget,
        on_loss=tell_loss,
        on_progress=run.on_progress,
        cancel=run.cancel,
    )
    for snapshot_id, reason in report.unreadable:
        done = f"{would}forgotten" if snapshot_id in report.forgotten else "name it with --forget to remove it"
        run.tell({"message_type": "error", "message": reason, "item": snapshot_id}, f"{reason}; {done}")
    # What is neither repaired nor gone is damage that stays.
    left = len(report.unreadable) - len(report.forgotten)
    left += sum(repair.tree is None and not repair.is_forgotten for repair in report.repairs)
    run.show(
        {
            "message_type": "summary",
            "dry_run": options.dry_run,
            "whole": report.whole,
            "repairs": [
                {
                    "snapshot": repair.snapshot.id,
                    "losses": repair.losses,
                    "repaired": repair.repaired_id,
                    "is_empty": repair.tree is None,
                    "forgotten": repair.is_forgotten,
                }
                for repair in report.repairs
            ],
            "unreadable": [snapshot_id for snapshot_id, _ in report.unreadable],
            "forgotten": report.forgotten,
        },
        "\n".join([*map(told, report.repairs), f"{report.whole} snapshots are whole, {len(report.repairs)} are not"]),
    )
    return FAILED if left else DONE


def _snapshots_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("snapshots", nargs="*", metavar="SNAPSHOT", help="repair these; without, all that the options mean")
    parser.add_argument("--dry-run", "-n", action="store_true", help="only tell what would be done")
    parser.add_argument("--forget", action="store_true", help="forget the snapshots that are not whole")
    filter_arguments(parser, "--host")


VERBS = (
    Verb("repair index", "make the index say what the packs hold", repair_index, _index_arguments, can_cancel=True),
    Verb("repair snapshots", "take new snapshots of what is left", repair_snapshots, _snapshots_arguments, can_cancel=True),
)
