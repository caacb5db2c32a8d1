//! How loaded this worker is: the counters behind every report.
//!
//! A call [`arrives`](Load::arrive) and gets a [`CallCount`]; it may wait, it [`starts`](CallCount::start) when it has
//! a slot, and it [`finishes`](CallCount::finish) with a status. Whatever becomes of it (an error, a
//! cancellation, a panic, a connection that breaks), dropping its `CallCount` gives every count back. So a count can be
//! late, but never lost.
//!
//! All counters stand behind one lock, because a report must be true as a whole: `queued` may not
//! exceed `in_flight`, and the open tokens may not either. The lock is held for a few additions.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Semaphore, watch},
    time::Instant,
};
use tonic::Code;

use lb_core::{
    id::{BalancerId, WorkerNumber},
    token::{TokenClass, TokenView},
};

/// The counters of one worker. Cheap to clone; all clones count together.
#[derive(Debug, Clone)]
pub struct Load {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    counters: Mutex<Counters>,
    changed: watch::Sender<()>,
    /// Permits for calls to run: as many as slots, less those that are taken.
    room: Arc<Semaphore>,
}

/// Tokens of one class that reached the worker on one registration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TokenTally {
    /// Calls that arrived.
    pub seen: u64,
    /// Of those, calls that ended.
    pub done: u64,
}

/// Tokens of one registration, by class. Second choices (class `x`) are not counted: nobody issued them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tallies {
    /// Class `p`.
    pub picked: TokenTally,
    /// Class `s`.
    pub session: TokenTally,
}

/// All counters at one moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LoadView {
    /// Calls inside the worker, running and queued.
    pub in_flight: u32,
    /// Of those, calls that wait for a slot.
    pub queued: u32,
    /// Calls that ended since the start, however they ended. Calls refused for lack of room never were inside.
    pub completed_total: u64,
    /// Of those, calls that ended with another status than OK.
    pub errors_total: u64,
    /// Of those, calls that failed by the worker's fault: see [`CallEnd::Fault`].
    pub faults_total: u64,
    /// Calls refused because every slot was taken and the queue was full.
    pub refused_total: u64,
    /// Integral of `in_flight` over time.
    pub in_flight_time: Duration,
    /// Integral of running calls over time.
    pub busy_time: Duration,
    /// Nobody arrives here: `in_flight` is what the service says, and no call is known to end.
    pub measured: bool,
}

/// Every slot is taken and the queue is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full {
    /// When it is worth trying again: about the time in which half of the queue empties.
    pub retry_after: Duration,
}

/// A call refused now may come again at the earliest after this; less would be a busy loop over the network.
const RETRY_AFTER_LEAST: Duration = Duration::from_millis(10);
/// And at the latest after this: the estimate is rough and another worker may be free by then.
const RETRY_AFTER_MOST: Duration = Duration::from_secs(1);
/// Before any call has ended there is nothing to estimate from.
const RETRY_AFTER_UNKNOWN: Duration = Duration::from_millis(100);

#[derive(Debug)]
struct Counters {
    measured: bool,
    slots: u16,
    queue: u32,
    in_flight: u32,
    running: u32,
    completed_total: u64,
    errors_total: u64,
    faults_total: u64,
    refused_total: u64,
    in_flight_time: Duration,
    busy_time: Duration,
    /// Up to when the two integrals are complete.
    counted_until: Instant,
    registrations: Vec<Registration>,
    next_tally: TallyId,
}

#[derive(Debug)]
struct Registration {
    id: TallyId,
    balancer: BalancerId,
    number: WorkerNumber,
    tallies: Tallies,
    /// Awakes when something has happened that the balancer does not know.
    news: watch::Sender<()>,
}

impl Counters {
    fn advance(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.counted_until);
        self.in_flight_time += elapsed * self.in_flight;
        self.busy_time += elapsed * self.running;
        self.counted_until = self.counted_until.max(now);
    }

    fn tallies(&mut self, id: TallyId) -> Option<&mut Tallies> {
        self.registrations.iter_mut().find(|known| known.id == id).map(|known| &mut known.tallies)
    }

    /// Only live registrations are counted; the vector is as long as the network has balancers.
    fn see(&mut self, token: Option<TokenView<'_>>) -> Option<CountedToken> {
        let token = token.filter(|token| token.class != TokenClass::Second)?;
        let known = self.registrations.iter_mut().find(|known| {
            known.number == token.worker && known.balancer.as_str() == token.balancer
        })?;
        known.tallies.of(token.class)?.seen += 1;
        Some(CountedToken { tally: known.id, class: token.class })
    }

    fn done(&mut self, token: Option<CountedToken>) {
        let Some(token) = token else { return };
        if let Some(tally) = self.tallies(token.tally).and_then(|known| known.of(token.class)) {
            tally.done += 1;
        }
    }

    /// Something has happened: news for every balancer but the one that knows it already.
    fn tell(&self, knows: Option<TallyId>) {
        for known in self.registrations.iter().filter(|known| Some(known.id) != knows) {
            known.news.send_replace(());
        }
    }

    /// A call was refused: its token is done.
    fn refuse(&mut self, token: Option<CountedToken>) {
        self.refused_total += 1;
        self.done(token);
        let issuer = |known: &&Registration| token.is_some_and(|token| token.tally == known.id);
        if let Some(known) = self.registrations.iter().find(issuer) {
            known.news.send_replace(());
        }
    }

    fn retry_after(&self) -> Duration {
        if self.completed_total == 0 {
            return RETRY_AFTER_UNKNOWN;
        }
        let mean_service = self.busy_time.as_secs_f64() / self.completed_total as f64;
        let half_a_queue =
            mean_service * f64::from(self.queue.max(1)) / f64::from(self.slots) / 2.0;
        let bounded = half_a_queue.min(RETRY_AFTER_MOST.as_secs_f64());
        Duration::from_secs_f64(bounded).max(RETRY_AFTER_LEAST)
    }
}

impl Tallies {
    fn of(&mut self, class: TokenClass) -> Option<&mut TokenTally> {
        match class {
            TokenClass::Picked => Some(&mut self.picked),
            TokenClass::Session => Some(&mut self.session),
            TokenClass::Second => None,
        }
    }
}

impl Load {
    /// Counters at zero, for a worker that runs `slots` calls at once and lets `queue` more wait.
    pub fn new(slots: u16, queue: u32, now: Instant) -> Self {
        let counters = Counters {
            measured: false,
            slots,
            queue,
            in_flight: 0,
            running: 0,
            completed_total: 0,
            errors_total: 0,
            faults_total: 0,
            refused_total: 0,
            in_flight_time: Duration::ZERO,
            busy_time: Duration::ZERO,
            counted_until: now,
            registrations: Vec::new(),
            next_tally: TallyId(0),
        };
        let changed = watch::Sender::new(());
        let room = Arc::new(Semaphore::new(slots.into()));
        Self { shared: Arc::new(Shared { counters: Mutex::new(counters), changed, room }) }
    }

    /// The load of a service that runs by itself: its calls do not come here, somebody tells how many there are.
    pub(crate) fn measured(slots: u16, now: Instant) -> Self {
        let load = Self::new(slots, 0, now);
        load.lock().measured = true;
        load
    }

    /// So many calls are inside from now on, as the service says.
    pub(crate) fn observe(&self, in_flight: u32, now: Instant) {
        let mut counters = self.lock();
        debug_assert!(counters.measured, "calls are either counted or observed");
        if counters.in_flight == in_flight {
            return;
        }
        counters.advance(now);
        counters.in_flight = in_flight;
        counters.running = in_flight.min(counters.slots.into());
        counters.tell(None);
        self.release(counters);
    }

    /// Calls run at once.
    pub fn slots(&self) -> u16 {
        self.lock().slots
    }

    /// Calls that may wait for a slot.
    pub fn queue(&self) -> u32 {
        self.lock().queue
    }

    /// Permits for calls to run, one per slot.
    pub(crate) fn room(&self) -> Arc<Semaphore> {
        Arc::clone(&self.shared.room)
    }

    /// Runs `slots` calls at once from now on and lets `queue` more wait. No call is cut: with fewer slots than calls that
    /// run, the next one starts when enough have ended; with a shorter queue, who waits goes on waiting.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn resize(&self, slots: u16, queue: u32) {
        let mut counters = self.lock();
        let before = std::mem::replace(&mut counters.slots, slots);
        counters.queue = queue;
        counters.tell(None);
        self.release(counters);
        self.shared.room.add_permits(slots.saturating_sub(before).into());
        let fewer = before.saturating_sub(slots);
        if fewer > 0 {
            // It waits its turn among the calls, so all permits that become free are its own before the next call starts.
            let room = self.room();
            tokio::spawn(async move {
                let given_back = room.acquire_many_owned(fewer.into()).await;
                given_back.expect("the slots are never closed").forget();
            });
        }
    }

    /// A call has come. Its token counts as seen even if there is no room for it, because it *has* arrived.
    ///
    /// # Errors
    /// [`Full`] when `slots` + `queue` calls are inside already.
    pub fn arrive(&self, token: Option<TokenView<'_>>, now: Instant) -> Result<CallCount, Full> {
        let mut counters = self.lock();
        counters.advance(now);
        let token = counters.see(token);
        if counters.in_flight >= u32::from(counters.slots).saturating_add(counters.queue) {
            counters.refuse(token);
            let retry_after = counters.retry_after();
            self.release(counters);
            return Err(Full { retry_after });
        }
        counters.in_flight += 1;
        // Who issued the token knows of the call.
        counters.tell(token.map(|token| token.tally));
        self.release(counters);
        Ok(CallCount { load: self.clone(), token, running: false, end: CallEnd::Error })
    }

    /// All counters, integrals complete up to `now`.
    pub fn view(&self, now: Instant) -> LoadView {
        let mut counters = self.lock();
        counters.advance(now);
        view(&counters)
    }

    /// All counters, and the tokens of one registration, at the same moment.
    pub(crate) fn view_for(&self, tally: TallyId, now: Instant) -> (LoadView, Tallies) {
        let mut counters = self.lock();
        counters.advance(now);
        let tallies = counters.tallies(tally).copied();
        (view(&counters), tallies.unwrap_or_default())
    }

    /// The tokens of one live registration.
    pub(crate) fn tallies(&self, tally: TallyId) -> Tallies {
        self.lock().tallies(tally).copied().unwrap_or_default()
    }

    /// Starts to count the tokens of a registration, until the returned value is dropped.
    pub(crate) fn open_tally(&self, balancer: BalancerId, number: WorkerNumber) -> OpenTally {
        let mut counters = self.lock();
        let id = counters.next_tally;
        counters.next_tally.0 += 1;
        let (tallies, news) = (Tallies::default(), watch::Sender::new(()));
        let told = news.subscribe();
        counters.registrations.push(Registration { id, balancer, number, tallies, news });
        OpenTally { load: self.clone(), id, news: told }
    }

    /// Awakes whenever a counter has changed.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.shared.changed.subscribe()
    }

    // A panic elsewhere must not stop the counting: additions leave no half-done state behind.
    fn lock(&self) -> MutexGuard<'_, Counters> {
        self.shared.counters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn release(&self, counters: MutexGuard<'_, Counters>) {
        drop(counters);
        self.shared.changed.send_replace(());
    }
}

fn view(counters: &Counters) -> LoadView {
    LoadView {
        in_flight: counters.in_flight,
        queued: counters.in_flight - counters.running,
        completed_total: counters.completed_total,
        errors_total: counters.errors_total,
        faults_total: counters.faults_total,
        refused_total: counters.refused_total,
        in_flight_time: counters.in_flight_time,
        busy_time: counters.busy_time,
        measured: counters.measured,
    }
}

/// Which registration a token is counted for. Not its number: a call may end long after its registration
/// has, and must then not count for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TallyId(u64);

#[derive(Debug, Clone, Copy)]
struct CountedToken {
    tally: TallyId,
    class: TokenClass,
}

/// The tokens of one registration are counted while this lives.
#[derive(Debug)]
pub(crate) struct OpenTally {
    load: Load,
    id: TallyId,
    news: watch::Receiver<()>,
}

impl OpenTally {
    pub(crate) fn id(&self) -> TallyId {
        self.id
    }

    /// Awakes whenever something has happened that the balancer of the registration does not know: a call has ended, or one has
    /// come that it did not pick.
    pub(crate) fn news(&self) -> watch::Receiver<()> {
        self.news.clone()
    }
}

impl Drop for OpenTally {
    fn drop(&mut self) {
        self.load.lock().registrations.retain(|known| known.id != self.id);
    }
}

/// One call inside the worker. Dropping it takes the call out of all counts.
#[derive(Debug)]
pub struct CallCount {
    load: Load,
    token: Option<CountedToken>,
    running: bool,
    end: CallEnd,
}

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallEnd {
    /// With status OK.
    Success,
    /// With another status that is about the call itself, or its caller has gone.
    Error,
    /// With a status that is about the worker: `UNKNOWN`, `DEADLINE_EXCEEDED`, `INTERNAL`, `UNAVAILABLE` or `DATA_LOSS`.
    Fault,
}

impl CallEnd {
    /// What a status says.
    pub fn of(code: Code) -> Self {
        match code {
            Code::Ok => Self::Success,
            Code::Unknown
            | Code::DeadlineExceeded
            | Code::Internal
            | Code::Unavailable
            | Code::DataLoss => Self::Fault,
            _ => Self::Error,
        }
    }
}

impl CallCount {
    /// The call has its slot.
    pub fn start(&mut self, now: Instant) {
        debug_assert!(!self.running, "a call starts once");
        let mut counters = self.load.lock();
        counters.advance(now);
        counters.running += 1;
        self.running = true;
        self.load.release(counters);
    }

    /// The call has ended by itself. For one that is dropped without it nobody waits any more: [`CallEnd::Error`].
    pub fn finish(mut self, end: CallEnd) {
        self.end = end;
    }
}

impl Drop for CallCount {
    fn drop(&mut self) {
        let mut counters = self.load.lock();
        counters.advance(Instant::now());
        counters.in_flight -= 1;
        counters.running -= u32::from(self.running);
        counters.completed_total += 1;
        counters.errors_total += u64::from(self.end != CallEnd::Success);
        counters.faults_total += u64::from(self.end == CallEnd::Fault);
        counters.done(self.token);
        counters.tell(None);
        self.load.release(counters);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn token(text: &str) -> Option<TokenView<'_>> {
        TokenView::parse(text)
    }

    fn load(slots: u16, queue: u32) -> Load {
        Load::new(slots, queue, Instant::now())
    }

    #[tokio::test(start_paused = true)]
    async fn integrals_grow_with_time_and_calls() {
        let load = load(1, 4);
        let mut running = load.arrive(None, Instant::now()).unwrap();
        running.start(Instant::now());
        let waiting = load.arrive(None, Instant::now()).unwrap();
        tokio::time::advance(SECOND * 3).await;
        let view = load.view(Instant::now());
        assert_eq!((view.in_flight, view.queued), (2, 1));
        assert_eq!((view.in_flight_time, view.busy_time), (SECOND * 6, SECOND * 3));
        running.finish(CallEnd::Success);
        drop(waiting);
        tokio::time::advance(SECOND).await;
        let view = load.view(Instant::now());
        assert_eq!((view.in_flight, view.queued), (0, 0));
        assert_eq!((view.completed_total, view.errors_total), (2, 1));
        assert_eq!((view.in_flight_time, view.busy_time), (SECOND * 6, SECOND * 3));
    }

    #[tokio::test]
    async fn tokens_count_for_their_own_registration_only() {
        let load = load(8, 0);
        let mine = load.open_tally("a".parse().unwrap(), WorkerNumber(1));
        let other = load.open_tally("b".parse().unwrap(), WorkerNumber(1));
        let now = Instant::now();
        let texts = ["a/1/p1", "a/1/p2", "a/1/s1", "a/1/x1", "a/2/p9", "c/1/p1", "b/1/s4"];
        let mut calls: Vec<_> = texts.map(|text| load.arrive(token(text), now).unwrap()).into();
        drop(calls.remove(0));
        let (view, tallies) = load.view_for(mine.id(), now);
        assert_eq!(view.in_flight, 6);
        assert_eq!(tallies.picked, TokenTally { seen: 2, done: 1 });
        assert_eq!(tallies.session, TokenTally { seen: 1, done: 0 });
        assert_eq!(load.view_for(other.id(), now).1.session, TokenTally { seen: 1, done: 0 });
        // A registration that is gone is forgotten. Its calls still end well, and not on a new one of the same name.
        drop(mine);
        let again = load.open_tally("a".parse().unwrap(), WorkerNumber(1));
        drop(calls);
        assert_eq!(load.tallies(again.id()), Tallies::default());
        assert_eq!(load.view_for(other.id(), now).1.session, TokenTally { seen: 1, done: 1 });
        assert_eq!(load.view(now).in_flight, 0);
    }

    #[tokio::test]
    async fn a_refused_call_was_seen_but_never_inside() {
        let load = load(1, 1);
        let mine = load.open_tally("a".parse().unwrap(), WorkerNumber(1));
        let now = Instant::now();
        let inside = [load.arrive(None, now).unwrap(), load.arrive(None, now).unwrap()];
        let full = load.arrive(token("a/1/s1"), now).unwrap_err();
        assert_eq!(full.retry_after, RETRY_AFTER_UNKNOWN);
        let (view, tallies) = load.view_for(mine.id(), now);
        assert_eq!((view.in_flight, view.completed_total, view.refused_total), (2, 0, 1));
        assert_eq!(tallies.session, TokenTally { seen: 1, done: 1 });
        drop(inside);
        assert!(load.arrive(None, now).is_ok());
    }

    #[tokio::test]
    async fn slots_and_queue_can_change_while_calls_run() {
        let load = load(2, 0);
        let take = || load.room().acquire_owned();
        let (first, second) = (take().await.unwrap(), take().await.unwrap());
        let now = Instant::now();
        let _inside = [load.arrive(None, now).unwrap(), load.arrive(None, now).unwrap()];
        assert!(load.arrive(None, now).is_err());
        load.resize(1, 2);
        assert_eq!((load.slots(), load.queue()), (1, 2));
        assert!(load.arrive(None, now).is_ok());
        tokio::task::yield_now().await;
        // One slot of two has to go: the first that becomes free.
        let third = tokio::spawn(take());
        drop(first);
        tokio::task::yield_now().await;
        assert!(!third.is_finished());
        drop(second);
        let _third = third.await.unwrap().unwrap();
        assert_eq!(load.room().available_permits(), 0);
        load.resize(4, 2);
        assert_eq!(load.room().available_permits(), 3);
    }

    #[tokio::test]
    async fn what_is_observed_is_the_load() {
        let load = Load::measured(2, Instant::now());
        let tally = load.open_tally("a".parse().unwrap(), WorkerNumber(1));
        load.observe(3, Instant::now());
        assert!(tally.news().has_changed().unwrap());
        let view = load.view(Instant::now());
        assert_eq!((view.in_flight, view.queued, view.completed_total), (3, 1, 0));
        assert!(view.measured);
    }

    #[tokio::test]
    async fn a_panicking_call_gives_its_count_back() {
        let load = load(1, 0);
        let mut call = load.arrive(None, Instant::now()).unwrap();
        call.start(Instant::now());
        let task = tokio::spawn(async move {
            let _call = call;
            panic!("on purpose");
        });
        assert!(task.await.unwrap_err().is_panic());
        let view = load.view(Instant::now());
        assert_eq!((view.in_flight, view.completed_total, view.errors_total), (0, 1, 1));
    }

    #[tokio::test]
    async fn what_a_balancer_knows_is_no_news_to_it() {
        let load = load(1, 1);
        let tallies =
            ["a", "b"].map(|name| load.open_tally(name.parse().unwrap(), WorkerNumber(1)));
        let mut news = tallies.each_ref().map(OpenTally::news);
        let mut told = move || {
            news.each_mut().map(|news| {
                let told = news.has_changed().unwrap();
                news.mark_unchanged();
                told
            })
        };
        let mut first = load.arrive(token("a/1/p1"), Instant::now()).unwrap();
        assert_eq!(told(), [false, true], "a has picked it");
        first.start(Instant::now());
        assert_eq!(told(), [false, false]);
        let second = load.arrive(token("b/1/x7"), Instant::now()).unwrap();
        assert_eq!(told(), [true, true], "nobody counts a second choice");
        load.arrive(token("b/1/s1"), Instant::now()).unwrap_err();
        assert_eq!(told(), [false, true], "b takes it for running");
        first.finish(CallEnd::Success);
        assert_eq!(told(), [true, true]);
        drop(second);
        assert_eq!(told(), [true, true]);
        drop(load.arrive(None, Instant::now()).unwrap());
        assert_eq!(told(), [true, true], "nobody has picked it");
    }

    #[tokio::test]
    async fn every_change_awakes() {
        let load = load(1, 0);
        let mut changes = load.changes();
        assert!(!changes.has_changed().unwrap());
        let mut call = load.arrive(None, Instant::now()).unwrap();
        assert!(changes.has_changed().unwrap());
        changes.mark_unchanged();
        call.start(Instant::now());
        assert!(changes.has_changed().unwrap());
        changes.mark_unchanged();
        call.finish(CallEnd::Success);
        assert!(changes.has_changed().unwrap());
    }
}
