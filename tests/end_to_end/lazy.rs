//! Clients that are shown three tools in place of all: they find, describe and call the others by them.

use http::Method;
use serde_json::{Value, json};

use crate::support::{
    Act, Answer, Era, Gateway, LATEST_LEGACY, Mcp, Program, Script, Scripted, Serves, Setup, asked_client, asking_server, open,
    python_client, python_server, skip, until,
};

const THREE: [&str; 3] = ["find_tools", "describe_tools", "call_tool"];
const LAZY: &str = "exposure=lazy";

fn defined(script: Script, name: &str, more: &str) -> Script {
    let definition = format!(r#"{{"name":"{name}",{more}"inputSchema":{{"type":"object"}}}}"#);
    script.defined(name, &definition, Act::Echo)
}

/// Tools with names of several habits.
async fn farm() -> Scripted {
    let tools = [
        ("getWeatherForecast", r#""title":"Forecast","description":"What the sky will do.","#),
        ("weather.get_forecast", r#""description":"The same, older.","#),
        ("list_issues", r#""description":"Issues of a project, with their labels.","#),
        ("create-issue", r#""description":"Opens one.","annotations":{"title":"New ticket"},"#),
        ("HTTPProbe", r#""description":"Merges PDFs, and mentions weather once.","#),
    ];
    let script = tools.iter().fold(Script::new(Serves::Both), |script, (name, more)| defined(script, name, more));
    Scripted::start(script).await
}

async fn gateway(upstream: &Scripted, setup: Setup) -> Gateway {
    let gateway = Gateway::start(setup.upstream("up", upstream.url())).await;
    gateway.target_is("up", "ready").await;
    gateway
}

/// A lazy client of each era at a view.
async fn lazy_clients(gateway: &Gateway, view: &str) -> [Mcp; 2] {
    let at = |client: Mcp| if view.is_empty() { client.asking(LAZY) } else { client.at(view).asking(LAZY) };
    [at(gateway.modern()), at(Mcp::legacy(gateway.address)).open(LATEST_LEGACY).await]
}

async fn find(client: &Mcp, arguments: &Value) -> Value {
    client.call("find_tools", &arguments.to_string()).await.result()["structuredContent"].take()
}

fn names(found: &Value) -> Vec<&str> {
    found["tools"].as_array().unwrap().iter().map(|tool| tool["name"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn three_tools_are_listed_for_whom_the_configuration_or_the_address_says_so_and_rest_has_all() {
    let upstream = farm().await;
    let (quick, slow) = ("a-token-of-sixteen", "b-token-of-sixteen");
    let setup = Setup::new().http("exposure = \"lazy\"").client("quick", quick).client("slow", slow);
    // Belongs to the last client.
    let gateway = gateway(&upstream, setup.tables("exposure = \"full\"")).await;
    let quick = [gateway.modern().bearer(quick), Mcp::legacy(gateway.address).bearer(quick).open(LATEST_LEGACY).await];
    let slow = gateway.modern().bearer(slow);

    for client in &quick {
        let listed = client.ask("tools/list").send().await.result();
        assert_eq!(names(&listed), THREE, "{:?}", client.era);
        assert_eq!(listed.get("nextCursor"), None);
        assert_eq!(client.clone().asking("exposure=full").tool_names().await.len(), 5, "{:?}", client.era);
    }
    assert_eq!(slow.tool_names().await.len(), 5);
    assert_eq!(slow.clone().at("up").asking(LAZY).tool_names().await, THREE);
    let refused = slow.clone().asking("exposure=none").ask("tools/list").send().await;
    assert_eq!(refused.status, 400);
    assert_eq!(refused.error()["message"], "`exposure` in the address is `none`; it is `full` or `lazy`");
    let mut list = http::Request::get("/tools/list").body(String::new()).unwrap();
    list.headers_mut().insert("authorization", "Bearer a-token-of-sixteen".parse().unwrap());
    assert_eq!(crate::support::send(gateway.address, list).await.json()["count"], 5);
}

#[tokio::test]
async fn tools_are_found_by_their_words_however_names_and_queries_are_written() {
    let upstream = farm().await;
    let gateway = gateway(&upstream, Setup::new()).await;
    let cases: [(&str, &[&str]); 11] = [
        ("get weather", &["weather.get_forecast", "getWeatherForecast"]),
        ("WEATHER get_forec", &["weather.get_forecast", "getWeatherForecast"]),
        ("issue create", &["create-issue"]),
        ("issues creat", &["create-issue"]),
        ("new ticket", &["create-issue"]),
        ("http probe", &["HTTPProbe"]),
        ("merge pdf", &["HTTPProbe"]),
        // A word in the name weighs more than one in a description.
        ("weather", &["weather.get_forecast", "getWeatherForecast", "HTTPProbe"]),
        // Not all of the words are anywhere, so any will do.
        ("labels moon", &["list_issues"]),
        ("nothing alike", &[]),
        // Nothing of it is an operator, a column or a syntax error.
        ("\" OR name:* NEAR(", &[]),
    ];
    for client in lazy_clients(&gateway, "up").await {
        for (query, expected) in cases {
            let found = find(&client, &json!({"query": query})).await;

            assert_eq!((names(&found), &found["matched"]), (expected.to_vec(), &json!(expected.len())), "{query}");
        }
    }
}

#[tokio::test]
async fn what_is_found_says_what_it_is_and_no_query_lists_categories_and_their_tools() {
    let upstream = farm().await;
    let rules = "[[tool]]\nmatch = \"*{w,W}eather*\"\ncategory = \"sky\"\n[[tool]]\nmatch = \"*issue*\"\ncategory = \"work\"\n";
    let gateway = gateway(&upstream, Setup::new().tables(rules)).await;
    for client in lazy_clients(&gateway, "").await {
        let answer = client.call("find_tools", r#"{"query":"ticket"}"#).await;

        let ticket = json!({"name": "up.create-issue", "title": "New ticket", "description": "Opens one.", "category": "work"});
        let expected = json!({"matched": 1, "tools": [ticket]});
        assert_eq!(answer.result()["structuredContent"], expected);
        assert_eq!(serde_json::from_str::<Value>(&answer.content()).unwrap(), expected);
        assert_eq!(answer.result().get("resultType").is_some(), client.era == Era::Modern);
        let categories = json!([{"name": "sky", "tools": 2}, {"name": "work", "tools": 2}, {"name": "general", "tools": 1}]);
        assert_eq!(find(&client, &json!({"query": " "})).await, json!({"matched": 5, "tools": [], "categories": categories}));
        let sky = find(&client, &json!({"query": "", "category": "sky", "limit": 1})).await;
        assert_eq!((names(&sky), &sky["matched"]), (vec!["up.getWeatherForecast"], &json!(2)));
        assert_eq!(find(&client, &json!({"query": "weather", "category": "work"})).await["matched"], 0);
    }
    let work = gateway.modern().asking("categories=work,none");
    assert_eq!(work.tool_names().await, ["up.create-issue", "up.list_issues"]);
    let lazy_at_work = gateway.modern().asking("categories=work&exposure=lazy");
    assert_eq!(find(&lazy_at_work, &json!({"query": "weather"})).await["matched"], 0);
    assert_eq!(find(&lazy_at_work, &json!({"query": ""})).await["categories"], json!([{"name": "work", "tools": 2}]));
    // It is a view, not a permission.
    for client in [work, lazy_at_work] {
        assert_eq!(client.call("up.HTTPProbe", r#"{"x":1}"#).await.result()["structuredContent"], json!({"x": 1}));
    }
}

#[tokio::test]
async fn a_client_of_a_revision_without_structured_content_gets_text_alone() {
    let upstream = farm().await;
    let gateway = gateway(&upstream, Setup::new()).await;
    for (revision, is_structured) in [("2025-03-26", false), ("2025-06-18", true)] {
        let client = Mcp::legacy(gateway.address).asking(LAZY).open(revision).await;

        let answer = client.call("find_tools", r#"{"query":"probe"}"#).await;

        assert!(answer.content().contains("up.HTTPProbe"), "{revision}");
        assert_eq!(answer.result().get("structuredContent").is_some(), is_structured, "{revision}");
    }
}

#[tokio::test]
async fn a_tool_is_described_as_the_whole_list_has_it_and_an_unknown_name_by_those_near_it() {
    let definition =
        r#"{"x-unknown":1.50,"name":"odd","inputSchema":{"type":"object","b":1,"a":12345678901234567890123},"title":"\u00e9"}"#;
    let upstream = Scripted::start(Script::new(Serves::Both).defined("odd", definition, Act::Echo)).await;
    let gateway = gateway(&upstream, Setup::new()).await;
    let unknown = json!([{"name": "odd", "near": ["up.odd"]}, {"name": "completely else", "near": []}]);
    for client in lazy_clients(&gateway, "").await {
        let answer = client.call("describe_tools", r#"{"names":["odd","up.odd","completely else"]}"#).await;

        let whole = definition.replace("\"odd\"", "\"up.odd\"");
        assert!(answer.text().contains(&format!(r#""structuredContent":{{"tools":[{whole}],"#)), "{}", answer.text());
        assert!(answer.content().starts_with(&format!(r#"{{"tools":[{whole}],"#)), "{}", answer.content());
        assert_eq!(answer.result()["structuredContent"]["unknown"], unknown);
    }
}

#[tokio::test]
async fn arguments_that_cannot_be_taken_are_explained_to_the_model() {
    let upstream = farm().await;
    let gateway = gateway(&upstream, Setup::new()).await;
    let cases = [
        ("find_tools", r#"{"query":7}"#, "find_tools: invalid type: integer `7`, expected a string"),
        ("find_tools", r#"{"query":"x","limit":51}"#, "find_tools: limit is not between 1 and 50"),
        ("describe_tools", r#"{"names":[]}"#, "describe_tools: names are not between 1 and 20"),
        (
            "call_tool",
            r#"{"name":"up.HTTPProbe","city":"Oslo"}"#,
            "call_tool: unknown field `city`, expected `name` or `arguments`",
        ),
        ("call_tool", r#"{"name":"a","n\u0061me":"up.HTTPProbe"}"#, "call_tool: duplicate field `name`"),
    ];
    for client in lazy_clients(&gateway, "").await {
        for (tool, arguments, expected) in cases {
            let answer = client.call(tool, arguments).await;

            assert_eq!((answer.content(), &answer.result()["isError"]), (expected.to_owned(), &json!(true)));
        }
    }
    assert!(upstream.calls().is_empty());
}

/// What the server got of a call, without what differs between two calls.
fn got(upstream: &Scripted) -> (Value, String) {
    let seen = upstream.calls().pop().unwrap();
    let mut params = seen.json()["params"].take();
    params["_meta"].as_object_mut().map(|meta| meta.remove("traceparent"));
    (params, seen.arguments())
}

#[tokio::test]
async fn a_call_within_a_call_is_the_call_itself() {
    let mirrored =
        r#"{"name":"mirrored","inputSchema":{"type":"object","properties":{"city":{"type":"string","x-mcp-header":"City"}}}}"#;
    let script = Script::new(Serves::Both)
        .tool("echo", Act::Echo)
        .tool("fails", Act::Error(r#"{"code":-32050,"message":"no","data":{"x":1e3}}"#.into()))
        .tool("steps", Act::Progress(2))
        .tool("holds", Act::Hold)
        .defined("mirrored", mirrored, Act::Echo);
    let upstream = Scripted::start(script).await;
    let rules = "[[tool]]\nmatch = \"up.holds\"\ntimeout = \"100ms\"\n";
    let gateway = gateway(&upstream, Setup::new().tables(rules)).await;
    let arguments = r#"{ "z":1.50,"a":{"b":1,"b":2},"n":12345678901234567890123}"#;
    for client in lazy_clients(&gateway, "").await {
        let within =
            |name: &str, arguments: &str| client.tool("call_tool", &format!(r#"{{"arguments":{arguments},"name":"up.{name}"}}"#));
        let meta = r#""x-vendor":{"a":1.50},"twinway/explain":true"#;

        let direct = client.tool("up.echo", arguments).meta(meta).send().await.result();
        let got_directly = got(&upstream);
        let answer = within("echo", arguments).meta(meta).send().await.result();

        assert_eq!(got(&upstream), got_directly, "{:?}", client.era);
        assert_eq!(got_directly.1, arguments);
        assert_eq!(answer["structuredContent"], direct["structuredContent"]);
        assert_eq!(answer["_meta"]["twinway/explain"]["target"], "up");
        assert_eq!(within("fails", "{}").send().await.error(), client.call("up.fails", "{}").await.error());
        assert_eq!(within("nobody", "{}").send().await.error(), client.call("up.nobody", "{}").await.error());
        assert_eq!(within("echo", "7").send().await.error(), client.call("up.echo", "7").await.error());
        assert_eq!(within("holds", "{}").send().await.error()["data"]["code"], "deadline_exceeded");
        let progress = within("steps", "{}").meta(r#""progressToken":"mine""#).send().await.messages();
        let tokens: Vec<_> = progress.iter().filter_map(|message| message["params"]["progressToken"].as_str()).collect();
        assert_eq!(tokens, ["mine", "mine"], "{progress:?}");
        // Only the headers of a direct call mirror its arguments; the server is sent them in either case.
        within("mirrored", r#"{"city":"Oslo"}"#).send().await.result();
        let seen = upstream.calls().pop().unwrap();
        assert_eq!(seen.header("mcp-param-city"), if client.era == Era::Modern { "Oslo" } else { "" });
    }
    let direct = gateway.modern().asking(LAZY).call("up.mirrored", r#"{"city":"Oslo"}"#).await;
    assert_eq!((direct.status.as_u16(), &direct.error()["code"]), (400, &json!(-32020)));
}

#[tokio::test]
async fn the_three_go_before_tools_of_the_same_name_for_lazy_clients_alone() {
    let script = THREE.iter().fold(Script::new(Serves::Both), |script, name| script.tool(name, Act::Echo));
    let upstream = Scripted::start(script).await;
    let gateway = gateway(&upstream, Setup::new()).await;
    for client in lazy_clients(&gateway, "up").await {
        assert_eq!(find(&client, &json!({"query": "find"})).await["matched"], 1);
        for name in THREE {
            let call = client.call("call_tool", &format!(r#"{{"name":"{name}","arguments":{{"query":7}}}}"#)).await;
            assert_eq!(call.result()["structuredContent"], json!({"query": 7}), "{name}");
        }
    }
    let full = gateway.modern().at("up");
    assert_eq!(full.call("find_tools", r#"{"query":7}"#).await.result()["structuredContent"], json!({"query": 7}));
}

#[tokio::test]
async fn a_catalogue_that_changed_is_searched_anew_and_a_lazy_client_is_told_of_no_change_of_tools() {
    let upstream = Scripted::start(Script::new(Serves::Both).tool("one", Act::Echo)).await;
    let gateway = Gateway::start(Setup::new().upstream_with("up", upstream.url(), "refresh = \"50ms\"")).await;
    gateway.target_is("up", "ready").await;
    let [modern, legacy] = lazy_clients(&gateway, "").await;
    let listen = modern.ask("subscriptions/listen").params(r#""notifications":{"toolsListChanged":true}"#);
    let mut told_modern = listen.open().await;
    let honoured = told_modern.event().await.unwrap()["params"]["notifications"].clone();
    let mut stream = legacy.head(Method::GET, String::new());
    stream.headers_mut().insert("accept", "text/event-stream".parse().unwrap());
    let mut told_legacy = open(gateway.address, stream).await;
    gateway.metric_reaches("twinway_listening", &[], 2.0).await;
    for client in [&modern, &legacy] {
        assert_eq!(find(client, &json!({"query": "two"})).await["matched"], 0);
    }

    upstream.becomes(Script::new(Serves::Both).tool("two", Act::Echo));

    for client in [&modern, &legacy] {
        until("the new tool to be found", || async {
            (names(&find(client, &json!({"query": "two"})).await) == ["up.two"]).then_some(())
        })
        .await;
        assert_eq!(find(client, &json!({"query": "one"})).await["matched"], 0);
    }
    gateway.program.terminate();
    assert_eq!(honoured, json!({}));
    // Had they been told of the change, that would be here.
    assert!(told_modern.event().await.unwrap().get("result").is_some());
    assert_eq!(told_legacy.event().await, None);
}

#[tokio::test]
async fn old_clients_over_sse_and_desktop_clients_over_stdio_can_be_lazy() {
    let test = async {
        let upstream = farm().await;
        let gateway = gateway(&upstream, Setup::new().http("exposure = \"lazy\"")).await;
        let config = gateway.folder.path().join("twinway.toml");
        let program = json!([env!("CARGO_BIN_EXE_twinway"), "serve", "--stdio", "--config", config]).to_string();
        let sse = format!("http://{}/sse/up?exposure=lazy", gateway.address);
        let calls = |name: &str| format!(r#"tool|call_tool|{{"name":"{name}","arguments":{{"x":1}}}}"#);
        let clients = [
            (vec!["--url", &sse, "--transport", "sse", "--era", "legacy"], "HTTPProbe"),
            (vec!["--stdio", &program, "--era", "legacy"], "up.HTTPProbe"),
            (vec!["--stdio", &program, "--era", "modern"], "up.HTTPProbe"),
        ];
        for (arguments, name) in clients {
            let found = r#"tool|find_tools|{"query":"probe"}"#;
            let events = all(asked_client(&[&arguments[..], &["lists", found, &calls(name)]].concat())?).await;

            let results: Vec<_> = events.iter().filter_map(|event| event.get("result")).collect();
            assert_eq!(results[0]["tools"], json!(THREE), "{arguments:?}");
            assert_eq!(results[1]["structuredContent"]["tools"][0]["name"], name, "{arguments:?}");
            assert_eq!(results[2]["structuredContent"], json!({"x": 1}), "{arguments:?}");
        }
        Ok::<_, String>(())
    };
    if let Err(reason) = test.await {
        skip("lazy::old_clients_over_sse_and_desktop_clients_over_stdio_can_be_lazy", &reason);
    }
}

/// Everything that a client says until it has done all.
async fn all(mut client: Program) -> Vec<Value> {
    let events = client.events().await;
    assert!(events.iter().all(|event| event.get("error").is_none()), "{events:?}\n{}", client.log());
    events
}

#[tokio::test]
async fn what_a_server_asks_in_a_call_within_a_call_is_answered_in_each_of_the_four_cells() {
    let test = async {
        let eras = ["legacy", "modern"];
        let ((_old, old_url), (_new, new_url)) = tokio::try_join!(asking_server("legacy"), asking_server("modern"))?;
        let gateway = Gateway::start(Setup::new().upstream("legacy", &old_url).upstream("modern", &new_url)).await;
        for (client, server) in eras.into_iter().flat_map(|client| eras.map(|server| (client, server))) {
            gateway.target_is(server, "ready").await;
            let url = format!("http://{}/mcp?exposure=lazy", gateway.address);
            let [form, all_three] = ["form", "all"].map(|tool| format!(r#"tool|call_tool|{{"name":"{server}.{tool}"}}"#));

            let events = all(asked_client(&["--url", &url, "--era", client, &form, &all_three])?).await;

            let results: Vec<Value> = events
                .iter()
                .filter_map(|event| event["result"]["content"][0]["text"].as_str())
                .map(|text| serde_json::from_str(text).unwrap())
                .collect();
            let cell = format!("{client} client, {server} server: {events:?}");
            let who = json!({"action": "accept", "content": {"name": "Grace", "age": 85}});
            assert_eq!(results[0], json!({"who": who}), "{cell}");
            assert_eq!((&results[1]["who"], &results[1]["where"]["roots"][0]["name"]), (&who, &json!("attic")), "{cell}");
        }
        assert_eq!(gateway.metric("twinway_parked_calls", &[]).await, 0.0);
        Ok::<_, String>(())
    };
    if let Err(reason) = test.await {
        skip("lazy::what_a_server_asks_in_a_call_within_a_call_is_answered_in_each_of_the_four_cells", &reason);
    }
}

#[tokio::test]
async fn a_parked_call_within_a_call_goes_on_for_the_same_call_within_a_call_only() {
    let test = async {
        let (_server, url) = asking_server("legacy").await?;
        let gateway = Gateway::start(Setup::new().upstream("up", &url)).await;
        gateway.target_is("up", "ready").await;
        let client = gateway.modern().asking(LAZY);
        let call = |arguments: &str, members: &str| {
            let within = format!(r#""name":"call_tool","arguments":{arguments}{members}"#);
            client.tool("call_tool", "{}").params(&within).declares(r#"{"elicitation":{}}"#)
        };
        let asked = call(r#"{"name":"up.form"}"#, "").send().await.result();
        let retry = |state: &Value| {
            let grace = r#"{"elicitation":{"action":"accept","content":{"name":"Grace"}}}"#;
            format!(r#","requestState":{state},"inputResponses":{grace}"#)
        };
        let state = &asked["requestState"];

        let other: Answer = call(r#"{"name":"up.roots"}"#, &retry(state)).send().await;
        let same = call(r#"{"arguments":null,"name":"up.form"}"#, &retry(state)).send().await;

        assert_eq!(asked["inputRequests"]["elicitation"]["method"], "elicitation/create");
        assert_eq!(other.error()["code"], -32602);
        assert_eq!(same.content(), r#"{"who": {"action": "accept", "content": {"name": "Grace"}}}"#);
        Ok::<_, String>(())
    };
    if let Err(reason) = test.await {
        skip("lazy::a_parked_call_within_a_call_goes_on_for_the_same_call_within_a_call_only", &reason);
    }
}

#[tokio::test]
async fn the_python_client_of_each_era_finds_describes_and_calls() {
    let test = async {
        let (_server, url) = python_server(&["--tools", "120"]).await?;
        let gateway = Gateway::start(Setup::new().upstream("py", &url)).await;
        gateway.target_is("py", "ready").await;
        let url = format!("http://{}/mcp?exposure=lazy", gateway.address);
        for era in ["legacy", "modern", "pinned"] {
            let client = |arguments: &[&str]| python_client(&[&[&url, "--era", era], arguments].concat());
            let listed = client(&["list"])?.event_with("tools").await;
            let call = async |name, arguments| Ok::<_, String>(client(&["call", name, arguments])?.event_with("result").await);

            let found = call("find_tools", r#"{"query":"echo","limit":1}"#).await?;
            let described = call("describe_tools", r#"{"names":["py.echo"]}"#).await?;
            let called = call("call_tool", r#"{"name":"py.echo","arguments":{"text":"hello"}}"#).await?;

            assert_eq!(names(&json!({"tools": listed})), THREE, "{era}");
            assert_eq!(names(&found["structuredContent"]), ["py.echo"], "{era}");
            assert_eq!(described["structuredContent"]["tools"][0]["inputSchema"]["required"], json!(["text"]), "{era}");
            assert_eq!(called["content"][0]["text"], "hello", "{era}");
        }
        Ok::<_, String>(())
    };
    if let Err(reason) = test.await {
        skip("lazy::the_python_client_of_each_era_finds_describes_and_calls", &reason);
    }
}
