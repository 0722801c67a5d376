"""Celery tasks of the stores."""

from celery import shared_task

from storage.models import Tenant
from storage.tenants import refresh_tenants


@shared_task(name="storage.refresh_tenants")
def refresh_all_tenants() -> None:
    """Ask the stores for each tenant's name, quota and use."""
    refresh_tenants(list(Tenant.objects.select_related("endpoint")))
