//! What `deploy/` holds does what it says: configurations, command lines, the service, the two farms.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::UnixDatagram;

use crate::support::{Gateway, Mcp, Program, Setup, python_program, serve, skip, twinway, until, within};

const TOKEN: &str = "a token of the test";

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(name)
}

fn read(name: &str) -> String {
    fs::read_to_string(path(name)).unwrap()
}

/// `compose.yaml`, its anchors and merges resolved.
async fn composed() -> Result<Value, String> {
    let mut command = python_program("yaml_file.py")?;
    command.arg(path("compose/compose.yaml"));
    Ok(Program::start(command).event_with("document").await)
}

/// The FastAPI sample, and its URL.
async fn farm() -> Result<(Program, String), String> {
    let mut command = python_program("asgi_file.py")?;
    command.arg(path("compose/farm/app.py")).arg("--until-stdin-closes");
    Ok(serve(command).await)
}

/// The key that `twinway id` makes.
async fn key(folder: &TempDir) -> String {
    let file = folder.path().join("twinway.toml");
    fs::write(&file, "[p2p]\nkey_file = \"twinway.key\"").unwrap();
    twinway(&["id", "--config", file.to_str().unwrap(), "--json"]).await.json()["peer_id"].as_str().unwrap().to_owned()
}

/// Starts one of the gateways as it is composed, with what is different here in the place of its texts.
async fn start(services: &Value, name: &str, folder: TempDir, replaced: &[(&str, &str)]) -> Gateway {
    let replace = |text: &str| replaced.iter().fold(text.to_owned(), |text, (from, to)| text.replace(from, to));
    let text = replace(&read(&format!("compose/{name}/twinway.toml"))).replace("/var/lib/twinway/", "");
    let mut setup = Setup::new().tables(&text);
    for (variable, value) in services[name]["environment"].as_object().unwrap() {
        if variable != "TWINWAY__HTTP__LISTEN" {
            setup = setup.variable(variable, &replace(value.as_str().unwrap()));
        }
    }
    Gateway::start_in(setup, folder).await
}

async fn two_farms() -> Result<(), String> {
    let services = composed().await?["services"].take();
    let ((_near, near_url), (_away, far_url)) = tokio::try_join!(farm(), farm())?;
    let folders = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let (gateway_peer, far_peer) = (key(&folders.0).await, key(&folders.1).await);
    let of_far = [
        ("http://far-farm:8000", far_url.as_str()),
        ("/ip4/0.0.0.0/tcp/4001", "/ip4/127.0.0.1/tcp/0"),
        ("${GATEWAY_PEER:?run ./start}", &gateway_peer),
    ];
    let far = start(&services, "far", folders.1, &of_far).await;
    let address = far.p2p().split("/p2p/").next().unwrap();
    let of_gateway = [
        ("http://farm:8000", near_url.as_str()),
        ("/dns4/far/tcp/4001", address),
        ("${FAR_PEER:?run ./start}", &far_peer),
        ("${AGENT_TOKEN:?run ./start}", TOKEN),
    ];
    let gateway = start(&services, "gateway", folders.0, &of_gateway).await;
    let client = Mcp::modern(gateway.address).bearer(TOKEN);
    let tools = ["harvest", "list_fields", "put_field"];
    let expected: Vec<_> = ["far.farm", "farm"].iter().flat_map(|farm| tools.map(|tool| format!("{farm}.{tool}"))).collect();
    until("the tools of both farms", || async { (client.tool_names().await == expected).then_some(()) }).await;

    for (farm, hectares) in [("farm", 2), ("far.farm", 4)] {
        let field = json!({"name": "west", "crop": "oats", "hectares": hectares}).to_string();
        let put = client.call(&format!("{farm}.put_field"), &field).await.result();
        assert_eq!(put["structuredContent"]["hectares"].as_f64(), Some(f64::from(hectares)), "{put}");
    }
    let near = client.call("farm.harvest", r#"{"name":"west"}"#).await.result();
    let again = client.call("farm.harvest", r#"{"name":"west"}"#).await.result();
    let far = client.call("far.farm.harvest", r#"{"name":"west"}"#).await.result();

    assert_eq!(near["structuredContent"], json!({"field": "west", "tonnes": 10.0}));
    assert_eq!((&again["isError"], &far["structuredContent"]["tonnes"]), (&json!(true), &json!(20.0)));
    Ok(())
}

#[tokio::test]
async fn the_two_farms_work_together_as_they_are_composed() {
    if let Err(reason) = two_farms().await {
        skip("deploy::the_two_farms_work_together_as_they_are_composed", &reason);
    }
}

#[tokio::test]
async fn what_compose_names_is_there() {
    let composed = match composed().await {
        Ok(composed) => composed,
        Err(reason) => return skip("deploy::what_compose_names_is_there", &reason),
    };
    let folder = path("compose");
    for (name, service) in composed["services"].as_object().unwrap() {
        let builds = [&service["build"], &service["build"]["context"]].into_iter().find_map(Value::as_str).unwrap();
        let dockerfile = service["build"]["dockerfile"].as_str().unwrap_or("Dockerfile");
        assert!(folder.join(builds).join(dockerfile).is_file(), "{name}: {builds}/{dockerfile}");
        for volume in service["volumes"].as_array().into_iter().flatten() {
            let (from, _) = volume.as_str().unwrap().split_once(':').unwrap();
            let is_there = if from.starts_with('.') { folder.join(from).is_dir() } else { composed["volumes"][from].is_object() };
            assert!(is_there, "{name}: {from}");
        }
        for network in service["networks"].as_array().unwrap() {
            assert!(composed["networks"][network.as_str().unwrap()].is_object(), "{name}: {network}");
        }
        assert_eq!((&service["read_only"], &service["cap_drop"]), (&json!(true), &json!(["ALL"])), "{name}");
    }
    let sources = composed["services"]["gateway"]["build"]["context"].as_str().unwrap();
    assert!(folder.join(sources).join("Cargo.toml").is_file());
}

/// The arguments of every command line of ours in `deploy/`.
fn command_lines() -> Vec<Vec<String>> {
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let service = read("systemd/twinway.service");
    let service = service
        .lines()
        .filter_map(|line| line.strip_prefix("Exec")?.split_once("=/usr/local/bin/twinway "))
        .map(|(_, line)| words(line));
    let image = read("Dockerfile");
    let image = image.lines().filter_map(|line| line.split_once("CMD [")).map(|(_, rest)| {
        let arguments: Vec<String> = serde_json::from_str(&format!("[{rest}")).unwrap();
        arguments.into_iter().filter(|argument| argument != "/twinway").collect()
    });
    let script = read("compose/start");
    let script = script.lines().filter_map(|line| line.split_once(" twinway ")).map(|(_, line)| words(line));
    service
        .chain(image)
        .chain(script)
        .filter(|line| line.first().is_some_and(|word| word.chars().all(char::is_alphabetic)))
        .collect()
}

#[tokio::test]
async fn every_command_line_is_one_of_ours() {
    let lines = command_lines();
    let commands: Vec<_> = lines.iter().map(|line| line[0].as_str()).collect();
    assert_eq!(commands, ["config", "serve", "health", "serve", "id"]);
    for line in &lines {
        // With `--help` a command line is read to its end, and nothing runs.
        let arguments: Vec<_> = line.iter().map(String::as_str).chain(["--help"]).collect();

        let ran = twinway(&arguments).await;

        assert_eq!(ran.code, Some(0), "{line:?}: {}", ran.stderr);
    }
}

#[tokio::test]
async fn the_service_is_one_and_may_do_little() {
    if let Err(error) = Command::new("systemd-analyze").arg("--version").output() {
        return skip("deploy::the_service_is_one_and_may_do_little", &format!("systemd-analyze does not start: {error}"));
    }
    let folder = TempDir::new().unwrap();
    let unit = folder.path().join("twinway.service");
    fs::write(&unit, read("systemd/twinway.service").replace("/usr/local/bin/twinway", env!("CARGO_BIN_EXE_twinway"))).unwrap();
    // The threshold: 20 of 100, where systemd calls a service OK.
    for arguments in [&["verify", "--man=no"][..], &["security", "--offline=true", "--threshold=20"]] {
        let ran = Command::new("systemd-analyze").args(arguments).arg(&unit).output().unwrap();

        let said = String::from_utf8_lossy(&[ran.stdout, ran.stderr].concat()).into_owned();
        assert!(ran.status.success() && !said.contains("Unknown"), "{arguments:?}: {said}");
    }
}

#[tokio::test]
async fn a_service_manager_is_told_when_the_gateway_is_ready_and_when_it_ends() {
    let folder = TempDir::new().unwrap();
    let socket = UnixDatagram::bind(folder.path().join("notify")).unwrap();
    let setup = Setup::new().variable("NOTIFY_SOCKET", folder.path().join("notify").to_str().unwrap());
    let gateway = Gateway::start(setup).await;
    let told = || async {
        let mut text = [0; 256];
        let length = within("a message", socket.recv(&mut text)).await.unwrap();
        String::from_utf8_lossy(&text[..length]).trim().to_owned()
    };

    assert_eq!(told().await, "READY=1");
    gateway.program.terminate();
    assert_eq!(told().await, "STOPPING=1");
}

#[tokio::test]
async fn a_probe_without_a_shell_learns_whether_the_gateway_is_ready() {
    let mut gateway = Gateway::start(Setup::new()).await;
    let endpoint = format!("http://{}/mcp/any", gateway.address);

    let ready = twinway(&["health", "--endpoint", &endpoint]).await;
    let document = twinway(&["health", "--endpoint", &endpoint, "--json"]).await;
    gateway.program.kill();
    let gone = twinway(&["health", "--endpoint", &endpoint]).await;

    assert_eq!((ready.code, ready.stdout.trim()), (Some(0), "ready"));
    assert_eq!(document.json(), json!({"status": "ready"}));
    assert_eq!(gone.code, Some(4), "{}", gone.stderr);
}
