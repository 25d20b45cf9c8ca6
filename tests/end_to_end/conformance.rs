//! What the official conformance suite lets pass although every answer is an error: the same exchanges, with a look at the content.

use serde_json::{Value, json};

use crate::support::{Answer, Ask, Gateway, Mcp, Program, Setup, conformance_server, skip};

/// What the fixture serves. The views have the same names.
const SERVERS: [&str; 3] = ["both", "legacy", "modern"];

struct Farm {
    gateway: Gateway,
    _servers: Vec<Program>,
}

impl Farm {
    async fn start() -> Result<Self, String> {
        let (mut setup, mut programs) = (Setup::new(), Vec::new());
        for serves in SERVERS {
            let (program, url) = conformance_server(serves).await?;
            setup = setup.upstream(serves, &url);
            programs.push(program);
        }
        let gateway = Gateway::start(setup).await;
        for server in SERVERS {
            gateway.target_is(server, "ready").await;
        }
        Ok(Self { gateway, _servers: programs })
    }
}

/// The text of a tool's answer, which is no error.
fn said(answer: &Answer) -> String {
    let result = answer.result();
    assert_ne!(result["isError"], true, "{result}");
    answer.content()
}

/// A call of the tool that asks for a name.
fn ask_for_name<'a>(client: &'a Mcp, members: &str) -> Ask<'a> {
    let params = format!(r#""name":"test_input_required_result_elicitation","arguments":{{}}{members}"#);
    client.tool("test_input_required_result_elicitation", "{}").params(&params).declares(r#"{"elicitation":{}}"#)
}

/// The members of a retry: the answers, and the state where there is one.
fn retry(asked: &Value, responses: &Value) -> String {
    let state = asked.get("requestState").map(|state| format!(r#","requestState":{state}"#)).unwrap_or_default();
    format!(r#","inputResponses":{responses}{state}"#)
}

#[tokio::test]
async fn texts_come_through_as_they_are_also_over_a_stream_that_the_server_closes_in_between() {
    let test = async {
        let farm = Farm::start().await?;
        for server in SERVERS {
            for client in [farm.gateway.modern().at(server), farm.gateway.legacy_at(server).await] {
                let simple = said(&client.call("test_simple_text", "{}").await);
                let reconnected = said(&client.call("test_reconnection", "{}").await);

                let texts = (&*simple, &*reconnected);
                let expected = ("This is a simple text response for testing.", "Reconnection test completed successfully.");
                assert_eq!(texts, expected, "{:?} client, {server} server", client.era);
            }
        }
        Ok::<_, String>(())
    };
    if let Err(reason) = test.await {
        skip("conformance::texts_come_through_as_they_are_also_over_a_stream_that_the_server_closes_in_between", &reason);
    }
}

#[tokio::test]
async fn a_modern_client_is_asked_again_until_it_has_answered_and_what_else_it_says_does_not_matter() {
    let test = async {
        let farm = Farm::start().await?;
        let grace = json!({"action": "accept", "content": {"name": "Grace"}});
        for server in SERVERS {
            let client = farm.gateway.modern().at(server);
            let asked = ask_for_name(&client, "").send().await.result();
            let requests = asked["inputRequests"].as_object().unwrap();
            let key = requests.keys().next().unwrap();

            let nothing = ask_for_name(&client, &retry(&asked, &json!({"other": grace}))).send().await.result();
            assert_eq!(nothing["inputRequests"], asked["inputRequests"], "{server} server");
            let unreadable = ask_for_name(&client, &retry(&nothing, &json!({ key: 7 }))).send().await;
            let refused = unreadable.json().get("error").is_some();
            assert!(refused || unreadable.result()["resultType"] == "input_required", "{server} server: {}", unreadable.text());

            let asked = ask_for_name(&client, "").send().await.result();
            let responses = json!({ "other": grace, key: grace });
            let done = ask_for_name(&client, &retry(&asked, &responses)).send().await;
            assert_eq!((said(&done), done.result()["resultType"].clone()), ("Hello, Grace!".to_owned(), json!("complete")));
        }
        Ok::<_, String>(())
    };
    if let Err(reason) = test.await {
        skip("conformance::a_modern_client_is_asked_again_until_it_has_answered_and_what_else_it_says_does_not_matter", &reason);
    }
}

#[tokio::test]
async fn lists_are_whole_and_complete_whatever_a_client_declares() {
    let test = async {
        let farm = Farm::start().await?;
        for server in SERVERS {
            let client = farm.gateway.modern().at(server);
            for (method, member, name) in [
                ("tools/list", "tools", "test_simple_text"),
                ("prompts/list", "prompts", "test_simple_prompt"),
                ("resources/list", "resources", "static-text"),
                ("resources/templates/list", "resourceTemplates", "template"),
            ] {
                let ask = client.ask(method).declares(r#"{"elicitation":{},"sampling":{},"roots":{}}"#);
                let result = ask.send().await.result();

                let names: Vec<_> = result[member].as_array().unwrap().iter().map(|one| &one["name"]).collect();
                assert!(names.contains(&&json!(name)), "{server} server, {method}: {names:?}");
                assert_eq!(result["resultType"], "complete", "{server} server, {method}");
            }
        }
        Ok::<_, String>(())
    };
    if let Err(reason) = test.await {
        skip("conformance::lists_are_whole_and_complete_whatever_a_client_declares", &reason);
    }
}

#[tokio::test]
async fn a_client_whose_revision_knows_no_sound_is_told_of_it_in_words() {
    let test = async {
        let farm = Farm::start().await?;
        for (revision, expected) in [("2024-11-05", "text"), ("2025-03-26", "audio"), ("2025-11-25", "audio")] {
            for server in SERVERS {
                let client = Mcp::legacy(farm.gateway.address).at(server).open(revision).await;

                let result = client.call("test_audio_content", "{}").await.result();

                assert_eq!(result["content"][0]["type"], expected, "{revision}, {server} server: {result}");
            }
        }
        Ok::<_, String>(())
    };
    if let Err(reason) = test.await {
        skip("conformance::a_client_whose_revision_knows_no_sound_is_told_of_it_in_words", &reason);
    }
}
