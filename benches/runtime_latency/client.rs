//! The clients of the load generator, one per wire.

mod http;
mod raw;
mod seam;

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::load::Order;
use crate::request::{Era, check_answer, check_result};
use http::HttpClient;
use raw::RawStream;
use seam::Seam;

/// How a call travels.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Wire {
    Http(Era),
    /// One plain libp2p stream for all callers.
    RawStream,
    /// The MCP++ runtime within the load generator.
    Seam,
}

/// One caller with at most one call in flight.
pub(crate) enum Client {
    Http(Box<HttpClient>),
    RawStream(Arc<RawStream>),
    Seam(Arc<Seam>),
}

impl Client {
    /// Opens `order.in_flight` clients.
    pub(crate) async fn connect_all(order: &Order) -> anyhow::Result<Vec<Self>> {
        match order.wire {
            Wire::Http(era) => {
                let mut clients = Vec::with_capacity(order.in_flight);
                for _ in 0..order.in_flight {
                    clients.push(Self::Http(Box::new(HttpClient::connect(era, order).await?)));
                }
                Ok(clients)
            }
            Wire::RawStream => {
                let stream = Arc::new(RawStream::connect(order).await?);
                Ok((0..order.in_flight).map(|_| Self::RawStream(stream.clone())).collect())
            }
            Wire::Seam => {
                let seam = Arc::new(Seam::connect(order).await?);
                Ok((0..order.in_flight).map(|_| Self::Seam(seam.clone())).collect())
            }
        }
    }

    /// Sends one call and reads its whole answer, unchecked.
    pub(crate) async fn call(&mut self, id: u64, text: &str) -> anyhow::Result<Answer> {
        match self {
            Self::Http(client) => client.call(id, text).await.map(Answer::Message),
            Self::RawStream(stream) => stream.call(id, text).await.map(Answer::Message),
            Self::Seam(seam) => seam.call(text).await.map(Answer::Result),
        }
    }

    /// Ends sessions and connections, so that no round leaves one behind.
    pub(crate) async fn close(self) {
        match self {
            Self::Http(client) => client.close().await,
            Self::RawStream(_) => {}
            Self::Seam(seam) => {
                if let Some(seam) = Arc::into_inner(seam) {
                    seam.close().await;
                }
            }
        }
    }
}

/// The bytes of an answer.
pub(crate) enum Answer {
    /// A whole JSON-RPC message.
    Message(Bytes),
    /// The result that a runtime took out of it.
    Result(Bytes),
}

impl Answer {
    /// Fails unless this answers call `id` with exactly `text`. A bare result has no id: the text is another in each call.
    pub(crate) fn check(&self, id: u64, text: &str) -> anyhow::Result<()> {
        match self {
            Self::Message(message) => check_answer(message, id, text),
            Self::Result(result) => check_result(&serde_json::from_slice(result)?, text),
        }
    }
}
