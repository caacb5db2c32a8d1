//! Asking around once, and being answered at once.
//!
//! A multicast DNS responder sends a record to the group at most once a second (RFC 6762, section
//! 6). Whoever asks less than a second after somebody else is therefore answered by nobody, and
//! asks again a second later: two commands in a row on one machine are enough for that. A question
//! from a port other than 5353 is exempt: it comes from a simple resolver that hears no multicast,
//! so it is answered directly, immediately and completely (section 6.7, "legacy unicast").
//!
//! An [`Inquiry`] is such a question, asked next to the ordinary one on every usable IPv4
//! interface. It only makes the beginning quick: following changes is left to the subscription,
//! and an interface on which it cannot be asked, or a network without IPv4, loses nothing else.

mod answers;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use if_addrs::{IfAddr, Ifv4Addr, Interface};
use mdns_sd::MDNS_PORT;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::{
    net::UdpSocket,
    sync::mpsc,
    task::JoinSet,
    time::{Instant, timeout_at},
};
use tracing::{debug, trace};

use self::answers::Answers;
use crate::{Role, Scope, instance::Instance, scope::GROUP_V4};

/// The question is sent three times in case a packet is lost: at the start, and at each of these
/// distances from it but the last, which is when listening ends. A responder that is up answers
/// within milliseconds; the rest is for a busy one, and for those that delay their answers.
const LISTEN_UNTIL: [Duration; 3] =
    [Duration::from_millis(100), Duration::from_millis(300), Duration::from_secs(1)];
/// Longest message, in bytes (RFC 6762, section 17). What is longer is cut, and then malformed.
const MESSAGE_LIMIT: usize = 9000;
/// Most messages read from one interface: three answers from each of as many instances as are
/// kept, and as much again from strangers.
const MESSAGES_LIMIT: usize = 6 * crate::table::INSTANCES_LIMIT;
/// Answers that wait for the reader. The sockets hold further ones.
const QUEUE_LIMIT: usize = 64;
/// Most interfaces that are asked on. A host has a handful; one full of virtual bridges has not
/// its peers behind each of them.
const LINKS_LIMIT: usize = 32;
/// Hop limit of every multicast DNS packet (RFC 6762, section 11).
const HOP_LIMIT: u32 = 255;

/// A question that was asked, and is being answered for a second. Dropping it stops listening.
#[derive(Debug)]
pub(crate) struct Inquiry {
    found: mpsc::Receiver<Vec<Instance>>,
    _tasks: JoinSet<()>,
}

impl Inquiry {
    /// Asks for all instances of `role` on every interface of `scope`. Never fails: where asking
    /// is not possible there is no answer.
    pub(crate) fn start(role: Role, scope: Scope) -> Self {
        let (sender, found) = mpsc::channel(QUEUE_LIMIT);
        let mut tasks = JoinSet::new();
        for link in links(scope) {
            let sender = sender.clone();
            tasks.spawn(async move {
                if let Err(error) = link.ask(role, &sender).await {
                    debug!(%role, interface = %link.address, %error, "cannot ask directly");
                }
            });
        }
        Self { found, _tasks: tasks }
    }

    /// Awaits the next answer: instances that are new, or known by more records than before.
    /// `None` when listening has ended. Dropping the future loses nothing.
    pub(crate) async fn next(&mut self) -> Option<Vec<Instance>> {
        self.found.recv().await
    }
}

/// An address of this host and the network behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Link {
    address: Ipv4Addr,
    netmask: Ipv4Addr,
}

/// Where to ask. The same choice as the multicast DNS thread makes.
fn links(scope: Scope) -> Vec<Link> {
    match scope {
        Scope::Loopback => {
            vec![Link { address: Ipv4Addr::LOCALHOST, netmask: Ipv4Addr::new(255, 0, 0, 0) }]
        }
        Scope::Lan => match if_addrs::get_if_addrs() {
            Ok(interfaces) => {
                interfaces.iter().filter_map(Link::on_lan).take(LINKS_LIMIT).collect()
            }
            Err(error) => {
                debug!(%error, "cannot list the network interfaces");
                Vec::new()
            }
        },
    }
}

impl Link {
    fn on_lan(interface: &Interface) -> Option<Self> {
        let IfAddr::V4(Ifv4Addr { ip, netmask, .. }) = interface.addr else { return None };
        let usable = interface.is_oper_up() && !interface.is_p2p() && !interface.is_loopback();
        usable.then_some(Self { address: ip, netmask })
    }

    /// Asks, and hands on what is found until listening ends or nobody wants it any more.
    async fn ask(self, role: Role, found: &mpsc::Sender<Vec<Instance>>) -> io::Result<()> {
        let mut answers = Answers::new(role, fastrand::u16(..));
        let question = answers.question()?;
        let socket = self.open()?;
        let mut messages_left = MESSAGES_LIMIT;
        let start = Instant::now();
        for listen_until in LISTEN_UNTIL {
            socket.send_to(&question, (GROUP_V4, MDNS_PORT)).await?;
            let received = self.listen(&socket, &mut answers, &mut messages_left, found);
            match timeout_at(start + listen_until, received).await {
                Ok(ended) => return ended,
                Err(_elapsed) => {}
            }
        }
        Ok(())
    }

    /// Reads answers; ends only when there is no more point in it.
    async fn listen(
        self,
        socket: &UdpSocket,
        answers: &mut Answers,
        messages_left: &mut usize,
        found: &mpsc::Sender<Vec<Instance>>,
    ) -> io::Result<()> {
        let mut buffer = vec![0; MESSAGE_LIMIT];
        while *messages_left > 0 {
            // A slot first: being stopped while waiting for one must not lose an answer.
            let Ok(slot) = found.reserve().await else { return Ok(()) };
            let (length, source) = socket.recv_from(&mut buffer).await?;
            *messages_left -= 1;
            if !self.is_responder(source) {
                trace!(%source, "ignoring an answer from elsewhere");
                continue;
            }
            match answers.take_in(&buffer[..length]) {
                Ok(instances) if instances.is_empty() => {}
                Ok(instances) => slot.send(instances),
                Err(reason) => debug!(%source, %reason, "ignoring an answer"),
            }
        }
        debug!(limit = MESSAGES_LIMIT, "too many answers: not listening any longer");
        Ok(())
    }

    /// A socket with a port of its own, which is what makes the question a one-shot one.
    fn open(self) -> io::Result<UdpSocket> {
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
        socket.set_nonblocking(true)?;
        socket.set_multicast_if_v4(&self.address)?;
        socket.set_multicast_ttl_v4(HOP_LIMIT)?;
        // The peers on this host are peers too.
        socket.set_multicast_loop_v4(true)?;
        socket.bind(&SocketAddr::from((self.address, 0)).into())?;
        UdpSocket::from_std(socket.into())
    }

    /// Whether an answer from `source` counts: from the port of multicast DNS (RFC 6762, section
    /// 6), and from the network that was asked, so that nobody can answer from outside of it.
    fn is_responder(self, source: SocketAddr) -> bool {
        let IpAddr::V4(address) = source.ip() else { return false };
        let network = |address: Ipv4Addr| address & self.netmask;
        source.port() == MDNS_PORT && network(address) == network(self.address)
    }
}

#[cfg(test)]
mod tests {
    use std::process;

    use super::*;
    use crate::{Announcement, Discovery};

    #[test]
    fn answers_from_elsewhere_do_not_count() {
        let lan = Link { address: [192, 0, 2, 7].into(), netmask: [255, 255, 255, 128].into() };
        let [loopback] = links(Scope::Loopback)[..] else { panic!("expected one link") };
        for (link, source, counts) in [
            (lan, "192.0.2.7:5353", true),
            (lan, "192.0.2.100:5353", true),
            (lan, "192.0.2.100:5354", false),
            (lan, "192.0.2.200:5353", false),
            (lan, "127.0.0.1:5353", false),
            (lan, "[::ffff:192.0.2.7]:5353", false),
            (loopback, "127.0.0.1:5353", true),
            (loopback, "127.9.9.9:5353", true),
            (loopback, "192.0.2.7:5353", false),
        ] {
            assert_eq!(link.is_responder(source.parse().unwrap()), counts, "{source} to {link:?}");
        }
    }

    #[test]
    fn the_lan_is_never_the_loopback() {
        for link in links(Scope::Lan) {
            assert!(!link.address.is_loopback(), "{link:?}");
        }
    }

    /// No subscription of multicast DNS takes part on the asking side, so each answer here is one
    /// that the limit of one multicast a second did not withhold.
    #[tokio::test]
    async fn a_running_service_answers_each_of_many_inquiries() {
        let id = format!("asked-{}", process::id());
        let discovery = Discovery::new(Scope::Loopback).unwrap();
        let _advertisement = discovery
            .advertise(Announcement {
                role: Role::Worker,
                id: id.clone(),
                cluster: "inquiries".to_owned(),
                port: 7301,
                addresses: Vec::new(),
                txt: vec![("zone".to_owned(), "a".to_owned())],
            })
            .await
            .unwrap();
        let name = format!("{id}.{}", Role::Worker.service_type());
        for _ in 0..20 {
            let mut inquiry = Inquiry::start(Role::Worker, Scope::Loopback);
            let found = loop {
                let instances = inquiry.next().await.expect("an answer before listening ends");
                if let Some(found) = instances.into_iter().find(|found| found.name == name) {
                    break found;
                }
            };
            assert_eq!(found.port, 7301);
            assert_eq!(found.addresses, [IpAddr::V4(Ipv4Addr::LOCALHOST)]);
            assert_eq!(found.txt[3], ("zone".to_owned(), b"a".to_vec()));
        }
    }
}
