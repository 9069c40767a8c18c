//! A shard sleeps when there is nothing to do, and wakes for everything there is to do.

use std::collections::VecDeque;
use std::fs;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use glommio::io::{BufferedFile, DmaFile};
use ringmq::engine::{ConnId, Effect, Engine, HandOver, Output, ShardId, Time, TransportEnd};
use ringmq::server::{Running, ServerConfig, start};
use ringmq::shard::{Wait, delay, spawn};

use crate::support::{Echo, EchoOptions, config};

/// The time a thread of this process has run.
fn cpu_time(thread: i32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/self/task/{thread}/schedstat")).unwrap();
    Duration::from_nanos(stat.split(' ').next().unwrap().parse().unwrap())
}

/// What a shard uses in a second of nothing, after it has had one connection and one task.
fn idle_cpu(wait: Wait) -> Duration {
    let (sender, receiver) = channel();
    let running = start(ServerConfig { wait, ..config() }, move |_| Jobs::new(sender.clone())).unwrap();
    let thread = match receiver.recv().unwrap() {
        Report::Thread(thread) => thread,
        other => panic!("{other:?}"),
    };
    let mut stream = std::net::TcpStream::connect(running.local_addrs()[0]).unwrap();
    stream.write_all(b"t").unwrap();
    assert!(matches!(receiver.recv().unwrap(), Report::Done(b't')));
    let before = cpu_time(thread);
    std::thread::sleep(Duration::from_secs(1));
    let spent = cpu_time(thread) - before;
    drop(stream);
    running.stop();
    running.join();
    spent
}

#[test]
fn an_idle_shard_uses_nearly_no_cpu() {
    for wait in [Wait::Ring, Wait::Glommio] {
        let spent = idle_cpu(wait);
        assert!(spent < Duration::from_millis(3), "{wait:?}: {spent:?} in a second of nothing");
    }
}

#[test]
fn a_sleeping_shard_wakes_for_a_socket() {
    let echo = Echo::start(1, EchoOptions::default());
    let mut stream = echo.connect();
    let mut back = [0; 1];
    for _ in 0..20 {
        std::thread::sleep(Duration::from_millis(5));
        let begin = Instant::now();
        stream.write_all(b"x").unwrap();
        stream.read_exact(&mut back).unwrap();
        assert!(begin.elapsed() < Duration::from_millis(500));
    }
}

fn run_job(job: u8, wait: Wait) -> Duration {
    let (sender, receiver) = channel();
    let running = start(ServerConfig { wait, ..config() }, move |_| Jobs::new(sender.clone())).unwrap();
    let spent = one_job(&running, &receiver, job);
    running.stop();
    running.join();
    spent
}

fn one_job(running: &Running, receiver: &Receiver<Report>, job: u8) -> Duration {
    let mut stream = std::net::TcpStream::connect(running.local_addrs()[0]).unwrap();
    stream.set_nodelay(true).unwrap();
    let begin = Instant::now();
    stream.write_all(&[job]).unwrap();
    loop {
        match receiver.recv_timeout(Duration::from_secs(20)).expect("the shard sleeps through its job") {
            Report::Done(done) if done == job => return begin.elapsed(),
            _ => {}
        }
    }
}

#[test]
fn a_sleeping_shard_wakes_for_a_timer() {
    for wait in [Wait::Ring, Wait::Glommio] {
        let spent = run_job(b't', wait);
        assert!(spent >= Duration::from_millis(50) && spent < Duration::from_millis(550), "{wait:?}: {spent:?}");
    }
}

#[test]
fn a_sleeping_shard_wakes_for_a_file() {
    for wait in [Wait::Ring, Wait::Glommio] {
        for job in [b'b', b'd', b'r'] {
            let spent = run_job(job, wait);
            assert!(spent < Duration::from_millis(1500), "{wait:?}: job {} took {spent:?}", job as char);
        }
    }
}

#[test]
fn a_sleeping_shard_wakes_for_another_thread() {
    for wait in [Wait::Ring, Wait::Glommio] {
        let spent = run_job(b'w', wait);
        assert!(spent >= Duration::from_millis(50) && spent < Duration::from_millis(550), "{wait:?}: {spent:?}");
    }
}

#[test]
fn an_engine_deadline_is_kept() {
    for wait in [Wait::Ring, Wait::Glommio] {
        let spent = run_job(b'e', wait);
        assert!(spent >= Duration::from_millis(50) && spent < Duration::from_millis(550), "{wait:?}: {spent:?}");
    }
}

#[test]
fn a_task_that_never_rests_does_not_keep_the_driver_from_its_turns() {
    for wait in [Wait::Ring, Wait::Glommio] {
        let (sender, receiver) = channel();
        let running = start(ServerConfig { wait, ..config() }, move |_| Jobs::new(sender.clone())).unwrap();
        one_job(&running, &receiver, b'y');
        assert!(one_job(&running, &receiver, b'n') < Duration::from_millis(500));
        assert!(one_job(&running, &receiver, b't') < Duration::from_millis(1500));
        running.stop();
        running.join();
    }
}

#[derive(Debug)]
enum Report {
    Thread(i32),
    Done(u8),
}

/// Each received byte is a job for the shard.
struct Jobs {
    reports: Sender<Report>,
    next: u32,
    live: usize,
    deadline: Option<Time>,
    effects: VecDeque<Effect>,
    outbox: VecDeque<()>,
}

impl Jobs {
    fn new(reports: Sender<Report>) -> Jobs {
        let thread = rustix::thread::gettid().as_raw_nonzero().get();
        reports.send(Report::Thread(thread)).unwrap();
        Jobs { reports, next: 0, live: 0, deadline: None, effects: VecDeque::new(), outbox: VecDeque::new() }
    }

    fn begin(&mut self, now: Time, job: u8) {
        let reports = self.reports.clone();
        let done = move || drop(reports.send(Report::Done(job)));
        match job {
            b'n' => done(),
            b't' => spawn(async move {
                delay(Duration::from_millis(50)).await;
                done();
            }),
            b'b' => spawn(async move {
                let file = BufferedFile::open("Cargo.toml").await.unwrap();
                assert!(file.read_at(0, 100).await.unwrap().len() == 100);
                file.close().await.unwrap();
                done();
            }),
            b'd' => spawn(async move {
                let file = DmaFile::open("Cargo.lock").await.unwrap();
                assert!(file.read_at(0, 512).await.unwrap().len() == 512);
                file.close().await.unwrap();
                done();
            }),
            // Done by glommio's thread for calls that block.
            b'r' => spawn(async move {
                let name = std::env::temp_dir().join(format!("ringmq-sleep-{}", std::process::id()));
                fs::write(&name, "x").unwrap();
                glommio::io::remove(&name).await.unwrap();
                done();
            }),
            b'w' => spawn(async move {
                let (sender, receiver) = futures_channel();
                std::thread::spawn(move || {
                    std::thread::sleep(Duration::from_millis(50));
                    sender.ring();
                });
                receiver.await;
                done();
            }),
            b'e' => self.deadline = Some(now.after(Duration::from_millis(50))),
            b'y' => {
                spawn(async move {
                    loop {
                        yield_now().await;
                    }
                });
                done();
            }
            _ => panic!("no such job"),
        }
    }
}

async fn yield_now() {
    let mut yielded = false;
    std::future::poll_fn(|context| {
        if std::mem::replace(&mut yielded, true) {
            return std::task::Poll::Ready(());
        }
        context.waker().wake_by_ref();
        std::task::Poll::Pending
    })
    .await;
}

type Bell = std::sync::Arc<std::sync::Mutex<(bool, Option<std::task::Waker>)>>;

struct Ringer(Bell);

impl Ringer {
    fn ring(self) {
        let mut bell = self.0.lock().unwrap();
        bell.0 = true;
        if let Some(waker) = bell.1.take() {
            waker.wake();
        }
    }
}

fn futures_channel() -> (Ringer, impl Future<Output = ()>) {
    let bell = Bell::default();
    let ringer = Ringer(bell.clone());
    let rung = std::future::poll_fn(move |context| {
        let mut bell = bell.lock().unwrap();
        bell.1 = Some(context.waker().clone());
        if bell.0 { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    });
    (ringer, rung)
}

impl Engine for Jobs {
    type Message = ();

    fn open(&mut self, _now: Time, _listener: u16, _address: Option<SocketAddr>) -> Option<ConnId> {
        self.live += 1;
        self.next += 1;
        Some(ConnId { slot: self.next - 1, generation: 1 })
    }

    fn adopt(&mut self, _now: Time, _hand_over: HandOver) -> Option<ConnId> {
        None
    }

    fn receive(&mut self, now: Time, conn: ConnId, bytes: &[u8]) {
        self.effects.push_back(Effect::Settle(conn));
        bytes.iter().for_each(|job| self.begin(now, *job));
    }

    fn sent(&mut self, _now: Time, _conn: ConnId, _bytes: usize) {}

    fn disconnected(&mut self, _now: Time, conn: ConnId, _end: TransportEnd) {
        self.effects.push_back(Effect::Close(conn));
    }

    fn release(&mut self, _conn: ConnId) {
        self.live -= 1;
    }

    fn mesh(&mut self, _now: Time, _from: ShardId, _message: ()) {}

    fn tick(&mut self, now: Time) {
        assert!(self.deadline.is_some_and(|deadline| deadline <= now));
        self.deadline = None;
        self.reports.send(Report::Done(b'e')).unwrap();
    }

    fn next_deadline(&self) -> Option<Time> {
        self.deadline
    }

    fn poll_dirty(&mut self) -> Option<ConnId> {
        None
    }

    fn take_output(&mut self, _conn: ConnId) -> Output {
        Output::default()
    }

    fn recycle(&mut self, _output: Output) {}

    fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    fn outbox(&mut self, _to: ShardId) -> &mut VecDeque<()> {
        &mut self.outbox
    }

    fn poll_outbox(&mut self) -> Option<ShardId> {
        None
    }

    fn mesh_has_room(&mut self, _now: Time, _to: ShardId) {}

    fn stop(&mut self, _now: Time) {}

    fn connections(&self) -> usize {
        self.live
    }
}
