//! Both transports to one peer: which of them carries the calls, and what happens when one is not there.

use runtime_mcpp::{Carrier, Multiaddr};
use tokio::net::UdpSocket;

use super::*;

/// Both transports.
fn both() -> Config {
    Config { listen: carriers().into_iter().flat_map(|config| config.listen).collect(), ..Config::default() }
}

/// A peer at that one of its addresses, and at further ones.
fn peer_at(far: &Far, wanted: Carrier, more: &[Multiaddr]) -> PeerConfig {
    let own = far.addresses().into_iter().filter(|address| Carrier::of(address) == Some(wanted));
    PeerConfig { addresses: own.chain(more.iter().cloned()).collect(), ..peer(far) }
}

fn quic_at(far: &Far, port: u16) -> Multiaddr {
    let address: Multiaddr = format!("/ip4/127.0.0.1/udp/{port}/quic-v1").parse().unwrap();
    address.with_p2p(far.handle.peer_id()).unwrap()
}

/// Waits until the calls go that way: on a busy machine QUIC may be too late for its head start, and then calls move to it
/// with the next listing.
async fn carried_by(near: &mut Near, expected: &'static str) {
    soon(near.offers.wait_for(|offers| offers.targets[0].transport == Some(expected))).await.unwrap();
    near.call("echo", r#"{"n":1}"#).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_both_transports_up_quic_carries_the_calls() {
    let far = Far::start(&both(), server()).await;
    // TCP stands first in the configuration: the order of the lines is no preference.
    let mut addresses = far.addresses();
    addresses.sort_by_key(|address| Carrier::of(address) == Some(Carrier::Quic));
    let mut near = Near::start(&[PeerConfig { addresses, refresh: Duration::from_secs(1), ..peer(&far) }]).await;

    carried_by(&mut near, "quic").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_move_from_tcp_to_a_connection_over_quic_that_opens_later() {
    let far = Far::start(&both(), server()).await;
    let wall = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let beyond = far.addresses().into_iter().find(|address| Carrier::of(address) == Some(Carrier::Quic)).unwrap();
    let quic = quic_at(&far, wall.local_addr().unwrap().port());
    let mut near = Near::start(&[PeerConfig { refresh: Duration::from_secs(1), ..peer_at(&far, Carrier::Tcp, &[quic]) }]).await;
    carried_by(&mut near, "tcp").await;

    // The wall opens while the client still repeats its greeting.
    let mut forwarding = tokio::task::JoinSet::new();
    forwarding.spawn(forward(wall, port_of(&beyond)));

    carried_by(&mut near, "quic").await;
}

/// Takes the packets of one client to that port, and the answers back.
async fn forward(wall: UdpSocket, port: u16) {
    let inner = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    inner.connect(("127.0.0.1", port)).await.unwrap();
    let (mut there, mut back) = ([0; 2048], [0; 2048]);
    let mut client = None;
    loop {
        tokio::select! {
            Ok((length, from)) = wall.recv_from(&mut there) => {
                client = Some(from);
                inner.send(&there[..length]).await.unwrap();
            }
            Ok(length) = inner.recv(&mut back) => {
                wall.send_to(&back[..length], client.unwrap()).await.unwrap();
            }
        }
    }
}

fn port_of(address: &Multiaddr) -> u16 {
    address.to_string().split('/').nth(4).unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_quic_gets_no_answer_tcp_carries_the_calls() {
    let far = Far::start(&both(), server()).await;
    let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let closed = UdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    for address in [silent.local_addr().unwrap(), closed] {
        let began = Instant::now();
        let mut near = Near::start(&[peer_at(&far, Carrier::Tcp, &[quic_at(&far, address.port())])]).await;

        carried_by(&mut near, "tcp").await;
        assert!(began.elapsed() < Duration::from_secs(4), "before QUIC gave up, after 5 s: {:?}", began.elapsed());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_tcp_is_refused_quic_carries_the_calls() {
    let far = Far::start(&both(), server()).await;
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let tcp: Multiaddr = format!("/ip4/127.0.0.1/tcp/{port}").parse().unwrap();
    let tcp = tcp.with_p2p(far.handle.peer_id()).unwrap();
    let mut near = Near::start(&[peer_at(&far, Carrier::Quic, &[tcp])]).await;

    carried_by(&mut near, "quic").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_answers_on_neither_says_why_for_both() {
    let far = Far::start(&config(), server()).await;
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let over = |rest: String| format!("/ip4/127.0.0.1/{rest}").parse::<Multiaddr>().unwrap().with_p2p(far.handle.peer_id());
    let addresses = vec![over(format!("udp/{closed}/quic-v1")).unwrap(), over(format!("tcp/{closed}")).unwrap()];
    let mut near = Near::start(&[PeerConfig { addresses, ..peer(&far) }]).await;

    near.until(|state| matches!(state, TargetState::Failed(_))).await;

    let offers = near.offers.borrow();
    let reason = offers.targets[0].state.reason().unwrap();
    assert!(reason.contains("timed out") && reason.contains("refused"), "{reason}");
    assert_eq!(offers.targets[0].transport, None);
}

#[tokio::test]
async fn a_udp_port_in_use_is_named() {
    let taken = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let listen: Multiaddr = format!("/ip4/127.0.0.1/udp/{}/quic-v1", taken.local_addr().unwrap().port()).parse().unwrap();
    let config = Config { listen: vec![listen.clone()], ..Config::default() };

    let error = Node::bind(&config, Identity::ephemeral()).await.unwrap_err();

    assert!(error.to_string().contains(&listen.to_string()), "{error}");
}
