//! Two real nodes on loopback: calls, cancellation, death, garbage and quotas.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[cfg(feature = "quic")]
mod carriers;
mod endings;
mod support;

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use futures_util::{
    AsyncReadExt as _, AsyncWriteExt as _, SinkExt as _, StreamExt as _, future::join_all, stream::FuturesUnordered,
};
use runtime_api::{Delivery, ErrorCode, Offers, Support, TargetState, TraceContext};
use runtime_mcpp::{Config, Identity, InboundStream, Node, OpenError, PeerConfig, Refusal, framed};
use serde_json::{Value, json};
use support::*;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;
use twinway_proto::rope::Rope;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_is_answered_over_a_pooled_stream() {
    let far = Far::start(&config(), server()).await;
    let near = Near::start(&[peer(&far)]).await;

    let reply = near.call("echo", r#"{"n":1}"#).await.unwrap();

    assert_eq!(&reply.result[..], br#"{"content":[],"echo":{"n":1}}"#);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_tools_of_a_peer_are_offered_over_all_pages() {
    let far = Far::start(&config(), server()).await;
    let mut near = Near::start(&[peer(&far)]).await;

    near.until(|state| *state == TargetState::Ready).await;

    let offers = near.offers.borrow().clone();
    let names: Vec<_> = offers.targets[0].items.tools.iter().map(|tool| &*tool.name).collect();
    assert_eq!(names, ["echo", "hold", "hang", "meta"]);
    assert_eq!(offers.targets[0].eras.modern, Support::Yes);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_list_is_fetched_when_the_peer_says_so() {
    let far = Far::start(&config(), server()).await;
    let mut near = Near::start(&[peer(&far)]).await;
    near.until(|state| *state == TargetState::Ready).await;

    near.call("grow", "{}").await.unwrap();

    let grown = |offers: &Arc<Offers>| offers.targets[0].items.tools.iter().any(|tool| &*tool.name == "grown");
    soon(near.offers.wait_for(grown)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_with_sessions_is_spoken_to_in_a_session() {
    let mut far = Far::start(&config(), legacy_server()).await;
    let mut near = Near::start(&[peer(&far)]).await;

    let reply = near.call("echo", "{}").await.unwrap();

    assert_eq!(&reply.result[..], br#"{"content":[],"echo":{}}"#);
    far.next_told("notifications/initialized").await;
    near.until(|state| *state == TargetState::Ready).await;
    assert_eq!(near.offers.borrow().targets[0].eras.legacy, Support::Yes);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_hundred_calls_answered_backwards_find_their_callers() {
    let far = Far::start(&config(), server()).await;
    let near = Near::start(&[peer(&far)]).await;

    let calls = (0..500).map(|number| {
        let near = &near;
        async move {
            let arguments = format!(r#"{{"n":{number}}}"#);
            let reply = near.call("hold", &arguments).await.unwrap();
            assert_eq!(reply.result, format!(r#"{{"content":[],"echo":{arguments}}}"#));
        }
    });

    soon(join_all(calls)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_hop_carries_the_trace_and_what_is_left_of_the_deadline() {
    let far = Far::start(&config(), server()).await;
    let near = Near::start(&[peer(&far)]).await;
    let mut call = call("meta", "{}");
    call.trace = TraceContext::parse(b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01").unwrap();

    let reply = near.service.clone().oneshot(call).await.unwrap();

    let result: Value = serde_json::from_slice(&reply.result).unwrap();
    assert_eq!(result["meta"]["traceparent"], "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
    let left_ms = result["meta"]["twinway/deadline-ms"].as_u64().unwrap();
    assert!(left_ms > 0 && left_ms <= PATIENCE.as_millis() as u64, "{left_ms}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_call_is_cancelled_over_there_and_here_forgotten() {
    let mut far = Far::start(&config(), server()).await;
    let near = Near::start(&[peer(&far)]).await;
    let id = {
        let call = near.call("hang", "{}");
        tokio::select! {
            _ = call => panic!("it hangs"),
            (_, id, ..) = far.next_call() => id,
        }
    };

    assert_eq!(far.next_told("notifications/cancelled").await["requestId"], json!(id));
    near.call("echo", "{}").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_death_of_a_peer_ends_its_calls_at_once_and_says_they_may_have_run() {
    let mut far = Far::start(&config(), server()).await;
    let mut near = Near::start(&[peer(&far)]).await;
    let call = near.call("hang", "{}");
    let death = async {
        far.next_call().await;
        // Dropping the tasks drops the swarm and its connections, as the end of a process does.
        far.tasks.shutdown().await;
    };

    let (answer, ()) = soon(async { tokio::join!(call, death) }).await;

    let error = answer.unwrap_err();
    assert_eq!((error.code(), error.delivery()), (ErrorCode::Disconnected, Delivery::Unknown), "{error}");
    near.until(|state| matches!(state, TargetState::Stale(_))).await;
    assert!(!near.offers.borrow().targets[0].items.tools.is_empty(), "the last known tools stay");
    let after = near.call("echo", "{}").await.unwrap_err();
    assert_eq!((after.code(), after.delivery()), (ErrorCode::Unavailable, Delivery::NotSent), "{after}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_comes_back_is_found_again() {
    let folder = tempfile::tempdir().unwrap();
    let identity = Identity::load_or_create(&folder.path().join("far.key")).unwrap();
    let mut far = Far::start_as(&config(), identity.clone(), server()).await;
    let listen = far.handle.listen_addrs().to_vec();
    let mut near = Near::start(&[peer(&far)]).await;
    near.until(|state| *state == TargetState::Ready).await;

    far.tasks.shutdown().await;
    near.until(|state| matches!(state, TargetState::Stale(_))).await;
    let _back = Far::start_as(&Config { listen, ..config() }, identity, server()).await;

    near.until(|state| *state == TargetState::Ready).await;
    near.call("echo", "{}").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_is_not_there_fails_its_calls_unsent_and_nobody_elses() {
    let far = Far::start(&config(), server()).await;
    let gone = {
        let far = Far::start(&config(), server()).await;
        PeerConfig::new("gone", vec![far.address()])
    };
    let near = Near::start(&[gone, peer(&far)]).await;

    let mut call = call("echo", "{}");
    call.target = "gone".into();
    let error = near.service.clone().oneshot(call).await.unwrap_err();

    assert_eq!((error.code(), error.delivery()), (ErrorCode::Unavailable, Delivery::NotSent), "{error}");
    near.call("echo", "{}").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_frame_travels_on_a_stream_of_its_own() {
    for config in carriers() {
        let mut far = Far::start(&config, server()).await;
        let near = Near::start(&[peer(&far)]).await;
        near.call("echo", "{}").await.unwrap();
        let (_, _, small_stream, _) = far.next_call().await;
        let large = format!(r#""{}""#, "x".repeat(4 << 20));

        let (reply, small) = tokio::join!(near.call("echo", &large), near.call("echo", "{}"));

        assert_eq!(reply.unwrap().result.len(), large.len() + r#"{"content":[],"echo":}"#.len());
        small.unwrap();
        for _ in 0..2 {
            let (_, _, stream, bytes) = far.next_call().await;
            assert_eq!(stream == small_stream, bytes < 64 << 10, "{bytes} bytes on stream {stream}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn crowded_streams_are_joined_by_others_up_to_four() {
    let mut far = Far::start(&config(), server()).await;
    let near = Near::start(&[peer(&far)]).await;

    let calls = join_all((0..500).map(|_| near.call("hold", "{}")));
    let replies = soon(calls).await;

    assert!(replies.iter().all(Result::is_ok));
    let mut streams = std::collections::HashSet::new();
    for _ in 0..500 {
        streams.insert(far.next_call().await.2);
    }
    assert!((1..=4).contains(&streams.len()), "{streams:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_above_the_limit_is_refused_before_it_is_sent() {
    let far = Far::start(&config(), server()).await;
    let small = Config { frame_bytes_max: NonZeroU32::new(100_000).unwrap(), ..config() };
    let near = Near::start_with(&small, &[peer(&far)]).await;

    let error = near.call("echo", &format!(r#""{}""#, "x".repeat(100_000))).await.unwrap_err();

    assert_eq!((error.code(), error.delivery()), (ErrorCode::TooLarge, Delivery::NotSent));
    near.call("echo", "{}").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_bad_frame_of_a_peer_ends_its_stream_is_counted_and_the_next_call_works() {
    let cases: [(&str, Vec<u8>, Refusal); 8] = [
        ("N = 0", 0_u32.to_be_bytes().to_vec(), Refusal::FrameEmpty),
        ("N = max + 1", ((16 << 20) + 1_u32).to_be_bytes().to_vec(), Refusal::FrameTooLarge),
        ("N = 0xFFFFFFFF", u32::MAX.to_be_bytes().to_vec(), Refusal::FrameTooLarge),
        ("a truncated body", b"\0\0\0\x09{\"json".to_vec(), Refusal::IncompleteBody),
        ("a truncated prefix", b"\0\0".to_vec(), Refusal::IncompletePrefix),
        ("not UTF-8", b"\0\0\0\x01\xff".to_vec(), Refusal::InvalidUtf8),
        ("not JSON", b"\0\0\0\x04nope".to_vec(), Refusal::InvalidJson),
        ("an array", b"\0\0\0\x02[]".to_vec(), Refusal::NotAMessage),
    ];
    for (name, bytes, refusal) in cases {
        // The first call of `hang` is answered with garbage; everything else as it should be.
        let far = Far::start(&config(), garbage_for_hang(bytes)).await;
        let near = Near::start(&[peer(&far)]).await;

        let error = soon(near.call("hang", "{}")).await.expect_err(name);

        assert_eq!(error.delivery(), Delivery::Unknown, "{name}: {error}");
        assert_eq!(near.handle.refusals().get(refusal), 1, "{name}");
        let reply = soon(near.call("echo", "{}")).await.expect(name);
        assert_eq!(&reply.result[..], br#"{"content":[],"echo":{}}"#);
    }
}

/// A server whose answer to `hang` are these bytes and the end of the stream.
fn garbage_for_hang(bytes: Vec<u8>) -> Script {
    Arc::new(move |InboundStream { stream, permit, .. }, _, _| {
        let bytes = bytes.clone();
        Box::pin(async move {
            hostile(stream, &bytes).await;
            drop(permit);
        })
    })
}

/// Answers `server/discover`, `tools/list` and `echo`; anything else with `bytes`.
async fn hostile(mut stream: runtime_mcpp::Stream, bytes: &[u8]) {
    loop {
        let mut prefix = [0; 4];
        if stream.read_exact(&mut prefix).await.is_err() {
            return;
        }
        let mut body = vec![0; u32::from_be_bytes(prefix) as usize];
        stream.read_exact(&mut body).await.unwrap();
        let message: Value = serde_json::from_slice(&body).unwrap();
        let what = message["params"]["name"].as_str().unwrap_or_else(|| message["method"].as_str().unwrap());
        let result = match what {
            "server/discover" => json!({"supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}}}),
            "tools/list" => json!({"tools": []}),
            "echo" => json!({"content": [], "echo": message["params"]["arguments"]}),
            _ => {
                stream.write_all(bytes).await.unwrap();
                stream.close().await.unwrap();
                return;
            }
        };
        let answer = json!({"jsonrpc": "2.0", "id": message["id"], "result": result}).to_string();
        stream.write_all(&u32::try_from(answer.len()).unwrap().to_be_bytes()).await.unwrap();
        stream.write_all(answer.as_bytes()).await.unwrap();
        stream.flush().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_bad_frame_to_this_node_is_refused_with_its_reason_and_the_next_stream_works() {
    let (reasons, mut refused) = tokio::sync::mpsc::channel(16);
    let script: Script = Arc::new(move |inbound, _, _| {
        let reasons = reasons.clone();
        Box::pin(async move {
            let (mut reader, mut writer) = framed(inbound.stream, FRAME_BYTES_MAX);
            while let Some(frame) = reader.next().await {
                match frame {
                    Ok(frame) => writer.send(Rope::from(frame)).await.unwrap(),
                    Err(error) => reasons.send(error.refusal()).await.unwrap(),
                }
            }
        })
    });
    let far = Far::start(&config(), script).await;
    let near = Near::start(&[]).await;
    let cases: [(&[u8], Refusal); 5] = [
        (&[0, 0, 0, 0], Refusal::FrameEmpty),
        (&[1, 0, 0, 1], Refusal::FrameTooLarge),
        (&[255, 255, 255, 255], Refusal::FrameTooLarge),
        (&[0, 0, 0, 9, b'{'], Refusal::IncompleteBody),
        (&[0, 0], Refusal::IncompletePrefix),
    ];
    for (bytes, expected) in cases {
        let mut stream = raw_stream(&near.handle, &far).await;
        stream.write_all(bytes).await.unwrap();
        stream.close().await.unwrap();

        assert_eq!(soon(refused.recv()).await.unwrap(), Some(expected), "{bytes:?}");
        let (mut reader, mut writer) = framed(raw_stream(&near.handle, &far).await, FRAME_BYTES_MAX);
        writer.send(Rope::from(b"{}".to_vec())).await.unwrap();
        assert_eq!(soon(reader.next()).await.unwrap().unwrap(), "{}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_stream_above_the_quota_is_reset_and_counted_and_a_closed_one_makes_room() {
    for config in carriers() {
        let far = Far::start(&config, server()).await;
        let near = Near::start(&[]).await;
        let mut streams = Vec::new();
        for _ in 0..32 {
            streams.push(answering(&near, &far).await);
        }

        let mut above = raw_stream(&near.handle, &far).await;
        let mut byte = [0];
        let end = soon(above.read(&mut byte)).await;

        assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
        assert_eq!(far.handle.refusals().get(Refusal::StreamQuota), 1, "{:?}", config.listen);
        drop(streams.pop());
        // The far side notices the reset a moment later than this side asks again.
        soon(async { while try_answering(&near, &far).await.is_none() {} }).await;
    }
}

/// A stream that the far side has taken: it has answered on it.
async fn answering(near: &Near, far: &Far) -> impl Sized + use<> {
    try_answering(near, far).await.expect("the stream is taken")
}

async fn try_answering(near: &Near, far: &Far) -> Option<impl Sized + use<>> {
    let (mut reader, mut writer) = framed(raw_stream(&near.handle, far).await, FRAME_BYTES_MAX);
    writer.send(Rope::from(br#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#.to_vec())).await.ok()?;
    soon(reader.next()).await?.ok()?;
    Some((reader, writer))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forty_streams_asked_for_at_once_are_all_opened() {
    let mut limits = config();
    limits.quotas.streams_max = NonZeroU32::new(40).unwrap();
    let far = Far::start(&limits, server()).await;
    let near = Near::start(&[]).await;

    let opened = join_all((0..40).map(|_| answering(&near, &far)));

    assert_eq!(soon(opened).await.len(), 40);
    assert_eq!(far.handle.refusals().iter().map(|(_, count)| count).sum::<u64>(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_that_nobody_takes_are_reset_and_counted_not_lost() {
    let (node, _untaken) = Node::bind(&config(), Identity::ephemeral()).await.unwrap();
    let far = node.handle();
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(node.run(CancellationToken::new()));
    let (first, second, third) = (Near::start(&[]).await, Near::start(&[]).await, Near::start(&[]).await);
    // 3 x 30 streams, each within its peer's quota, where 64 may wait to be taken.
    let opening = [&first, &second, &third]
        .into_iter()
        .cycle()
        .take(90)
        .map(|near| near.handle.open_stream(far.peer_id(), far.listen_addrs().to_vec(), Instant::now() + PATIENCE));
    let opened: Vec<_> = soon(join_all(opening)).await.into_iter().map(Result::unwrap).collect();

    let mut ends: FuturesUnordered<_> =
        opened.into_iter().map(|mut opened| async move { opened.stream.read(&mut [0]).await.unwrap_or(0) }).collect();
    for _ in 0..90 - 64 {
        assert_eq!(soon(ends.next()).await, Some(0));
    }

    assert_eq!(far.refusals().get(Refusal::AcceptQueueFull), 90 - 64);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_above_the_peers_limit_wait_and_then_are_shed_unsent() {
    let mut far = Far::start(&config(), server()).await;
    let one = PeerConfig { calls_in_flight_max: NonZeroU32::MIN, ..peer(&far) };
    let near = Near::start(&[one]).await;
    let mut first = Box::pin(near.call("hang", "{}"));
    tokio::select! {
        _ = &mut first => panic!("it hangs"),
        _ = far.next_call() => {}
    }

    let mut second = call("echo", "{}");
    second.deadline = Instant::now() + Duration::from_millis(20);
    let error = near.service.clone().oneshot(second).await.unwrap_err();

    assert_eq!((error.code(), error.delivery()), (ErrorCode::Overloaded, Delivery::NotSent));
    drop(first);
    near.call("echo", "{}").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_whose_time_is_up_may_have_run() {
    let far = Far::start(&config(), server()).await;
    let mut near = Near::start(&[peer(&far)]).await;
    near.until(|state| *state == TargetState::Ready).await;
    let mut call = call("hang", "{}");
    call.deadline = Instant::now() + Duration::from_millis(50);

    let error = near.service.clone().oneshot(call).await.unwrap_err();

    assert_eq!((error.code(), error.delivery()), (ErrorCode::DeadlineExceeded, Delivery::Unknown));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_with_another_key_is_not_spoken_to() {
    let far = Far::start(&config(), server()).await;
    let near = Near::start(&[]).await;
    let other = Identity::ephemeral().peer_id();
    let address = far.handle.listen_addrs()[0].clone();

    let opened = near.handle.open_stream(other, vec![address], Instant::now() + PATIENCE).await;

    assert!(matches!(opened, Err(OpenError::Dial(_))), "{opened:?}");
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let (first, _streams) = Node::bind(&config(), Identity::ephemeral()).await.unwrap();
    let listen = first.handle().listen_addrs().to_vec();

    let error = Node::bind(&Config { listen: listen.clone(), ..config() }, Identity::ephemeral()).await.unwrap_err();

    assert_eq!(error.to_string(), format!("cannot listen on {}", listen[0]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stopping_ends_every_task() {
    let far = Far::start(&config(), server()).await;
    let mut near = Near::start(&[peer(&far)]).await;
    near.call("echo", "{}").await.unwrap();

    near.stop.cancel();
    soon(near.tasks.join_next()).await.unwrap().unwrap();

    let error = near.call("echo", "{}").await.unwrap_err();
    assert_eq!(error.delivery(), Delivery::NotSent);
    let stopped = near.handle.open_stream(far.handle.peer_id(), Vec::new(), Instant::now() + PATIENCE).await;
    assert!(matches!(stopped, Err(OpenError::Stopped | OpenError::ConnectionClosed)), "{stopped:?}");
}
