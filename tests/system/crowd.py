"""Many clients whose plans are due in one second: rows for a database that is empty but for its migrations.

Of two stores, the first has room for few jobs at once and two tenants, whose clients have repositories of their own; one client has
many plans. The second store's one tenant keeps all its clients in one repository, which has room for fewer than the store.
"""

from datetime import datetime

from benchmarks.simulation.population import token_of

CLIENTS, PLANS, GREEDY_PLANS = 50, 500, 59
# By tenant, which store and how many clients.
TENANTS = {"first": ("crowded", 15), "second": ("crowded", 15), "third": ("shared", 20)}
CLIENT_JOBS, REPOSITORY_JOBS = 2, 7
ENDPOINT_JOBS = {"crowded": 11, "shared": 9}


def gather(due_at: float) -> None:
    """Make the rows; to be called inside Django. `due_at`: Unix time at which all plans are due."""
    from django.utils import timezone

    from clients.models import AgentLogin, Client, hash_token
    from jobs.models import BackupPlan
    from storage.models import Endpoint, Repository, Tenant

    begin = datetime.fromtimestamp(due_at, timezone.get_current_timezone())
    endpoints = {
        name: Endpoint.objects.create(
            address=f"127.0.0.1:{number}", https=False, type=Endpoint.Type.S3, display_name=name, max_jobs=jobs
        )
        for number, (name, jobs) in enumerate(ENDPOINT_JOBS.items(), 1)
    }
    homes = []
    for name, (endpoint, count) in TENANTS.items():
        tenant = Tenant.objects.create(endpoint=endpoints[endpoint], username=name, access_key="key", secret_key="secret")
        prefixes = [""] * count if endpoint == "shared" else [f"host-{number}" for number in range(count)]
        places = {
            prefix: Repository.objects.create(
                tenant=tenant, bucket=name, prefix=prefix, password="secret", repository_id="0" * 64, max_jobs=REPOSITORY_JOBS
            )
            for prefix in dict.fromkeys(prefixes)
        }
        homes += [places[prefix] for prefix in prefixes]
    now = timezone.now()
    clients = Client.objects.bulk_create(
        Client(pk=number, ipv4=number, hostname=f"host-{number}", last_seen=now) for number in range(1, CLIENTS + 1)
    )
    AgentLogin.objects.bulk_create(
        AgentLogin(client=client, token_hash=hash_token(token_of(client.pk)), used_at=now) for client in clients
    )
    # The greedy one's plans are the oldest.
    owners = [0] * GREEDY_PLANS + [number % (CLIENTS - 1) + 1 for number in range(PLANS - GREEDY_PLANS)]
    BackupPlan.objects.bulk_create(
        BackupPlan(
            backup_name=f"plan {number}",
            client=clients[owner],
            tenant=homes[owner].tenant,
            repository=homes[owner],
            bucket=homes[owner].bucket,
            start_time=begin,
            next_fire_at=begin,
            backup_data='{"include": ["/etc"], "exclude": []}',
        )
        for number, owner in enumerate(owners)
    )
