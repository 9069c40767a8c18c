//! What of authentication reads bytes from strangers, or files that decide who may come in.

// What the broker alone needs of these files is idle here.
#![allow(dead_code)]

#[path = "../../../../src/auth/claims.rs"]
mod claims;
#[path = "../../../../src/auth/error.rs"]
mod error;
#[path = "../../../../src/auth/files.rs"]
mod files;
mod jwt;
mod password;
mod scram;

/// Files of users.
pub fn users(bytes: &[u8]) {
    password::file(bytes);
    scram::file(bytes);
    scram::exchange(bytes);
}

/// Tokens, key sets, claims.
pub fn token(bytes: &[u8]) {
    jwt::token(bytes);
    jwt::set(bytes);
    if let Ok(value) = serde_json::from_slice(bytes) {
        let _ = (claims::roles(&value), claims::rules(&value));
    }
}
