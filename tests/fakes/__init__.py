"""AWS as the control plane meets it, in memory: boto3's clients with AWS's answers, error codes and texts.

All of them stand in one `World`, whose `trouble` may throttle a call, or kill the caller before or after one.
"""

from tests.fakes.clients import Killed, fail
from tests.fakes.world import BUCKET, SETTINGS, World

__all__ = ["BUCKET", "SETTINGS", "Killed", "World", "fail"]
