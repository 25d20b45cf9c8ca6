//! Servers that are no servers.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

/// What is wrong with a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Garbage {
    /// Takes the connection and never says anything.
    Silent,
    /// Does not speak HTTP.
    NotHttp,
    /// Answers everything with text that calls itself JSON.
    NotJson,
    /// Answers everything with an event stream that never says anything.
    EndlessStream,
    /// Closes every connection at once.
    HangsUp,
}

/// A listener that answers garbage until it is dropped.
pub(crate) struct Broken {
    address: SocketAddr,
    _tasks: JoinSet<()>,
}

impl Garbage {
    /// Starts such a server.
    pub(crate) async fn start(self) -> Broken {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                connections.spawn(self.speak(stream));
            }
        });
        Broken { address, _tasks: tasks }
    }

    async fn speak(self, mut stream: TcpStream) {
        let answer: &[u8] = match self {
            Self::HangsUp => return,
            Self::Silent => b"",
            Self::NotHttp => b"\x00\xff\x13 220 mail.example ESMTP ready\r\n\r\n",
            Self::NotJson => b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n<!DOCTYPE",
            Self::EndlessStream => b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n: still here\n\n",
        };
        let mut request = [0; 4096];
        while let Ok(1..) = stream.read(&mut request).await {
            if stream.write_all(answer).await.is_err() {
                return;
            }
        }
    }
}

impl Broken {
    /// Where it is.
    pub(crate) fn url(&self) -> String {
        format!("http://{}/mcp", self.address)
    }
}

/// A URL where nobody listens.
pub(crate) async fn closed_port() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    format!("http://{}/mcp", listener.local_addr().unwrap())
}
