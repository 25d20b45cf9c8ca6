#!/usr/bin/env python3
"""Runs the official conformance suite through a gateway, leg by leg, and prints the table that stands in README.md.

    tests/conformance/run.py [--leg NAME ...] [--write]     every leg, or some; --write puts the table into README.md
    tests/conformance/run.py front URL                      what the suite starts as "the client": a gateway and a known good client

A leg is one run of the suite: directly at the fixture, or through a gateway whose only upstream is the fixture
(tests/interop/python/conformance_server.py, or task_server.py for the extension of tasks) or, in client mode, the suite's own mock. A leg
passes when every scenario does but those that `not-mappable.yml` names for it. `expected-failures.yml` is for all legs, and empty. The exit
code is 1 when a leg does not pass, and when the table is not the one in README.md.

Needs what `tests/run --only install` installs, and a gateway that was built (`TWINWAY_BIN`, or target/debug/twinway).
"""

import argparse
import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
README = ROOT / "README.md"
PYTHON_PROGRAMS = ROOT / "tests/interop/python"

PYTHON = os.environ.get("TWINWAY_TEST_PYTHON", str(ROOT / ".cache/venv/bin/python"))
NODE_MODULES = Path(os.environ.get("TWINWAY_TEST_NODE_MODULES", ROOT / "tests/interop/node/node_modules"))
NODE = os.environ.get("TWINWAY_TEST_NODE", str(NODE_MODULES / ".bin/node"))
GATEWAY = str(Path(os.environ.get("TWINWAY_BIN", ROOT / "target/debug/twinway")).resolve())
SUITE = NODE_MODULES / "@modelcontextprotocol/conformance/dist/index.js"

# The name of the only upstream, and so of its view.
UPSTREAM = "suite"

# The scenarios of client mode that are no OAuth: those see the address of the gateway's own resource.
CLIENT_SCENARIOS = {
    "2025-11-25": [
        "initialize",
        "tools_call",
        "elicitation-sep1034-client-defaults",
        "sse-retry",
        "json-schema-2020-12-preservation",
    ],
    "2026-07-28": [
        "tools_call",
        "request-metadata",
        "sep-2322-client-request-state",
        "http-standard-headers",
        "http-custom-headers",
        "http-invalid-tool-headers",
        "json-schema-ref-no-deref",
        "json-schema-2020-12-preservation",
    ],
}

# The scenarios of the extension of tasks, which the suite runs only by name. `tasks-status-notifications` is none of them: it checks nothing,
# whatever the server does ("pending subscriptions/listen rewrite").
TASK_SCENARIOS = (
    "tasks-lifecycle",
    "tasks-capability-negotiation",
    "tasks-wire-fields",
    "tasks-request-state-removal",
    "tasks-mrtr-input",
    "tasks-request-headers",
    "tasks-dispatch-and-envelope",
    "tasks-required-task-error",
    "tasks-mrtr-composition",
)

BEGIN, END = "<!-- conformance: begin -->", "<!-- conformance: end -->"


@dataclass(frozen=True)
class Leg:
    """One run of the suite. `serves` is what the fixture serves: both eras, or one. `sends_away` is after how long the gateway does that to
    its clients, where its upstream has no way to ask for it. `is_of_tasks`: the extension's scenarios alone.
    """

    name: str
    version: str
    through: bool = True
    serves: str | None = None
    is_client: bool = False
    sends_away: str | None = None
    is_of_tasks: bool = False

    @property
    def about(self) -> str:
        if self.is_client:
            return "suite's server → gateway → Python SDK client"
        if self.is_of_tasks:
            return f"suite, extension of tasks → {'gateway → ' if self.through else ''}fixture of tasks"
        upstream = {None: "fixture", "legacy": "fixture of sessions only", "modern": "fixture of 2026-07-28 only"}[self.serves]
        return f"suite → gateway → {upstream}" if self.through else f"suite → {upstream}"


VERSIONS = ("2025-03-26", "2025-06-18", "2025-11-25", "2026-07-28")
LEGS = [
    *(Leg(f"direct-{version}", version, through=False) for version in VERSIONS),
    *(Leg(f"through-{version}", version) for version in VERSIONS),
    *(Leg(f"client-{version}", version, is_client=True) for version in CLIENT_SCENARIOS),
    Leg("modern-on-legacy", "2026-07-28", serves="legacy"),
    Leg("legacy-on-modern", "2025-11-25", serves="modern", sends_away="1s"),
    Leg("direct-tasks", "2026-07-28", through=False, is_of_tasks=True),
    Leg("through-tasks", "2026-07-28", is_of_tasks=True),
]


@dataclass
class Outcome:
    """What a leg came to. Scenarios count as the suite counts them, checks as it reports them."""

    scenarios: int = 0
    scenarios_passed: int = 0
    checks: int = 0
    checks_passed: int = 0
    not_mappable: int = 0
    stray: tuple[str, ...] = ()


@contextlib.contextmanager
def program(*command: str, ready: re.Pattern[str], **variables: str) -> Iterator[str]:
    """Runs a program until the block ends; gives what `ready` finds in its output."""
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=PYTHON_PROGRAMS, env=os.environ | variables
    )
    assert process.stdout is not None
    said = []
    try:
        for line in process.stdout:
            said.append(line)
            if found := ready.search(line):
                break
        else:
            raise SystemExit(f"{command[0]} ended before it was ready:\n{''.join(said)}")
        # Whatever else it says must not fill the pipe.
        with subprocess.Popen(["cat"], stdin=process.stdout, stdout=subprocess.DEVNULL):
            yield found[1]
            process.terminate()
    finally:
        process.terminate()
        process.wait(timeout=30)


@contextlib.contextmanager
def gateway(upstream: str, sends_away: str | None = None) -> Iterator[str]:
    variables = {"TWINWAY__HTTP__STREAM_TIME_MAX": sends_away} if sends_away else {}
    command = (GATEWAY, "serve", "--listen", "127.0.0.1:0", "--upstream", f"{UPSTREAM}={upstream}")
    with program(*command, ready=re.compile(r'address="http://127\.0\.0\.1:(\d+)"'), **variables) as port:
        wait_until_ready(int(port))
        # The suite tells a local server from others by this name.
        yield f"http://localhost:{port}/mcp/{UPSTREAM}"


def wait_until_ready(port: int) -> None:
    url = f"http://127.0.0.1:{port}/health/ready"
    subprocess.run(["curl", "-sf", "--retry", "50", "--retry-delay", "0", "--retry-all-errors", url], check=True, capture_output=True)


@contextlib.contextmanager
def fixture(leg: Leg) -> Iterator[str]:
    server = "task_server.py" if leg.is_of_tasks else "conformance_server.py"
    command = [PYTHON, str(PYTHON_PROGRAMS / server), *(["--only", leg.serves] if leg.serves else [])]
    with program(*command, ready=re.compile(r'"port": ?(\d+)')) as port:
        yield f"http://localhost:{port}/mcp"


def suite(*arguments: str) -> Path:
    """Runs the suite; its verdict is read from the checks that it leaves, not from its exit code."""
    results = Path(tempfile.mkdtemp(prefix="conformance-"))
    command = [NODE, str(SUITE), *arguments, "--output-dir", str(results)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    (results / "output.txt").write_text(done.stdout + done.stderr)
    return results


def scenarios_of(leg: Leg) -> Sequence[str]:
    """Those that are run by name; none where the suite chooses."""
    if leg.is_client:
        return CLIENT_SCENARIOS[leg.version]
    return TASK_SCENARIOS if leg.is_of_tasks else ()


def each(scenarios: Sequence[str], run_one: Callable[[str], Path]) -> Path:
    """Runs one after the other; gives the folder of what each leaves."""
    results = Path(tempfile.mkdtemp(prefix="conformance-"))
    for scenario in scenarios:
        run_one(scenario).rename(results / f"of-{scenario}")
    return results


def run(leg: Leg) -> Path:
    if leg.is_client:
        front = f"{PYTHON} {HERE / 'run.py'} front"
        version = ("--spec-version", leg.version)
        return each(scenarios_of(leg), lambda scenario: suite("client", "--command", front, "--scenario", scenario, *version))
    with contextlib.ExitStack() as stack:
        url = stack.enter_context(fixture(leg))
        if leg.through:
            url = stack.enter_context(gateway(url, leg.sends_away))
        if leg.is_of_tasks:
            return each(scenarios_of(leg), lambda scenario: suite("server", "--url", url, "--scenario", scenario))
        return suite("server", "--url", url, "--suite", "all", "--spec-version", leg.version)


def names_of(file: str, leg: Leg) -> dict[str, str]:
    """`scenario:check` and the reason, as far as the file says so of this leg. One a line, under the name of the leg."""
    names, here = {}, False
    for line in (HERE / file).read_text().splitlines():
        if heading := re.fullmatch(r"([a-z0-9-]+):(?: \[\])?", line):
            here = heading[1] in (leg.name, "all")
        elif here and (found := re.fullmatch(r"  - ([\w.-]+:[\w.-]+) # (.+)", line)):
            names[found[1]] = found[2]
    return names


def judge(leg: Leg, results: Path) -> Outcome:
    excused = names_of("not-mappable.yml", leg) | names_of("expected-failures.yml", leg)
    outcome, failed, silent = Outcome(), set(), set()
    for file in sorted(results.rglob("checks.json")):
        scenario = re.sub(r"^(?:server-)?(.+?)-\d{4}-\d\d-\d\dT.*$", r"\1", file.parent.name)
        checks = [check for check in json.loads(file.read_text()) if check["status"] in ("SUCCESS", "FAILURE", "WARNING")]
        bad = {f"{scenario}:{check['id']}" for check in checks if check["status"] != "SUCCESS"}
        outcome.scenarios += 1
        outcome.scenarios_passed += bool(checks) and not bad
        silent |= set() if checks else {f"{scenario} (nothing was checked)"}
        outcome.checks += len(checks)
        outcome.checks_passed += len(checks) - sum(check["status"] != "SUCCESS" for check in checks)
        failed |= bad
    outcome.not_mappable = len(failed & set(excused))
    stale = {f"{name} (passes, but is excused)" for name in set(excused) - failed}
    if named := scenarios_of(leg):
        ran = {file.parent for file in results.rglob("checks.json")}
        asked = {scenario: results / f"of-{scenario}" for scenario in named}
        silent |= {f"{name} (did not run)" for name, folder in asked.items() if not any(one.is_relative_to(folder) for one in ran)}
    outcome.stray = tuple(sorted(failed - set(excused)) + sorted(stale) + sorted(silent))
    return outcome


def row(leg: Leg, outcome: Outcome) -> str:
    verdict = f"{outcome.scenarios_passed} of {outcome.scenarios}"
    excused = f", {outcome.not_mappable} not mappable" if outcome.not_mappable else ""
    checks = f"{outcome.checks_passed} of {outcome.checks}{excused}"
    return f"| {leg.version} | {leg.about} | {verdict} | {checks} |"


def table(rows: list[str]) -> str:
    return "\n".join(["| revision | way | scenarios | checks |", "|---|---|---|---|", *rows])


def readme_with(printed: str) -> str:
    before, rest = README.read_text().split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n{printed}\n{END}{after}"


def front(url: str) -> int:
    """The suite's client: a known good one behind a gateway in front of the suite's server."""
    with gateway(url) as through:
        return subprocess.run([PYTHON, str(PYTHON_PROGRAMS / "conformance_client.py"), through]).returncode


def main() -> int:
    if sys.argv[1:2] == ["front"]:
        return front(sys.argv[2])
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--leg", action="append", choices=[leg.name for leg in LEGS], help="only this one; may be repeated")
    parser.add_argument("--write", action="store_true", help="put the table into README.md")
    options = parser.parse_args()
    legs = [leg for leg in LEGS if options.leg is None or leg.name in options.leg]
    rows, passed = [], True
    # What the suite has for a revision, as it was run directly: no other way may have fewer.
    directly: dict[tuple[str, bool], int] = {}
    for leg in legs:
        results = run(leg)
        outcome = judge(leg, results)
        if not leg.is_client:
            expected = directly.setdefault((leg.version, leg.is_of_tasks), outcome.scenarios)
            outcome.stray += (f"{outcome.scenarios} scenarios, directly {expected}",) * (outcome.scenarios != expected)
        rows.append(row(leg, outcome))
        print(rows[-1], flush=True)
        if outcome.stray or outcome.scenarios == 0:
            passed = False
            for name in outcome.stray:
                print(f"  {leg.name}: {name}")
            print(f"  {leg.name}: what the suite says is in {results}", flush=True)
    if options.leg is None:
        wanted = readme_with(table(rows))
        if options.write:
            README.write_text(wanted)
        elif wanted != README.read_text():
            print("README.md has another table; --write puts this one there")
            passed = False
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
