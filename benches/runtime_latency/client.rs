//! The callers of the load generator, one kind per wire.

mod http;
mod raw;
mod seam;

use std::sync::Arc;

use bytes::Bytes;
use runtime_api::BoxError;
use serde::{Deserialize, Serialize};
use twinway::measure::Caller;

pub(crate) use http::HttpClient;

use crate::load::Order;
use crate::request::{Era, check_answer, check_list, check_result};
use crate::scenario::LISTED_TOOLS;
use raw::RawStream;
use seam::{Seam, Target};

/// How a call travels.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Wire {
    Http(Era),
    /// The same, asking for the list of tools.
    List(Era),
    /// One plain libp2p stream for all callers.
    RawStream,
    /// The MCP++ runtime within the load generator.
    McppSeam,
    /// The HTTP runtime within the load generator.
    HttpSeam,
}

/// Calls `echo` with another text each time.
pub(crate) struct Client {
    way: Way,
    text: String,
}

enum Way {
    Http(Box<HttpClient>),
    List(Box<HttpClient>),
    RawStream(Arc<RawStream>),
    Seam(Arc<Seam>),
    Cold(Box<Cold>),
}

/// Opens what it needs for each call, and closes it before the next.
struct Cold {
    order: Order,
    ready: Option<Ready>,
    used: Option<Way>,
}

/// What can be made ready without the other side.
enum Ready {
    Http(Box<HttpClient>),
    List(Box<HttpClient>),
    RawStream(Box<raw::Dialler>),
    Seam(Target),
}

impl Client {
    /// Makes `order.in_flight` callers with open connections, or one that opens its own each time.
    pub(crate) async fn connect_all(order: &Order) -> anyhow::Result<Vec<Self>> {
        let text = "x".repeat(order.payload_bytes);
        if order.is_cold {
            let cold = Cold { order: order.clone(), ready: None, used: None };
            return Ok(vec![Self { way: Way::Cold(Box::new(cold)), text }]);
        }
        let mut clients = Vec::with_capacity(order.in_flight);
        let first = Ready::of(order).await?.open(order).await?;
        for _ in 1..order.in_flight {
            let way = match &first {
                Way::RawStream(stream) => Way::RawStream(stream.clone()),
                Way::Seam(seam) => Way::Seam(seam.clone()),
                Way::Http(_) | Way::List(_) | Way::Cold(_) => Ready::of(order).await?.open(order).await?,
            };
            clients.push(Self { way, text: text.clone() });
        }
        clients.push(Self { way: first, text });
        Ok(clients)
    }

    /// Writes the call's id over the start of the text, so that each text is another.
    fn stamp(&mut self, id: u64) {
        let stamp = format!("{id:016x}");
        let length = stamp.len().min(self.text.len());
        self.text.replace_range(..length, &stamp[stamp.len() - length..]);
    }
}

impl Caller for Client {
    type Answer = Answer;

    async fn prepare(&mut self, id: u64) -> Result<(), BoxError> {
        self.stamp(id);
        match &mut self.way {
            Way::Http(client) | Way::List(client) => client.ensure_open().await?,
            Way::Cold(cold) => cold.prepare().await?,
            Way::RawStream(_) | Way::Seam(_) => {}
        }
        Ok(())
    }

    async fn call(&mut self, id: u64) -> Result<Answer, BoxError> {
        Ok(self.way.call(id, &self.text).await?)
    }

    /// A bare result has no id: the text is another in each call.
    fn check(&self, id: u64, answer: &Answer) -> Result<(), BoxError> {
        match answer {
            Answer::Message(message) => check_answer(message, id, &self.text)?,
            Answer::List(message) => check_list(message, id, LISTED_TOOLS)?,
            Answer::Result(result) => check_result(&serde_json::from_slice(result)?, &self.text)?,
        }
        Ok(())
    }

    async fn close(self) {
        self.way.close().await;
    }
}

/// The bytes of an answer.
pub(crate) enum Answer {
    /// A whole JSON-RPC message.
    Message(Bytes),
    /// The same, with a list of tools.
    List(Bytes),
    /// The result that a runtime took out of it.
    Result(Bytes),
}

impl Way {
    async fn call(&mut self, id: u64, text: &str) -> anyhow::Result<Answer> {
        let opened = match self {
            Self::Cold(cold) => cold.open().await?,
            warm => warm,
        };
        match opened {
            Self::Http(client) => client.call(id, text).await.map(Answer::Message),
            Self::List(client) => client.list(id).await.map(Answer::List),
            Self::RawStream(stream) => stream.call(id, text).await.map(Answer::Message),
            Self::Seam(seam) => seam.call(text).await.map(Answer::Result),
            Self::Cold(_) => unreachable!("what was opened is open"),
        }
    }

    async fn close(self) {
        let way = match self {
            Self::Cold(cold) => cold.used,
            warm => Some(warm),
        };
        match way {
            Some(Self::Http(client) | Self::List(client)) => client.close().await,
            Some(Self::Seam(seam)) => {
                if let Some(seam) = Arc::into_inner(seam) {
                    seam.close().await;
                }
            }
            Some(Self::RawStream(_) | Self::Cold(_)) | None => {}
        }
    }
}

impl Cold {
    async fn prepare(&mut self) -> anyhow::Result<()> {
        if let Some(used) = self.used.take() {
            Box::pin(used.close()).await;
        }
        self.ready = Some(Ready::of(&self.order).await?);
        Ok(())
    }

    async fn open(&mut self) -> anyhow::Result<&mut Way> {
        let ready = self.ready.take().ok_or_else(|| anyhow::anyhow!("a call without its preparation"))?;
        Ok(self.used.insert(ready.open(&self.order).await?))
    }
}

impl Ready {
    async fn of(order: &Order) -> anyhow::Result<Self> {
        Ok(match order.wire {
            Wire::Http(era) => Self::Http(Box::new(HttpClient::new(era, order)?)),
            Wire::List(era) => Self::List(Box::new(HttpClient::new(era, order)?)),
            Wire::RawStream => Self::RawStream(Box::new(raw::Dialler::new(order)?)),
            Wire::McppSeam => Self::Seam(Target::peer(order).await?),
            Wire::HttpSeam => Self::Seam(Target::server(order)?),
        })
    }

    async fn open(self, order: &Order) -> anyhow::Result<Way> {
        Ok(match self {
            Self::Http(mut client) => {
                client.ensure_open().await?;
                Way::Http(client)
            }
            Self::List(mut client) => {
                client.ensure_open().await?;
                Way::List(client)
            }
            Self::RawStream(dialler) => Way::RawStream(Arc::new(dialler.dial(order).await?)),
            Self::Seam(target) => Way::Seam(Arc::new(target.open(order).await?)),
        })
    }
}
