//! A neutral libp2p peer with one tool, `echo`, that shares no code with Twinway.

use futures_util::AsyncReadExt as _;
use libp2p::{Multiaddr, Stream};
use tokio::task::JoinSet;

use crate::echo::{self, Offer};
use crate::raw_stream::{self, FrameReader};
use crate::request::Era;

/// Serves on free loopback ports with one thread until the process is killed.
pub(crate) fn serve(announce: impl FnOnce(&[Multiaddr])) -> anyhow::Result<()> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let (mut node, addresses) = raw_stream::listen().await?;
        announce(&addresses);
        let mut streams = JoinSet::new();
        while let Some(stream) = node.streams.recv().await {
            streams.spawn(serve_stream(stream));
            while streams.try_join_next().is_some() {}
        }
        Ok(())
    })
}

/// Answers what has arrived together in one go.
async fn serve_stream(stream: Stream) -> std::io::Result<()> {
    let (reader, mut writer) = stream.split();
    let mut reader = FrameReader::new(reader);
    let mut answers = Vec::new();
    while let Some(message) = reader.next().await? {
        push_answer(&mut answers, &message);
        while let Some(message) = reader.next_arrived() {
            push_answer(&mut answers, &message);
        }
        raw_stream::write_frames(&mut writer, &answers).await?;
        answers.clear();
    }
    Ok(())
}

fn push_answer(answers: &mut Vec<u8>, message: &[u8]) {
    let reply = echo::answer(Era::Modern, Offer::Own, message);
    // A notification has no answer.
    if !reply.body.is_empty() {
        raw_stream::push_frame(answers, reply.body.as_bytes());
    }
}
