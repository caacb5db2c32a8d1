//! Every kind of event that an operator may want to search for, count or be told about.
//!
//! An event is written with its name in the field `event`:
//! `info!(event = "worker_left", %worker, "worker left")`. In the journal that is `LB_EVENT=worker_left`, with a
//! `MESSAGE_ID` of its own, by which `journalctl -x` finds the explanation in the catalog. The catalogs
//! (`systemd/*.catalog`) and the lists in the manual pages are made from this table; tests compare them, and in debug
//! builds each event that is written is compared as well.

mod catalog;
mod scaling;

use tracing::Level;

pub use self::catalog::catalog;

/// A kind of event.
#[derive(Debug, Clone, Copy)]
pub struct Event {
    /// What it is called: `LB_EVENT` in the journal.
    pub name: &'static str,
    /// The daemons that write it, each with its `MESSAGE_ID` in the journal: 128 bits as 32 hexadecimal digits, never
    /// given to anything else. Each daemon has its own, because two catalogs must not explain the same one.
    pub message_ids: &'static [(&'static str, &'static str)],
    /// Its level.
    pub level: Level,
    /// Its fields besides `event`; in the journal each is upper case and begins with `LB_`.
    pub fields: &'static [&'static str],
    /// What happened, in one line.
    pub subject: &'static str,
    /// What that means and what to do. `@LB_WORKER@` stands for the value of a field.
    pub text: &'static str,
}

const SERVER: &str = "lb-server";
const WORKER: &str = "lb-worker";
const SCALER: &str = "lb-scaler";

/// All kinds but those of scaling.
const GENERAL: [Event; 40] = [
    Event {
        name: "stopping",
        message_ids: &[
            (SERVER, "22860e1253184e17b049361bdafedd56"),
            (WORKER, "ac4c617b4e084f7ca44c041d8adca726"),
            (SCALER, "e7e924489693483fab09607ce52af517"),
        ],
        level: Level::INFO,
        fields: &["signal"],
        subject: "The daemon stops",
        text: "It was told to stop by signal number @LB_SIGNAL@, usually by systemctl. A worker \
               finishes the calls that it has first, a balancer ends its streams. The same signal \
               once more ends it at once.",
    },
    Event {
        name: "reloaded",
        message_ids: &[
            (SERVER, "4da73147e03141cfb9c5a94b4ff74fb0"),
            (WORKER, "b1ccf139952948b8ae843412f1e2f1db"),
            (SCALER, "caea5012e4a648a1945c3812b9d9d0ab"),
        ],
        level: Level::INFO,
        fields: &["applied"],
        subject: "The configuration was read again",
        text: "In force from now on: @LB_APPLIED@. Calls and connections are not disturbed.",
    },
    Event {
        name: "restart_needed",
        message_ids: &[
            (SERVER, "dc23380cfebd4ee1951e5e95fce1e8b3"),
            (WORKER, "72877a9deb854ddaad6a6afb58163e9b"),
            (SCALER, "3f73c11e4f2a4e92976953b8a6a01cdd"),
        ],
        level: Level::INFO,
        fields: &["keys"],
        subject: "Some changes of the configuration need a restart",
        text: "These keys have new values that take effect when the daemon is started again: \
               @LB_KEYS@. A restart of lb-server refuses no client; a \
               restart of lb-worker drains first, one of lb-scaler stops no worker.",
    },
    Event {
        name: "reload_refused",
        message_ids: &[
            (SERVER, "8077c34c6281481aab0fbac24d0699a0"),
            (WORKER, "711c6feaef0d4f5cb601c2fb3b887352"),
            (SCALER, "c09bee2cebf549ce9840fd48713f0d53"),
        ],
        level: Level::ERROR,
        fields: &["error"],
        subject: "The configuration is not valid and nothing was changed",
        text: "The daemon goes on with what it had, and would not start again with the files as \
               they are: @LB_ERROR@. Correct them, check them with the flag --check-config, and \
               reload.",
    },
    Event {
        name: "configuration_refused",
        message_ids: &[
            (SERVER, "cd44cb5507334b5bb7415e37b4c6dd6e"),
            (WORKER, "01c8bef1a72448c49e981202542fd2e2"),
            (SCALER, "e506520de32d45c2946bb2cedcc7b5fa"),
        ],
        level: Level::ERROR,
        fields: &[],
        subject: "The configuration is not valid and the daemon did not start",
        text: "The message names the key, the file or variable it is in, and what was expected. \
               The unit is not started again by itself (exit status 78), because trying again is \
               useless. Correct the file, check it with the flag --check-config, and start the \
               unit.",
    },
    Event {
        name: "failed",
        message_ids: &[
            (SERVER, "9c42721171b246ddaf42a15e557ceceb"),
            (WORKER, "9269ee2132c84ecb9d2233dea9103d69"),
            (SCALER, "73f71b3edb58418db332eac76743cfd2"),
        ],
        level: Level::ERROR,
        fields: &[],
        subject: "The daemon ended because of an error",
        text: "The message says why. systemd starts the unit again. Of the exit statuses, 69 means that \
               something it needs is not there, such as a free port or a network that carries \
               multicast; 70 is a defect of the program.",
    },
    Event {
        name: "open_mode",
        message_ids: &[
            (SERVER, "ed7fdafeb2644343ac38cc8aa703a799"),
            (WORKER, "0dfab81849e5489494ade5c5a97592de"),
            (SCALER, "b79ae1ec8cc24054889118d3337d8cce"),
        ],
        level: Level::WARN,
        fields: &[],
        subject: "Connections are not protected",
        text: "The mode is open: anybody on the network can listen, register workers and give orders. \
               To change that, make certificates (\"lbctl pki\", or the role lb_pki for Ansible) and put \
               them into /etc/lb/tls of every machine; see [tls] in the manual page of the configuration. To be content \
               with it on a network that you trust is a choice as well.",
    },
    Event {
        name: "connection_refused",
        message_ids: &[
            (SERVER, "451a9b2ec2a644e2983a947c18aa101f"),
            (WORKER, "1baab9eeb31847d2ac7ed572ad22c35d"),
        ],
        level: Level::WARN,
        fields: &["peer", "problem", "times"],
        subject: "A connection did not get through its TLS handshake",
        text: "It came from @LB_PEER@: @LB_PROBLEM@. Told once a minute at most, all of them at the \
               level debug. A daemon or client in the mode open is the most likely cause, then a \
               certificate of another authority or one that has ended.",
    },
    Event {
        name: "connections_full",
        message_ids: &[
            (SERVER, "c9a1dd2b76564418bd4232333c03b47d"),
            (WORKER, "4984dd015e9a4515879147f1bee4e6ea"),
        ],
        level: Level::WARN,
        fields: &["peer", "problem", "times"],
        subject: "A connection was closed because there are too many",
        text: "It came from @LB_PEER@: @LB_PROBLEM@. Told once a minute at most; it has happened @LB_TIMES@ \
               times since. Look who it is. If honest programs need as many, raise limits.connections \
               or limits.per_peer of lb-server; the limit in all is also bounded by LimitNOFILE= of the unit.",
    },
    Event {
        name: "accept_failed",
        message_ids: &[
            (SERVER, "fcec1c8deb7e49959de128023b96e09b"),
            (WORKER, "16a4c53128a24def9b4e5fceb53ac835"),
        ],
        level: Level::WARN,
        fields: &["error", "times"],
        subject: "The system has no room for connections",
        text: "It says: @LB_ERROR@. The daemon asks again ten times a second, and connections wait \
               meanwhile. Told once a minute at most. Look at LimitNOFILE= of the unit, and at the open files and \
               the memory of the machine.",
    },
    Event {
        name: "peer_slowed",
        message_ids: &[
            (SERVER, "151fbfbd65634a51a013d7a247ad4acb"),
            (WORKER, "54acf449c76d41419026dd0634201970"),
        ],
        level: Level::WARN,
        fields: &["peer", "times"],
        subject: "A peer is heard more slowly",
        text: "@LB_PEER@ sends frames of HTTP/2 that carry nothing, or asks again and again for what it does \
               not get, faster than any honest program would. Its connections are read at some ten of them \
               a second; others do not feel it. Told once a minute at most.",
    },
    Event {
        name: "certificates_renewed",
        message_ids: &[
            (SERVER, "964421c0c918481489f3ac02c8970522"),
            (WORKER, "5ab68d38bf4541ef9e068be4288e39f5"),
            (SCALER, "a5891b8b75c04878970c90e1afc3107e"),
        ],
        level: Level::INFO,
        fields: &[],
        subject: "New certificates are in use",
        text: "New connections use what is in the files now. Those that there are stay as they are.",
    },
    Event {
        name: "certificates_refused",
        message_ids: &[
            (SERVER, "031ce30437fe473ab3c9f67d9865a7ac"),
            (WORKER, "de0c8a78ac9a43ae81e40d61591f1a3b"),
            (SCALER, "b585ca85ff2543c882605be41d585928"),
        ],
        level: Level::WARN,
        fields: &["error"],
        subject: "The new certificates cannot be used",
        text: "The old ones stay in use: @LB_ERROR@. The files are looked at again every minute. The \
               daemon would not start with them as they are.",
    },
    Event {
        name: "certificate_ends",
        message_ids: &[
            (SERVER, "ed4d4f7a92be4def8e5f54080f251b2d"),
            (WORKER, "0fd9876f528d474690af932323589a7a"),
            (SCALER, "bed3a3961a824f1395bea38fde4fa050"),
        ],
        level: Level::WARN,
        fields: &["problem"],
        subject: "The certificate of this daemon must be renewed",
        text: "Of the certificate in use: @LB_PROBLEM@. Renew it with what it was made with (\"lbctl \
               pki renew\", the role lb_pki) and put it into the same file; no restart is needed.",
    },
    Event {
        name: "balancer_ready",
        message_ids: &[(SERVER, "42631a3449df4a49973e37bb6da914c5")],
        level: Level::INFO,
        fields: &["balancer", "address", "cluster", "policy"],
        subject: "The balancer serves",
        text: "Balancer @LB_BALANCER@ listens on @LB_ADDRESS@, is announced by DNS-SD and picks \
               by @LB_POLICY@. Its id is new at each start.",
    },
    Event {
        name: "worker_joined",
        message_ids: &[(SERVER, "c69cd027c56348639d51d176631385dd")],
        level: Level::INFO,
        fields: &["worker", "address", "slots"],
        subject: "A worker registered",
        text: "Worker @LB_WORKER@ is called at @LB_ADDRESS@. It gets calls after its first load \
               report.",
    },
    Event {
        name: "worker_serving",
        message_ids: &[(SERVER, "d88add48105a4b7f8c5762e1c3d589b2")],
        level: Level::INFO,
        fields: &["worker"],
        subject: "A worker takes calls",
        text: "Worker @LB_WORKER@ is in rotation.",
    },
    Event {
        name: "worker_draining",
        message_ids: &[(SERVER, "f698af96ae214215a280ab21c009d600")],
        level: Level::INFO,
        fields: &["worker"],
        subject: "A worker takes no more calls",
        text: "Worker @LB_WORKER@ is about to stop, or an operator has taken it out with \"lbctl \
               drain\". It finishes what it has.",
    },
    Event {
        name: "worker_left",
        message_ids: &[(SERVER, "7db33a2f52ab4c35b440da9e8afd9942")],
        level: Level::INFO,
        fields: &["worker"],
        subject: "A worker left in order",
        text: "Worker @LB_WORKER@ has said goodbye. No call of it was lost.",
    },
    Event {
        name: "worker_lost",
        message_ids: &[(SERVER, "952d3c958caf44adbf46146ff2c71b2b")],
        level: Level::WARN,
        fields: &["worker", "cause"],
        subject: "A worker was lost",
        text: "Worker @LB_WORKER@ is out of rotation: @LB_CAUSE@. Calls that it was running may \
               have failed. Look whether its process and its machine live; it registers again by \
               itself.",
    },
    Event {
        name: "worker_refused",
        message_ids: &[(SERVER, "35844615fa574e9493bdd18ab8cfb869")],
        level: Level::WARN,
        fields: &["worker", "cause"],
        subject: "A worker was not let in",
        text: "Worker @LB_WORKER@ cannot register: @LB_CAUSE@. Two workers must not have the same \
               id; one that was cloned with its disk has the id of the other in \
               /var/lib/lb-worker: remove it there.",
    },
    Event {
        name: "worker_ejected",
        message_ids: &[(SERVER, "d6db04865ea24df2960a3899990b8b6d")],
        level: Level::WARN,
        fields: &["worker", "cause", "seconds"],
        subject: "A worker is out of rotation because it fails",
        text: "Worker @LB_WORKER@ gets no calls for @LB_SECONDS@ seconds: @LB_CAUSE@. Then it is \
               tried again; the next time it is out for twice as long, up to a minute. Look at its \
               log and its machine; \"lbctl workers --why\" tells who is out.",
    },
    Event {
        name: "worker_recovered",
        message_ids: &[(SERVER, "8203db3d777446d78f384466eff6b041")],
        level: Level::INFO,
        fields: &["worker"],
        subject: "A worker that failed is well again",
        text: "Worker @LB_WORKER@ was out of rotation and has passed its trial.",
    },
    Event {
        name: "policy_changed",
        message_ids: &[(SERVER, "55c2a92d7bbc4e7aabe016748e55d3ab")],
        level: Level::INFO,
        fields: &["policy"],
        subject: "Another policy is in force",
        text: "Workers are picked by @LB_POLICY@ from now on, by \"lbctl policy\" or a reload.",
    },
    Event {
        name: "xds_refused",
        message_ids: &[(SERVER, "61166943ceb241a897977c0acff5e208")],
        level: Level::WARN,
        fields: &["peer", "kind", "problem"],
        subject: "An xDS client does not take what it was told",
        text: "The gRPC library of the program at @LB_PEER@ says of a resource of the kind \
               @LB_KIND@: @LB_PROBLEM@. It goes on with what it had, and does not hear of changes. Its \
               version may need something else than those that docs/any-language.md names; told once a minute \
               for each stream.",
    },
    Event {
        name: "worker_ready",
        message_ids: &[(WORKER, "ebc6b37fdd744d30aea3b476acbf8496")],
        level: Level::INFO,
        fields: &["worker", "address", "slots", "queue"],
        subject: "The worker serves",
        text: "Worker @LB_WORKER@ listens on @LB_ADDRESS@ and is announced by DNS-SD. It runs \
               @LB_SLOTS@ calls at once and lets @LB_QUEUE@ more wait.",
    },
    Event {
        name: "registered",
        message_ids: &[(WORKER, "16ec5e422f734e53ac9e24f49cf8cfaf")],
        level: Level::INFO,
        fields: &["balancer", "address", "number"],
        subject: "The worker is registered with a balancer",
        text: "Balancer @LB_BALANCER@ at @LB_ADDRESS@ gives calls to this worker.",
    },
    Event {
        name: "registration_lost",
        message_ids: &[
            (WORKER, "fe4ec712854149f092a4a32dc1e04725"),
            (SCALER, "c56bd402cf75403cbb3cad2037b34237"),
        ],
        level: Level::WARN,
        fields: &["error"],
        subject: "There is no registration with a balancer",
        text: "The daemon goes on trying, more than once a second, and goes on with other balancers \
               meanwhile: @LB_ERROR@.",
    },
    Event {
        name: "registration_refused",
        message_ids: &[
            (WORKER, "334b1393645440888f1b1eecf442775c"),
            (SCALER, "f89890599da44341b170e3caf306bace"),
        ],
        level: Level::ERROR,
        fields: &["code", "reason"],
        subject: "A balancer refuses this daemon",
        text: "It says: @LB_REASON@. Somebody must change something; it is asked again every \
               30 seconds.",
    },
    Event {
        name: "registration_deferred",
        message_ids: &[
            (WORKER, "e48c70944648466e9ea1ad88a8cb3906"),
            (SCALER, "854244ac2e6f4e2495c73dd9e701f0af"),
        ],
        level: Level::WARN,
        fields: &["code", "reason", "retry_after"],
        subject: "A balancer refuses this daemon for now",
        text: "It says: @LB_REASON@. It is asked again after the time that it named.",
    },
    Event {
        name: "balancer_found",
        message_ids: &[
            (WORKER, "474863bf9bc84c40b18ccdba0b658884"),
            (SCALER, "c43f450702ce4b208b892db7ddedea9d"),
        ],
        level: Level::INFO,
        fields: &["balancer"],
        subject: "A balancer was found",
        text: "Balancer @LB_BALANCER@ is announced on the network; the daemon registers with it.",
    },
    Event {
        name: "balancer_gone",
        message_ids: &[
            (WORKER, "f28aba2eaaaa4613990cda8d7abb01f3"),
            (SCALER, "1f69d65ef701436d9869a0b34e63dfb2"),
        ],
        level: Level::INFO,
        fields: &["balancer"],
        subject: "A balancer is not announced any more",
        text: "Balancer @LB_BALANCER@ has withdrawn its announcement. It is dialled on for \
               ten minutes.",
    },
    Event {
        name: "state_ordered",
        message_ids: &[(WORKER, "d9e5029bad01442284b696ce10a7f252")],
        level: Level::INFO,
        fields: &["balancer", "state"],
        subject: "An operator changed the state of this worker",
        text: "By \"lbctl drain\" or \"lbctl undrain\", through balancer @LB_BALANCER@. It is \
               now: @LB_STATE@.",
    },
    Event {
        name: "draining",
        message_ids: &[(WORKER, "b5dee470eb3840dcb4fa8078ebd3b4d4")],
        level: Level::INFO,
        fields: &["in_flight", "balancers"],
        subject: "The worker drains",
        text: "It has @LB_IN_FLIGHT@ calls and has told @LB_BALANCERS@ balancers to send no more. \
               It ends when the last call has, at the latest after drain_timeout_s.",
    },
    Event {
        name: "calls_cut",
        message_ids: &[(WORKER, "ce2ee53a66e846488761caacaf1ded41")],
        level: Level::WARN,
        fields: &["calls", "drain_timeout"],
        subject: "Calls were cut at the end of a drain",
        text: "@LB_CALLS@ calls were still running after @LB_DRAIN_TIMEOUT@ and got UNAVAILABLE. \
               Raise drain_timeout_s if calls may take that long.",
    },
    Event {
        name: "stopped",
        message_ids: &[(WORKER, "ea446e4a841942f489a6bea65e1fa7d2")],
        level: Level::INFO,
        fields: &["worker"],
        subject: "The worker has stopped",
        text: "Worker @LB_WORKER@ has drained and said goodbye.",
    },
    Event {
        name: "unresponsive",
        message_ids: &[(WORKER, "fde77369d68743d498ab7b621a228613")],
        level: Level::WARN,
        fields: &[],
        subject: "The worker does not answer its own health check",
        text: "If it stays so, the watchdog of systemd starts the worker again. Tasks that take \
               all the processor time there is are one cause: use fewer slots.",
    },
    Event {
        name: "service_unwell",
        message_ids: &[(WORKER, "25c92f06d54f4a2cba988910e9a4c873")],
        level: Level::WARN,
        fields: &["address", "cause"],
        subject: "The attached service is not well",
        text: "The service at @LB_ADDRESS@ is out of rotation at all balancers: @LB_CAUSE@. The worker \
               beside it goes on asking, and it comes back by itself.",
    },
    Event {
        name: "service_well",
        message_ids: &[(WORKER, "1e51ad26c6e847aaa7a8394a7485dd0e")],
        level: Level::INFO,
        fields: &["address"],
        subject: "The attached service is well",
        text: "The service at @LB_ADDRESS@ answers, and takes calls unless an operator has drained it.",
    },
    Event {
        name: "id_not_kept",
        message_ids: &[(WORKER, "68c8615bf91140e9bbb5c130c701954c")],
        level: Level::WARN,
        fields: &["file", "error"],
        subject: "The id of this worker cannot be kept",
        text: "The file @LB_FILE@ cannot be read or written: @LB_ERROR@. Balancers take this \
               worker for a new one after each start, and learn its speed anew.",
    },
];

impl Event {
    /// Its `MESSAGE_ID` when this daemon writes it.
    pub fn message_id(&self, daemon: &str) -> Option<&'static str> {
        let found = self.message_ids.iter().find(|(writer, _)| *writer == daemon);
        found.map(|(_, message_id)| *message_id)
    }
}

/// All kinds.
pub fn all() -> impl Iterator<Item = &'static Event> {
    GENERAL.iter().chain(&scaling::EVENTS)
}

/// The kinds that this daemon writes.
pub fn of(daemon: &str) -> impl Iterator<Item = &'static Event> {
    all().filter(move |event| event.message_id(daemon).is_some())
}

/// The kind with this name.
pub fn named(name: &str) -> Option<&'static Event> {
    all().find(|event| event.name == name)
}
