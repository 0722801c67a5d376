"""Who may do what: the one table that every route of the API and every page of the console stands in.

A route, a page or an action that is not here fails `test_api_access.py` or `test_console_access.py`. To add one, write a line:

- `API`: method and route as the failure spells them → the least role (VIEWER, OPERATOR, ADMINISTRATOR), ANYBODY, AGENT or OWN_JOB
  for what only agents may do, or an `Account` rule for what depends on whose account it is.
- `PAGES`: a model's pages → the least role for looking, adding, changing and deleting; NOBODY: not even administrators.
- `ACTIONS`: an action of a list in the console → the least role.
- `CONSOLE`: a page of the console that belongs to no model → the least role, or ANYBODY.
"""

from dataclasses import dataclass

ANYBODY, AGENT, OWN_JOB, NOBODY = "anybody", "agent", "agent of the job's client", "nobody"
VIEWER, OPERATOR, ADMINISTRATOR = "viewer", "operator", "administrator"
ROLES = [VIEWER, OPERATOR, ADMINISTRATOR]


@dataclass(frozen=True)
class Account:
    """Everybody may do it with the own account, with another's only administrators: others get `refusal`."""

    refusal: int


API: dict[str, str | Account] = {
    "GET /login": ANYBODY,
    "POST /login": ANYBODY,
    "POST /logout": VIEWER,
    # What is open source anyway.
    "GET /api/schema": ANYBODY,
    "GET /api/docs": ANYBODY,
    "GET /api/event": VIEWER,
    "GET /api/account": VIEWER,
    "POST /api/account": ADMINISTRATOR,
    "GET /api/account/<username>": Account(refusal=404),
    "PUT /api/account/<username>": Account(refusal=403),
    "DELETE /api/account/<username>": ADMINISTRATOR,
    "GET /api/audit": ADMINISTRATOR,
    "GET /api/audit/<pk>": ADMINISTRATOR,
    "GET /api/audit/export": ADMINISTRATOR,
    "GET /api/endpoint": VIEWER,
    "POST /api/endpoint": ADMINISTRATOR,
    "GET /api/endpoint/<address>": VIEWER,
    "PUT /api/endpoint/<address>": ADMINISTRATOR,
    "DELETE /api/endpoint/<address>": ADMINISTRATOR,
    "GET /api/repository": VIEWER,
    "POST /api/repository/adopt": ADMINISTRATOR,
    "GET /api/repository/<pk>": VIEWER,
    "GET /api/repository/<pk>/usage": VIEWER,
    "PUT /api/repository/<pk>": ADMINISTRATOR,
    "GET /api/repository/<pk>/checks": VIEWER,
    "POST /api/repository/<pk>/checks": OPERATOR,
    "GET /api/repository/<pk>/prune": VIEWER,
    "POST /api/repository/<pk>/prune": OPERATOR,
    "GET /api/serverbackup": ADMINISTRATOR,
    "PUT /api/serverbackup": ADMINISTRATOR,
    "POST /api/serverbackup": ADMINISTRATOR,
    "DELETE /api/serverbackup": ADMINISTRATOR,
    "GET /api/tenant": VIEWER,
    "POST /api/tenant": ADMINISTRATOR,
    "GET /api/tenant/<username>": VIEWER,
    "GET /api/tenant/<username>/usage": VIEWER,
    "PUT /api/tenant/<username>": ADMINISTRATOR,
    "DELETE /api/tenant/<username>": ADMINISTRATOR,
    "GET /api/client": VIEWER,
    "POST /api/client": ADMINISTRATOR,
    "GET /api/client/<ipv4>": VIEWER,
    "PUT /api/client/<ipv4>": ADMINISTRATOR,
    "DELETE /api/client/<ipv4>": ADMINISTRATOR,
    "POST /api/client/<ipv4>/token": ADMINISTRATOR,
    "POST /api/client/<ipv4>/revoke": ADMINISTRATOR,
    "POST /api/client/<ipv4>/browse": OPERATOR,
    "POST /api/client/<ipv4>/estimate": OPERATOR,
    # Of one's own looks; to others it is not there (tests/jobs/test_looking.py).
    "GET /api/look/<look>": OPERATOR,
    "POST /api/jointoken": ADMINISTRATOR,
    "GET /api/backup": VIEWER,
    "POST /api/backup": OPERATOR,
    "GET /api/backup/<uuid>": VIEWER,
    "PUT /api/backup/<uuid>": OPERATOR,
    "DELETE /api/backup/<uuid>": OPERATOR,
    "GET /api/backup/<uuid>/next": VIEWER,
    "GET /api/backup/<uuid>/usage": VIEWER,
    "GET /api/backup/<uuid>/retention-preview": VIEWER,
    "POST /api/backup/<uuid>/retention-preview": OPERATOR,
    "POST /api/backup/<uuid>/pause": OPERATOR,
    "POST /api/backup/<uuid>/resume": OPERATOR,
    "POST /api/backup/<uuid>/run": OPERATOR,
    "GET /api/backup/<uuid>/ping": VIEWER,
    "PUT /api/backup/<uuid>/ping": ADMINISTRATOR,
    "DELETE /api/backup/<uuid>/ping": ADMINISTRATOR,
    "GET /api/backup/<uuid>/drill": VIEWER,
    "POST /api/backup/<uuid>/drill": OPERATOR,
    # Of the command only by administrators (tests/jobs/test_drill_settings.py).
    "PUT /api/backup/<uuid>/drill": OPERATOR,
    "POST /api/recovery": OPERATOR,
    "GET /api/record/backup": VIEWER,
    "GET /api/record/backup/<pk>": VIEWER,
    "DELETE /api/record/backup/<pk>": OPERATOR,
    "POST /api/record/backup/<pk>/cancel": OPERATOR,
    "POST /api/record/backup/<pk>/undelete": OPERATOR,
    "POST /api/record/backup/<pk>/legal-hold": ADMINISTRATOR,
    "DELETE /api/record/backup/<pk>/legal-hold": ADMINISTRATOR,
    "GET /api/record/backup/<pk>/files": VIEWER,
    "GET /api/record/backup/<pk>/download": VIEWER,
    "GET /api/record/recovery": VIEWER,
    "GET /api/record/recovery/<pk>": VIEWER,
    "DELETE /api/record/recovery/<pk>": OPERATOR,
    "POST /api/record/recovery/<pk>/cancel": OPERATOR,
    "GET /api/record/drill": VIEWER,
    "GET /api/record/drill/<pk>": VIEWER,
    "POST /api/record/drill/<pk>/cancel": OPERATOR,
    "GET /api/auditreport": ADMINISTRATOR,
    "GET /api/auditreport/<month>": ADMINISTRATOR,
    "GET /api/notification/channel": ADMINISTRATOR,
    "POST /api/notification/channel": ADMINISTRATOR,
    "GET /api/notification/channel/<pk>": ADMINISTRATOR,
    "PUT /api/notification/channel/<pk>": ADMINISTRATOR,
    "DELETE /api/notification/channel/<pk>": ADMINISTRATOR,
    "POST /api/notification/channel/<pk>/test": ADMINISTRATOR,
    "GET /api/notification/rule": ADMINISTRATOR,
    "POST /api/notification/rule": ADMINISTRATOR,
    "GET /api/notification/rule/<pk>": ADMINISTRATOR,
    "PUT /api/notification/rule/<pk>": ADMINISTRATOR,
    "DELETE /api/notification/rule/<pk>": ADMINISTRATOR,
    "GET /api/notification/delivery": ADMINISTRATOR,
    "GET /api/notification/delivery/<pk>": ADMINISTRATOR,
    "POST /api/agent/join": ANYBODY,
    "POST /api/agent/login": AGENT,
    "POST /api/agent/heartbeat": AGENT,
    "POST /api/agent/checks": AGENT,
    "POST /api/agent/stores": AGENT,
    # Of looks at its own client (tests/jobs/test_looking.py).
    "POST /api/agent/look/<look>/question": AGENT,
    "POST /api/agent/look/<look>/answer": AGENT,
    "POST /api/agent/job/<job>/claim": OWN_JOB,
    "POST /api/agent/job/<job>/progress": OWN_JOB,
    "POST /api/agent/job/<job>/finish": OWN_JOB,
}


@dataclass(frozen=True)
class Pages:
    """The least role for each of a model's pages in the console."""

    look: str
    add: str = NOBODY
    change: str = NOBODY
    delete: str = NOBODY


PAGES = {
    "accounts_user": Pages(look=ADMINISTRATOR, add=ADMINISTRATOR, change=ADMINISTRATOR, delete=ADMINISTRATOR),
    "accounts_token": Pages(look=ADMINISTRATOR, delete=ADMINISTRATOR),
    "accounts_session": Pages(look=ADMINISTRATOR, delete=ADMINISTRATOR),
    "accounts_auditentry": Pages(look=ADMINISTRATOR),
    "storage_endpoint": Pages(look=VIEWER, add=ADMINISTRATOR, change=ADMINISTRATOR, delete=ADMINISTRATOR),
    "storage_tenant": Pages(look=VIEWER, add=ADMINISTRATOR, change=ADMINISTRATOR, delete=ADMINISTRATOR),
    # Adding is adopting. Of a repository only its limit can be changed. It may be forgotten.
    "storage_repository": Pages(look=VIEWER, add=ADMINISTRATOR, change=ADMINISTRATOR, delete=ADMINISTRATOR),
    "storage_usagesample": Pages(look=VIEWER),
    "clients_client": Pages(look=VIEWER, add=ADMINISTRATOR, change=ADMINISTRATOR, delete=ADMINISTRATOR),
    "clients_jointoken": Pages(look=VIEWER, add=ADMINISTRATOR, delete=ADMINISTRATOR),
    "jobs_backupplan": Pages(look=VIEWER, add=OPERATOR, change=OPERATOR, delete=OPERATOR),
    "jobs_auditreport": Pages(look=ADMINISTRATOR),
    "jobs_plandrill": Pages(look=VIEWER, change=OPERATOR),
    # Another place takes that of the one before.
    "jobs_ownbackup": Pages(look=ADMINISTRATOR, add=ADMINISTRATOR, delete=ADMINISTRATOR),
    "jobs_planping": Pages(look=ADMINISTRATOR, add=ADMINISTRATOR, change=ADMINISTRATOR, delete=ADMINISTRATOR),
    "records_drillrecord": Pages(look=VIEWER),
    "records_backuprecord": Pages(look=VIEWER, delete=OPERATOR),
    # The trash, which nobody empties by hand.
    "records_deletedbackup": Pages(look=VIEWER),
    "records_recoveryrecord": Pages(look=VIEWER, delete=OPERATOR),
    "records_channel": Pages(look=ADMINISTRATOR, add=ADMINISTRATOR, change=ADMINISTRATOR, delete=ADMINISTRATOR),
    "records_rule": Pages(look=ADMINISTRATOR, add=ADMINISTRATOR, change=ADMINISTRATOR, delete=ADMINISTRATOR),
    "records_delivery": Pages(look=ADMINISTRATOR),
    "records_event": Pages(look=VIEWER),
    "records_maintenancerun": Pages(look=VIEWER, delete=OPERATOR),
    "django_celery_beat_periodictask": Pages(look=ADMINISTRATOR),
}

ACTIONS = {
    "accounts_user.end_tokens": ADMINISTRATOR,
    "accounts_token.end": ADMINISTRATOR,
    "accounts_session.end": ADMINISTRATOR,
    "accounts_auditentry.export_csv": ADMINISTRATOR,
    "accounts_auditentry.export_lines": ADMINISTRATOR,
    "records_event.export_csv": VIEWER,
    "records_event.export_lines": VIEWER,
    "storage_endpoint.verify": ADMINISTRATOR,
    "storage_tenant.refresh": ADMINISTRATOR,
    "storage_repository.prune_now": OPERATOR,
    "clients_client.issue_join_token": ADMINISTRATOR,
    "clients_client.revoke_agent": ADMINISTRATOR,
    "jobs_backupplan.run_now": OPERATOR,
    "jobs_backupplan.pause": OPERATOR,
    "jobs_backupplan.resume": OPERATOR,
    "jobs_backupplan.verify": OPERATOR,
    "jobs_backupplan.drill_now": OPERATOR,
    "jobs_ownbackup.back_up": ADMINISTRATOR,
    "records_backuprecord.cancel": OPERATOR,
    "records_backuprecord.place_hold": ADMINISTRATOR,
    "records_backuprecord.lift_hold": ADMINISTRATOR,
    "records_deletedbackup.undelete": OPERATOR,
    "records_recoveryrecord.cancel": OPERATOR,
    "records_channel.send_test": ADMINISTRATOR,
}

CONSOLE = {
    "/": ANYBODY,
    "/admin": ANYBODY,
    "/admin/login": ANYBODY,
    "/admin/logout": ANYBODY,
    "/admin/jsi18n": VIEWER,
    "/admin/search": VIEWER,
    "/admin/password_change": VIEWER,
    "/admin/password_change/done": VIEWER,
    "/admin/autocomplete": VIEWER,
    "/admin/r/<path:content_type_id>/<path:object_id>": VIEWER,
    "/admin/<app_label>": VIEWER,
    "/admin/<url>": VIEWER,
    "/admin/accounts/user/<id>/password": ADMINISTRATOR,
    "/admin/jobs/backupplan/<int:number>/retention": VIEWER,
    "/admin/jobs/backupplan/<int:number>/run": OPERATOR,
    "/admin/jobs/backupplan/<int:number>/drill": OPERATOR,
    "/admin/jobs/backupplan/<int:number>/pause": OPERATOR,
    "/admin/jobs/backupplan/<int:number>/resume": OPERATOR,
    "/admin/jobs/backupplan/repeat/backup/<int:number>": OPERATOR,
    "/admin/jobs/backupplan/repeat/recovery/<int:number>": OPERATOR,
    "/admin/jobs/backupplan/restore/<int:number>": OPERATOR,
    "/admin/jobs/backupplan/wizard": OPERATOR,
    "/admin/jobs/backupplan/wizard/preview": OPERATOR,
    "/admin/jobs/backupplan/wizard/listing": OPERATOR,
    "/admin/jobs/backupplan/wizard/estimate": OPERATOR,
    "/admin/jobs/backupplan/wizard/look/<str:number>": OPERATOR,
    "/admin/records/backuprecord/<int:number>/browse": VIEWER,
    "/admin/records/backuprecord/<int:number>/cancel": OPERATOR,
    "/admin/records/backuprecord/<int:number>/differences": VIEWER,
    "/admin/records/backuprecord/<int:number>/find": VIEWER,
    "/admin/records/drillrecord/<int:number>/cancel": OPERATOR,
    "/admin/records/recoveryrecord/<int:number>/cancel": OPERATOR,
}


def includes(role: str, least: str) -> bool:
    """Whether a role may do what takes at least `least`."""
    return least == ANYBODY or (least in ROLES and ROLES.index(role) >= ROLES.index(least))
