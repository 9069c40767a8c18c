//! Whatever is said to be a token, a key set or a list of rules: nothing of it holds, and nothing of it panics.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| ringmq_fuzz::auth::token(bytes));
