//! Clients that are told when their list of tools is another.

use http::{Method, Request};
use serde_json::{Value, json};

use crate::p2p::free_port;
use crate::reload::change;
use crate::support::{
    Act, Gateway, Mcp, Open, Program, Script, Scripted, Serves, Setup, TurningServer, fastmcp_server, node_client, open,
    python_client, skip, until,
};

const CHANGED: &str = "notifications/tools/list_changed";

/// A gateway before two servers, `a` and `b`, of which it sees changes quickly.
struct Farm {
    gateway: Gateway,
    a: Scripted,
    b: Scripted,
}

fn script(tools: &[&str]) -> Script {
    tools.iter().fold(Script::new(Serves::Modern), |script, tool| script.tool(tool, Act::Echo))
}

impl Farm {
    async fn start() -> Self {
        let (a, b) = (Scripted::start(script(&["one"])).await, Scripted::start(script(&["one"])).await);
        let lines = "refresh = \"50ms\"";
        let gateway = Gateway::start(Setup::new().upstream_with("a", a.url(), lines).upstream_with("b", b.url(), lines)).await;
        gateway.target_is("a", "ready").await;
        gateway.target_is("b", "ready").await;
        until("both lists", || async { (gateway.modern().tool_names().await.len() == 2).then_some(()) }).await;
        Self { gateway, a, b }
    }

    /// Gives a server other tools, and waits until its clients can see them.
    async fn offers(&self, name: &str, tools: &[&str]) {
        let server = if name == "a" { &self.a } else { &self.b };
        server.becomes(script(tools));
        let client = self.gateway.modern().at(name);
        until("the other tools", || async { (client.tool_names().await == tools).then_some(()) }).await;
    }

    /// The stream of a legacy session.
    async fn stream(&self, client: &Mcp) -> Open {
        open(self.gateway.address, get(client, "text/event-stream")).await
    }

    /// The same stream again, after that event.
    async fn stream_after(&self, client: &Mcp, last: &str) -> Open {
        let mut request = get(client, "text/event-stream");
        request.headers_mut().insert("last-event-id", last.parse().unwrap());
        open(self.gateway.address, request).await
    }

    async fn listeners(&self, count: f64) {
        until("the count of listeners", || async {
            (self.gateway.metric("twinway_listening", &[]).await == count).then_some(())
        })
        .await;
    }
}

fn get(client: &Mcp, accept: &str) -> Request<String> {
    let mut request = client.head(Method::GET, String::new());
    request.headers_mut().insert("accept", accept.parse().unwrap());
    request
}

fn listen(client: &Mcp) -> crate::support::Ask<'_> {
    client
        .ask("subscriptions/listen")
        .id("\"l-1\"")
        .params(r#""notifications":{"toolsListChanged":true,"promptsListChanged":true}"#)
}

#[tokio::test]
async fn a_modern_client_is_told_what_is_honoured_then_each_change_of_its_own_view_and_then_the_end() {
    let farm = Farm::start().await;
    let client = farm.gateway.modern().at("a");
    let mut stream = listen(&client).open().await;
    let meta = json!({"io.modelcontextprotocol/subscriptionId": "l-1"});

    let acknowledged = stream.event().await.unwrap();
    farm.offers("b", &["one", "two"]).await;
    farm.offers("a", &["one", "two"]).await;
    let first = stream.event().await.unwrap();
    farm.offers("a", &["two"]).await;
    let second = stream.event().await.unwrap();
    farm.gateway.program.terminate();
    let end = stream.event().await.unwrap();

    assert_eq!(acknowledged["method"], "notifications/subscriptions/acknowledged");
    assert_eq!(acknowledged["params"], json!({"notifications": {"toolsListChanged": true}, "_meta": meta}));
    for told in [first, second] {
        assert_eq!(told, json!({"jsonrpc": "2.0", "method": CHANGED, "params": {"_meta": meta}}));
    }
    // Were it told of `b`, that would be here.
    assert_eq!((&end["id"], &end["result"]), (&json!("l-1"), &json!({"resultType": "complete", "_meta": meta})));
    assert_eq!(stream.event().await, None);
}

#[tokio::test]
async fn a_legacy_session_is_told_on_its_one_stream() {
    let farm = Farm::start().await;
    let client = farm.gateway.legacy().await;
    let mut lost = farm.stream(&client).await;
    farm.listeners(1.0).await;
    let mut stream = farm.stream(&client).await;

    assert_eq!(lost.event().await, None, "the newer stream takes the place of the older");
    farm.listeners(1.0).await;
    farm.offers("b", &["two"]).await;
    let told = stream.event().await.unwrap();
    client.end().await;

    assert_eq!(told, json!({"jsonrpc": "2.0", "method": CHANGED, "params": {}}));
    assert_eq!(stream.event().await, None, "the session is over");
    farm.listeners(0.0).await;
}

/// The id of the event with which a stream begins.
async fn first_id(stream: &mut Open) -> String {
    let event = stream.raw_event().await.unwrap();
    event.strip_prefix("id: ").and_then(|rest| rest.lines().next()).expect("a priming event").to_owned()
}

#[tokio::test]
async fn a_session_that_comes_back_for_its_stream_is_told_once_of_what_changed_meanwhile() {
    let farm = Farm::start().await;
    let client = farm.gateway.legacy().await;
    let mut stream = farm.stream(&client).await;
    let first = first_id(&mut stream).await;
    farm.listeners(1.0).await;
    drop(stream);
    farm.listeners(0.0).await;

    farm.offers("a", &["two"]).await;
    farm.offers("b", &["two"]).await;
    let mut second = farm.stream_after(&client, &first).await;
    let missed = second.event().await.unwrap();
    // The second connection may be as dead as the first.
    let mut third = farm.stream_after(&client, &first).await;
    let once_more = third.event().await.unwrap();
    farm.offers("b", &["three"]).await;
    let live = third.event().await.unwrap();
    farm.listeners(1.0).await;
    client.end().await;

    for told in [missed, once_more, live] {
        assert_eq!(told, json!({"jsonrpc": "2.0", "method": CHANGED, "params": {}}));
    }
    assert_eq!((second.event().await, third.event().await), (None, None), "nothing is told twice");
}

#[tokio::test]
async fn a_session_whose_stream_nobody_knows_any_more_is_told_that_everything_may_be_another() {
    let farm = Farm::start().await;
    let client = farm.gateway.legacy().await;

    let mut stream = farm.stream_after(&client, "g00000000-1-5").await;

    assert_eq!(stream.event().await.unwrap(), json!({"jsonrpc": "2.0", "method": CHANGED, "params": {}}));
    farm.offers("a", &["two"]).await;
    assert_eq!(stream.event().await.unwrap()["method"], CHANGED);
}

/// Everybody who listens to one view: a client of either era.
struct Listeners {
    modern: Open,
    legacy: Open,
}

impl Listeners {
    /// Of that view; the merged one has no name.
    async fn of(gateway: &Gateway, view: &str) -> Self {
        let (modern, legacy) = if view.is_empty() {
            (gateway.modern(), gateway.legacy().await)
        } else {
            (gateway.modern().at(view), gateway.legacy_at(view).await)
        };
        let before = gateway.metric("twinway_listening", &[]).await;
        let mut modern = listen(&modern).open().await;
        assert_eq!(modern.event().await.unwrap()["method"], "notifications/subscriptions/acknowledged");
        let legacy = open(gateway.address, get(&legacy, "text/event-stream")).await;
        gateway.metric_reaches("twinway_listening", &[], before + 2.0).await;
        Self { modern, legacy }
    }

    /// Both are told next that the tools are others.
    async fn are_told(&mut self, why: &str) {
        for stream in [&mut self.modern, &mut self.legacy] {
            assert_eq!(stream.event().await.expect(why)["method"], CHANGED, "{why}");
        }
    }

    /// The gateway has ended, and they were told of nothing more.
    async fn were_told_no_more(mut self) {
        let end = self.modern.event().await.unwrap();
        assert_eq!((&end["id"], self.modern.event().await), (&json!("l-1"), None), "{end}");
        assert_eq!(self.legacy.event().await, None);
    }
}

#[tokio::test]
async fn a_reload_is_told_once_to_each_view_that_it_changes_and_to_no_other() {
    let farm = Farm::start().await;
    let gateway = &farm.gateway;
    let c = Scripted::start(script(&["one"])).await;
    let setup = |with_c: bool, more: &str| {
        let lines = "refresh = \"50ms\"";
        let setup = Setup::new().upstream_with("a", farm.a.url(), lines).upstream_with("b", farm.b.url(), lines).tables(more);
        if with_c { setup.upstream("c", c.url()) } else { setup }
    };
    let rule = |tool: &str, line: &str| format!("[[tool]]\nmatch = \"{tool}\"\n{line}");
    // Rules know a tool by its name in the merged view, and hold in its target's own.
    let (priority, deprecated) = (rule("*", "priority = 9"), rule("a?one", "deprecated = true"));
    let (mut merged, mut alone) = (Listeners::of(gateway, "").await, Listeners::of(gateway, "a").await);

    change(gateway, &setup(false, &priority), 1).await;
    change(gateway, &setup(true, &priority), 2).await;
    merged.are_told("an upstream came").await;
    change(gateway, &setup(false, &priority), 3).await;
    merged.are_told("an upstream left").await;
    change(gateway, &setup(false, &deprecated), 4).await;
    merged.are_told("a description changed").await;
    alone.are_told("the description changed here too").await;
    change(gateway, &setup(false, &deprecated).http("separator = \"_\""), 5).await;
    merged.are_told("every name changed").await;
    gateway.program.terminate();

    merged.were_told_no_more().await;
    alone.were_told_no_more().await;
}

#[tokio::test]
async fn a_change_of_an_upstream_is_told_once_to_the_merged_view_and_its_own_in_both_eras() {
    let farm = Farm::start().await;
    let (mut merged, mut alone) = (Listeners::of(&farm.gateway, "").await, Listeners::of(&farm.gateway, "a").await);

    farm.offers("b", &["two"]).await;
    merged.are_told("b changed").await;
    farm.offers("a", &["one", "two"]).await;
    merged.are_told("a changed").await;
    alone.are_told("a changed").await;
    farm.gateway.program.terminate();

    merged.were_told_no_more().await;
    alone.were_told_no_more().await;
}

#[tokio::test]
async fn a_peer_that_joins_is_told_once_and_so_is_one_that_leaves_but_not_one_that_is_away() {
    let up = Scripted::start(script(&["one"])).await;
    let node = format!("[p2p]\nlisten = [\"/ip4/127.0.0.1/tcp/{}\"]\nauthority = \"open-loopback\"\n", free_port());
    let far_setup = || Setup::new().upstream("up", up.url()).tables(&node);
    // It has been there before, so that its key is known.
    let Gateway { folder, program, ready, .. } = Gateway::start(far_setup()).await;
    drop(program);
    let address = ready["p2p"][0].as_str().unwrap();
    let with_peer = format!("[p2p]\n[[peer]]\nname = \"far\"\naddress = \"{address}\"\n");
    let near_setup = |tables: &str| Setup::new().upstream("near", up.url()).tables(tables);
    let near = Gateway::start(near_setup(&with_peer)).await;
    near.target_is("near", "ready").await;
    near.target_is("far", "failed").await;
    let (mut merged, alone) = (Listeners::of(&near, "").await, Listeners::of(&near, "near").await);

    let mut far = Gateway::start_in(far_setup(), folder).await;
    merged.are_told("the peer joined").await;
    far.program.kill();
    near.target_is("far", "stale").await;
    let away = near.modern().tool_names().await;
    change(&near, &near_setup("[p2p]"), 1).await;
    merged.are_told("the peer left").await;
    let left = near.modern().tool_names().await;
    near.program.terminate();

    assert_eq!((away, left), (vec!["far.up.one".to_owned(), "near.one".into()], vec!["near.one".to_owned()]));
    merged.were_told_no_more().await;
    alone.were_told_no_more().await;
}

#[tokio::test]
async fn whoever_stops_listening_leaves_nothing_behind_and_the_gateway_ends_at_once() {
    let mut farm = Farm::start().await;
    let (modern, legacy) = (farm.gateway.modern(), farm.gateway.legacy().await);
    let streams = (listen(&modern).open().await, farm.stream(&legacy).await);
    farm.listeners(2.0).await;

    drop(streams);
    farm.listeners(0.0).await;

    let mut stays = farm.stream(&legacy).await;
    farm.listeners(1.0).await;
    farm.gateway.program.terminate();
    assert_eq!(stays.event().await, None);
    while farm.gateway.program.line().await.is_some() {}
    assert!(!farm.gateway.program.log().contains("cut off"), "{}", farm.gateway.program.log());
}

#[tokio::test]
async fn what_cannot_be_listened_to_is_refused_with_the_reason() {
    let farm = Farm::start().await;
    let legacy = farm.gateway.legacy().await;
    let send = |request| crate::support::send(farm.gateway.address, request);

    assert_eq!(send(get(&farm.gateway.modern(), "text/event-stream")).await.status, 405);
    let not_acceptable = send(get(&legacy, "application/json")).await;
    let elsewhere = send(get(&legacy.clone().at("a"), "text/event-stream")).await;
    let empty = farm.gateway.modern().ask("subscriptions/listen").send().await;
    let in_session = legacy.ask("subscriptions/listen").send().await;

    assert_eq!(not_acceptable.status, 406);
    assert!(not_acceptable.text().contains("text/event-stream"));
    assert_eq!(elsewhere.status, 404, "the session is one of another endpoint");
    assert_eq!(empty.error()["code"], -32602);
    assert!(empty.error()["message"].as_str().unwrap().contains("notifications"));
    assert_eq!(in_session.error()["code"], -32601);
    assert_eq!(farm.gateway.metric("twinway_listening", &[]).await, 0.0);
}

#[tokio::test]
async fn there_are_as_many_places_for_listeners_as_for_sessions() {
    let upstream = Scripted::start(script(&["one"])).await;
    let gateway = Gateway::start(Setup::new().http("sessions_max = 2").upstream("a", upstream.url())).await;
    gateway.target_is("a", "ready").await;
    let client = gateway.modern();
    let mut open = Vec::new();
    for _ in 0..2 {
        let mut stream = listen(&client).open().await;
        stream.event().await.unwrap();
        open.push(stream);
    }

    let full = listen(&client).send().await.error();
    open.pop();
    until("a free place", || async { (gateway.metric("twinway_listening", &[]).await == 1.0).then_some(()) }).await;
    let acknowledged = listen(&client).open().await.event().await.unwrap();

    assert_eq!(full["data"]["code"], "overloaded");
    assert_eq!(acknowledged["method"], "notifications/subscriptions/acknowledged");
}

/// How a gateway hears of a change of an upstream that it would look at once in an hour.
async fn hears(url: &str, era: &str, before: &[&str], change: impl AsyncFnOnce(&Mcp), after: &[&str]) {
    let lines = format!("refresh = \"1h\"\nera = \"{era}\"");
    let gateway = Gateway::start(Setup::new().upstream_with("up", url, &lines)).await;
    gateway.target_is("up", "ready").await;
    let client = gateway.modern().at("up");
    assert_eq!(client.tool_names().await, before);

    change(&client).await;

    until("what the upstream told of", || async { (client.tool_names().await == after).then_some(()) }).await;
}

#[tokio::test]
async fn an_upstream_that_tells_of_its_changes_is_listened_to_in_both_eras() {
    for era in ["modern", "legacy"] {
        let farm = Farm::start().await;
        let url = format!("http://{}/mcp/a", farm.gateway.address);
        let change = async |_: &Mcp| {
            farm.listeners(1.0).await;
            farm.offers("a", &["one", "two"]).await;
        };
        hears(&url, era, &["one"], change, &["one", "two"]).await;
        // The gateway that listened has ended, and its stream with it.
        farm.listeners(0.0).await;
    }
}

#[tokio::test]
async fn what_a_server_tells_while_it_is_asked_for_other_resources_is_heard() {
    let server = TurningServer::start().await;
    // Nothing but what the server tells leads to another look.
    let gateway = Gateway::start(Setup::new().upstream_with("up", server.url(), "refresh = \"1h\"")).await;
    gateway.target_is("up", "ready").await;
    until("the look after the stream was opened", || async { server.was_looked_at().then_some(()) }).await;
    let client = gateway.legacy().await;
    assert_eq!(client.tool_names().await, ["up.one"]);

    client.ask("resources/subscribe").params(r#""uri":"x://1""#).send().await.result();

    until("the other tool", || async { (client.tool_names().await == ["up.one", "up.two"]).then_some(()) }).await;
}

#[tokio::test]
async fn a_fastmcp_server_that_grows_is_heard_of() {
    let (_server, url) = match fastmcp_server().await {
        Ok(server) => server,
        Err(reason) => return skip("listening::a_fastmcp_server_that_grows_is_heard_of", &reason),
    };
    let before = ["fail", "greet", "grow", "older", "picture", "progress"];
    let after = ["fail", "greet", "grow", "grown", "older", "picture", "progress"];
    let change = async |client: &Mcp| {
        assert_eq!(client.call("grow", "{}").await.result()["isError"], Value::Bool(false));
    };
    hears(&url, "auto", &before, change, &after).await;
}

#[tokio::test]
async fn a_stream_that_is_lost_is_opened_anew() {
    let upstream = Scripted::start(script(&["one"])).await;
    let setup = || Setup::new().upstream_with("a", upstream.url(), "refresh = \"50ms\"");
    let mut first = Gateway::start(setup()).await;
    first.target_is("a", "ready").await;
    let (address, url) = (first.address.to_string(), format!("http://{}/mcp/a", first.address));
    let mut second = None;
    let change = async |_: &Mcp| {
        first.metric_reaches("twinway_listening", &[], 1.0).await;
        first.program.kill();
        let again = Gateway::start(setup().variable("TWINWAY__HTTP__LISTEN", &address)).await;
        again.metric_reaches("twinway_listening", &[], 1.0).await;
        second = Some(again);
        upstream.becomes(script(&["two"]));
    };
    hears(&url, "modern", &["one"], change, &["two"]).await;
}

/// A client of another make is told of a tool that comes.
async fn is_told(client: impl Fn(&[&str]) -> Result<Program, String>) -> Result<(), String> {
    let farm = Farm::start().await;
    let mut listener = client(&[&format!("http://{}/mcp", farm.gateway.address)])?;
    listener.event_with("listening").await;
    farm.listeners(1.0).await;

    farm.offers("a", &["one", "two"]).await;

    let changed = listener.event_with("changed").await;
    assert_eq!(changed, json!(["a.one", "a.two", "b.one"]));
    Ok(())
}

fn python(era: &'static str) -> impl Fn(&[&str]) -> Result<Program, String> {
    move |url| python_client(&[url, &["--era", era, "listen"]].concat())
}

fn typescript(era: &'static [&'static str]) -> impl Fn(&[&str]) -> Result<Program, String> {
    move |url| node_client(&[url, era, &["listen"]].concat())
}

#[tokio::test]
async fn python_clients_of_both_eras_are_told() {
    for era in ["legacy", "modern"] {
        if let Err(reason) = is_told(python(era)).await {
            return skip("listening::python_clients_of_both_eras_are_told", &reason);
        }
    }
}

#[tokio::test]
async fn typescript_clients_of_both_versions_and_eras_are_told() {
    for era in [&[][..], &["--era", "legacy"], &["--era", "modern"]] {
        if let Err(reason) = is_told(typescript(era)).await {
            return skip("listening::typescript_clients_of_both_versions_and_eras_are_told", &reason);
        }
    }
}

#[tokio::test]
async fn a_client_of_some_categories_is_told_when_their_tools_change_or_a_tool_joins_them() {
    let server = Scripted::start(script(&["one", "two"])).await;
    let setup = |rules: &str| Setup::new().upstream_with("a", server.url(), "refresh = \"50ms\"").tables(rules);
    let in_category = |tool: &str| format!("[[tool]]\nmatch = \"a.{tool}\"\ncategory = \"work\"\n");
    let gateway = Gateway::start(setup(&in_category("two"))).await;
    gateway.target_is("a", "ready").await;
    let client = gateway.modern().asking("categories=work");
    let sees = |tools: &'static [&str]| {
        let client = client.clone();
        async move { until("the other tools", || async { (client.tool_names().await == tools).then_some(()) }).await }
    };
    sees(&["a.two"]).await;
    let mut stream = listen(&client).open().await;
    stream.event().await.unwrap();
    let all = gateway.modern();

    for others in [&["four", "one", "three", "two"][..], &["one", "three", "two"]] {
        server.becomes(script(others));
        until("other tools", || async { (all.tool_names().await.len() == others.len()).then_some(()) }).await;
    }
    server.becomes(script(&["one", "three"]));
    sees(&[]).await;
    let left = stream.event().await.unwrap();
    gateway.write(&setup(&in_category("one")).text());
    sees(&["a.one"]).await;
    let joined = stream.event().await.unwrap();
    gateway.program.terminate();
    let end = stream.event().await.unwrap();

    assert_eq!((&left["method"], &joined["method"]), (&json!(CHANGED), &json!(CHANGED)));
    // Were it told of what is none of its business, that would be here.
    assert!(end.get("result").is_some(), "{end}");
}
