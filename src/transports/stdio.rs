//! Standard input and output as a way in, for desktop clients that start a gateway for themselves: one message a line (2025-11-25
//! and 2026-07-28, transports).

use std::time::Duration;

use futures_util::future::BoxFuture;
use runtime_api::{PartError, Transport};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};
use twinway_proto::rope::Rope;

use super::{auth::Known, duplex::Duplex};
use crate::{config, mcp::Server};

/// How long the first message waits for servers that are still starting. A program that has to be fetched takes seconds; desktop clients
/// wait for a minute.
const PATIENCE: Duration = Duration::from_secs(5);

/// Serves the one client at the other end of standard input.
#[derive(Debug)]
pub struct Stdio {
    server: Server,
    /// Longest line in bytes.
    line_bytes_max: usize,
    /// How tools are shown to the client.
    exposure: config::Exposure,
    /// Cancelled when the client has gone.
    gone: CancellationToken,
}

impl Stdio {
    /// A transport over the standard input and output of this process. `gone` is cancelled when the client closes its end.
    #[must_use]
    pub const fn new(server: Server, http: &config::Http, gone: CancellationToken) -> Self {
        Self { server, line_bytes_max: http.body_bytes_max.get(), exposure: http.exposure, gone }
    }

    async fn converse(
        self,
        input: impl AsyncRead + Send + Unpin,
        mut output: impl AsyncWrite + Send + Unpin,
        stop: CancellationToken,
    ) {
        let Self { server, line_bytes_max, exposure, gone } = self;
        // Whoever starts a process may do what it may.
        let (duplex, mut unwritten) = Duplex::new(server, Known::anonymous(exposure), "", "pipe");
        let stuck = unwritten.stuck();
        let reading = async move {
            let mut input = BufReader::new(input);
            loop {
                match line(&mut input, line_bytes_max).await {
                    Ok(Some(line)) if line.trim_ascii().is_empty() => {}
                    Ok(Some(line)) => {
                        if duplex.take(line.into()).await.is_err() {
                            return;
                        }
                    }
                    Ok(None) => return,
                    Err(error) => return debug!(%error, "standard input broke"),
                }
            }
        };
        let writing = async {
            while let Some(frame) = unwritten.next().await {
                if let Err(error) = write(&mut output, frame).await {
                    return debug!(%error, "standard output broke");
                }
            }
        };
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = stuck.cancelled() => debug!("the client does not read"),
            () = async { tokio::join!(reading, writing); } => {}
        }
        gone.cancel();
    }
}

impl Transport for Stdio {
    fn name(&self) -> &'static str {
        "stdio"
    }

    fn local_addr(&self) -> String {
        "standard input and output".to_owned()
    }

    fn serve(self: Box<Self>, stop: CancellationToken) -> BoxFuture<'static, Result<(), PartError>> {
        Box::pin(async move {
            // Many clients list once, and at once.
            tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                () = self.server.catalog().settled(PATIENCE) => {}
            }
            self.converse(tokio::io::stdin(), tokio::io::stdout(), stop).await;
            info!("the client has gone");
            Ok(())
        })
    }
}

/// The next line without its end; `None` at the end of the input.
async fn line(input: &mut (impl AsyncBufReadExt + Unpin), bytes_max: usize) -> std::io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    let read = input.take(bytes_max as u64 + 1).read_until(b'\n', &mut line).await?;
    if read == 0 {
        return Ok(None);
    }
    if line.last() != Some(&b'\n') && line.len() > bytes_max {
        return Err(std::io::Error::other(format!("a line of more than {bytes_max} bytes")));
    }
    Ok(Some(line))
}

/// One message as one line. Between the parts of JSON a line break means nothing, and within a string there is none.
async fn write(output: &mut (impl AsyncWrite + Unpin), frame: Rope) -> std::io::Result<()> {
    for part in frame.parts() {
        match memchr::memchr2(b'\n', b'\r', part) {
            None => output.write_all(part).await?,
            Some(_) => {
                let part: Vec<u8> = part.iter().map(|byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { *byte }).collect();
                output.write_all(&part).await?;
            }
        }
    }
    output.write_all(b"\n").await?;
    output.flush().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_are_cut_wherever_they_end_and_a_long_one_is_refused() {
        let mut input = &b"one\r\n\ntwo"[..];
        let mut lines = Vec::new();
        while let Some(line) = line(&mut input, 8).await.expect("short lines") {
            lines.push(String::from_utf8(line).expect("UTF-8"));
        }
        assert_eq!(lines, ["one\r\n", "\n", "two"]);

        let mut long = &b"123456789\n"[..];
        assert!(line(&mut long, 8).await.is_err());
        let mut fits = &b"12345678\n"[..];
        assert!(line(&mut fits, 8).await.is_ok());
    }

    #[tokio::test]
    async fn a_message_is_one_line() {
        let mut written = Vec::new();

        write(&mut written, Rope::from(b"{\n \"a\":\r\n1}".to_vec())).await.expect("a vector takes all");

        assert_eq!(written, b"{  \"a\":  1}\n");
    }
}
