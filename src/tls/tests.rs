//! Certificates are made by an independent program part (rcgen) and read by ours.

use std::{fs, os::unix::fs::PermissionsExt, time::Duration};

use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use tempfile::TempDir;

use super::*;

/// A certificate file and a key file in a folder of their own.
pub(crate) struct Files {
    folder: TempDir,
    files: config::Tls,
}

impl Files {
    fn new(certificate: &str, key: &str) -> Self {
        let folder = TempDir::new().unwrap();
        let files = config::Tls { cert_file: folder.path().join("cert.pem"), key_file: folder.path().join("key.pem") };
        fs::write(&files.cert_file, certificate).unwrap();
        fs::write(&files.key_file, key).unwrap();
        fs::set_permissions(&files.key_file, fs::Permissions::from_mode(0o600)).unwrap();
        Self { folder, files }
    }

    /// Two that belong together.
    pub(crate) fn good() -> Self {
        let (pem, key) = certificate(2060);
        Self::new(&pem, &key)
    }

    /// A configuration with these files in place of `cert.pem` and `key.pem`.
    pub(crate) fn put_into(&self, text: &str) -> String {
        let quoted = |file: &str| format!("\"{}\"", self.folder.path().join(file).display());
        text.replace("\"cert.pem\"", &quoted("cert.pem")).replace("\"key.pem\"", &quoted("key.pem"))
    }

    fn load(&self) -> Result<Certificate, String> {
        let folder = format!("{}/", self.folder.path().display());
        Certificate::load(&self.files).map_err(|error| format!("{}: {error}", error.key()).replace(&folder, ""))
    }
}

fn certificate(until: i32) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(until, 1, 1));
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

#[test]
fn each_way_in_which_two_files_are_no_certificate_is_told() {
    let (pem, key) = certificate(2060);
    let (_, other) = certificate(2060);
    let encrypted = key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
    let cut = format!("{}\n-----END CERTIFICATE-----\n", &pem[..60]);
    let no_key = "key_file: key file key.pem holds no private key that can be used: \
                  it must be PKCS#8, PKCS#1 or SEC1 in PEM, without a passphrase";
    let cases = [
        (&*pem, &*key, None),
        (
            "",
            &*key,
            Some(
                "cert_file: certificate file cert.pem holds no certificate: it needs a PEM section that begins `-----BEGIN CERTIFICATE-----`",
            ),
        ),
        (&*cut, &*key, Some("cert_file: certificate file cert.pem is broken: ")),
        (&*pem, "", Some(no_key)),
        (&*pem, &*encrypted, Some(no_key)),
        (&*pem, &*pem, Some(no_key)),
        (&*pem, &*other, Some("key_file: the key of key.pem is not the one of the first certificate of cert.pem")),
    ];
    for (pem, key, expected) in cases {
        let loaded = Files::new(pem, key).load().map(drop);

        match expected {
            None => assert_eq!(loaded, Ok(())),
            Some(expected) => {
                assert!(loaded.as_ref().is_err_and(|error| error.starts_with(expected)), "{loaded:?} is {expected}");
            }
        }
    }
}

#[test]
fn a_key_that_others_can_read_is_refused() {
    let (pem, key) = certificate(2060);
    let files = Files::new(&pem, &key);
    fs::set_permissions(&files.files.key_file, fs::Permissions::from_mode(0o640)).unwrap();

    let refused = files.load().map(drop);

    let expected =
        "key_file: key file key.pem has mode 640: others can read it; make it 600, or replace the key if they may have";
    assert_eq!(refused, Err(expected.to_owned()));
}

#[test]
fn a_certificate_out_of_its_dates_is_told_and_no_other() {
    let (pem, key) = certificate(2024);
    let certificate = Files::new(&pem, &key).load().unwrap();
    let year = Duration::from_secs(365 * 24 * 60 * 60);
    let at = |years: u32| certificate.out_of_date(SystemTime::UNIX_EPOCH + year * years);

    assert_eq!(at(52), None, "in 2022");
    assert!(at(60).unwrap().ends_with("expired at 2024-01-01T00:00:00Z"), "{:?}", at(60));
    assert!(at(40).unwrap().ends_with("is not valid before 2020-01-01T00:00:00Z"), "{:?}", at(40));
}
