//! When there are no open files left. Alone in its process, since all tests of a process share its limit.

use std::{fs::File, net::Ipv4Addr, time::Duration};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::{
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_stream::StreamExt as _;

use lb_tls::{Bounds, Incoming, Tls};

#[tokio::test(start_paused = true)]
async fn without_files_connections_wait_and_no_core_is_burnt() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: Some(200), maximum }).unwrap();
    let bounds = Bounds { in_all: 1000, ..Bounds::default() };
    assert_eq!(bounds.within_descriptors(), Bounds { in_all: 72, ..bounds });

    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let mut incoming = Incoming::new(listener, Tls::open());
    let files: Vec<File> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
    assert!(!files.is_empty());
    // Time goes on only when nothing is left to do: if it asked again and again, this would never end.
    assert!(timeout(Duration::from_secs(10), incoming.next()).await.is_err());
    drop(files);
    let stream = incoming.next().await.unwrap().unwrap();
    assert_eq!(stream.peer().address, Some(client.local_addr().unwrap()));
}
