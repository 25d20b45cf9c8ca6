//! A whole call within the gateway: envelope, catalogue, layers, an in-memory runtime that answers at once, the answer.
//!
//! What the entrance adds in front (HTTP, a client's token) and a hop behind is measured by `runtime_latency`.

use std::hint::black_box;

use bytes::Bytes;
use criterion::Criterion;
use http::HeaderMap;
use runtime_api::{Call, CallError, CallService, Principal, Reply, erase};
use twinway::config::Config;
use twinway::layers::{self, Cache};
use twinway::mcp::{Answer, Inbound, Scope, Server, Shown, Step, Way};
use twinway::pipeline;
use twinway::telemetry::Metrics;

use crate::catalog::{Memory, catalog_of, headers};

const RULE: &str = "[[tool]]\nmatch = \"*\"\nread_only = true\nretry = \"exponential\"\nio_intensive = true\n";

const RESULT: &[u8] = br#"{"content":[{"type":"text","text":"an answer of a usual size, some two hundred bytes with all that is around it: the tool looked where it was told to look, and this is what it found there"}],"resultType":"complete"}"#;

/// One call through a stack that has nothing to do, through one in which every layer has, and one that is answered from the
/// cache. What the second and the third add to the first is what the layers cost.
pub(crate) fn bench_stack(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let _entered = runtime.enter();
    let mut group = criterion.benchmark_group("call within the gateway");
    let cached = format!("{RULE}cache_ttl = \"1h\"\n");
    // The same arguments each time are found again; others each time are looked for and kept.
    let rows = [("bare", "", false), ("all layers, not kept", &*cached, true), ("kept", &*cached, false)];
    for (name, rule, differs) in rows {
        let server = server(rule);
        let mut number = 0_u64;
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                number += u64::from(differs);
                runtime.block_on(call(&server, black_box(number)))
            });
        });
    }
    group.finish();
}

fn server(rule: &str) -> Server {
    let (config, metrics) = (Config::parse(rule, "micro.toml".as_ref()).expect("a configuration"), Metrics::new(None));
    let catalog = catalog_of(&config, &metrics, &Memory::answering(20, answering()));
    let pipeline = pipeline::build(&layers::door_of(&config.admission, &metrics), &Cache::new(&config.cache, &metrics));
    Server::new(&config, catalog, pipeline, metrics).expect("the configuration has no key to refuse")
}

fn answering() -> CallService {
    erase(tower::service_fn(|_: Call| async { Ok::<_, CallError>(Reply::new(Bytes::from_static(RESULT))) }))
}

async fn call(server: &Server, number: u64) -> usize {
    let message = format!(
        r#"{{"jsonrpc":"2.0","id":12,"method":"tools/call","params":{{"name":"target0.tool_0","arguments":{{"path":"/srv/{number}"}},"_meta":{{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{{"name":"micro","version":"1.0.0"}},"io.modelcontextprotocol/clientCapabilities":{{}}}}}}}}"#
    );
    answered(server, message, &headers("tools/call", Some("target0.tool_0")), Shown::full()).await
}

/// How long the answer to a call is.
pub(crate) async fn answered(server: &Server, message: String, headers: &HeaderMap, shown: &Shown) -> usize {
    let answer = server.handle(&Inbound {
        message: message.into(),
        view: "",
        principal: &Principal::anonymous(),
        way: Way::Http { headers },
        scope: Scope::Everything,
        shown,
        answer_bytes_max: usize::MAX,
        time_max: std::time::Duration::MAX,
    });
    let Answer::Running(mut running) = answer else { panic!("not a call: {answer:?}") };
    match running.next().await {
        Step::Done(outgoing) if outgoing.status == 200 => outgoing.message.len(),
        other => panic!("not an answer: {other:?}"),
    }
}
