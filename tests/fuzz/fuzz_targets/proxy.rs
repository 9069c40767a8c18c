//! Any bytes in front of a connection are read as a PROXY header without a panic, within its bound, and the same however
//! many of what follows have arrived.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ringmq_fuzz::proxy::{COMMON_NAME_BYTES_MAX, V1_BYTES_MAX, V2_FIXED_BYTES, V2_VARIABLE_BYTES_MAX, parse};

fuzz_target!(|bytes: &[u8]| {
    let whole = parse(bytes);
    let longest = V1_BYTES_MAX.max(V2_FIXED_BYTES + V2_VARIABLE_BYTES_MAX);
    assert!(bytes.len() < longest || !matches!(whole, Ok(None)));
    if let Ok(Some((length, header))) = &whole {
        assert_eq!(parse(&bytes[..*length]), whole);
        assert_eq!(parse(&bytes[..length - 1]), Ok(None));
        assert!(header.common_name.as_ref().is_none_or(|name| (1..=COMMON_NAME_BYTES_MAX).contains(&name.len())));
        assert!(header.tls || header.common_name.is_none());
        assert!(!header.local || header.source.is_none());
    }
    // What was refused stays refused, what was incomplete was not wrong before.
    if let Some((_, less)) = bytes.split_last() {
        match parse(less) {
            Ok(None) => {}
            other => assert_eq!(other, whole),
        }
    }
});
