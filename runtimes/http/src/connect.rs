//! Opens connections to one origin.

use std::{io, sync::Arc, time::Duration};

use hyper::{
    client::conn::http1::{Builder, SendRequest},
    rt::{Read, Write},
};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore, pki_types::ServerName};
use thiserror::Error;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_util::task::TaskTracker;
use url::Url;

use crate::body::RopeBody;

/// No connection could be opened; nothing was sent.
#[derive(Debug, Error)]
pub(crate) enum ConnectError {
    #[error("no connection to {origin} within {} ms", limit.as_millis())]
    Timeout { origin: Box<str>, limit: Duration },
    #[error("cannot connect to {origin}")]
    Tcp { origin: Box<str>, source: io::Error },
    #[error("no secure connection to {origin}")]
    Tls { origin: Box<str>, source: io::Error },
    #[error("HTTP cannot begin with {origin}")]
    Http { origin: Box<str>, source: hyper::Error },
}

/// A scheme, host and port: the only place an upstream's requests go to.
pub(crate) struct Origin {
    host: Box<str>,
    port: u16,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    /// `host:port` for messages.
    name: Box<str>,
    timeout: Duration,
}

impl Origin {
    /// `url` is http or https and has a host.
    pub(crate) fn new(url: &Url, timeout: Duration) -> Result<Self, Box<str>> {
        let host = match url.host() {
            Some(url::Host::Ipv6(address)) => address.to_string(),
            Some(host) => host.to_string(),
            None => return Err("the url has no host".into()),
        };
        let port = url.port_or_known_default().ok_or("the url has no port")?;
        let tls = match url.scheme() {
            "http" => None,
            "https" => Some((connector()?, server_name(&host)?)),
            other => return Err(format!("the url's scheme is {other}; only http and https are known").into()),
        };
        let name = format!("{host}:{port}").into();
        Ok(Self { host: host.into(), port, tls, name, timeout })
    }

    /// Opens a connection and spawns what drives it into `drivers`.
    pub(crate) async fn connect(&self, drivers: &TaskTracker) -> Result<SendRequest<RopeBody>, ConnectError> {
        let opening = self.open(drivers);
        let Ok(opened) = tokio::time::timeout(self.timeout, opening).await else {
            return Err(ConnectError::Timeout { origin: self.name.clone(), limit: self.timeout });
        };
        opened
    }

    async fn open(&self, drivers: &TaskTracker) -> Result<SendRequest<RopeBody>, ConnectError> {
        let tcp = |source| ConnectError::Tcp { origin: self.name.clone(), source };
        let stream = TcpStream::connect((&*self.host, self.port)).await.map_err(tcp)?;
        // A call is one small write each way: waiting for more to send only adds latency.
        stream.set_nodelay(true).map_err(tcp)?;
        match &self.tls {
            None => self.handshake(TokioIo::new(stream), drivers).await,
            Some((connector, name)) => {
                let secured = connector.connect(name.clone(), stream).await;
                let secured = secured.map_err(|source| ConnectError::Tls { origin: self.name.clone(), source })?;
                self.handshake(TokioIo::new(secured), drivers).await
            }
        }
    }

    async fn handshake<I>(&self, io: I, drivers: &TaskTracker) -> Result<SendRequest<RopeBody>, ConnectError>
    where
        I: Read + Write + Unpin + Send + 'static,
    {
        let handshake = Builder::new().handshake(io).await;
        let (sender, driver) = handshake.map_err(|source| ConnectError::Http { origin: self.name.clone(), source })?;
        // Whoever waits for an answer on this connection is told of its end; there is nobody else to tell.
        drivers.spawn(async move { driver.await.is_ok() });
        Ok(sender)
    }

    /// `host` or `host:port`, for the Host header.
    pub(crate) fn authority(url: &Url) -> String {
        let host = url.host_str().unwrap_or_default();
        url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
    }
}

fn server_name(host: &str) -> Result<ServerName<'static>, Box<str>> {
    ServerName::try_from(host.to_owned()).map_err(|_| format!("`{host}` cannot be the name of a TLS server").into())
}

/// Trusts the machine's certificate authorities.
fn connector() -> Result<TlsConnector, Box<str>> {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    let (added, _) = roots.add_parsable_certificates(found.certs);
    if added == 0 {
        return Err("the machine has no certificate authorities, so no https server can be trusted".into());
    }
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

impl std::fmt::Debug for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Origin").field(&self.name).finish()
    }
}
