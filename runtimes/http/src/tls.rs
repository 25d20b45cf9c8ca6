//! TLS towards servers: whom to trust, and under which name a server is known.

use std::{io, path::Path, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use thiserror::Error;
use tokio_rustls::TlsConnector;

/// Whose word a server's certificate needs.
#[derive(Debug, Clone, Copy)]
pub enum Trust<'a> {
    /// The machine's certificate authorities, or those that `SSL_CERT_FILE` names.
    Machine,
    /// Those in this PEM file and nobody else's.
    File(&'a Path),
}

/// Nobody can be trusted in this way.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TrustError {
    /// An empty store.
    #[error("the machine has no certificate authorities, so no https server can be trusted")]
    NoneOnMachine,
    /// The file of authorities cannot be read.
    #[error("the certificate authorities in {path} cannot be read")]
    Read {
        /// The file.
        path: Box<str>,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// It holds something else.
    #[error("{path} holds no certificate authority in PEM form")]
    NoneInFile {
        /// The file.
        path: Box<str>,
    },
    /// A host that no certificate can name.
    #[error("`{0}` cannot be the name of a TLS server")]
    Name(Box<str>),
}

/// What secures connections to servers that `trust` vouches for.
///
/// # Errors
/// [`TrustError`] when that is nobody.
pub fn connector(trust: Trust<'_>) -> Result<TlsConnector, TrustError> {
    let mut roots = RootCertStore::empty();
    let (added, nobody) = match trust {
        Trust::Machine => {
            let found = rustls_native_certs::load_native_certs();
            (roots.add_parsable_certificates(found.certs).0, TrustError::NoneOnMachine)
        }
        Trust::File(path) => {
            let path_text: Box<str> = path.display().to_string().into();
            let pem = std::fs::read(path).map_err(|source| TrustError::Read { path: path_text.clone(), source })?;
            let found = CertificateDer::pem_slice_iter(&pem).filter_map(Result::ok);
            (roots.add_parsable_certificates(found).0, TrustError::NoneInFile { path: path_text })
        }
    };
    if added == 0 {
        return Err(nobody);
    }
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring has suites for TLS 1.2 and 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

/// The name that a server's certificate must bear.
///
/// # Errors
/// [`TrustError::Name`]
pub fn server_name(host: &str) -> Result<ServerName<'static>, TrustError> {
    ServerName::try_from(host.to_owned()).map_err(|_| TrustError::Name(host.into()))
}
