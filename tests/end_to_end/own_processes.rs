//! Servers that the gateway starts for each session: whose process is whose, and when it ends.

use std::process::Command;

use http::Method;
use serde_json::{Value, json};

use crate::{
    stdio::{gone, lives, program},
    support::{
        Answer, Gateway, LATEST_LEGACY, Mcp, Open, Program, Setup, asked_client, asking_program, open, remembering_program, send,
        skip, until,
    },
};

/// A gateway with that server, a process for each session.
async fn behind(command: &[String], http: &str, lines: &str) -> Gateway {
    let table = program("up", command, &format!("share = \"session\"\n{lines}"));
    let gateway = Gateway::start(Setup::new().http(http).tables(&table)).await;
    gateway.target_is("up", "ready").await;
    gateway
}

async fn said(client: &Mcp, tool: &str, arguments: &str) -> String {
    client.call(&format!("up.{tool}"), arguments).await.content()
}

async fn remember(client: &Mcp, word: &str) {
    said(client, "remember", &format!(r#"{{"word":"{word}"}}"#)).await;
}

async fn recall(client: &Mcp) -> String {
    said(client, "recall", "{}").await
}

async fn pid(client: &Mcp) -> u64 {
    said(client, "about", "{}").await.parse().unwrap()
}

/// What a client of another make gets for these tools.
async fn told(mut client: Program) -> Vec<String> {
    let events = client.events().await;
    let results = events.iter().filter_map(|event| event["result"]["content"][0]["text"].as_str());
    let told: Vec<_> = results.map(str::to_owned).collect();
    assert!(!told.is_empty(), "{events:?}");
    told
}

/// The first answer to a call of that tool that is no error.
async fn answered(client: &Mcp, tool: &str) -> Value {
    until("an answer", || async { client.call(tool, "{}").await.messages().pop().unwrap().get("result").cloned() }).await
}

#[tokio::test]
async fn no_session_sees_what_another_has_left_in_its_process_though_nobody_has_a_token() {
    let test = async {
        let rule = "[[tool]]\nmatch = \"up.recall\"\ncache_ttl = \"1h\"";
        let gateway = behind(&remembering_program()?, "", rule).await;
        let (one, two) = (gateway.legacy().await, gateway.legacy().await);
        let (modern, other_modern) = (gateway.modern(), gateway.modern());

        remember(&one, "blue").await;
        remember(&modern, "red").await;

        assert_eq!(recall(&one).await, "blue");
        assert_eq!(recall(&two).await, "");
        assert_eq!(recall(&other_modern).await, "red", "who has no session shares with those who have none either");
        let pids = [pid(&one).await, pid(&two).await, pid(&modern).await];
        assert!(pids[0] != pids[1] && pids[0] != pids[2] && pids[1] != pids[2], "{pids:?}");
        assert_eq!(pid(&one).await, pids[0], "each call of a session has the same");
        assert_eq!(pid(&other_modern).await, pids[2]);

        let sse = format!("http://{}/sse", gateway.address);
        let arguments = ["--url", &sse, "--transport", "sse", "--era", "legacy"];
        let commands = ["tool|up.recall", "tool|up.remember|{\"word\":\"green\"}", "tool|up.about"];
        let over_sse = told(asked_client(&[&arguments[..], &commands].concat())?).await;
        assert_eq!(over_sse[..2], ["".to_owned(), "1".to_owned()], "{over_sse:?}");
        gone(over_sse[2].parse().unwrap()).await;
        assert!(lives(pids[0]));
        Ok::<_, String>(())
    };
    if let Err(reason) = test.await {
        skip("own_processes::no_session_sees_what_another_has_left_in_its_process_though_nobody_has_a_token", &reason);
    }
}

#[tokio::test]
async fn a_process_ends_with_its_session_however_that_ends_and_with_no_other() {
    let test = async {
        let command = remembering_program()?;
        for http in ["", "session_idle = \"300ms\"", "sessions_max = 2"] {
            let gateway = behind(&command, http, "").await;
            let (stays, ends) = (gateway.legacy().await, gateway.legacy().await);
            // Somebody listens in it, so that it is in use.
            let _stream = open(gateway.address, stays.head(Method::GET, String::new())).await;
            let (of_one, of_other) = (pid(&stays).await, pid(&ends).await);

            match http {
                "" => assert!(ends.end().await.status.is_success()),
                "sessions_max = 2" => drop(gateway.legacy().await),
                _ => {}
            }
            gone(of_other).await;

            assert_eq!(pid(&stays).await, of_one, "{http}");
        }
        Ok::<_, String>(())
    };
    if let Err(reason) = test.await {
        skip("own_processes::a_process_ends_with_its_session_however_that_ends_and_with_no_other", &reason);
    }
}

#[tokio::test]
async fn a_desktop_client_has_a_process_of_its_own_too_and_it_ends_with_the_conversation() {
    let test = async {
        let gateway = behind(&remembering_program()?, "", "").await;
        let config = gateway.folder.path().join("twinway.toml");
        let command = json!([env!("CARGO_BIN_EXE_twinway"), "serve", "--stdio", "--config", config]).to_string();
        let commands = ["tool|up.remember|{\"word\":\"green\"}", "tool|up.recall", "tool|up.about"];

        let told = told(asked_client(&[&["--stdio", &command, "--era", "legacy"][..], &commands].concat())?).await;

        assert_eq!(told[1], "green");
        gone(told[2].parse().unwrap()).await;
        Ok::<_, String>(())
    };
    if let Err(reason) = test.await {
        skip("own_processes::a_desktop_client_has_a_process_of_its_own_too_and_it_ends_with_the_conversation", &reason);
    }
}

#[tokio::test]
async fn a_process_that_dies_is_another_for_its_own_session_and_the_same_for_all_others() {
    let test = async {
        let gateway = behind(&remembering_program()?, "", "").await;
        let (one, two) = (gateway.legacy().await, gateway.legacy().await);
        for client in [&one, &two] {
            remember(client, "blue").await;
        }
        let (of_one, of_two) = (pid(&one).await, pid(&two).await);

        assert!(Command::new("kill").args(["-KILL", &of_one.to_string()]).status().unwrap().success());
        gone(of_one).await;

        // A call that comes before the gateway has seen the end may have been taken by the old one, and is not made again.
        let again = answered(&one, "up.recall").await;
        assert_eq!(again["content"][0]["text"], "");
        assert_ne!(pid(&one).await, of_one);
        assert_eq!((recall(&two).await.as_str(), pid(&two).await), ("blue", of_two));
        Ok::<_, String>(())
    };
    if let Err(reason) = test.await {
        skip("own_processes::a_process_that_dies_is_another_for_its_own_session_and_the_same_for_all_others", &reason);
    }
}

#[tokio::test]
async fn when_as_many_processes_run_as_may_more_is_refused_until_one_has_ended() {
    let test = async {
        let gateway = behind(&remembering_program()?, "", "processes_max = 1").await;
        let (one, two) = (gateway.legacy().await, gateway.legacy().await);
        remember(&one, "blue").await;

        let refused = two.call("up.recall", "{}").await.error();
        let still = recall(&one).await;
        one.end().await;

        assert_eq!((&refused["data"]["code"], &refused["data"]["delivery"]), (&json!("overloaded"), &json!("not_sent")));
        assert!(refused["data"]["retryAfterMs"].is_u64(), "{refused}");
        assert_eq!(still, "blue", "nothing gave way");
        // The end of the session is told to its process; the place is free when that was heard.
        assert_eq!(answered(&two, "up.recall").await["content"][0]["text"], "");
        Ok::<_, String>(())
    };
    if let Err(reason) = test.await {
        skip("own_processes::when_as_many_processes_run_as_may_more_is_refused_until_one_has_ended", &reason);
    }
}

#[tokio::test]
async fn a_process_that_nobody_calls_for_long_ends_though_its_session_goes_on() {
    let test = async {
        let gateway = behind(&remembering_program()?, "", "process_idle = \"300ms\"").await;
        let client = gateway.legacy().await;
        let first = pid(&client).await;

        gone(first).await;

        assert_ne!(pid(&client).await, first);
        Ok::<_, String>(())
    };
    if let Err(reason) = test.await {
        skip("own_processes::a_process_that_nobody_calls_for_long_ends_though_its_session_goes_on", &reason);
    }
}

async fn answer(client: &Mcp, id: &Value, name: &str) -> Answer {
    let result = json!({"action": "accept", "content": {"name": name, "age": 7}});
    let body = json!({"jsonrpc": "2.0", "id": id, "result": result}).to_string();
    send(client.address, client.head(Method::POST, body)).await
}

/// Calls the tool that asks who somebody is, and waits until it does.
async fn asked(client: &Mcp) -> (Open, Value) {
    let mut call = client.tool("up.form", "{}").open().await;
    let question = call.event().await.unwrap();
    assert_eq!(question["method"], "elicitation/create");
    (call, question["id"].clone())
}

#[tokio::test]
async fn two_sessions_that_are_asked_at_the_same_time_are_each_asked_for_their_own_call() {
    let test = async {
        let gateway = behind(&asking_program("legacy")?, "", "").await;
        let client = || Mcp::legacy(gateway.address).declares(r#"{"elicitation":{}}"#).open(LATEST_LEGACY);
        let (one, two) = (client().await, client().await);
        let ((mut call_of_one, id_of_one), (mut call_of_two, id_of_two)) = (asked(&one).await, asked(&two).await);

        answer(&two, &id_of_two, "Bob").await;
        answer(&one, &id_of_one, "Ann").await;

        let (told_one, told_two) = (call_of_one.event().await.unwrap(), call_of_two.event().await.unwrap());
        assert!(told_one["result"].to_string().contains("Ann"), "{told_one}");
        assert!(told_two["result"].to_string().contains("Bob"), "{told_two}");
        Ok::<_, String>(())
    };
    if let Err(reason) = test.await {
        skip("own_processes::two_sessions_that_are_asked_at_the_same_time_are_each_asked_for_their_own_call", &reason);
    }
}

#[tokio::test]
async fn a_session_hears_of_the_resources_of_its_own_process_and_not_of_another_s() {
    let test = async {
        let gateway = behind(&asking_program("legacy")?, "", "").await;
        let (one, two) = (gateway.legacy().await, gateway.legacy().await);
        let mut streams = Vec::new();
        for client in [&one, &two] {
            streams.push(open(client.address, client.head(Method::GET, String::new())).await);
            client.ask("resources/subscribe").params(r#""uri":"asking://one""#).send().await.result();
        }

        one.call("up.touch", "{}").await.result();
        let heard = streams[0].event().await.unwrap();
        two.call("up.touch", "{}").await.result();
        two.end().await;

        assert_eq!(
            (&heard["method"], &heard["params"]["uri"]),
            (&json!("notifications/resources/updated"), &json!("asking://one"))
        );
        let mut of_two = Vec::new();
        while let Some(event) = streams[1].event().await {
            of_two.push(event);
        }
        assert!(of_two.len() <= 1, "it heard of another session's: {of_two:?}");
        Ok::<_, String>(())
    };
    if let Err(reason) = test.await {
        skip("own_processes::a_session_hears_of_the_resources_of_its_own_process_and_not_of_another_s", &reason);
    }
}

/// A server whose second tool is there once a file is; `grow` makes the file and says that the list is another.
const GROWING: &str = r#"
import json, os, sys
file = sys.argv[1]
def say(message):
    print(json.dumps({"jsonrpc": "2.0", **message}), flush=True)
for line in sys.stdin:
    asked = json.loads(line)
    if "id" not in asked:
        continue
    result, tool = None, lambda name: {"name": name, "inputSchema": {"type": "object"}}
    if asked["method"] == "initialize":
        capabilities, info = {"tools": {"listChanged": True}}, {"name": "growing", "version": "1"}
        result = {"protocolVersion": "2025-11-25", "capabilities": capabilities, "serverInfo": info}
    elif asked["method"] == "tools/list":
        result = {"tools": [tool("grow")] + ([tool("new")] if os.path.exists(file) else [])}
    elif asked["method"] == "tools/call":
        open(file, "w").close()
        say({"method": "notifications/tools/list_changed"})
        result = {"content": []}
    say({"id": asked["id"], "result": result} if result else {"id": asked["id"], "error": {"code": -32601, "message": "no"}})
"#;

#[tokio::test]
async fn when_one_of_the_processes_says_that_its_list_is_another_it_is_looked_at_anew_for_all() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("there").to_str().unwrap().to_owned();
    let command = ["python3".to_owned(), "-c".into(), GROWING.into(), file];
    let gateway = behind(&command, "", "refresh = \"1h\"").await;
    let (one, two) = (gateway.legacy().await, gateway.legacy().await);
    let mut stream = open(two.address, two.head(Method::GET, String::new())).await;
    assert_eq!(two.tool_names().await, ["up.grow"]);

    one.call("up.grow", "{}").await.result();

    assert_eq!(stream.event().await.unwrap()["method"], "notifications/tools/list_changed");
    assert_eq!(two.tool_names().await, ["up.grow", "up.new"]);
}

/// A server that says of a resource that it was updated as soon as somebody subscribes to it.
const TELLING: &str = r#"
import json, sys
def say(message):
    print(json.dumps({"jsonrpc": "2.0", **message}), flush=True)
for line in sys.stdin:
    asked = json.loads(line)
    if "id" not in asked:
        continue
    results = {
        "initialize": {
            "protocolVersion": "2025-11-25",
            "capabilities": {"resources": {"subscribe": True}},
            "serverInfo": {"name": "telling", "version": "1"},
        },
        "resources/list": {"resources": [{"name": "one", "uri": "telling://one"}]},
        "resources/templates/list": {"resourceTemplates": []},
        "resources/subscribe": {},
    }
    result = results.get(asked["method"])
    error = {"code": -32601, "message": "no"}
    say({"id": asked["id"], "error": error} if result is None else {"id": asked["id"], "result": result})
    if asked["method"] == "resources/subscribe":
        say({"method": "notifications/resources/updated", "params": {"uri": asked["params"]["uri"]}})
"#;

#[tokio::test]
async fn a_subscription_alone_is_a_use_of_the_process_and_the_session_hears_of_it() {
    let gateway = behind(&["python3", "-c", TELLING].map(String::from), "", "").await;
    let client = gateway.legacy().await;
    let mut stream = open(client.address, client.head(Method::GET, String::new())).await;

    client.ask("resources/subscribe").params(r#""uri":"telling://one""#).send().await.result();

    let heard = stream.event().await.unwrap();
    assert_eq!((&heard["method"], &heard["params"]["uri"]), (&json!("notifications/resources/updated"), &json!("telling://one")));
}
