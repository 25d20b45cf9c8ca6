"""A client that knows nothing but an OpenAPI document: the validator of the specification's makers, then schemathesis.

    python openapi_client.py URL [--bearer TOKEN] [--call OPERATION]... [--examples N]

Prints {"valid": {"operations": N}} or {"invalid": REASON}; then for every operation that is called {"operation": ID,
"statuses": {STATUS: COUNT}}, and {"failed": ID, "reason": ...} for an answer that is not as the document says.
"""

import argparse
import collections
from typing import Any

import httpx
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from openapi_spec_validator import OpenAPIV31SpecValidator
from schemathesis.specs.openapi.checks import content_type_conformance, response_schema_conformance, status_code_conformance

from events import emit

CHECKS = [status_code_conformance, content_type_conformance, response_schema_conformance]


def validate(document: dict[str, Any]) -> None:
    """Says of the document whether it is one."""
    error = next(OpenAPIV31SpecValidator(document).iter_errors(), None)
    if error is not None:
        emit(invalid=str(error))
        raise SystemExit(1)
    emit(valid={"operations": sum(len(path) for path in document["paths"].values())})


def call(operation: Any, headers: dict[str, str], examples: int) -> None:
    """Calls one operation with generated arguments. What comes back must be as the document says."""
    statuses: collections.Counter[int] = collections.Counter()

    @settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy())
    def check(case: Any) -> None:
        response = case.call(headers=headers)
        statuses[response.status_code] += 1
        case.validate_response(response, checks=CHECKS)

    identifier = operation.definition.raw["operationId"]
    try:
        check()
    except Exception as error:  # Whatever it is, the test is to see it.
        emit(failed=identifier, reason=str(error))
    emit(operation=identifier, statuses=statuses)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", help="of the gateway, without a path")
    parser.add_argument("--bearer", metavar="TOKEN")
    parser.add_argument("--call", action="append", default=[], metavar="OPERATION", help="its operationId")
    parser.add_argument("--examples", type=int, default=20, metavar="N", help="calls of each operation at most")
    options = parser.parse_args()
    headers = {} if options.bearer is None else {"authorization": f"Bearer {options.bearer}"}
    document = httpx.get(f"{options.url}/openapi.json", headers=headers).raise_for_status().json()
    validate(document)
    schema = schemathesis.openapi.from_dict(document)
    schema.config.update(base_url=options.url)
    for found in schema.get_all_operations():
        operation = found.ok()
        if operation.definition.raw["operationId"] in options.call:
            call(operation, headers, options.examples)


if __name__ == "__main__":
    main()
