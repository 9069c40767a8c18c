//! Two worker processes and a real broker: what several processes report must be what one would.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::channel;
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use ringmq::config::Draft;
use ringmq::doctor::allowed_cpus;
use ringmq_loadgen::engine::{Clock, Conducted, Crew, Engine, Error, Observer, Phase, Setup, Slice, conduct, tick_for};
use ringmq_loadgen::join::{Gathering, Worker, Workers, gather, work};
use ringmq_loadgen::measure::{Counts, Faults, Sample};
use ringmq_loadgen::plan::{Overrides, Plan, Scenario};

/// Every subscriber gets what every publisher sends, so that most deliveries are between the workers. Each test puts
/// a name of its own for the word, as they share a broker.
const CROSSWISE: &str = r#"
about = "six publishers to six subscribers, all to all"
[timing]
warm_up = "100ms"
window = "400ms"
[groups.subscribers]
count = 6
client_id = "crosswise-subscriber-%i"
subscribe = [{ filter = "crosswise/+", qos = 1 }]
[groups.publishers]
count = 6
client_id = "crosswise-publisher-%i"
publish = [{ topic = "crosswise/%i", qos = 1, payload = 64, every = "10ms", limit = 20 }]
"#;

const PUBLISHED: u64 = 6 * 20;
const DELIVERED: u64 = PUBLISHED * 6;

fn plan(text: &str) -> Plan {
    let mut plan = Scenario::from_text("crosswise.toml", text.to_owned()).read(&Overrides::default()).unwrap();
    plan.verify = true;
    plan
}

/// A broker in this process, for all tests; it ends with it.
fn broker() -> SocketAddr {
    static BROKER: OnceLock<SocketAddr> = OnceLock::new();
    *BROKER.get_or_init(|| {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut draft = Draft::from_text("test.toml", "").unwrap();
        draft.listen(&[address]);
        draft.shards(1);
        draft.log("warn".to_owned());
        let (config, placement) = draft.check(&allowed_cpus(Path::new("/"))).unwrap();
        thread::spawn(move || ringmq::cli::serve(config, placement).unwrap());
        while TcpStream::connect(address).is_err() {
            thread::yield_now();
        }
        address
    })
}

/// Not a test of its own: what the other tests start as a process with `JOIN` set.
#[test]
fn worker_process() {
    let Ok(coordinator) = std::env::var("JOIN") else { return };
    let stop = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(signal_hook::consts::SIGINT, Arc::clone(&stop)).unwrap();
    let worker = Worker {
        coordinator,
        name: std::env::var("NAME").ok(),
        cpus: vec![None],
        transport: Box::new(|_, _| Ok(Default::default())),
        source_addresses: Vec::new(),
        hosts: Vec::new(),
    };
    let outcome = work(&worker, &stop, |line| eprintln!("{line}"));
    assert!(outcome.unwrap().is_clean());
}

fn start_worker(coordinator: SocketAddr, name: &str) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "worker_process", "--nocapture"]);
    command.env("JOIN", coordinator.to_string()).env("NAME", name);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Two processes that have joined.
fn joined(stop: &Arc<AtomicBool>) -> (Vec<Child>, Gathering) {
    let (tell, told) = channel();
    let stopped = Arc::clone(stop);
    let gathering = thread::spawn(move || {
        gather(([127, 0, 0, 1], 0).into(), 2, stopped, |line| drop(tell.send(line.to_owned()))).unwrap()
    });
    let coordinator = told.recv().unwrap().rsplit(' ').next().unwrap().parse().unwrap();
    let workers = ["left", "right"].map(|name| start_worker(coordinator, name));
    (workers.into(), gathering.join().unwrap())
}

fn ended(worker: Child) -> Output {
    let output = worker.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output
}

/// Adds up, and does something at a boundary.
struct Sum<'a> {
    counts: Counts,
    threads: Vec<u32>,
    at: Phase,
    act: &'a mut dyn FnMut(),
}

impl Observer for Sum<'_> {
    fn sample(&mut self, sample: Sample) {
        self.counts += sample.counts;
        if !self.threads.contains(&sample.thread) {
            self.threads.push(sample.thread);
        }
    }

    fn phase(&mut self, phase: Phase, _: u64) {
        if phase == self.at {
            (self.act)();
        }
    }
}

fn lead(
    crew: Box<dyn Crew>,
    plan: &Plan,
    clock: Clock,
    stop: &AtomicBool,
    at: Phase,
    act: &mut dyn FnMut(),
) -> (Result<Conducted, Error>, Counts, Vec<u32>) {
    let mut sum = Sum { counts: Counts::default(), threads: Vec::new(), at, act };
    let conducted = conduct(crew, plan, tick_for(&plan.timing), clock, stop, &mut sum);
    sum.threads.sort_unstable();
    (conducted, sum.counts, sum.threads)
}

fn load(gathering: Gathering, plan: &Plan, clock: Clock) -> Box<Workers> {
    Box::new(gathering.load(plan, &[broker()], tick_for(&plan.timing), clock).unwrap())
}

fn alone(plan: &Plan) -> Counts {
    let clock = Clock::start();
    let setup = Setup {
        plan: Arc::new(plan.clone()),
        hosts: vec![broker()],
        transport: Default::default(),
        source_addresses: Vec::new(),
        cpus: vec![None],
        slice: Slice::WHOLE,
        tick: tick_for(&plan.timing),
        clock,
        run: 1,
    };
    let engine = Box::new(Engine::start(setup).unwrap());
    let (conducted, counts, _) = lead(engine, plan, clock, &AtomicBool::new(false), Phase::Left, &mut || {});
    assert_eq!(conducted.unwrap().outcome.faults, Faults::default());
    counts
}

#[test]
fn two_workers_report_what_one_process_does_and_check_messages_from_one_to_the_other() {
    let (stop, plan) = (Arc::new(AtomicBool::new(false)), plan(&CROSSWISE.replace("crosswise", "two")));
    let (workers, gathering) = joined(&stop);
    let clock = Clock::start();
    let (conducted, counts, threads) =
        lead(load(gathering, &plan, clock), &plan, clock, &stop, Phase::Left, &mut || {});
    let conducted = conducted.unwrap();
    assert!(conducted.outcome.is_clean(), "{:?}", conducted.outcome);
    workers.into_iter().for_each(|worker| drop(ended(worker)));
    assert_eq!((counts.published, counts.delivered, counts.connected), (PUBLISHED, DELIVERED, 12));
    assert_eq!(threads, [0, 1]);
    let alone = alone(&plan);
    assert_eq!((alone.published, alone.delivered, alone.connected), (PUBLISHED, DELIVERED, 12));
    assert_eq!(alone.acknowledged, counts.acknowledged);
}

#[test]
fn a_worker_that_is_killed_ends_the_run_and_is_named() {
    let (stop, plan) = (Arc::new(AtomicBool::new(false)), endless("killed"));
    let (mut workers, gathering) = joined(&stop);
    let clock = Clock::start();
    let mut right = workers.pop().unwrap();
    let mut kill = || right.kill().unwrap();
    let (conducted, ..) = lead(load(gathering, &plan, clock), &plan, clock, &stop, Phase::WindowBegins, &mut kill);
    let why = conducted.unwrap_err().to_string();
    assert!(why.contains("worker right (127.0.0.1:") && why.contains("went away"), "{why}");
    right.wait().unwrap();
    let left = workers.pop().unwrap().wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&left.stderr);
    assert!(!left.status.success() && said.contains("GivenUp(\"worker right "), "{said}");
}

/// The programs themselves, as operators start them.
#[test]
fn a_joined_run_that_is_interrupted_before_its_window_has_no_result() {
    let program = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ringmq-loadgen"));
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    };
    let broker = broker().to_string();
    let run = ["run", "p2p", "--set", "pairs=2", "--client-id", "before-%g-%i", "--host", &broker, "--warm-up", "600s"];
    let mut coordinator = program().args(run).args(["--workers", "1", "--join-listen", "127.0.0.1:0"]).spawn().unwrap();
    let mut lines = BufReader::new(coordinator.stderr.take().unwrap()).lines().map(Result::unwrap);
    let join = lines.next().unwrap().rsplit(' ').next().unwrap().to_owned();
    let worker = program().args(["worker", "--join", &join]).spawn().unwrap();
    assert!(lines.any(|line| line.contains("warm-up, ")));
    rustix::process::kill_process(rustix::process::Pid::from_child(&coordinator), rustix::process::Signal::INT)
        .unwrap();
    let said: Vec<String> = lines.collect();
    assert_eq!(coordinator.wait().unwrap().code(), Some(2));
    assert!(said.last().unwrap().contains("interrupted before the measurement began"), "{said:?}");
    assert!(ended(worker).status.success());
}

#[test]
fn ctrl_c_at_a_worker_ends_the_run_in_order_with_the_results_so_far() {
    let (stop, plan) = (Arc::new(AtomicBool::new(false)), endless("interrupted"));
    let (workers, gathering) = joined(&stop);
    let clock = Clock::start();
    let left = rustix::process::Pid::from_child(&workers[0]);
    let mut interrupt = || rustix::process::kill_process(left, rustix::process::Signal::INT).unwrap();
    let workers_crew = load(gathering, &plan, clock);
    let (conducted, counts, _) = lead(workers_crew, &plan, clock, &stop, Phase::WindowBegins, &mut interrupt);
    let conducted = conducted.unwrap();
    assert!(conducted.interrupted);
    assert!(conducted.outcome.is_clean(), "{:?}", conducted.outcome);
    assert!(counts.delivered > 0 && counts.delivered == counts.published * 6);
    workers.into_iter().for_each(|worker| drop(ended(worker)));
}

fn endless(name: &str) -> Plan {
    let text = CROSSWISE.replace("crosswise", name).replace(", limit = 20", "");
    let mut plan = plan(&text);
    plan.timing.window = Duration::from_secs(600);
    plan
}
