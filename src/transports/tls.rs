//! TLS on a listener: who may begin a handshake, and with which certificate.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwap;
use rustls::{ServerConfig, server::Acceptor};
use thiserror::Error;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Semaphore,
    time::{Instant, sleep, timeout, timeout_at},
};
use tokio_rustls::{LazyConfigAcceptor, server::TlsStream};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    config,
    tls::{Certificate, CertificateError, H2},
};

/// A whole handshake: two round trips and a little arithmetic. Whoever needs longer holds a connection for nothing.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Handshakes at one time, from the client's greeting on. Each costs up to a millisecond of a core (RSA) and some 30 KiB;
/// more of them at once would only all end later, and calls on open connections would wait behind them.
const HANDSHAKES_MAX: usize = 64;

/// How often the files are looked at: two system calls, and whoever renews a certificate sees soon that it worked.
const WATCH_INTERVAL: Duration = Duration::from_secs(2);

/// The first byte of a TLS connection: a record that holds a handshake (RFC 8446, section 5.1).
const HANDSHAKE_RECORD: u8 = 22;

/// What whoever forgot the `s` is told, in the protocol that they speak.
const SPEAK_TLS: &[u8] =
    b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-type: text/plain\r\ncontent-length: 56\r\n\r\n\
    this port speaks HTTPS; begin the address with https://\n";

/// What is read and thrown away of a plain request after the answer: closing with bytes unread would reset the connection, and
/// the answer with it.
const PLAIN_BYTES_MAX: u64 = 64 << 10;
const PLAIN_TIMEOUT: Duration = Duration::from_secs(1);

/// TLS with a certificate that can change while connections are open. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Tls {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    files: config::Tls,
    config: ArcSwap<ServerConfig>,
    handshakes: Semaphore,
}

/// Why a connection was not secured.
#[derive(Debug, Error)]
pub(super) enum Refused {
    #[error("the client speaks without TLS")]
    PlainHttp,
    #[error("the handshake took too long")]
    TimedOut,
    #[error("the handshake failed")]
    Failed(#[from] io::Error),
}

/// What tells one version of the two files from another.
type Stamp = [(u64, i64, i64, u64); 2];

impl Refused {
    /// For metrics.
    pub(super) const fn reason(&self) -> &'static str {
        match self {
            Self::PlainHttp => "plain_http",
            Self::TimedOut => "tls_timeout",
            Self::Failed(_) => "tls_failed",
        }
    }
}

impl Tls {
    /// Reads the certificate. Blocks on the file system.
    ///
    /// # Errors
    /// [`CertificateError`]
    pub fn load(files: &config::Tls) -> Result<Self, CertificateError> {
        let config = ArcSwap::new(read(files)?);
        let shared = Shared { files: files.clone(), config, handshakes: Semaphore::new(HANDSHAKES_MAX) };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Reads the files anew: connections from now on get what is in them. Blocks on the file system.
    ///
    /// # Errors
    /// [`CertificateError`]; what was in force stays in force then.
    pub fn reread(&self) -> Result<(), CertificateError> {
        self.shared.config.store(read(&self.shared.files)?);
        info!(certificate = %self.shared.files.cert_file.display(), "the certificate was read anew");
        Ok(())
    }

    /// Reads the files anew whenever they change, until `stop`.
    pub(super) async fn watch(self, stop: CancellationToken) {
        let mut known = self.stamp().await;
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = sleep(WATCH_INTERVAL) => {}
            }
            let found = self.stamp().await;
            // While one of them is missing somebody is just replacing it.
            if found.is_none() || found == known {
                continue;
            }
            known = found;
            let tls = self.clone();
            let reread = tokio::task::spawn_blocking(move || tls.reread()).await;
            if let Ok(Err(error)) = reread {
                let error: &dyn std::error::Error = &error;
                warn!(error, "the new certificate is not used, the one before it stays");
            }
        }
    }

    async fn stamp(&self) -> Option<Stamp> {
        let tls = self.clone();
        let look = move || {
            let one = |path| {
                let facts = fs::metadata(path)?;
                Ok::<_, io::Error>((facts.ino(), facts.mtime(), facts.mtime_nsec(), facts.len()))
            };
            Some([one(&tls.shared.files.cert_file).ok()?, one(&tls.shared.files.key_file).ok()?])
        };
        tokio::task::spawn_blocking(look).await.ok().flatten()
    }

    /// Secures a connection.
    pub(super) async fn accept(&self, mut stream: TcpStream) -> Result<TlsStream<TcpStream>, Refused> {
        let deadline = Instant::now() + HANDSHAKE_TIMEOUT;
        let mut first = [0];
        let looked = timeout_at(deadline, stream.peek(&mut first)).await.map_err(|_| Refused::TimedOut)?;
        if looked? == 1 && first != [HANDSHAKE_RECORD] {
            // A client that does not even take its answer has none.
            timeout(PLAIN_TIMEOUT, turn_away(&mut stream)).await.ok();
            return Err(Refused::PlainHttp);
        }
        let handshake = async {
            // A client that says nothing holds no place: it is taken when the greeting is here.
            let greeted = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
            let _place = self.shared.handshakes.acquire().await.expect("the semaphore is never closed");
            greeted.into_stream(self.shared.config.load_full()).await
        };
        Ok(timeout_at(deadline, handshake).await.map_err(|_| Refused::TimedOut)??)
    }
}

/// Whether the client chose HTTP/2.
pub(super) fn is_http2(stream: &TlsStream<TcpStream>) -> bool {
    stream.get_ref().1.alpn_protocol() == Some(H2)
}

fn read(files: &config::Tls) -> Result<Arc<ServerConfig>, CertificateError> {
    let certificate = Certificate::load(files)?;
    if let Some(what) = certificate.out_of_date(SystemTime::now()) {
        warn!("{what}");
    }
    Ok(certificate.into_server_config())
}

async fn turn_away(stream: &mut TcpStream) -> io::Result<()> {
    stream.write_all(SPEAK_TLS).await?;
    stream.shutdown().await?;
    tokio::io::copy(&mut stream.take(PLAIN_BYTES_MAX), &mut tokio::io::sink()).await?;
    Ok(())
}
