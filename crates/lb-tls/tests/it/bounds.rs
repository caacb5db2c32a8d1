//! Who may connect, and what may be sent.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    sync::mpsc,
    time::Instant,
};
use tokio_stream::StreamExt as _;

use lb_tls::{Bounds, Connections, Incoming, Stream, Tls};

use crate::support::listen;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

async fn connect(last: u8, to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((Ipv4Addr::new(127, 0, 0, last), 0).into()).unwrap();
    socket.connect(to).await.unwrap()
}

/// Takes connections for ever, and hands them over.
async fn serve(bounds: Bounds) -> (SocketAddr, Connections, mpsc::UnboundedReceiver<Stream>) {
    let (listener, address) = listen().await;
    let connections = Connections::new(bounds);
    let mut incoming = Incoming::new(listener, Tls::open()).bounded(connections.clone());
    let (give, taken) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Some(Ok(stream)) = incoming.next().await {
            // A test that is over needs no more.
            let _ = give.send(stream);
        }
    });
    (address, connections, taken)
}

async fn is_closed(stream: &mut TcpStream) -> bool {
    stream.read(&mut [0; 1]).await.unwrap_or(0) == 0
}

#[tokio::test]
async fn one_too_many_is_closed_at_once_and_a_place_comes_back() {
    let (address, connections, mut taken) =
        serve(Bounds { in_all: 4, per_peer: 3, prompt: false }).await;
    let mut inside = Vec::new();
    for _ in 0..3 {
        inside.push((connect(2, address).await, taken.recv().await.unwrap()));
    }
    assert!(is_closed(&mut connect(2, address).await).await);
    let other = (connect(3, address).await, taken.recv().await.unwrap());
    assert!(is_closed(&mut connect(4, address).await).await, "there are four in all");
    assert_eq!(connections.open(), 4);
    drop((inside, other));
    assert_eq!(connections.open(), 0);
    let _again = connect(4, address).await;
    taken.recv().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn who_does_not_begin_is_closed() {
    let (address, connections, mut taken) = serve(Bounds::default()).await;
    for said in [&b""[..], &PREFACE[..23]] {
        let mut client = connect(2, address).await;
        client.write_all(said).await.unwrap();
        let (mut stream, begun) = (taken.recv().await.unwrap(), Instant::now());
        let mut heard = Vec::new();
        let error = stream.read_to_end(&mut heard).await.unwrap_err();
        assert_eq!((error.kind(), &*heard), (io::ErrorKind::TimedOut, said));
        assert!(begun.elapsed() < Duration::from_secs(6));
    }
    assert_eq!(connections.open(), 0);
    let mut client = connect(2, address).await;
    client.write_all(PREFACE).await.unwrap();
    let mut stream = taken.recv().await.unwrap();
    stream.read_exact(&mut [0; 24]).await.unwrap();
    // Whoever has begun may be silent: it is asked whether it is there, which is not this crate's work.
    let mut rest = [0; 1];
    let silent = tokio::time::timeout(Duration::from_secs(60), stream.read(&mut rest));
    assert!(silent.await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_flood_is_read_slowly_and_others_at_once() {
    let ping = [&[0, 0, 8, 6, 0, 0, 0, 0, 0][..], &[1; 8]].concat();
    let flood = [PREFACE, &ping.repeat(2000)].concat();
    let (address, _connections, mut taken) = serve(Bounds::default()).await;
    let read_all = async |mut stream: Stream, length: usize| {
        let begun = Instant::now();
        // As much at a time as h2 reads.
        let mut left = length;
        while left > 0 {
            left -= stream.read(&mut vec![0; left.min(8192)]).await.unwrap();
        }
        begun.elapsed()
    };
    let mut client = connect(2, address).await;
    let stream = taken.recv().await.unwrap();
    let length = flood.len();
    tokio::spawn(async move { client.write_all(&flood).await });
    let took = read_all(stream, length).await;
    // Some thousand are free, and a hundred a second at most after it.
    assert!(took > Duration::from_secs(5), "{took:?}");

    let few = [PREFACE, &ping.repeat(20)].concat();
    for last in [2, 3] {
        let mut client = connect(last, address).await;
        client.write_all(&few).await.unwrap();
        let stream = taken.recv().await.unwrap();
        assert_eq!(read_all(stream, few.len()).await, Duration::ZERO);
    }
}
