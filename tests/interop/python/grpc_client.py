"""A foreign gRPC client for the tests: grpcio, which knows of our services only what server reflection tells it.

    python grpc_client.py ADDRESS services                       the services that reflection advertises
    python grpc_client.py ADDRESS health [SERVICE]               one health check
    python grpc_client.py ADDRESS watch                          health as it changes, until the stream ends
    python grpc_client.py ADDRESS call SERVICE METHOD JSON       a unary method, its messages built from reflection

Options: --token TOKEN, --metadata KEY VALUE (repeated), --timeout SECONDS, --padding BYTES (an unknown field of that size in the
request). Prints {"services": [...]}, {"health": "SERVING"}, {"answer": ...}. An error is printed as {"failed": {"code", "message",
"details"}}, with the google.rpc details by their type, and makes the exit code 1.
"""

import argparse
import json
import sys
from typing import Any

import grpc
from google.protobuf import descriptor_pool, json_format, message_factory
from google.rpc import error_details_pb2  # noqa: F401  (registers the types of the details)
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from grpc_status import rpc_status

from events import emit


class WithMetadata(grpc.UnaryUnaryClientInterceptor, grpc.UnaryStreamClientInterceptor, grpc.StreamStreamClientInterceptor):
    """Adds metadata to each request, those of reflection included."""

    def __init__(self, metadata: list[tuple[str, str]]) -> None:
        self.metadata = metadata

    def _go_on(self, continuation: Any, details: Any, request: Any) -> Any:
        return continuation(details._replace(metadata=[*(details.metadata or []), *self.metadata]), request)

    intercept_unary_unary = _go_on
    intercept_unary_stream = _go_on
    intercept_stream_stream = _go_on



def call(channel: grpc.Channel, options: argparse.Namespace) -> None:
    database = ProtoReflectionDescriptorDatabase(channel)
    pool = descriptor_pool.DescriptorPool(database)
    service, method, text = options.rest
    # One that reflection does not know is asked for nevertheless, with an empty message.
    try:
        described = pool.FindServiceByName(service).FindMethodByName(method)
        request = json_format.Parse(text, message_factory.GetMessageClass(described.input_type)())
        answer_type = message_factory.GetMessageClass(described.output_type)
        body, read = request.SerializeToString(), answer_type.FromString
    except KeyError:
        body, read = b"", lambda answer: answer
    # Field 1000 of type bytes, which no message of ours has.
    if options.padding:
        body += bytes([0xC2, 0x3E]) + varint(options.padding) + bytes(options.padding)
    ask = channel.unary_unary(f"/{service}/{method}", request_serializer=lambda raw: raw, response_deserializer=read)
    answer = ask(body, timeout=options.timeout)
    emit(answer=json_format.MessageToDict(answer, preserving_proto_field_name=True))


def varint(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


def watch(channel: grpc.Channel, options: argparse.Namespace) -> None:
    for answer in health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest()):
        emit(health=health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))
    emit(end=True)


def health(channel: grpc.Channel, options: argparse.Namespace) -> None:
    request = health_pb2.HealthCheckRequest(service="".join(options.rest))
    answer = health_pb2_grpc.HealthStub(channel).Check(request, timeout=options.timeout)
    emit(health=health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))


def services(channel: grpc.Channel, options: argparse.Namespace) -> None:
    emit(services=sorted(ProtoReflectionDescriptorDatabase(channel).get_services()))


def failure(error: grpc.RpcError) -> dict[str, Any]:
    status = rpc_status.from_call(error)
    details = [json_format.MessageToDict(detail) for detail in status.details] if status else []
    by_type = {detail.pop("@type").rpartition(".")[2]: detail for detail in details}
    return {"code": error.code().name, "message": error.details(), "details": by_type}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("address")
    parser.add_argument("command", choices=["services", "health", "watch", "call"])
    parser.add_argument("rest", nargs="*")
    parser.add_argument("--token")
    parser.add_argument("--metadata", nargs=2, action="append", default=[])
    parser.add_argument("--timeout", type=float, default=10.0)
    parser.add_argument("--padding", type=int, default=0)
    options = parser.parse_args()
    metadata = [(key, value) for key, value in options.metadata]
    if options.token is not None:
        metadata.append(("authorization", f"Bearer {options.token}"))
    run = {"services": services, "health": health, "watch": watch, "call": call}[options.command]
    with grpc.insecure_channel(options.address) as plain:
        channel = grpc.intercept_channel(plain, WithMetadata(metadata))
        try:
            run(channel, options)
        except grpc.RpcError as error:
            emit(failed=failure(error))
            sys.exit(1)


if __name__ == "__main__":
    main()
