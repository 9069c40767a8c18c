//! Whatever stands in a file of users, and whatever a client says in SCRAM: it is read or refused.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| ringmq_fuzz::auth::users(bytes));
