//! The limit to measure the broker against: a forwarder on the same driver (the same ring and its flags, multishot
//! receives into the same provided buffers, one send per connection and turn), with next to no MQTT in it.
//!
//! To the outside it looks like a broker, so that load generators of MQTT brokers can drive both in one run. Inside,
//! `script.rs` answers CONNECT, SUBSCRIBE, PINGREQ and DISCONNECT; the topic of a connection's *first* PUBLISH is
//! compared with what was subscribed to, byte by byte, and that binds it to its receivers. From then on PUBLISH packets
//! are frames: nothing but their length is read, and they are forwarded whole and unchanged. So it takes QoS 0 without
//! wildcards, and one topic for each publishing connection; a SUBSCRIBE that asks for more is refused, and a PUBLISH
//! above QoS 0 ends its connection. There are no sessions, no limits and no keep alive.
//!
//! It is an example and no bench, because examples are built by the broker's own profile, and to a path that stays:
//!
//! ```sh
//! cargo build --release --example forwarder
//! target/release/examples/forwarder --serve 127.0.0.1:1883 --cpus 0     # for a load generator, until killed
//! target/release/examples/forwarder --pairs 100 --outstanding 1         # with clients of its own
//! ```
//!
//! With clients of its own it sends PUBLISH packets of 64 bytes of payload between paired clients through a shard pinned
//! to CPU 0 (`--cpus`), from a client thread on CPU 1, and prints the CPU time of the shards per frame. `--cross` runs
//! two shards, one for each side of the pairs, so that every frame takes the mesh: a client whose identifier begins with
//! `sub` lives on the second, any other on the first.

mod clients;
mod engine;
mod script;

use std::fs;
use std::net::SocketAddr;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};
use ringmq::config::Ring;
use ringmq::net::driver::DriverConfig;
use ringmq::net::ring::QueueSizes;
use ringmq::server::{Running, ServerConfig, start};
use ringmq::shard::Wait;

use clients::Clients;
use engine::Forwarder;

/// Forwards frames between MQTT clients with next to no MQTT in it: the limit of what a broker can do on this host
#[derive(Parser)]
struct Arguments {
    /// Pairs of clients
    #[arg(long, default_value_t = 100)]
    pairs: u32,
    /// Frames that each pair has on the way at a time
    #[arg(long, default_value_t = 1)]
    outstanding: usize,
    /// Two shards, with the two sides of each pair on different ones
    #[arg(long)]
    cross: bool,
    /// Where a shard sleeps
    #[arg(long, default_value = "ring")]
    wait: Where,
    /// CPUs to pin shards to
    #[arg(long, value_delimiter = ',', default_value = "0")]
    cpus: Vec<usize>,
    /// How often to measure
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// How long a round is
    #[arg(long, default_value_t = 2)]
    seconds: u64,
    /// Rest between the clients' rounds of reading and writing, so that the shards fall asleep
    #[arg(long, default_value_t = 0)]
    pause_us: u64,
    /// Only serve, at this address, until killed
    #[arg(long, value_name = "ADDRESS:PORT")]
    serve: Option<SocketAddr>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Where {
    Ring,
    Glommio,
}

fn main() {
    let arguments = Arguments::parse();
    let config = server_config(&arguments);
    let shards = config.shards;
    let (threads, started) = channel();
    let make = move |me| {
        // Nobody listens when it only serves.
        let _ = threads.send(rustix::thread::gettid().as_raw_nonzero().get());
        Forwarder::new(me, shards)
    };
    let running = start(config, make).unwrap_or_else(|error| {
        eprintln!("forwarder: {error}");
        std::process::exit(1);
    });
    if arguments.serve.is_some() {
        return running.join();
    }
    let threads: Vec<i32> = started.iter().take(shards.into()).collect();
    core_affinity::set_for_current(core_affinity::CoreId { id: 1 });
    let mut clients = Clients::connect(running.local_addrs()[0], arguments.pairs, arguments.outstanding);
    for _ in 0..arguments.rounds {
        measure(&arguments, &running, &threads, &mut clients);
    }
    drop(clients);
    running.stop();
    running.join();
}

/// The sizes are those of a broker without a configuration file.
fn server_config(arguments: &Arguments) -> ServerConfig {
    let ring = Ring::default();
    ServerConfig {
        listeners: vec![arguments.serve.unwrap_or_else(|| ([127, 0, 0, 1], 0).into()).into()],
        shards: if arguments.cross { 2 } else { 1 },
        cpus: arguments.cpus.clone(),
        wait: match arguments.wait {
            Where::Ring => Wait::Ring,
            Where::Glommio => Wait::Glommio,
        },
        mesh_capacity: ring.mesh_capacity as usize,
        driver: DriverConfig {
            queues: QueueSizes { submission: ring.entries, completion: ring.completion_entries },
            buffers: ring.recv_buffers,
            buffer_size: ring.recv_buffer_bytes,
            ..DriverConfig::default()
        },
        ..ServerConfig::default()
    }
}

fn measure(arguments: &Arguments, running: &Running, threads: &[i32], clients: &mut Clients) {
    let wakes = || running.stats().iter().map(|stats| stats.wakes.load()).sum::<u64>();
    let (cpu_before, wakes_before, begin) = (cpu_time(threads), wakes(), Instant::now());
    let frames = clients.play(Duration::from_secs(arguments.seconds), Duration::from_micros(arguments.pause_us));
    let cpu = cpu_time(threads) - cpu_before;
    println!(
        "{frames} frames, {:.0}/s, {:.3} µs of shard CPU each, {:.3} wakes each",
        frames as f64 / begin.elapsed().as_secs_f64(),
        cpu.as_secs_f64() * 1e6 / frames as f64,
        (wakes() - wakes_before) as f64 / frames as f64,
    );
}

fn cpu_time(threads: &[i32]) -> Duration {
    let one = |thread: &i32| {
        let stat = fs::read_to_string(format!("/proc/self/task/{thread}/schedstat")).expect("a thread of ours");
        let nanoseconds = stat.split(' ').next().and_then(|field| field.parse().ok());
        Duration::from_nanos(nanoseconds.expect("schedstat begins with nanoseconds"))
    };
    threads.iter().map(one).sum()
}
