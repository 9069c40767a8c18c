//! Tokens and key sets.

#[path = "../../../../src/auth/jwt/keys.rs"]
mod keys;
#[path = "../../../../src/auth/jwt/verify.rs"]
mod verify;

use jsonwebtoken::{Algorithm, Validation, decode, decode_header};
use serde_json::{Map, Value};

/// No token holds that was not signed with the secret, which the fuzzer does not know.
pub fn token(bytes: &[u8]) {
    verify::install();
    let keys = keys::KeySet::of_file(Algorithm::HS256, &[0xA7; 32]).expect("a secret");
    let Ok(header) = decode_header(bytes) else { return };
    for key in keys.candidates(&header) {
        let claims = decode::<Map<String, Value>>(bytes, &key.key, &Validation::new(key.algorithm));
        assert!(claims.is_err());
    }
}

/// A key set of a server.
pub fn set(bytes: &[u8]) {
    let _ = keys::KeySet::of_jwks(bytes);
}
