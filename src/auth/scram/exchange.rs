//! One exchange: client-first, server-first, client-final, server-final (RFC 5802 §3).

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use subtle::ConstantTimeEq;

use super::file::{ScramKeys, ScramUsers, hash, mac};

/// The longest message that is read: far more than names and nonces need.
const MESSAGE_BYTES_MAX: usize = 2048;
const NONCE_BYTES: usize = 18;

/// Where an exchange is.
pub(crate) enum Exchange {
    /// The client has named the method and said nothing yet.
    Begun,
    /// Our nonce and the user's salt are out; the proof is awaited.
    Challenged(Box<Challenged>),
}

pub(crate) struct Challenged {
    user: Arc<str>,
    known: bool,
    keys: ScramKeys,
    /// GS2 header, as it must come back.
    header: String,
    nonce: String,
    /// client-first-message-bare "," server-first-message.
    messages: String,
}

/// What follows a message of the client.
pub(crate) enum Step {
    /// Send this, and go on with that.
    Continue(Vec<u8>, Exchange),
    /// It is this user, with these keys; send this.
    Done(Arc<str>, ScramKeys, Vec<u8>),
    /// It is not.
    Failed,
}

impl Exchange {
    /// Takes a message of the client.
    pub(crate) fn step(self, data: &[u8], users: &ScramUsers) -> Step {
        let message = std::str::from_utf8(data).ok().filter(|message| message.len() <= MESSAGE_BYTES_MAX);
        let step = match (self, message) {
            (_, None) => None,
            // A client may leave it to the server to ask for its first message.
            (Exchange::Begun, Some("")) => Some(Step::Continue(Vec::new(), Exchange::Begun)),
            (Exchange::Begun, Some(message)) => nonce().and_then(|nonce| challenge(message, &nonce, users)),
            (Exchange::Challenged(challenged), Some(message)) => challenged.finish(message),
        };
        step.unwrap_or(Step::Failed)
    }
}

fn nonce() -> Option<String> {
    let mut nonce = [0; NONCE_BYTES];
    getrandom::fill(&mut nonce).ok()?;
    Some(STANDARD.encode(nonce))
}

/// client-first → server-first.
fn challenge(message: &str, nonce: &str, users: &ScramUsers) -> Option<Step> {
    // gs2-header = "n" or "y" "," [authzid] ","; a client that insists on channel binding sends "p".
    let bare_at = message.match_indices(',').nth(1)?.0 + 1;
    let (header, bare) = message.split_at(bare_at);
    let mut parts = bare.split(',');
    let user = user_name(parts.next()?.strip_prefix("n=")?)?;
    let client_nonce = parts.next()?.strip_prefix("r=").filter(|nonce| is_printable(nonce))?;
    let authorization = header.strip_prefix("n,").or(header.strip_prefix("y,"))?.strip_suffix(',')?;
    let acts_as = authorization.strip_prefix("a=").map_or(Some(user.clone()), user_name)?;
    let named_only = authorization.is_empty() || authorization.starts_with("a=");
    if acts_as != user || !named_only {
        return None;
    }
    let (known, keys) = users.find(&user);
    let nonce = format!("{client_nonce}{nonce}");
    let first = format!("r={nonce},s={},i={}", STANDARD.encode(&keys.salt), keys.iterations);
    let messages = format!("{bare},{first}");
    let (user, header) = (Arc::from(user), header.to_owned());
    let challenged = Challenged { user, known, keys, header, nonce, messages };
    Some(Step::Continue(first.into_bytes(), Exchange::Challenged(Box::new(challenged))))
}

impl Challenged {
    /// client-final → server-final.
    fn finish(self, message: &str) -> Option<Step> {
        let (without_proof, proof) = message.rsplit_once(",p=")?;
        let mut parts = without_proof.split(',');
        let binding = STANDARD.decode(parts.next()?.strip_prefix("c=")?).ok()?;
        let nonce = parts.next()?.strip_prefix("r=")?;
        let proof: [u8; 32] = STANDARD.decode(proof).ok()?.try_into().ok()?;
        let messages = format!("{},{without_proof}", self.messages);
        let client_signature = mac(&self.keys.stored_key, messages.as_bytes());
        let mut client_key = proof;
        client_key.iter_mut().zip(client_signature).for_each(|(byte, mask)| *byte ^= mask);
        let proven = hash(&client_key).ct_eq(&self.keys.stored_key);
        let same = binding.ct_eq(self.header.as_bytes()) & nonce.as_bytes().ct_eq(self.nonce.as_bytes());
        let right: bool = (proven & same).into();
        let signature = mac(&self.keys.server_key, messages.as_bytes());
        let last = format!("v={}", STANDARD.encode(signature)).into_bytes();
        (right && self.known).then_some(Step::Done(self.user, self.keys, last))
    }
}

/// A saslname: "=2C" is a comma, "=3D" is "=", any other "=" is a mistake.
fn user_name(written: &str) -> Option<String> {
    let mut parts = written.split('=');
    let mut name = parts.next()?.to_owned();
    for part in parts {
        let (code, rest) = part.split_at_checked(2)?;
        name.push(match code {
            "2C" => ',',
            "3D" => '=',
            _ => return None,
        });
        name.push_str(rest);
    }
    (!name.is_empty()).then_some(name)
}

fn is_printable(nonce: &str) -> bool {
    !nonce.is_empty() && nonce.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::super::file::new_secret_line;
    use super::*;

    /// RFC 7677 §3: user "user", password "pencil", and a second user with a name that has to be escaped.
    fn users() -> ScramUsers {
        let salt = STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        let keys = ScramKeys::derive("pencil", salt, NonZeroU32::new(4096).unwrap()).unwrap();
        let text = format!("{}\nuser:{keys}\na=b,c:{keys}\n", new_secret_line().unwrap());
        ScramUsers::parse(text.as_bytes()).unwrap()
    }

    const FIRST: &str = "n,,n=user,r=rOprNGfwEbeRWgbNEkqO";
    const NONCE: &str = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
    const FINAL: &str = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
        p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";

    fn challenged(first: &str) -> Option<(String, Exchange)> {
        match challenge(first, NONCE, &users())? {
            Step::Continue(data, exchange) => Some((String::from_utf8(data).unwrap(), exchange)),
            _ => None,
        }
    }

    #[test]
    fn the_example_of_the_specification_succeeds() {
        let (first, exchange) = challenged(FIRST).unwrap();
        assert_eq!(first, "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096");
        let Step::Done(user, _, last) = exchange.step(FINAL.as_bytes(), &users()) else { panic!("refused") };
        assert_eq!((&*user, &last[..]), ("user", &b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="[..]));
    }

    #[test]
    fn a_final_message_that_is_wrong_anywhere_fails() {
        let cases = [
            FINAL.replace("dHzb", "dHzc"),
            FINAL.replace("biws", "eSws"),
            FINAL.replace("biws", "biwsAAAA"),
            FINAL.replace("%hvY", "%hvZ"),
            FINAL.replace(",p=", ",q="),
            FINAL.replace("p=dHzb", "p="),
            FINAL.replace(",p=", ",m=x,p="),
            String::new(),
        ];
        for case in cases {
            let (_, exchange) = challenged(FIRST).unwrap();
            assert!(matches!(exchange.step(case.as_bytes(), &users()), Step::Failed), "{case}");
        }
        let (_, exchange) = challenged(FIRST).unwrap();
        assert!(matches!(exchange.step(&[0xFF], &users()), Step::Failed));
    }

    #[test]
    fn an_unknown_user_is_challenged_as_any_and_fails_at_the_end() {
        let (first, exchange) = challenged(&FIRST.replace("user", "eve")).unwrap();
        let (again, _) = challenged(&FIRST.replace("user", "eve")).unwrap();
        assert!(first.contains(",i=4096"), "{first}");
        assert_eq!(first.len(), again.len());
        assert!(matches!(exchange.step(FINAL.as_bytes(), &users()), Step::Failed));
    }

    #[test]
    fn first_messages_that_cannot_be_served_fail() {
        let cases = [
            "",
            "n",
            "n,,",
            "n,,n=user",
            "n,,n=user,r=",
            "n,,n=user,r=a b",
            "n,,n=,r=abc",
            "n,,n=us=er,r=abc",
            "n,,n=us=2Der,r=abc",
            "n,,m=ext,n=user,r=abc",
            "p=tls-unique,,n=user,r=abc",
            "n,a=root,n=user,r=abc",
            "n,root,n=user,r=abc",
            "x,,n=user,r=abc",
        ];
        for case in cases {
            assert!(challenged(case).is_none(), "{case:?}");
        }
        let long = format!("n,,n=user,r={}", "a".repeat(MESSAGE_BYTES_MAX));
        assert!(matches!(Exchange::Begun.step(long.as_bytes(), &users()), Step::Failed));
    }

    #[test]
    fn headers_and_names_are_read_as_they_are_meant() {
        for first in ["y,,n=user,r=abc", "n,a=user,n=user,r=abc", "n,,n=a=3Db=2Cc,r=abc", "n,,n=user,r=abc,x=later"] {
            assert!(challenged(first).is_some(), "{first}");
        }
        assert_eq!(user_name("a=3Db=2Cc").as_deref(), Some("a=b,c"));
    }

    #[test]
    fn a_client_that_begins_with_nothing_is_asked_for_its_first_message() {
        let Step::Continue(data, exchange) = Exchange::Begun.step(b"", &users()) else { panic!("failed") };
        assert!(data.is_empty());
        assert!(matches!(exchange.step(FIRST.as_bytes(), &users()), Step::Continue(..)));
    }
}
