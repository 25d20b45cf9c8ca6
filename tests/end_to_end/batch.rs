//! Several messages in one array (2025-03-26 only).

use serde_json::{Value, json};

use crate::support::{Act, Gateway, Mcp, Script, Scripted, Serves, Setup, send};

const BATCH: &str = r#"[
    {"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"up.echo","arguments":{"text":"a"}}},
    {"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":99}},
    {"jsonrpc":"2.0","id":"two","method":"tools/list"},
    {"jsonrpc":"2.0","id":3,"method":"no/such"},
    [],
    {"jsonrpc":"2.0","id":4,"method":"tools/call","params":{"name":"up.echo","arguments":{"text":"b"}}}
]"#;

async fn gateway() -> (Gateway, Scripted) {
    let server = Scripted::start(Script::new(Serves::Both).tool("echo", Act::Echo)).await;
    let gateway = Gateway::start(Setup::new().upstream("up", server.url())).await;
    gateway.target_is("up", "ready").await;
    (gateway, server)
}

#[tokio::test]
async fn each_message_of_a_batch_is_answered_as_if_it_had_come_alone() {
    let (gateway, server) = gateway().await;
    let client = Mcp::legacy(gateway.address).open("2025-03-26").await;

    let answer = send(gateway.address, client.head(http::Method::POST, BATCH.to_owned())).await;
    let none = r#"[{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":99}}]"#;
    let nothing = send(gateway.address, client.head(http::Method::POST, none.to_owned())).await;

    let answers = answer.messages().pop().unwrap();
    let of = |id: &Value| answers.as_array().unwrap().iter().find(|answer| answer["id"] == *id).cloned().unwrap();
    assert_eq!(answers.as_array().unwrap().len(), 5, "{answers}");
    assert!(of(&json!(1))["result"].to_string().contains(r#"\"text\":\"a\""#));
    assert!(of(&json!(4))["result"].to_string().contains(r#"\"text\":\"b\""#));
    assert_eq!(of(&json!("two"))["result"]["tools"][0]["name"], "up.echo");
    assert_eq!(of(&json!(3))["error"]["code"], -32601);
    assert_eq!(of(&Value::Null)["error"]["code"], -32600, "a batch within a batch");
    assert_eq!(nothing.status, 202);
    assert_eq!(server.calls().len(), 2);
}

#[tokio::test]
async fn revisions_without_batches_refuse_them_and_an_endless_one_is_refused() {
    let (gateway, server) = gateway().await;
    for client in [gateway.modern(), gateway.legacy().await] {
        let refused = send(gateway.address, client.head(http::Method::POST, BATCH.to_owned())).await;
        assert_eq!((refused.status.as_u16(), refused.error()["code"].clone()), (400, json!(-32600)));
    }
    let client = Mcp::legacy(gateway.address).open("2025-03-26").await;
    let ping = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
    for bad in ["[]".to_owned(), format!("[{}]", [ping; 101].join(","))] {
        let refused = send(gateway.address, client.head(http::Method::POST, bad)).await;
        assert_eq!(refused.error()["code"], -32600);
    }
    assert_eq!(server.calls().len(), 0);
}
