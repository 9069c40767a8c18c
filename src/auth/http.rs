//! The HTTP hook: another server decides.
//!
//! It fails closed: whatever is not a clear answer in time refuses the client. Threads of its own wait for the server, and
//! while it does not answer most clients are refused at once. What it said a while ago needs no waiting.

use std::sync::Mutex;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use ureq::Agent;
use zeroize::Zeroizing;

use super::chain::{Lane, Method, Opinion, Queue, common_name};
use super::error::AuthError;
use super::password::Scratch;
use super::recent::{Name, Recent};
use super::{Credentials, Principal, claims, web};
use crate::codec::ReasonCode;
use crate::config::HttpAuth;

const KEY: &str = "auth.http.url";
/// How long after a failure nobody asks.
const PAUSE: Duration = Duration::from_secs(1);
/// The role of those whom the answer calls a superuser.
const SUPERUSER: &str = "admin";

/// The server, and what it said lately.
pub(super) struct Http {
    url: String,
    agent: Agent,
    recent: Option<(Duration, Recent<Said>)>,
    outage: web::Outage,
    failed_at: Mutex<Option<Instant>>,
    requests_max: u16,
    waiting_max: u32,
}

#[derive(Serialize)]
struct Asked<'a> {
    client_id: &'a str,
    username: Option<&'a str>,
    password: Option<&'a str>,
    address: Option<String>,
    listener: u16,
    cert_cn: Option<&'a str>,
    /// The exchange by which it has proved to be this user.
    #[serde(skip_serializing_if = "Option::is_none")]
    method: Option<&'a str>,
}

#[derive(Deserialize)]
struct Answer {
    result: Outcome,
    username: Option<String>,
    #[serde(default)]
    superuser: bool,
    #[serde(default)]
    roles: Value,
    #[serde(default)]
    acl: Value,
    expires_in: Option<u64>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Outcome {
    Allow,
    Deny,
    Ignore,
}

/// Why there is no answer.
enum Failed {
    /// The server is not there, or says that it can answer nobody now.
    Out(String),
    /// This question was answered, and not as it should be: others may fare better.
    Unclear(String),
}

impl From<ureq::Error> for Failed {
    fn from(error: ureq::Error) -> Failed {
        let why = web::why(&error);
        match error {
            ureq::Error::StatusCode(429 | 502..=504) => Failed::Out(why),
            ureq::Error::StatusCode(_) | ureq::Error::TooManyRedirects => Failed::Unclear(why),
            _ => Failed::Out(why),
        }
    }
}

/// An answer as it is remembered.
#[derive(Clone)]
struct Said {
    outcome: Outcome,
    principal: Principal,
    expires: Option<Instant>,
}

impl Http {
    pub(super) fn open(config: &HttpAuth) -> Result<Http, AuthError> {
        // The configuration's check lets no method through without its address.
        let url = config.url.clone().unwrap_or_default();
        web::check_url(KEY, &url)?;
        let agent = web::agent(config.timeout, config.ca_file.as_deref().map(|file| ("auth.http.ca_file", file)))?;
        let recent = match config.remember {
            Some(remember) => Some((remember, Recent::new(config.remember_max as usize)?)),
            None => None,
        };
        let outage = web::Outage::new(KEY, &url);
        let (requests_max, waiting_max) = (config.requests_max, config.waiting_max);
        Ok(Http { url, agent, recent, outage, failed_at: Mutex::new(None), requests_max, waiting_max })
    }

    fn ask_server(&self, asked: &Asked<'_>) -> Result<Answer, Failed> {
        let unclear = |why: &str| Failed::Unclear(why.to_owned());
        let body = Zeroizing::new(serde_json::to_vec(asked).map_err(|error| unclear(&error.to_string()))?);
        let request = self.agent.post(&self.url).header("Content-Type", "application/json");
        let response = request.send(&body[..])?;
        if response.status() != 200 {
            return Err(Failed::Unclear(format!("it answers with status {}", response.status().as_u16())));
        }
        let answer: Value = serde_json::from_slice(&web::body(response).map_err(Failed::Out)?).unwrap_or_default();
        // The library would read a list as well, by the order of the keys.
        let answer = Some(answer).filter(Value::is_object).and_then(|answer| Answer::deserialize(answer).ok());
        answer.ok_or_else(|| unclear("its answer is not {\"result\": \"allow\" | \"deny\" | \"ignore\"}"))
    }

    /// Asks, and remembers the answer.
    fn answer(&self, client: &Credentials, asked: &Asked<'_>, now: Instant) -> Option<Said> {
        let unclear = |why: &str| Failed::Unclear(why.to_owned());
        let why = match self.ask_server(asked).and_then(|answer| said(answer, asked, now).map_err(unclear)) {
            Ok(said) => {
                self.outage.worked();
                self.remember(client, asked, &said, now);
                return Some(said);
            }
            // One client's odd words must not shut out the others.
            Err(Failed::Unclear(why)) => why,
            Err(Failed::Out(why)) => {
                *self.failed_at.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
                why
            }
        };
        self.outage.failed(&why, "clients that no other method knows are refused");
        None
    }

    /// Whether it failed so lately that nobody asks.
    fn is_out(&self, now: Instant) -> bool {
        let failed_at = *self.failed_at.lock().unwrap_or_else(PoisonError::into_inner);
        failed_at.is_some_and(|failed| now.saturating_duration_since(failed) < PAUSE)
    }

    /// What the server said of such a client a while ago.
    fn remembered(&self, client: &Credentials, asked: &Asked<'_>, now: Instant) -> Option<Said> {
        let (_, recent) = self.recent.as_ref()?;
        recent.get(&self.name(recent, client, asked), now)
    }

    fn remember(&self, client: &Credentials, asked: &Asked<'_>, said: &Said, now: Instant) {
        let Some((remember, recent)) = &self.recent else { return };
        let until = now + *remember;
        let until = said.expires.map_or(until, |expires| expires.min(until));
        recent.put(self.name(recent, client, asked), said.clone(), now, until);
    }

    /// All that was said, but for the port, which is another one each time.
    fn name(&self, recent: &Recent<Said>, client: &Credentials, asked: &Asked<'_>) -> Name {
        let address = client.peer.address.map(|address| address.ip().to_string());
        recent.name(&[
            Some(asked.client_id.as_bytes()),
            asked.username.map(str::as_bytes),
            asked.password.map(str::as_bytes),
            address.as_deref().map(str::as_bytes),
            Some(&asked.listener.to_le_bytes()),
            asked.cert_cn.map(str::as_bytes),
            asked.method.map(str::as_bytes),
        ])
    }
}

impl<'a> Asked<'a> {
    /// Nothing where JSON cannot say it.
    fn about(client: &'a Credentials) -> Option<Asked<'a>> {
        let password = client.password.as_ref().map(|password| std::str::from_utf8(password.bytes()));
        Some(Asked {
            client_id: &client.client_id,
            username: client.user.as_deref(),
            password: password.transpose().ok()?,
            address: client.peer.address.map(|address| address.to_string()),
            listener: client.listener,
            cert_cn: common_name(client),
            method: client.method.as_deref(),
        })
    }
}

impl Said {
    fn opinion(self, now: Instant) -> Opinion {
        let Said { outcome, mut principal, expires } = self;
        principal.lasts = expires.map(|expires| expires.saturating_duration_since(now));
        match outcome {
            Outcome::Allow => Opinion::Allow(Box::new(principal)),
            Outcome::Deny => Opinion::Deny(ReasonCode::NotAuthorized),
            Outcome::Ignore => Opinion::Pass,
        }
    }
}

impl Method for Http {
    fn judge(&self, client: &Credentials, _: &mut Scratch) -> Opinion {
        let Some(asked) = Asked::about(client) else { return Opinion::Pass };
        let now = Instant::now();
        if let Some(said) = self.remembered(client, &asked, now) {
            return said.opinion(now);
        }
        if self.is_out(now) {
            self.outage.failed("", "");
            return Opinion::Deny(ReasonCode::ServerUnavailable);
        }
        Opinion::Wait
    }

    fn lane(&self) -> Option<Lane> {
        Some(Lane { queue: Queue::Http, threads: self.requests_max, waiting_max: self.waiting_max })
    }

    fn ask(&self, client: &Credentials) -> Opinion {
        // While this one waited, the server may have failed, or said the same of another one.
        match self.judge(client, &mut Scratch::default()) {
            Opinion::Wait => {}
            opinion => return opinion,
        }
        let Some(asked) = Asked::about(client) else { return Opinion::Pass };
        let now = Instant::now();
        let said = self.answer(client, &asked, now);
        said.map_or(Opinion::Deny(ReasonCode::ServerUnavailable), |said| said.opinion(now))
    }

    fn reload(&self) -> Result<(), AuthError> {
        if let Some((_, recent)) = &self.recent {
            recent.clear();
        }
        Ok(())
    }
}

fn said(answer: Answer, asked: &Asked<'_>, now: Instant) -> Result<Said, &'static str> {
    let mut roles = claims::roles(&answer.roles)?;
    if answer.superuser {
        roles.push(Arc::from(SUPERUSER));
    }
    let expires = match answer.expires_in {
        Some(0) => return Err("expires_in is 0"),
        Some(seconds) => now.checked_add(Duration::from_secs(seconds)),
        None => None,
    };
    let principal = Principal {
        user: answer.username.as_deref().or(asked.username).map(Arc::from),
        roles,
        rules: claims::rules(&answer.acl)?,
        ..Principal::default()
    };
    Ok(Said { outcome: answer.result, principal, expires })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use serde_json::json;

    use super::super::chain::tests::{client, opinion};
    use super::super::web::tests::{Server, Vouched};
    use super::*;
    use crate::overheard::overheard;

    fn http(server: &Server, remember: Option<Duration>) -> Http {
        let url = Some(server.url());
        Http::open(&HttpAuth { url, remember, timeout: Duration::from_secs(5), ..HttpAuth::default() }).unwrap()
    }

    fn judge(http: &Http, user: &str, password: &str) -> Opinion {
        opinion(http, &client("c1", Some(user), Some(password)))
    }

    /// Allows Ann with her password, denies Bob, does not know others.
    fn decide(body: &str) -> (u16, String) {
        let asked: Value = serde_json::from_str(body).unwrap();
        let result = match (asked["username"].as_str(), asked["password"].as_str()) {
            (Some("ann"), Some("right")) => "allow",
            (Some("bob"), _) => "deny",
            _ => "ignore",
        };
        (200, json!({"result": result, "roles": ["r"], "superuser": true, "expires_in": 60}).to_string())
    }

    #[test]
    fn the_server_decides() {
        let server = Server::new(decide);
        let http = http(&server, None);
        let Opinion::Allow(principal) = judge(&http, "ann", "right") else { panic!("refused") };
        assert_eq!(principal.user.as_deref(), Some("ann"));
        assert_eq!(principal.roles, [Arc::from("r"), Arc::from("admin")]);
        assert!((59..=60).contains(&principal.lasts.unwrap().as_secs()));
        assert!(matches!(judge(&http, "bob", "right"), Opinion::Deny(ReasonCode::NotAuthorized)));
        assert!(matches!(judge(&http, "eve", "right"), Opinion::Pass));
    }

    #[test]
    fn it_is_told_all_that_is_known_of_a_client() {
        let server = Server::new(|body| {
            let asked: Value = serde_json::from_str(body).unwrap();
            let expected = json!({"client_id": "c1", "username": "ann", "password": "right", "address": "[::1]:5",
                "listener": 2, "cert_cn": null});
            (200, json!({"result": if asked == expected { "allow" } else { "deny" }, "username": "anna"}).to_string())
        });
        let mut client = client("c1", Some("ann"), Some("right"));
        client.listener = 2;
        client.peer.address = Some("[::1]:5".parse().unwrap());
        let Opinion::Allow(principal) = opinion(&http(&server, None), &client) else { panic!("refused") };
        assert_eq!(principal.user.as_deref(), Some("anna"), "the answer may name the user");
    }

    /// Asks a server whose certificate is of one authority, trusting another; returns what comes of it, and the log.
    fn over_tls(name: &str, trusts_its_authority: bool) -> (Opinion, usize, String) {
        let (vouched, stranger) = (Vouched::to(name), Vouched::to(name));
        let answered = Arc::new(AtomicUsize::new(0));
        let count = answered.clone();
        let server = Server::with_tls(&vouched, move |body| {
            count.fetch_add(1, Ordering::SeqCst);
            decide(body)
        });
        let ca = if trusts_its_authority { &vouched.ca } else { &stranger.ca };
        let ca_file = Some(ca.path().to_owned());
        let config =
            HttpAuth { url: Some(server.url()), ca_file, timeout: Duration::from_secs(20), ..HttpAuth::default() };
        let http = Http::open(&config).unwrap();
        let mut opinion = Opinion::Pass;
        let log = overheard(|| opinion = judge(&http, "ann", "right"));
        (opinion, answered.load(Ordering::SeqCst), log)
    }

    #[test]
    fn over_https_only_a_server_that_the_authority_vouches_for_is_asked() {
        let (opinion, answered, log) = over_tls("127.0.0.1", true);
        assert!(matches!(opinion, Opinion::Allow(_)), "{opinion:?}: {log}");
        assert_eq!((answered, log.as_str()), (1, ""));
        for (name, is_trusted, why) in
            [("127.0.0.1", false, "invalid peer certificate"), ("other.example", true, "not valid for name")]
        {
            let (opinion, answered, log) = over_tls(name, is_trusted);
            assert!(matches!(opinion, Opinion::Deny(ReasonCode::ServerUnavailable)), "{opinion:?}: {log}");
            assert_eq!(answered, 0, "no password went there");
            assert!(log.contains("auth.http.url: https://") && log.contains(why), "{log}");
            assert!(!log.contains("right"), "{log}");
        }
    }

    #[test]
    fn a_file_without_an_authority_is_refused_at_start() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for text in ["", "nonsense", "-----BEGIN CERTIFICATE-----\nAA\n"] {
            std::fs::write(file.path(), text).unwrap();
            let ca_file = Some(file.path().to_owned());
            let config = HttpAuth { url: Some("https://127.0.0.1:1/".to_owned()), ca_file, ..HttpAuth::default() };
            let error = Http::open(&config).err().unwrap().to_string();
            assert!(error.contains("auth.http.ca_file") && error.contains("no certificate"), "{error}");
        }
    }

    #[test]
    fn an_answer_is_remembered_for_those_who_say_the_same() {
        let server = Server::new(decide);
        let http = http(&server, Some(Duration::from_secs(60)));
        for _ in 0..3 {
            assert!(matches!(judge(&http, "ann", "right"), Opinion::Allow(_)));
        }
        assert_eq!(server.asked(), 1);
        assert!(matches!(judge(&http, "ann", "wrong"), Opinion::Pass));
        assert_eq!(server.asked(), 2);
        http.reload().unwrap();
        assert!(matches!(judge(&http, "ann", "right"), Opinion::Allow(_)));
        assert_eq!(server.asked(), 3);
    }

    #[test]
    fn whatever_is_no_clear_answer_refuses_the_client() {
        let answers = [
            (500, "{\"result\": \"allow\"}"),
            (204, ""),
            (302, "{\"result\": \"allow\"}"),
            (200, ""),
            (200, "allow"),
            (200, "{}"),
            (200, "[\"allow\", null, false, null, null, null]"),
            (200, "{\"result\": \"yes\"}"),
            (200, "{\"result\": \"allow\", \"roles\": 1}"),
            (200, "{\"result\": \"allow\", \"acl\": {\"publish\": [\"#/a\"]}}"),
            (200, "{\"result\": \"allow\", \"expires_in\": 0}"),
            (200, "{\"result\": \"allow\", \"expires_in\": -1}"),
        ];
        for (status, body) in answers {
            let server = Server::new(move |_| (status, body.to_owned()));
            let http = http(&server, Some(Duration::from_secs(60)));
            let opinion = judge(&http, "ann", "right");
            assert!(matches!(opinion, Opinion::Deny(ReasonCode::ServerUnavailable)), "{status} {body}: {opinion:?}");
        }
    }

    #[test]
    fn while_the_server_is_out_clients_do_not_wait_for_it() {
        let asked = Arc::new(AtomicUsize::new(0));
        let count = asked.clone();
        let server = Server::new(move |body| match count.fetch_add(1, Ordering::SeqCst) {
            0 => (503, String::new()),
            _ => decide(body),
        });
        let http = http(&server, None);
        for _ in 0..10 {
            assert!(matches!(judge(&http, "ann", "right"), Opinion::Deny(ReasonCode::ServerUnavailable)));
        }
        assert_eq!(asked.load(Ordering::SeqCst), 1);
        // The pause is over.
        *http.failed_at.lock().unwrap() = None;
        assert!(matches!(judge(&http, "ann", "right"), Opinion::Allow(_)));
    }

    #[test]
    fn a_client_for_whom_the_server_has_no_clear_answer_shuts_out_nobody_else() {
        for (status, body) in [(500, ""), (400, ""), (403, ""), (200, "oops")] {
            let server = Server::new(move |asked| match asked.contains("mallory") {
                true => (status, body.to_owned()),
                false => decide(asked),
            });
            let http = http(&server, None);
            assert!(matches!(judge(&http, "mallory", "x"), Opinion::Deny(ReasonCode::ServerUnavailable)));
            assert!(matches!(judge(&http, "ann", "right"), Opinion::Allow(_)), "{status} {body}");
        }
    }

    #[test]
    fn a_password_that_json_cannot_say_is_for_the_next_method() {
        let server = Server::new(decide);
        let mut client = client("c1", Some("ann"), None);
        client.password = Some(crate::auth::Secret::new(vec![0xFF]));
        assert!(matches!(opinion(&http(&server, None), &client), Opinion::Pass));
        assert_eq!(server.asked(), 0);
    }
}
