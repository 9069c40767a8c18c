//! Hashes of passwords: argon2id, and what mosquitto writes.
//!
//! - `$argon2id$v=19$m=…,t=…,p=…$salt$hash`: argon2id as a PHC string; what `ringmq passwd` writes.
//! - `$7$iterations$salt$hash`: PBKDF2 with HMAC-SHA-512 (mosquitto 2).
//! - `$6$salt$hash`: SHA-512 of password and salt, once (mosquitto 1.x). Cheap to guess; read for the sake of moving.

use std::fmt;
use std::io;
use std::num::NonZeroU32;

use argon2::password_hash::phc::{Output, PasswordHash, Salt};
use argon2::{Algorithm, Argon2, Block, Params, Version};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::{digest, pbkdf2};
use subtle::ConstantTimeEq;

/// What one verification may cost at most, so that no file can stop the workers.
const MEMORY_KIB_MAX: u32 = 1 << 20;
const PASSES_MAX: u32 = 100;
const LANES_MAX: u32 = 64;
const ITERATIONS_MAX: u32 = 10_000_000;
const SHA512_BYTES: usize = 64;
const SALT_BYTES: usize = 16;

/// What computing a hash costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Cost {
    /// argon2id.
    Argon2 {
        /// Memory, in KiB.
        memory_kib: u32,
        /// Passes over it.
        passes: u32,
        /// Lanes; computed one after the other here.
        lanes: u32,
    },
    /// PBKDF2 with HMAC-SHA-512.
    Pbkdf2 {
        /// Iterations.
        iterations: NonZeroU32,
    },
    /// One SHA-512.
    Sha512,
}

impl Cost {
    /// OWASP's choice for argon2id with the least memory that still needs no more than two passes.
    pub(crate) const DEFAULT: Cost = Cost::Argon2 { memory_kib: 19 * 1024, passes: 2, lanes: 1 };
    /// For tests that are about something else.
    #[cfg(test)]
    pub(crate) const CHEAP: Cost = Cost::Argon2 { memory_kib: 8, passes: 1, lanes: 1 };

    fn params(memory_kib: u32, passes: u32, lanes: u32) -> Result<Params, &'static str> {
        if memory_kib > MEMORY_KIB_MAX || passes > PASSES_MAX || lanes > LANES_MAX {
            return Err("argon2id costs more than 1 GiB, 100 passes or 64 lanes");
        }
        Params::new(memory_kib, passes, lanes, None).map_err(|_| "argon2id needs 8 KiB a lane, one pass, one lane")
    }

    fn output_bytes(self) -> usize {
        match self {
            Cost::Argon2 { .. } => Params::DEFAULT_OUTPUT_LEN,
            Cost::Pbkdf2 { .. } | Cost::Sha512 => SHA512_BYTES,
        }
    }
}

/// Memory that hashing needs, kept from one password to the next.
#[derive(Default)]
pub(crate) struct Scratch {
    blocks: Vec<Block>,
    /// What was computed with it, so that tests can hold one verification's work against another's.
    #[cfg(test)]
    pub(super) computed: Vec<Cost>,
}

impl Scratch {
    /// Gives the memory back.
    pub(crate) fn release(&mut self) {
        self.blocks = Vec::new();
    }

    fn blocks(&mut self, count: usize) -> &mut [Block] {
        if self.blocks.len() < count {
            self.blocks = vec![Block::new(); count];
        }
        &mut self.blocks[..count]
    }
}

/// A hash that passwords are held against.
pub(crate) struct Hash {
    cost: Cost,
    salt: Vec<u8>,
    output: Vec<u8>,
}

impl Hash {
    /// Reads what stands behind the user name.
    pub(crate) fn parse(text: &str) -> Result<Hash, &'static str> {
        if text.starts_with("$argon2") {
            return parse_argon2(text);
        }
        let mut parts = text.split('$');
        let hash = match (parts.next(), parts.next()) {
            (Some(""), Some("7")) => {
                let iterations = parts.next().and_then(|text| text.parse().ok());
                let iterations = iterations.filter(|iterations: &NonZeroU32| iterations.get() <= ITERATIONS_MAX);
                let iterations = iterations.ok_or("iterations are not 1 to 10000000")?;
                Hash::decode(Cost::Pbkdf2 { iterations }, parts.next(), parts.next())?
            }
            (Some(""), Some("6")) => Hash::decode(Cost::Sha512, parts.next(), parts.next())?,
            _ => return Err("behind the user name is no hash: $argon2id$…, $7$… or $6$…"),
        };
        match parts.next() {
            None => Ok(hash),
            Some(_) => Err("something stands behind the hash"),
        }
    }

    fn decode(cost: Cost, salt: Option<&str>, output: Option<&str>) -> Result<Hash, &'static str> {
        let decode = |part: Option<&str>| STANDARD.decode(part.unwrap_or_default()).unwrap_or_default();
        let (salt, output) = (decode(salt), decode(output));
        if salt.is_empty() || output.len() != SHA512_BYTES {
            return Err("salt or hash is missing, is not base64, or is not as long as SHA-512 is");
        }
        Ok(Hash { cost, salt, output })
    }

    /// The hash of a password, under a new salt.
    pub(crate) fn of(password: &[u8], cost: Cost) -> io::Result<Hash> {
        let mut hash = Hash { cost, salt: vec![0; SALT_BYTES], output: vec![0; cost.output_bytes()] };
        getrandom::fill(&mut hash.salt)?;
        hash.output = hash.compute(password, &mut Scratch::default()).map_err(io::Error::other)?;
        Ok(hash)
    }

    /// A hash that costs this, and that no password is known to have: it is all zero.
    pub(super) fn decoy(cost: Cost) -> Hash {
        Hash { cost, salt: vec![0; SALT_BYTES], output: vec![0; cost.output_bytes()] }
    }

    pub(super) fn cost(&self) -> Cost {
        self.cost
    }

    /// Whether this is the password. Takes the same time for all passwords of a length.
    pub(crate) fn verify(&self, password: &[u8], scratch: &mut Scratch) -> bool {
        self.compute(password, scratch).is_ok_and(|output| output.ct_eq(&self.output).into())
    }

    fn compute(&self, password: &[u8], scratch: &mut Scratch) -> Result<Vec<u8>, &'static str> {
        let mut output = vec![0; self.output.len()];
        #[cfg(test)]
        scratch.computed.push(self.cost);
        match self.cost {
            Cost::Argon2 { memory_kib, passes, lanes } => {
                let params = Cost::params(memory_kib, passes, lanes)?;
                let blocks = scratch.blocks(params.block_count());
                Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
                    .hash_password_into_with_memory(password, &self.salt, &mut output, blocks)
                    .map_err(|_| "argon2id does not take a password, salt or hash of this length")?;
            }
            Cost::Pbkdf2 { iterations } => {
                pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA512, iterations, &self.salt, password, &mut output);
            }
            Cost::Sha512 => {
                let mut context = digest::Context::new(&digest::SHA512);
                context.update(password);
                context.update(&self.salt);
                output = context.finish().as_ref().to_vec();
            }
        }
        Ok(output)
    }
}

fn parse_argon2(text: &str) -> Result<Hash, &'static str> {
    let phc = PasswordHash::new(text).map_err(|_| "not a PHC string: $argon2id$v=19$m=…,t=…,p=…$salt$hash")?;
    if phc.algorithm.as_str() != "argon2id" || phc.version != Some(Version::V0x13 as u32) {
        return Err("not argon2id, version 19");
    }
    let number = |name: &str| phc.params.get_decimal(name).unwrap_or(0);
    let (memory_kib, passes, lanes) = (number("m"), number("t"), number("p"));
    Cost::params(memory_kib, passes, lanes)?;
    if phc.params.iter().count() != 3 {
        return Err("parameters other than m, t and p");
    }
    let (Some(salt), Some(output)) = (phc.salt, phc.hash) else { return Err("salt or hash is missing") };
    if salt.len() < argon2::MIN_SALT_LEN || output.len() < SALT_BYTES {
        return Err("a salt shorter than 8 bytes, or a hash shorter than 16");
    }
    let cost = Cost::Argon2 { memory_kib, passes, lanes };
    Ok(Hash { cost, salt: salt.as_ref().to_vec(), output: output.as_bytes().to_vec() })
}

/// As it stands in the file.
impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.cost {
            Cost::Argon2 { memory_kib, passes, lanes } => {
                let salt = Salt::new(&self.salt).map_err(|_| fmt::Error)?.to_salt_string();
                let output = Output::new(&self.output).map_err(|_| fmt::Error)?;
                write!(f, "$argon2id$v=19$m={memory_kib},t={passes},p={lanes}${salt}${output}")
            }
            Cost::Pbkdf2 { iterations } => {
                write!(f, "$7${iterations}${}${}", STANDARD.encode(&self.salt), STANDARD.encode(&self.output))
            }
            Cost::Sha512 => write!(f, "$6${}${}", STANDARD.encode(&self.salt), STANDARD.encode(&self.output)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is(text: &str, password: &[u8]) -> bool {
        Hash::parse(text).unwrap().verify(password, &mut Scratch::default())
    }

    /// From the tests of argon2's reference implementation (test.c), version 0x13.
    #[test]
    fn argon2id_is_that_of_the_reference_implementation() {
        let cases = [
            ("$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4", "password"),
            ("$argon2id$v=19$m=256,t=2,p=2$c29tZXNhbHQ$bQk8UB/VmZZF4Oo79iDXuL5/0ttZwg2f/5U52iv1cDc", "password"),
            ("$argon2id$v=19$m=65536,t=1,p=1$c29tZXNhbHQ$9qWtwbpyPd3vm1rB1GThgPzZ3/ydHL92zKL+15XZypg", "password"),
            (
                "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$C4TWUs9rDEvq7w3+J4umqA32aWKB1+DSiRuBfYxFj94",
                "differentpassword",
            ),
        ];
        for (text, password) in cases {
            assert!(is(text, password.as_bytes()), "{text}");
            assert!(!is(text, b"passwore"), "{text}");
            assert_eq!(Hash::parse(text).unwrap().to_string(), text);
        }
    }

    /// PBKDF2-HMAC-SHA-512 of "password" and "salt", one iteration: a published vector, written as mosquitto would.
    #[test]
    fn pbkdf2_as_mosquitto_writes_it() {
        let hex = "867f70cf1ade02cff3752599a3a53dc4af34c7a669815ae5d513554e1c8cf252\
            c02d470a285a0501bad999bfe943c08f050235d7d68b1da55e63f73b60a57fce";
        let output: Vec<u8> = (0..64).map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap()).collect();
        let text = format!("$7$1${}${}", STANDARD.encode("salt"), STANDARD.encode(output));
        assert!(is(&text, b"password") && !is(&text, b"passwort"));
        assert_eq!(Hash::parse(&text).unwrap().to_string(), text);
    }

    #[test]
    fn one_sha_512_as_mosquitto_wrote_it() {
        let output = digest::digest(&digest::SHA512, b"passwordNaCl");
        let text = format!("$6${}${}", STANDARD.encode("NaCl"), STANDARD.encode(output));
        assert!(is(&text, b"password") && !is(&text, b"passwordN"));
        assert_eq!(Hash::parse(&text).unwrap().to_string(), text);
    }

    #[test]
    fn what_we_write_we_read() {
        for cost in [Cost::CHEAP, Cost::Pbkdf2 { iterations: NonZeroU32::MIN }, Cost::Sha512] {
            let text = Hash::of(b"secret", cost).unwrap().to_string();
            assert!(is(&text, b"secret") && !is(&text, b"Secret"), "{text}");
            assert_ne!(text, Hash::of(b"secret", cost).unwrap().to_string(), "each has its own salt");
        }
    }

    #[test]
    fn a_cost_that_would_stop_the_workers_is_refused() {
        for params in ["m=4194304,t=1,p=1", "m=64,t=101,p=1", "m=65536,t=1,p=65", "m=0,t=1,p=1", "m=64,t=0,p=1"] {
            let text = format!("$argon2id$v=19${params}$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4");
            assert!(Hash::parse(&text).is_err(), "{params}");
        }
        assert!(Hash::parse("$7$10000001$AAAA$AAAA").is_err());
    }

    #[test]
    fn memory_of_one_password_serves_the_next_whatever_it_needs() {
        let mut scratch = Scratch::default();
        let hashes = [64, 8, 256]
            .map(|memory_kib| Hash::of(b"secret", Cost::Argon2 { memory_kib, passes: 1, lanes: 1 }).unwrap());
        for _ in 0..2 {
            assert!(hashes.iter().all(|hash| hash.verify(b"secret", &mut scratch)));
            assert!(!hashes.iter().any(|hash| hash.verify(b"other", &mut scratch)));
        }
        scratch.release();
        assert!(hashes[0].verify(b"secret", &mut scratch));
    }
}
