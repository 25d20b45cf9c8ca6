//! What the documents say of a catalogue that a runtime in memory fills.

use std::{path::Path, sync::Arc};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use runtime_api::{
    About, Call, CallError, CallService, Item, Items, Offers, PartError, Reply, Runtime, RuntimeId, TargetOffers, TargetState,
    erase,
};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::{
    catalog::{Builder, Pins},
    config::Config,
    telemetry::Metrics,
};

/// One upstream `up` with the tools `a` to `e`.
struct Memory(watch::Sender<Arc<Offers>>);

impl Memory {
    fn new() -> Self {
        let tool =
            |name: char| Item { name: name.to_string().into(), definition: Bytes::from(format!(r#"{{"name":"{name}"}}"#)) };
        let offers = TargetOffers {
            state: TargetState::Stale("it is away".into()),
            about: About { server_info: Some(Bytes::from_static(br#"{"name":"s"}"#)), ..About::default() },
            items: Items::of_tools(('a'..='e').map(tool).collect::<Vec<_>>()),
            ..TargetOffers::unheard_of("up".into())
        };
        Self(watch::Sender::new(Arc::new(Offers { targets: vec![Arc::new(offers)] })))
    }
}

impl Runtime for Memory {
    fn id(&self) -> RuntimeId {
        RuntimeId("http".into())
    }

    fn offers(&self) -> watch::Receiver<Arc<Offers>> {
        self.0.subscribe()
    }

    fn service(&self) -> CallService {
        erase(tower::service_fn(|_: Call| async { Ok::<_, CallError>(Reply::new(Bytes::from_static(b"{}"))) }))
    }

    fn run(self: Box<Self>, _: CancellationToken) -> BoxFuture<'static, Result<(), PartError>> {
        Box::pin(async { Ok(()) })
    }
}

fn catalog(rules: &str) -> Catalog {
    let config = Config::parse(rules, Path::new("test.toml")).expect("a good configuration");
    let (mut builder, catalog) = Builder::new(&config, Metrics::new(None), Pins::default());
    builder.add(&Memory::new());
    catalog
}

fn ask(catalog: &Catalog, path: &str, query: &str) -> Result<Value, AdminError> {
    answer(catalog, path, query).map(|document| serde_json::from_slice(&document).expect("JSON"))
}

fn names(document: &Value) -> Vec<&str> {
    document["tools"].as_array().into_iter().flatten().filter_map(|tool| tool["name"].as_str()).collect()
}

#[test]
fn pages_of_tools_follow_each_other_and_a_category_picks_its_own() {
    let catalog = catalog("[[tool]]\nmatch = \"up.[bd]\"\ncategory = \"odd\"\n");

    let first = ask(&catalog, "tools", "limit=3").expect("a page");
    let second = ask(&catalog, "tools", "limit=3&after=up.c").expect("a page");
    let odd = ask(&catalog, "tools", "limit=1&category=odd").expect("a page");
    let alone = ask(&catalog, "tools", "view=up").expect("a page");

    assert_eq!((names(&first), &first["next"], &first["total"]), (vec!["up.a", "up.b", "up.c"], &json!("up.c"), &json!(5)));
    assert_eq!((names(&second), &second["next"]), (vec!["up.d", "up.e"], &Value::Null));
    assert_eq!((names(&odd), &odd["next"]), (vec!["up.b"], &json!("up.b")));
    assert_eq!(names(&alone), ["a", "b", "c", "d", "e"]);
}

#[test]
fn each_field_of_the_metadata_says_its_value_and_who_said_it() {
    let catalog = catalog("[[tool]]\nmatch = \"up.a\"\npriority = 7\nretry = \"fixed\"\ncache_ttl = \"90s\"\n");

    let document = ask(&catalog, "tools", "limit=1").expect("a page");
    let metadata = &document["tools"][0]["metadata"];

    assert_eq!(metadata["priority"], json!({"value": 7, "said_by": "rule"}));
    assert_eq!(metadata["cache_ttl"], json!({"value": "1m 30s", "said_by": "rule"}));
    assert_eq!(metadata["retry"]["value"]["policy"], "fixed");
    assert_eq!(metadata["timeout"], json!({"value": "30s", "said_by": "default"}));
    assert_eq!(metadata.as_object().map(serde_json::Map::len), Some(crate::metadata::Field::ALL.len()));
}

#[test]
fn a_route_says_why_and_whether_its_target_answers() {
    let catalog = catalog("[[tool]]\nmatch = \"up.b\"\nruntime = \"mcpp\"\n");

    let a = ask(&catalog, "route/up.a", "").expect("a route");
    let b = ask(&catalog, "route/up%2Eb", "").expect("a refusal");

    assert_eq!((&a["route"]["target"], &a["route"]["reason"]), (&json!("up"), &json!("only_candidate")));
    assert_eq!((&a["choices"][0]["state"], &a["choices"][0]["state_reason"]), (&json!("stale"), &json!("it is away")));
    assert_eq!((&a["choices"][0]["breaker"], &a["choices"][0]["average_us"]), (&json!("closed"), &Value::Null));
    assert_eq!((&b["route"], &b["choices"][0]["chosen"]), (&Value::Null, &json!(false)));
    assert_eq!(b["choices"][0]["why_not"], "the tool's `runtime` is `mcpp`");
    assert_eq!(b["refused"], "only the runtime `mcpp` may answer, and nobody offers the tool there");
}

#[test]
fn what_is_not_there_is_named() {
    let catalog = catalog("");
    let cases = [
        ("route/up.z", "", "there is no tool `up.z`", true),
        ("tools", "view=down", "there is no upstream or peer `down`", true),
        ("compare", "tool=up.z", "there is no tool `up.z`", true),
        ("tool", "", "there is nothing at `/admin/api/tool`", true),
        ("tools", "page=2", "`page` cannot be asked here", false),
        ("upstreams", "limit=2", "`limit` cannot be asked here; known are none", false),
        ("tools", "limit=many", "`limit=many`: this is not a whole number", false),
    ];
    for (path, query, expected, is_not_found) in cases {
        let error = ask(&catalog, path, query).expect_err("a refusal");

        assert!(error.to_string().starts_with(expected), "{error}");
        assert_eq!(error.status().0 == http::StatusCode::NOT_FOUND, is_not_found, "{error}");
    }
}

#[test]
fn targets_stand_with_their_runtime_and_what_was_never_called_is_said_so() {
    let catalog = catalog("");

    let upstreams = ask(&catalog, "upstreams", "").expect("a list");
    let peers = ask(&catalog, "peers", "").expect("a list");
    let compared = ask(&catalog, "compare", "tool=up.a").expect("a comparison");

    assert_eq!(upstreams["upstreams"][0]["reason"], "it is away");
    assert_eq!(upstreams["upstreams"][0]["server_info"], json!({"name": "s"}));
    assert_eq!(peers, json!({"peers": []}));
    let route = &compared["tools"][0]["routes"][0];
    assert_eq!((&route["samples"], &route["note"], &route["latency_us"]), (&json!(0), &json!("nothing recorded"), &Value::Null));
}
