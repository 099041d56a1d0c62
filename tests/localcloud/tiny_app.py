"""A Chalice app that shows what it is given, for the tests of the hosting part."""

APP = """
import json, os, sys, time
from chalice import Chalice, CORSConfig, Response

app = Chalice("tiny")
app.api.binary_types.append("image/webp")


@app.route("/echo/{name}", methods=["POST"], content_types=["*/*"])
def echo(name):
    request = app.current_request
    return {"name": name, "query": request.query_params, "size": len(request.raw_body), "path": request.context["path"]}


@app.route("/bytes", cors=True)
def binary():
    return Response(b"\\x00\\xff", headers={"Content-Type": "image/png", "X-Made": "here"}, status_code=201)


@app.route("/wrong")
def wrong():
    raise ValueError("a bug")


@app.route("/slow")
def slow():
    time.sleep(1)
    return {}


@app.route("/quick")
def quick():
    return {}


def leave(*words):
    with open(os.environ["DIARY"], "a") as diary:
        diary.write(json.dumps(words) + "\\n")


@app.on_cw_event({"source": ["aws.s3"], "detail": {"object": {"key": [{"prefix": "datasets/"}]}}})
def on_upload(event):
    leave("upload", event.detail["object"]["key"], os.environ["AWS_LAMBDA_FUNCTION_NAME"])


@app.on_cw_event({"source": ["test"]})
def on_test(event):
    leave("test", event.detail, event.context.aws_request_id)
    print("seen", event.detail)
    if "fail" in event.detail:
        raise RuntimeError(event.detail["fail"])
    if "exit" in event.detail:
        os._exit(3)
    time.sleep(event.detail.get("sleep", 0))


@app.schedule("rate(5 minutes)")
def tick(event):
    leave("tick", event.detail_type if hasattr(event, "detail_type") else "")
"""
CONFIG = (
    '{"version": "2.0", "app_name": "tiny", "autogen_policy": false, "lambda_timeout": 30,'
    ' "stages": {"local": {"api_gateway_stage": "api", "lambda_functions": {"on_test": {"lambda_timeout": 1}}}}}'
)
POLICY = '{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "logs:PutLogEvents", "Resource": "*"}]}'


def write_tiny_app(folder):  # type: ignore[no-untyped-def]
    """Write the app as a Chalice project into a folder; returns the folder."""
    (folder / ".chalice").mkdir(parents=True)
    (folder / "app.py").write_text(APP)
    (folder / ".chalice" / "config.json").write_text(CONFIG)
    (folder / ".chalice" / "policy-local.json").write_text(POLICY)
    return folder
