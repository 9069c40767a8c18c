//! The office as shards meet it.

use std::fs;
use std::sync::mpsc;
use std::time::Duration;

use serde_json::json;

use super::super::chain::Opinion;
use super::super::chain::tests::client;
use super::super::password::{Cost, Hash};
use super::super::web::tests::Server;
use super::*;
use crate::config::{HttpAuth, PasswordAuth, ScramAuth};

/// How long an answer is waited for before a test fails.
const PATIENCE: Duration = Duration::from_secs(20);

struct Bench {
    office: Office,
    desk: Box<dyn Authenticator>,
    counters: Arc<OfficeCounters>,
    woken: mpsc::Receiver<ShardId>,
}

fn bench(config: &Auth) -> Bench {
    bench_of(Office::start(config, false).unwrap().unwrap())
}

fn bench_of(office: Office) -> Bench {
    let (wake, woken) = mpsc::channel();
    office.wake_by(0, move |shard| wake.send(shard).unwrap_or_default());
    let counters = Arc::new(OfficeCounters::default());
    Bench { desk: office.desk(ShardId(3), counters.clone()), office, counters, woken }
}

impl Bench {
    fn answer(&mut self) -> (ConnId, Verdict) {
        loop {
            if let Some(answer) = self.desk.poll() {
                return answer;
            }
            assert_eq!(self.woken.recv_timeout(PATIENCE), Ok(ShardId(3)));
        }
    }
}

fn conn(slot: u32) -> ConnId {
    ConnId { slot, generation: 1 }
}

fn connect(user: &str, password: &str) -> Question {
    Question::Connect(Box::new(client("c", Some(user), Some(password))))
}

fn users(lines: &str) -> (tempfile::NamedTempFile, PasswordAuth) {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), lines).unwrap();
    let config = PasswordAuth { file: Some(file.path().to_owned()), remember: None };
    (file, config)
}

fn ann() -> (tempfile::NamedTempFile, Auth) {
    let (file, password) = users(&format!("ann:{}\n", Hash::of(b"right", Cost::CHEAP).unwrap()));
    (file, Auth { methods: vec![AuthMethod::Password], password, ..Auth::default() })
}

/// A hook that answers when the test lets it, so that a thread waits for as long.
fn slow(requests_max: u16, waiting_max: u32) -> (HttpAuth, mpsc::Sender<()>, mpsc::Receiver<String>) {
    let (go, wait) = mpsc::channel();
    let (came, asked) = mpsc::channel();
    let server = Server::new(move |body| {
        let body: serde_json::Value = serde_json::from_str(body).unwrap();
        came.send(body["username"].as_str().unwrap().to_owned()).unwrap();
        let _ = wait.recv();
        (200, json!({"result": "allow"}).to_string())
    });
    let url = Some(server.url());
    let http = HttpAuth { url, remember: None, timeout: PATIENCE, requests_max, waiting_max, ..HttpAuth::default() };
    (http, go, asked)
}

fn hook_alone(http: HttpAuth) -> Auth {
    Auth { methods: vec![AuthMethod::Http], http, ..Auth::default() }
}

/// A method that computes until the test says what came of it.
struct Computes {
    began: mpsc::Sender<()>,
    goes_on: std::sync::Mutex<mpsc::Receiver<()>>,
}

impl Method for Computes {
    fn judge(&self, _: &Credentials, _: &mut super::super::password::Scratch) -> Opinion {
        self.began.send(()).unwrap();
        let _ = self.goes_on.lock().unwrap().recv();
        Opinion::Pass
    }

    fn reload(&self) -> Result<(), AuthError> {
        Ok(())
    }
}

#[test]
fn without_a_method_there_is_no_office() {
    assert!(Office::start(&Auth::default(), false).unwrap().is_none());
}

#[test]
fn a_question_is_answered_and_the_shard_is_woken_for_it() {
    let (_file, config) = ann();
    let mut bench = bench(&config);
    bench.desk.ask(conn(1), connect("ann", "right")).unwrap();
    bench.desk.ask(conn(2), connect("ann", "wrong")).unwrap();
    let mut answers = [bench.answer(), bench.answer()];
    answers.sort_by_key(|(conn, _)| *conn);
    let [(_, Verdict::Allow { principal, .. }), (_, Verdict::Deny(ReasonCode::BadUserNameOrPassword))] = &answers
    else {
        panic!("{answers:?}")
    };
    assert_eq!(principal.user.as_deref(), Some("ann"));
}

#[test]
fn an_unknown_user_is_told_what_a_wrong_password_is_told() {
    let (_file, config) = ann();
    let mut bench = bench(&config);
    for (user, password) in [("ann", "wrong"), ("nobody", "wrong"), ("nobody", "right")] {
        bench.desk.ask(conn(1), connect(user, password)).unwrap();
        let verdict = bench.answer().1;
        assert!(matches!(verdict, Verdict::Deny(ReasonCode::BadUserNameOrPassword)), "{user}: {verdict:?}");
    }
}

#[test]
fn when_too_many_wait_for_a_worker_the_next_is_told_that_the_server_is_busy() {
    let (began, begun) = mpsc::channel();
    let (go, goes_on) = mpsc::channel();
    let methods: Vec<Box<dyn Method>> = vec![Box::new(Computes { began, goes_on: goes_on.into() })];
    let chain = Chain { ahead_of_scram: methods.len(), methods, allow_anonymous: false };
    let shared = Shared { chain, scram: None, version: AtomicU64::new(0), wake: OnceLock::new() };
    let config = Auth { workers: 1, queue_max: 2, ..Auth::default() };
    let mut bench = bench_of(Office::of(shared, &config).unwrap());
    bench.desk.ask(conn(0), connect("0", "")).unwrap();
    begun.recv_timeout(PATIENCE).expect("the worker is at it");
    bench.desk.ask(conn(1), connect("1", "")).unwrap();
    bench.desk.ask(conn(2), connect("2", "")).unwrap();
    assert_eq!(bench.desk.ask(conn(3), connect("3", "")), Err(Busy));
    assert_eq!(bench.counters.auth_refused_workers_full.load(), 1);
    (0..3).for_each(|_| go.send(()).unwrap());
    let mut answered: Vec<u32> = (0..3).map(|_| bench.answer().0.slot).collect();
    answered.sort_unstable();
    assert_eq!(answered, [0, 1, 2]);
}

#[test]
fn a_shard_does_not_wait_for_a_worker_that_lost_its_cpu_at_the_queue() {
    let (_file, config) = ann();
    let mut bench = bench(&Auth { queue_max: 2, ..config });
    let office = bench.office.clone();
    let held = office.queues.hold();
    for slot in 0..3 {
        let asked = bench.desk.ask(conn(slot), connect("ann", "right"));
        assert_eq!(asked.is_ok(), slot < 2, "no more are kept than may wait");
        if slot < 2 {
            assert_eq!(bench.woken.recv_timeout(PATIENCE), Ok(ShardId(3)), "it looks again in the next turn");
        }
    }
    bench.desk.forget(conn(1));
    assert!(bench.desk.poll().is_none());
    assert_eq!(bench.woken.try_recv(), Ok(ShardId(3)), "and again");
    assert!(bench.woken.try_recv().is_err(), "once a turn, not for each");
    drop(held);
    let (answered, verdict) = bench.answer();
    assert!(answered == conn(0) && matches!(verdict, Verdict::Allow { .. }), "{verdict:?}");
    assert_eq!(bench.counters.auth_refused_workers_full.load(), 1);
}

#[test]
fn when_too_many_wait_for_the_hook_the_next_is_told_that_the_server_is_busy() {
    let (http, go, asked) = slow(1, 2);
    let mut bench = bench(&hook_alone(http));
    bench.desk.ask(conn(0), connect("0", "")).unwrap();
    assert_eq!(asked.recv_timeout(PATIENCE).as_deref(), Ok("0"), "its thread waits");
    (1..=3).for_each(|number| bench.desk.ask(conn(number), connect(&number.to_string(), "")).unwrap());
    let (refused, verdict) = bench.answer();
    assert!(matches!(verdict, Verdict::Deny(ReasonCode::ServerBusy)), "{refused:?}: {verdict:?}");
    assert_eq!(bench.counters.auth_refused_http_full.load(), 1);
    (0..3).for_each(|_| go.send(()).unwrap());
    let mut answered: Vec<u32> = (0..3).map(|_| bench.answer().0.slot).chain([refused.slot]).collect();
    answered.sort_unstable();
    assert_eq!(answered, [0, 1, 2, 3]);
}

#[test]
fn a_hook_that_never_answers_delays_nobody_whom_another_method_knows() {
    let (_file, config) = ann();
    let (http, _go, asked) = slow(1, 1);
    let methods = vec![AuthMethod::Password, AuthMethod::Http];
    let mut bench = bench(&Auth { methods, http, workers: 1, ..config });
    bench.desk.ask(conn(0), connect("bob", "")).unwrap();
    assert_eq!(asked.recv_timeout(PATIENCE).as_deref(), Ok("bob"), "its thread waits");
    bench.desk.ask(conn(1), connect("eve", "")).unwrap();
    for number in 2..100 {
        bench.desk.ask(conn(number), connect("ann", "right")).unwrap();
        let (answered, verdict) = bench.answer();
        assert!(answered == conn(number) && matches!(verdict, Verdict::Allow { .. }), "{answered:?}: {verdict:?}");
    }
}

#[test]
fn whom_the_hook_does_not_know_the_next_method_is_asked_about() {
    let (_file, config) = ann();
    let server = Server::new(|_| (200, json!({"result": "ignore"}).to_string()));
    let http = HttpAuth { url: Some(server.url()), remember: None, ..HttpAuth::default() };
    let mut bench = bench(&Auth { methods: vec![AuthMethod::Http, AuthMethod::Password], http, ..config });
    bench.desk.ask(conn(1), connect("ann", "right")).unwrap();
    assert!(matches!(bench.answer().1, Verdict::Allow { .. }));
    bench.desk.ask(conn(1), connect("ann", "wrong")).unwrap();
    assert!(matches!(bench.answer().1, Verdict::Deny(ReasonCode::BadUserNameOrPassword)));
    assert_eq!(server.asked(), 2);
}

#[test]
fn a_key_set_that_never_comes_delays_nobody_but_those_with_an_unknown_key() {
    let (_file, config) = ann();
    let (came, asked) = mpsc::channel();
    let (_go, wait) = mpsc::channel::<()>();
    let server = Server::new(move |_| {
        came.send(()).unwrap();
        let _ = wait.recv();
        (500, String::new())
    });
    let jwt = crate::config::JwtAuth { jwks_url: Some(server.url()), ..Default::default() };
    let methods = vec![AuthMethod::Jwt, AuthMethod::Password];
    let mut bench = bench(&Auth { methods, jwt, workers: 1, ..config });
    asked.recv_timeout(PATIENCE).expect("the set is fetched at start");
    // {"alg":"RS256"}.{"sub":"a"} and a signature.
    let token = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhIn0.AAAA";
    bench.desk.ask(conn(0), connect("bob", token)).unwrap();
    for number in 1..4 {
        bench.desk.ask(conn(number), connect("ann", "right")).unwrap();
        let (answered, verdict) = bench.answer();
        assert!(answered == conn(number) && matches!(verdict, Verdict::Allow { .. }), "{answered:?}: {verdict:?}");
    }
}

#[test]
fn the_threads_end_with_the_last_desk() {
    let (_file, config) = ann();
    let server = Server::new(|_| (200, String::new()));
    let http = HttpAuth { url: Some(server.url()), ..HttpAuth::default() };
    let Bench { office, desk, .. } =
        bench(&Auth { methods: vec![AuthMethod::Password, AuthMethod::Http], http, ..config });
    let shared = Arc::downgrade(&office.shared);
    drop(office);
    assert!(shared.upgrade().is_some());
    drop(desk);
    let given_up = std::time::Instant::now() + PATIENCE;
    // Each thread holds what is shared until it has ended; nothing else tells.
    while shared.upgrade().is_some() {
        assert!(std::time::Instant::now() < given_up, "a thread lives on");
        std::thread::yield_now();
    }
}

#[test]
fn questions_of_connections_that_are_gone_are_skipped() {
    let (http, go, asked) = slow(1, 10);
    let mut bench = bench(&hook_alone(http));
    bench.desk.ask(conn(0), connect("0", "")).unwrap();
    assert_eq!(asked.recv_timeout(PATIENCE).as_deref(), Ok("0"));
    bench.desk.ask(conn(1), connect("1", "")).unwrap();
    bench.desk.ask(conn(2), connect("2", "")).unwrap();
    bench.desk.forget(conn(0));
    bench.desk.forget(conn(1));
    (0..2).for_each(|_| go.send(()).unwrap());
    assert_eq!(bench.answer().0, conn(2), "the answer to 0 comes too late, 1 was never asked about");
    assert_eq!(asked.try_recv().as_deref(), Ok("2"));
    assert!(asked.try_recv().is_err());
}

#[test]
fn all_that_is_wrong_is_told_at_once_by_key() {
    let (_file, password) = users("ann\n");
    let missing = Some("/nonexistent/file".into());
    let config = Auth {
        methods: vec![AuthMethod::Password, AuthMethod::Jwt, AuthMethod::Scram],
        password,
        jwt: crate::config::JwtAuth { key_file: missing.clone(), ..Default::default() },
        scram: ScramAuth { file: missing },
        ..Auth::default()
    };
    let Err(errors) = check(&config) else { panic!("accepted") };
    let text = errors.to_string();
    for part in [
        "auth.password.file: ",
        "line 1: no colon",
        "auth.jwt.key_file: /nonexistent/file: No such file",
        "auth.scram.file",
    ] {
        assert!(text.contains(part), "{part} is missing:\n{text}");
    }
}

#[test]
fn files_are_loaded_anew_and_each_that_is_broken_is_told() {
    let (file, config) = ann();
    let mut bench = bench(&config);
    fs::write(file.path(), "broken\n").unwrap();
    assert!(bench.office.reload().unwrap_err().to_string().contains("line 1"));
    bench.desk.ask(conn(1), connect("ann", "right")).unwrap();
    assert!(matches!(bench.answer().1, Verdict::Allow { .. }));
    fs::write(file.path(), "").unwrap();
    bench.office.reload().unwrap();
    bench.desk.ask(conn(1), connect("ann", "right")).unwrap();
    assert!(matches!(bench.answer().1, Verdict::Deny(_)));
}

/// Lets a client in, and says whether it is vouched for when the file holds something else.
fn vouched_for_after(text: &str) -> bool {
    let ann = Hash::of(b"right", Cost::CHEAP).unwrap();
    let (file, password) = users(&format!("ann:{ann}\n"));
    let mut bench = bench(&Auth { methods: vec![AuthMethod::Password], password, ..Auth::default() });
    bench.desk.ask(conn(1), connect("ann", "right")).unwrap();
    let Verdict::Allow { principal, .. } = bench.answer().1 else { panic!("refused") };
    assert!(bench.desk.vouches_for(&principal));
    let before = bench.desk.version();
    fs::write(file.path(), text.replace("{ann}", &ann.to_string())).unwrap();
    let _ = bench.office.reload();
    assert_ne!(bench.desk.version(), before, "the shards look at those who are connected");
    bench.desk.vouches_for(&principal)
}

#[test]
fn a_client_is_vouched_for_as_long_as_its_line_is_in_the_file() {
    let other = Hash::of(b"right", Cost::CHEAP).unwrap();
    assert!(vouched_for_after("bob:{ann}\nann:{ann}\n"));
    assert!(vouched_for_after("broken"), "a file that cannot be used changes nothing");
    assert!(!vouched_for_after("bob:{ann}\n"));
    assert!(!vouched_for_after(&format!("ann:{other}\n")), "set anew, be it the same password");
}

mod scram {
    use std::num::NonZeroU32;

    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use ring::{digest, hmac, pbkdf2};

    use super::super::super::scram::{ITERATIONS_MIN, ScramKeys, new_secret_line};
    use super::*;
    use crate::config::{CertificateAuth, CertificateNames};
    use crate::engine::Certificate;

    fn bench_of_scram() -> (tempfile::NamedTempFile, Bench) {
        bench_of_all(Auth { methods: vec![AuthMethod::Scram], ..Auth::default() })
    }

    fn bench_of_all(auth: Auth) -> (tempfile::NamedTempFile, Bench) {
        let iterations = NonZeroU32::new(ITERATIONS_MIN).unwrap();
        let line = |user, password| format!("{user}:{}\n", ScramKeys::of(password, iterations).unwrap());
        let file = tempfile::NamedTempFile::new().unwrap();
        let text = format!("{}\n{}{}", new_secret_line().unwrap(), line("ann", "pencil"), line("bob", "brush"));
        fs::write(file.path(), text).unwrap();
        let scram = ScramAuth { file: Some(file.path().to_owned()) };
        let bench = bench(&Auth { scram, ..auth });
        (file, bench)
    }

    fn says(method: &str, data: &str) -> Box<Credentials> {
        let mut client = client("c", None, None);
        client.method = Some(method.to_owned());
        client.data = data.as_bytes().to_vec();
        Box::new(client)
    }

    /// The client's part: client-final, and the server's signature that it expects.
    fn proof(user: &str, password: &str, server_first: &str) -> (String, String) {
        let part = |name: &str| server_first.split(',').find_map(|part| part.strip_prefix(name)).unwrap();
        let (nonce, salt) = (part("r="), STANDARD.decode(part("s=")).unwrap());
        let mut salted = [0; 32];
        let iterations = part("i=").parse().unwrap();
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, iterations, &salt, password.as_bytes(), &mut salted);
        let mac =
            |key: &[u8], message: &[u8]| hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), message).as_ref().to_vec();
        let client_key = mac(&salted, b"Client Key");
        let messages = format!("n={user},r=abc,{server_first},c=biws,r={nonce}");
        let signature = mac(digest::digest(&digest::SHA256, &client_key).as_ref(), messages.as_bytes());
        let proof: Vec<u8> = client_key.iter().zip(signature).map(|(key, mask)| key ^ mask).collect();
        let server = mac(&mac(&salted, b"Server Key"), messages.as_bytes());
        (format!("c=biws,r={nonce},p={}", STANDARD.encode(proof)), format!("v={}", STANDARD.encode(server)))
    }

    fn exchange(bench: &mut Bench, first: Question, user: &str, password: &str) -> (Verdict, String) {
        bench.desk.ask(conn(1), first).unwrap();
        let Verdict::Continue { data } = bench.answer().1 else { panic!("no challenge") };
        let (last, signature) = proof(user, password, std::str::from_utf8(&data).unwrap());
        bench.desk.ask(conn(1), Question::Continue { data: last.into_bytes() }).unwrap();
        (bench.answer().1, signature)
    }

    fn first(user: &str) -> Box<Credentials> {
        says("SCRAM-SHA-256", &format!("n,,n={user},r=abc"))
    }

    #[test]
    fn both_sides_prove_that_they_know_the_password() {
        let (file, mut bench) = bench_of_scram();
        let (verdict, signature) = exchange(&mut bench, Question::Connect(first("ann")), "ann", "pencil");
        let Verdict::Allow { principal, data } = verdict else { panic!("{verdict:?}") };
        assert_eq!((principal.user.as_deref(), data), (Some("ann"), signature.into_bytes()));
        assert!(bench.desk.vouches_for(&principal));
        let (verdict, _) = exchange(&mut bench, Question::Connect(first("ann")), "ann", "pen");
        assert!(matches!(verdict, Verdict::Deny(ReasonCode::NotAuthorized)));
        let (verdict, _) = exchange(&mut bench, Question::Connect(first("eve")), "eve", "pencil");
        assert!(matches!(verdict, Verdict::Deny(ReasonCode::NotAuthorized)));
        let without = fs::read_to_string(file.path()).unwrap().replace("\nann:", "\nanna:");
        fs::write(file.path(), without).unwrap();
        bench.office.reload().unwrap();
        assert!(!bench.desk.vouches_for(&principal), "she is not in the file any more");
    }

    #[test]
    fn who_authenticates_again_must_be_the_same_user() {
        let (_file, mut bench) = bench_of_scram();
        let renew = |user| {
            let mut client = first(user);
            client.user = Some("ann".to_owned());
            Question::Renew(client)
        };
        let (verdict, _) = exchange(&mut bench, renew("ann"), "ann", "pencil");
        assert!(matches!(verdict, Verdict::Allow { .. }));
        let (verdict, _) = exchange(&mut bench, renew("bob"), "bob", "brush");
        assert!(matches!(verdict, Verdict::Deny(ReasonCode::NotAuthorized)));
    }

    #[test]
    fn a_certificate_binds_who_proves_a_password_too_where_it_is_ahead() {
        let certified = |common_name: &str, user| {
            let mut client = first(user);
            let certificate = Certificate { common_name: Some(common_name.to_owned()), ..Certificate::default() };
            client.peer.certificate = Some(Box::new(certificate));
            client
        };
        let bound = |methods: &[AuthMethod], names, common_name: &str| {
            let certificate = CertificateAuth { names, ..CertificateAuth::default() };
            let (_file, mut bench) = bench_of_all(Auth { methods: methods.to_vec(), certificate, ..Auth::default() });
            let again = Question::Renew({
                let mut client = certified(common_name, "ann");
                client.user = Some("ann".to_owned());
                client
            });
            let first = Question::Connect(certified(common_name, "ann"));
            let verdicts = [first, again].map(|question| match exchange(&mut bench, question, "ann", "pencil").0 {
                Verdict::Allow { principal, data } => {
                    let name = principal.common_name.as_deref();
                    assert!(name.is_none_or(|name| name == common_name) && data.starts_with(b"v="));
                    Ok(principal.user.unwrap().to_string())
                }
                Verdict::Deny(reason) => Err(reason),
                other => panic!("{other:?}"),
            });
            assert_eq!(verdicts[0], verdicts[1], "authenticating again is no way round");
            verdicts[0].clone()
        };
        use AuthMethod::{Certificate as X509, Scram};
        use CertificateNames::{ClientId, User};
        assert_eq!(bound(&[X509, Scram], User, "ann"), Ok("ann".to_owned()));
        assert_eq!(bound(&[X509, Scram], User, "bob"), Err(ReasonCode::NotAuthorized));
        assert_eq!(bound(&[X509, Scram], ClientId, "c"), Ok("ann".to_owned()), "the client identifier is c");
        assert_eq!(bound(&[X509, Scram], ClientId, "d"), Err(ReasonCode::ClientIdentifierNotValid));
        assert_eq!(bound(&[Scram, X509], User, "bob"), Ok("ann".to_owned()), "what stands behind is not asked");
    }

    #[test]
    fn the_hook_ahead_may_deny_or_restrict_who_proves_a_password_but_not_rename_it() {
        let server = Server::new(|body| {
            let asked: serde_json::Value = serde_json::from_str(body).unwrap();
            assert_eq!((&asked["password"], &asked["method"]), (&json!(null), &json!("SCRAM-SHA-256")));
            let answer = match asked["username"].as_str().unwrap() {
                "ann" => json!({"result": "allow", "roles": ["guest"], "expires_in": 60}),
                _ => json!({"result": "deny"}),
            };
            (200, answer.to_string())
        });
        let http = HttpAuth { url: Some(server.url()), ..HttpAuth::default() };
        let methods = vec![AuthMethod::Http, AuthMethod::Scram];
        let (_file, mut bench) = bench_of_all(Auth { methods, http, ..Auth::default() });
        let (verdict, signature) = exchange(&mut bench, Question::Connect(first("ann")), "ann", "pencil");
        let Verdict::Allow { principal, data } = verdict else { panic!("{verdict:?}") };
        assert_eq!((principal.user.as_deref(), data), (Some("ann"), signature.into_bytes()));
        assert_eq!((&principal.roles[..], principal.lasts.is_some()), (&[Arc::from("guest")][..], true));
        let (verdict, _) = exchange(&mut bench, Question::Connect(first("bob")), "bob", "brush");
        assert!(matches!(verdict, Verdict::Deny(ReasonCode::NotAuthorized)), "{verdict:?}");
        let (verdict, _) = exchange(&mut bench, Question::Connect(first("ann")), "ann", "pen");
        assert!(matches!(verdict, Verdict::Deny(ReasonCode::NotAuthorized)), "{verdict:?}");
    }

    #[test]
    fn what_comes_out_of_turn_is_refused() {
        let (_file, mut bench) = bench_of_scram();
        bench.desk.ask(conn(1), Question::Continue { data: Vec::new() }).unwrap();
        assert!(matches!(bench.answer().1, Verdict::Deny(ReasonCode::ProtocolError)));
        bench.desk.ask(conn(1), Question::Connect(says("SCRAM-SHA-1", "n,,n=ann,r=abc"))).unwrap();
        assert!(matches!(bench.answer().1, Verdict::Deny(ReasonCode::BadAuthenticationMethod)));
        bench.desk.ask(conn(1), Question::Connect(first("ann"))).unwrap();
        bench.desk.forget(conn(1));
        assert!(bench.desk.poll().is_none(), "nobody is there to be answered");
    }
}

/// Whatever of a question or an answer is printed, the secrets in it are not.
#[test]
fn no_secret_is_ever_shown() {
    let mut credentials = client("c", Some("a.swordfish.token"), Some("swordfish"));
    credentials.data = b"n,,n=ann,r=swordfish".to_vec();
    let secret = credentials.password.clone();
    let data = credentials.data.clone();
    for question in [Question::Connect(Box::new(credentials)), Question::Continue { data: data.clone() }] {
        let shown = format!("{question:?} {secret:?}");
        assert!(!shown.contains("swordfish") && !shown.contains(&format!("{data:?}")), "{shown}");
    }
    let hash = Hash::of(b"swordfish", Cost::CHEAP).unwrap().to_string();
    let (_file, password) = users(&format!("ann:{hash}\nbob:swordfish\n"));
    let Err(errors) = check(&Auth { methods: vec![AuthMethod::Password], password, ..Auth::default() }) else {
        panic!("accepted")
    };
    for text in [errors.to_string(), format!("{errors:?}")] {
        assert!(!text.contains("swordfish") && !text.contains("$argon2id$v=19$m=8"), "{text}");
    }
}
