"""Serves a large OpenAPI document in the style of a public API, and the API behind it.

    python openapi_documents.py forge|cluster|ledger [--check] [--until-stdin-closes]

`GET /openapi.json` is the document, `GET /test/samples` one call for each operation: the tool, its arguments and the result. The
API takes exactly these calls: any other request is answered with 418 and a `detail` that says what differs. `--check` only
validates the document, with openapi-spec-validator.
"""

import argparse
import http.server
import json
import socketserver
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from documents import cluster, forge, ledger
from documents.api import Api, Request
from events import emit, exit_with_stdin

STYLES = {"forge": forge.build, "cluster": cluster.build, "ledger": ledger.build}


def body_of(media: str, raw: bytes) -> Any:
    if not raw:
        return None
    if media == "application/json" or media.endswith("+json"):
        return json.loads(raw)
    if media == "application/x-www-form-urlencoded":
        return sorted(parse_qsl(raw.decode(), keep_blank_values=True, strict_parsing=True))
    return raw.decode("latin-1")


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body in one packet, or each answer waits for an acknowledgement
    server: "Server"

    def answer(self, status: int, media: str | None, body: bytes) -> None:
        self.send_response(status)
        if media is not None:
            self.send_header("Content-Type", media)
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def answer_json(self, status: int, value: Any) -> None:
        self.answer(status, "application/json", json.dumps(value).encode())

    def serve(self) -> None:
        address = urlsplit(self.path)
        raw = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        api = self.server.api
        if address.path == "/openapi.json":
            return self.answer_json(200, api.document)
        if address.path == "/test/samples":
            return self.answer_json(200, [operation.sample() for operation in api.operations])
        # Divided before it is decoded: an encoded slash belongs to its segment.
        segments = tuple(unquote(segment) for segment in address.path.split("/")[1:])
        operation = api.find(self.command, segments)
        if operation is None:
            return self.answer_json(418, {"detail": f"no operation is {self.command} {self.path}"})
        got = Request(
            query=sorted(parse_qsl(address.query, keep_blank_values=True, strict_parsing=bool(address.query))),
            headers={name: self.headers.get(name) for name in operation.request.headers},
            body=body_of(self.headers.get_content_type() if raw else "", raw),
            media=self.headers.get("Content-Type"),
        )
        if got != operation.request:
            return self.answer_json(418, {"detail": f"{operation.label}: got {got}, expected {operation.request}"})
        if operation.answer is None:
            return self.answer(204, None, b"")
        return self.answer_json(operation.status, operation.answer)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = serve

    def log_message(self, format: str, *arguments: Any) -> None:
        pass


class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True

    def __init__(self, api: Api) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.api = api


def check(api: Api) -> None:
    from openapi_spec_validator import validate

    validate(api.document)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("style", choices=STYLES)
    parser.add_argument("--check", action="store_true", help="validate the document and end")
    parser.add_argument("--until-stdin-closes", action="store_true", help="end when stdin closes")
    options = parser.parse_args()
    api = STYLES[options.style]()
    if options.check:
        check(api)
        emit(valid=True, operations=len(api.operations))
        return
    if options.until_stdin_closes:
        exit_with_stdin()
    server = Server(api)
    port = server.server_address[1]
    emit(ready={"port": port, "url": f"http://127.0.0.1:{port}", "operations": len(api.operations)})
    server.serve_forever()


if __name__ == "__main__":
    main()
