//! A TCP proxy whose connections can be cut.

use std::net::SocketAddr;

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
};

/// A running proxy. Dropping it closes its connections.
pub(crate) struct Cut {
    pub(crate) address: SocketAddr,
    cuts: watch::Sender<()>,
    _tasks: JoinSet<()>,
}

impl Cut {
    /// Starts one before `to`.
    pub(crate) async fn start(to: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let cuts = watch::Sender::new(());
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, to, cuts.subscribe()));
        Self { address, cuts, _tasks: tasks }
    }

    /// Closes every connection that is open. New ones are good.
    pub(crate) fn cut(&self) {
        self.cuts.send_replace(());
    }
}

async fn accept(listener: TcpListener, to: SocketAddr, cuts: watch::Receiver<()>) {
    let mut connections = JoinSet::new();
    loop {
        let (mut client, _) = listener.accept().await.unwrap();
        let mut cut = cuts.clone();
        cut.mark_unchanged();
        connections.spawn(async move {
            let Ok(mut server) = TcpStream::connect(to).await else { return };
            tokio::select! {
                // Either side may go away.
                ended = copy_bidirectional(&mut client, &mut server) => drop(ended),
                _ = cut.changed() => {}
            }
        });
    }
}
