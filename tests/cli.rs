//! The `ringmq` program as an operator meets it: what it prints, and its exit codes.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;
use std::process::{Child, ChildStderr, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

fn ringmq(args: &[&str]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = Command::new(env!("CARGO_BIN_EXE_ringmq")).args(args).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code(), text(stdout), text(stderr))
}

fn file(name: &str, text: &str) -> String {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn the_version_is_the_packages() {
    let (code, out, _) = ringmq(&["--version"]);
    assert_eq!((code, out.trim()), (Some(0), concat!("ringmq ", env!("CARGO_PKG_VERSION"))));
}

#[test]
fn help_names_every_command_and_option() {
    let (code, out, _) = ringmq(&["--help"]);
    assert_eq!(code, Some(0));
    let names = [
        "serve",
        "check-config",
        "doctor",
        "acl",
        "passwd",
        "tune",
        "ban",
        "--config",
        "--listen",
        "--shards",
        "--cpus",
        "--log",
        "--allow-anonymous",
    ];
    for name in names {
        assert!(out.contains(name), "{name} is missing:\n{out}");
    }
    assert!(out.contains("127.0.0.1:1883") && out.contains("Exit codes"), "{out}");
}

#[test]
fn an_unknown_option_is_a_usage_error() {
    let (code, _, err) = ringmq(&["--confg", "x"]);
    assert_eq!(code, Some(2));
    assert!(err.contains("--config"), "{err}");
}

#[test]
fn a_good_file_is_summed_up() {
    let path = file("good.toml", "[server]\nshards = 3\npin = false\n[limits]\npacket_bytes_max = \"64KiB\"\n");
    let (code, out, err) = ringmq(&["check-config", &path]);
    assert_eq!(code, Some(0), "{err}");
    assert_eq!(out.lines().next(), Some(format!("{path}: OK").as_str()));
    for expected in ["3 on CPUs ", "not pinned", "127.0.0.1:1883", "packets of 64KiB", "3.1, 3.1.1, 5.0, QoS up to 2"] {
        assert!(out.contains(expected), "{expected} is missing:\n{out}");
    }
}

#[test]
fn the_example_file_is_good() {
    let (code, _, err) = ringmq(&["check-config", concat!(env!("CARGO_MANIFEST_DIR"), "/tuning/ringmq.example.toml")]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
}

#[test]
fn each_kind_of_mistake_is_told_with_file_line_key_and_remedy() {
    let cases = [
        ("syntax", "[limits\n", ":1:", "", "correct the TOML"),
        ("section", "\n[limit]\n", ":2:2: limit: ", "no such section", "[limits]"),
        ("key", "[limits]\ninflight = 1\n", ":2:1: limits.inflight: ", "no such key", "the keys of [limits]"),
        ("kind", "[limits]\ninflight_max = true\n", ":2:16: limits.inflight_max: ", "boolean", "a whole number"),
        ("unit", "[sys]\ninterval = \"10\"\n", ":2:12: sys.interval: ", "\"10\"", "with its unit"),
        ("range", "[ring]\nentries = 1\n", ":2:11: ring.entries: ", "too little", "8 or more"),
        ("pair", "[limits]\nqueue_bytes_max = 9\n", ":2:19: limits.queue_bytes_max: ", "cannot hold", "1MiB"),
        ("cpu", "[server]\ncpus = \"8000\"\n", ":2:8: server.cpus: ", "CPU 8000 does not exist", "choose among"),
        (
            "open",
            "[[listener]]\naddress = \"0.0.0.0:1\"\n",
            ":2:11: listener[0].address: ",
            "authenticated",
            "127.0.0.1",
        ),
    ];
    for (name, text, place, what, remedy) in cases {
        let path = file(&format!("bad-{name}.toml"), text);
        let (code, out, err) = ringmq(&["check-config", &path]);
        assert_eq!((code, out.as_str()), (Some(1), ""), "{name}: {err}");
        assert!(err.starts_with(&format!("{path}{place}")), "{name}: {err}");
        assert!(err.contains(what), "{name}: {err}");
        let told = err.lines().find(|line| line.starts_with("  remedy: ")).unwrap_or_default();
        assert!(told.contains(remedy), "{name}: {err}");
    }
}

#[test]
fn a_file_that_is_missing_has_an_exit_code_of_its_own() {
    for args in [["check-config", "/nonexistent.toml"], ["--config", "/nonexistent.toml"]] {
        let (code, _, err) = ringmq(&args);
        assert_eq!(code, Some(2), "{err}");
        assert!(err.contains("/nonexistent.toml") && err.contains("remedy: "), "{err}");
    }
}

#[test]
fn serving_is_refused_for_the_same_mistakes_as_checking() {
    let path = file("serve-bad.toml", "[limits]\ninflight = 1\n");
    for args in [vec!["--config", &path], vec!["serve", "--config", &path], vec!["doctor", "--config", &path]] {
        let (code, _, err) = ringmq(&args);
        assert_eq!(code, Some(1), "{err}");
        assert!(err.contains("limits.inflight"), "{err}");
    }
}

#[test]
fn an_option_that_cannot_be_is_named() {
    let cases = [
        (["--shards", "65"], "--shards: server.shards: 65 is too much"),
        (["--cpus", "8000"], "--cpus: server.cpus: CPU 8000 does not exist"),
        (["--listen", "0.0.0.0:0"], "--listen: listener[0].address: other hosts can reach"),
        (["--log", "loud"], "--log: server.log: \"loud\" is no log level"),
    ];
    for (args, told) in cases {
        let (code, _, err) = ringmq(&args);
        assert_eq!(code, Some(1), "{err}");
        assert!(err.starts_with(told) && err.contains("remedy: "), "{err}");
    }
}

/// Serves on a port that is taken: tells what it would have run, then why it does not.
fn serve_on_a_taken_port(log_format: &str) -> Vec<String> {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let path =
        file(&format!("log-{log_format}.toml"), &format!("[server]\nlog_format = \"{log_format}\"\nshards = 1\n"));
    let (code, _, err) = ringmq(&["--config", &path, "--listen", &address]);
    assert_eq!(code, Some(1), "{err}");
    assert!(err.contains(&format!("listeners: {address}")), "{err}");
    err.lines().map(str::to_owned).collect()
}

#[test]
fn a_start_is_summed_up_in_the_log_and_its_failure_told_in_plain_words() {
    let lines = serve_on_a_taken_port("text");
    assert!(lines[0].ends_with(concat!("ringmq ", env!("CARGO_PKG_VERSION"))), "{lines:#?}");
    assert!(lines.last().unwrap().starts_with("ringmq: "), "{lines:#?}");
    assert!(!lines.iter().any(|line| line.contains('\u{1b}')), "colours belong on terminals: {lines:#?}");
}

#[test]
fn json_logs_are_one_object_a_line() {
    let lines = serve_on_a_taken_port("json");
    let (_failure, logged) = lines.split_last().unwrap();
    for line in logged {
        let parsed: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(parsed["level"].is_string() && parsed["message"].is_string(), "{line}");
    }
}

/// A broker that serves, until dropped.
struct Served {
    process: Child,
    log: BufReader<ChildStderr>,
    address: String,
}

impl Served {
    /// Starts `ringmq` by a shell, after a command that prepares the process.
    fn after(prepare: &str, arguments: &str) -> Served {
        Served::by(&format!("{prepare}; exec {} --listen 127.0.0.1:0 {arguments}", env!("CARGO_BIN_EXE_ringmq")))
    }

    /// Starts what becomes `ringmq` by a shell.
    fn by(script: &str) -> Served {
        let mut process = Command::new("sh").args(["-c", script]).stderr(Stdio::piped()).spawn().unwrap();
        let log = BufReader::new(process.stderr.take().unwrap());
        // Whole from here on, so that it is ended and waited for whatever comes.
        let mut served = Served { process, log, address: String::new() };
        let mut said = String::new();
        while served.address.is_empty() {
            let start = said.len();
            assert_ne!(served.log.read_line(&mut said).unwrap(), 0, "it ended: {said}");
            if let Some((_, address)) = said[start..].split_once("listening on ") {
                served.address = address.trim().to_owned();
            }
        }
        served
    }

    /// Stops it in order; returns what it logged since it listened.
    fn stop(mut self) -> String {
        let stopped = Command::new("kill").arg(self.process.id().to_string()).status().unwrap();
        assert!(stopped.success());
        let mut said = String::new();
        self.log.read_to_string(&mut said).unwrap();
        assert!(self.process.wait().unwrap().success(), "{said}");
        said
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn shards_stay_on_the_cpus_they_were_given_pinned_or_not() {
    let allowed = fs::read_to_string("/proc/self/status").unwrap();
    let allowed = allowed.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap();
    let last = allowed.trim().rsplit([',', '-']).next().unwrap();
    for shards in 1..=2 {
        let served = Served::after("true", &format!("--shards {shards} --cpus {last}"));
        let mut seen = 0;
        for task in fs::read_dir(format!("/proc/{}/task", served.process.id())).unwrap() {
            let status = fs::read_to_string(task.unwrap().path().join("status")).unwrap();
            let field = |name| status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("").trim();
            if field("Name:").starts_with("shard ") {
                assert_eq!(field("Cpus_allowed_list:"), last, "{shards} shards");
                seen += 1;
            }
        }
        assert!(seen >= shards);
    }
}

#[test]
fn a_full_table_of_descriptors_is_told_once_not_for_each_client() {
    let served = Served::after("ulimit -n 64", "--shards 1");
    let clients: Vec<TcpStream> = (0..300).map(|_| TcpStream::connect(&served.address).unwrap()).collect();
    // What is beyond the table gets closed; some of it only after several pauses.
    let closed = clients.iter().filter(|client| {
        client.set_read_timeout(Some(std::time::Duration::from_millis(1))).unwrap();
        (&**client).read(&mut [0]).is_ok_and(|length| length == 0)
    });
    assert!(closed.count() > 0);
    drop(clients);
    let said = served.stop();
    assert_eq!(said.lines().filter(|line| line.contains(" WARN ")).count(), 1, "{said}");
    assert!(said.contains("ulimit -n"), "{said}");
}

#[test]
fn the_doctor_names_the_ring_features_that_the_driver_finds() {
    let (_, out, _) = ringmq(&["doctor"]);
    let ring = out.lines().find(|line| line[6..].starts_with("io_uring")).unwrap();
    assert!(ring.starts_with("FAIL") || ring.contains("multishot accept and receive"), "{ring}");
}

#[test]
fn the_doctor_says_a_line_for_each_thing_it_looks_at() {
    let (code, out, err) = ringmq(&["doctor"]);
    let levels = ["OK    ", "WARN  ", "FAIL  "];
    assert!(out.lines().all(|line| levels.iter().any(|level| line.starts_with(level))), "{out}{err}");
    for name in ["kernel", "io_uring", "memlock", "open files", "cpus", "ports", "TLS", "knobs"] {
        assert_eq!(out.lines().filter(|line| line[6..].starts_with(name)).count(), 1, "{name}:\n{out}");
    }
    assert_eq!(code, Some(i32::from(out.contains("FAIL  "))), "{out}");
    let tls = out.lines().find(|line| line[6..].starts_with("TLS")).unwrap();
    assert!(tls.contains("the kernel") && tls.ends_with(": the broker encrypts by itself"), "{tls}");
}

#[test]
fn the_doctors_json_has_its_findings_and_every_knob() {
    let (code, out, err) = ringmq(&["doctor", "--json", "--connections", "4294967295"]);
    assert_eq!(code, Some(1), "no host holds that many: {err}");
    let report: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(report["target"]["connections"], 4_294_967_295_u64);
    let failed = |name| {
        let findings = report["findings"].as_array().unwrap();
        findings.iter().any(|finding| finding["name"] == name && finding["level"] == "FAIL")
    };
    assert!(failed("host memory"), "{out}");
    assert!(report["knobs"].as_array().unwrap().iter().any(|knob| knob["state"] == "OK"), "{out}");
}

#[test]
fn the_rule_that_decides_about_a_client_is_told() {
    let rules =
        file("rules.json", r#"{"roles": {"sensor": {"publish": ["data/${clientid}/+"]}}, "users": {"u": "sensor"}}"#);
    let ask = |question: &[&str]| {
        ringmq(&[&["acl", "check", "--file", &rules, "--client", "c1", "--user", "u"], question].concat())
    };
    let (code, out, err) = ask(&["publish", "data/c1/t"]);
    assert_eq!(code, Some(0), "{err}");
    assert_eq!(out, "allowed\n  by roles.sensor.publish[0]: allow publish data/${clientid}/+ (here data/c1/+)\n");
    let (code, out, _) = ask(&["subscribe", "#"]);
    assert_eq!((code, out.as_str()), (Some(1), "denied\n  no rule is about it, and the default is deny\n"));
    let (code, _, err) = ask(&["publish", "a/#"]);
    assert_eq!(code, Some(2));
    assert!(err.contains("a topic name holds a wildcard"), "{err}");
    let config = file("with-rules.toml", &format!("[acl]\nfile = \"{rules}\"\nadmins = [\"ops\"]\n"));
    let (code, out, _) =
        ringmq(&["acl", "check", "--config", &config, "--client", "c", "--user", "ops", "subscribe", "$SYS/#"]);
    assert_eq!(code, Some(0), "{out}");
}

#[test]
fn a_mistake_in_the_rules_is_one_of_the_configuration() {
    let rules = file("bad-rules.toml", "[users]\nu = \"sensr\"\n");
    let config = file("with-bad-rules.toml", &format!("[acl]\nfile = \"{rules}\"\n"));
    let (code, _, err) = ringmq(&["check-config", &config]);
    assert_eq!(code, Some(1));
    assert!(err.contains("bad-rules.toml:2:5: there is no role \"sensr\""), "{err}");
    let (code, _, err) = ringmq(&["acl", "check", "--config", &config, "--client", "c", "publish", "a"]);
    assert_eq!(code, Some(2), "{err}");
}

/// Runs `ringmq passwd` with this on its standard input.
fn passwd(args: &[&str], input: &str) -> (Option<i32>, String, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_ringmq"))
        .arg("passwd")
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It may be refused before it reads.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code(), text(stdout), text(stderr))
}

/// Cheap hashes: these tests are about the file.
const CHEAP: [&str; 4] = ["--memory", "8", "--passes", "1"];

#[test]
fn users_are_added_changed_listed_and_removed() {
    use std::os::unix::fs::PermissionsExt;
    let path = file("users-1", "# our users\n");
    let run = |args: &[&str], input| passwd(&[&[path.as_str()], args, &CHEAP].concat(), input);
    assert_eq!(run(&["ann", "--stdin"], "one\n"), (Some(0), "added ann\n".to_owned(), String::new()));
    let first = fs::read_to_string(&path).unwrap();
    assert!(first.starts_with("# our users\nann:$argon2id$v=19$m=8,t=1,p=1$"), "{first}");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(run(&["ann", "--stdin"], "two\n").1, "changed ann\n");
    assert_ne!(fs::read_to_string(&path).unwrap(), first);
    assert_eq!(run(&["--batch", "-"], "bob:x:y\n# nobody\neve:z\n").1, "2 users set\n");
    assert_eq!(run(&["--delete", "ann"], "").1, "removed ann\n");
    assert_eq!(run(&["--list"], "").1, "bob\neve\n");
    assert_eq!(run(&["--delete", "ann"], "").0, Some(1));
    let (code, _, err) = passwd(&["--delete", &path, "bob"], "");
    assert!(code == Some(1) && err.contains("bob: there is no such file"), "as mosquitto_passwd has it: {err}");
    let config = file("users-1.toml", &format!("[auth]\nmethods = [\"password\"]\n[auth.password]\nfile = {path:?}\n"));
    let (code, out, err) = ringmq(&["check-config", &config]);
    assert_eq!(code, Some(0), "{err}");
    assert!(out.contains("password; 4 workers"), "{out}");
}

#[test]
fn a_file_of_scram_keys_is_made_and_kept() {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("users-2");
    let _ = fs::remove_file(&path);
    let path = path.to_str().unwrap();
    assert_eq!(passwd(&[path, "ann", "--stdin", "--scram", "--iterations", "4096"], "one\n").0, Some(0));
    let text = fs::read_to_string(path).unwrap();
    assert!(text.starts_with(":secret:") && text.contains("\nann:SCRAM-SHA-256$4096:"), "{text}");
    assert_eq!(passwd(&[path, "bob", "--stdin", "--scram"], "two\n").0, Some(0));
    assert!(fs::read_to_string(path).unwrap().starts_with(&text), "what was there stays");
    assert_eq!(passwd(&[path, "--list", "--scram"], "").1, "ann\nbob\n");
}

#[test]
fn what_cannot_be_done_leaves_the_file_as_it_was() {
    let path = file("users-3", "ann\n");
    let (code, _, err) = passwd(&[&path, "bob", "--stdin"], "x\n");
    assert!(code == Some(1) && err.contains("line 1: no colon"), "{err}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "ann\n");
    let path = file("users-4", "");
    for (args, input, told) in [
        (&["a:b", "--stdin"][..], "x\n", "colon"),
        (&["ann", "--stdin"], "\n", "empty"),
        (&["--batch", "-"], "ann:x\nbob\n", "line 2"),
        (&["--batch", "-"], "ann:x\nbob:\n", "empty"),
    ] {
        let (code, _, err) = passwd(&[&[path.as_str()], args, &CHEAP].concat(), input);
        assert!(code == Some(1) && err.contains(told), "{args:?}: {err}");
    }
    assert_eq!(fs::read_to_string(&path).unwrap(), "");
    assert_eq!(passwd(&["/nonexistent/users", "ann", "--stdin"], "x\n").0, Some(2));
    assert_eq!(passwd(&[&path], "").0, Some(2), "no user");
}

#[test]
fn check_config_looks_into_the_files_of_users() {
    let users = file("users-5", "ann\n");
    let path = file("users-5.toml", &format!("[auth]\nmethods = [\"password\"]\n[auth.password]\nfile = {users:?}\n"));
    let (code, _, err) = ringmq(&["check-config", &path]);
    assert_eq!(code, Some(1));
    assert!(err.contains("auth.password.file: ") && err.contains("line 1: "), "{err}");
}

/// Says CONNECT as MQTT 5.0; returns the reason code of CONNACK.
fn connect(address: &str, client_id: &str) -> u8 {
    connect_as(address, client_id, None).1
}

/// The same with user name and password; returns the connection too.
fn connect_as(address: &str, client_id: &str, user: Option<(&str, &str)>) -> (TcpStream, u8) {
    let mut socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(std::time::Duration::from_secs(10))).unwrap();
    let flags = if user.is_some() { 0xC2 } else { 0x02 };
    let mut body = [&b"\0\x04MQTT\x05"[..], &[flags], b"\0\x3C\0"].concat();
    let fields = [Some(client_id), user.map(|(name, _)| name), user.map(|(_, password)| password)];
    for field in fields.into_iter().flatten() {
        body.extend_from_slice(&(field.len() as u16).to_be_bytes());
        body.extend_from_slice(field.as_bytes());
    }
    socket.write_all(&[&[0x10, body.len() as u8], &body[..]].concat()).unwrap();
    let answer = packet(&mut socket);
    assert_eq!(answer[0], 0x20, "CONNACK");
    (socket, answer[3])
}

/// The next packet, of at most 127 bytes.
fn packet(socket: &mut TcpStream) -> Vec<u8> {
    let mut packet = vec![0; 2];
    socket.read_exact(&mut packet).unwrap();
    packet.resize(2 + usize::from(packet[1]), 0);
    socket.read_exact(&mut packet[2..]).unwrap();
    packet
}

/// Publishes to `t` at QoS 1; returns the reason code of PUBACK.
fn publish(socket: &mut TcpStream) -> u8 {
    socket.write_all(b"\x32\x06\0\x01t\0\x01\0").unwrap();
    let answer = packet(socket);
    assert_eq!(answer[0], 0x40, "PUBACK");
    answer.get(4).copied().unwrap_or(0)
}

impl Served {
    /// Has it read files again; returns what it logged until it said something that holds `until`.
    fn reload(&mut self, until: &str) -> String {
        assert!(Command::new("kill").args(["-HUP", &self.process.id().to_string()]).status().unwrap().success());
        let mut said = String::new();
        while !said.contains(until) {
            assert_ne!(self.log.read_line(&mut said).unwrap(), 0, "it ended: {said}");
        }
        said
    }
}

#[test]
fn bans_are_kept_in_a_file_and_taken_over_at_sighup_and_a_broken_file_changes_nothing() {
    let list = file("bans.json", "{\"bans\": []}");
    let config = file("bans.toml", &format!("[guard]\nbans = \"{list}\"\n"));
    let ban = |args: &[&str]| ringmq(&[&["ban"], args, &["--config", &config]].concat());
    let (code, out, err) = ban(&["add", "--pattern", "bad-*", "--for", "1h", "--reason", "noisy"]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert!(out.contains("clients bad-*, for 1h: noisy") && out.contains("SIGHUP"), "{out}");
    let mut served = Served::after("true", &format!("--shards 2 --config {config}"));
    assert_eq!([connect(&served.address, "bad-1"), connect(&served.address, "good")], [0x8A, 0]);
    ban(&["add", "--client", "good"]);
    assert_eq!(ban(&["remove", "--pattern", "bad-*"]).0, Some(0));
    served.reload(&format!("bans in {list}: 1\n"));
    assert_eq!([connect(&served.address, "bad-1"), connect(&served.address, "good")], [0, 0x8A]);
    assert_eq!(ban(&["list"]).1, "client good, for ever\n");
    fs::write(&list, "{\"bans\": [{\"user\": 5}]}").unwrap();
    let said = served.reload("stay as they were");
    assert!(said.contains("bans.json") && said.contains("line 1"), "{said}");
    assert_eq!(connect(&served.address, "good"), 0x8A);
    served.stop();
    let (code, _, err) = ban(&["list"]);
    assert!(code == Some(1) && err.contains("bans.json") && err.contains("remedy"), "{err}");
    let (code, _, err) = ringmq(&["check-config", &config]);
    assert!(code == Some(1) && err.contains("bans.json") && err.contains("line 1"), "{err}");
    let (code, _, err) = ringmq(&["serve", "--listen", "127.0.0.1:0", "--config", &config]);
    assert!(code == Some(1) && err.contains("bans.json"), "no start with a list that cannot be read: {err}");
}

/// Whether whoever connects to this address is let in at all.
fn door_is_open(address: &str) -> bool {
    let mut socket = TcpStream::connect(address).unwrap();
    // Who was let in is answered, whatever the answer; who was not is closed or reset without a word.
    let connect = b"\x10\x0E\0\x04MQTT\x05\x02\0\x3C\0\0\x01d";
    socket.write_all(connect).is_ok() && socket.read(&mut [0; 4]).is_ok_and(|read| read > 0)
}

#[test]
fn a_ban_at_sighup_ends_connections_and_one_with_an_end_ends() {
    let list = file("bans-2.json", "{\"bans\": []}");
    let config = file("bans-2.toml", &format!("[guard]\nbans = \"{list}\"\n"));
    let ban = |args: &[&str]| ringmq(&[&["ban"], args, &["--file", &list]].concat());
    let mut served = Served::after("true", &format!("--shards 2 --config {config}"));
    let address = served.address.clone();
    let (mut there, _) = connect_as(&address, "there", None);
    assert_eq!(ban(&["add", "--address", "127.0.0.0/8", "--for", "7d"]).0, Some(0));
    assert!(door_is_open(&address), "not before the broker is told");
    served.reload(&format!("bans in {list}: 1\n"));
    assert_eq!(packet(&mut there), [0xE0, 1, 0x98], "DISCONNECT: administrative action");
    assert!(!door_is_open(&address));
    assert_eq!(ban(&["list"]).1, "address 127.0.0.0/8, for 7d\n");
    assert_eq!(ban(&["remove", "--address", "127.0.0.1/8"]).0, Some(0), "the same network");
    assert_eq!(ban(&["add", "--user", "ann", "--for", "2s"]).0, Some(0));
    served.reload(&format!("bans in {list}: 1\n"));
    let ann = || connect_as(&address, "c", Some(("ann", ""))).1;
    assert_eq!([ann(), connect(&address, "c")], [0x8A, 0]);
    let begun = std::time::Instant::now();
    while ann() != 0 {
        assert!(begun.elapsed().as_secs() < 30, "its end is not noticed");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    assert_eq!(ban(&["list"]).1, "", "one that ended is not listed");
    served.stop();
}

#[test]
fn the_summary_says_of_system_topics_what_holds() {
    for (name, text, said) in [
        ("no-rules.toml", "", "no rules: everything is allowed to everybody on this host, $SYS too"),
        (
            "reachable.toml",
            "[server]\nallow_anonymous = true\n[[listener]]\naddress = \"0.0.0.0:1883\"\n",
            "topics that begin with $ to administrators",
        ),
        ("admins.toml", "[acl]\nadmins = [\"ops\"]\n", "topics that begin with $ to administrators"),
    ] {
        let (code, out, _) = ringmq(&["check-config", &file(name, text)]);
        assert!(code == Some(0) && out.contains(said), "{name}: {out}");
    }
}

#[test]
fn what_is_no_ban_is_refused() {
    let list = file("no-bans.json", "{\"bans\": []}");
    let cases = [
        (&["add", "--address", "192.0.2.0/33"][..], 1, "192.0.2.0/33"),
        (&["add", "--pattern", ""], 1, "empty"),
        (&["add", "--client", "x", "--for", "5"], 2, "with its unit"),
        (&["add"], 2, "--client"),
        (&["remove", "--client", "x"], 1, "not on the list"),
    ];
    for (args, exit, what) in cases {
        let (code, _, err) = ringmq(&[&["ban"], args, &["--file", &list]].concat());
        assert!(code == Some(exit) && err.contains(what), "{args:?}: {err}");
    }
}

#[test]
fn an_attacker_cannot_fill_the_log() {
    let config = file("quiet.toml", "[guard]\nlog_lines_per_minute = 5\n");
    let served = Served::after("true", &format!("--shards 1 --log debug --config {config}"));
    for _ in 0..50 {
        let mut socket = TcpStream::connect(&served.address).unwrap();
        socket.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
        // Closed without a word, or reset.
        let _ = socket.read(&mut [0]);
    }
    let said = served.stop();
    assert_eq!(said.matches("connection closed before CONNECT").count(), 5, "{said}");
    assert!(said.contains("lines=45") && said.contains("inbound.rs"), "{said}");
}

#[test]
fn users_and_rules_are_read_again_at_sighup_and_hold_for_who_is_connected() {
    const NOBODY_LISTENS: u8 = 0x10;
    let users = file("users-6", "");
    assert_eq!(passwd(&[&[users.as_str(), "ann", "--stdin"], &CHEAP[..]].concat(), "one\n").0, Some(0));
    let rules = file("rules-6.toml", "[[rules]]\naccess = \"allow\"\ntopic = \"t\"\n");
    let config =
        format!("[auth]\nmethods = [\"password\"]\n[auth.password]\nfile = {users:?}\n[acl]\nfile = {rules:?}\n");
    let config = file("access.toml", &config);
    let mut served = Served::after("true", &format!("--shards 2 --config {config}"));
    let address = served.address.clone();
    let (mut ann, code) = connect_as(&address, "a", Some(("ann", "one")));
    assert_eq!((code, publish(&mut ann)), (0, NOBODY_LISTENS));
    assert_eq!(connect_as(&address, "b", Some(("ann", "two"))).1, 0x86);
    assert_eq!(connect_as(&address, "b", Some(("bob", "two"))).1, 0x86);
    assert_ne!(connect(&address, "b"), 0, "nobody comes in without a name");
    assert_eq!(passwd(&[&[users.as_str(), "bob", "--stdin"], &CHEAP[..]].concat(), "two\n").0, Some(0));
    fs::write(&rules, "[[rules]]\naccess = \"allow\"\ntopic = \"u\"\n").unwrap();
    let said = served.reload("authenticated by what is in the files now");
    assert!(said.contains("what the rules say now"), "{said}");
    assert_eq!(connect_as(&address, "b", Some(("bob", "two"))).1, 0);
    assert_eq!(publish(&mut ann), 0x87, "the new rules hold at once");
    let by_address = |network: &str| {
        format!("default = \"allow\"\n[[rules]]\naccess = \"deny\"\ntopic = \"t\"\naddress = [{network:?}]\n")
    };
    fs::write(&rules, by_address("192.0.2.0/24")).unwrap();
    served.reload("authenticated by what is in the files now");
    assert_eq!(publish(&mut ann), NOBODY_LISTENS, "the rule is about others");
    fs::write(&rules, by_address("127.0.0.0/8")).unwrap();
    served.reload("authenticated by what is in the files now");
    assert_eq!(publish(&mut ann), 0x87, "it is known where a client connects from");
    fs::write(&rules, "[[rules]]\nacces = 1\n").unwrap();
    fs::write(&users, "bob\n").unwrap();
    let said = served.reload("its users stay as they were");
    assert!(said.contains("the rules stay as they were") && said.contains("rules-6.toml:2"), "{said}");
    assert_eq!((connect_as(&address, "b", Some(("bob", "two"))).1, publish(&mut ann)), (0, 0x87));
}

#[test]
fn who_is_gone_from_the_file_of_users_is_sent_away_at_sighup() {
    const DISCONNECT_ADMINISTRATIVE_ACTION: [u8; 2] = [0xE0, 0x98];
    let users = file("users-7", "");
    for (user, password) in [("ann", "one\n"), ("bob", "two\n"), ("cyd", "three\n")] {
        assert_eq!(passwd(&[&[users.as_str(), user, "--stdin"], &CHEAP[..]].concat(), password).0, Some(0));
    }
    let config = format!("[auth]\nmethods = [\"password\"]\n[auth.password]\nfile = {users:?}\n");
    let config = file("withdrawn.toml", &config);
    let mut served = Served::after("true", &format!("--shards 2 --config {config}"));
    let address = served.address.clone();
    let come = |id, user, password| {
        let (socket, code) = connect_as(&address, id, Some((user, password)));
        assert_eq!(code, 0);
        socket
    };
    let (mut ann, mut bob, mut cyd) = (come("a", "ann", "one"), come("b", "bob", "two"), come("c", "cyd", "three"));
    assert_eq!(passwd(&[&[users.as_str(), "cyd", "--stdin"], &CHEAP[..]].concat(), "new\n").0, Some(0));
    let others: String = fs::read_to_string(&users)
        .unwrap()
        .lines()
        .filter(|line| !line.starts_with("ann:"))
        .fold(String::new(), |text, line| text + line + "\n");
    fs::write(&users, others).unwrap();
    served.reload("authenticated by what is in the files now");
    for socket in [&mut ann, &mut cyd] {
        let told = packet(socket);
        assert_eq!([told[0], told[2]], DISCONNECT_ADMINISTRATIVE_ACTION, "{told:?}");
    }
    assert_ne!(publish(&mut bob), 0, "an answer, since his line is as it was");
    assert_eq!(connect_as(&address, "a", Some(("ann", "one"))).1, 0x86);
}

#[test]
fn no_core_dump_is_written_unless_the_configuration_asks_for_it() {
    for (asks, limit) in [("false", "0"), ("true", "unlimited")] {
        let config = file(&format!("core-{asks}.toml"), &format!("[server]\ncore_dumps = {asks}\n"));
        let served = Served::after("ulimit -S -c unlimited", &format!("--shards 1 --config {config}"));
        let limits = fs::read_to_string(format!("/proc/{}/limits", served.process.id())).unwrap();
        let line = limits.lines().find_map(|line| line.strip_prefix("Max core file size")).unwrap();
        assert_eq!(line.split_whitespace().next(), Some(limit), "{line}");
    }
}

/// Of a process that others of its user may look into, the files in `/proc` are that user's; else they are root's (proc(5)).
#[test]
fn other_processes_of_its_user_cannot_look_into_the_broker_unless_the_configuration_lets_them() {
    // Root's are root's either way: then it runs as somebody else, who has to be able to read the program.
    let me = fs::metadata("/proc/self").unwrap().uid();
    let (user, becomes) = if me == 0 { (65_534, "setpriv --reuid=65534 --clear-groups") } else { (me, "") };
    let place = tempfile::tempdir().unwrap();
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let program = place.path().join("ringmq");
    // By a child: what this process has open for writing, a child of another test may hold while it is to be run.
    let copied = Command::new("install").args(["-m", "755", env!("CARGO_BIN_EXE_ringmq")]).arg(&program).status();
    assert!(copied.unwrap().success());
    for (asks, owner) in [(true, user), (false, 0)] {
        let config = place.path().join("ringmq.toml");
        fs::write(&config, format!("[server]\ncore_dumps = {asks}\nshards = 1\n")).unwrap();
        fs::set_permissions(&config, fs::Permissions::from_mode(0o644)).unwrap();
        let arguments = format!("--listen 127.0.0.1:0 --config {}", config.display());
        let served = Served::by(&format!("exec {becomes} {} {arguments}", program.display()));
        // It says where it listens a moment before.
        let (seen_by, deadline) =
            (format!("/proc/{}/environ", served.process.id()), Instant::now() + Duration::from_secs(10));
        while fs::metadata(&seen_by).unwrap().uid() != owner {
            assert!(Instant::now() < deadline, "core_dumps = {asks}: not {owner}'s");
            thread::yield_now();
        }
        // And so it stays.
        for _ in 0..100 {
            assert_eq!(connect_as(&served.address, "c", None).1, 0);
            assert_eq!(fs::metadata(&seen_by).unwrap().uid(), owner, "core_dumps = {asks}");
        }
    }
}
