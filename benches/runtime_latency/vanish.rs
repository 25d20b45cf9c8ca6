//! Clients that go away without a word, each in one of the ways that happen.

use std::net::SocketAddr;

use anyhow::{Context as _, bail};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::client::{HttpClient, Wire};
use crate::echo::NAP;
use crate::load::Order;
use crate::request::Era;

/// Clients at one time: enough to keep the gateway busy, few enough for its queues.
const AT_ONCE_MAX: usize = 64;

/// How a client goes away.
#[derive(Clone, Copy)]
enum Way {
    /// Its session is open, and nobody ends it.
    LeavingASession,
    /// Its connection breaks in the middle of a call.
    InACall(Era),
    /// Its connection breaks in the middle of its request.
    InARequest,
}

const WAYS: [Way; 4] = [Way::LeavingASession, Way::InACall(Era::Legacy), Way::InACall(Era::Modern), Way::InARequest];

/// Lets `count` clients come and go.
pub(crate) async fn come_and_go(gateway: SocketAddr, count: usize) -> anyhow::Result<()> {
    each(count, |number| vanish(gateway, WAYS[number % WAYS.len()])).await
}

/// Opens `count` sessions that are left idle.
pub(crate) async fn leave_sessions(gateway: SocketAddr, count: usize) -> anyhow::Result<()> {
    each(count, |_| vanish(gateway, Way::LeavingASession)).await
}

async fn each<F>(count: usize, work: impl Fn(usize) -> F) -> anyhow::Result<()>
where
    F: Future<Output = anyhow::Result<()>> + Send + 'static,
{
    let mut running = JoinSet::new();
    for number in 0..count {
        if running.len() == AT_ONCE_MAX {
            running.join_next().await.context("some are running")???;
        }
        running.spawn(work(number));
    }
    while let Some(ended) = running.join_next().await {
        ended??;
    }
    Ok(())
}

async fn vanish(gateway: SocketAddr, way: Way) -> anyhow::Result<()> {
    match way {
        Way::LeavingASession => {
            let mut client = HttpClient::new(Era::Legacy, &order(gateway, "bench.echo"))?;
            client.ensure_open().await?;
            client.call(1, "hello").await?;
        }
        Way::InACall(era) => {
            let mut client = HttpClient::new(era, &order(gateway, "bench.nap"))?;
            client.ensure_open().await?;
            tokio::select! {
                answer = client.call(1, "hello") => bail!("a call that takes {NAP:?} was answered at once: {answer:?}"),
                () = sleep(NAP / 10) => {}
            }
        }
        Way::InARequest => {
            let mut stream = TcpStream::connect(gateway).await?;
            let head = format!("POST /mcp HTTP/1.1\r\nhost: {gateway}\r\ncontent-type: application/json\r\ncontent-length: 1000");
            stream.write_all(format!("{head}\r\n\r\n{{\"jsonrpc\":").as_bytes()).await?;
        }
    }
    Ok(())
}

fn order(gateway: SocketAddr, tool: &str) -> Order {
    Order {
        wire: Wire::Http(Era::Modern),
        endpoint: format!("{gateway}/mcp"),
        tool: tool.to_owned(),
        payload_bytes: 0,
        in_flight: 1,
        is_cold: false,
        seconds: 0.0,
        warm_up_seconds: 0.0,
    }
}
