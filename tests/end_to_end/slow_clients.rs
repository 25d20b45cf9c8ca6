//! Clients that do not read while a program that others use too has much to tell them, or have as many calls out as they may.

use http::{Method, Request, StatusCode};
use serde_json::{Value, json};

use crate::{
    stdio::program,
    support::{Act, Era, Gateway, Mcp, Open, Script, Scripted, Serves, Setup, open, send, within},
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

/// Calls that one client may have on a stream that is its session.
const CALLS_MAX: usize = 256;

/// A client of HTTP+SSE that says what it likes.
struct Poster {
    client: Mcp,
    messages: String,
    stream: Open,
}

impl Poster {
    async fn new(client: Mcp) -> Self {
        let mut stream = open(client.address, at("/sse", client.head(Method::GET, String::new()))).await;
        let first = stream.raw_event().await.unwrap();
        let messages = first.split("data: ").nth(1).unwrap().trim().to_owned();
        Self { client, messages, stream }
    }

    async fn post(&self, body: String) {
        let request = at(&self.messages, self.client.head(Method::POST, body));
        assert_eq!(send(self.client.address, request).await.status, StatusCode::ACCEPTED);
    }

    async fn call(&self, tool: &str, id: usize) {
        self.post(self.client.tool(tool, "{}").id(&id.to_string()).body()).await;
    }

    /// Says that it listens, and waits until it is told what for.
    async fn listen(&mut self, id: usize) {
        let wanted = r#""notifications":{"toolsListChanged":true}"#;
        self.post(self.client.ask("subscriptions/listen").id(&id.to_string()).params(wanted).body()).await;
        let told = self.stream.event().await.unwrap();
        assert_eq!(told["method"], "notifications/subscriptions/acknowledged", "{told}");
    }
}

fn at(path: &str, mut request: Request<String>) -> Request<String> {
    *request.uri_mut() = path.parse().unwrap();
    request
}

#[tokio::test]
async fn a_client_with_as_many_calls_as_it_may_have_is_refused_another_at_once_and_heard_otherwise() {
    let script = Script::new(Serves::Both).tool("hold", Act::Hold).tool("echo", Act::Echo);
    let server = Scripted::start(script).await;
    let gateway = Gateway::start(Setup::new().upstream("up", server.url())).await;
    gateway.target_is("up", "ready").await;
    let mut poster = Poster::new(gateway.modern()).await;
    poster.listen(1_000).await;
    for id in 0..CALLS_MAX {
        poster.call("up.hold", id).await;
    }
    server.wait_for_calls(CALLS_MAX).await;

    poster.call("up.echo", 1_001).await;
    let refused = poster.stream.event().await.unwrap();
    poster.post(poster.client.ask("tools/list").id("1002").body()).await;
    let listed = poster.stream.event().await.unwrap();
    poster.listen(1_003).await;
    poster.post(r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":7}}"#.to_owned()).await;
    // The place is free when the call has heard of it.
    let answered = within("a place", async {
        loop {
            poster.call("up.echo", 1_004).await;
            let answer = poster.stream.event().await.unwrap();
            if answer["error"].is_null() {
                break answer;
            }
        }
    });
    let answered = answered.await;

    assert_eq!((&refused["id"], &refused["error"]["data"]["code"]), (&json!(1_001), &json!("overloaded")), "{refused}");
    assert_eq!(refused["error"]["data"]["delivery"], "not_sent");
    assert!(refused["error"]["data"]["retryAfterMs"].is_u64(), "{refused}");
    assert_eq!(listed["result"]["tools"].as_array().map(Vec::len), Some(2));
    assert_eq!(answered["id"], 1_004, "{answered}");
    assert_eq!(server.calls().len(), CALLS_MAX + 1, "what was refused did not run");
}
