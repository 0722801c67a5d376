"""Triggers with which the database itself refuses to change the audit log, or to shorten it by what is younger than 30 days.

SQLite drops them with a table that a migration makes anew: one that alters the log installs them again.
"""

from typing import Any

MINIMUM_DAYS = 30
TABLE = "accounts_auditentry"
REFUSAL = "the audit log is append-only"

SQLITE = [
    f"CREATE TRIGGER audit_no_update BEFORE UPDATE ON {TABLE} BEGIN SELECT RAISE(ABORT, '{REFUSAL}'); END",
    f"CREATE TRIGGER audit_no_delete BEFORE DELETE ON {TABLE} WHEN OLD.time > datetime('now', '-{MINIMUM_DAYS} days') "
    f"BEGIN SELECT RAISE(ABORT, '{REFUSAL}'); END",
]
POSTGRESQL = [
    f"""CREATE OR REPLACE FUNCTION audit_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF TG_OP = 'DELETE' AND OLD.time < now() - interval '{MINIMUM_DAYS} days' THEN RETURN OLD; END IF;
        RAISE EXCEPTION '{REFUSAL}' USING ERRCODE = 'integrity_constraint_violation';
    END $$""",
    f"CREATE TRIGGER audit_no_update BEFORE UPDATE ON {TABLE} FOR EACH ROW EXECUTE FUNCTION audit_refuse()",
    f"CREATE TRIGGER audit_no_delete BEFORE DELETE ON {TABLE} FOR EACH ROW EXECUTE FUNCTION audit_refuse()",
    f"CREATE TRIGGER audit_no_truncate BEFORE TRUNCATE ON {TABLE} FOR EACH STATEMENT EXECUTE FUNCTION audit_refuse()",
]
TRIGGERS = ["audit_no_update", "audit_no_delete", "audit_no_truncate"]


def install(_apps: Any, schema_editor: Any) -> None:
    vendor = schema_editor.connection.vendor
    for statement in {"sqlite": SQLITE, "postgresql": POSTGRESQL}[vendor]:
        # As it is: the statements hold what would be taken for parameters.
        schema_editor.execute(statement, params=None)


def remove(_apps: Any, schema_editor: Any) -> None:
    on_table = f" ON {TABLE}" if schema_editor.connection.vendor == "postgresql" else ""
    for name in TRIGGERS:
        schema_editor.execute(f"DROP TRIGGER IF EXISTS {name}{on_table}", params=None)
