"""`/api/agent/job/<job>/…`: what an agent says of the jobs of its own client."""

import time
from typing import Any

from django.http import Http404
from django.utils.translation import gettext as _
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from backupcenter.api.reading import validated
from clients.authentication import AgentAuthentication, IsAgent, authenticated_client, authenticated_login
from clients.compatibility import told_protocol
from jobs.claiming import hand_over
from jobs.offering import freed_slots
from jobs.planning import stores_of
from jobs.reports import (
    AttemptSerializer,
    ClaimSerializer,
    FinishSerializer,
    ProgressAnswerSerializer,
    ProgressSerializer,
    StoresSerializer,
)
from records.lifecycle import find_job, finish_job
from records.models import JobRecord
from records.pacing import lease_s, report_interval
from records.reporting import report_progress
from storage.admission import trust_in

JOB = OpenApiParameter("job", str, OpenApiParameter.PATH, description="Name of the job, like backup-12.")


class StoresView(APIView):
    """What an agent's doctor is to look at."""

    authentication_classes = [AgentAuthentication]
    permission_classes = [IsAgent]
    schema_tags = ["agent"]
    error_statuses = {426}

    @extend_schema(operation_id="agent_stores", request=None, responses=StoresSerializer)
    def post(self, request: Request) -> Response:
        """The server's time, and where the stores of the client's plans are; not what opens them."""
        stores = [
            {"address": endpoint.url, "authorities": trust_in(endpoint).authorities}
            for endpoint in stores_of(authenticated_client(request))
        ]
        return Response({"time": time.time(), "stores": stores})


class JobView(APIView):
    """What the three steps have in common."""

    authentication_classes = [AgentAuthentication]
    permission_classes = [IsAgent]
    schema_tags = ["agent"]
    error_statuses = {426}
    # Records and events tell of it.
    is_audited = False

    def find(self, request: Request, job: str) -> JobRecord:
        return self.found(find_job(authenticated_login(request).client_id, job))

    def found(self, record: JobRecord | None) -> JobRecord:
        if record is None:
            raise Http404(_("There is no such job."))
        return record

    def read(self, request: Request, form: type[AttemptSerializer]) -> dict[str, Any]:
        return validated(form, request.data)


class ClaimView(JobView):
    @extend_schema(operation_id="agent_claim", parameters=[JOB], request=ClaimSerializer, responses={200: OpenApiTypes.OBJECT})
    def post(self, request: Request, job: str) -> Response:
        """Make a queued job the agent's own; the answer says what to do and holds the keys."""
        record = self.find(request, job)
        specification = hand_over(record, protocol=told_protocol(request), **self.read(request, ClaimSerializer))
        return Response(specification, headers={"Cache-Control": "no-store"})


class ProgressView(JobView):
    @extend_schema(operation_id="agent_progress", parameters=[JOB], request=ProgressSerializer, responses=ProgressAnswerSerializer)
    def post(self, request: Request, job: str) -> Response:
        """Renew the lease; the answer says whether to cancel."""
        client, said = authenticated_login(request).client_id, self.read(request, ProgressSerializer)
        record = self.found(report_progress(client, job, said["attempt"], said["progress"], said["course"]))
        return Response({"cancel": record.cancel_requested, "lease_s": lease_s(), "report_every_s": report_interval()})


class FinishView(JobView):
    @extend_schema(operation_id="agent_finish", parameters=[JOB], request=FinishSerializer, responses={200: OpenApiTypes.OBJECT})
    def post(self, request: Request, job: str) -> Response:
        """End the job with an outcome; "crashed" and "handed_back" have it tried again."""
        record = self.find(request, job)
        finish_job(record, **self.read(request, FinishSerializer))
        # At once, not with the next tick: its slots are free.
        freed_slots.ask()
        return Response({"state": record.state, "attempt": record.attempt})
