//! The exchanges of the official conformance suite, with a look at the content, over every way in and every way to a server. The suite itself
//! speaks Streamable HTTP only (`tests/conformance/run.py`), and lets pass some scenarios in which every answer is an error.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::future::try_join_all;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{
    Gateway, LATEST_LEGACY, Program, Setup, conformance_checks, conformance_program, conformance_server, conformance_suite, skip,
};

const MODERN: &str = "2026-07-28";
/// The other revisions with sessions, each before another server: all of them before every server would take minutes.
const OLDER: [(&str, &Upstream); 3] =
    [("2024-11-05", &UPSTREAMS[2]), ("2025-03-26", &UPSTREAMS[3]), ("2025-06-18", &UPSTREAMS[5])];

/// A way of messages, to the gateway or from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Carrier {
    Http,
    Sse,
    Stdio,
}

/// A server behind the gateway.
#[derive(Debug, PartialEq, Eq)]
struct Upstream {
    name: &'static str,
    carrier: Carrier,
    /// Which eras.
    serves: &'static str,
}

static UPSTREAMS: [Upstream; 6] = [
    Upstream { name: "both", carrier: Carrier::Http, serves: "both" },
    Upstream { name: "legacy", carrier: Carrier::Http, serves: "legacy" },
    Upstream { name: "modern", carrier: Carrier::Http, serves: "modern" },
    Upstream { name: "old", carrier: Carrier::Sse, serves: "legacy" },
    Upstream { name: "legacy-program", carrier: Carrier::Stdio, serves: "legacy" },
    Upstream { name: "modern-program", carrier: Carrier::Stdio, serves: "modern" },
];

/// One conversation: a client of that revision at that entrance, before that server.
struct Cell {
    entrance: Carrier,
    upstream: &'static Upstream,
    revision: &'static str,
}

/// Where a check has a meaning.
type Where = fn(&Cell) -> bool;

const EVERYWHERE: Where = |_| true;
const SESSIONS: Where = |cell| cell.revision < MODERN;
const STATELESS: Where = |cell| cell.revision >= MODERN;
/// A program has one session for all clients, in which it cannot be told what each of them takes; other servers have one for each kind of client.
const DECLARED: Where = |cell| STATELESS(cell) && (cell.upstream.carrier, cell.upstream.serves) != (Carrier::Stdio, "legacy");
/// Forms are known since that revision.
const FORMS: Where = |cell| cell.revision >= "2025-06-18";
/// A server can close a stream in the middle of a call, and have it fetched again, over Streamable HTTP in a session.
const POLLED: Where = |cell| cell.upstream.carrier == Carrier::Http && cell.upstream.serves != "modern";
/// A browser can be made to open a stream; the suite itself looks at Streamable HTTP.
const BROWSERS: Where = |cell| cell.entrance == Carrier::Sse;

/// Every check, and where it has a meaning. A check is called as its scenario; `scenario:part` is one of several.
const CHECKS: [(&str, Where); 58] = [
    ("server-initialize", SESSIONS),
    ("server-stateless:meta", STATELESS),
    ("server-stateless:discover", STATELESS),
    ("server-stateless:version", STATELESS),
    ("server-stateless:capability", DECLARED),
    ("server-stateless:methods", STATELESS),
    ("server-stateless:stream", STATELESS),
    ("server-stateless:log", STATELESS),
    ("server-stateless:listen", STATELESS),
    ("server-stateless:filter", STATELESS),
    ("ping", SESSIONS),
    ("completion-complete", EVERYWHERE),
    ("tools-list", EVERYWHERE),
    ("tools-call-simple-text", EVERYWHERE),
    ("tools-call-image", EVERYWHERE),
    ("tools-call-audio", EVERYWHERE),
    ("tools-call-embedded-resource", EVERYWHERE),
    ("tools-call-mixed-content", EVERYWHERE),
    ("tools-call-with-logging", EVERYWHERE),
    ("logging-set-level", EVERYWHERE),
    ("tools-call-error", EVERYWHERE),
    ("tools-call-with-progress", EVERYWHERE),
    ("tools-call-sampling", EVERYWHERE),
    ("tools-call-elicitation", FORMS),
    ("elicitation-sep1034-defaults", FORMS),
    ("elicitation-sep1330-enums", FORMS),
    ("json-schema-2020-12", EVERYWHERE),
    ("http-custom-header-server-validation", EVERYWHERE),
    ("server-sse-polling", POLLED),
    ("server-sse-multiple-streams", EVERYWHERE),
    ("resources-list", EVERYWHERE),
    ("resources-read-text", EVERYWHERE),
    ("resources-read-binary", EVERYWHERE),
    ("resources-templates-read", EVERYWHERE),
    ("resources-subscribe", EVERYWHERE),
    ("resources-unsubscribe", SESSIONS),
    ("sep-2164-resource-not-found", EVERYWHERE),
    ("prompts-list", EVERYWHERE),
    ("prompts-get-simple", EVERYWHERE),
    ("prompts-get-with-args", EVERYWHERE),
    ("prompts-get-embedded-resource", EVERYWHERE),
    ("prompts-get-with-image", EVERYWHERE),
    ("dns-rebinding-protection", BROWSERS),
    ("caching", STATELESS),
    ("input-required-result-basic-elicitation", STATELESS),
    ("input-required-result-basic-sampling", STATELESS),
    ("input-required-result-basic-list-roots", STATELESS),
    ("input-required-result-request-state", STATELESS),
    ("input-required-result-multiple-input-requests", STATELESS),
    ("input-required-result-multi-round", STATELESS),
    ("input-required-result-missing-input-response", STATELESS),
    ("input-required-result-non-tool-request", STATELESS),
    ("input-required-result-result-type", STATELESS),
    ("input-required-result-unsupported-methods", STATELESS),
    ("input-required-result-tampered-state", STATELESS),
    ("input-required-result-capability-check", DECLARED),
    ("input-required-result-ignore-extra-params", STATELESS),
    ("input-required-result-validate-input", STATELESS),
];

/// Scenarios that have no check here, and why.
const NOT_CHECKED: [(&str, &str); 15] = [
    ("server-session-lifecycle", "the id of a session and its DELETE are of Streamable HTTP, where the suite itself looks"),
    ("http-header-validation", "headers that repeat the body are of Streamable HTTP, where the suite itself looks"),
    ("sep-2640-skills-directory", "an extension that the gateway does not know: its resources are read as any others"),
    ("sep-2640-skills-enumeration", "of the same extension"),
    ("sep-2640-skills-manifest", "of the same extension"),
    ("tasks-lifecycle", "the extension of tasks has its own server and tests (tasks.rs, extension.rs)"),
    ("tasks-capability-negotiation", "of the same extension"),
    ("tasks-wire-fields", "of the same extension"),
    ("tasks-request-state-removal", "of the same extension"),
    ("tasks-mrtr-input", "of the same extension"),
    ("tasks-request-headers", "of the same extension"),
    ("tasks-dispatch-and-envelope", "of the same extension"),
    ("tasks-status-notifications", "of the same extension"),
    ("tasks-required-task-error", "of the same extension"),
    ("tasks-mrtr-composition", "of the same extension"),
];

/// What a conversation has to pass: no more, no less, and in this order.
fn checks_of(cell: &Cell) -> Vec<&'static str> {
    CHECKS.iter().filter(|(_, applies)| applies(cell)).map(|(name, _)| *name).collect()
}

/// Clients of the newest revision of each era before every server, and older ones before one server each.
fn cells(entrance: Carrier) -> Vec<Cell> {
    // HTTP+SSE was given up before there was an era without sessions.
    let newest: &[&str] = if entrance == Carrier::Sse { &[LATEST_LEGACY] } else { &[LATEST_LEGACY, MODERN] };
    let of = |upstream, revision| Cell { entrance, upstream, revision };
    let each = UPSTREAMS.iter().flat_map(|upstream| newest.iter().map(move |revision| of(upstream, revision)));
    each.chain(OLDER.iter().map(|(revision, upstream)| of(upstream, revision))).collect()
}

/// The servers, and how each is reached, as lines of its table.
struct Farm {
    tables: BTreeMap<&'static str, String>,
    _servers: Vec<Program>,
}

impl Farm {
    async fn start() -> Result<Self, String> {
        let (mut tables, mut servers) = (BTreeMap::new(), Vec::new());
        for (upstream, (way, server)) in UPSTREAMS.iter().zip(try_join_all(UPSTREAMS.iter().map(start)).await?) {
            tables.insert(upstream.name, way);
            servers.extend(server);
        }
        Ok(Self { tables, _servers: servers })
    }

    /// A gateway before all of them. Each has a view of its own.
    async fn gateway(&self) -> Gateway {
        let tables: Vec<_> = self.tables.iter().map(|(name, way)| table(name, "always", way)).collect();
        let gateway = Gateway::start(Setup::new().tables(&tables.concat())).await;
        for name in self.tables.keys() {
            gateway.target_is(name, "ready").await;
        }
        gateway
    }

    /// What a desktop client starts to speak to one of them, with its configuration in that folder. There are no views over stdio.
    fn desktop(&self, upstream: &str, folder: &TempDir) -> Value {
        let file = folder.path().join(format!("{upstream}.toml"));
        let table = table(upstream, "never", &self.tables[upstream]);
        std::fs::write(&file, Setup::new().tables(&table).text()).unwrap();
        json!([env!("CARGO_BIN_EXE_twinway"), "serve", "--stdio", "--config", file])
    }
}

fn table(name: &str, prefix: &str, way: &str) -> String {
    format!("[[upstream]]\nname = \"{name}\"\nprefix = \"{prefix}\"\n{way}\n")
}

/// How a server is reached, and itself, unless the gateway starts it.
async fn start(upstream: &Upstream) -> Result<(String, Option<Program>), String> {
    let over = async |more: &[&str], transport: &str| {
        let (server, url) = conformance_server(upstream.serves, more).await?;
        Ok((format!("url = \"{url}\"\ntransport = \"{transport}\""), Some(server)))
    };
    match upstream.carrier {
        Carrier::Http => over(&[], "http").await,
        Carrier::Sse => over(&["--sse"], "sse").await,
        Carrier::Stdio => {
            let command = conformance_program(upstream.serves)?;
            Ok((format!("kind = \"stdio\"\ncommand = {:?}\nargs = {:?}", command[0], &command[1..]), None))
        }
    }
}

/// What the client is told of a conversation, with what leads to the gateway.
fn conversation(cell: &Cell, way: &Value) -> String {
    let server = if cell.upstream.serves == "legacy" { "legacy" } else { "modern" };
    let mut all = json!({"revision": cell.revision, "server": server, "checks": checks_of(cell)});
    all.as_object_mut().unwrap().extend(way.as_object().unwrap().clone());
    all.to_string()
}

/// Has clients make every conversation at an entrance, and looks that each check of each has passed. `way` is what leads to the gateway.
/// Those before the same server come one after the other: they change what it has.
async fn pass(entrance: Carrier, way: impl Fn(&Cell) -> Value) -> Result<(), String> {
    let cells = cells(entrance);
    let of = |upstream| cells.iter().filter(move |cell| cell.upstream == upstream);
    let rounds = UPSTREAMS.iter().map(async |upstream| {
        let conversations: Vec<_> = of(upstream).map(|cell| conversation(cell, &way(cell))).collect();
        let mut client = conformance_checks(&conversations)?;
        let events = client.events().await;
        let expected = of(upstream).enumerate().flat_map(|(place, cell)| {
            let passed = checks_of(cell).into_iter().map(|name| json!({ "passed": name }));
            std::iter::once(json!({"conversation": place, "revision": cell.revision})).chain(passed)
        });
        let expected: Vec<_> = expected.collect();
        let not_passed: Vec<_> = events.iter().filter(|event| !expected.contains(event)).collect();
        let first = expected.iter().zip(&events).find(|(expected, found)| expected != found);
        assert!(events == expected, "{entrance:?}, {upstream:?}: {not_passed:#?}, first {first:?}\n{}", client.log());
        Ok(())
    });
    try_join_all(rounds).await.map(drop)
}

#[tokio::test]
async fn clients_over_streamable_http_get_from_every_server_what_the_suite_asks_for() {
    let test = async {
        let farm = Farm::start().await?;
        let gateway = farm.gateway().await;
        pass(Carrier::Http, |cell| json!({ "url": format!("http://{}/mcp/{}", gateway.address, cell.upstream.name) })).await
    };
    if let Err(reason) = test.await {
        skip("conformance::clients_over_streamable_http_get_from_every_server_what_the_suite_asks_for", &reason);
    }
}

#[tokio::test]
async fn clients_over_sse_get_from_every_server_what_the_suite_asks_for() {
    let test = async {
        let farm = Farm::start().await?;
        let gateway = farm.gateway().await;
        let url = |cell: &Cell| format!("http://{}/sse/{}", gateway.address, cell.upstream.name);
        pass(Carrier::Sse, |cell| json!({"url": url(cell), "transport": "sse"})).await
    };
    if let Err(reason) = test.await {
        skip("conformance::clients_over_sse_get_from_every_server_what_the_suite_asks_for", &reason);
    }
}

#[tokio::test]
async fn clients_over_stdio_get_from_every_server_what_the_suite_asks_for() {
    let test = async {
        let farm = Farm::start().await?;
        let folder = TempDir::new().unwrap();
        let command = |cell: &Cell| farm.desktop(cell.upstream.name, &folder);
        pass(Carrier::Stdio, |cell| json!({ "stdio": command(cell) })).await
    };
    if let Err(reason) = test.await {
        skip("conformance::clients_over_stdio_get_from_every_server_what_the_suite_asks_for", &reason);
    }
}

#[tokio::test]
async fn every_scenario_of_the_suite_is_checked_or_has_a_reason_why_not() {
    let test = async {
        let listed = conformance_suite(&["list", "--server"])?;
        let names = conformance_checks(&["--names".to_owned()])?.event_with("names").await;

        let of_suite: BTreeSet<_> = listed.lines().filter_map(|line| line.strip_prefix("  - ")?.split(' ').next()).collect();
        let checked = CHECKS.iter().map(|(name, _)| name.split(':').next().unwrap());
        let known: Vec<_> =
            checked.clone().collect::<BTreeSet<_>>().into_iter().chain(NOT_CHECKED.map(|(name, _)| name)).collect();
        assert!(of_suite.len() > 50, "{listed}");
        assert_eq!(known.iter().copied().collect::<BTreeSet<_>>(), of_suite);
        assert_eq!(known.len(), of_suite.len(), "no scenario is in both");
        let of_client: BTreeSet<_> = names.as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
        assert_eq!(CHECKS.map(|(name, _)| name).into_iter().collect::<BTreeSet<_>>(), of_client);
        Ok::<_, String>(())
    };
    if let Err(reason) = test.await {
        skip("conformance::every_scenario_of_the_suite_is_checked_or_has_a_reason_why_not", &reason);
    }
}
