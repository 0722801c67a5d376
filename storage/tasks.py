"""Celery tasks of the stores."""

from celery import shared_task

from storage.growth import sample_usage
from storage.models import Tenant
from storage.tenants import refresh_tenants


@shared_task(name="storage.refresh_tenants")
def refresh_all_tenants() -> None:
    """Ask the stores for each tenant's name, quota and use."""
    refresh_tenants(list(Tenant.objects.select_related("endpoint")))


@shared_task(name="storage.sample_usage")
def sample_usage_task() -> None:
    """Keep the used bytes of the day, of what they are not kept of yet."""
    sample_usage()
