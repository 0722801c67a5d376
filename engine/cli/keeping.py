"""Verbs that keep a repository in order."""

import argparse
from dataclasses import asdict, fields, replace
from typing import TYPE_CHECKING, Any

from engine.cli.options import filter_arguments, retry_lock_argument, said, snapshot_filter, tags
from engine.cli.run import DONE, FAILED, Run, Verb, snapshot_message
from engine.errors import EngineError, InvalidPolicy
from engine.pruning import USUAL_LIMIT, UnusedLimit, parse_size
from engine.repository import Repository
from engine.retention import BY_HOST_AND_PATHS, UNLIMITED, Duration, Group, GroupBy, KeepPolicy, Verdict
from engine.snapshot import Snapshot, find_snapshot
from engine.subset import parse_subset
from engine.terminal import size_text

if TYPE_CHECKING:
    from engine.commands.prune import PruneOptions, PruneReport



def check(run: Run) -> int:
    from engine.commands.check import check

    has_read = run.options.read_data or run.options.read_data_subset is not None
    report = check(
        run.open(),
        read_data=run.options.read_data,
        subset=run.options.read_data_subset,
        on_progress=run.on_progress,
        cancel=run.cancel,
    )
    for problem in report.problems:
        run.tell({"message_type": "error", "message": problem}, problem)
    for note in report.notes:
        run.tell({"message_type": "note", "message": note}, f"note: {note}")
    found = f"{len(report.problems)} problems" if report.problems else "no problems"
    run.show(
        {"message_type": "summary", "num_errors": len(report.problems), **asdict(report)},
        f"{report.snapshots} snapshots, {report.packs} packs, {report.blobs} blobs: {found} found"
        + (f"; read {report.packs_read} packs, {size_text(report.bytes_read)}" if has_read else ""),
    )
    return FAILED if report.problems else DONE


def _check_arguments(parser: argparse.ArgumentParser) -> None:
    reading = parser.add_mutually_exclusive_group()
    reading.add_argument("--read-data", action="store_true", help="read every byte")
    reading.add_argument("--read-data-subset", type=said(parse_subset), metavar="n/t|x%|SIZE", help="a part, or packs by chance")


def forget(run: Run) -> int:
    from engine.commands.forget import forget_by_policy
    from engine.commands.prune import PruneOptions, prune

    options = run.options
    rules = {field.name: getattr(options, f"keep_{field.name}") for field in fields(KeepPolicy) if field.name != "tags"}
    policy = KeepPolicy(**rules, tags=tuple(options.keep_tags))
    only = snapshot_filter(options)
    if options.snapshots and (only or not policy.is_empty):
        raise InvalidPolicy("snapshots that are named are forgotten whatever they are: give no --keep or filter with them")
    if not options.prune and prune_options(options) != PruneOptions(dry_run=options.dry_run):
        raise EngineError("--max-unused, --max-repack-size and --retry-lock say how to prune: give --prune with them")
    repository = run.open()
    if options.snapshots:
        verdicts = {Group(): _forget_named(run, repository)}
    else:
        verdicts = forget_by_policy(repository, policy, only=only, group_by=options.group_by, dry_run=options.dry_run)
    forgotten = frozenset(snapshot.id for verdict in verdicts.values() for snapshot in verdict.remove)
    kept = sum(len(verdict.keep) for verdict in verdicts.values())
    counts = f"{len(forgotten)} snapshots" if options.snapshots else f"{kept} snapshots kept, {len(forgotten)}"
    counts += " would be forgotten" if options.dry_run else " forgotten"
    run.show(
        [_group_message(group, verdict) for group, verdict in verdicts.items()],
        "\n\n".join([*(_group_text(group, verdict) for group, verdict in verdicts.items()), counts]),
    )
    if options.prune and forgotten:
        how = replace(prune_options(options), forgotten=forgotten)
        show_prune(run, prune(repository, how, on_progress=run.on_progress, cancel=run.cancel))
    return DONE


def _forget_named(run: Run, repository: Repository) -> Verdict[Snapshot]:
    from engine.commands.forget import forget

    found = {snapshot.id: snapshot for snapshot in (find_snapshot(repository, name) for name in run.options.snapshots)}
    if not run.options.dry_run:
        forget(repository, list(found))
    return Verdict(keep=(), remove=tuple(found.values()))


def _group_message(group: Group, verdict: Verdict[Snapshot]) -> dict[str, Any]:
    """Return what became of a group in restic's shape, where what is empty is null."""
    reasons = [{"snapshot": snapshot_message(kept.snapshot), "matches": kept.reasons} for kept in verdict.keep]
    return {
        "tags": group.tags or None,
        "host": group.host,
        "paths": group.paths or None,
        "keep": [reason["snapshot"] for reason in reasons] or None,
        "remove": list(map(snapshot_message, verdict.remove)) or None,
        "reasons": reasons or None,
    }


def _group_text(group: Group, verdict: Verdict[Snapshot]) -> str:
    return f"{group}:\n{_table(verdict)}" if str(group) else _table(verdict)


def _table(verdict: Verdict[Snapshot]) -> str:
    """Return a line for each snapshot, newest first: what becomes of it, what it is, and why it stays."""
    judged: list[tuple[Snapshot, tuple[str, ...]]] = [(kept.snapshot, kept.reasons) for kept in verdict.keep]
    judged += [(snapshot, ()) for snapshot in verdict.remove]
    judged.sort(key=lambda one: one[0].time, reverse=True)
    lines = [
        (
            "keep" if reasons else "forget",
            snapshot.short_id,
            f"{snapshot.time:%Y-%m-%d %H:%M:%S %z}",
            snapshot.hostname,
            ",".join(snapshot.tags),
            " ".join(snapshot.paths),
            ", ".join(reasons),
        )
        for snapshot, reasons in judged
    ]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)


def _forget_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("snapshots", nargs="*", metavar="SNAPSHOT", help="forget these, whatever they are")
    for period in ("last", "hourly", "daily", "weekly", "monthly", "yearly"):
        about = "keep the last N snapshots" if period == "last" else f"keep the last of each of N {period} periods"
        parser.add_argument(
            f"-{'H' if period == 'hourly' else period[0]}",
            f"--keep-{period}",
            type=_count,
            default=0,
            metavar="N",
            help=f"{about}; unlimited is all",
        )
    for period in ("", "-hourly", "-daily", "-weekly", "-monthly", "-yearly"):
        parser.add_argument(f"--keep-within{period}", type=said(Duration.parse), default=Duration(), metavar="DURATION")
    parser.add_argument("--keep-tag", dest="keep_tags", type=tags, action="append", default=[], metavar="TAG[,TAG…]")
    filter_arguments(parser, "--host")
    parser.add_argument("--group-by", "-g", type=said(GroupBy.parse), default=BY_HOST_AND_PATHS, metavar="host,paths,tags")
    parser.add_argument("--dry-run", "-n", action="store_true", help="only tell what would be forgotten, and pruned")
    parser.add_argument("--prune", action="store_true", help="then prune, if anything was forgotten")
    prune_arguments(parser)


def prune(run: Run) -> int:
    from engine.commands.prune import prune

    show_prune(run, prune(run.open(), prune_options(run.options), on_progress=run.on_progress, cancel=run.cancel))
    return DONE


def show_prune(run: Run, report: "PruneReport") -> None:
    """Print what a prune has done, or would do."""
    blobs, sizes, packs = report.blobs, report.bytes, report.packfiles
    lines = [
        f"used: {blobs.used} blobs, {size_text(sizes.used)}; unused: {blobs.unused} blobs, {size_text(sizes.unused)}; "
        f"stored twice: {blobs.duplicate} blobs, {size_text(sizes.duplicate)}",
        f"to rewrite: {packs.repack} packs, {size_text(sizes.repack)}, without {size_text(sizes.repack_remove)} of them",
        f"to delete: {packs.remove} packs, {size_text(sizes.remove)}; "
        f"in no index: {packs.unreferenced} packs, {size_text(sizes.unreferenced)}",
        f"remaining: {blobs.remaining} blobs, {size_text(sizes.remaining)}, of which {size_text(sizes.remaining_unused)} unused",
    ]
    if report.packs_missing:
        lines.append(f"missing, but needed by no snapshot: {report.packs_missing} packs")
    if report.packs_spared:
        lines.append(f"kept, as a backup has come to need them meanwhile: {report.packs_spared} packs")
    if not run.options.dry_run:
        lines.append(
            f"deleted {report.packs_deleted} packs, {size_text(report.bytes_deleted)}; "
            f"added {size_text(report.bytes_added)} by rewriting, in {report.duration_s:.1f} s"
        )
    run.show({"message_type": "summary", **asdict(report)}, "\n".join(lines))


def _prune_arguments(parser: argparse.ArgumentParser) -> None:
    prune_arguments(parser)
    parser.add_argument("--dry-run", "-n", action="store_true", help="only say what would be done")


def prune_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what a prune can be told, for every verb that can end with one; `--dry-run` is the verb's own."""
    about = "unused data to leave: 5%% (the default), 200M, unlimited"
    parser.add_argument("--max-unused", type=said(UnusedLimit.parse), default=USUAL_LIMIT, metavar="LIMIT", help=about)
    parser.add_argument("--max-repack-size", type=said(parse_size), metavar="SIZE", help="rewrite at most this much, like 10G")
    retry_lock_argument(parser, "running backups")


def prune_options(options: argparse.Namespace) -> "PruneOptions":
    """Return what the options of `prune_arguments` and `--dry-run` say."""
    from engine.commands.prune import PruneOptions

    return PruneOptions(options.max_unused, options.max_repack_size, options.dry_run, options.retry_lock)


def _count(text: str) -> int:
    if text in ("unlimited", str(UNLIMITED)):
        return UNLIMITED
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r} is neither a count nor unlimited")
    return int(text)


VERBS = (
    Verb("check", "look for damage", check, _check_arguments, can_cancel=True),
    Verb("forget", "forget snapshots by name, or those that no rule keeps", forget, _forget_arguments),
    Verb("prune", "give back the space of what no snapshot needs", prune, _prune_arguments, can_cancel=True),
)
