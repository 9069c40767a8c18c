//! Tokens: the vectors of the RFCs, then tokens signed here that are wrong in one thing each.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair};
use serde_json::json;

use super::super::chain::tests::{client, opinion};
use super::super::web::tests::{Server, Vouched};
use super::*;
use crate::acl::Action;
use crate::overheard::overheard;

const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";

fn now() -> u64 {
    jsonwebtoken::get_current_timestamp()
}

fn signed(header: Value, claims: &Value, sign: impl Fn(&[u8]) -> Vec<u8>) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let message = format!("{}.{}", part(&header), part(claims));
    let signature = URL_SAFE_NO_PAD.encode(sign(message.as_bytes()));
    format!("{message}.{signature}")
}

fn hs256(message: &[u8]) -> Vec<u8> {
    ring::hmac::sign(&ring::hmac::Key::new(ring::hmac::HMAC_SHA256, SECRET), message).as_ref().to_vec()
}

/// A token of SECRET that is good for a minute.
fn token(mut claims: Value) -> String {
    if claims.get("exp").is_none() {
        claims["exp"] = json!(now() + 60);
    }
    signed(json!({"alg": "HS256"}), &claims, hs256)
}

fn with_key(config: JwtAuth, bytes: &[u8]) -> Jwt {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), bytes).unwrap();
    Jwt::open(&JwtAuth { key_file: Some(file.path().to_owned()), ..config }).unwrap()
}

fn hs256_config() -> JwtAuth {
    JwtAuth { algorithm: JwtAlgorithm::Hs256, ..JwtAuth::default() }
}

fn jwt(config: JwtAuth) -> Jwt {
    with_key(config, SECRET)
}

fn judge(jwt: &Jwt, token: &str) -> Result<Box<Principal>, Option<ReasonCode>> {
    match opinion(jwt, &client("c1", Some("whoever"), Some(token))) {
        Opinion::Allow(principal) => Ok(principal),
        Opinion::Deny(reason) => Err(Some(reason)),
        Opinion::Pass | Opinion::Wait => Err(None),
    }
}

fn denied(jwt: &Jwt, token: &str) -> bool {
    judge(jwt, token).is_err_and(|denied| denied == Some(ReasonCode::BadUserNameOrPassword))
}

/// The claims' time is long over, so what is pinned is that the signature is right: it has expired, and nothing else.
fn verifies(keys: KeySet, token: &str) -> Result<(), &'static str> {
    let jwt = Jwt {
        config: JwtAuth { require_expiry: false, ..JwtAuth::default() },
        keys: Keys::File { file: PathBuf::new(), keys: ArcSwap::from_pointee(keys) },
    };
    verify::install();
    jwt.claims(token).map(|_| ()).map_err(|(why, _)| why)
}

/// RFC 7515, appendix A: claims and signatures of A.1 (HS256), A.2 (RS256) and A.3 (ES256).
#[test]
fn the_examples_of_the_specification_verify() {
    let payload = "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
    let secret = "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow";
    let hs256 =
        format!("eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.{payload}.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk");
    let keys = || KeySet::of_file(Algorithm::HS256, &URL_SAFE_NO_PAD.decode(secret).unwrap()).unwrap();
    assert_eq!(verifies(keys(), &hs256), Err("it has expired"));
    assert_eq!(verifies(keys(), &hs256.replace("dBjf", "dBjg")), Err("its signature is not that of the key"));

    let es256 = format!(
        "eyJhbGciOiJFUzI1NiJ9.{payload}.\
        DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q"
    );
    let keys = || {
        let key = json!({"kty": "EC", "crv": "P-256", "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
            "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"});
        KeySet::of_jwks(json!({"keys": [key]}).to_string().as_bytes()).unwrap()
    };
    assert_eq!(verifies(keys(), &es256), Err("it has expired"));
    assert_eq!(verifies(keys(), &es256.replace("DtEh", "DtEi")), Err("its signature is not that of the key"));

    let rs256 = format!(
        "eyJhbGciOiJSUzI1NiJ9.{payload}.\
        cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CU\
        Ar7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_d\
        O--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0ig\
        cN_IoypGlUPQGe77Rw"
    );
    let n = "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-\
        pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg\
        665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRW\
        yuXpoQ";
    let keys = KeySet::of_jwks(json!({"keys": [{"kty": "RSA", "n": n, "e": "AQAB"}]}).to_string().as_bytes()).unwrap();
    assert_eq!(verifies(keys, &rs256), Err("it has expired"));
}

/// A key pair of Ed25519 and one of P-256: their public keys in PEM, and tokens signed with them.
#[test]
fn public_keys_are_read_from_pem() {
    let random = SystemRandom::new();
    let claims = json!({"sub": "ann", "exp": now() + 60});
    let pem =
        |der: Vec<u8>| format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", STANDARD.encode(der));

    let ed = Ed25519KeyPair::from_pkcs8(Ed25519KeyPair::generate_pkcs8(&random).unwrap().as_ref()).unwrap();
    let prefix = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
    let key = pem([&prefix[..], ed.public_key().as_ref()].concat());
    let token = signed(json!({"alg": "EdDSA"}), &claims, |message| ed.sign(message).as_ref().to_vec());
    let jwt = with_key(JwtAuth { algorithm: JwtAlgorithm::EdDsa, ..JwtAuth::default() }, key.as_bytes());
    assert_eq!(judge(&jwt, &token).unwrap().user.as_deref(), Some("ann"));

    let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
    let ec = EcdsaKeyPair::from_pkcs8(algorithm, pkcs8.as_ref(), &random).unwrap();
    let prefix = [
        0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48,
        0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
    ];
    let key = pem([&prefix[..], ec.public_key().as_ref()].concat());
    let token =
        signed(json!({"alg": "ES256"}), &claims, |message| ec.sign(&random, message).unwrap().as_ref().to_vec());
    let jwt = with_key(JwtAuth { algorithm: JwtAlgorithm::Es256, ..JwtAuth::default() }, key.as_bytes());
    assert_eq!(judge(&jwt, &token).unwrap().user.as_deref(), Some("ann"));
    // The public key as the secret of an HMAC: the classic confusion of algorithms.
    let forged = signed(json!({"alg": "HS256"}), &claims, |message| {
        ring::hmac::sign(&ring::hmac::Key::new(ring::hmac::HMAC_SHA256, key.as_bytes()), message).as_ref().to_vec()
    });
    assert!(denied(&jwt, &forged));
}

#[test]
fn a_token_says_who_its_bearer_is() {
    let claims = json!({
        "sub": "ann", "roles": ["sensor"], "floor": 3, "night": true, "more": {"x": 1},
        "acl": {"publish": ["data/+"], "deny": {"subscribe": ["x/#"]}},
    });
    let principal = judge(&jwt(hs256_config()), &token(claims)).unwrap();
    assert_eq!(principal.user.as_deref(), Some("ann"));
    assert_eq!(principal.roles, [Arc::from("sensor")]);
    assert_eq!(principal.claims.get("floor").map(|floor| &**floor), Some("3"));
    assert_eq!(principal.claims.get("night").map(|night| &**night), Some("true"));
    assert!(!principal.claims.contains_key("more"));
    let rules = principal.rules.unwrap();
    assert_eq!(rules.0.iter().map(|rule| rule.action).collect::<Vec<_>>(), [Action::Subscribe, Action::Publish]);
    let lasts = principal.lasts.unwrap().as_secs();
    assert!((68..=70).contains(&lasts), "a minute and the leeway, not {lasts} s");
}

#[test]
fn a_token_that_is_wrong_in_one_thing_is_denied() {
    let strict = JwtAuth { issuer: Some("i".to_owned()), audience: Some("a".to_owned()), ..hs256_config() };
    let strict = jwt(strict);
    let good = json!({"sub": "ann", "iss": "i", "aud": ["b", "a"], "exp": now() + 60});
    assert!(judge(&strict, &token(good.clone())).is_ok());
    let with = |name: &str, value: Value| {
        let mut claims = good.clone();
        claims[name] = value;
        claims
    };
    let without = |name: &str| {
        let mut claims = good.clone();
        claims.as_object_mut().unwrap().remove(name);
        signed(json!({"alg": "HS256"}), &claims, hs256)
    };
    let cases = [
        token(with("exp", json!(now() - 11))),
        token(with("exp", json!("soon"))),
        token(with("exp", json!(-1))),
        token(with("nbf", json!(now() + 30))),
        token(with("nbf", json!("x"))),
        token(with("iss", json!("j"))),
        token(with("aud", json!("c"))),
        token(with("aud", json!([]))),
        token(with("sub", json!(5))),
        token(with("sub", json!(""))),
        token(with("roles", json!({"a": 1}))),
        token(with("acl", json!({"publish": ["a#"]}))),
        without("exp"),
        without("iss"),
        without("aud"),
        without("sub"),
        signed(json!({"alg": "none"}), &good, |_| Vec::new()),
        signed(json!({"alg": "None"}), &good, |_| Vec::new()),
        signed(json!({"alg": "HS384"}), &good, hs256),
        signed(json!({"alg": "RS256"}), &good, hs256),
        signed(json!({"alg": "HS256", "crit": ["b64"]}), &good, hs256),
        signed(json!({"alg": "HS256"}), &good, |_| Vec::new()),
        signed(json!({"alg": "HS256"}), &good, |message| hs256(&message[1..])),
        signed(json!({"alg": "HS256"}), &json!([]), hs256),
        "eyJ.eyJ.x".to_owned(),
        "ey..".to_owned(),
    ];
    for case in cases {
        assert!(denied(&strict, &case), "{case}");
    }
}

#[test]
fn what_is_no_token_is_for_the_next_method() {
    let jwt = jwt(hs256_config());
    for said in ["", "secret", "a.b.c", "ey", "eyJhbGciOiJIUzI1NiJ9", &format!("ey{}..", "x".repeat(TOKEN_BYTES_MAX))] {
        assert_eq!(judge(&jwt, said), Err(None), "{said}");
    }
}

#[test]
fn a_token_can_be_bound_to_its_client_identifier() {
    let jwt = jwt(JwtAuth { client_id_claim: Some("sub".to_owned()), ..hs256_config() });
    assert!(judge(&jwt, &token(json!({"sub": "c1"}))).is_ok());
    let other = judge(&jwt, &token(json!({"sub": "c2"})));
    assert_eq!(other, Err(Some(ReasonCode::ClientIdentifierNotValid)));
}

#[test]
fn a_token_may_be_the_user_name_and_last_for_ever_where_that_is_said() {
    let config = JwtAuth { field: TokenField::UserName, require_expiry: false, ..hs256_config() };
    let jwt = jwt(config);
    let token = signed(json!({"alg": "HS256"}), &json!({"sub": "ann"}), hs256);
    let opinion = opinion(&jwt, &client("c", Some(&token), None));
    let Opinion::Allow(principal) = opinion else { panic!("{opinion:?}") };
    assert_eq!((principal.user.as_deref(), principal.lasts), (Some("ann"), None));
}

#[test]
fn a_key_file_is_loaded_anew_and_a_broken_one_is_not() {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), SECRET).unwrap();
    let jwt = Jwt::open(&JwtAuth { key_file: Some(file.path().to_owned()), ..hs256_config() }).unwrap();
    let token = token(json!({"sub": "ann"}));
    fs::write(file.path(), "short").unwrap();
    assert!(jwt.reload().is_err());
    assert!(judge(&jwt, &token).is_ok());
    fs::write(file.path(), [9; 32]).unwrap();
    jwt.reload().unwrap();
    assert!(denied(&jwt, &token));
}

#[test]
fn a_key_set_is_fetched_and_survives_an_outage_and_an_unknown_key_asks_once_more() {
    let random = SystemRandom::new();
    let ed = Ed25519KeyPair::from_pkcs8(Ed25519KeyPair::generate_pkcs8(&random).unwrap().as_ref()).unwrap();
    let x = URL_SAFE_NO_PAD.encode(ed.public_key().as_ref());
    let set = json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": "k1", "x": x}]}).to_string();
    let up = Arc::new(AtomicBool::new(true));
    let is_up = up.clone();
    let server =
        Server::new(move |_| if is_up.load(Ordering::SeqCst) { (200, set.clone()) } else { (500, "".to_owned()) });
    let jwt = Jwt::open(&JwtAuth { jwks_url: Some(server.url()), ..JwtAuth::default() }).unwrap();

    let claims = json!({"sub": "ann", "exp": now() + 60});
    let token =
        |kid: &str| signed(json!({"alg": "EdDSA", "kid": kid}), &claims, |message| ed.sign(message).as_ref().to_vec());
    // Whether the thread in the background or this question was first: the key is fetched before it is answered.
    assert!(judge(&jwt, &token("k1")).is_ok());
    assert!((1..=2).contains(&server.asked()));

    up.store(false, Ordering::SeqCst);
    let Keys::Url { jwks, .. } = &jwt.keys else { unreachable!() };
    *jwks.asked.lock().unwrap() = None;
    let before = server.asked();
    for _ in 0..10 {
        assert!(denied(&jwt, &token("k2")));
        assert!(judge(&jwt, &token("k1")).is_ok(), "the last set is used");
    }
    // One more where the thread in the background asks for the first time only now.
    assert!((before + 1..=before + 2).contains(&server.asked()), "an unknown key asks once, not each time");
}

#[test]
fn a_key_set_comes_over_https_from_a_server_that_the_authority_vouches_for_and_from_no_other() {
    let set = json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]});
    let (vouched, stranger) = (Vouched::to("127.0.0.1"), Vouched::to("127.0.0.1"));
    let server = Server::with_tls(&vouched, move |_| (200, set.to_string()));
    let header = decode_header(signed(json!({"alg": "EdDSA"}), &json!({}), |_| Vec::new())).unwrap();
    for (ca, is_trusted) in [(&vouched.ca, true), (&stranger.ca, false)] {
        let config = JwtAuth { ca_file: Some(ca.path().to_owned()), ..JwtAuth::default() };
        let jwks = Jwks::new(&server.url(), &config).unwrap();
        let log = overheard(|| jwks.refresh());
        assert_eq!(jwks.keys().candidates(&header).count(), usize::from(is_trusted), "{log}");
        assert_eq!(
            log.contains("auth.jwt.jwks_url: https://") && log.contains("invalid peer certificate"),
            !is_trusted,
            "{log}"
        );
    }
}
