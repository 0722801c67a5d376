"""What somebody can do about a run that went wrong, by what kind of error its agent has told."""

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from records.models import BackupRecord, JobRecord, State

DAMAGED = gettext_lazy("Verify the repository: the check says what is damaged, and docs/engine.md how it is repaired.")
ADVICE = {
    "WrongPassword": gettext_lazy(
        "Another program changed the repository's password. Change it back with the engine's command “key”, then run it again."
    ),
    "RepositoryNotFound": gettext_lazy(
        "Look whether the bucket was emptied. If its versions are kept, what was deleted can be put back (docs/stores.md)."
    ),
    "RepositoryLocked": gettext_lazy(
        "Another program works on the repository. Run it again once that has ended; a lock left behind counts for 30 minutes."
    ),
    "LockLost": gettext_lazy("The host slept, or its store was away for long. Run it again: what was stored is found again."),
    "RepositoryChanged": gettext_lazy("Run it again: somebody else changed the repository meanwhile."),
    "SnapshotNotFound": gettext_lazy("The backup is gone from its repository. Choose another one of the plan."),
    "PathNotFound": gettext_lazy("Look inside the backup and choose something that is in there."),
    "NothingToBackUp": gettext_lazy("Look whether the plan's paths are there on the host, and whether its agent may read them."),
    "InvalidPattern": gettext_lazy("Correct the exclusions of the plan."),
    "BlobMissing": DAMAGED,
    "DataDamaged": DAMAGED,
    "IndexIncomplete": gettext_lazy("Rebuild the index with the engine's command “repair index”, then verify the repository."),
    "StoreUnreachable": gettext_lazy(
        "Look whether the store runs and the host reaches its address: the agent's command “doctor” tries it. Then run it again."
    ),
    "CertificateRefused": gettext_lazy("Give the endpoint the authority (PEM) that its certificate is checked by."),
    "AddressRefused": gettext_lazy("Correct the endpoint's address, or allow it in the server's settings."),
    "StoreBusy": gettext_lazy("The store is overloaded or broken inside. Run it again later, and let fewer jobs run at once."),
    "AnswerBroken": gettext_lazy("Something between host and store breaks connections off. Look at proxies, then run it again."),
    "InvalidCredentials": gettext_lazy("Give the tenant the keys that its store knows."),
    "AccessDenied": gettext_lazy("Give the tenant's keys the right to read and write the bucket."),
    "BucketMissing": gettext_lazy("Make the bucket again, or mount the directory on the host."),
    "QuotaExceeded": gettext_lazy("Raise the tenant's quota, or let backups go sooner, and run it again."),
    "StreamFailed": gettext_lazy("Look at the command's output below, and mend what it says on the host."),
    "PermissionError": gettext_lazy("Let the agent's user read (or write) there, then run it again."),
}


def advice_for(record: JobRecord) -> str:
    """Return what to do about how the job has ended, "" if there is nothing to do, or nothing known."""
    if record.state == State.LOST:
        return _("Look whether the host runs and its agent is online. Then run it again: what was stored is found again.")
    if record.state == State.WARNINGS:
        is_backup = isinstance(record, BackupRecord)
        readable = _("The backup can be used. Let the agent read what is listed below, or exclude it from the plan.")
        return readable if is_backup else ""
    if record.state != State.FAILED:
        return ""
    if (kind := record.course.get("error_kind")) in ADVICE:
        return str(ADVICE[kind])
    if any(command.get("error") for command in record.commands):
        return _("Look at the command's output below, and mend what it says on the host.")
    return ""
