"""Asks FastAPI and Pydantic what they answer to many generated requests.

Writes one JSON line a case to standard output, after one line about the versions:
{"app", "body" (base64) or "query", "type", "status", "values" or "errors"}. `values` are the
rows of an accepted body. Each error is three pieces of the response's own text: before
`input`, `input`, and after it. Where FastAPI fails to render its errors the status is 500 and
they are what it would have said, with NaN, infinities and half surrogates replaced.
"""

import asyncio
import base64
import json
import platform
import sys

import fastapi
import pydantic

import generate
import models

SEED = 20240917
PER_SCHEMA = 620
PER_QUERY = 250


async def call(app, method, path, query=b"", body=b"", content_type="application/json"):
    """One request straight into the application, without a server."""
    headers = [] if content_type is None else [(b"content-type", content_type.encode())]
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "scheme": "http",
        "path": path, "raw_path": path.encode(), "query_string": query, "root_path": "", "headers": headers,
        "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80),
    }
    answer = {"status": None, "body": b""}

    async def receive():
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message):
        if message["type"] == "http.response.start":
            answer["status"] = message["status"]
        else:
            answer["body"] += message.get("body", b"")

    try:
        await app(scope, receive, send)
    except Exception:
        answer["status"] = 500
    return answer


def compact(value):
    """JSON as FastAPI's responses write it."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def pieces(error):
    assert list(error) in (["type", "loc", "msg", "input"], ["type", "loc", "msg", "input", "ctx"])
    head = {key: error[key] for key in ("type", "loc", "msg")}
    tail = ',"ctx":' + compact(error["ctx"]) + "}" if "ctx" in error else "}"
    return [compact(head)[:-1] + ',"input":', compact(error["input"]), tail]


async def ask(app, recorder, case, **request):
    recorder.values = recorder.errors = None
    answer = await call(app, **request)
    case["status"] = answer["status"]
    if answer["status"] == 200:
        case["values"] = recorder.values
    elif answer["status"] == 500:
        case["errors"] = [pieces(error) for error in recorder.errors]
    elif answer["status"] == 422:
        case["errors"] = [pieces(error) for error in json.loads(answer["body"])["detail"]]
        # The pieces are the answer itself, to the byte.
        assert b'{"detail":[' + ",".join("".join(e) for e in case["errors"]).encode() + b"]}" == answer["body"]
    else:
        assert answer["body"] == b'{"detail":"There was an error parsing the body"}', answer
    print(json.dumps(case))


async def main():
    recorder = models.Recorder()
    app = models.application(recorder)
    print(json.dumps({"python": list(sys.version_info[:2]), "fastapi": fastapi.__version__, "pydantic": pydantic.__version__}))
    print(platform.python_version(), file=sys.stderr)
    for i, (name, schema) in enumerate(models.SCHEMAS.items()):
        for body in generate.cases_of(name, schema, SEED + i, PER_SCHEMA):
            case = {"app": name, "body": base64.b64encode(body).decode()}
            await ask(app, recorder, case, method="POST", path=f"/{name}", body=body)
    for body in (b"", b"a=1", b"<x/>", "é".encode(), b"x" * 400, b"{}"):
        for kind in ("text/plain", "application/x-www-form-urlencoded", "text/json"):
            case = {"app": "house", "body": base64.b64encode(body).decode(), "type": kind}
            await ask(app, recorder, case, method="POST", path="/house", body=body, content_type=kind)
    for i, (name, params) in enumerate(models.PARAMS.items()):
        for query in generate.queries(params, SEED + i, PER_QUERY):
            case = {"app": name, "query": query}
            await ask(app, recorder, case, method="GET", path=f"/{name}", query=query.encode())


asyncio.run(main())
