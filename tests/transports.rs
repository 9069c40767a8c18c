//! Other people's clients on every transport of the real program: OpenSSL's `s_client`, `mosquitto_pub` and
//! `mosquitto_sub`, tungstenite, and bare sockets. `tests/clients/setup.sh` installs what they need.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

/// CONNECT of MQTT 3.1.1 as "c", and what it is answered.
const CONNECT: &[u8] = b"\x10\x0D\0\x04MQTT\x04\x02\0\x3C\0\x01c";
const CONNACK: [u8; 4] = [0x20, 2, 0, 0];

/// A hash that costs little.
const CHEAP: [&str; 4] = ["--memory", "64", "--passes", "1"];

const PATIENCE: Duration = Duration::from_secs(20);

/// Certificates in a directory of their own.
struct Files {
    directory: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

impl Files {
    fn new(test: &str) -> Files {
        let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(test);
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir_all(&directory).unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "a test's authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        fs::write(directory.join("ca.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
        Files { directory, issuer: Issuer::new(params, key) }
    }

    fn issue(&self, name: &str) {
        let names = vec![name.to_owned(), "localhost".to_owned(), "127.0.0.1".to_owned()];
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        fs::write(self.directory.join(format!("{name}.pem")), params.signed_by(&key, &self.issuer).unwrap().pem())
            .unwrap();
        let file = self.directory.join(format!("{name}.key"));
        fs::write(&file, key.serialize_pem()).unwrap();
        fs::set_permissions(file, fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn path(&self, name: &str) -> String {
        self.directory.join(name).to_str().unwrap().to_owned()
    }

    fn text(&self, text: &str) -> String {
        text.replace("DIR", self.directory.to_str().unwrap())
    }

    fn write(&self, name: &str, mode: u32, text: &str) {
        fs::write(self.directory.join(name), text).unwrap();
        fs::set_permissions(self.directory.join(name), fs::Permissions::from_mode(mode)).unwrap();
    }

    /// A file of users with ann in it, made with these options.
    fn users(&self, name: &str, options: &[&str]) {
        self.write("batch", 0o600, "ann:tea\n");
        let (users, batch) = (self.path(name), self.path("batch"));
        let arguments = ["passwd", &users, "--batch", &batch];
        let (done, said) = run(env!("CARGO_BIN_EXE_ringmq"), &[&arguments[..], options].concat());
        assert!(done, "{said}");
    }
}

/// The broker, with one listener for each of these texts.
struct Broker {
    process: Child,
    log: BufReader<ChildStderr>,
    addresses: Vec<String>,
    /// What it said until it listened.
    began: String,
}

impl Broker {
    fn start(files: &Files, shards: u16, listeners: &[&str]) -> Broker {
        Broker::start_with(files, shards, listeners, "")
    }

    /// The same, with more sections of the configuration.
    fn start_with(files: &Files, shards: u16, listeners: &[&str], more: &str) -> Broker {
        let mut config = format!("[server]\nshards = {shards}\npin = false\n{}", files.text(more));
        for listener in listeners {
            config += &format!("[[listener]]\n{}\n", files.text(listener));
        }
        fs::write(files.path("broker.toml"), config).unwrap();
        let mut process = Command::new(env!("CARGO_BIN_EXE_ringmq"))
            .args(["--config", &files.path("broker.toml")])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = BufReader::new(process.stderr.take().unwrap());
        let mut broker = Broker { process, log, addresses: Vec::new(), began: String::new() };
        while broker.addresses.len() < listeners.len() {
            let line = broker.line();
            broker.began += &line;
            if let Some((_, address)) = line.split_once("listening on ") {
                broker.addresses.push(address.trim().to_owned());
            }
        }
        broker
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        assert_ne!(self.log.read_line(&mut line).unwrap(), 0, "the broker ended");
        line
    }

    /// The rest of the log up to a line that says so.
    fn says(&mut self, what: &str) -> String {
        loop {
            let line = self.line();
            if line.contains(what) {
                return line;
            }
        }
    }

    fn port(&self, listener: usize) -> &str {
        self.addresses[listener].rsplit_once(':').unwrap().1
    }

    fn signal(&self, name: &str) {
        let id = self.process.id().to_string();
        assert!(Command::new("kill").args([name, &id]).status().unwrap().success());
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Runs a client to its end; returns whether it was content, and what it said.
fn run(program: &str, arguments: &[&str]) -> (bool, String) {
    let output = Command::new("timeout").arg("20").arg(program).args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error} (tests/clients/setup.sh installs it)"));
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

const TLS: &str = "address = \"127.0.0.1:0\"\ntransport = \"tls\"\n[listener.tls]\ncertificate = \"DIR/server.pem\"\n\
    key = \"DIR/server.key\"";

fn connect_over(mut stream: impl Read + Write) {
    stream.write_all(CONNECT).unwrap();
    let mut answer = [0; 4];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(answer, CONNACK);
}

fn tcp(address: &str) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

#[test]
fn mosquitto_publishes_and_subscribes_over_tls_wherever_its_clients_live() {
    for shards in [1, 4] {
        let files = Files::new(&format!("mosquitto-{shards}"));
        files.issue("server");
        let broker = Broker::start(&files, shards, &[TLS]);
        let ca = files.path("ca.pem");
        let broker_at = ["-h", "localhost", "-p", broker.port(0), "--cafile", &ca, "-t", "t", "-q", "1"];
        let payload = "x".repeat(50_000);
        let (published, said) = run("mosquitto_pub", &[&broker_at[..], &["-r", "-m", &payload]].concat());
        assert!(published, "{shards} shards: {said}");
        // Several, so that with four shards most have to be handed over.
        for client in ["a", "b", "c", "d", "e", "f"] {
            let (received, said) =
                run("mosquitto_sub", &[&broker_at[..], &["-i", client, "-C", "1", "-W", "10"]].concat());
            assert!(received && said.trim() == payload, "{shards} shards: {client}: {} bytes", said.len());
        }
    }
}

#[test]
fn openssl_speaks_either_version_and_is_told_the_protocol() {
    let files = Files::new("openssl");
    files.issue("server");
    let broker = Broker::start(&files, 2, &[TLS]);
    for version in ["-tls1_2", "-tls1_3"] {
        let mut client = Command::new("timeout")
            .args(["20", "openssl", "s_client", "-connect", &broker.addresses[0], "-CAfile", &files.path("ca.pem")])
            .args(["-verify_return_error", "-alpn", "mqtt", "-quiet", version])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        client.stdin.as_mut().unwrap().write_all(CONNECT).unwrap();
        let mut answer = [0; 4];
        client.stdout.as_mut().unwrap().read_exact(&mut answer).unwrap();
        assert_eq!(answer, CONNACK, "{version}");
        let _ = client.kill();
        let _ = client.wait();
    }
}

#[test]
fn a_client_certificate_opens_what_nothing_else_does() {
    let files = Files::new("mutual");
    files.issue("server");
    files.issue("lamp");
    let listener = format!("{TLS}\nclient_certificate = \"required\"\nclient_ca = \"DIR/ca.pem\"");
    let broker = Broker::start(&files, 1, &[&listener]);
    let (ca, certificate, key) = (files.path("ca.pem"), files.path("lamp.pem"), files.path("lamp.key"));
    let to = ["-h", "localhost", "-p", broker.port(0), "--cafile", &ca, "-t", "t", "-m", "m"];
    assert!(!run("mosquitto_pub", &to).0, "without a certificate");
    let (published, said) = run("mosquitto_pub", &[&to[..], &["--cert", &certificate, "--key", &key]].concat());
    assert!(published, "{said}");
}

#[test]
fn websocket_is_spoken_with_and_without_tls() {
    let files = Files::new("websocket");
    files.issue("server");
    let wss = TLS.replace("\"tls\"", "\"wss\"");
    let broker = Broker::start(&files, 2, &["address = \"127.0.0.1:0\"\ntransport = \"ws\"", &wss]);
    websocket(tcp(&broker.addresses[0]));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = rustls::RootCertStore::empty();
    let ca = fs::read(files.path("ca.pem")).unwrap();
    let ca = <rustls::pki_types::CertificateDer<'_> as rustls::pki_types::pem::PemObject>::from_pem_slice(&ca).unwrap();
    roots.add(ca).unwrap();
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let tls = rustls::ClientConnection::new(Arc::new(config), "localhost".try_into().unwrap()).unwrap();
    websocket(rustls::StreamOwned::new(tls, tcp(&broker.addresses[1])));
}

fn websocket(stream: impl Read + Write) {
    use tungstenite::client::IntoClientRequest;
    let mut request = "ws://localhost/mqtt".into_client_request().unwrap();
    request.headers_mut().insert("Sec-WebSocket-Protocol", "mqtt".parse().unwrap());
    let (mut socket, response) = tungstenite::client(request, stream).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(response.headers()["Sec-WebSocket-Protocol"], "mqtt");
    socket.send(tungstenite::Message::binary(CONNECT)).unwrap();
    assert_eq!(socket.read().unwrap().into_data()[..], CONNACK);
    socket.close(None).unwrap();
    while socket.read().is_ok() {}
}

#[test]
fn a_socket_file_has_the_mode_it_was_given_and_goes_with_the_broker() {
    let files = Files::new("unix");
    for shards in [1, 3] {
        let listener = "address = \"unix:DIR/mqtt.sock\"\nmode = \"0640\"\ngroup = \"0\"";
        let mut broker = Broker::start(&files, shards, &[listener]);
        let path = files.path("mqtt.sock");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
        for _ in 0..10 {
            let stream = UnixStream::connect(&path).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            connect_over(stream);
        }
        broker.signal("-TERM");
        assert!(broker.process.wait().unwrap().success());
        assert!(!fs::exists(&path).unwrap());
    }
}

#[test]
fn a_proxy_is_trusted_by_the_address_that_the_kernel_tells() {
    let files = Files::new("proxy");
    let listener = |network: &str| format!("address = \"127.0.0.1:0\"\n[listener.proxy]\ntrusted = [\"{network}\"]");
    let broker = Broker::start(&files, 2, &[&listener("127.0.0.0/8"), &listener("192.0.2.0/24")]);
    let header = b"PROXY TCP4 203.0.113.7 203.0.113.8 4711 1883\r\n";
    let mut trusted = tcp(&broker.addresses[0]);
    trusted.write_all(header).unwrap();
    connect_over(trusted);
    let mut stranger = tcp(&broker.addresses[1]);
    // It may be closed before all of it is written.
    let _ = stranger.write_all(&[&header[..], CONNECT].concat());
    assert_eq!(stranger.read(&mut [0; 1]).unwrap_or(0), 0, "closed without a word");
}

#[test]
fn a_new_certificate_is_read_on_sighup_and_a_broken_one_is_told_and_left() {
    let files = Files::new("reload");
    files.issue("server");
    let mut broker = Broker::start(&files, 2, &[TLS]);
    let connection =
        ["s_client", "-connect", &broker.addresses[0].clone(), "-servername", "localhost"].map(str::to_owned);
    let shown = || {
        let arguments: Vec<&str> = connection.iter().map(String::as_str).collect();
        let (_, said) = run("openssl", &arguments);
        let (_, from_there) = said.split_once("-----BEGIN CERTIFICATE-----").expect("a certificate");
        from_there.split_once("-----END").expect("all of it").0.to_owned()
    };
    let first = shown();
    fs::write(files.path("server.key"), "nonsense").unwrap();
    broker.signal("-HUP");
    let said = broker.says("server.key");
    assert!(said.contains("ERROR") && said.contains("goes on"), "{said}");
    assert_eq!(shown(), first);
    files.issue("server");
    broker.signal("-HUP");
    broker.says("new connections get what is in the files now");
    assert_ne!(shown(), first);
}

/// CVE-2017-7652: a reload that could open no file left the broker without its users and rules.
#[test]
fn a_reload_that_can_open_no_file_leaves_everything_as_it_was() {
    let files = Files::new("exhausted");
    files.issue("server");
    files.issue("lamp");
    files.users("users", &CHEAP);
    files.write("acl.toml", 0o600, "[[rules]]\naccess = \"allow\"\naction = \"publish\"\ntopic = \"open\"\n");
    let mutual = format!("{TLS}\nclient_certificate = \"required\"\nclient_ca = \"DIR/ca.pem\"");
    let more =
        "[acl]\nfile = \"DIR/acl.toml\"\n[auth]\nmethods = [\"password\"]\n[auth.password]\nfile = \"DIR/users\"\n";
    let mut broker = Broker::start_with(&files, 1, &[TLS, &mutual], more);
    let id = broker.process.id().to_string();
    let limit = |limit: &str| assert!(run("prlimit", &["--pid", &id, &format!("--nofile={limit}:")]).0);
    let before = fs::read_to_string(format!("/proc/{id}/limits")).unwrap();
    let before = before.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap();
    let before = before.split_whitespace().next().unwrap().to_owned();
    limit("3");
    broker.signal("-HUP");
    // In the order in which they are read: two listeners, rules, users.
    for file in ["server.pem", "server.pem", "acl.toml", "users"] {
        let said = broker.says(file);
        assert!(said.contains("ERROR") && said.contains("Too many open files"), "{said}");
    }
    limit(&before);
    let publish = |listener: usize, more: &[&str]| {
        let (ca, port) = (files.path("ca.pem"), broker.port(listener));
        let to = ["-h", "localhost", "-p", port, "--cafile", &ca, "-V", "5", "-q", "1", "-d", "-m", "m"];
        run("mosquitto_pub", &[&to[..], more].concat())
    };
    let (done, said) = publish(0, &["-u", "ann", "-P", "tea", "-t", "open"]);
    assert!(done && !said.contains("RC:135"), "{said}");
    assert!(publish(0, &["-u", "ann", "-P", "tea", "-t", "closed"]).1.contains("RC:135"), "the rules hold");
    assert!(!publish(0, &["-u", "ann", "-P", "coffee", "-t", "open"]).0, "passwords count");
    assert!(!publish(0, &["-t", "open"]).0, "nobody comes in without a name");
    assert!(!publish(1, &["-u", "ann", "-P", "tea", "-t", "open"]).0, "a certificate is asked for");
    let (certificate, key) = (files.path("lamp.pem"), files.path("lamp.key"));
    let shown = ["--cert", &certificate, "--key", &key, "-u", "ann", "-P", "tea", "-t", "open"];
    assert!(publish(1, &shown).0);
}

#[test]
fn secrets_that_others_may_read_are_warned_of() {
    let files = Files::new("modes");
    files.issue("server");
    files.issue("other");
    files.users("users", &CHEAP);
    files.users("scram", &["--scram"]);
    files.write("jwt.key", 0o600, "a secret of more than thirty-two bytes");
    let listener = format!("{TLS}\nsni = [{{ certificate = \"DIR/other.pem\", key = \"DIR/other.key\" }}]");
    let more = "[auth]\nmethods = [\"password\", \"jwt\", \"scram\"]\n[auth.password]\nfile = \"DIR/users\"\n\
        [auth.scram]\nfile = \"DIR/scram\"\n[auth.jwt]\nkey_file = \"DIR/jwt.key\"\nalgorithm = \"HS256\"\n";
    let secrets = ["server.key", "other.key", "users", "scram", "jwt.key"];
    for wide in ["", "server.key", "other.key", "users", "scram", "jwt.key"] {
        for (secret, mode) in secrets.iter().zip([0o604, 0o640, 0o620, 0o644, 0o660]) {
            let mode = if *secret == wide { mode } else { 0o600 };
            fs::set_permissions(files.path(secret), fs::Permissions::from_mode(mode)).unwrap();
        }
        let broker = Broker::start_with(&files, 1, &[&listener], more);
        let warned: Vec<&str> = broker.began.lines().filter(|line| line.contains("chmod 600")).collect();
        match wide {
            "" => assert!(warned.is_empty(), "{warned:?}"),
            wide => assert!(
                warned.len() == 1 && warned[0].contains(wide) && warned[0].contains("WARN"),
                "{wide}: {warned:?}"
            ),
        }
    }
}
