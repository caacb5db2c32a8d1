//! Attackers: many connections that do what no honest program does, from several addresses of the loopback.
//!
//! They speak HTTP/2 by hand, so that nothing of a library holds them back. One that is cut off comes back a second
//! later. What they do is a [`Plan`], made from the [`Kind`].

mod kind;
mod wire;

use std::{
    io::{self, Write as _},
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use anyhow::Context as _;
use clap::Args;
use serde::Serialize;
use tokio::{
    net::{TcpSocket, TcpStream},
    sync::oneshot,
    task::JoinSet,
    time::{sleep, timeout},
};

use self::kind::{Kind, Plan};
use crate::roles;

/// When one that was cut off comes back.
const COME_BACK: Duration = Duration::from_secs(1);
/// How long the first connections may take; a server that is full lets some wait for ever.
const OPENING: Duration = Duration::from_secs(3);
/// Receive buffer of those that read nothing, in bytes: the less, the sooner the other side is stuck.
const SMALL: u32 = 4096;
/// Send buffer of all, in bytes. What lies in it is memory of their machine, which here is also that of those who are attacked.
const OWN: u32 = 16 << 10;

/// What to do.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// How they attack
    #[arg(value_enum)]
    kind: Kind,
    /// Whom
    #[arg(long, value_name = "ADDRESS")]
    target: SocketAddr,
    /// Connections
    #[arg(long, value_name = "COUNT", default_value_t = 2000, value_parser = clap::value_parser!(u32).range(1..=50_000))]
    count: u32,
    /// The first address that they come from
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.2")]
    from: Ipv4Addr,
    /// And how many, one after the other
    #[arg(long, value_name = "COUNT", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=1000))]
    addresses: u32,
}

/// What became of them.
#[derive(Debug, Default)]
struct Counts {
    opened: AtomicU64,
    ended: AtomicU64,
    bytes: AtomicU64,
}

#[derive(Debug, Serialize)]
struct Found {
    /// Connections that were made, also again.
    opened: u64,
    /// Of those, the ones that the other side has ended.
    ended: u64,
    /// Bytes sent.
    bytes: u64,
}

/// Attacks until the standard input is closed. Says `ready` when all have been connected once, and at the end what became
/// of them.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    roles::allow_files()?;
    roles::single_threaded()?.block_on(async {
        let counts = Arc::new(Counts::default());
        let mut attackers = JoinSet::new();
        for number in 0..arguments.count {
            let from = arguments.from.to_bits().wrapping_add(number % arguments.addresses);
            let from = SocketAddr::from((Ipv4Addr::from_bits(from), 0));
            let attacker =
                Attacker { from, target: arguments.target, kind: arguments.kind, number };
            attackers.spawn(attacker.attack(Arc::clone(&counts)));
        }
        let all = u64::from(arguments.count);
        let connected = async {
            while counts.opened.load(Relaxed) < all {
                sleep(Duration::from_millis(10)).await;
            }
        };
        // Those that are missing go on trying.
        let _ = timeout(OPENING, connected).await;
        say("ready")?;
        let (end, ended) = oneshot::channel();
        thread::spawn(move || {
            roles::wait_for_end();
            // The other half is waiting.
            let _ = end.send(());
        });
        ended.await.context("the thread that waits has failed")?;
        attackers.shutdown().await;
        let read = |count: &AtomicU64| count.load(Relaxed);
        let Counts { opened, ended, bytes } = &*counts;
        let found = Found { opened: read(opened), ended: read(ended), bytes: read(bytes) };
        say(&serde_json::to_string(&found)?)
    })
}

fn say(line: &str) -> anyhow::Result<()> {
    let mut output = io::stdout();
    writeln!(output, "{line}").and_then(|()| output.flush()).context("nobody listens")
}

#[derive(Debug, Clone, Copy)]
struct Attacker {
    from: SocketAddr,
    target: SocketAddr,
    kind: Kind,
    number: u32,
}

impl Attacker {
    async fn attack(self, counts: Arc<Counts>) {
        loop {
            if let Ok(stream) = self.connect().await {
                counts.opened.fetch_add(1, Relaxed);
                let plan = self.kind.plan(self.number);
                // However it ends, it comes back.
                let _ = act(&stream, plan, &counts).await;
                counts.ended.fetch_add(1, Relaxed);
            }
            sleep(COME_BACK).await;
        }
    }

    async fn connect(self) -> io::Result<TcpStream> {
        let socket = TcpSocket::new_v4()?;
        socket.bind(self.from)?;
        socket.set_send_buffer_size(OWN)?;
        if !self.kind.reads() {
            socket.set_recv_buffer_size(SMALL)?;
        }
        let stream = socket.connect(self.target).await?;
        // Its end leaves nothing behind in the kernel, and thousands are ended.
        stream.set_zero_linger()?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

/// Until the other side ends it.
async fn act(stream: &TcpStream, plan: Plan, counts: &Counts) -> io::Result<()> {
    // Whoever answers before it has said anything does not look alive.
    write(stream, &plan.opening, counts).await?;
    let (reads, answers) = (plan.reads, plan.answers);
    tokio::select! {
        ended = speak(stream, plan, counts) => ended,
        ended = listen(stream, answers), if reads => ended,
    }
}

async fn speak(stream: &TcpStream, mut plan: Plan, counts: &Counts) -> io::Result<()> {
    for time in 1.. {
        let Some(again) = &mut plan.again else { break };
        if let Some(pause) = plan.pause {
            sleep(pause).await;
        }
        write(stream, &again(time), counts).await?;
        // Those that never have to wait would let no other attacker do anything.
        tokio::task::consume_budget().await;
    }
    std::future::pending().await
}

async fn write(stream: &TcpStream, mut bytes: &[u8], counts: &Counts) -> io::Result<()> {
    while !bytes.is_empty() {
        stream.writable().await?;
        match stream.try_write(bytes) {
            Ok(written) => {
                counts.bytes.fetch_add(written as u64, Relaxed);
                bytes = &bytes[written..];
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Reads until the end, and answers SETTINGS and PING if it shall look alive.
async fn listen(stream: &TcpStream, answers: bool) -> io::Result<()> {
    let mut heard = Vec::new();
    let mut buffer = [0; 8192];
    loop {
        stream.readable().await?;
        let length = match stream.try_read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(error) => return Err(error),
        };
        if answers {
            heard.extend_from_slice(&buffer[..length]);
            // A full socket is no reason to wait: it is asked again.
            let _ = stream.try_write(&wire::answers(&mut heard));
        }
    }
}
