"""Complete each function that Chalice generates: a name, a log with retention, and, for events, queues and retries.
Pure.

An event can fail in two ways, and each has its own queue. If EventBridge cannot reach the function, the event goes to
the rule's queue (`undelivered`). If the function fails, and fails twice more, the event goes to the function's queue
(`dead-letters`), which the rule knows nothing about. Each queue has an alarm, and so have the function's errors.
"""

from __future__ import annotations

from typing import Any

from infrastructure.template.alarms import alarm_on_errors, alarm_on_queue

Body = dict[str, Any]
FUNCTION, API = "AWS::Serverless::Function", "AWS::Serverless::Api"
PREFIX = "${AppName}-${StageName}"
RETRIES = 2
LAMBDA_TRIES_FOR = 21_600  # seconds
EVENTBRIDGE_TRIES = {"MaximumEventAgeInSeconds": 86_400, "MaximumRetryAttempts": 185}
SCHEDULE_TRIES = {"MaximumEventAgeInSeconds": 60, "MaximumRetryAttempts": 1}  # the next one comes in two minutes
OWN_URL = "https://${RestAPI}.execute-api.${AWS::Region}.${AWS::URLSuffix}/api/"
KEPT_LETTERS = 1_209_600  # seconds: SQS's longest retention


def finish_functions(template: Body) -> None:
    """Add to all functions of a template what they need beside their code."""
    functions = {name: body for name, body in template["Resources"].items() if body["Type"] == FUNCTION}
    for logical, function in functions.items():
        name = name_function(function)
        _finish_role(template, function, name)
        _finish_log(template, logical, function, name)
        template["Resources"][f"{logical}Errors"] = alarm_on_errors(logical, name)
        if function["Properties"].get("Events"):
            _finish_events(template, logical, function, name)
        _tell_page(function)


def _tell_page(function: Body) -> None:
    """Tell a function where the page is: reports link back to it.

    The routes' function is told a domain of the page's own alone, because the API is made after it. Without one it
    takes the address at which it is asked.
    """
    own = {"Ref": "PageUrl"}
    variables = function["Properties"].setdefault("Environment", {}).setdefault("Variables", {})
    has_events = bool(function["Properties"].get("Events"))
    variables["PAGE_URL"] = {"Fn::If": ["HasPageUrl", own, {"Fn::Sub": OWN_URL}]} if has_events else own


def name_function(function: Body) -> str:
    """Return APP-STAGE- and the Python function's name; Chalice's `app` itself is the function behind the API."""
    python_name = function["Properties"]["Handler"].rpartition(".")[2]
    return f"{PREFIX}-{'api' if python_name == 'app' else python_name}"


def _finish_role(template: Body, function: Body, name: str) -> None:
    """Name the function's role with its region, because an account's roles are shared by all regions."""
    role = template["Resources"][function["Properties"]["Role"]["Fn::GetAtt"][0]]["Properties"]
    role["RoleName"] = {"Fn::Sub": f"{name}-${{AWS::Region}}"}
    role["PermissionsBoundary"] = when("HasPermissionsBoundary", {"Ref": "PermissionsBoundaryArn"})


def _finish_log(template: Body, logical: str, function: Body, name: str) -> None:
    log = f"{logical}Log"
    template["Resources"][log] = {
        "Type": "AWS::Logs::LogGroup",
        "Properties": {
            "LogGroupName": {"Fn::Sub": f"/aws/lambda/{name}"},
            "RetentionInDays": {"Ref": "LogRetentionDays"},
            "KmsKeyId": when("HasKmsKey", {"Ref": "KmsKeyArn"}),
        },
    }
    function["Properties"] |= {"FunctionName": {"Fn::Sub": name}, "LoggingConfig": {"LogGroup": {"Ref": log}}}


def _finish_events(template: Body, logical: str, function: Body, name: str) -> None:
    letters, undelivered = f"{logical}DeadLetters", f"{logical}Undelivered"
    rule_arn = f"arn:${{AWS::Partition}}:events:${{AWS::Region}}:${{AWS::AccountId}}:rule/{name}"
    template["Resources"] |= {
        letters: make_queue(f"{name}-dead-letters"),
        undelivered: make_queue(f"{name}-undelivered"),
        f"{letters}Policy": guard_queue(letters),
        f"{undelivered}Policy": guard_queue(undelivered, let_in=rule_arn),
        f"{letters}Waiting": alarm_on_queue(letters, f"{name}-dead-letters"),
        f"{undelivered}Waiting": alarm_on_queue(undelivered, f"{name}-undelivered"),
    }
    function["Properties"] |= {
        "DeadLetterQueue": {"Type": "SQS", "TargetArn": {"Fn::GetAtt": [letters, "Arn"]}},
        "EventInvokeConfig": {"MaximumRetryAttempts": RETRIES, "MaximumEventAgeInSeconds": LAMBDA_TRIES_FOR},
        "ReservedConcurrentExecutions": when("ReservesConcurrency", {"Ref": "ReservedConcurrency"}),
    }
    for event in function["Properties"]["Events"].values():
        _finish_rule(event, name, undelivered)


def _finish_rule(event: Body, name: str, undelivered: str) -> None:
    """Name the rule after its function, which has only one (a test says so), and set its retries and its queue."""
    is_schedule = event["Type"] == "Schedule"
    event["Properties"] |= {
        "Name" if is_schedule else "RuleName": {"Fn::Sub": name},
        "RetryPolicy": dict(SCHEDULE_TRIES if is_schedule else EVENTBRIDGE_TRIES),
        "DeadLetterConfig": {"Arn": {"Fn::GetAtt": [undelivered, "Arn"]}},
    }
    if not is_schedule:
        event["Properties"]["Pattern"] = fill_in(event["Properties"]["Pattern"])


def fill_in(value: Any) -> Any:
    """Let CloudFormation fill in a pattern's `${…}` texts: the template is the same for every stage."""
    if isinstance(value, dict):
        return {name: fill_in(item) for name, item in value.items()}
    if isinstance(value, list):
        return [fill_in(item) for item in value]
    return {"Fn::Sub": value} if isinstance(value, str) and "${" in value else value


def make_queue(name: str) -> Body:
    return {
        "Type": "AWS::SQS::Queue",
        "Properties": {
            "QueueName": {"Fn::Sub": name},
            "MessageRetentionPeriod": KEPT_LETTERS,
            "KmsMasterKeyId": when("HasKmsKey", {"Ref": "KmsKeyArn"}),
            "SqsManagedSseEnabled": {"Fn::If": ["HasKmsKey", {"Ref": "AWS::NoValue"}, True]},
        },
    }


def guard_queue(queue: str, let_in: str | None = None) -> Body:
    """Return a queue's policy: encrypted transport only, and no sender but one rule."""
    arn = {"Fn::GetAtt": [queue, "Arn"]}
    statements: list[Body] = [
        {
            "Sid": "EncryptedOnly",
            "Effect": "Deny",
            "Principal": "*",
            "Action": "sqs:*",
            "Resource": arn,
            "Condition": {"Bool": {"aws:SecureTransport": "false"}},
        }
    ]
    if let_in:
        statements.append(
            {
                "Sid": "ItsRule",
                "Effect": "Allow",
                "Principal": {"Service": "events.amazonaws.com"},
                "Action": "sqs:SendMessage",
                "Resource": arn,
                "Condition": {"ArnEquals": {"aws:SourceArn": {"Fn::Sub": let_in}}},
            }
        )
    document = {"Version": "2012-10-17", "Statement": statements}
    return {"Type": "AWS::SQS::QueuePolicy", "Properties": {"Queues": [{"Ref": queue}], "PolicyDocument": document}}


def when(condition: str, value: Any) -> Body:
    """Return a value under a condition; without the condition the property is absent."""
    return {"Fn::If": [condition, value, {"Ref": "AWS::NoValue"}]}
