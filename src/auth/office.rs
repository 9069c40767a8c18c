//! The office: threads beside the shards that answer their questions, and each shard's desk in it.
//!
//! A desk hands a question to a bounded queue and goes on; a thread answers it and wakes the shard (`lanes`). Threads stand
//! back for shards, so that hashing the passwords of a storm of clients delays those clients, not the connected ones. What
//! needs no time (SCRAM) a desk answers itself.

mod answers;
mod jobs;
mod lanes;

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use self::answers::{Answer, Answers};
use self::jobs::NotPut;
use self::lanes::{Job, Queues};
use super::certificate::ByCertificate;
use super::chain::{Chain, Method, Proven, Queue};
use super::error::{AuthError, AuthErrors};
use super::http::Http;
use super::jwt::Jwt;
use super::password::Password;
use super::scram::{self, Exchange, Scram, Step};
use super::{Authenticator, Busy, Credentials, Entry, Principal, Question, Verdict};
use crate::codec::ReasonCode;
use crate::config::{Auth, AuthMethod};
use crate::counter::counters;
use crate::engine::{ConnId, ShardId};

/// Wakes a shard.
type Wake = Box<dyn Fn(ShardId) + Send + Sync>;

/// The methods and the threads that work them. They end with the last clone and the last desk.
#[derive(Clone)]
pub struct Office {
    queues: Arc<Queues>,
    shared: Arc<Shared>,
}

counters! {
    /// What a shard's desk counts.
    OfficeCounters {
        /// Clients refused because `auth.queue_max` others waited for a worker.
        auth_refused_workers_full,
        /// Clients refused because `auth.http.waiting_max` others waited for the HTTP hook.
        auth_refused_http_full,
        /// Clients refused because `auth.jwt.waiting_max` others waited for the key set.
        auth_refused_key_set_full,
    }
}

impl OfficeCounters {
    fn refused(&self, full: Queue) {
        let counter = match full {
            Queue::Workers => &self.auth_refused_workers_full,
            Queue::Http => &self.auth_refused_http_full,
            Queue::KeySet => &self.auth_refused_key_set_full,
        };
        counter.add(1);
    }
}

struct Shared {
    chain: Chain,
    scram: Option<Scram>,
    /// How often the files were read again.
    version: AtomicU64,
    wake: OnceLock<Wake>,
}

impl Office {
    /// Opens the methods' files and starts the workers; nothing if no method is configured.
    ///
    /// # Errors
    ///
    /// Everything that cannot be used as configured.
    pub fn start(config: &Auth, allow_anonymous: bool) -> Result<Option<Office>, AuthErrors> {
        if config.methods.is_empty() {
            return Ok(None);
        }
        Office::of(open(config, allow_anonymous)?, config).map(Some)
    }

    fn of(shared: Shared, config: &Auth) -> Result<Office, AuthErrors> {
        let shared = Arc::new(shared);
        Ok(Office { queues: Queues::start(config, &shared)?, shared })
    }

    /// How shards are woken; all of them are, once, for what was answered before.
    pub fn wake_by(&self, shards: u16, wake: impl Fn(ShardId) + Send + Sync + 'static) {
        let wake = self.shared.wake.get_or_init(|| Box::new(wake));
        (0..shards).for_each(|shard| wake(ShardId(shard)));
    }

    /// A shard's desk, and what it counts in.
    pub fn desk(&self, shard: ShardId, counters: Arc<OfficeCounters>) -> Box<dyn Authenticator> {
        let (office, answers) = (self.clone(), Arc::new(Answers::default()));
        let (unsent, taken, ready) = (VecDeque::new(), VecDeque::new(), VecDeque::new());
        Box::new(Desk { shard, office, counters, answers, unsent, taken, ready, open: HashMap::new() })
    }

    /// Loads all files anew. A method whose file cannot be used keeps what it had.
    ///
    /// # Errors
    ///
    /// Every file that cannot be used.
    pub fn reload(&self) -> Result<(), AuthErrors> {
        let methods = self.shared.chain.methods.iter().map(|method| method.reload());
        let scram = self.shared.scram.iter().map(Scram::reload);
        let errors: Vec<AuthError> = methods.chain(scram).filter_map(Result::err).collect();
        self.shared.version.fetch_add(1, Ordering::Release);
        if errors.is_empty() { Ok(()) } else { Err(AuthErrors(errors)) }
    }
}

/// Says what is wrong with the methods, without starting them for good.
///
/// # Errors
///
/// Everything that cannot be used as configured.
pub fn check(config: &Auth) -> Result<(), AuthErrors> {
    open(config, false).map(drop)
}

fn open(config: &Auth, allow_anonymous: bool) -> Result<Shared, AuthErrors> {
    let (mut methods, mut scram, mut errors) = (Vec::new(), None, Vec::new());
    let mut ahead_of_scram = 0;
    for method in &config.methods {
        let opened = match method {
            AuthMethod::Scram => {
                ahead_of_scram = methods.len();
                Scram::open(&config.scram).map(|opened| scram = Some(opened))
            }
            other => one(*other, config).map(|opened| methods.push(opened)),
        };
        errors.extend(opened.err());
    }
    let chain = Chain { methods, allow_anonymous, ahead_of_scram };
    if errors.is_empty() {
        Ok(Shared { chain, scram, version: AtomicU64::new(0), wake: OnceLock::new() })
    } else {
        Err(AuthErrors(errors))
    }
}

fn one(method: AuthMethod, config: &Auth) -> Result<Box<dyn Method>, AuthError> {
    Ok(match method {
        AuthMethod::Password => Box::new(Password::open(&config.password)?),
        AuthMethod::Jwt => Box::new(Jwt::open(&config.jwt)?),
        AuthMethod::Http => Box::new(Http::open(&config.http)?),
        AuthMethod::Certificate | AuthMethod::Scram => Box::new(ByCertificate::new(&config.certificate)),
    })
}

impl Shared {
    fn wake(&self, shard: ShardId) {
        if let Some(wake) = self.wake.get() {
            wake(shard);
        }
    }
}

/// Where a shard asks.
struct Desk {
    shard: ShardId,
    office: Office,
    counters: Arc<OfficeCounters>,
    answers: Arc<Answers>,
    /// Questions that found the workers' queue held by another thread.
    unsent: VecDeque<Job>,
    /// Of the answers, what was taken and not looked at yet.
    taken: VecDeque<Answer>,
    /// What the desk answered itself.
    ready: VecDeque<(ConnId, Verdict)>,
    /// By connection: the question that is not answered yet.
    open: HashMap<ConnId, Open>,
}

enum Open {
    /// A worker's; to be set when nobody waits for it any more.
    Asked(Arc<AtomicBool>),
    /// An exchange.
    Exchange(Exchange, Box<Party>),
}

/// Whom an exchange is with.
struct Party {
    client: Box<Credentials>,
    /// The user it has to be about.
    must_be: Option<Arc<str>>,
}

impl Authenticator for Desk {
    fn ask(&mut self, conn: ConnId, question: Question) -> Result<(), Busy> {
        match question {
            Question::Connect(client) => match client.method.as_deref() {
                None => self.hand_on(conn, client, None),
                Some(_) => self.begin(conn, client, None),
            },
            Question::Continue { data } => match self.open.remove(&conn) {
                Some(Open::Exchange(exchange, party)) => self.step(conn, exchange, party, &data),
                _ => self.answer(conn, Verdict::Deny(ReasonCode::ProtocolError)),
            },
            Question::Renew(client) => {
                let must_be = client.user.as_deref().map(Arc::from);
                self.begin(conn, client, must_be)
            }
        }
    }

    fn poll(&mut self) -> Option<(ConnId, Verdict)> {
        if !self.unsent.is_empty() {
            self.send_again();
        }
        if let Some(answer) = self.ready.pop_front() {
            return Some(answer);
        }
        loop {
            if self.taken.is_empty() {
                self.answers.take(&mut self.taken);
            }
            let (conn, answer) = self.taken.pop_front()?;
            if let Some(Open::Asked(_)) = self.open.remove(&conn) {
                let busy = |full| {
                    self.counters.refused(full);
                    Verdict::Deny(ReasonCode::ServerBusy)
                };
                return Some((conn, answer.unwrap_or_else(busy)));
            }
        }
    }

    fn version(&self) -> u64 {
        self.office.shared.version.load(Ordering::Acquire)
    }

    fn vouches_for(&self, principal: &Principal) -> bool {
        let (Some(user), Some(entry)) = (principal.user.as_deref(), principal.entry) else { return true };
        let Shared { chain, scram, .. } = &*self.office.shared;
        let said = chain.methods.iter().find_map(|method| method.has_entry(user, entry));
        said.or_else(|| scram.as_ref()?.has_entry(user, entry)).unwrap_or(true)
    }

    fn forget(&mut self, conn: ConnId) {
        if let Some(Open::Asked(forgotten)) = self.open.remove(&conn) {
            forgotten.store(true, Ordering::Relaxed);
        }
        self.ready.retain(|(answered, _)| *answered != conn);
    }
}

impl Desk {
    fn hand_on(&mut self, conn: ConnId, client: Box<Credentials>, proven: Option<Proven>) -> Result<(), Busy> {
        let forgotten = Arc::new(AtomicBool::new(false));
        let (shard, answers) = (self.shard, Arc::downgrade(&self.answers));
        let job = Job { shard, conn, client, proven, forgotten: forgotten.clone(), answers, next: 0 };
        self.send(job)?;
        self.open.insert(conn, Open::Asked(forgotten));
        Ok(())
    }

    /// Puts a question to the workers, or keeps it for the next turn if one of them is just at the queue.
    fn send(&mut self, job: Job) -> Result<(), Busy> {
        match self.office.queues.ask(job) {
            Ok(()) => Ok(()),
            Err(NotPut::Held(job)) if self.unsent.len() < self.office.queues.workers_max() => {
                self.unsent.push_back(job);
                self.office.shared.wake(self.shard);
                Ok(())
            }
            Err(NotPut::Held(_) | NotPut::Full(_)) => {
                self.counters.refused(Queue::Workers);
                Err(Busy)
            }
        }
    }

    /// The same for those that were kept, in their order.
    fn send_again(&mut self) {
        while let Some(job) = self.unsent.pop_front() {
            match self.office.queues.ask(job) {
                Ok(()) => {}
                Err(NotPut::Held(job)) => {
                    self.unsent.push_front(job);
                    return self.office.shared.wake(self.shard);
                }
                Err(NotPut::Full(job)) => {
                    self.counters.refused(Queue::Workers);
                    if self.open.remove(&job.conn).is_some() {
                        self.ready.push_back((job.conn, Verdict::Deny(ReasonCode::ServerBusy)));
                    }
                }
            }
        }
    }

    /// Begins an exchange; `user` is who it has to be about.
    fn begin(&mut self, conn: ConnId, mut client: Box<Credentials>, must_be: Option<Arc<str>>) -> Result<(), Busy> {
        if self.office.shared.scram.is_none() || client.method.as_deref() != Some(scram::METHOD) {
            return self.answer(conn, Verdict::Deny(ReasonCode::BadAuthenticationMethod));
        }
        let data = std::mem::take(&mut client.data);
        client.password = None;
        self.step(conn, Exchange::Begun, Box::new(Party { client, must_be }), &data)
    }

    fn step(&mut self, conn: ConnId, exchange: Exchange, party: Box<Party>, data: &[u8]) -> Result<(), Busy> {
        let users = self.office.shared.scram.as_ref().map(Scram::users);
        let step = users.map_or(Step::Failed, |users| exchange.step(data, &users));
        let verdict = match step {
            Step::Continue(data, exchange) => {
                self.open.insert(conn, Open::Exchange(exchange, party));
                Verdict::Continue { data }
            }
            Step::Done(user, keys, data) if party.must_be.as_ref().is_none_or(|must_be| *must_be == user) => {
                return self.proved(
                    conn,
                    party.client,
                    Proven { user, entry: Entry::Scram(Entry::fingerprint(&keys)), data },
                );
            }
            Step::Done(..) | Step::Failed => Verdict::Deny(ReasonCode::NotAuthorized),
        };
        self.answer(conn, verdict)
    }

    /// A client has proved who it is: the methods ahead of SCRAM are asked about it as that user.
    fn proved(&mut self, conn: ConnId, mut client: Box<Credentials>, proven: Proven) -> Result<(), Busy> {
        if self.office.shared.chain.ahead_of_scram == 0 {
            let Proven { user, entry, data } = proven;
            let principal = Box::new(Principal { user: Some(user), entry: Some(entry), ..Principal::default() });
            return self.answer(conn, Verdict::Allow { principal, data });
        }
        client.user = Some(proven.user.to_string());
        self.hand_on(conn, client, Some(proven))
    }

    /// The shard takes answers once a turn, and may have done so in this one: it must not sleep over this.
    fn answer(&mut self, conn: ConnId, verdict: Verdict) -> Result<(), Busy> {
        self.ready.push_back((conn, verdict));
        self.office.shared.wake(self.shard);
        Ok(())
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        for open in self.open.values() {
            if let Open::Asked(forgotten) = open {
                forgotten.store(true, Ordering::Relaxed);
            }
        }
    }
}

#[cfg(test)]
mod tests;
