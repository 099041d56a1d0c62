"""The states of an endpoint after each report and each restart, without HTTP and without servers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from localcloud.common.clock import SystemClock
from localcloud.common.faults import ColdStart, Faults
from localcloud.common.store import Store
from localcloud.protocol.errors import ServiceError, ValidationException
from localcloud.sagemaker.app import OPERATIONS
from localcloud.sagemaker.core.cloud import Cloud
from localcloud.sagemaker.hosting.cold_starts import ModelNotReady, refuse_cold
from localcloud.sagemaker.hosting.endpoints import finish_deletion, resume_endpoints
from tests.events.contract import complaints
from tests.localcloud.serving.endpoint_support import IMAGE, INSTANCE, ToldRunner


class FullBucket:
    """An S3 in which every object exists."""

    def head_object(self, **_: str) -> dict[str, Any]:
        return {}


class ManualClock(SystemClock):
    """A clock that a test moves, and whose later calls a test makes."""

    def __init__(self) -> None:
        super().__init__()
        self.later: list[tuple[Any, ...]] = []
        self.moment = datetime(2026, 1, 1, tzinfo=UTC)

    def now(self) -> datetime:
        return self.moment

    def pass_time(self, seconds: float) -> None:
        self.moment += timedelta(seconds=seconds)

    def run(self) -> None:
        """Make the later calls."""
        calls, self.later = self.later, []
        for function, *args in calls:
            function(*args)

    def call_later(self, seconds: float, function: Any, *args: Any) -> None:
        self.later.append((function, *args))


class World:
    """A cloud with two configurations, `old` and `new`, and the endpoint `dogs`, on its way to `old`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.events: list[dict[str, Any]] = []
        self.faults = Faults()
        self.restart()
        for name in ("old", "new"):
            container = {"Image": IMAGE, "ModelDataUrl": f"s3://bucket/{name}.tar.gz"}
            self.call("CreateModel", ModelName=name, PrimaryContainer=container)
            variants = [{"VariantName": "main", "ModelName": name} | INSTANCE]
            self.call("CreateEndpointConfig", EndpointConfigName=name, ProductionVariants=variants)
        self.call("CreateEndpoint", EndpointName="dogs", EndpointConfigName="old")

    def restart(self) -> None:
        """Create another cloud and runner on the same store, as after a kill."""
        self.runner, self.clock = ToldRunner(), ManualClock()
        store = Store(self.folder)
        self.cloud = Cloud(
            self.clock,
            store,
            None,  # type: ignore[arg-type]
            self.events.append,
            s3=FullBucket(),
            serving=self.runner,
            faults=lambda: self.faults,
        )

    def call(self, operation: str, **request: Any) -> dict[str, Any]:
        answer: dict[str, Any] = OPERATIONS[operation](self.cloud, request)
        return answer

    def look(self) -> tuple[str, str]:
        """Return the status, and the configuration that serves."""
        described = self.call("DescribeEndpoint", EndpointName="dogs")
        return described["EndpointStatus"], described["EndpointConfigName"]

    def update(self) -> None:
        self.call("UpdateEndpoint", EndpointName="dogs", EndpointConfigName="new")

    def told(self) -> list[str]:
        return [event["detail"]["EndpointStatus"] for event in self.events]

    def archives(self) -> list[str]:
        """Return what the runner was given to serve, in order."""
        return [deployment.variants[0].archive for deployment, _ in self.runner.deployments]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.fixture
def serving(world: World) -> World:
    """A world whose endpoint is in service."""
    world.runner.last[1].succeed()
    return world


def test_every_event_is_as_aws_sends_it(serving: World) -> None:
    """The events of creation, update, rollback and deletion follow the schema of AWS's event."""
    serving.update()
    serving.runner.last[1].fail("no")
    serving.call("DeleteEndpoint", EndpointName="dogs")
    assert serving.told() == ["CREATING", "IN_SERVICE", "UPDATING", "ROLLING_BACK", "IN_SERVICE", "DELETING"]
    for event in serving.events:
        assert complaints("sagemaker-endpoint-state-change", event) == []


def test_the_record_has_only_what_aws_describes(serving: World) -> None:
    """Describe shows no private members."""
    assert not [name for name in serving.call("DescribeEndpoint", EndpointName="dogs") if name.startswith("_")]


@pytest.mark.parametrize("operation", ["UpdateEndpoint", "DeleteEndpoint"])
def test_an_endpoint_on_its_way_is_left_alone(world: World, operation: str) -> None:
    """While it is Creating it can be neither updated nor deleted."""
    request = {"EndpointName": "dogs"} | ({"EndpointConfigName": "new"} if operation == "UpdateEndpoint" else {})
    with pytest.raises(ValidationException, match="Cannot update in-progress endpoint"):
        world.call(operation, **request)


def test_an_updating_endpoint_is_left_alone(serving: World) -> None:
    """A second update waits for the first."""
    serving.update()
    with pytest.raises(ValidationException, match="Cannot update in-progress endpoint"):
        serving.update()


def test_a_successful_update_forgets_an_earlier_failure(serving: World) -> None:
    """The reason of a rollback is gone with the next success."""
    serving.update()
    serving.runner.last[1].fail("no such file")
    assert serving.call("DescribeEndpoint", EndpointName="dogs")["FailureReason"] == "no such file"
    serving.update()
    serving.runner.last[1].succeed()
    assert "FailureReason" not in serving.call("DescribeEndpoint", EndpointName="dogs")
    assert serving.look() == ("InService", "new")


def test_a_report_that_comes_late_changes_nothing(serving: World) -> None:
    """Only the deployment under way can settle it."""
    first = serving.runner.deployments[0][1]
    serving.update()
    first.fail("too late")
    assert serving.look() == ("Updating", "old")


def test_a_later_deployment_has_a_higher_number(serving: World) -> None:
    """This holds after a rollback too, so that the runner knows which one wins."""
    serving.update()
    serving.runner.last[1].fail("no")
    serving.update()
    assert [deployment.number for deployment, _ in serving.runner.deployments] == [1, 2, 3]


def test_deleting_stops_the_servers_and_forgets(serving: World) -> None:
    """It is Deleting first. Later its servers are removed, and then its record."""
    serving.call("DeleteEndpoint", EndpointName="dogs")
    assert serving.look()[0] == "Deleting"
    function, *arguments = serving.clock.later[0]
    assert function is finish_deletion
    function(*arguments)
    assert serving.runner.removed == ["dogs"]
    with pytest.raises(ValidationException, match="Could not find endpoint"):
        serving.look()


def test_after_a_restart_what_served_is_served_again(serving: World) -> None:
    """It serves the same archive, even if its configuration and model are gone. Its state and events do not change."""
    serving.call("DeleteEndpointConfig", EndpointConfigName="old")
    serving.call("DeleteModel", ModelName="old")
    before = serving.told()
    serving.restart()
    resume_endpoints(serving.cloud)
    serving.runner.last[1].succeed()
    assert serving.archives() == ["s3://bucket/old.tar.gz"]
    assert (serving.look(), serving.told()) == (("InService", "old"), before)


def test_after_a_restart_what_cannot_be_served_again_has_failed(serving: World) -> None:
    """An archive that has been deleted since is reported, not ignored."""
    serving.restart()
    resume_endpoints(serving.cloud)
    serving.runner.last[1].fail("the archive is gone")
    assert serving.look()[0] == "Failed"
    assert serving.told()[-1] == "FAILED"


def test_after_a_restart_a_creation_goes_on(world: World) -> None:
    """An endpoint that was Creating becomes InService."""
    world.restart()
    resume_endpoints(world.cloud)
    world.runner.last[1].succeed()
    assert (world.look(), world.told()) == (("InService", "old"), ["CREATING", "IN_SERVICE"])


def test_after_a_restart_an_update_goes_on_while_the_old_serves(serving: World) -> None:
    """Both are started. The old one has the traffic until the new one serves."""
    serving.update()
    serving.restart()
    resume_endpoints(serving.cloud)
    assert serving.archives() == ["s3://bucket/old.tar.gz", "s3://bucket/new.tar.gz"]
    (_, restored), (_, updated) = serving.runner.deployments
    restored.succeed()
    assert serving.look() == ("Updating", "old")
    updated.succeed()
    assert serving.look() == ("InService", "new")


def test_after_a_restart_a_deletion_is_finished(serving: World) -> None:
    """A cloud killed between the two steps leaves nothing half deleted."""
    serving.call("DeleteEndpoint", EndpointName="dogs")
    serving.restart()
    resume_endpoints(serving.cloud)
    with pytest.raises(ValidationException, match="Could not find endpoint"):
        serving.look()


def test_one_container_may_be_given_as_a_list(world: World) -> None:
    """Containers with a single member equals PrimaryContainer. With two it is refused by name."""
    container = {"Image": IMAGE, "ModelDataUrl": "s3://bucket/x.tar.gz"}
    world.call("CreateModel", ModelName="listed", Containers=[container])
    assert world.call("DescribeModel", ModelName="listed")["PrimaryContainer"] == container
    with pytest.raises(ValidationException, match="either PrimaryContainer or Containers"):
        world.call("CreateModel", ModelName="none")
    with pytest.raises(Exception, match="does not support inference pipelines"):
        world.call("CreateModel", ModelName="two", Containers=[container, container])


def test_an_endpoint_beyond_its_quota_is_refused(serving: World) -> None:
    """So is an update: the old instances continue until the new ones serve."""
    serving.faults = Faults(quotas={"ml.m5.large for endpoint usage": 1})
    with pytest.raises(ServiceError, match=r"'ml\.m5\.large for endpoint usage' is 1 Instances"):
        serving.update()
    with pytest.raises(ServiceError, match="request delta of 1 Instances"):
        serving.call("CreateEndpoint", EndpointName="cats", EndpointConfigName="new")
    assert serving.look() == ("InService", "old")


def test_an_endpoint_without_capacity_fails_and_an_updated_one_stays_as_it_was(serving: World) -> None:
    """A first deployment leaves a Failed endpoint that says why. A later one rolls back."""
    serving.faults = Faults(no_capacity=frozenset({"ml.m5.large"}))
    serving.update()
    serving.clock.run()
    assert serving.look() == ("InService", "old")
    serving.call("CreateEndpoint", EndpointName="cats", EndpointConfigName="new")
    serving.clock.run()
    cats = serving.call("DescribeEndpoint", EndpointName="cats")
    assert cats["EndpointStatus"] == "Failed"
    assert "InsufficientInstanceCapacity" in cats["FailureReason"]


def test_a_serverless_endpoint_starts_cold_where_that_is_asked_for(world: World) -> None:
    """It is not ready when new and after it was idle, never otherwise, and never on instances."""
    serverless = {"EndpointName": "dogs", "_serverless": True, "_number": 1}
    refuse_cold(world.cloud, serverless)
    world.faults = Faults(cold_start=ColdStart(idle_seconds=60, seconds=8))
    refuse_cold(world.cloud, serverless | {"_serverless": False})
    for passed, ready in ((0, False), (7, False), (1, True), (60, True), (61, False)):
        world.clock.pass_time(passed)
        if ready:
            refuse_cold(world.cloud, serverless)
        else:
            with pytest.raises(ModelNotReady, match="still being provisioned"):
                refuse_cold(world.cloud, serverless)
