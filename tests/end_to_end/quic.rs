//! Two gateways as peers over QUIC, over TCP, and over both: which carries the calls, and where that can be seen.

use runtime_mcpp::Identity;
use serde_json::json;
use tempfile::TempDir;

use crate::support::{Act, Era, Gateway, Script, Scripted, Serves, Setup, until};

const TCP: &str = "/ip4/127.0.0.1/tcp/0";
const QUIC: &str = "/ip4/127.0.0.1/udp/0/quic-v1";

/// A gateway that listens there and lets the peers in that `authority` names.
async fn far(listen: &[&str], authority: &str, upstream: &Scripted) -> Gateway {
    let tables = format!("[p2p]\nlisten = {listen:?}\n{authority}\n");
    let far = Gateway::start(Setup::new().upstream("up", upstream.url()).tables(&tables)).await;
    far.target_is("up", "ready").await;
    far
}

fn near(addresses: &[String]) -> Setup {
    let (first, others) = addresses.split_first().unwrap();
    Setup::new()
        .tables(&format!("[p2p]\n[[peer]]\nname = \"far\"\naddress = \"{first}\"\naddresses = {others:?}\nrefresh = \"1s\"\n"))
}

/// Where it listens, as it says itself, with its key: QUIC last.
fn addresses(gateway: &Gateway) -> Vec<String> {
    let mut addresses: Vec<String> = serde_json::from_value(gateway.ready["p2p"].clone()).unwrap();
    addresses.sort_by_key(|address| address.contains("quic"));
    addresses
}

async fn scripted() -> Scripted {
    Scripted::start(Script::new(Serves::Both).tool("echo", Act::Echo).tool("secret", Act::Echo)).await
}

/// Waits for the transport, calls the peer in both eras, and looks where the transport is told. On a busy machine QUIC may be
/// too late for its head start, and then calls move to it with the next listing.
async fn carried_by(near: &Gateway, expected: &str) {
    let carried = async || (near.target("far").await["transport"] == expected).then_some(());
    until(&format!("{expected} to carry the calls"), carried).await;
    for era in [Era::Modern, Era::Legacy] {
        for text in ["hello", &"x".repeat(200_000)] {
            let answer = near.client(era).await.call("far.up.echo", &json!({ "text": text }).to_string()).await.result();
            assert_eq!(answer["structuredContent"]["text"], *text, "{era:?}");
        }
    }
    for transport in ["tcp", "quic"] {
        let label = format!("transport=\"{transport}\"");
        let connected = near.metric("twinway_peers_connected", &[&label]).await;
        assert_eq!(connected, f64::from(u8::from(transport == expected)), "{label}");
    }
}

#[tokio::test]
async fn gateways_that_know_each_other_over_quic_alone_call_each_other() {
    let upstream = scripted().await;
    let far = far(&[QUIC], "authority = \"open-loopback\"", &upstream).await;

    let near = Gateway::start(near(&addresses(&far))).await;

    carried_by(&near, "quic").await;
}

#[tokio::test]
async fn with_both_transports_up_quic_is_chosen() {
    let upstream = scripted().await;
    let far = far(&[TCP, QUIC], "authority = \"open-loopback\"", &upstream).await;
    let addresses = addresses(&far);
    assert!(addresses.len() == 2 && addresses[0].contains("/tcp/"), "TCP stands first: {addresses:?}");

    let near = Gateway::start(near(&addresses)).await;

    carried_by(&near, "quic").await;
}

#[tokio::test]
async fn where_udp_is_blocked_tcp_carries_the_calls() {
    let upstream = scripted().await;
    let far = far(&[TCP, QUIC], "authority = \"open-loopback\"", &upstream).await;
    // What a wall that swallows UDP looks like from here: a port that takes everything and answers nothing.
    let wall = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut addresses = addresses(&far);
    addresses[1] = format!("/ip4/127.0.0.1/udp/{}/quic-v1/p2p/{}", wall.local_addr().unwrap().port(), far.peer_id());

    let near = Gateway::start(near(&addresses)).await;

    carried_by(&near, "tcp").await;
    let mut packet = [0; 2048];
    assert!(wall.recv(&mut packet).unwrap() > 1000, "QUIC was tried");
}

#[tokio::test]
async fn a_gateway_that_restarts_without_quic_is_reached_over_tcp() {
    let upstream = scripted().await;
    let mut first = far(&[TCP, QUIC], "authority = \"open-loopback\"", &upstream).await;
    let addresses = addresses(&first);
    let near = Gateway::start(near(&addresses)).await;
    carried_by(&near, "quic").await;

    first.program.kill();
    let Gateway { folder, program, .. } = first;
    drop(program);
    let port: u16 = addresses[0].split('/').nth(4).unwrap().parse().unwrap();
    let tables = format!("[p2p]\nlisten = [\"/ip4/127.0.0.1/tcp/{port}\"]\nauthority = \"open-loopback\"\n");
    let again = Gateway::start_in(Setup::new().upstream("up", upstream.url()).tables(&tables), folder).await;
    again.target_is("up", "ready").await;

    carried_by(&near, "tcp").await;
}

#[tokio::test]
async fn over_quic_a_key_may_call_what_it_is_allowed_and_another_key_nothing() {
    let upstream = scripted().await;
    let folder = TempDir::new().unwrap();
    let known = Identity::load_or_create(&folder.path().join("twinway.key")).unwrap().peer_id();
    let allowed = format!("authority = \"allowlist\"\n[[p2p.allow]]\npeer = \"{known}\"\ntools = [\"up.echo\"]");
    let far = far(&[QUIC], &allowed, &upstream).await;

    let as_known = Gateway::start_in(near(&addresses(&far)), folder).await;
    let as_other = Gateway::start(near(&addresses(&far))).await;

    for (gateway, expected) in [(&as_known, vec!["far.up.echo"]), (&as_other, vec![])] {
        gateway.target_is("far", "ready").await;
        assert_eq!(gateway.modern().tool_names().await, expected);
    }
    carried_by(&as_known, "quic").await;
}
