//! Keys that tokens are verified with. Each is for one algorithm: what a token's header says is never what decides.

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, Header};
use serde::Deserialize;
use serde_json::Value;

/// The most keys of a set.
const KEYS_MAX: usize = 64;
/// A secret is at least as long as the hash (RFC 7518 §3.2).
const SECRET_BYTES_MIN: usize = 32;

/// One key.
#[derive(Debug)]
pub(super) struct Key {
    /// Its name; a key from a file has none and is tried for every token.
    id: Option<String>,
    pub(super) algorithm: Algorithm,
    pub(super) key: DecodingKey,
}

/// All keys there are.
#[derive(Debug, Default)]
pub(super) struct KeySet {
    keys: Vec<Key>,
}

impl KeySet {
    /// The key of a file.
    pub(super) fn of_file(algorithm: Algorithm, bytes: &[u8]) -> Result<KeySet, &'static str> {
        let is_pem = bytes.windows(10).any(|window| window == b"-----BEGIN");
        let is_private = bytes.windows(11).any(|window| window == b"PRIVATE KEY");
        let key = match algorithm {
            Algorithm::HS256 if is_pem => return Err("a key in PEM is no secret for HS256"),
            Algorithm::HS256 if bytes.len() < SECRET_BYTES_MIN => return Err("a secret of less than 32 bytes"),
            _ if is_private => return Err("a private key; the broker needs the public one only"),
            Algorithm::HS256 => Ok(DecodingKey::from_secret(bytes)),
            Algorithm::RS256 => DecodingKey::from_rsa_pem(bytes),
            Algorithm::ES256 => DecodingKey::from_ec_pem(bytes),
            Algorithm::EdDSA => DecodingKey::from_ed_pem(bytes),
            _ => return Err("not a key for HS256, RS256, ES256 or EdDSA"),
        };
        let key = key.map_err(|_| "not a public key in PEM of the kind that auth.jwt.algorithm names")?;
        Ok(KeySet { keys: vec![Key { id: None, algorithm, key }] })
    }

    /// The keys of a set (RFC 7517), those that can be used. Secrets are none: whoever can fetch the set has them.
    pub(super) fn of_jwks(bytes: &[u8]) -> Result<KeySet, &'static str> {
        let set: Value = serde_json::from_slice(bytes).map_err(|_| "what it sent is not JSON")?;
        let listed = set.get("keys").and_then(Value::as_array).ok_or("what it sent is not a key set")?;
        if listed.len() > KEYS_MAX {
            return Err("it sent more than 64 keys");
        }
        // A key of a kind unknown here (RFC 7517 §5) is passed over.
        let keys: Vec<Key> = listed.iter().filter_map(|jwk| of_jwk(Jwk::deserialize(jwk).ok()?)).collect();
        match keys.is_empty() {
            false => Ok(KeySet { keys }),
            true => Err("it sent no key for RS256, ES256 or EdDSA"),
        }
    }

    /// True until a set was fetched.
    pub(super) fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The keys that may have signed a token with this header.
    pub(super) fn candidates<'a>(&'a self, header: &'a Header) -> impl Iterator<Item = &'a Key> {
        let named = |key: &&Key| match (&key.id, &header.kid) {
            (Some(id), Some(kid)) => id == kid,
            _ => true,
        };
        self.keys.iter().filter(move |key| key.algorithm == header.alg).filter(named)
    }
}

fn of_jwk(jwk: Jwk) -> Option<Key> {
    let algorithm = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => Algorithm::RS256,
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => Algorithm::ES256,
        AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => Algorithm::EdDSA,
        _ => return None,
    };
    let said = match jwk.common.key_algorithm {
        None => Some(algorithm),
        Some(KeyAlgorithm::RS256) => Some(Algorithm::RS256),
        Some(KeyAlgorithm::ES256) => Some(Algorithm::ES256),
        Some(KeyAlgorithm::EdDSA) => Some(Algorithm::EdDSA),
        Some(_) => None,
    };
    let signs = matches!(jwk.common.public_key_use, None | Some(PublicKeyUse::Signature));
    let key = DecodingKey::from_jwk(&jwk).ok()?;
    (said == Some(algorithm) && signs).then_some(Key { id: jwk.common.key_id, algorithm, key })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_holds_the_kind_of_key_that_was_named() {
        let secret = b"0123456789abcdef0123456789abcdef";
        KeySet::of_file(Algorithm::HS256, secret).unwrap();
        let cases: [(Algorithm, &[u8]); 6] = [
            (Algorithm::HS256, b"too short"),
            (Algorithm::HS256, b"-----BEGIN PUBLIC KEY-----\nMIIBIjANBgkqhkiG9w0BAQ\n-----END PUBLIC KEY-----"),
            (Algorithm::RS256, b"-----BEGIN PRIVATE KEY-----\nMIIB\n-----END PRIVATE KEY-----"),
            (Algorithm::RS256, secret),
            (Algorithm::ES256, b""),
            (Algorithm::EdDSA, secret),
        ];
        for (algorithm, bytes) in cases {
            assert!(KeySet::of_file(algorithm, bytes).is_err(), "{algorithm:?}");
        }
    }

    #[test]
    fn a_set_gives_the_keys_that_can_be_used_and_no_secret() {
        let set = r#"{"keys": [
            {"kty": "oct", "kid": "1", "k": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"},
            {"kty": "OKP", "kid": "2", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"},
            {"kty": "OKP", "kid": "3", "crv": "Ed25519", "use": "enc", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"},
            {"kty": "RSA", "kid": "4", "alg": "PS512", "n": "AQAB", "e": "AQAB"},
            {"kty": "PQC", "kid": "5"}
        ]}"#;
        let set = KeySet::of_jwks(set.as_bytes()).unwrap();
        let ids: Vec<_> = set.keys.iter().map(|key| (key.id.as_deref(), key.algorithm)).collect();
        assert_eq!(ids, [(Some("2"), Algorithm::EdDSA)]);
    }

    #[test]
    fn what_is_no_set_is_refused() {
        let many = format!("{{\"keys\": [{}]}}", vec!["{}"; KEYS_MAX + 1].join(","));
        for text in ["", "[]", "{}", "{\"keys\": 1}", "{\"keys\": []}", "<html>", &many] {
            assert!(KeySet::of_jwks(text.as_bytes()).is_err(), "{text}");
        }
    }
}
