//! TLS and WebSocket against mosquitto, which knows nothing of our own. Where it is not installed, that is told and nothing
//! is tested (on Debian: the package mosquitto).

mod engine_common;

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use engine_common::*;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use ringmq_loadgen::cli::transport::TransportOptions;
use ringmq_loadgen::engine::Setup;
use ringmq_loadgen::plan::{Pace, Payload, Plan, Transport};

const PLACES: [&str; 2] = ["mosquitto", "/usr/sbin/mosquitto"];

/// A mosquitto with a listener of each kind, until it is dropped.
struct Mosquitto {
    process: Child,
    files: PathBuf,
    tcp: SocketAddr,
    tls: SocketAddr,
    ws: SocketAddr,
    wss: SocketAddr,
    /// TLS, with a client certificate.
    mutual: SocketAddr,
}

impl Mosquitto {
    /// `None`: it is not installed.
    fn start(name: &str) -> Option<Self> {
        let is_there = |place: &&str| Command::new(place).arg("-h").stdout(Stdio::null()).status().is_ok();
        let Some(program) = PLACES.into_iter().find(is_there) else {
            eprintln!("mosquitto is not installed: nothing was tested");
            return None;
        };
        let files = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(&files).unwrap();
        make_certificates(&files);
        let [tcp, tls, ws, wss, mutual] = free_addresses();
        let listener = |address: SocketAddr, more: &str| format!("listener {} 127.0.0.1\n{more}", address.port());
        let at = files.display();
        let secure = format!("cafile {at}/ca.pem\ncertfile {at}/server.pem\nkeyfile {at}/server.key\n");
        let configuration = [
            "per_listener_settings false\nallow_anonymous true\nuser root\n".to_owned(),
            listener(tcp, ""),
            listener(tls, &secure),
            listener(ws, "protocol websockets\n"),
            listener(wss, &format!("protocol websockets\n{secure}")),
            listener(mutual, &format!("{secure}require_certificate true\n")),
        ];
        let file = files.join("mosquitto.conf");
        fs::write(&file, configuration.concat()).unwrap();
        let log = fs::File::create(files.join("log")).unwrap();
        let process = Command::new(program).arg("-v").arg("-c").arg(&file).stderr(log).spawn().unwrap();
        let broker = Self { process, files, tcp, tls, ws, wss, mutual };
        [tcp, tls, ws, wss, mutual].into_iter().for_each(await_listener);
        Some(broker)
    }

    fn file(&self, name: &str) -> Option<PathBuf> {
        Some(self.files.join(name))
    }

    /// The options that it is reached with.
    fn options(&self) -> TransportOptions {
        TransportOptions { ca: self.file("ca.pem"), ..<_>::default() }
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn await_listener(address: SocketAddr) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while TcpStream::connect(address).is_err() {
        assert!(Instant::now() < deadline, "nobody listens at {address}");
        thread::sleep(Duration::from_millis(5));
    }
}

fn free_addresses<const N: usize>() -> [SocketAddr; N] {
    let listeners = [(); N].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    listeners.map(|listener| listener.local_addr().unwrap())
}

/// An authority, one that nobody knows, a server called `broker.test` and 127.0.0.1, a client.
fn make_certificates(files: &Path) {
    let authority = |name: &str| {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        fs::write(files.join(name), params.self_signed(&key).unwrap().pem()).unwrap();
        Issuer::new(params, key)
    };
    let issuer = authority("ca.pem");
    authority("other-ca.pem");
    let names = ["broker.test", "127.0.0.1"].map(str::to_owned);
    for (name, subjects) in [("server", names.to_vec()), ("client", vec!["client.test".to_owned()])] {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(subjects).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        let certificate = params.signed_by(&key, &issuer).unwrap();
        fs::write(files.join(format!("{name}.pem")), certificate.pem()).unwrap();
        fs::write(files.join(format!("{name}.key")), key.serialize_pem()).unwrap();
    }
}

fn set_up(plan: &Plan, address: SocketAddr, kind: Transport, options: &TransportOptions) -> Setup {
    let names = vec![(address, address.ip().to_string())];
    Setup { transport: options.load(kind, names).unwrap(), ..setup(plan, address, 2) }
}

fn run_clean_as(plan: &Plan, address: SocketAddr, kind: Transport, options: &TransportOptions) -> Seen {
    let (conducted, seen) = run_as(plan, set_up(plan, address, kind, options)).unwrap();
    assert!(conducted.outcome.is_clean(), "{kind:?}: {:?}", conducted.outcome);
    assert!(seen.all(|counts| counts.delivered) > 0, "{kind:?}");
    seen
}

fn refusal(address: SocketAddr, kind: Transport, options: &TransportOptions) -> String {
    let mut plan = plan(pairs(1, 0, Pace::Outstanding(1)));
    plan.timing.patience = Duration::from_secs(2);
    match run_as(&plan, set_up(&plan, address, kind, options)) {
        Ok((conducted, _)) => panic!("{kind:?}: {:?}", conducted.outcome),
        Err(error) => error.to_string(),
    }
}

#[test]
fn messages_arrive_whatever_they_are_carried_by() {
    let Some(broker) = Mosquitto::start("each-transport") else { return };
    let (plain, secure) = (TransportOptions::default(), broker.options());
    let resuming = TransportOptions { resume: true, ..broker.options() };
    for qos in 0..3 {
        let plan = plan(pairs(8, qos, Pace::Outstanding(4)));
        run_clean_as(&plan, broker.tcp, Transport::Tcp, &plain);
        run_clean_as(&plan, broker.tls, Transport::Tls, &secure);
        run_clean_as(&plan, broker.tls, Transport::Tls, &resuming);
        run_clean_as(&plan, broker.ws, Transport::Ws, &plain);
        run_clean_as(&plan, broker.wss, Transport::Wss, &secure);
    }
}

#[test]
fn payloads_larger_than_a_record_and_a_buffer_arrive_whole() {
    let Some(broker) = Mosquitto::start("large-payloads") else { return };
    let mut groups = pairs(2, 1, Pace::Outstanding(2));
    groups[1].publish[0].payload = Payload::Bytes(100_000);
    let plan = plan(groups);
    run_clean_as(&plan, broker.tls, Transport::Tls, &broker.options());
    run_clean_as(&plan, broker.ws, Transport::Ws, &TransportOptions::default());
    run_clean_as(&plan, broker.wss, Transport::Wss, &broker.options());
}

#[test]
fn what_is_counted_is_mqtt_and_not_what_carries_it() {
    let Some(broker) = Mosquitto::start("counted-bytes") else { return };
    let mut groups = pairs(1, 1, Pace::Every(Duration::from_millis(10)));
    groups[1].publish[0].limit = Some(5);
    let plan = plan(groups);
    let bytes = |seen: Seen| (seen.all(|counts| counts.bytes_in), seen.all(|counts| counts.bytes_out));
    let tcp = bytes(run_clean_as(&plan, broker.tcp, Transport::Tcp, &TransportOptions::default()));
    assert_eq!(bytes(run_clean_as(&plan, broker.wss, Transport::Wss, &broker.options())), tcp);
}

#[test]
fn a_broker_is_only_trusted_by_its_certificate() {
    let Some(broker) = Mosquitto::start("trust") else { return };
    let stranger = TransportOptions { ca: broker.file("other-ca.pem"), ..<_>::default() };
    let told = refusal(broker.tls, Transport::Tls, &stranger);
    assert!(told.contains("UnknownIssuer") && told.contains("is --ca what"), "{told}");
    let misnamed = TransportOptions { sni: Some("elsewhere.test".into()), ..broker.options() };
    let told = refusal(broker.wss, Transport::Wss, &misnamed);
    assert!(told.contains("by --host or --sni"), "{told}");

    let plan = plan(pairs(1, 0, Pace::Outstanding(1)));
    let insecure = TransportOptions { insecure: true, ..<_>::default() };
    run_clean_as(&plan, broker.tls, Transport::Tls, &insecure);
    let named = TransportOptions { sni: Some("broker.test".into()), ..broker.options() };
    run_clean_as(&plan, broker.tls, Transport::Tls, &named);
}

#[test]
fn clients_show_their_certificate_where_one_is_wanted() {
    let Some(broker) = Mosquitto::start("client-certificate") else { return };
    let told = refusal(broker.mutual, Transport::Tls, &broker.options());
    assert!(told.contains("(--cert and --key)"), "{told}");
    let shown =
        TransportOptions { cert: broker.file("client.pem"), key: broker.file("client.key"), ..broker.options() };
    run_clean_as(&plan(pairs(2, 1, Pace::Outstanding(1))), broker.mutual, Transport::Tls, &shown);
}

#[test]
fn the_wrong_listener_is_named() {
    let Some(broker) = Mosquitto::start("wrong-listener") else { return };
    let (plain, secure) = (TransportOptions::default(), broker.options());
    for (address, kind, options) in [
        (broker.tcp, Transport::Tls, &secure),
        (broker.tcp, Transport::Ws, &plain),
        (broker.ws, Transport::Wss, &secure),
        (broker.wss, Transport::Tls, &secure),
        (broker.tls, Transport::Tcp, &plain),
    ] {
        let told = refusal(address, kind, options);
        let helps = ["--transport", "is it a TLS listener", "not that of a WebSocket listener", "HTTP"];
        assert!(helps.iter().any(|words| told.contains(words)), "{kind:?}: {told}");
    }
}

#[test]
fn a_handshake_that_http_refuses_tells_its_status() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = [0; 1024];
        let length = stream.read(&mut request).unwrap();
        stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n").unwrap();
        String::from_utf8(request[..length].to_vec()).unwrap()
    });
    let options = TransportOptions { ws_path: "/broker".into(), ..<_>::default() };
    let told = refusal(address, Transport::Ws, &options);
    assert!(told.contains("HTTP status 404: is the path right? (--ws-path)"), "{told}");
    let request = server.join().unwrap();
    assert!(request.starts_with("GET /broker HTTP/1.1\r\n"), "{request}");
    assert!(request.contains(&format!("\r\nHost: {address}\r\n")), "{request}");
}
