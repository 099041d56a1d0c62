"""Choose the WSGI application in front of moto for each service, by the service's signing name.

A front does what moto cannot do, or does differently from AWS. The server itself holds S3's and SageMaker's.
"""

from __future__ import annotations

from localcloud.common.faults import ReadFaults
from localcloud.protocol.account_limits import AccountLimits
from localcloud.protocol.wsgi import WsgiApp
from localcloud.server.tagged import ListTagged, Tagged
from localcloud.stacks.cloudformation import Stacks
from localcloud.stacks.makers import Clients


def make_fronts(moto: WsgiApp, clients: Clients, faults: ReadFaults, list_tagged: ListTagged) -> dict[str, WsgiApp]:
    """Build a WSGI application for each service that needs one; `clients` gives clients of this cloud's own API."""
    limits = AccountLimits(moto, faults)
    return {
        "ce": limits,
        "cloudformation": Stacks(moto, clients),
        "servicequotas": limits,
        "lambda": limits,
        "tagging": Tagged(moto, list_tagged),
    }
