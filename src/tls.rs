//! The certificate that a way in shows, and its private key: two PEM files, checked together.

mod validity;

use std::{
    io::{self, Read},
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use runtime_mcpp::identity::{self, IdentityError};
use rustls::{
    InconsistentKeys, ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    sign::{CertifiedKey, SingleCertAndKey},
};
use thiserror::Error;

use crate::config;

/// 1 MiB: a chain of a handful of certificates has some 10 KiB; anything longer is another file given by mistake.
const CHAIN_BYTES_MAX: u64 = 1 << 20;

/// 64 KiB: the longest keys in use, RSA of 16,384 bits, have 13 KiB as PEM.
const KEY_BYTES_MAX: u64 = 64 << 10;

/// What is offered to clients, the best first.
const PROTOCOLS: [&[u8]; 2] = [H2, b"http/1.1"];

/// HTTP/2 as ALPN names it (RFC 9113, section 3.1).
pub(crate) const H2: &[u8] = b"h2";

/// A certificate chain with the key of its first certificate.
#[derive(Debug)]
pub(crate) struct Certificate {
    certified: CertifiedKey,
    cert_file: PathBuf,
}

/// Why there is no certificate to show.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CertificateError {
    /// The chain cannot be read.
    #[error("certificate file {path} cannot be read")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Another file, or an empty one.
    #[error("certificate file {path} holds no certificate: it needs a PEM section that begins `-----BEGIN CERTIFICATE-----`")]
    NoCertificate {
        /// The file.
        path: PathBuf,
    },
    /// A section that is none, or a certificate that is broken.
    #[error("certificate file {path} is broken: {what}")]
    Broken {
        /// The file.
        path: PathBuf,
        /// In the words of its reader.
        what: String,
    },
    /// The key cannot be read, or others can read it.
    #[error(transparent)]
    Key(#[from] IdentityError),
    /// Another file, or a key with a passphrase.
    #[error(
        "key file {path} holds no private key that can be used: it must be PKCS#8, PKCS#1 or SEC1 in PEM, without a passphrase"
    )]
    NoKey {
        /// The file.
        path: PathBuf,
    },
    /// Two files that do not belong together.
    #[error("the key of {key} is not the one of the first certificate of {certificate}")]
    Mismatch {
        /// The key's file.
        key: PathBuf,
        /// The certificate's.
        certificate: PathBuf,
    },
}

impl CertificateError {
    /// The key of `[http.tls]` that is wrong.
    pub(crate) const fn key(&self) -> &'static str {
        match self {
            Self::Read { .. } | Self::NoCertificate { .. } | Self::Broken { .. } => "cert_file",
            Self::Key(_) | Self::NoKey { .. } | Self::Mismatch { .. } => "key_file",
        }
    }
}

impl Certificate {
    /// Reads both files. Blocks on the file system.
    pub(crate) fn load(files: &config::Tls) -> Result<Self, CertificateError> {
        let config::Tls { cert_file, key_file } = files;
        let chain = read_chain(cert_file)?;
        let pem = identity::read_private(key_file, KEY_BYTES_MAX)?;
        let no_key = || CertificateError::NoKey { path: key_file.clone() };
        let key = PrivateKeyDer::from_pem_slice(&pem).map_err(|_| no_key())?;
        let certified = CertifiedKey::from_der(chain, key, &ring::default_provider()).map_err(|error| match error {
            rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
                CertificateError::Mismatch { key: key_file.clone(), certificate: cert_file.clone() }
            }
            rustls::Error::InvalidCertificate(what) => {
                CertificateError::Broken { path: cert_file.clone(), what: format!("{what:?}") }
            }
            _ => no_key(),
        })?;
        Ok(Self { certified, cert_file: cert_file.clone() })
    }

    /// What is wrong with its dates at this moment. Clients that check will refuse it; it is served all the same, because
    /// no certificate at all helps nobody.
    pub(crate) fn out_of_date(&self, now: SystemTime) -> Option<String> {
        let path = self.cert_file.display();
        let dates = validity::of(self.certified.cert.first()?)?;
        let say = |what: &str, when| format!("the certificate of {path} {what} {}", humantime::format_rfc3339_seconds(when));
        if now > dates.not_after {
            Some(say("expired at", dates.not_after))
        } else if now < dates.not_before {
            Some(say("is not valid before", dates.not_before))
        } else {
            None
        }
    }

    /// How connections are secured with it.
    pub(crate) fn into_server_config(self) -> Arc<ServerConfig> {
        let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let builder = builder.with_safe_default_protocol_versions().expect("ring has suites for TLS 1.2 and 1.3");
        let resolver = Arc::new(SingleCertAndKey::from(self.certified));
        let mut config = builder.with_no_client_auth().with_cert_resolver(resolver);
        config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).to_vec();
        Arc::new(config)
    }
}

fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    let unreadable = |source| CertificateError::Read { path: path.to_owned(), source };
    let mut pem = Vec::new();
    std::fs::File::open(path).map_err(unreadable)?.take(CHAIN_BYTES_MAX).read_to_end(&mut pem).map_err(unreadable)?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match chain {
        Ok(chain) if chain.is_empty() => Err(CertificateError::NoCertificate { path: path.to_owned() }),
        Ok(chain) => Ok(chain),
        Err(error) => Err(CertificateError::Broken { path: path.to_owned(), what: error.to_string() }),
    }
}

#[cfg(test)]
pub(crate) mod tests;
