//! Streams end with whoever gave them up, and an error says once what is wrong.

use std::error::Error as _;

use tokio::sync::mpsc;

use super::*;

/// A server that takes no revision of ours, and tells of each stream whose other side has ended it.
fn refusing(ends: mpsc::Sender<()>) -> Script {
    Arc::new(move |InboundStream { stream, permit, .. }, _, _| {
        let ends = ends.clone();
        Box::pin(async move {
            let (mut reader, mut writer) = framed(stream, FRAME_BYTES_MAX);
            while let Some(Ok(frame)) = reader.next().await {
                let message: Value = serde_json::from_slice(&frame).unwrap();
                let error = json!({"code": -32022, "message": "no such revision"});
                let answer = json!({"jsonrpc": "2.0", "id": message["id"], "error": error}).to_string();
                writer.send(Rope::from(answer.into_bytes())).await.unwrap();
            }
            ends.send(()).await.ok();
            drop(permit);
        })
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handshake_that_fails_ends_its_stream_and_nothing_keeps_the_node_from_stopping() {
    let (ends, mut ended) = mpsc::channel(16);
    let far = Far::start(&config(), refusing(ends)).await;
    let mut near = Near::start(&[peer(&far)]).await;

    near.until(|state| matches!(state, TargetState::Failed(_))).await;
    soon(ended.recv()).await.unwrap();

    near.stop.cancel();
    soon(near.tasks.join_next()).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stopping_does_not_wait_for_a_large_call() {
    let mut far = Far::start(&config(), server()).await;
    let mut near = Near::start(&[peer(&far)]).await;
    let mut large = call("hang", &format!(r#""{}""#, "x".repeat(100_000)));
    large.deadline += PATIENCE;
    let service = near.service.clone();
    let stop = async {
        far.next_call().await;
        near.stop.cancel();
        soon(near.tasks.join_next()).await.unwrap().unwrap();
    };

    let (answer, ()) = tokio::join!(service.oneshot(large), stop);

    assert_eq!(answer.unwrap_err().code(), ErrorCode::Disconnected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_error_says_once_that_a_peer_cannot_be_reached() {
    let gone = {
        let far = Far::start(&config(), server()).await;
        peer(&far)
    };
    let mut near = Near::start(&[gone]).await;
    near.until(|state| matches!(state, TargetState::Failed(_))).await;

    let error = near.call("echo", "{}").await.unwrap_err();

    assert_eq!(error.to_string(), "peer `far` cannot be reached");
    let cause = error.source().unwrap();
    assert!(!cause.to_string().contains("cannot be reached"), "{cause}");
    assert!(cause.source().is_none(), "{cause:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_key_is_told_with_both_keys() {
    let far = Far::start(&config(), server()).await;
    let (real, other) = (far.handle.peer_id(), Identity::ephemeral().peer_id());
    let address = far.handle.listen_addrs()[0].clone().with_p2p(other).unwrap();
    let mut near = Near::start(&[PeerConfig::new("far", vec![address])]).await;

    near.until(|state| matches!(state, TargetState::Failed(_))).await;

    let TargetState::Failed(reason) = near.offers.borrow().targets[0].state.clone() else { panic!("it failed") };
    assert_eq!(*reason, format!("it has the key {real}, the configured address names {other}"));
}
