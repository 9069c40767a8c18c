//! SCRAM: its file, and what clients say.

#[path = "../../../../src/auth/scram/exchange.rs"]
mod exchange;
#[path = "../../../../src/auth/scram/file.rs"]
mod file;

const METHOD: &str = "SCRAM-SHA-256";
const USERS: &str = ":secret:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n";

/// Reads a file of keys.
pub fn file(bytes: &[u8]) {
    if let Err(mistakes) = file::ScramUsers::parse(bytes) {
        assert!(!mistakes.is_empty());
    }
}

/// Nobody comes in where there is no user, whatever is said in however many messages.
pub fn exchange(bytes: &[u8]) {
    let users = file::ScramUsers::parse(USERS.as_bytes()).expect("the line above");
    let mut exchange = exchange::Exchange::Begun;
    for message in bytes.split(|byte| *byte == b'\n').take(4) {
        match exchange.step(message, &users) {
            exchange::Step::Continue(_, next) => exchange = next,
            exchange::Step::Done(..) => panic!("there is no user"),
            exchange::Step::Failed => return,
        }
    }
}
