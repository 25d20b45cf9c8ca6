"""OpenAPI 3.0.0 as a cluster manager writes it: parameters of the path, deep references with dots, cycles, several patch formats."""

from typing import Any

from .api import Api, ref

KINDS = """Pod Service Endpoints ConfigMap Secret Event LimitRange ResourceQuota ReplicationController PodTemplate Deployment
StatefulSet DaemonSet ReplicaSet ControllerRevision Job CronJob Ingress NetworkPolicy Lease Role RoleBinding ServiceAccount
HorizontalPodAutoscaler PersistentVolumeClaim PodDisruptionBudget EndpointSlice ResourceClaim ResourceClaimTemplate Binding
Certificate Issuer Gateway HTTPRoute GRPCRoute ReferenceGrant Workload Queue LocalQueue Cohort Topology Snapshot""".split()

META = "io.cluster.meta.v1.ObjectMeta"
STATUS = "io.cluster.meta.v1.Status"
PATCH = "io.cluster.meta.v1.Patch"
PROPS = "io.cluster.ext.v1.JSONSchemaProps"
INT_OR_STRING = "io.cluster.util.IntOrString"

COMMON: dict[str, Any] = {
    META: {
        "type": "object",
        "properties": {
            "name": {"type": "string"},
            "labels": {"type": "object", "additionalProperties": {"type": "string", "default": ""}},
            "ownerReferences": {"type": "array", "items": ref(META), "x-cluster-patch-merge-key": "uid"},
            "creationTimestamp": {"type": "string", "format": "date-time", "nullable": True},
        },
    },
    STATUS: {
        "type": "object",
        "properties": {"status": {"type": "string"}, "code": {"type": "integer", "format": "int32"}, "metadata": {"allOf": [ref(META)]}},
    },
    PATCH: {"type": "object", "description": "A patch."},
    INT_OR_STRING: {"type": "string", "format": "int-or-string", "x-cluster-int-or-string": True},
    PROPS: {
        "type": "object",
        "properties": {
            "$ref": {"type": "string"},
            "properties": {"type": "object", "additionalProperties": ref(PROPS)},
            "items": {"oneOf": [ref(PROPS), {"type": "array", "items": ref(PROPS)}]},
            "not": ref(PROPS),
            "default": {},
        },
    },
}

MEDIA = ["application/json", "application/yaml", "application/vnd.cluster.protobuf"]
PATCHES = ["application/json-patch+json", "application/merge-patch+json", "application/apply-patch+yaml"]
DONE = {"status": "Success", "code": 200}


def parameter(name: str, schema: dict[str, Any], **members: Any) -> dict[str, Any]:
    return {"name": name, "in": "query", "schema": {"uniqueItems": True, **schema}, **members}


SELECT = [
    parameter("labelSelector", {"type": "string"}),
    parameter("limit", {"type": "integer"}),
    parameter("watch", {"type": "boolean"}),
]
DRY = [parameter("dryRun", {"type": "string"})]


def build() -> Api:
    schemas = dict(COMMON)
    api = Api("3.0.0", "Cluster", servers=[{"url": "/"}], components={"schemas": schemas})
    for kind in KINDS:
        schemas[f"io.cluster.api.v1.{kind}"] = {
            "type": "object",
            "required": ["kind"],
            "properties": {
                "apiVersion": {"type": "string", "description": "Which version."},
                "kind": {"type": "string"},
                "metadata": {"default": {}, "allOf": [ref(META)]},
                "spec": {
                    "type": "object",
                    "properties": {
                        "schema": ref(PROPS),
                        "port": ref(INT_OR_STRING),
                        "data": {"type": "object", "additionalProperties": {"type": "string", "format": "byte"}},
                        "resources": {"type": "object", "additionalProperties": ref(INT_OR_STRING)},
                    },
                },
            },
            "x-cluster-group-version-kind": [{"group": "", "version": "v1", "kind": kind}],
        }
        schemas[f"io.cluster.api.v1.{kind}List"] = {
            "type": "object",
            "required": ["items"],
            "properties": {"items": {"type": "array", "items": ref(f"io.cluster.api.v1.{kind}")}, "metadata": ref(META)},
        }
        add(api, kind)
    return api


def add(api: Api, kind: str) -> None:
    own, listed = f"io.cluster.api.v1.{kind}", f"io.cluster.api.v1.{kind}List"
    plural = kind.lower() + "s"
    every = f"/api/v1/namespaces/{{namespace}}/{plural}"
    one = f"{every}/{{name}}"
    thing = {"kind": kind, "metadata": {"name": "a.b", "labels": {"app/x": "1"}}, "spec": {"schema": {"not": {"$ref": "#"}}, "port": "80"}}
    things = {"items": [thing]}
    where = {"name": "namespace", "in": "path", "required": True, "schema": {"type": "string"}}
    named = {"name": "name", "in": "path", "required": True, "description": f"Of the {kind}.", "schema": {"type": "string"}}
    pretty = parameter("pretty", {"type": "string"})

    def operation(verb: str, suffix: str, answer: str, names: list[Any], body: dict[str, Any] | None = None) -> dict[str, Any]:
        media = {media: {"schema": ref(answer)} for media in MEDIA if media == "application/json"}
        members = {
            "operationId": f"{verb}CoreV1Namespaced{kind}{suffix}",
            "tags": ["core_v1"],
            "parameters": names,
            "responses": {"200": {"description": "OK", "content": media}, "401": {"description": "Unauthorized"}},
            "x-cluster-action": verb,
        }
        return members if body is None else {**members, "requestBody": body}

    def tool(verb: str, suffix: str = "") -> str:
        return f"{verb}CoreV1Namespaced{kind}{suffix}"

    sent = {"required": True, "content": {"*/*": {"schema": ref(own)}}}
    patch = {"required": True, "content": {media: {"schema": ref(PATCH)} for media in PATCHES}}
    delete = {"content": {"*/*": {"schema": {"type": "object", "properties": {"gracePeriodSeconds": {"type": "integer"}}}}}}
    place, item = {"namespace": "default"}, {"namespace": "default", "name": "a.b"}
    whole = {"body": thing, "media": "application/json", "more": thing}

    api.add(
        "get",
        every,
        operation("list", "", listed, SELECT),
        tool=tool("list"),
        place=place,
        more={"labelSelector": "app in (a,b),x!=1", "limit": 500, "watch": False, "pretty": "true"},
        query=[("labelSelector", "app in (a,b),x!=1"), ("limit", "500"), ("watch", "false"), ("pretty", "true")],
        answer=things,
    )
    api.add("post", every, operation("create", "", own, DRY, sent), tool=tool("create"), place=place, **whole, answer=thing)
    api.add(
        "delete",
        every,
        operation("deletecollection", "", STATUS, SELECT, delete),
        tool=tool("deletecollection"),
        place=place,
        more={"gracePeriodSeconds": 0},
        body={"gracePeriodSeconds": 0},
        media="application/json",
        answer=DONE,
    )
    api.paths[every]["parameters"] = [where, pretty]
    for suffix, path in [("", one), ("Status", f"{one}/status"), ("Scale", f"{one}/scale")]:
        api.add("get", path, operation("read", suffix, own, []), tool=tool("read", suffix), place=item, answer=thing)
        api.add("put", path, operation("replace", suffix, own, DRY, sent), tool=tool("replace", suffix), place=item, **whole, answer=thing)
        api.add(
            "patch",
            path,
            operation("patch", suffix, own, [parameter("force", {"type": "boolean"})], patch),
            tool=tool("patch", suffix),
            place=item,
            more={"force": True, "body": {"spec": {"port": "81"}}},
            query=[("force", "true")],
            body={"spec": {"port": "81"}},
            media="application/json-patch+json",
            answer=thing,
        )
        api.paths[path]["parameters"] = [named, where, pretty]
    api.add("delete", one, operation("delete", "", STATUS, DRY, delete), tool=tool("delete"), place=item, more={"dryRun": "All"}, query=[("dryRun", "All")], answer=DONE)
