"""A FastAPI application with every kind of parameter, body, answer and credential, under uvicorn."""

import argparse
import asyncio
from enum import Enum
from typing import Annotated, Any, Literal, Optional, Union

from fastapi import APIRouter, Body, Cookie, Depends, FastAPI, File, Form, Header, HTTPException, Path, Query, Request, Response, UploadFile
from fastapi.responses import JSONResponse, PlainTextResponse, RedirectResponse, StreamingResponse
from fastapi.security import APIKeyCookie, APIKeyHeader, APIKeyQuery, HTTPBasic, HTTPBasicCredentials, HTTPBearer
from pydantic import BaseModel, Field

from events import emit
from serving import serve

router = APIRouter()
counts: dict[str, int] = {}


class Colour(str, Enum):
    red = "red"
    green = "green"


class Maker(BaseModel):
    name: str
    country: Optional[str] = None


class Item(BaseModel):
    """An item with a maker and parts of its own kind."""

    id: int = Field(description="Which", ge=1)
    name: str
    price: float = Field(gt=0)
    colour: Colour = Colour.red
    maker: Maker
    tags: list[str] = []
    parts: list["Item"] = []


class Leaf(BaseModel):
    kind: Literal["leaf"]
    value: int


class Branch(BaseModel):
    kind: Literal["branch"]
    children: list[Annotated[Union["Branch", Leaf], Field(discriminator="kind")]]


class Secretive(BaseModel):
    limit: int = Field(100, gt=0, le=100)
    order: Literal["up", "down"] = "up"
    tags: list[str] = []
    model_config = {"extra": "forbid"}


@router.get("/items/{item_id}")
def read_item(
    item_id: Annotated[int, Path(ge=0)],
    q: Optional[str] = None,
    tag: Annotated[list[str], Query()] = [],
    colour: Colour = Colour.red,
    x_trace: Annotated[Optional[str], Header()] = None,
    session: Annotated[Optional[str], Cookie()] = None,
) -> dict[str, Any]:
    if item_id == 404:
        raise HTTPException(404, "Item not found")
    return {"item_id": item_id, "q": q, "tag": tag, "colour": colour, "x_trace": x_trace, "session": session}


@router.get("/by-model")
def by_model(query: Annotated[Secretive, Query()]) -> Secretive:
    return query


@router.post("/items", status_code=201, response_model=Item)
def create_item(item: Item, dry: bool = False) -> Item:
    return item


@router.put("/items/{id}")
async def same_name_everywhere(
    request: Request,
    id: Annotated[str, Path()],
    query_id: Annotated[str, Query(alias="id")],
    header_id: Annotated[str, Header(alias="id")],
    cookie_id: Annotated[str, Cookie(alias="id")],
    item: Item,
) -> dict[str, Any]:
    return {"path": id, "query": query_id, "header": header_id, "cookie": cookie_id, "body": item.id}


@router.post("/trees")
def measure_tree(tree: Branch) -> int:
    return 1 + sum(measure_tree(child) if isinstance(child, Branch) else 1 for child in tree.children)


@router.post("/two")
def two_bodies(first: Maker, second: Maker, note: Annotated[str, Body()]) -> list[str]:
    return [first.name, second.name, note]


@router.post("/sum")
def sum_of(numbers: Annotated[list[float], Body()]) -> float:
    return sum(numbers)


@router.post("/bytes")
async def echo_body(request: Request) -> dict[str, Any]:
    return {"text": (await request.body()).decode(), "type": request.headers.get("content-type")}


@router.post("/form")
def log_in(name: Annotated[str, Form()], scopes: Annotated[list[str], Form()] = []) -> dict[str, Any]:
    return {"name": name, "scopes": scopes}


@router.post("/upload")
async def upload(file: UploadFile, note: Annotated[str, Form()], more: Optional[list[UploadFile]] = None) -> dict[str, Any]:
    content = await file.read()
    return {
        "name": file.filename,
        "type": file.content_type,
        "bytes": list(content),
        "note": note,
        "more": [[one.filename, len(await one.read())] for one in more or []],
    }


@router.post("/raw-file")
async def upload_raw(file: Annotated[bytes, File()]) -> int:
    return len(file)


@router.get("/download", response_class=Response, responses={200: {"content": {"application/zip": {}}}})
def download() -> Response:
    return Response(bytes(range(256)), media_type="application/zip")


@router.get("/picture", response_class=Response, responses={200: {"content": {"image/png": {}}}})
def picture() -> Response:
    return Response(b"\x89PNG\r\n\x1a\n\xff", media_type="image/png")


@router.get("/text", response_class=PlainTextResponse)
def text() -> str:
    return "gr\u00fc\u00dfe\n"


@router.get("/stream", response_class=StreamingResponse)
def stream() -> StreamingResponse:
    return StreamingResponse((f"{line}\n" for line in range(3)), media_type="text/plain")


@router.delete("/items/{item_id}", status_code=204)
def delete_item(item_id: int) -> None:
    counts["deleted"] = counts.get("deleted", 0) + 1


@router.get("/maybe")
def maybe() -> Optional[Maker]:
    return None


@router.get("/big")
def big_number() -> Response:
    return Response('{"z": 12345678901234567890123, "a": 1.10}', media_type="application/json")


@router.get("/files/{file:path}")
def read_file(file: str) -> str:
    return file


@router.get("/admin/{what}")
def admin(what: str) -> str:
    return "admin:" + what


@router.get("/fail")
def fail() -> None:
    raise RuntimeError("not for you")


@router.get("/status/{status}")
def status(status: int) -> None:
    raise HTTPException(status, {"code": status, "hint": "structured"}, headers={"Retry-After": "1"} if status == 503 else None)


@router.get("/moved")
def moved() -> RedirectResponse:
    return RedirectResponse("http://127.0.0.1:1/elsewhere")


@router.get("/slow")
async def slow(request: Request, seconds: float) -> str:
    for _ in range(int(seconds / 0.05)):
        await asyncio.sleep(0.05)
        if await request.is_disconnected():
            emit(event="cancelled", tool="slow")
            break
    return "done"


@router.get("/old", deprecated=True)
def old() -> str:
    return "old"


def key_in_header(key: Annotated[str, Depends(APIKeyHeader(name="X-Key", scheme_name="head"))]) -> str:
    return key


@router.get("/secure/all")
def secure(
    header: Annotated[str, Depends(key_in_header)],
    query: Annotated[str, Depends(APIKeyQuery(name="api_key", scheme_name="query"))],
    cookie: Annotated[str, Depends(APIKeyCookie(name="sid", scheme_name="cookie"))],
) -> list[str]:
    return [header, query, cookie]


@router.get("/secure/basic")
def basic(user: Annotated[HTTPBasicCredentials, Depends(HTTPBasic(scheme_name="basic"))]) -> list[str]:
    return [user.username, user.password]


@router.get("/secure/bearer")
def bearer(token: Annotated[Any, Depends(HTTPBearer(scheme_name="bearer"))]) -> str:
    return token.credentials


def make(options: argparse.Namespace) -> FastAPI:
    servers = [{"url": "https://foreign.example/v1"}, {"url": options.root_path}] if options.root_path else None
    app = FastAPI(title="Everything", root_path=options.root_path, servers=servers, openapi_url=None)
    app.openapi_version = options.openapi_version
    app.include_router(router)
    state = {"etag": 1}

    @app.get("/openapi.json", include_in_schema=False)
    def document(request: Request) -> Response:
        """FastAPI's own gives no ETag; what stands before an application often does."""
        etag = f'"{state["etag"]}"'
        if request.headers.get("if-none-match") == etag:
            counts["not_modified"] = counts.get("not_modified", 0) + 1
            return Response(status_code=304, headers={"ETag": etag})
        counts["documents"] = counts.get("documents", 0) + 1
        return JSONResponse(app.openapi(), headers={"ETag": etag})

    @app.post("/test/grow", include_in_schema=False)
    def grow() -> None:
        """Adds an operation."""
        app.add_api_route("/grown", lambda: "grown", methods=["GET"], operation_id="grown")
        app.openapi_schema = None
        state["etag"] += 1

    @app.get("/test/counts", include_in_schema=False)
    def show() -> dict[str, int]:
        return counts

    return app


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--root-path", default="", help="what a proxy before it cuts off")
    parser.add_argument("--openapi-version", default="3.1.0")
    parser.add_argument("--until-stdin-closes", action="store_true")
    options = parser.parse_args()
    serve(make(options), 0, "", options.until_stdin_closes)


if __name__ == "__main__":
    main()
