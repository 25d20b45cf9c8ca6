//! Clients and servers of either era, and everything of MCP between them: the Python SDK on both sides, each side in one era.

use serde_json::{Value, json};

use crate::support::{
    Act, Answer, Ask, Gateway, Mcp, Program, Script, Scripted, Serves, Setup, asked_client, asking_server, everything, open,
    skip, until,
};

/// A gateway before a server that knows no `server/discover`, and one that knows no `initialize`.
struct Farm {
    gateway: Gateway,
    _servers: [Program; 2],
}

const ERAS: [&str; 2] = ["legacy", "modern"];

impl Farm {
    async fn start() -> Result<Self, String> {
        Self::start_with(Setup::new()).await
    }

    async fn start_with(setup: Setup) -> Result<Self, String> {
        let ((old, old_url), (new, new_url)) = tokio::try_join!(asking_server("legacy"), asking_server("modern"))?;
        let gateway = Gateway::start(setup.upstream("legacy", &old_url).upstream("modern", &new_url)).await;
        for server in ERAS {
            gateway.target_is(server, "ready").await;
        }
        Ok(Self { gateway, _servers: [old, new] })
    }

    /// The official client of that era before the server of that era, doing these things.
    fn client(&self, client: &str, server: &str, more: &[&str]) -> Result<Program, String> {
        let url = format!("http://{}/mcp/{server}", self.gateway.address);
        asked_client(&[&["--url", &url, "--era", client], more].concat())
    }
}

/// Everything that a client says until it has done as many things.
async fn all(mut client: Program) -> Vec<Value> {
    let events = client.events().await;
    assert!(events.iter().all(|event| event.get("error").is_none()), "{events:?}\n{}", client.log());
    events
}

/// What the person, the model and the client itself answer in the tests: nothing of it is a default anywhere.
fn answers() -> Value {
    json!({
        "who": {"action": "accept", "content": {"name": "Grace", "age": 85}},
        "answer": {"role": "assistant", "content": {"type": "text", "text": "forty-two"}, "model": "a-person"},
        "where": {"roots": [{"uri": "file:///srv/attic", "name": "attic"}]},
    })
}

fn told(event: &Value) -> Value {
    serde_json::from_str(event["result"]["content"][0]["text"].as_str().unwrap()).unwrap()
}

#[tokio::test]
async fn what_a_server_asks_reaches_the_client_and_its_answer_the_server_in_each_of_the_four_cells() {
    let test = async {
        let farm = Farm::start().await?;
        for (client, server) in ERAS.into_iter().flat_map(|client| ERAS.map(|server| (client, server))) {
            let events = all(farm.client(client, server, &["tool|form", "tool|model", "tool|roots", "tool|all"])?).await;

            let asked: Vec<_> = events.iter().filter_map(|event| event["asked"].as_str()).collect();
            let each = ["elicitation/create", "sampling/createMessage", "roots/list"];
            assert_eq!(asked[..3], each, "{client} client, {server} server");
            let mut together = asked[3..].to_vec();
            together.sort_unstable();
            let mut expected = each;
            expected.sort_unstable();
            assert_eq!(together, expected, "{client} client, {server} server");
            assert!(events.iter().any(|event| event["message"] == "Who are you?"));
            assert!(events.iter().any(|event| event["text"] == "What is the answer?"));
            let results: Vec<_> = events.iter().filter(|event| event.get("result").is_some()).map(told).collect();
            assert_eq!(results.len(), 4, "{events:?}");
            for (result, key) in results.iter().zip(["who", "answer", "where"]) {
                assert_eq!(*result, json!({ key: answers()[key] }), "{client} client, {server} server");
            }
            assert_eq!(results[3], answers(), "{client} client, {server} server");
        }
        assert_eq!(farm.gateway.metric("twinway_parked_calls", &[]).await, 0.0);
        Ok::<_, String>(())
    };
    if let Err(reason) = test.await {
        skip("bridge::what_a_server_asks_reaches_the_client_and_its_answer_the_server_in_each_of_the_four_cells", &reason);
    }
}

#[tokio::test]
async fn prompts_resources_templates_and_completions_are_there_in_each_of_the_four_cells() {
    let test = async {
        let farm = Farm::start().await?;
        let commands = [
            "lists",
            "prompt|greet|Bo",
            "read|asking://one",
            "read|asking://numbered/7",
            "read|asking://hidden/9",
            "complete|greet|x",
            "template|asking://numbered/{n}|7",
            "read|nope://1",
        ];
        for (client, server) in ERAS.into_iter().flat_map(|client| ERAS.map(|server| (client, server))) {
            let events = all(farm.client(client, server, &commands)?).await;

            let cell = format!("{client} client, {server} server");
            let results: Vec<_> = events.iter().filter_map(|event| event.get("result")).collect();
            assert_eq!(results[0]["prompts"], json!(["greet"]), "{cell}");
            assert_eq!(results[0]["resources"], json!(["asking://one"]), "{cell}");
            assert_eq!(results[0]["templates"], json!(["asking://numbered/{n}"]), "{cell}");
            assert_eq!(results[1]["messages"][0]["content"]["text"], "Say hello to Bo", "{cell}");
            for (result, uri) in results[2..].iter().zip(["asking://one", "asking://numbered/7", "asking://hidden/9"]) {
                assert_eq!(result["contents"], json!([{"uri": uri, "text": format!("text of {uri}")}]), "{cell}");
            }
            assert_eq!(results[5]["completion"]["values"], json!(["greet: x!"]), "{cell}");
            assert_eq!(results[6]["completion"]["values"], json!(["asking://numbered/{n}: 7!"]), "{cell}");
            let refused = events.iter().find_map(|event| event.get("refused")).unwrap();
            let code = if client == "legacy" { -32002 } else { -32602 };
            assert_eq!((&refused["code"], &refused["data"]["uri"]), (&json!(code), &json!("nope://1")), "{cell}");
        }
        Ok::<_, String>(())
    };
    if let Err(reason) = test.await {
        skip("bridge::prompts_resources_templates_and_completions_are_there_in_each_of_the_four_cells", &reason);
    }
}

#[tokio::test]
async fn a_client_gets_the_log_lines_of_its_level_and_above_and_without_a_level_those_of_its_era() {
    let test = async {
        let farm = Farm::start().await?;
        for (client, server) in ERAS.into_iter().flat_map(|client| ERAS.map(|server| (client, server))) {
            let levels = async |more: &[&str]| {
                let events = all(farm.client(client, server, &[more, &["tool|note"]].concat())?).await;
                let levels = events.iter().filter_map(|event| event["logged"]["level"].as_str().map(str::to_owned));
                Ok::<_, String>(levels.collect::<Vec<_>>())
            };

            let from_info = levels(&["--log-level", "info"]).await?;
            let from_error = levels(&["--log-level", "error"]).await?;
            let unsaid = levels(&[]).await?;

            let cell = format!("{client} client, {server} server");
            assert_eq!((from_info, from_error), (vec!["info".to_owned(), "error".into()], vec!["error".to_owned()]), "{cell}");
            // A modern server sends nothing that was not asked for, and a modern client is sent nothing.
            let expected: &[&str] = if (client, server) == ("legacy", "legacy") { &["debug", "info", "error"] } else { &[] };
            assert_eq!(unsaid, expected, "{cell}");
        }
        Ok::<_, String>(())
    };
    if let Err(reason) = test.await {
        skip("bridge::a_client_gets_the_log_lines_of_its_level_and_above_and_without_a_level_those_of_its_era", &reason);
    }
}

#[tokio::test]
async fn old_clients_over_sse_and_desktop_clients_over_stdio_get_the_same() {
    let test = async {
        let farm = Farm::start().await?;
        let commands = ["tool|all", "prompt|greet|Bo", "read|asking://one"];
        let config = farm.gateway.folder.path().join("twinway.toml");
        let program = json!([env!("CARGO_BIN_EXE_twinway"), "serve", "--stdio", "--config", config]).to_string();
        let base = format!("http://{}", farm.gateway.address);
        for server in ERAS {
            let sse = format!("{base}/sse/{server}");
            let sse =
                all(asked_client(&[&["--url", &sse, "--transport", "sse", "--era", "legacy"][..], &commands].concat())?).await;
            let merged = [&format!("tool|{server}.all"), &format!("prompt|{server}.greet|Bo"), "read|asking://one"];
            for era in ERAS {
                let stdio = all(asked_client(&[&["--stdio", &program, "--era", era][..], &merged].concat())?).await;
                for events in [&sse, &stdio] {
                    let results: Vec<_> = events.iter().filter(|event| event.get("result").is_some()).collect();
                    assert_eq!(told(results[0]), answers(), "{server} server: {events:?}");
                    assert_eq!(results[1]["result"]["messages"][0]["content"]["text"], "Say hello to Bo");
                    assert_eq!(results[2]["result"]["contents"][0]["text"], "text of asking://one");
                }
            }
        }
        Ok::<_, String>(())
    };
    if let Err(reason) = test.await {
        skip("bridge::old_clients_over_sse_and_desktop_clients_over_stdio_get_the_same", &reason);
    }
}

/// What happened of each kind while a client called `door` and then `gate`, which send a person to a URL.
struct Sent {
    events: Vec<Value>,
}

impl Sent {
    /// The URL carries the name of the ticket, and each cell has its own.
    async fn by(farm: &Farm, (client, server): (&str, &str), options: &[&str], insists: bool) -> Result<Self, String> {
        let call = |tool: &str| {
            let ticket = format!("{tool} é & of {client} before {server} {options:?} {insists}");
            format!("tool|{tool}|{}", json!({"ticket": ticket, "insists": insists}))
        };
        let commands = [&call("door")[..], &call("gate")];
        Ok(Self { events: all(farm.client(client, server, &[options, &commands[..]].concat())?).await })
    }

    fn all(&self, member: &str) -> Vec<&Value> {
        self.events.iter().filter_map(|event| event.get(member)).collect()
    }

    fn told(&self) -> Vec<Value> {
        self.events.iter().filter(|event| event.get("result").is_some()).map(told).collect()
    }
}

#[tokio::test]
async fn a_person_who_is_sent_to_a_url_gets_there_and_the_call_goes_on_in_each_of_the_four_cells() {
    let test = async {
        let farm = Farm::start().await?;
        for cell in ERAS.into_iter().flat_map(|client| ERAS.map(|server| (client, server))) {
            let sent = Sent::by(&farm, cell, &[], false).await?;

            // The page knows its own address to the letter, and refuses any other.
            assert_eq!(sent.all("visited"), [204, 204], "{cell:?}: {:?}", sent.events);
            let door = json!({"visitor": "Grace", "action": "accept"});
            // A gate of the legacy era refuses its call, and asks nothing.
            let gate = if cell.1 == "legacy" { json!({"visitor": "Grace"}) } else { door.clone() };
            assert_eq!(sent.told(), [door, gate], "{cell:?}");
            let refused: Vec<_> = sent.all("refused").iter().map(|refused| refused["code"].clone()).collect();
            let is_plain = cell == ("legacy", "legacy");
            assert_eq!(refused, if is_plain { vec![json!(-32042)] } else { vec![] }, "{cell:?}");
            assert_eq!(sent.all("message"), vec!["Sign in to go on"; if is_plain { 1 } else { 2 }], "{cell:?}");
            let ids = sent.all("id");
            match cell {
                // The one that the server gave, which also says so when it is done.
                ("legacy", "legacy") => {
                    assert_eq!(sent.all("completed"), ids, "{cell:?}");
                    assert!(ids[0].as_str().unwrap().starts_with("\"door é & of legacy before legacy"), "{ids:?}");
                    let data = &sent.all("refused")[0]["data"]["elicitations"][0];
                    assert!(data["elicitationId"].as_str().unwrap().starts_with("\"gate é & of legacy"), "{data}");
                }
                // The server gives none, and the client must have one.
                ("legacy", _) => assert!(ids[0] != ids[1] && ids.iter().all(|id| id.is_string()), "{ids:?}"),
                _ => assert_eq!((ids, sent.all("completed").len()), (vec![&Value::Null; 2], 0), "{cell:?}"),
            }
        }
        assert_eq!(farm.gateway.metric("twinway_parked_calls", &[]).await, 0.0);
        Ok::<_, String>(())
    };
    if let Err(reason) = test.await {
        skip("bridge::a_person_who_is_sent_to_a_url_gets_there_and_the_call_goes_on_in_each_of_the_four_cells", &reason);
    }
}

#[tokio::test]
async fn a_person_who_does_not_go_to_a_url_is_asked_once_and_the_server_is_told() {
    let test = async {
        let farm = Farm::start().await?;
        let declined = json!({"visitor": null, "action": "decline"});
        for cell in ERAS.into_iter().flat_map(|client| ERAS.map(|server| (client, server))) {
            let sent = Sent::by(&farm, cell, &["--declines"], false).await?;

            let results = sent.all("result");
            assert_eq!(told(&json!({ "result": results[0] })), declined, "{cell:?}");
            match cell {
                ("legacy", "legacy") => assert_eq!(sent.all("refused")[0]["code"], -32042),
                // There is no way to tell a server that refuses a call, which says why it does.
                ("modern", "legacy") => {
                    assert_eq!((&results[1]["isError"], sent.all("asked").len()), (&json!(true), 2), "{:?}", sent.events);
                    assert_eq!(results[1]["content"][0]["text"], "URL elicitation required");
                }
                _ => assert_eq!(told(&json!({ "result": results[1] })), declined, "{cell:?}"),
            }
            assert!(sent.all("visited").is_empty(), "{cell:?}");
        }
        Ok::<_, String>(())
    };
    if let Err(reason) = test.await {
        skip("bridge::a_person_who_does_not_go_to_a_url_is_asked_once_and_the_server_is_told", &reason);
    }
}

#[tokio::test]
async fn a_client_that_takes_forms_only_is_sent_to_no_url_and_each_side_is_told_why_in_its_own_way() {
    let test = async {
        let farm = Farm::start().await?;
        let needs_urls = json!({"requiredCapabilities": {"elicitation": {"url": {}}}});
        for cell in ERAS.into_iter().flat_map(|client| ERAS.map(|server| (client, server))) {
            let kind = format!("{cell:?}");
            let minds = Sent::by(&farm, cell, &["--form-only"], false).await?;
            let insists = Sent::by(&farm, cell, &["--form-only"], true).await?;
            let codes = |sent: &Sent| -> Vec<Value> { sent.all("refused").iter().map(|one| one["code"].clone()).collect() };

            // A server that looks at what was declared sees that there are forms only.
            match cell {
                (_, "legacy") => assert_eq!(codes(&minds), [-32600, -32600], "{kind}"),
                ("modern", _) => {
                    assert_eq!(codes(&minds), [-32021, -32021], "{kind}");
                    assert_eq!(minds.all("refused")[0]["data"], needs_urls);
                }
                _ => {
                    let errors: Vec<_> = minds.all("result").iter().map(|result| result["isError"].clone()).collect();
                    assert_eq!(errors, [true, true], "{kind}");
                }
            }
            assert!(minds.all("asked").is_empty() && minds.all("visited").is_empty(), "{kind}: {:?}", minds.events);
            // One that asks all the same is refused as a client refuses it (2025-11-25, elicitation: error handling).
            let refused = json!({"visitor": null, "refused": -32602});
            match cell {
                ("modern", "legacy") => {
                    assert_eq!((insists.told(), codes(&insists)), (vec![refused], vec![json!(-32021)]), "{:?}", insists.events);
                    assert_eq!(insists.all("refused")[0]["data"], needs_urls);
                }
                ("legacy", "legacy") => assert_eq!((&insists.told()[0], codes(&insists)), (&refused, vec![json!(-32042)])),
                ("legacy", _) => assert_eq!(codes(&insists), [-32603, -32603]),
                // What a modern server asks of a modern client is between the two.
                _ => continue,
            }
            assert!(insists.all("asked").is_empty(), "{kind}: {:?}", insists.events);
        }
        Ok::<_, String>(())
    };
    if let Err(reason) = test.await {
        skip("bridge::a_client_that_takes_forms_only_is_sent_to_no_url_and_each_side_is_told_why_in_its_own_way", &reason);
    }
}

/// A call of a tool that asks, by a client that says it takes forms.
fn form<'a>(client: &'a Mcp, members: &str) -> Ask<'a> {
    let ask = client.tool("form", "{}").params(&format!(r#""name":"form","arguments":{{"x":1}}{members}"#));
    ask.declares(r#"{"elicitation":{}}"#)
}

fn retry(state: &Value, responses: &str) -> String {
    format!(r#","requestState":{state},"inputResponses":{responses}"#)
}

const GRACE: &str = r#"{"elicitation":{"action":"accept","content":{"name":"Grace"}}}"#;

#[tokio::test]
async fn a_parked_call_goes_on_once_for_the_same_call_of_the_same_client_and_asks_again_for_what_is_missing() {
    let test = async {
        let (alice, bob) = ("a-token-of-sixteen", "b-token-of-sixteen");
        let farm = Farm::start_with(Setup::new().client("alice", alice).client("bob", bob)).await?;
        let client = Mcp::modern(farm.gateway.address).at("legacy").bearer(alice);
        let stranger = Mcp::modern(farm.gateway.address).at("legacy").bearer(bob);
        let asked = form(&client, "").send().await.result();
        assert_eq!(
            (&asked["resultType"], &asked["inputRequests"]["elicitation"]["method"]),
            (&json!("input_required"), &json!("elicitation/create"))
        );
        let state = &asked["requestState"];
        let refused = |answer: Answer| answer.error()["code"] == -32602;

        assert!(refused(form(&stranger, &retry(state, GRACE)).send().await), "another principal");
        let other = client.tool("roots", "{}").params(&format!(r#""name":"roots"{}"#, retry(state, GRACE)));
        assert!(refused(other.send().await), "another call");
        let other = format!(r#""name":"form","arguments":{{"x":2}}{}"#, retry(state, GRACE));
        let other = client.tool("form", "{}").params(&other).declares(r#"{"elicitation":{}}"#);
        assert!(refused(other.send().await), "other arguments");
        let forged = json!(state.as_str().unwrap().replace(|c: char| c.is_ascii_digit(), "_"));
        assert!(refused(form(&client, &retry(&forged, GRACE)).send().await), "a state that was changed");
        let again = form(&client, &retry(state, r#"{"other":{"action":"accept"}}"#)).send().await.result();
        assert_eq!(again["inputRequests"], asked["inputRequests"]);
        assert!(refused(form(&client, &retry(state, GRACE)).send().await), "it was used");
        let done = form(&client, &retry(&again["requestState"], GRACE)).send().await;

        assert_eq!(done.content(), r#"{"who": {"action": "accept", "content": {"name": "Grace"}}}"#);
        assert!(refused(form(&client, &retry(&again["requestState"], GRACE)).send().await), "it was used");
        assert_eq!(farm.gateway.metric("twinway_parked_calls", &[]).await, 0.0);
        Ok::<_, String>(())
    };
    if let Err(reason) = test.await {
        skip(
            "bridge::a_parked_call_goes_on_once_for_the_same_call_of_the_same_client_and_asks_again_for_what_is_missing",
            &reason,
        );
    }
}

#[tokio::test]
async fn a_hundred_calls_of_one_principal_wait_for_input_and_those_of_another_have_room_all_the_same() {
    let upstream = Scripted::start(Script::new(Serves::Legacy).tool("form", Act::Asks)).await;
    let (alice, bob) = ("a-token-of-sixteen", "b-token-of-sixteen");
    // Its server is told that nobody can be asked, and goes on waiting.
    let setup = Setup::new().tables("[[tool]]\nmatch = \"legacy.form\"\ntimeout = \"1s\"");
    let setup = setup.client("alice", alice).client("bob", bob);
    let gateway = Gateway::start(setup.upstream_with("legacy", upstream.url(), "concurrency = 200")).await;
    gateway.target_is("legacy", "ready").await;
    let client = Mcp::modern(gateway.address).at("legacy").bearer(alice);
    for place in 1..=100 {
        let asked = form(&client, "").send().await.text();
        assert!(asked.contains("input_required"), "{place}: {asked}");
    }

    let one_more = form(&client, "").send().await.text();
    let of_another = form(&Mcp::modern(gateway.address).at("legacy").bearer(bob), "").send().await.text();

    assert!(one_more.contains("deadline_exceeded"), "{one_more}");
    assert_eq!(gateway.metric("twinway_requests_refused_total", &[r#"reason="parked_full""#]).await, 1.0);
    assert!(of_another.contains("input_required"), "{of_another}");
    assert_eq!(gateway.metric("twinway_parked_calls", &[]).await, 101.0);
}

#[tokio::test]
async fn a_client_that_never_answers_has_withdrawn_its_call_in_either_era() {
    let upstream = Scripted::start(Script::new(Serves::Legacy).tool("form", Act::Asks)).await;
    let setup = Setup::new().http("input_timeout = \"300ms\"").tables("[[tool]]\nmatch = \"legacy.form\"\ntimeout = \"1s\"");
    let gateway = Gateway::start(setup.upstream("legacy", upstream.url())).await;
    gateway.target_is("legacy", "ready").await;
    let modern = gateway.modern().at("legacy");
    let legacy = Mcp::legacy(gateway.address).at("legacy").declares(r#"{"elicitation":{}}"#).open("2025-11-25").await;

    let asked = form(&modern, "").send().await.result();
    let withdrawn = upstream.wait_for("the end of the call", |seen| seen.method == "tools/call" && seen.abandoned).await;
    until("no parked call", || async { (gateway.metric("twinway_parked_calls", &[]).await == 0.0).then_some(()) }).await;
    let late = form(&modern, &retry(&asked["requestState"], GRACE)).send().await;
    let unanswered = legacy.call("form", "{}").await;
    let told = upstream.wait_for("that there is no answer", |seen| seen.body.contains(r#""id":"q""#)).await;

    assert_eq!(asked["resultType"], "input_required");
    assert_eq!(withdrawn.tool, "form");
    assert_eq!(late.error()["code"], -32602, "{}", late.text());
    assert_eq!(upstream.calls().len(), 2, "the late one did not go upstream");
    assert_eq!(told.json()["error"]["code"], -32603, "{}", told.body);
    assert!(unanswered.text().contains("deadline_exceeded"), "{}", unanswered.text());
}

#[tokio::test]
async fn a_client_that_declares_nothing_is_asked_nothing() {
    let test = async {
        let farm = Farm::start().await?;
        for server in ERAS {
            for client in [farm.gateway.modern().at(server), farm.gateway.legacy_at(server).await] {
                let answer = client.call("form", "{}").await;
                let message = answer.messages().pop().unwrap();
                let failed = message.get("error").is_some() || message["result"]["isError"] == true;
                let asked = message["result"]["resultType"] == "input_required";
                // A modern client of a modern server is asked by the server itself, whatever it declared: that is between the two.
                assert!(failed || (asked && server == "modern"), "{server} server: {message}");
            }
        }
        Ok::<_, String>(())
    };
    if let Err(reason) = test.await {
        skip("bridge::a_client_that_declares_nothing_is_asked_nothing", &reason);
    }
}

#[tokio::test]
async fn an_update_of_a_resource_is_told_to_who_wants_to_hear_of_it_in_either_era() {
    let test = async {
        let farm = Farm::start().await?;
        let (modern, legacy) = (farm.gateway.modern(), farm.gateway.legacy().await);
        let listen = modern.ask("subscriptions/listen").id("7");
        let listen = listen.params(r#""notifications":{"resourceSubscriptions":["asking://one","nope://1"]}"#);
        let mut told_modern = listen.open().await;
        let honoured = told_modern.event().await.unwrap()["params"]["notifications"].clone();
        legacy.ask("resources/subscribe").params(r#""uri":"asking://one""#).send().await.result();
        let mut get = legacy.head(http::Method::GET, String::new());
        get.headers_mut().insert("accept", "text/event-stream".parse().unwrap());
        let mut told_legacy = open(farm.gateway.address, get).await;
        farm.gateway.metric_reaches("twinway_listening", &[], 2.0).await;

        legacy.call("legacy.touch", "{}").await.result();
        let (by_listen, in_session) = (told_modern.event().await.unwrap(), told_legacy.event().await.unwrap());

        assert_eq!(honoured["resourceSubscriptions"][0], "asking://one");
        let updated = "notifications/resources/updated";
        assert_eq!((&by_listen["method"], &by_listen["params"]["uri"]), (&json!(updated), &json!("asking://one")));
        assert_eq!(by_listen["params"]["_meta"], json!({"io.modelcontextprotocol/subscriptionId": 7}));
        assert_eq!(in_session, json!({"jsonrpc": "2.0", "method": updated, "params": {"uri": "asking://one"}}));
        Ok::<_, String>(())
    };
    if let Err(reason) = test.await {
        skip("bridge::an_update_of_a_resource_is_told_to_who_wants_to_hear_of_it_in_either_era", &reason);
    }
}

#[tokio::test]
async fn a_server_that_lists_only_what_its_client_can_do_is_seen_whole_and_asks_for_roots_on_the_stream_of_the_session() {
    let test = async {
        let (_server, url) = everything().await?;
        let gateway = Gateway::start(Setup::new().upstream("everything", &url)).await;
        gateway.target_is("everything", "ready").await;
        let names = gateway.modern().at("everything").tool_names().await;
        assert!(names.iter().any(|name| name == "trigger-sampling-request"), "{names:?}");
        let url = format!("http://{}/mcp/everything", gateway.address);
        for era in ERAS {
            let events = all(asked_client(&["--url", &url, "--era", era, "tool|get-roots-list"])?).await;

            let result = events.iter().find_map(|event| event["result"]["content"][0]["text"].as_str()).unwrap();
            assert!(result.contains("file:///srv/attic"), "{era}: {events:?}");
        }
        Ok::<_, String>(())
    };
    if let Err(reason) = test.await {
        skip(
            "bridge::a_server_that_lists_only_what_its_client_can_do_is_seen_whole_and_asks_for_roots_on_the_stream_of_the_session",
            &reason,
        );
    }
}
