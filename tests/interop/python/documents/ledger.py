"""OpenAPI 3.1.0 as a payment service writes it: form bodies with nested fields, deep objects in queries, `anyOf` with `null`,
`const`, operations without an id, webhooks, a path item behind a reference, server variables."""

from typing import Any

from .api import Api, answered, ref

RESOURCES = """account balance charge customer dispute event file invoice invoiceitem mandate payout plan price product quote refund
review setup subscription tax token topup transfer coupon discount card bank source order payment session link rate code entity
person capability report run cycle schedule phase meter alert credit note grant line period feature entitlement""".split()

FORM = "application/x-www-form-urlencoded"

SCHEMAS: dict[str, Any] = {
    "object": {
        "type": "object",
        "required": ["id", "object"],
        "properties": {
            "id": {"type": "string", "maxLength": 5000},
            "object": {"type": "string"},
            "amount": {"type": ["integer", "null"], "exclusiveMinimum": -1},
            "customer": {"anyOf": [{"type": "string"}, ref("object"), {"type": "null"}], "x-expandable": True},
            "metadata": {"type": "object", "additionalProperties": {"type": "string"}},
            "status": {"$ref": "#/components/schemas/status", "description": "Where it stands."},
        },
        "$defs": {"unused": {"type": "string"}},
    },
    "status": {"type": "string", "enum": ["open", "paid"]},
    "list": {
        "type": "object",
        "required": ["data", "object"],
        "properties": {
            "object": {"const": "list"},
            "data": {"type": "array", "items": ref("object")},
            "has_more": {"type": "boolean"},
        },
    },
    "gone": {"type": "object", "required": ["deleted"], "properties": {"id": {"type": "string"}, "deleted": {"const": True}}},
    "range": {"type": "object", "properties": {"gte": {"type": "integer"}, "lt": {"type": "integer"}}},
}


def build() -> Api:
    api = Api(
        "3.1.0",
        "Ledger",
        jsonSchemaDialect="https://json-schema.org/draft/2020-12/schema",
        servers=[{"url": "https://{region}.ledger.example/{version}", "variables": {"region": {"default": "eu"}, "version": {"default": "v1"}}}],
        security=[{"bearer": []}],
        webhooks={"paid": {"post": {"operationId": "webhookPaid", "responses": {"200": {"description": "OK"}}}}},
        components={
            "schemas": SCHEMAS,
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
            "pathItems": {"ping": {"get": {"operationId": "GetPing", "security": [], "responses": {"200": answered({"type": "string"})}}}},
        },
    )
    for resource in RESOURCES:
        add(api, resource)
    behind = api.document["components"]["pathItems"]["ping"]["get"]
    api.add("get", "/v1/ping", behind, tool="GetPing", place={}, answer="pong")
    api.paths["/v1/ping"] = {"$ref": "#/components/pathItems/ping"}
    return api


def add(api: Api, resource: str) -> None:
    every, one = f"/v1/{resource}s", f"/v1/{resource}s/{{id}}"
    thing = {"id": f"{resource}_1", "object": resource, "amount": None, "customer": {"id": "c", "object": "customer"}, "status": "open"}
    place = {"id": f"{resource}_1"}
    camel = resource.capitalize()
    identify = {"name": "id", "in": "path", "required": True, "style": "simple", "schema": {"type": "string", "maxLength": 5000}}
    expand = {"name": "expand", "in": "query", "style": "form", "schema": {"type": "array", "items": {"type": "string"}}}
    created = {
        "name": "created",
        "in": "query",
        "style": "deepObject",
        "explode": True,
        "schema": {"anyOf": [ref("range"), {"type": "integer"}]},
    }
    piped = {"name": "states", "in": "query", "style": "pipeDelimited", "explode": False, "schema": {"type": "array", "items": ref("status")}}
    once = {"name": "Idempotency-Key", "in": "header", "required": True, "schema": {"type": "string"}}

    def form(**properties: Any) -> dict[str, Any]:
        encoding = {name: {"style": "deepObject", "explode": True} for name in properties if name in ("metadata", "shipping")}
        schema = {"type": "object", "properties": properties, "additionalProperties": False}
        return {"content": {FORM: {"schema": schema, "encoding": encoding}}}

    metadata = {"type": "object", "additionalProperties": {"type": "string"}}
    address = {"type": "object", "properties": {"city": {"type": "string"}, "line1": {"type": ["string", "null"]}}}
    shipping = {"type": "object", "required": ["address"], "properties": {"name": {"type": "string"}, "address": address}}
    good, listed = {"200": answered(ref("object"))}, {"200": answered(ref("list"))}
    faulty = {"default": answered({"type": "object"}, "A fault.")}

    api.add(
        "get",
        every,
        {"operationId": f"Get{camel}s", "parameters": [created, expand, piped], "responses": listed | faulty},
        tool=f"Get{camel}s",
        place={},
        more={"created": {"gte": 1, "lt": 9}, "expand": ["data.customer", "x"], "states": ["open", "paid"]},
        query=[("created[gte]", "1"), ("created[lt]", "9"), ("expand", "data.customer"), ("expand", "x"), ("states", "open|paid")],
        answer={"object": "list", "data": [thing], "has_more": False},
    )
    api.add(
        "post",
        every,
        {
            "operationId": f"Post{camel}s",
            "parameters": [once],
            "requestBody": form(amount={"type": "integer"}, metadata=metadata, shipping=shipping, note={"type": ["string", "null"]}),
            "responses": good | faulty,
        },
        tool=f"Post{camel}s",
        place={},
        more={"Idempotency-Key": "k-1", "amount": 100, "metadata": {"a b": "&="}, "shipping": {"name": "Ada", "address": {"city": "Köln"}}},
        headers={"Idempotency-Key": "k-1"},
        body=[("amount", "100"), ("metadata[a b]", "&="), ("shipping[name]", "Ada"), ("shipping[address][city]", "Köln")],
        media=FORM,
        answer=thing,
    )
    api.add("get", one, {"parameters": [identify, expand], "responses": good}, tool=f"get_v1_{resource}s_id", place=place, answer=thing)
    api.add(
        "post",
        one,
        {"parameters": [identify], "requestBody": form(metadata=metadata), "responses": good},
        tool=f"post_v1_{resource}s_id",
        place=place,
        more={"metadata": {"x": "1"}},
        body=[("metadata[x]", "1")],
        media=FORM,
        answer=thing,
    )
    api.add(
        "delete",
        one,
        {"parameters": [identify], "responses": {"200": answered(ref("gone"))}},
        tool=f"delete_v1_{resource}s_id",
        place=place,
        answer={"id": f"{resource}_1", "deleted": True},
    )
    for verb in ["cancel", "capture", "void", "send", "finalize"]:
        api.add(
            "post",
            f"{one}/{verb}",
            {"operationId": f"Post{camel}{verb.capitalize()}", "parameters": [identify], "requestBody": form(reason=ref("status")), "responses": good},
            tool=f"Post{camel}{verb.capitalize()}",
            place=place,
            answer=thing,
        )
