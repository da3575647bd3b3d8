"""One look at a server, with a cluster or without."""

from __future__ import annotations

from bester.server.admin.alone import AloneStatus
from bester.server.admin.cluster_status import ClusterStatus
from bester.server.admin.services import AdminServices

Status = AloneStatus | ClusterStatus


def look(services: AdminServices) -> Status:
    """Begins a look; at its end, ``missing`` has the nodes that did not answer."""
    return ClusterStatus(services) if services.cluster.name else AloneStatus(services)
