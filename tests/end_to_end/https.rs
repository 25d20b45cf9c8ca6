//! HTTPS at the entrance: foreign clients and our own, certificates that change, and whoever does not speak TLS.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair};
use tempfile::TempDir;
use tokio::{io::AsyncReadExt, io::AsyncWriteExt, net::TcpStream};

use crate::support::{Act, Gateway, Script, Scripted, Serves, Setup, curl, python_client, skip, twinway, until, within};

const TLS: &str = "[http.tls]\ncert_file = \"cert.pem\"\nkey_file = \"key.pem\"\n";

/// A gateway behind a certificate of an authority of its own, whose file is `ca.pem` in its folder.
struct Secured {
    gateway: Gateway,
    upstream: Scripted,
}

impl Secured {
    async fn start() -> Self {
        let upstream = Scripted::start(Script::new(Serves::Both).tool("echo", Act::Echo)).await;
        let folder = TempDir::new().unwrap();
        certify(folder.path());
        let gateway = Gateway::start_in(Setup::new().upstream("up", upstream.url()).tables(TLS), folder).await;
        let secured = Self { gateway, upstream };
        until("the upstream", async || secured.body("/health/runtime").await.contains(r#""state":"ready""#).then_some(())).await;
        secured
    }

    fn url(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.gateway.address.port())
    }

    fn ca(&self) -> String {
        self.gateway.folder.path().join("ca.pem").display().to_string()
    }

    /// What curl prints of a request, with these options more.
    async fn curl(&self, path: &str, options: &[&str]) -> Vec<String> {
        let (url, ca) = (self.url(path), self.ca());
        let mut curl = curl(&[&["--cacert", &ca, "--max-time", "10", &url], options].concat()).unwrap();
        let mut lines = Vec::new();
        while let Some(line) = curl.line().await {
            lines.push(line);
        }
        lines
    }

    async fn body(&self, path: &str) -> String {
        self.curl(path, &[]).await.join("\n")
    }
}

/// Writes a certificate for localhost, its key, and the authority that signed it.
fn certify(folder: &Path) {
    let ca_key = KeyPair::generate().unwrap();
    let mut ca = CertificateParams::default();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.distinguished_name.push(DnType::CommonName, "An authority of the tests");
    let key = KeyPair::generate().unwrap();
    let own = CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
    let authority = ca.self_signed(&ca_key).unwrap();
    let signed = own.signed_by(&key, &authority, &ca_key).unwrap();
    fs::write(folder.join("ca.pem"), authority.pem()).unwrap();
    write_key(folder, &key);
    fs::write(folder.join("cert.pem"), signed.pem()).unwrap();
}

fn write_key(folder: &Path, key: &KeyPair) {
    let file = folder.join("key.pem");
    fs::write(&file, key.serialize_pem()).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
}

#[tokio::test]
async fn curl_agrees_on_http_2_or_http_1_1_and_refuses_an_unknown_authority() {
    let secured = Secured::start().await;
    for (option, tls, version) in [("--http2", "1.3", "2"), ("--http1.1", "1.3", "1.1"), ("--http2", "1.2", "2")] {
        let printed = secured.curl("/health", &[option, "--tls-max", tls, "--write-out", "\n%{http_version} %{http_code}"]).await;

        assert_eq!(printed.last().unwrap(), &format!("{version} 200"), "{option}: {printed:?}");
        assert!(printed[0].contains("ok"), "{option}: {printed:?}");
    }
    let mut stranger = curl(&["--max-time", "10", &secured.url("/health")]).unwrap();
    assert_eq!(stranger.line().await, None);
    assert!(stranger.log().contains("certificate"), "{}", stranger.log());
    assert!(secured.gateway.ready["https"].as_bool().unwrap());
}

#[tokio::test]
async fn a_python_client_that_trusts_the_authority_calls_in_both_eras() {
    let secured = Secured::start().await;
    for era in ["modern", "legacy"] {
        let (url, ca) = (secured.url("/mcp"), secured.ca());
        let call = [&*url, "--era", era, "--ca-file", &ca, "call", "up.echo", r#"{"text":"hello"}"#];
        let mut client = match python_client(&call) {
            Ok(client) => client,
            Err(reason) => return skip("https::a_python_client_that_trusts_the_authority_calls_in_both_eras", &reason),
        };

        assert_eq!(client.event_with("result").await["structuredContent"]["text"], "hello", "{era}");
    }
    assert_eq!(secured.upstream.calls().len(), 2);
}

#[tokio::test]
async fn our_own_commands_call_with_the_authority_and_send_nothing_without() {
    let secured = Secured::start().await;
    let (url, ca) = (secured.url("/mcp"), secured.ca());
    let call = async |options: &[&str]| twinway(&[&["call", "up.echo", r#"{"text":"hello"}"#], options].concat()).await;

    let answered = call(&["--endpoint", &url, "--ca-file", &ca]).await;
    let listed = twinway(&["tools", "--endpoint", &url, "--ca-file", &ca]).await;
    let distrusted = call(&["--endpoint", &url]).await;
    let plain = call(&["--endpoint", &url.replace("https", "http")]).await;
    let contradictory = call(&["--endpoint", "http://localhost:1", "--ca-file", &ca]).await;
    let missing = call(&["--endpoint", &url, "--ca-file", "/no/such/file"]).await;

    assert_eq!((answered.code, answered.stdout.contains("hello")), (Some(0), true), "{answered:?}");
    assert_eq!((listed.code, listed.stdout.contains("up.echo")), (Some(0), true), "{listed:?}");
    assert!(matches!(distrusted.code, Some(2 | 4)), "{distrusted:?}");
    assert!(plain.code == Some(1) && plain.stderr.contains("begin the address with https://"), "{plain:?}");
    assert!(contradictory.code == Some(2) && contradictory.stderr.contains("are for https"), "{contradictory:?}");
    assert!(missing.code == Some(2) && missing.stderr.contains("/no/such/file"), "{missing:?}");
    assert_eq!(secured.upstream.calls().len(), 1, "only the first one was sent");
}

#[tokio::test]
async fn whoever_speaks_without_tls_is_told_and_counted() {
    let secured = Secured::start().await;
    let mut stream = TcpStream::connect(secured.gateway.address).await.unwrap();

    stream.write_all(b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    within("the answer and the end", stream.read_to_string(&mut answer)).await.unwrap();

    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.ends_with("begin the address with https://\n"), "{answer}");
    drop(stream);
    let counted = r#"twinway_requests_refused_total{reason="plain_http"} 1"#;
    until("it to be counted", async || secured.body("/metrics").await.contains(counted).then_some(())).await;
}

#[tokio::test]
async fn clients_that_never_finish_a_handshake_keep_nobody_out() {
    let secured = Secured::start().await;
    let mut silent = Vec::new();
    // A record of a handshake that never gets its contents: more of them than handshakes are allowed at once, on each worker.
    for _ in 0..200 {
        let mut stream = TcpStream::connect(secured.gateway.address).await.unwrap();
        stream.write_all(&[22, 3, 1, 2, 0]).await.unwrap();
        silent.push(stream);
    }

    assert!(secured.body("/health").await.contains("ok"));

    let mut byte = [0];
    let ended = within("the gateway to give one up", silent[0].read(&mut byte)).await;
    assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
    let given_up = async || secured.body("/metrics").await.contains(r#"reason="tls_timeout""#).then_some(());
    until("it to be counted", given_up).await;
}

#[tokio::test]
async fn a_new_certificate_is_used_without_a_restart_and_a_broken_one_is_not() {
    let secured = Secured::start().await;
    let folder = secured.gateway.folder.path();

    certify(folder);
    until("the new authority to be right", async || secured.body("/health").await.contains("ok").then_some(())).await;
    write_key(folder, &KeyPair::generate().unwrap());
    let told = async || secured.gateway.program.log().contains("the new certificate is not used").then_some(());
    until("the fault to be told", told).await;

    assert!(secured.body("/health").await.contains("ok"), "the one before it stays");
    assert!(secured.gateway.program.log().contains("is not the one of the first certificate"));
}

#[tokio::test]
async fn a_gateway_does_not_start_without_a_certificate_that_works() {
    let folder = TempDir::new().unwrap();
    certify(folder.path());
    let config = folder.path().join("twinway.toml");
    fs::write(&config, format!("[http]\nlisten = \"127.0.0.1:0\"\n{TLS}")).unwrap();
    let config = config.display().to_string();
    let check = async || twinway(&["config", "check", "--config", &config]).await;
    assert_eq!(check().await.code, Some(0));

    fs::set_permissions(folder.path().join("key.pem"), fs::Permissions::from_mode(0o644)).unwrap();
    let readable = check().await;
    write_key(folder.path(), &KeyPair::generate().unwrap());
    let mismatched = check().await;
    fs::remove_file(folder.path().join("cert.pem")).unwrap();
    let missing = twinway(&["serve", "--config", &config]).await;

    for (ran, expected) in
        [(readable, ":5:12: key file "), (mismatched, ":5:12: the key of "), (missing, ":4:13: certificate file ")]
    {
        assert_eq!(ran.code, Some(2), "{ran:?}");
        assert!(ran.stderr.contains(expected), "{expected}: {ran:?}");
        assert_eq!(ran.stderr.trim_end().lines().count(), 1, "{ran:?}");
    }
}
