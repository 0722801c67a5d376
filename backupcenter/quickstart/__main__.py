"""The command line of the quick start."""

import argparse
import os
import signal
import sys
import time
from pathlib import Path
from types import FrameType

from backupcenter.quickstart.center import Center
from backupcenter.quickstart.installation import Installation, QuickstartError
from backupcenter.quickstart.processes import TOP, Supervisor, agent_program, installation_programs
from backupcenter.quickstart.story import Evidence, StoreChoice, Story
from engine.terminal import size_text

SHOWN_DIFFERENCES = 10


def main() -> int:
    arguments = parse_arguments()
    screen = Screen()
    supervisor = Supervisor()
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        return run(arguments, supervisor, screen)
    except QuickstartError as error:
        screen.clear()
        print(f"quickstart: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        screen.clear()
        return 130
    finally:
        # A second Ctrl-C must not leave anything behind.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if supervisor.programs:
            screen.show("stopping …")
            supervisor.stop()
            screen.clear()


def run(arguments: argparse.Namespace, supervisor: Supervisor, screen: "Screen") -> int:
    source = existing_directory(arguments.source)
    choice = store_choice(arguments.s3)
    installation = Installation(Path(arguments.state), arguments.port)
    exclude = [path for path in (installation.state, TOP / ".venv") if path.is_relative_to(source)]
    if source.is_relative_to(installation.state):
        raise QuickstartError(f"the source {source} lies inside the state directory")

    redis, *others = installation_programs(installation)
    screen.show(f"starting {redis.name} …")
    # Before the database, whose first account is an event already.
    supervisor.start(redis)
    screen.show("preparing the database …")
    token, first_password = installation.set_up_database()
    screen.say(f"database ready in {installation.state}")
    for program in others:
        screen.show(f"starting {program.name} …")
        supervisor.start(program)
    screen.say(f"running: {', '.join(program.name for program in supervisor.programs)}")

    story = Story(installation, Center(installation.url, token), screen.show, supervisor.require_running)
    screen.show("registering the store …")
    tenant = story.register_store(choice)
    screen.say(f"store {tenant['endpoint']['address']} as {tenant['username']}")
    screen.show("letting the agent join …")
    client = story.join_agent()
    supervisor.start(agent_program(installation))
    story.wait_for_agent()
    screen.say(f"agent of {client['hostname']} is online")
    before = story.newest_record()
    plan = story.plan_backup(tenant, source, exclude)
    screen.say(f"plan “{plan['backup_name']}” fires at {plan['cron_expression']}")
    screen.show("waiting for the schedule to fire …")
    record = story.wait_for_backup(plan, before)
    screen.say(f"backup {record['id']} done")
    recovery, target = story.restore(record)
    screen.say(f"restored to {target}")
    screen.show("comparing …")
    evidence = story.compare(source, target, exclude, record, recovery)
    screen.clear()
    print(evidence_table(evidence), flush=True)
    if arguments.once:
        return 0 if evidence.is_identical else 1
    show_console(installation, first_password)
    while True:
        for name in supervisor.restart_ended():
            screen.say(f"{name} had ended and was started again; its log is in {installation.state / 'log'}")
        time.sleep(1)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="./quickstart",
        description="Start Backup Center on this machine, back up a directory by schedule, restore it and prove both alike.",
    )
    parser.add_argument("--source", default=str(TOP), metavar="DIR", help="what to back up (default: this checkout)")
    parser.add_argument(
        "--state",
        default=str(TOP / "state"),
        metavar="DIR",
        help="where database, store, keys and logs are kept (default: state)",
    )
    parser.add_argument("--port", type=int, default=8000, help="port of the console, 0: a free one (default: 8000)")
    parser.add_argument(
        "--s3",
        metavar="URL",
        help="keep backups in the S3 store at http[s]://host:port, with "
        "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY from the environment, instead of a directory",
    )
    parser.add_argument("--once", action="store_true", help="exit after the evidence, leaving no process behind")
    return parser.parse_args()


def existing_directory(name: str) -> Path:
    path = Path(name).expanduser().resolve()
    if not path.is_dir():
        raise QuickstartError(f"the source directory {name} does not exist")
    return path


def store_choice(url: str | None) -> StoreChoice:
    if url is None:
        return StoreChoice()
    if not url.startswith(("http://", "https://")):
        raise QuickstartError("--s3 takes an address like http://host:port")
    access_key, secret_key = os.environ.get("AWS_ACCESS_KEY_ID"), os.environ.get("AWS_SECRET_ACCESS_KEY")
    if not access_key or not secret_key:
        raise QuickstartError("--s3 needs AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment")
    return StoreChoice(url, access_key, secret_key)


def evidence_table(evidence: Evidence) -> str:
    rows = [
        ("source", str(evidence.source)),
        ("restored to", str(evidence.restored)),
        ("repository", evidence.repository),
        ("snapshot", evidence.snapshot),
        ("files", f"{evidence.files:,}"),
        ("bytes", f"{evidence.bytes_read:,} ({size_text(evidence.bytes_read)})"),
        ("stored bytes", f"{evidence.bytes_stored:,} ({size_text(evidence.bytes_stored)})"),
        ("backup seconds", f"{evidence.backup_s:.1f}"),
        ("restore seconds", f"{evidence.restore_s:.1f}"),
        ("identical", "yes" if evidence.is_identical else "no"),
    ]
    lines = ["", *(f"  {name + ':':<17} {value}" for name, value in rows), ""]
    problems = [f"{item['path']}: {item['reason']}" for item in evidence.unreadable] + evidence.differences
    lines += [f"  differs: {problem}" for problem in problems[:SHOWN_DIFFERENCES]]
    if len(problems) > SHOWN_DIFFERENCES:
        lines.append(f"  … and {len(problems) - SHOWN_DIFFERENCES} more")
    return "\n".join(lines)


def show_console(installation: Installation, first_password: bool) -> None:
    password = installation.secrets.administrator_password if first_password else "(the one that you chose)"
    print(f"  console:   {installation.url}/admin/")
    print("  user:      admin")
    print(f"  password:  {password}")
    print("\n  Ctrl-C stops everything; the same command goes on where it was.\n", flush=True)


class Screen:
    """Finished steps as lines; on a terminal, the current step in a line that is written over."""

    def __init__(self) -> None:
        self._is_terminal = sys.stdout.isatty()
        self._shown = ""

    def say(self, text: str) -> None:
        self.clear()
        print(f"✓ {text}", flush=True)

    def show(self, text: str) -> None:
        if self._is_terminal:
            print(f"\r\x1b[K· {text}", end="", flush=True)
        elif text != self._shown:
            print(f"· {text}", flush=True)
        self._shown = text

    def clear(self) -> None:
        if self._is_terminal:
            print("\r\x1b[K", end="", flush=True)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
