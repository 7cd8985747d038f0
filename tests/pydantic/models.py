"""FastAPI applications equal to the schemas of schemas.json and params.json."""

import enum
import inspect
import json
import pathlib
from typing import Annotated, Optional

from fastapi import FastAPI, Query, Request
from fastapi.encoders import jsonable_encoder
from fastapi.exceptions import RequestValidationError
from fastapi.exception_handlers import request_validation_exception_handler
from fastapi.responses import JSONResponse
from pydantic import AliasChoices, BaseModel, ConfigDict, Field, create_model

HERE = pathlib.Path(__file__).parent
SCHEMAS = json.loads((HERE / "schemas.json").read_text("utf-8"))
PARAMS = json.loads((HERE / "params.json").read_text("utf-8"))

INT_BITS = {f"{sign}int{bits}": (sign, bits) for sign in ("", "u") for bits in (8, 16, 32, 64)}
BOUNDS = ("ge", "gt", "le", "lt")


def int_range(dtype):
    sign, bits = INT_BITS[dtype]
    return (0, 2**bits - 1) if sign else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


def constraints(field):
    """Keyword arguments of `Field` for the rules of one value."""
    rules = {key: field[key] for key in BOUNDS if key in field}
    dtype = field["dtype"]
    if dtype in INT_BITS:
        # What an integer dtype means: Python's integers within its range.
        least, most = int_range(dtype)
        if "ge" not in rules and "gt" not in rules:
            rules["ge"] = least
        if "le" not in rules and "lt" not in rules:
            rules["le"] = most
    elif "float" in dtype:
        rules["allow_inf_nan"] = field.get("allow_inf_nan", False)
    elif dtype == "string":
        rules.update({k: field[k] for k in ("min_length", "max_length", "pattern") if k in field})
    return rules


def value_type(field):
    """The annotation of one value, without its lists."""
    dtype = field["dtype"]
    base = bool if dtype == "bool" else int if dtype in INT_BITS else str if dtype == "string" else float
    if "enum" in field:
        members = {f"M{i}": base(value) for i, value in enumerate(field["enum"])}
        return enum.Enum(f"Enum_{field['name']}", members, type=base)
    return Annotated[base, Field(**constraints(field))]


def annotation(field):
    kind = value_type(field)
    if field.get("nullable"):
        kind = Optional[kind]
    for length in reversed(field.get("shape", [])):
        kind = list[kind] if length is None else Annotated[list[kind], Field(min_length=length, max_length=length)]
    return kind


def default_of(field):
    if "default" not in field:
        return ...
    value = field["default"]
    for length in reversed(field.get("shape", [])):
        value = [value] * length
    return value


def row_model(name, schema):
    config = ConfigDict(extra=schema["extra"], strict=schema.get("coerce") == "strict")
    fields = {}
    for i, field in enumerate(schema["fields"]):
        alias = AliasChoices(field["name"], *field.get("alias", []))
        # Python attributes have plain names; callers see the alias only.
        fields[f"f{i}"] = (annotation(field), Field(default_of(field), validation_alias=alias))
    return create_model(f"Row_{name}", __config__=config, **fields)


def body_model(name, schema):
    shape = schema["shape"]
    config = ConfigDict(extra=schema["extra"], strict=schema.get("coerce") == "strict")
    if shape["kind"] == "row":
        return row_model(name, schema)
    if shape["kind"] == "rows":
        rows = Annotated[list[row_model(name, schema)], Field(max_length=shape["max_rows"])]
        key = Field(validation_alias=shape["key"])
        return create_model(f"Body_{name}", __config__=config, rows=(rows, key))
    by_name = {field["name"]: field for field in schema["fields"]}
    columns = {}
    for i, (key, name_) in enumerate(shape["keys"].items()):
        column = Annotated[list[annotation(by_name[name_])], Field(max_length=shape["max_rows"])]
        columns[f"c{i}"] = (column, Field(validation_alias=key))
    return create_model(f"Body_{name}", __config__=config, **columns)


def column_of(model, name_to_key, field, rows):
    """One field's values, a row each."""
    for i, name in enumerate(name_to_key.values()):
        if name == field["name"]:
            return getattr(model, f"c{i}")
    return [default_of(field)] * rows


def rows_of(schema, body):
    """The values that a body was read as: a list of rows, each a list in field order."""
    shape = schema["shape"]
    count = range(len(schema["fields"]))
    if shape["kind"] == "row":
        return [[getattr(body, f"f{i}") for i in count]]
    if shape["kind"] == "rows":
        return [[getattr(row, f"f{i}") for i in count] for row in body.rows]
    rows = len(body.c0)
    columns = [column_of(body, shape["keys"], field, rows) for field in schema["fields"]]
    return [list(row) for row in zip(*columns)]


def plain(value):
    """A value that JSON can carry: what has no JSON is written as its name."""
    if isinstance(value, enum.Enum):
        return plain(value.value)
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {plain(key): plain(item) for key, item in value.items()}
    return value


class Recorder:
    """What the last request was read as."""

    def __init__(self):
        self.values = None
        self.errors = None


async def on_invalid(recorder, request: Request, error: RequestValidationError):
    """FastAPI's own answer; where its rendering fails, the errors are kept for comparison."""
    try:
        recorder.errors = plain(jsonable_encoder(error.errors()))
    except Exception:  # bytes that are no text
        recorder.errors = None
    return await request_validation_exception_handler(request, error)


def application(recorder):
    app = FastAPI(openapi_url=None)

    async def handler(request, error):
        return await on_invalid(recorder, request, error)

    app.add_exception_handler(RequestValidationError, handler)
    for name, schema in SCHEMAS.items():
        app.post(f"/{name}")(body_endpoint(recorder, schema, body_model(name, schema)))
    for name, params in PARAMS.items():
        app.get(f"/{name}")(query_endpoint(recorder, params))
    return app


def body_endpoint(recorder, schema, model: type[BaseModel]):
    async def endpoint(body):
        recorder.values = plain(rows_of(schema, body))
        return JSONResponse(None)

    endpoint.__annotations__ = {"body": model}
    return endpoint


def query_endpoint(recorder, params):
    async def endpoint(**values):
        recorder.values = plain([values[p["name"]] for p in params])
        return JSONResponse(None)

    endpoint.__signature__ = inspect.Signature([query_parameter(p) for p in params])
    return endpoint


def query_parameter(param):
    kind = value_type(param)
    default = inspect.Parameter.empty
    if not param["required"]:
        default = param.get("default")
        kind = kind if default is not None else Optional[kind]
    kind = Annotated[kind, Query()]
    return inspect.Parameter(param["name"], inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)
