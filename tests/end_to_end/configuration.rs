//! The program itself: what it makes of its configuration, and its commands beside `serve`.

use std::{
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};
use tokio::process::Command;

use crate::support::{Act, Gateway, Script, Scripted, Serves, Setup, closed_port, twinway, within};

const PEER: &str = "12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp";
/// Another key.
const OTHER_PEER: &str = "12D3KooWKnDdG3iXw9eTFijk3EWSunZcFi54Zka4wmtqtt6rPxc8";

/// A folder with a configuration in it.
struct Folder {
    folder: tempfile::TempDir,
}

impl Folder {
    fn with(text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("twinway.toml"), text).unwrap();
        Self { folder }
    }

    fn config(&self) -> String {
        self.path("twinway.toml").display().to_string()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

#[tokio::test]
async fn each_bad_configuration_ends_with_one_message_that_says_where() {
    let cases = [
        (
            "an unknown key",
            "[http]\nlisen = \"127.0.0.1:0\"\n".to_owned(),
            "2:1: unknown key `lisen` in `http`; did you mean `listen`?",
        ),
        ("a wrong type", "[http]\nlisten = 8080\n".to_owned(), "2:10: `http.listen`"),
        (
            "a name twice",
            "[[upstream]]\nname = \"a\"\nurl = \"http://a\"\n[[upstream]]\nname = \"a\"\nurl = \"http://b\"\n".to_owned(),
            "5:8: another upstream or peer is already called `a`",
        ),
        (
            "a bad address",
            "[p2p]\n[[peer]]\nname = \"far\"\naddress = \"far\"\n".to_owned(),
            "4:11: `peer.address`: `far` is not a multiaddress such as `/ip4/127.0.0.1/tcp/4001`: invalid multiaddr",
        ),
        (
            "an address without a key",
            "[p2p]\n[[peer]]\nname = \"far\"\naddress = \"/ip4/192.0.2.7/tcp/4001\"\n".to_owned(),
            "4:11: address `/ip4/192.0.2.7/tcp/4001`",
        ),
        (
            "a second address of another key",
            format!(
                "[p2p]\n[[peer]]\nname = \"far\"\naddress = \"/ip4/192.0.2.7/tcp/1/p2p/{PEER}\"\n\
                 addresses = [\"/ip4/192.0.2.8/tcp/1/p2p/{OTHER_PEER}\"]\n"
            ),
            "5:14: address `/ip4/192.0.2.8/tcp/1/p2p/",
        ),
        ("a peer without an address", "[p2p]\n[[peer]]\nname = \"far\"\n".to_owned(), "2:1: a peer needs an `address`"),
        (
            "neither TCP nor QUIC",
            "[p2p]\nlisten = [\"/ip4/127.0.0.1/tcp/1\", \"/ip4/127.0.0.1/udp/1\"]\n".to_owned(),
            "2:35: address `/ip4/127.0.0.1/udp/1` is neither TCP",
        ),
        #[cfg(not(feature = "quic"))]
        (
            "QUIC in a program without it",
            "[p2p]\nlisten = [\"/ip4/127.0.0.1/udp/1/quic-v1\"]\n".to_owned(),
            "2:11: address `/ip4/127.0.0.1/udp/1/quic-v1` is QUIC, which this program was built without",
        ),
        (
            "a peer without [p2p]",
            format!("[[peer]]\nname = \"far\"\naddress = \"/ip4/192.0.2.7/tcp/1/p2p/{PEER}\"\n"),
            "1:1: a peer needs",
        ),
        ("a public address for gRPC", "[grpc]\nlisten = \"0.0.0.0:0\"\n".to_owned(), "2:10: 0.0.0.0:0 can be reached from other"),
        ("a public address", "[http]\nlisten = \"0.0.0.0:0\"\n".to_owned(), "2:10: 0.0.0.0:0 can be reached from other machines"),
    ];
    for (what, text, expected) in cases {
        let folder = Folder::with(&text);
        for command in [vec!["serve"], vec!["config", "check"]] {
            let config = folder.config();
            let ran = twinway(&[&command[..], &["--config", &config]].concat()).await;

            assert_eq!(ran.code, Some(2), "{what}: {ran:?}");
            assert_eq!(ran.stderr.trim_end().lines().count(), 1, "{what}: one message: {ran:?}");
            assert!(ran.stderr.contains(&format!("{config}:{expected}")), "{what}: {ran:?}");
            assert!(ran.stdout.is_empty(), "{what}: {ran:?}");
        }
    }
}

#[tokio::test]
async fn a_port_in_use_is_named_with_the_line_that_asks_for_it() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let cases = [
        (format!("[http]\nlisten = \"127.0.0.1:{port}\"\n"), format!("127.0.0.1:{port}"), "2:10"),
        (
            format!("[http]\nlisten = \"127.0.0.1:0\"\n[p2p]\nlisten = [\"/ip4/127.0.0.1/tcp/{port}\"]\n"),
            format!("/ip4/127.0.0.1/tcp/{port}"),
            "4:",
        ),
        (
            format!("[http]\nlisten = \"127.0.0.1:0\"\n[grpc]\nlisten = \"127.0.0.1:{port}\"\n"),
            format!("127.0.0.1:{port}"),
            "4:10",
        ),
    ];
    for (text, address, place) in cases {
        let folder = Folder::with(&text);
        let config = folder.config();
        let ran = twinway(&["serve", "--config", &config]).await;

        assert_eq!(ran.code, Some(2), "{ran:?}");
        assert!(ran.stderr.contains(&format!("cannot listen on {address}")), "{ran:?}");
        assert!(ran.stderr.contains(&format!("{config}:{place}")), "{ran:?}");
        // The log has begun by then.
        let messages = ran.stderr.lines().filter(|line| line.starts_with("twinway: "));
        assert_eq!(messages.count(), 1, "one message: {ran:?}");
    }
}

/// Does something bad to a key file.
type Spoil = fn(&Path);

#[tokio::test]
async fn a_key_file_that_cannot_be_used_is_named() {
    let folder = Folder::with("[http]\nlisten = \"127.0.0.1:0\"\n[p2p]\nkey_file = \"id.key\"\n");
    let config = folder.config();
    let key = folder.path("id.key");
    assert_eq!(twinway(&["id", "--config", &config]).await.code, Some(0));
    let cases: [(&str, Spoil); 3] = [
        ("others can read it", |key| std::fs::set_permissions(key, PermissionsExt::from_mode(0o640)).unwrap()),
        ("another file", |key| {
            std::fs::write(key, "not a key").unwrap();
            std::fs::set_permissions(key, PermissionsExt::from_mode(0o600)).unwrap();
        }),
        ("a folder", |key| {
            std::fs::remove_file(key).unwrap();
            std::fs::create_dir(key).unwrap();
        }),
    ];
    for (what, spoil) in cases {
        spoil(&key);

        let ran = twinway(&["serve", "--config", &config]).await;

        assert_eq!(ran.code, Some(2), "{what}: {ran:?}");
        assert!(ran.stderr.contains(&key.display().to_string()), "{what}: {ran:?}");
        assert_eq!(ran.stderr.trim_end().lines().count(), 1, "{what}: one message: {ran:?}");
    }
}

#[tokio::test]
async fn a_good_configuration_is_checked_and_shown_without_its_secrets() {
    let folder =
        Folder::with("[http]\nlisten = \"127.0.0.1:0\"\n[[http.client]]\nname = \"desk\"\ntoken = \"env:TWINWAY_TEST_SECRET\"\n");
    let config = folder.config();

    let checked = twinway(&["config", "check", "--config", &config]).await;
    let shown = twinway(&["config", "show", "--config", &config]).await;
    let shown_json = twinway(&["config", "show", "--json", "--config", &config]).await;
    let schema = twinway(&["config", "schema"]).await;

    assert_eq!(checked.code, Some(0), "{checked:?}");
    assert!(shown.stdout.contains("token = \"***\""), "{shown:?}");
    assert_eq!(shown_json.json()["http"]["client"][0]["token"], "***", "{shown_json:?}");
    for ran in [&checked, &shown, &shown_json] {
        assert!(!format!("{ran:?}").contains("correct-horse"), "{ran:?}");
    }
    assert!(schema.json()["properties"]["upstream"].is_object(), "{schema:?}");
}

#[tokio::test]
async fn two_configurations_are_compared_key_by_key_without_their_secrets() {
    let client = "[[http.client]]\nname = \"desk\"\ntoken = \"env:TWINWAY_TEST_SECRET\"\n";
    let upstream = |url: &str| format!("[[upstream]]\nname = \"a\"\nurl = \"{url}\"\n");
    let old = Folder::with(&upstream("http://127.0.0.1:1/mcp"));
    let live = Folder::with(&format!("{client}{}", upstream("http://127.0.0.1:2/mcp")));
    let restart = Folder::with(&format!("[http]\nworkers = 1\n{}", upstream("http://127.0.0.1:1/mcp")));
    let diff =
        async |new: &Folder, more: &[&str]| twinway(&[&["config", "diff", &old.config(), &new.config()], more].concat()).await;

    let text = diff(&live, &[]).await;
    let document = diff(&live, &["--json"]).await;
    let codes = [diff(&old, &["--exit-code"]).await, diff(&live, &["--exit-code"]).await, diff(&restart, &["--exit-code"]).await];

    assert_eq!(text.code, Some(0), "{text:?}");
    assert!(text.stdout.contains(r#"~ upstream.a.url = "http://127.0.0.1:1/mcp" -> "http://127.0.0.1:2/mcp""#), "{text:?}");
    assert!(text.stdout.contains(r#"+ http.client.desk = {"name":"desk","token":"***"}"#), "{text:?}");
    assert!(!format!("{text:?}{document:?}").contains("correct-horse"), "{text:?}");
    let document = document.json();
    assert_eq!((&document["live"], &document["needs_restart"]), (&json!(2), &json!(0)), "{document}");
    assert_eq!(document["changes"][0]["effect"], "live", "{document}");
    assert_eq!(codes.each_ref().map(|ran| ran.code), [Some(0), Some(5), Some(6)], "{codes:?}");
    assert!(codes[2].stdout.contains("+ http.workers = 1  (needs a restart)"), "{codes:?}");
}

#[tokio::test]
async fn an_identity_is_made_once_and_only_its_peer_id_is_printed() {
    let folder =
        Folder::with("[http]\nlisten = \"127.0.0.1:0\"\n[p2p]\nlisten = [\"/ip4/127.0.0.1/tcp/0\"]\nkey_file = \"id.key\"\n");
    let config = folder.config();

    let first = twinway(&["id", "--config", &config]).await;
    let second = twinway(&["id", "--config", &config]).await;
    let tables = "[p2p]\nlisten = [\"/ip4/127.0.0.1/tcp/0\"]\nkey_file = \"id.key\"\n";
    let gateway = Gateway::start_in(Setup::new().tables(tables), folder.folder).await;

    assert_eq!(first.code, Some(0), "{first:?}");
    let peer_id = first.stdout.trim_end();
    assert!(peer_id.starts_with("12D3KooW") && peer_id.len() == PEER.len(), "{first:?}");
    assert_eq!(first.stdout, format!("{peer_id}\n"), "nothing else");
    assert_eq!(second.stdout, first.stdout);
    assert_eq!(gateway.peer_id(), peer_id);
    let mode = gateway.folder.path().join("id.key").metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
}

#[tokio::test]
async fn the_commands_of_a_client_speak_to_a_running_gateway() {
    let text = |text: &str, is_error| format!(r#"{{"content":[{{"type":"text","text":"{text}"}}],"isError":{is_error}}}"#);
    let script =
        Script::new(Serves::Modern).tool("greet", Act::Result(text("hi", false))).tool("fail", Act::Result(text("no", true)));
    let upstream = Scripted::start(script).await;
    let setup = Setup::new().upstream("up", upstream.url()).upstream("dead", closed_port().await);
    let gateway = Gateway::start(setup).await;
    gateway.target_is("up", "ready").await;
    gateway.target_is("dead", "failed").await;
    let url = format!("http://{}", gateway.address);
    let endpoint = ["--endpoint", &*url];
    let run = async |arguments: &[&str]| twinway(&[arguments, &endpoint[..]].concat()).await;

    let tools = run(&["tools"]).await;
    assert_eq!(tools.code, Some(0), "{tools:?}");
    assert!(tools.stdout.lines().any(|line| line.starts_with("up.greet ")), "{tools:?}");
    assert!(tools.stderr.contains("`dead` is failed, and its tools may be missing: "), "{tools:?}");

    let called = run(&["call", "up.greet", r#"{"whom":"you"}"#]).await;
    assert_eq!((called.code, &*called.stdout), (Some(0), "hi\n"), "{called:?}");

    for view in ["/mcp", "/mcp/"] {
        let ran = twinway(&["call", "up.greet", "--endpoint", &format!("{url}{view}")]).await;
        assert_eq!((ran.code, &*ran.stdout), (Some(0), "hi\n"), "{view}: {ran:?}");
    }
    let alone = twinway(&["call", "greet", "--endpoint", &format!("{url}/mcp/up")]).await;
    assert_eq!((alone.code, &*alone.stdout), (Some(0), "hi\n"), "one upstream alone, without prefixes: {alone:?}");

    let explained = run(&["call", "up.greet", r#"{"whom":"you"}"#, "--explain", "--json"]).await;
    assert_eq!(explained.json()["_meta"]["twinway/explain"]["runtime"], "http", "{explained:?}");

    let failed = run(&["call", "up.fail"]).await;
    assert_eq!(failed.code, Some(3), "a tool that says that it failed: {failed:?}");

    let unknown = run(&["call", "up.nothing"]).await;
    assert!(unknown.code.is_some_and(|code| code != 0), "{unknown:?}");
    assert!(unknown.stderr.contains("up.nothing"), "{unknown:?}");
}

#[tokio::test]
async fn a_gateway_that_is_not_there_has_an_exit_code_of_its_own() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", nobody.local_addr().unwrap());
    drop(nobody);

    for command in [vec!["tools"], vec!["call", "up.echo", "{}"]] {
        let ran = twinway(&[&command[..], &["--endpoint", &endpoint]].concat()).await;

        assert_eq!(ran.code, Some(4), "{ran:?}");
        assert!(ran.stderr.contains(&endpoint), "{ran:?}");
    }
}

#[tokio::test]
async fn a_gateway_that_took_the_call_and_said_nothing_is_not_called_unreachable() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", silent.local_addr().unwrap());

    let late = twinway(&["call", "up.pay", "--json", "--timeout", "50ms", "--endpoint", &endpoint]).await;

    assert_eq!(late.code, Some(1), "{late:?}");
    let error: Value = serde_json::from_str(&late.stderr).unwrap();
    assert_eq!(error["error"]["data"]["delivery"], "unknown", "{late:?}");
    assert!(late.stderr.contains("the tool may have run"), "{late:?}");
}

#[tokio::test]
async fn the_demonstration_calls_a_tool_over_both_runtimes_and_ends() {
    let ran = twinway(&["demo", "--once"]).await;

    assert_eq!(ran.code, Some(0), "{ran:?}");
    for runtime in ["http", "mcpp"] {
        assert!(ran.stdout.contains(&format!("over the {runtime} runtime")), "{ran:?}");
    }
}

#[tokio::test]
async fn an_override_of_the_environment_is_in_force() {
    let folder = Folder::with("");
    let mut command = Command::new(env!("CARGO_BIN_EXE_twinway"));
    command.args(["config", "show", "--json", "--config", &folder.config()]).env("TWINWAY__HTTP__LISTEN", "127.0.0.1:7");

    let shown = within("the end of the program", command.output()).await.unwrap();

    let shown: Value = serde_json::from_slice(&shown.stdout).unwrap();
    assert_eq!(shown["http"]["listen"], json!("127.0.0.1:7"));
}
