//! What a large catalogue costs a client that is shown three tools in place of all: bytes of the list, and time to find something.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion};
use runtime_api::Item;
use tokio::time::Instant;
use twinway::catalog::Categories;
use twinway::config::{Config, Exposure};
use twinway::layers::{self, Cache};
use twinway::mcp::{Server, Shown};
use twinway::pipeline;
use twinway::telemetry::Metrics;

use crate::catalog::{Memory, catalog_of, headers, list};
use crate::stack::answered;

const LAZY: Shown = Shown { exposure: Exposure::Lazy, categories: Categories::ALL };

/// Two words of a name, as most queries of models are; the second one is in many tools.
const QUERY: &str = "archive invoice";

const VERBS: [&str; 20] = [
    "create", "list", "get", "update", "delete", "search", "archive", "export", "import", "assign", "close", "reopen", "merge",
    "share", "tag", "move", "copy", "approve", "watch", "schedule",
];

const NOUNS: [&str; 25] = [
    "issue",
    "invoice",
    "calendar_event",
    "message",
    "file",
    "folder",
    "customer",
    "order",
    "pull_request",
    "repository",
    "deployment",
    "dashboard",
    "alert",
    "ticket",
    "contact",
    "campaign",
    "document",
    "page",
    "database",
    "backup",
    "user",
    "team",
    "webhook",
    "report",
    "payment",
];

/// Bytes of both lists of 400 tools, and how long a search takes that finds the index made, at 400 and at 10,000 tools.
pub(crate) fn bench_search(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let _entered = runtime.enter();
    let mut group = criterion.benchmark_group("find_tools");
    for tools in [400, 10_000] {
        let server = server(tools);
        let began = Instant::now();
        runtime.block_on(find(&server));
        let first = began.elapsed();
        let listing = headers("tools/list", None);
        let bytes = [Shown::full(), &LAZY].map(|shown| list(&server, &listing, shown).len());
        say(tools, bytes, first);
        group.bench_function(BenchmarkId::from_parameter(tools), |bencher| {
            bencher.iter(|| black_box(runtime.block_on(find(&server))));
        });
    }
    group.finish();
}

fn server(tools: usize) -> Server {
    let mut config = Config::default();
    config.http.page_size = tools.try_into().expect("not zero");
    let metrics = Metrics::new(None);
    let catalog = catalog_of(&config, &metrics, &Memory::offering(tools, tool));
    let pipeline = pipeline::build(&layers::door_of(&config.admission, &metrics), &Cache::new(&config.cache, &metrics));
    Server::new(&config, catalog, pipeline, metrics).expect("the default configuration has no key to refuse")
}

/// Some 700 bytes, as tools of real servers have: a description of two sentences and four parameters, each described.
fn tool(number: usize) -> Item {
    let (verb, noun) = (VERBS[number % VERBS.len()], NOUNS[number / VERBS.len() % NOUNS.len()]);
    let edition = number / (VERBS.len() * NOUNS.len());
    let name = if edition == 0 { format!("{verb}_{noun}") } else { format!("{verb}_{noun}_v{edition}") };
    let thing = noun.replace('_', " ");
    let definition = format!(
        r#"{{"name":"{name}","title":"{verb} {thing}","description":"Use this to {verb} a {thing} in the workspace of the current user. Returns the {thing} with its identifier, its state and the time of its last change.","inputSchema":{{"type":"object","properties":{{"id":{{"type":"string","description":"Identifier of the {thing}"}},"workspace":{{"type":"string","description":"Name of the workspace; the current one by default"}},"fields":{{"type":"array","items":{{"type":"string"}},"description":"Which fields of the {thing} are returned"}},"dry_run":{{"type":"boolean","default":false,"description":"Only say what would happen"}}}},"required":["id"]}},"annotations":{{"readOnlyHint":false,"openWorldHint":true}}}}"#
    );
    Item { name: name.into(), definition: definition.into() }
}

async fn find(server: &Server) -> usize {
    let message = format!(
        r#"{{"jsonrpc":"2.0","id":12,"method":"tools/call","params":{{"name":"find_tools","arguments":{{"query":"{QUERY}"}},"_meta":{{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{{"name":"micro","version":"1.0.0"}},"io.modelcontextprotocol/clientCapabilities":{{}}}}}}}}"#
    );
    answered(server, message, &headers("tools/call", Some("find_tools")), &LAZY).await
}

#[expect(clippy::print_stdout, reason = "criterion measures times and no bytes")]
fn say(tools: usize, [full, lazy]: [usize; 2], first: std::time::Duration) {
    let first_ms = first.as_secs_f64() * 1e3;
    println!(
        "tools/list of {tools} tools: full {full} bytes, lazy {lazy} bytes; the first search, which makes the index: {first_ms:.1} ms"
    );
}
