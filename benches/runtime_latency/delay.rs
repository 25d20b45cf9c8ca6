//! Puts a tool far away: a proxy in user space that delays bytes and datagrams, keeps their order, and throttles nothing.
//!
//! A TCP connection begins as over a real distance: the client's first bytes cannot leave before one round trip, which the
//! kernel of this machine does not charge it for.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Duration, Instant, sleep_until};

/// 64 KiB: what one read takes at most; also more than any datagram holds.
const PIECE_BYTES_MAX: usize = 64 * 1024;

/// Pieces on the way in one direction: 256 MiB of whole pieces, more than any case has in flight. Were it full, the sender
/// would wait, as on a real line.
const PIECES_MAX: usize = 4096;

type Piece = (Instant, Bytes);

/// A running proxy; dropping it closes its connections.
pub(crate) struct Delay {
    pub(crate) address: SocketAddr,
    _tasks: JoinSet<()>,
}

impl Delay {
    /// Forwards TCP connections to `upstream`.
    pub(crate) async fn tcp(upstream: SocketAddr, round_trip: Duration) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                connections.spawn(forward(client, upstream, round_trip));
                while connections.try_join_next().is_some() {}
            }
        });
        Ok(Self { address, _tasks: tasks })
    }

    /// Forwards datagrams to `upstream`, each client's from a port of its own, so that answers find their way.
    pub(crate) async fn udp(upstream: SocketAddr, round_trip: Duration) -> anyhow::Result<Self> {
        let outside = Arc::new(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?);
        let address = outside.local_addr()?;
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { drop(forward_datagrams(outside, upstream, round_trip / 2).await) });
        Ok(Self { address, _tasks: tasks })
    }
}

/// One connection, until both sides are done.
async fn forward(client: TcpStream, upstream: SocketAddr, round_trip: Duration) -> io::Result<()> {
    let one_way = round_trip / 2;
    let begun = Instant::now();
    // The client's SYN is on its way.
    sleep_until(begun + one_way).await;
    let server = TcpStream::connect(upstream).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    tokio::try_join!(
        // The client hears of its connection after a round trip; what it sends then takes one way more.
        carry(from_client, to_server, one_way, begun + round_trip + one_way),
        carry(from_server, to_client, one_way, begun + round_trip),
    )?;
    Ok(())
}

/// One direction. Nothing arrives before `earliest`.
async fn carry(
    from: impl AsyncRead + Unpin,
    to: impl AsyncWrite + Unpin,
    one_way: Duration,
    earliest: Instant,
) -> io::Result<()> {
    let (send, receive) = mpsc::channel(PIECES_MAX);
    tokio::try_join!(take_in(from, send, one_way, earliest), give_out(receive, to))?;
    Ok(())
}

async fn take_in(
    mut from: impl AsyncRead + Unpin,
    send: mpsc::Sender<Piece>,
    one_way: Duration,
    earliest: Instant,
) -> io::Result<()> {
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(PIECE_BYTES_MAX);
        let count = from.read_buf(&mut buffer).await?;
        let arrives = (Instant::now() + one_way).max(earliest);
        // An empty piece is the end, which travels as long as what comes before it.
        if send.send((arrives, buffer.split().freeze())).await.is_err() || count == 0 {
            return Ok(());
        }
    }
}

async fn give_out(mut receive: mpsc::Receiver<Piece>, mut to: impl AsyncWrite + Unpin) -> io::Result<()> {
    while let Some((arrives, piece)) = receive.recv().await {
        wait_until(arrives).await;
        if piece.is_empty() {
            break;
        }
        to.write_all(&piece).await?;
    }
    to.shutdown().await
}

/// A timer rounds up to the next millisecond, which is too coarse for a piece that is due.
async fn wait_until(arrives: Instant) {
    if arrives > Instant::now() {
        sleep_until(arrives).await;
    }
}

async fn forward_datagrams(outside: Arc<UdpSocket>, upstream: SocketAddr, one_way: Duration) -> io::Result<()> {
    let mut clients: HashMap<SocketAddr, mpsc::Sender<Piece>> = HashMap::new();
    let mut tasks = JoinSet::new();
    let mut buffer = vec![0; PIECE_BYTES_MAX];
    loop {
        let (count, client) = outside.recv_from(&mut buffer).await?;
        let piece = (Instant::now() + one_way, Bytes::copy_from_slice(&buffer[..count]));
        if let Some(known) = clients.get(&client) {
            // A full queue drops the datagram, as a real line does.
            known.try_send(piece).ok();
            continue;
        }
        let inside = Arc::new(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?);
        inside.connect(upstream).await?;
        let (send, there) = mpsc::channel(PIECES_MAX);
        send.try_send(piece).ok();
        clients.insert(client, send);
        let (back, receive) = mpsc::channel(PIECES_MAX);
        tasks.spawn(deliver(there, inside.clone(), upstream));
        tasks.spawn(collect(inside, back, one_way));
        tasks.spawn(deliver(receive, outside.clone(), client));
    }
}

async fn collect(from: Arc<UdpSocket>, send: mpsc::Sender<Piece>, one_way: Duration) {
    let mut buffer = vec![0; PIECE_BYTES_MAX];
    // An error is an answer to an earlier datagram ("port unreachable") and ends nothing.
    while !send.is_closed() {
        if let Ok(count) = from.recv(&mut buffer).await {
            send.try_send((Instant::now() + one_way, Bytes::copy_from_slice(&buffer[..count]))).ok();
        }
    }
}

async fn deliver(mut receive: mpsc::Receiver<Piece>, socket: Arc<UdpSocket>, to: SocketAddr) {
    while let Some((arrives, piece)) = receive.recv().await {
        wait_until(arrives).await;
        // A datagram that cannot be sent is lost, as on a real line.
        drop(socket.send_to(&piece, to).await);
    }
}
