"""Build the stack from the template as the local cloud does, and read every role's resolved policies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from chalicelib.settings import Settings, read_settings
from localcloud.iam.policies import Document
from localcloud.stacks.provisioning import Clients, provision
from tests.localcloud.hosting import aws, client
from tests.support.template import build_app_template

KEY = "arn:aws:kms:us-east-1:123456789012:key/0f000000-0000-4000-8000-000000000000"
EVERYTHING = {"KmsKeyArn": KEY, "SubnetIds": "subnet-1,subnet-2", "SecurityGroupIds": "sg-1"}
"""The parameters with which every part of the policies that hangs on a condition is there."""
EXECUTION = "execution"


@dataclass(frozen=True)
class Role:
    """A role of the stack, named by its Python function, or `execution`."""

    owner: str
    name: str
    arn: str
    policies: tuple[Document, ...]


@dataclass(frozen=True)
class BuiltStack:
    """What the tests need from a stack."""

    roles: Mapping[str, Role]
    settings: Settings
    outputs: Mapping[str, str]


def build_stack(parameters: Mapping[str, str], folder: Path) -> BuiltStack:
    """Build the app's template in one of moto's accounts and read the roles back."""
    with aws(folder, []) as url:
        clients: Clients = cache(lambda service: client(service, url))
        stack = provision(
            build_app_template(), {"StageName": "local", "CodeName": "code.tar.gz", **parameters}, clients
        )
        iam = clients("iam")
        environment = dict(stack.functions[0].environment)
        arns = {function.handler.rpartition(".")[2]: function.role for function in stack.functions}
        arns[EXECUTION] = environment["EXECUTION_ROLE_ARN"]
        roles = {owner: read_role(iam, owner, arn) for owner, arn in arns.items()}
        for role in roles.values():
            delete_role(iam, role.name)
    return BuiltStack(roles, read_settings(environment), stack.outputs)


def read_role(iam: Any, owner: str, arn: str) -> Role:
    name = arn.rpartition("/")[2]
    names = iam.list_role_policies(RoleName=name)["PolicyNames"]
    documents = (iam.get_role_policy(RoleName=name, PolicyName=each)["PolicyDocument"] for each in names)
    return Role(owner, name, arn, tuple(documents))


def delete_role(iam: Any, name: str) -> None:
    """Delete a role, because moto's memory lives as long as the process."""
    for policy in iam.list_role_policies(RoleName=name)["PolicyNames"]:
        iam.delete_role_policy(RoleName=name, PolicyName=policy)
    iam.delete_role(RoleName=name)
