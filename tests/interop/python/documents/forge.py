"""OpenAPI 3.0.3 as a code forge writes it: tags in operation ids, shared parameters, `nullable`, lists divided by commas."""

from typing import Any

from .api import Api, answered, json_body, ref

RESOURCES = """issues pulls branches commits releases milestones labels hooks deployments environments runners secrets variables
workflows artifacts caches packages projects columns cards discussions wikis stars forks keys invitations collaborators teams
rulesets checks statuses tags trees blobs refs alerts advisories campaigns codespaces autolinks pages topics traffic views
templates""".split()

PARAMETERS = {
    "owner": {"name": "owner", "in": "path", "required": True, "schema": {"type": "string"}},
    "repo": {"name": "repo", "in": "path", "required": True, "schema": {"type": "string"}},
    "number": {"name": "number", "in": "path", "required": True, "schema": {"type": "integer", "minimum": 1}},
    "per_page": {"name": "per_page", "in": "query", "schema": {"type": "integer", "default": 30, "maximum": 100}},
    "page": {"name": "page", "in": "query", "schema": {"type": "integer", "default": 1}},
    "labels": {"name": "labels", "in": "query", "explode": False, "schema": {"type": "array", "items": {"type": "string"}}},
    "since": {"name": "since", "in": "query", "schema": {"type": "string", "format": "date-time"}},
    "sort": {"name": "sort", "in": "query", "schema": {"type": "string", "enum": ["created", "updated"], "default": "created"}},
    "version": {"name": "X-Forge-Version", "in": "header", "schema": {"type": "string", "default": "2022-11-28"}},
}

SCHEMAS: dict[str, Any] = {
    "user": {
        "type": "object",
        "required": ["login", "id"],
        "properties": {
            "login": {"type": "string"},
            "id": {"type": "integer", "format": "int64"},
            "email": {"type": "string", "nullable": True},
            "site_admin": {"type": "boolean"},
        },
    },
    "resource": {
        "type": "object",
        "required": ["number", "title", "author"],
        "properties": {
            "number": {"type": "integer", "minimum": 0, "exclusiveMinimum": True},
            "title": {"type": "string"},
            "body": {"type": "string", "nullable": True},
            "author": ref("user"),
            "assignee": {"nullable": True, "allOf": [ref("user")]},
            "parent": ref("resource"),
            "secret": {"type": "string", "writeOnly": True},
            "labels": {"type": "array", "items": {"oneOf": [{"type": "string"}, ref("label")]}},
        },
    },
    "label": {"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}, "color": {"type": "string"}}},
    "change": {
        "type": "object",
        "required": ["title"],
        "properties": {
            "title": {"oneOf": [{"type": "string"}, {"type": "integer"}]},
            "body": {"type": "string", "nullable": True},
            "id": {"type": "integer", "readOnly": True},
            "labels": {"type": "array", "items": {"oneOf": [{"type": "string"}, ref("label")]}},
            "state": {"type": "string", "enum": ["open", "closed"]},
        },
        "example": {"title": "Broken"},
    },
    "error": {"type": "object", "properties": {"message": {"type": "string"}}},
}

AUTHOR = {"login": "ada", "id": 1, "email": None}
ONE = {"number": 7, "title": "Broken", "body": None, "author": AUTHOR, "assignee": None, "labels": ["bug", {"name": "p1"}]}
MISSING = {"404": {"$ref": "#/components/responses/not_found"}}
CHANGE = {"title": "Broken", "body": None, "labels": ["bug", {"name": "p1", "color": "f00"}]}
PLACE = {"owner": "ada", "repo": "engine №1"}
ITEM = {**PLACE, "number": 7}


def parameters(*names: str) -> list[dict[str, str]]:
    return [ref(name, "parameters") for name in names]


def build() -> Api:
    api = Api(
        "3.0.3",
        "Forge",
        servers=[{"url": "https://api.forge.example"}],
        components={
            "schemas": SCHEMAS,
            "parameters": PARAMETERS,
            "responses": {"not_found": answered(ref("error"), "There is none.")},
            "headers": {"link": {"schema": {"type": "string"}, "example": "<...>; rel=next"}},
        },
    )
    for resource in RESOURCES:
        add(api, resource)
    return api


def add(api: Api, resource: str) -> None:
    def operation(name: str, responses: dict[str, Any], names: list[str], **members: Any) -> dict[str, Any]:
        declared = parameters("owner", "repo", *names)
        about = {"summary": f"{name} of {resource}", "tags": [resource], "operationId": f"{resource}/{name}"}
        return {**about, "externalDocs": {"url": "https://docs.forge.example"}, "parameters": declared, "responses": responses, **members}

    every, one = f"/repos/{{owner}}/{{repo}}/{resource}", f"/repos/{{owner}}/{{repo}}/{resource}/{{number}}"
    listed = answered({"type": "array", "items": ref("resource")}) | {"headers": {"Link": ref("link", "headers")}}

    def tool(name: str) -> str:
        return f"{resource}_{name}"

    api.add(
        "get",
        every,
        operation("list", {"200": listed}, ["labels", "since", "sort", "per_page", "page", "version"]),
        tool=tool("list"),
        place=PLACE,
        more={"labels": ["a b", "c&d"], "since": "2026-01-01T00:00:00Z", "per_page": 100, "X-Forge-Version": "2026-01-01"},
        query=[("labels", "a b,c&d"), ("since", "2026-01-01T00:00:00Z"), ("per_page", "100")],
        headers={"X-Forge-Version": "2026-01-01"},
        answer=[ONE],
    )
    api.add(
        "post",
        every,
        operation("create", {"201": answered(ref("resource"))}, [], requestBody=json_body(ref("change"))),
        tool=tool("create"),
        place=PLACE,
        more=CHANGE,
        body=CHANGE,
        media="application/json",
        status=201,
        answer=ONE,
    )
    api.add("get", one, operation("get", {"200": answered(ref("resource")), **MISSING}, ["number"]), tool=tool("get"), place=ITEM, answer=ONE)
    api.add(
        "patch",
        one,
        operation("update", {"200": answered(ref("resource"))}, ["number"], requestBody=json_body(ref("change"), False)),
        tool=tool("update"),
        place=ITEM,
        more={"state": "closed"},
        body={"state": "closed"},
        media="application/json",
        answer=ONE,
    )
    nothing = {"204": {"description": "Done."}}
    api.add("delete", one, operation("delete", nothing | MISSING, ["number"]), tool=tool("delete"), place=ITEM)
    api.add("put", f"{one}/lock", operation("lock", nothing, ["number"], requestBody=json_body(ref("change"), False)), tool=tool("lock"), place=ITEM)
    api.add("delete", f"{one}/lock", operation("unlock", nothing, ["number"], deprecated=True), tool=tool("unlock"), place=ITEM)
    for what in ["comments", "events", "reactions", "timeline"]:
        api.add(
            "get",
            f"{one}/{what}",
            operation(f"list-{what}", {"200": listed}, ["number", "page"]),
            tool=tool(f"list-{what}"),
            place=ITEM,
            more={"page": 2},
            query=[("page", "2")],
            answer=[],
        )
    api.add(
        "post",
        f"{one}/comments",
        operation("comment", {"201": answered(ref("user"))}, ["number"], requestBody=json_body({"type": "string"})),
        tool=tool("comment"),
        place=ITEM,
        more={"body": "So \"it\" is."},
        body="So \"it\" is.",
        media="application/json",
        status=201,
        answer=AUTHOR,
    )
    archive = {"type": "object", "required": ["ref"], "properties": {"ref": {"type": "string"}}, "additionalProperties": {"type": "string"}}
    api.add(
        "post",
        f"{one}/archive",
        operation("archive", nothing, ["number"], requestBody=json_body(archive)),
        tool=tool("archive"),
        place=ITEM,
        more={"body": {"ref": "main", "format": "zip"}},
        body={"ref": "main", "format": "zip"},
        media="application/json",
    )
