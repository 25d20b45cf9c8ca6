//! The baseline of the MCP++ runtime: one plain libp2p stream, one reader, and answers matched to callers by id.

use std::collections::HashMap;
use std::sync::Arc;

use anyhow::Context as _;
use bytes::Bytes;
use futures_util::AsyncReadExt as _;
use futures_util::io::{ReadHalf, WriteHalf};
use libp2p::Stream;
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use crate::load::Order;
use crate::raw_stream::{self, FrameReader, Node};
use crate::request::{Era, call_body};

/// What every answer of the peer begins with. It is known, so the id is found without reading the whole message: there
/// is no cheaper way to match it.
const BEFORE_ID: &[u8] = br#"{"jsonrpc":"2.0","id":"#;

type Callers = Mutex<HashMap<u64, oneshot::Sender<Bytes>>>;

/// A stream that all callers share.
pub(crate) struct RawStream {
    tool: String,
    /// Frames that wait for the writer to be free; whoever has it next writes all of them.
    waiting: Mutex<Vec<u8>>,
    writer: tokio::sync::Mutex<WriteHalf<Stream>>,
    callers: Arc<Callers>,
    _reader: JoinSet<()>,
    _node: Node,
}

/// A node that has not dialled yet.
pub(crate) struct Dialler(raw_stream::Dialler);

impl Dialler {
    pub(super) fn new(order: &Order) -> anyhow::Result<Self> {
        Ok(Self(raw_stream::Dialler::new(order.endpoint.parse()?)?))
    }

    pub(super) async fn dial(self, order: &Order) -> anyhow::Result<RawStream> {
        let (node, stream) = self.0.dial().await?;
        let (reader, writer) = stream.split();
        let callers = Arc::new(Callers::default());
        let mut tasks = JoinSet::new();
        tasks.spawn(read(FrameReader::new(reader), callers.clone()));
        Ok(RawStream {
            tool: order.tool.clone(),
            waiting: Mutex::default(),
            writer: tokio::sync::Mutex::new(writer),
            callers,
            _reader: tasks,
            _node: node,
        })
    }
}

impl RawStream {
    pub(super) async fn call(&self, id: u64, text: &str) -> anyhow::Result<Bytes> {
        let (caller, answer) = oneshot::channel();
        self.callers.lock().insert(id, caller);
        raw_stream::push_frame(&mut self.waiting.lock(), call_body(Era::Modern, id, &self.tool, text).as_bytes());
        let mut writer = self.writer.lock().await;
        let frames = std::mem::take(&mut *self.waiting.lock());
        if !frames.is_empty() {
            raw_stream::write_frames(&mut *writer, &frames).await?;
        }
        drop(writer);
        answer.await.context("the stream ended")
    }
}

async fn read(mut reader: FrameReader<ReadHalf<Stream>>, callers: Arc<Callers>) {
    while let Ok(Some(message)) = reader.next().await {
        if let Some(caller) = id_of(&message).and_then(|id| callers.lock().remove(&id)) {
            caller.send(message).ok();
        }
    }
    // Whoever still waits hears that the stream ended.
    callers.lock().clear();
}

fn id_of(message: &[u8]) -> Option<u64> {
    let after = message.strip_prefix(BEFORE_ID)?;
    let digits = after.split(|byte| !byte.is_ascii_digit()).next()?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}
