//! Servers that the gateway starts for each session: whose process is whose, and when it ends.

use std::process::Command;

use http::Method;
use serde_json::{Value, json};

use crate::{
    stdio::{gone, lives, program},
    support::{
        Answer, Gateway, LATEST_LEGACY, Mcp, Open, Program, Setup, asked_client, asking_program, open, remembering_program, send,
        skip,
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

        assert_eq!(recall(&one).await, "");
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
        let freed = crate::support::until("a place", || async {
            let answer = two.call("up.recall", "{}").await.messages().pop().unwrap();
            answer.get("result").cloned()
        });
        assert_eq!(freed.await["content"][0]["text"], "");
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
async fn a_session_hears_of_the_resources_of_its_own_process_even_before_it_has_called_it() {
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
        skip("own_processes::a_session_hears_of_the_resources_of_its_own_process_even_before_it_has_called_it", &reason);
    }
}
