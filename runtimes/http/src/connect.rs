//! Opens connections to one origin.

use std::{io, time::Duration};

use rustls::pki_types::ServerName;
use thiserror::Error;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use url::Url;

use crate::{
    h1::{Connection, Stream},
    tls::{self, Trust, TrustError},
};

/// No connection could be opened; nothing was sent.
#[derive(Debug, Error)]
pub(crate) enum ConnectError {
    #[error("no connection to {origin} within {} ms", limit.as_millis())]
    Timeout { origin: Box<str>, limit: Duration },
    #[error("cannot connect to {origin}")]
    Tcp { origin: Box<str>, source: io::Error },
    #[error("no secure connection to {origin}")]
    Tls { origin: Box<str>, source: io::Error },
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
            "https" => Some(secured(&host).map_err(|error| error.to_string())?),
            other => return Err(format!("the url's scheme is {other}; only http and https are known").into()),
        };
        let name = format!("{host}:{port}").into();
        Ok(Self { host: host.into(), port, tls, name, timeout })
    }

    /// Opens a connection. It lives on the runtime of whoever opens it.
    pub(crate) async fn connect(&self) -> Result<Connection, ConnectError> {
        let Ok(opened) = tokio::time::timeout(self.timeout, self.open()).await else {
            return Err(ConnectError::Timeout { origin: self.name.clone(), limit: self.timeout });
        };
        opened.map(Connection::new)
    }

    async fn open(&self) -> Result<Stream, ConnectError> {
        let tcp = |source| ConnectError::Tcp { origin: self.name.clone(), source };
        let stream = TcpStream::connect((&*self.host, self.port)).await.map_err(tcp)?;
        // A call is one small write each way: waiting for more to send only adds latency.
        stream.set_nodelay(true).map_err(tcp)?;
        let Some((connector, name)) = &self.tls else { return Ok(Stream::Plain(stream)) };
        let secured = connector.connect(name.clone(), stream).await;
        let secured = secured.map_err(|source| ConnectError::Tls { origin: self.name.clone(), source })?;
        Ok(Stream::Tls(Box::new(secured)))
    }

    /// `host` or `host:port`, for the Host header.
    pub(crate) fn authority(url: &Url) -> String {
        let host = url.host_str().unwrap_or_default();
        url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
    }
}

fn secured(host: &str) -> Result<(TlsConnector, ServerName<'static>), TrustError> {
    Ok((tls::connector(Trust::Machine)?, tls::server_name(host)?))
}

impl std::fmt::Debug for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Origin").field(&self.name).finish()
    }
}
