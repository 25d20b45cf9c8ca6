//! Clients that do not read while a program that others use too has much to tell them.

use serde_json::Value;

use crate::{
    stdio::program,
    support::{Era, Gateway, Mcp, Open, Setup},
};

const STEPS: usize = 10_000;

const LOST: &str = "twinway/lost-notifications";

/// A server that reports progress as often and at such length as it is told to, and then answers.
const FLOODING: &str = r#"
import json, sys
def say(message):
    sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
for line in sys.stdin:
    asked = json.loads(line)
    if "id" not in asked:
        continue
    result, params = None, asked.get("params", {})
    if asked["method"] == "initialize":
        info = {"name": "flooding", "version": "1"}
        result = {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}, "serverInfo": info}
    elif asked["method"] == "tools/list":
        result = {"tools": [{"name": name, "inputSchema": {"type": "object"}} for name in ("flood", "echo")]}
    elif asked["method"] == "tools/call":
        if params["name"] == "flood":
            token, text = params["_meta"]["progressToken"], "x" * params["arguments"]["bytes"]
            for step in range(1, params["arguments"]["steps"] + 1):
                said = {"progressToken": token, "progress": step, "message": text}
                say({"method": "notifications/progress", "params": said})
        result = {"content": [{"type": "text", "text": params["name"]}]}
    say({"id": asked["id"], "result": result} if result else {"id": asked["id"], "error": {"code": -32601, "message": "no"}})
    sys.stdout.flush()
"#;

async fn behind_flooding() -> Gateway {
    let command = ["python3", "-c", FLOODING].map(String::from);
    // The machine may be busy; nothing here waits for the end of that time.
    let rule = "[[tool]]\nmatch = \"up.*\"\ntimeout = \"120s\"";
    let gateway = Gateway::start(Setup::new().tables(&[program("up", &command, ""), rule.to_owned()].concat())).await;
    gateway.target_is("up", "ready").await;
    gateway
}

/// Has a client flooded that does not read, and comes back when the server has said all and answered another client's call after it.
async fn flooded(client: &Mcp, other: &Mcp, bytes: usize) -> Open {
    let arguments = format!(r#"{{"steps":{STEPS},"bytes":{bytes}}}"#);
    let unread = client.tool("up.flood", &arguments).meta(r#""progressToken":1"#).open().await;
    assert_eq!(other.call("up.echo", "{}").await.content(), "echo");
    unread
}

/// The steps that were told before the answer, and the answer.
async fn read(mut stream: Open) -> (Vec<u64>, Value) {
    let mut steps = Vec::new();
    loop {
        let message = stream.event().await.unwrap();
        match message["params"]["progress"].as_u64() {
            Some(step) => steps.push(step),
            None => return (steps, message),
        }
    }
}

#[tokio::test]
async fn ten_thousand_reports_of_a_program_wait_in_order_for_a_client_that_reads_after_all_were_said() {
    let gateway = behind_flooding().await;
    for era in [Era::Modern, Era::Legacy] {
        let (client, other) = (gateway.client(era).await, gateway.client(era).await);

        let unread = flooded(&client, &other, 400).await;

        let (steps, answer) = read(unread).await;
        assert!(steps.iter().copied().eq(1..=STEPS as u64), "{era:?}: {} reports came", steps.len());
        assert_eq!(answer["result"]["content"][0]["text"], "flood", "{era:?}");
        assert!(answer["result"]["_meta"][LOST].is_null(), "{era:?}: {}", answer["result"]);
    }
}

#[tokio::test]
async fn what_is_beyond_the_bound_is_dropped_and_the_client_is_told_how_much_that_was() {
    let gateway = behind_flooding().await;
    for era in [Era::Modern, Era::Legacy] {
        let (client, other) = (gateway.client(era).await, gateway.client(era).await);
        let before = gateway.program.rss_bytes();

        let unread = flooded(&client, &other, 8 * 1024).await;
        let grown = gateway.program.rss_bytes().saturating_sub(before);

        let (steps, answer) = read(unread).await;
        let lost = answer["result"]["_meta"][LOST].as_u64().unwrap();
        assert!(lost > 0 && lost + steps.len() as u64 == STEPS as u64, "{era:?}: {lost} of {STEPS}, {} came", steps.len());
        assert!(steps.is_sorted(), "{era:?}");
        assert!(grown < 24 * 1024 * 1024, "{era:?}: the gateway grew by {grown} bytes");
    }
}
