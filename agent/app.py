"""The agent's Celery application: a worker on one queue, in threads, that nobody can control from afar.

Messages are acknowledged early: a job that is lost is noticed by its lease, not redelivered by the broker. Results, remote
control, gossip and mingling are off: the agent's broker login opens its own queue only (`agent.transport`).
"""

import logging
import os
import re
import signal
import threading
from pathlib import Path
from typing import Any

from celery import Celery, signals

from agent.center import AgentUnsupported, Center, CenterError
from agent.config import AgentConfig
from agent.doctor import check_for_ever
from agent.job import hand_back_jobs, is_stopping, kill_children, run_job, running_jobs
from agent.login import Login
from agent.logs import about_job, log_to_standard_error
from agent.looking import look
from agent.outbox import deliver_for_ever
from agent.scratch import sweep_left
from agent.tracing import JOB, note, trace_agent
from agent.transport import transport_of
from engine import __version__

log = logging.getLogger(__name__)

RUN_JOB = "agent.run_job"
LOOK = "agent.look"
JOBS_AT_ONCE = 2
# One thread more, so that a look at the host need not wait for a backup.
THREADS = JOBS_AT_ONCE + 1
# Unless the server says otherwise, within these bounds.
HEARTBEAT_EVERY_S = 15.0
SOONEST_BEAT_S, LATEST_BEAT_S = 1.0, 300.0
# Often enough to be seen by the server as being there.
UNSUPPORTED_BEAT_EVERY_S = 45.0
STEP_S = 5.0
EXIT_AT_ONCE = 128 + signal.SIGTERM
JOB_NAME = re.compile(r"(backup|recovery)-[0-9]{1,18}")
LOOK_NUMBER = re.compile(r"[A-Za-z0-9_-]{16,64}")


def make_app(config: AgentConfig, state: Path, login: Login, center: Center) -> Celery:
    """Return the application of an agent that has joined."""
    # No fixups: a Django that happens to be configured in the environment is none of the agent's.
    app = Celery("agent", set_as_current=False, fixups=[])
    app.conf.update(
        broker_url=config.broker,
        broker_transport=transport_of(login),
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_transport_options={"socket_timeout": 30, "socket_connect_timeout": 5, "socket_keepalive": True},
        task_ignore_result=True,
        task_acks_late=False,
        task_serializer="json",
        accept_content=["json"],
        task_default_queue=config.queue,
        worker_prefetch_multiplier=1,
        worker_enable_remote_control=False,
        worker_send_task_events=False,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
    )

    slots = threading.BoundedSemaphore(JOBS_AT_ONCE)

    @app.task(name=RUN_JOB)
    def run(message: dict[str, Any]) -> None:
        job, attempt = message.get("job"), message.get("attempt")
        if not isinstance(job, str) or not isinstance(attempt, int) or JOB_NAME.fullmatch(job) is None:
            log.warning("a message that names no job was dropped")
            return
        with slots, about_job(job):
            note(JOB, job)
            run_job(center, state, job, attempt)

    @app.task(name=LOOK)
    def look_around(message: dict[str, Any]) -> None:
        number = message.get("look")
        if not isinstance(number, str) or LOOK_NUMBER.fullmatch(number) is None:
            log.warning("a message that names no look was dropped")
            return
        look(center, number)

    return app


def run_agent(config: AgentConfig, state: Path) -> int:
    """Work until told to stop; return the exit status."""
    log_to_standard_error()
    trace_agent()
    # Celery would prefer these to the broker that the server has named.
    for name in ("CELERY_BROKER_URL", "CELERY_BROKER_READ_URL", "CELERY_BROKER_WRITE_URL"):
        os.environ.pop(name, None)
    sweep_left(state)
    login = Login(state, config)
    center = Center(config.center, login)
    app = make_app(config, state, login, center)
    checks = lambda: check_for_ever(center, state)  # noqa: E731
    for target in (lambda: beat(center, login, threading.Event()), lambda: deliver_for_ever(center, state), checks):
        threading.Thread(target=target, daemon=True).start()
    signals.worker_shutting_down.connect(_stop, weak=False)
    worker = app.Worker(loglevel="INFO", **worker_options(config))
    log.info("agent %s of client %d takes jobs from %s", __version__, config.client, config.queue)
    worker.start()
    return int(worker.exitcode or 0)


def worker_options(config: AgentConfig) -> dict[str, Any]:
    """Return the options of the agent's Celery worker, with which it needs no command of the broker besides taking messages."""
    silent = {"without_gossip": True, "without_mingle": True, "without_heartbeat": True}
    # Without the banner, which would show the broker's address.
    named = {"queues": [config.queue], "hostname": f"agent@{config.hostname}", "quiet": True}
    return {**named, **silent, "pool": "threads", "concurrency": THREADS}


def beat(center: Center, login: Login, ended: threading.Event) -> None:
    """Tell the server now and then that the agent is there, and fetch its next login from it, until `ended`; for a thread."""
    is_new = True
    while not ended.is_set():
        pause_s = HEARTBEAT_EVERY_S
        try:
            is_refused, login.is_refused = login.is_refused, False
            seen = center.heartbeat(running_jobs(), started=is_new, broker_refused=is_refused)
            is_new = False
            if seen.every_s:
                pause_s = min(max(seen.every_s, SOONEST_BEAT_S), LATEST_BEAT_S)
            if seen.login_due:
                fetch_login(center, login)
        except AgentUnsupported as error:
            log.error("heartbeat: %s", error)
            pause_s = UNSUPPORTED_BEAT_EVERY_S
        except CenterError as error:
            log.warning("heartbeat: %s", error)
        except Exception:
            # A thread that ends would have the host taken for offline for ever.
            log.exception("heartbeat failed")
        # What the broker refuses the server can mend, and is told sooner.
        while pause_s > 0 and not ended.wait(min(STEP_S, pause_s)) and not login.is_refused:
            pause_s -= STEP_S


def fetch_login(center: Center, login: Login) -> None:
    """Replace the agent's login by the next one. Raises CenterError, OSError; then the present one goes on."""
    login.take(*center.next_login())
    log.info("the agent has a new login")
    # With this the server knows that it has arrived.
    center.heartbeat(running_jobs())


def _stop(**_details: Any) -> None:
    """Let what runs be handed back; told again, end at once."""
    if is_stopping():
        kill_children()
        os._exit(EXIT_AT_ONCE)
    hand_back_jobs()
