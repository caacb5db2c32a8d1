//! What is wanted on which host, and how it follows what hosts say.
//!
//! The plan is the truth of its own making: an instance that is wanted stays wanted, whatever it does, until it is taken away, has
//! failed, or its host is gone. What a host runs is looked at only when it is new here or has obeyed somebody else.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{
    host::{InstanceState, View},
    plan::{Action, Change},
    reason::{Reason, Why},
};
use crate::{id::HostId, time::Timestamp};

/// A host whose scaler is gone is given this time to come back: a scaler that is restarted disturbs no worker. Hosts are noticed to
/// be gone within two seconds and an instance starts within three, so the loss is made good in less than ten.
pub const HOST_GRACE: Duration = Duration::from_secs(2);

/// An instance that has failed is not tried again for this time.
pub const FAILED_PAUSE: Duration = Duration::from_secs(600);

/// What is wanted, by host.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Fleet {
    seats: BTreeMap<HostId, Seat>,
}

/// What is wanted on a host.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Seat {
    pub(super) wanted: BTreeMap<u32, Why>,
    /// Since when its scaler is gone.
    gone_since: Option<Timestamp>,
    /// Numbers that have failed, and until when they are not tried again.
    failed: BTreeMap<u32, Timestamp>,
    /// Why instances were taken away, in this round.
    stopped: BTreeMap<u32, Why>,
}

/// Hosts that are there, by id: whatever order they come in, the plan is the same.
pub(super) type Hosts<'a> = BTreeMap<&'a HostId, View<'a>>;

/// Who is started next: the least.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place<'a> {
    has_its_min: bool,
    has_failures: bool,
    has_no_cpu: bool,
    /// How full the host would be, in thousandths.
    fill: u64,
    count: usize,
    host: &'a HostId,
}

/// Who is taken away next: the least.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Victim<'a> {
    is_ready: bool,
    /// Those whose work is not known come last.
    outstanding: u32,
    fill: Reverse<u64>,
    number: Reverse<u32>,
    host: Reverse<&'a HostId>,
}

impl Fleet {
    /// Instances that are wanted, also on hosts that are given time to come back.
    pub(super) fn count(&self) -> u32 {
        let counts = self.seats.values().map(|seat| seat.wanted.len());
        u32::try_from(counts.sum::<usize>()).unwrap_or(u32::MAX)
    }

    pub(super) fn seats(&self) -> impl Iterator<Item = (&HostId, &Seat)> {
        self.seats.iter()
    }

    pub(super) fn seat_of(&self, host: &HostId) -> Option<&Seat> {
        self.seats.get(host)
    }

    /// Begins a round: takes in which hosts are there. With `taken_over`, what those run that obey somebody else is what is wanted
    /// there. Hosts are gone for good after `grace`.
    pub(super) fn see(
        &mut self,
        hosts: &Hosts<'_>,
        taken_over: bool,
        grace: Duration,
        now: Timestamp,
    ) -> Vec<Reason> {
        self.seats.values_mut().for_each(|seat| seat.stopped.clear());
        let mut news = self.miss(hosts, grace, now);
        for (&id, host) in hosts {
            let is_new = !self.seats.contains_key(id);
            let seat = self.seats.entry(id.clone()).or_default();
            seat.gone_since = None;
            // Where we are obeyed, what we want is what runs, or is about to.
            let is_anothers = host.obeys.is_some_and(|obeyed| !obeyed.ours);
            if is_new || taken_over && is_anothers {
                seat.adopt(host, if is_new { &Why::Found } else { &Why::TakenOver });
                let instances = u32::try_from(seat.wanted.len()).unwrap_or(u32::MAX);
                if is_new && instances > 0 {
                    news.push(Reason::HostFound { host: id.clone(), instances });
                }
            }
        }
        news
    }

    /// Drops hosts that are gone for good.
    fn miss(&mut self, hosts: &Hosts<'_>, grace: Duration, now: Timestamp) -> Vec<Reason> {
        let mut lost: Option<(HostId, u32)> = None;
        self.seats.retain(|id, seat| {
            if hosts.contains_key(id) {
                return true;
            }
            let stays = now.since(*seat.gone_since.get_or_insert(now)) < grace;
            let instances = u32::try_from(seat.wanted.len()).unwrap_or(u32::MAX);
            if !stays && instances > 0 {
                lost.get_or_insert_with(|| (id.clone(), 0)).1 += instances;
            }
            stays
        });
        lost.map(|(host, instances)| Reason::HostLost { host, instances }).into_iter().collect()
    }

    /// What has failed is not wanted any more, and not tried again soon.
    pub(super) fn drop_failed(&mut self, hosts: &Hosts<'_>, now: Timestamp) -> Vec<Reason> {
        let mut news = Vec::new();
        for (&id, host) in hosts {
            let Some(seat) = self.seats.get_mut(id) else { continue };
            seat.failed.retain(|_, until| *until > now);
            for instance in &host.instances {
                let InstanceState::Failed { reason } = &instance.state else { continue };
                let number = instance.number;
                // Its scaler may go on telling of it.
                seat.failed.entry(number).or_insert(now + FAILED_PAUSE);
                if seat.take_away(number, Why::Failed(reason.clone())) {
                    let reason = reason.clone();
                    news.push(Reason::Failed { host: id.clone(), number, reason });
                }
            }
        }
        news
    }

    /// Takes away what hosts may not run.
    pub(super) fn trim(&mut self, hosts: &Hosts<'_>) {
        for (&id, host) in hosts {
            while self.seats[id].wanted.len() > host.most() {
                let victim = self.seats[id].victim(host, id).expect("it has some");
                self.seat(id).take_away(victim.number.0, Why::HostMax);
            }
        }
    }

    /// Brings hosts to their least number, up to `most` instances in all. True if that added any.
    pub(super) fn fill_up_to_mins(&mut self, hosts: &Hosts<'_>, most: u32) -> bool {
        let before = self.count();
        for (&id, host) in hosts {
            while self.seats[id].wanted.len() < host.least() && self.count() < most {
                let Some(number) = self.seats[id].place_number(host) else { break };
                self.seat(id).wanted.insert(number, Why::HostMin);
            }
        }
        self.count() > before
    }

    /// Takes away until `count` are left. With `mins`, hosts keep their least number. What is on hosts that are gone cannot be
    /// taken away.
    pub(super) fn shrink(&mut self, hosts: &Hosts<'_>, count: u32, mins: bool) {
        let surplus = self.count().saturating_sub(count);
        // Of each host the first that would go: only where one has gone there is another.
        let mut victims: Vec<_> = match surplus {
            0 => Vec::new(),
            _ => hosts.keys().filter_map(|id| self.victim(hosts, id, mins)).collect(),
        };
        for _ in 0..surplus {
            let first = (0..victims.len()).min_by(|&one, &other| victims[one].cmp(&victims[other]));
            let Some(first) = first else { return };
            let gone = victims.swap_remove(first);
            let why = match (gone.is_ready, gone.outstanding) {
                (false, _) => Why::NotReady,
                (true, u32::MAX) => Why::UnknownWork,
                (true, outstanding) => Why::LeastWork { outstanding },
            };
            let id = gone.host.0;
            self.seat(id).take_away(gone.number.0, why);
            victims.extend(self.victim(hosts, id, mins));
        }
    }

    /// Adds until there are `count`, or no host has room.
    pub(super) fn grow(&mut self, hosts: &Hosts<'_>, count: u32) {
        let lacking = count.saturating_sub(self.count());
        let mut places: Vec<_> = match lacking {
            0 => Vec::new(),
            _ => hosts.keys().filter_map(|id| self.place(hosts, id)).collect(),
        };
        for _ in 0..lacking {
            let first = (0..places.len()).min_by(|&one, &other| places[one].cmp(&places[other]));
            let Some(first) = first else { return };
            let (chosen, number) = places.swap_remove(first);
            let why = if chosen.has_its_min { Why::MostRoom } else { Why::HostMin };
            let id = chosen.host;
            self.seat(id).wanted.insert(number, why);
            places.extend(self.place(hosts, id));
        }
    }

    /// Who of a host goes first; with `mins` nobody of one that has no more than its least number.
    fn victim<'a>(&self, hosts: &Hosts<'a>, id: &HostId, mins: bool) -> Option<Victim<'a>> {
        let (&id, host) = hosts.get_key_value(id).expect("it is one of them");
        let seat = &self.seats[id];
        let may_go = !mins || seat.wanted.len() > host.least();
        if may_go { seat.victim(host, id) } else { None }
    }

    /// Where on a host the next one goes, and its number.
    fn place<'a>(&self, hosts: &Hosts<'a>, id: &HostId) -> Option<(Place<'a>, u32)> {
        let (&id, host) = hosts.get_key_value(id).expect("it is one of them");
        self.seats[id].place(host, id)
    }

    fn seat(&mut self, host: &HostId) -> &mut Seat {
        self.seats.get_mut(host).expect("each host that is there has a seat")
    }
}

impl Seat {
    /// What changed since `before`: the stops, then the starts.
    pub(super) fn changes(&self, before: Option<&Self>) -> Vec<Change> {
        let had = |number: &u32| before.is_some_and(|before| before.wanted.contains_key(number));
        let ended = before.into_iter().flat_map(|before| &before.wanted);
        let stops =
            ended.filter(|(number, _)| !self.wanted.contains_key(number)).map(|(&number, _)| {
                let why = self.stopped.get(&number).cloned().unwrap_or(Why::TakenOver);
                Change { number, action: Action::Stop, why }
            });
        let begun = self.wanted.iter().filter(|(number, _)| !had(number));
        let starts =
            begun.map(|(&number, why)| Change { number, action: Action::Start, why: why.clone() });
        stops.chain(starts).collect()
    }

    /// Who of the host goes first.
    fn victim<'a>(&self, host: &View<'_>, id: &'a HostId) -> Option<Victim<'a>> {
        let fill = Reverse(self.fill(host, 0));
        let victims = self.wanted.keys().map(|&number| {
            let instance = host.instance(number);
            let is_ready =
                instance.is_some_and(|instance| instance.state == InstanceState::Registered);
            let outstanding =
                instance.map_or(0, |instance| instance.outstanding.unwrap_or(u32::MAX));
            Victim { is_ready, outstanding, fill, number: Reverse(number), host: Reverse(id) }
        });
        victims.min()
    }

    fn adopt(&mut self, host: &View<'_>, why: &Why) {
        let staying = host.instances.iter().filter(|instance| instance.state.is_staying());
        let found = staying.map(|instance| {
            let before = self.wanted.get(&instance.number);
            (instance.number, before.unwrap_or(why).clone())
        });
        self.wanted = found.collect();
    }

    fn take_away(&mut self, number: u32, why: Why) -> bool {
        let was_wanted = self.wanted.remove(&number).is_some();
        if was_wanted {
            self.stopped.insert(number, why);
        }
        was_wanted
    }

    pub(super) fn has_failures(&self) -> bool {
        !self.failed.is_empty()
    }

    /// Numbers that are wanted, still there, or not to be tried now.
    fn taken(&self, host: &View<'_>) -> BTreeSet<u32> {
        let there = host.instances.iter().map(|instance| instance.number);
        self.wanted.keys().chain(self.failed.keys()).copied().chain(there).collect()
    }

    /// How many more instances fit by memory, and by CPU.
    fn fits(&self, host: &View<'_>) -> (u64, u64) {
        // What has not registered yet has not taken its memory yet, or not all of it.
        let starting = |number: &&u32| {
            let instance = host.instance(**number);
            instance.is_none_or(|instance| instance.state == InstanceState::Starting)
        };
        let starting = self.wanted.keys().filter(starting).count() as u64;
        let fit = |free: u64, needs: u64| match needs {
            0 => u64::MAX,
            needs => (free / needs).saturating_sub(starting),
        };
        let cpu = fit(host.free_millicores.into(), host.needs.millicores.into());
        (fit(host.free_memory, host.needs.memory), cpu)
    }

    /// The number that a further instance would have, if the host may and can run one.
    fn place_number(&self, host: &View<'_>) -> Option<u32> {
        let taken = self.taken(host);
        let has_room = taken.len() < host.most() && self.fits(host).0 > 0;
        // As many numbers as are taken, and one more: one of them is free.
        let mut numbers = 1..=u32::try_from(taken.len()).unwrap_or(u32::MAX).saturating_add(1);
        if has_room { numbers.find(|number| !taken.contains(number)) } else { None }
    }

    /// How full the host is with `more` instances, in thousandths of what it could run.
    fn fill(&self, host: &View<'_>, more: u64) -> u64 {
        let count = self.wanted.len() as u64;
        let (memory, cpu) = self.fits(host);
        let most = host.most() as u64;
        // Where no CPU is left, memory alone compares.
        let room = if cpu == 0 { memory } else { memory.min(cpu) };
        let room = room.min(most.saturating_sub(count));
        (count + more) * 1_000 / (count + room).max(1)
    }

    fn place<'a>(&self, host: &View<'_>, id: &'a HostId) -> Option<(Place<'a>, u32)> {
        let number = self.place_number(host)?;
        let place = Place {
            has_its_min: self.wanted.len() >= host.least(),
            has_failures: self.has_failures(),
            has_no_cpu: self.fits(host).1 == 0,
            fill: self.fill(host, 1),
            count: self.wanted.len(),
            host: id,
        };
        Some((place, number))
    }
}
