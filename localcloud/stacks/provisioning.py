"""Build the app's template on the local cloud through the services' APIs, as CloudFormation would.

moto's own CloudFormation takes three seconds for this template and fails on the API's inline body. Here each resource
type is one function (`makers.py`). Types without a meaning on one machine are skipped by name; any other type is
refused. Everything may be repeated: after a restart the buckets still exist, and the rest is created again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from localcloud.stacks.intrinsics import Properties, Resolver, TemplateError
from localcloud.stacks.makers import ACCOUNT, MAKERS, NOT_HERE, Clients, Made

__all__ = ["ACCOUNT", "Clients", "Function", "Stack", "TemplateError", "provision"]
FUNCTION, API, ROLE = "AWS::Serverless::Function", "AWS::Serverless::Api", "AWS::IAM::Role"


@dataclass(frozen=True)
class Function:
    """A Lambda function of the template. Times in seconds, memory in MB. `role` is its role's ARN, or empty.

    `reserved` is the number of concurrent executions that are its own, or None."""

    name: str
    handler: str
    environment: Mapping[str, str]
    timeout: int
    memory: int
    patterns: Mapping[str, Properties] = field(default_factory=dict)
    schedules: Mapping[str, str] = field(default_factory=dict)
    retries: int = 2
    dead_letters: str = ""
    role: str = ""
    reserved: int | None = None


@dataclass(frozen=True)
class Stack:
    """The built stack: the functions, the outputs, and, where there is an API, its stage, its OpenAPI body and its
    gateway responses by type."""

    functions: list[Function]
    outputs: Mapping[str, str]
    api_stage: str = ""
    api_body: Properties = field(default_factory=dict)
    api_function: str = ""
    api_responses: Properties = field(default_factory=dict)


def provision(
    template: Properties, parameters: Mapping[str, str], clients: Clients, region: str = "us-east-1"
) -> Stack:
    """Build a template's resources; `clients(service)` gives boto3 clients. Raises TemplateError, naming the fault."""
    return _Builder(template, parameters, clients, region).build()


class _Builder:
    """Builds each resource when it is first referred to, so the order in the template does not matter."""

    def __init__(self, template: Properties, parameters: Mapping[str, str], clients: Clients, region: str) -> None:
        self._resources: dict[str, Properties] = template["Resources"]
        self._globals: Properties = template.get("Globals", {}).get("Function", {})
        self._outputs: Properties = template.get("Outputs", {})
        self._clients = clients
        values = read_values(template, parameters, region)
        self._resolver = Resolver(values, template.get("Conditions", {}), self._refer, self._attribute)
        self._prefix = f"{values.get('AppName', 'app')}-{values.get('StageName', 'local')}"
        self._made: dict[str, Made] = {}

    def build(self) -> Stack:
        wanted = [name for name, body in self._resources.items() if self._is_wanted(body)]
        for name in wanted:
            self._make(name)
        functions = {name: self._function(name) for name in wanted if self._resources[name]["Type"] == FUNCTION}
        apis = [body["Properties"] for body in self._resources.values() if body["Type"] == API]
        outputs = {name: str(self._resolver.resolve(body["Value"])) for name, body in self._outputs.items()}
        if not apis:
            return Stack(list(functions.values()), outputs)
        api = apis[0]
        responses = self._resolver.resolve(api.get("GatewayResponses", {}))
        name = functions["APIHandler"].name
        return Stack(list(functions.values()), outputs, api["StageName"], api["DefinitionBody"], name, responses)

    def _is_wanted(self, body: Properties) -> bool:
        return "Condition" not in body or self._resolver.holds(body["Condition"])

    def _refer(self, name: str) -> str:
        return self._make(name).ref

    def _attribute(self, name: str, attribute: str) -> str:
        made = self._make(name)
        if attribute not in made.attributes:
            raise TemplateError(f"{name} has no attribute {attribute!r} here; it has {', '.join(made.attributes)}.")
        return made.attributes[attribute]

    def _make(self, name: str) -> Made:
        if name not in self._resources:
            raise TemplateError(f"The template refers to {name}, and has no parameter or resource of that name.")
        if name not in self._made:
            self._made[name] = self._build(name, self._resources[name])
        return self._made[name]

    def _build(self, name: str, body: Properties) -> Made:
        if not self._is_wanted(body):
            raise TemplateError(f"The template refers to {name}, whose condition {body['Condition']} is false.")
        unnamed, properties, kind = f"{self._prefix}-{name}", body.get("Properties", {}), body["Type"]
        if kind in NOT_HERE:
            return Made(unnamed)
        if kind not in MAKERS:
            raise TemplateError(f"{name} is a {kind}, which the local cloud does not build.")
        if kind in (FUNCTION, API):  # their other properties refer to resources that refer back to them
            properties = {key: properties[key] for key in ("FunctionName", "Handler") if key in properties}
        return MAKERS[kind](self._clients, unnamed, self._resolver.resolve(properties))

    def _function(self, logical: str) -> Function:
        properties, resolve = self._resources[logical]["Properties"], self._resolver.resolve
        variables = [one.get("Environment", {}).get("Variables", {}) for one in (self._globals, properties)]
        name = self._made[logical].ref
        events = [(rule, event["Type"], event["Properties"]) for rule, event in properties.get("Events", {}).items()]
        return Function(
            name=name,
            handler=properties["Handler"],
            environment={key: str(value) for key, value in resolve(variables[0] | variables[1]).items()},
            timeout=properties.get("Timeout", self._globals.get("Timeout", 3)),
            memory=properties.get("MemorySize", self._globals.get("MemorySize", 128)),
            patterns={
                resolve(told.get("RuleName", f"{name}-{rule}")): resolve(told["Pattern"])
                for rule, kind, told in events
                if kind in ("CloudWatchEvent", "EventBridgeRule")
            },
            schedules={
                resolve(told.get("Name", f"{name}-{rule}")): told["Schedule"]
                for rule, kind, told in events
                if kind == "Schedule"
            },
            retries=properties.get("EventInvokeConfig", {}).get("MaximumRetryAttempts", 2),
            dead_letters=resolve(properties.get("DeadLetterQueue", {}).get("TargetArn", "")),
            role=resolve(properties.get("Role", "")),
            reserved=self._read_reserved(properties),
        )

    def _read_reserved(self, properties: Properties) -> int | None:
        name = "ReservedConcurrentExecutions"
        told = self._resolver.resolve({name: properties[name]} if name in properties else {})
        return int(told[name]) if name in told else None


def read_values(template: Properties, parameters: Mapping[str, str], region: str) -> dict[str, str]:
    """Return what `Ref` can name apart from resources, all of it as text."""
    defaults = {name: str(body.get("Default", "")) for name, body in template.get("Parameters", {}).items()}
    pseudo = {"AWS::AccountId": ACCOUNT, "AWS::Region": region, "AWS::Partition": "aws"}
    return defaults | dict(parameters) | pseudo | {"AWS::URLSuffix": "amazonaws.com"}
