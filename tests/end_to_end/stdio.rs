//! Servers that the gateway starts itself.

use std::{fs, path::Path, process::Command};

use serde_json::{Value, json};

use crate::support::{Era, Gateway, Mcp, Setup, asked_client, asking_program, everything_program, skip, time_program, until};

/// An upstream that is a program, with further lines in its table.
pub(crate) fn program(name: &str, command: &[String], lines: &str) -> String {
    let (program, arguments) = command.split_first().unwrap();
    format!("[[upstream]]\nname = \"{name}\"\nkind = \"stdio\"\ncommand = {program:?}\nargs = {arguments:?}\n{lines}\n")
}

async fn gateway(tables: &str, targets: &[&str]) -> Gateway {
    let gateway = Gateway::start(Setup::new().tables(tables)).await;
    for target in targets {
        gateway.target_is(target, "ready").await;
    }
    gateway
}

/// What the tool `about` tells of the process that answers.
async fn about(client: &Mcp, tool: &str) -> Value {
    serde_json::from_str(&client.call(tool, "{}").await.content()).unwrap()
}

/// Whether a process is there, and is not just waiting to be forgotten.
pub(crate) fn lives(pid: u64) -> bool {
    let state = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    state.rsplit(')').next().is_some_and(|rest| !rest.trim_start().starts_with('Z') && !rest.is_empty())
}

pub(crate) async fn gone(pid: u64) {
    until(&format!("process {pid} to be gone"), || async { (!lives(pid)).then_some(()) }).await;
}

#[tokio::test]
async fn servers_of_either_era_and_one_of_another_make_give_clients_of_either_era_everything() {
    let test = async {
        let tables = [
            program("legacy", &asking_program("legacy")?, ""),
            program("modern", &asking_program("modern")?, ""),
            program("everything", &everything_program()?, ""),
            program("time", &time_program()?, ""),
        ];
        let mut gateway = gateway(&tables.concat(), &["legacy", "modern", "everything", "time"]).await;
        let url = format!("http://{}/mcp", gateway.address);
        for era in ["legacy", "modern"] {
            let commands = ["--url", &url, "--era", era, "--log-level", "info"];
            let more = [
                "tool|legacy.all",
                "tool|modern.all",
                "tool|legacy.note",
                "tool|modern.note",
                "tool|everything.get-roots-list",
                "prompt|legacy.greet|Bo",
                "read|asking://one",
                "complete|modern.greet|x",
            ];
            let mut client = asked_client(&[&commands[..], &more].concat())?;
            let events = client.events().await;

            let results: Vec<_> = events.iter().filter_map(|event| event.get("result")).collect();
            assert_eq!(results.len(), 8, "{era}: {events:?}");
            for result in &results[..2] {
                let told: Value = serde_json::from_str(result["content"][0]["text"].as_str().unwrap()).unwrap();
                assert_eq!(told["who"]["content"]["name"], "Grace", "{era}");
                assert_eq!(told["answer"]["content"]["text"], "forty-two", "{era}");
                assert_eq!(told["where"]["roots"][0]["uri"], "file:///srv/attic", "{era}");
            }
            let logged = |event: &&Value| event["logged"]["data"] == json!({"said": "error"});
            assert_eq!(events.iter().filter(logged).count(), 2, "{era}: {events:?}");
            assert!(results[4].to_string().contains("file:///srv/attic"), "{era}");
            assert_eq!(results[5]["messages"][0]["content"]["text"], "Say hello to Bo", "{era}");
            assert_eq!(results[6]["contents"][0]["text"], "text of asking://one", "{era}");
            assert_eq!(results[7]["completion"]["values"], json!(["greet: x!"]), "{era}");
        }
        for client in [gateway.modern(), gateway.legacy().await] {
            let noon = r#"{"source_timezone":"UTC","time":"12:00","target_timezone":"Asia/Tokyo"}"#;
            let converted = client.call("time.convert_time", noon).await.content();
            assert!(converted.contains("T21:00:00+09:00"), "{converted}");
        }
        gateway.ends().await;
        Ok::<_, String>(())
    };
    if let Err(reason) = test.await {
        skip("stdio::servers_of_either_era_and_one_of_another_make_give_clients_of_either_era_everything", &reason);
    }
}

/// Of 2026-07-28 only, and deaf until it has been asked for a session.
const SLOW_TO_START: &str = r#"
import json, sys
awake = False
for line in sys.stdin:
    asked = json.loads(line)
    awake = awake or asked["method"] == "initialize"
    if not awake or "id" not in asked:
        continue
    answer = {"jsonrpc": "2.0", "id": asked["id"]}
    if asked["method"] == "server/discover":
        answer["result"] = {"resultType": "complete", "supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}}}
    elif asked["method"] == "tools/list":
        answer["result"] = {"resultType": "complete", "tools": [{"name": "late", "inputSchema": {"type": "object"}}]}
    else:
        answer["error"] = {"code": -32601, "message": "no such method"}
    print(json.dumps(answer), flush=True)
"#;

#[tokio::test]
async fn a_modern_server_that_was_slow_to_start_is_not_taken_for_an_old_one() {
    let command = ["python3", "-c", SLOW_TO_START].map(String::from);

    let gateway = gateway(&program("slow", &command, "start_timeout = \"3s\""), &["slow"]).await;

    assert_eq!(gateway.modern().tool_names().await, ["slow.late"]);
    assert_eq!(gateway.target("slow").await["eras"]["modern"], "yes");
}

#[tokio::test]
async fn a_server_sees_only_the_variables_that_are_named_and_is_gone_with_the_gateway() {
    let test = async {
        let lines =
            "env = { GREETING = \"hello\", TOKEN = \"env:TOKEN_OF_THE_SERVER\" }\ninherit = [\"PATH\", \"LANGUAGE_OF_MINE\"]";
        let setup = Setup::new().tables(&program("up", &asking_program("modern")?, lines));
        let setup = setup.variable("TOKEN_OF_THE_SERVER", "very-secret-token").variable("LANGUAGE_OF_MINE", "de");
        let mut gateway = Gateway::start(setup).await;
        gateway.target_is("up", "ready").await;

        let told = about(&gateway.modern(), "up.about").await;
        gateway.ends().await;

        // Python adds LC_CTYPE for itself.
        let names: Vec<_> = told["environment"].as_array().unwrap().iter().filter(|name| *name != "LC_CTYPE").collect();
        assert_eq!(names, ["GREETING", "LANGUAGE_OF_MINE", "PATH", "TOKEN"]);
        assert!(!lives(told["pid"].as_u64().unwrap()), "it ends before the gateway does");
        assert!(!gateway.program.log().contains("very-secret-token"));
        Ok::<_, String>(())
    };
    if let Err(reason) = test.await {
        skip("stdio::a_server_sees_only_the_variables_that_are_named_and_is_gone_with_the_gateway", &reason);
    }
}

#[tokio::test]
async fn a_server_that_dies_in_a_call_is_started_again_and_the_next_call_does_not_notice() {
    let test = async {
        let gateway = gateway(&program("up", &asking_program("modern")?, ""), &["up"]).await;
        let client = gateway.modern();
        let first = about(&client, "up.about").await["pid"].as_u64().unwrap();

        let died = client.call("up.die", "{}").await.error();
        let second = about(&client, "up.about").await["pid"].as_u64().unwrap();

        assert_eq!((&died["data"]["code"], &died["data"]["delivery"]), (&json!("disconnected"), &json!("unknown")));
        assert_ne!(first, second);
        gone(first).await;
        gateway.program.logs("exit status: 7; its last words: these are my last words").await;
        Ok::<_, String>(())
    };
    if let Err(reason) = test.await {
        skip("stdio::a_server_that_dies_in_a_call_is_started_again_and_the_next_call_does_not_notice", &reason);
    }
}

#[tokio::test]
async fn a_server_that_is_killed_between_two_calls_is_started_again_and_clients_of_neither_era_notice() {
    let test = async {
        for (server, era) in ["legacy", "modern"].into_iter().flat_map(|server| [(server, Era::Modern), (server, Era::Legacy)]) {
            let gateway = gateway(&program("up", &asking_program(server)?, ""), &["up"]).await;
            let client = gateway.client(era).await;
            let first = about(&client, "up.about").await["pid"].as_u64().unwrap();

            signal("KILL", first);
            // Its parent has noticed when nothing of it is left.
            let process = Path::new("/proc").join(first.to_string());
            until("the end of the process", || async { (!process.exists()).then_some(()) }).await;
            let second = about(&client, "up.about").await["pid"].as_u64().unwrap();

            assert_ne!(first, second, "{era:?} client, {server} server");
            assert_eq!(gateway.metric("twinway_call_failures_total", &[]).await, 0.0, "{era:?} client, {server} server");
        }
        Ok::<_, String>(())
    };
    if let Err(reason) = test.await {
        skip("stdio::a_server_that_is_killed_between_two_calls_is_started_again_and_clients_of_neither_era_notice", &reason);
    }
}

fn signal(name: &str, pid: u64) {
    assert!(Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status().unwrap().success());
}

#[tokio::test]
async fn of_calls_that_were_given_up_while_a_program_hung_nothing_stays_and_the_program_is_used_on() {
    let test = async {
        for (server, era) in ["legacy", "modern"].into_iter().flat_map(|server| [(server, Era::Modern), (server, Era::Legacy)]) {
            let gateway = gateway(&program("up", &asking_program(server)?, ""), &["up"]).await;
            let client = gateway.client(era).await;
            let pid = about(&client, "up.about").await["pid"].as_u64().unwrap();
            let before = gateway.held().await;

            signal("STOP", pid);
            let late = client.tool("up.about", "{}").meta(r#""twinway/deadline-ms":100"#).send().await.error();
            tokio::select! {
                _ = client.tool("up.about", "{}").open() => panic!("the program hangs"),
                () = gateway.metric_reaches("twinway_calls_in_flight", &[], 1.0) => {}
            }
            signal("CONT", pid);

            assert_eq!(late["data"]["code"], "deadline_exceeded", "{era:?} client, {server} server");
            assert_eq!(about(&client, "up.about").await["pid"], pid, "{era:?} client, {server} server");
            gateway.holds_no_more_than(before).await;
        }
        Ok::<_, String>(())
    };
    if let Err(reason) = test.await {
        skip("stdio::of_calls_that_were_given_up_while_a_program_hung_nothing_stays_and_the_program_is_used_on", &reason);
    }
}

/// A program before which somebody writes down what it is told.
fn overheard(command: &[String], heard: &Path) -> Vec<String> {
    let script = r#"tee "$0" | "$@""#.to_owned();
    let words = ["sh".to_owned(), "-c".into(), script, heard.to_str().unwrap().to_owned()];
    words.into_iter().chain(command.iter().cloned()).collect()
}

#[tokio::test]
async fn a_warm_call_is_exactly_one_message_to_the_program_whatever_the_eras() {
    let test = async {
        let folder = tempfile::tempdir().unwrap();
        for server in ["legacy", "modern"] {
            let heard = folder.path().join(server);
            let command = overheard(&asking_program(server)?, &heard);
            let gateway = gateway(&program("up", &command, "refresh = \"1h\""), &["up"]).await;
            let methods = || -> Vec<_> {
                let text = fs::read_to_string(&heard).unwrap();
                let methods = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["method"].clone());
                methods.filter_map(|method| method.as_str().map(str::to_owned)).collect()
            };
            for era in [Era::Modern, Era::Legacy] {
                let client = gateway.client(era).await;
                about(&client, "up.about").await;
                let before = methods().len();
                for _ in 0..10 {
                    about(&client, "up.about").await;
                }

                // It is written down after it was passed on.
                until("the last call", || async { (methods().len() >= before + 10).then_some(()) }).await;
                assert_eq!(methods()[before..], ["tools/call"; 10], "{era:?} client, {server} server");
            }
        }
        Ok::<_, String>(())
    };
    if let Err(reason) = test.await {
        skip("stdio::a_warm_call_is_exactly_one_message_to_the_program_whatever_the_eras", &reason);
    }
}

#[tokio::test]
async fn principals_share_a_process_or_have_one_each_as_configured() {
    let test = async {
        let (ann, bob) = ("token-of-ann-0123456789", "token-of-bob-0123456789");
        let command = asking_program("modern")?;
        let tables = [program("shared", &command, ""), program("own", &command, "share = \"principal\"")].concat();
        let setup = Setup::new().client("ann", ann).client("bob", bob).tables(&tables);
        let gateway = Gateway::start(setup).await;
        let [ann, bob] = [ann, bob].map(|token| Mcp::modern(gateway.address).bearer(token));
        for target in ["shared", "own"] {
            gateway.target_is(target, "ready").await;
        }

        let pid = async |client: &Mcp, tool: &str| about(client, tool).await["pid"].as_u64().unwrap();

        assert_eq!(pid(&ann, "shared.about").await, pid(&bob, "shared.about").await);
        let (of_ann, of_bob) = (pid(&ann, "own.about").await, pid(&bob, "own.about").await);
        assert_ne!(of_ann, of_bob);
        assert_eq!(pid(&ann, "own.about").await, of_ann);
        Ok::<_, String>(())
    };
    if let Err(reason) = test.await {
        skip("stdio::principals_share_a_process_or_have_one_each_as_configured", &reason);
    }
}

/// Processes whose command line has this word.
fn with_word(word: &str) -> Vec<u64> {
    let pids = fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let says = |pid: &u64| {
        let words = fs::read(Path::new("/proc").join(pid.to_string()).join("cmdline")).unwrap_or_default();
        words.split(|byte| *byte == 0).any(|one| one == word.as_bytes())
    };
    pids.filter(says).filter(|pid| lives(*pid)).collect()
}

#[tokio::test]
async fn a_server_that_does_not_want_to_end_goes_with_everything_that_it_started() {
    // The number is this test's own, to find the processes by.
    let number = format!("{}", 1_000_000 + std::process::id());
    let script = format!("trap '' TERM HUP; sleep {number} & echo ready to stay >&2; while :; do sleep {number}; done");
    let command = ["sh".to_owned(), "-c".to_owned(), script];
    let mut gateway = gateway(&program("stubborn", &command, ""), &[]).await;
    gateway.program.logs("ready to stay").await;
    until("both sleepers", || async { (with_word(&number).len() == 2).then_some(()) }).await;

    gateway.ends().await;

    assert_eq!(with_word(&number), Vec::<u64>::new());
}

#[tokio::test]
async fn a_program_that_is_not_there_is_named_and_one_that_comes_with_a_reload_is_started() {
    let test = async {
        let missing = program("missing", &["/no/such/program".to_owned()], "");
        let gateway = gateway(&missing, &[]).await;
        gateway.target_is("missing", "failed").await;
        assert!(gateway.target("missing").await["reason"].as_str().unwrap().contains("`/no/such/program` cannot be started"));

        let both = [missing, program("up", &asking_program("legacy")?, "")].concat();
        gateway.write(&Setup::new().tables(&both).text());
        gateway.target_is("up", "ready").await;
        let pid = about(&gateway.modern(), "up.about").await["pid"].as_u64().unwrap();
        gateway.write(&Setup::new().text());
        gone(pid).await;
        Ok::<_, String>(())
    };
    if let Err(reason) = test.await {
        skip("stdio::a_program_that_is_not_there_is_named_and_one_that_comes_with_a_reload_is_started", &reason);
    }
}
