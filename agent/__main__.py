"""The command `backupcenter-agent`, in a checkout `python -m agent`."""

import argparse
import platform
import sys
from pathlib import Path

from agent.center import Center, CenterError
from agent.config import AgentConfig, NotJoined, default_state, load_config, require_writable, save_config
from agent.logs import UnknownFormat
from engine import __version__


def main() -> int:
    arguments = parse_arguments()
    try:
        if arguments.command == "join":
            return join(arguments)
        if arguments.command == "doctor":
            return doctor(arguments)
        return run(arguments)
    except (CenterError, NotJoined, UnknownFormat) as error:
        print(f"agent: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"agent: {error.filename or arguments.state}: {error.strerror}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def join(arguments: argparse.Namespace) -> int:
    """Exchange the join token for a token of our own, and remember it."""
    require_writable(arguments.state)
    reads_input = arguments.token == "-"  # noqa: S105 -- not a secret, the sign for standard input
    token = sys.stdin.readline().strip() if reads_input else arguments.token
    answer = Center(arguments.center).join(token, arguments.hostname)
    try:
        config = AgentConfig(
            center=arguments.center.rstrip("/"),
            client=int(answer["client"]["id"]),
            hostname=str(answer["client"]["hostname"]),
            queue=str(answer["queue"]),
            token=str(answer["token"]),
            broker=str(answer["broker"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise CenterError(f"what answers at {arguments.center} is not the server") from error
    save_config(arguments.state, config)
    print(f"joined {config.center} as {config.hostname}; start the agent with: backupcenter-agent run --state {arguments.state}")
    return 0


def doctor(arguments: argparse.Namespace) -> int:
    from agent import doctor

    return doctor.doctor(arguments.state, as_json=arguments.json)


def run(arguments: argparse.Namespace) -> int:
    config = load_config(arguments.state)
    # Celery takes a while to import; `join` and `--help` need none of it.
    from agent.app import run_agent

    return run_agent(config, arguments.state)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="backupcenter-agent", description="Backup Center's agent: runs on each host to back up.")
    parser.add_argument("--version", action="version", version=f"backupcenter-agent {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    joining = commands.add_parser("join", help="join a server with a one-time token")
    joining.add_argument("--center", required=True, metavar="URL", help="the server's address, like https://backup.example.com")
    joining.add_argument("--token", required=True, metavar="T", help="the one-time token; - reads it from standard input")
    joining.add_argument("--hostname", default=platform.node(), help="the name to join as (default: this host's)")
    running = commands.add_parser("run", help="take jobs and run them")
    checking = commands.add_parser("doctor", help="check what the agent needs, and say what to fix")
    checking.add_argument("--json", action="store_true", help="say it as JSON")
    for command in (joining, running, checking):
        command.add_argument("--state", type=Path, default=default_state(), metavar="DIR", help="where the agent remembers")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
