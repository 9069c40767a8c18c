//! What a client's hello asks for, where rustls does not tell: a pre-shared key agreed on outside of TLS (TLS-PSK).
//!
//! Such keys are not spoken here. Left to itself, rustls passes over one that it does not know and shows its certificate; and a
//! client that relies on its key, as `mosquitto_pub --psk` does, looks at no certificate. It would go on with whoever
//! answers and take it for the one it shares the key with. So it is refused, and told why.

/// The alert `unknown_psk_identity`, fatal, as a record (RFC 4279 §2, RFC 8446 §6.2).
pub const UNKNOWN_PSK_IDENTITY: [u8; 7] = [21, 3, 3, 0, 2, 2, 115];

/// The extension that a pre-shared key is offered by, be it a ticket or not (RFC 8446 §4.2.11).
const PRE_SHARED_KEY: u16 = 41;

/// Cipher suites by a pre-shared key (TLS 1.2 and before), first and last of each run in the registry.
const PSK_SUITES: [(u16, u16); 9] = [
    (0x002C, 0x002E),
    (0x008A, 0x0095),
    (0x00A8, 0x00B9),
    (0xC033, 0xC03B),
    (0xC064, 0xC06F),
    (0xC08E, 0xC09B),
    (0xC0A4, 0xC0AB),
    (0xCCAB, 0xCCAE),
    (0xD001, 0xD005),
];

/// Signals in the shape of a cipher suite: renegotiation (RFC 5746), no fallback (RFC 7507).
const SIGNALS: [u16; 2] = [0x00FF, 0x5600];

/// True if the hello that these records begin with offers a key agreed on outside of TLS, or has cipher suites by such a
/// key alone. What is no hello, or is cut short, asks for nothing: it is for rustls to refuse.
pub fn wants_pre_shared_key(records: &[u8]) -> bool {
    read(records).unwrap_or(false)
}

fn read(records: &[u8]) -> Option<bool> {
    let mut rest = records;
    let [22, 3, _] = take(&mut rest, 3)? else { return None };
    let mut record = vector(&mut rest, 2)?;
    let [1] = take(&mut record, 1)? else { return None };
    let mut hello = vector(&mut record, 3)?;
    take(&mut hello, 2 + 32)?; // version and random
    vector(&mut hello, 1)?; // session
    let suites = vector(&mut hello, 2)?;
    if has_only_psk_suites(suites) {
        return Some(true);
    }
    vector(&mut hello, 1)?; // compression
    let mut extensions = vector(&mut hello, 2)?;
    while !extensions.is_empty() {
        let kind = number(&mut extensions, 2)?;
        let mut content = vector(&mut extensions, 2)?;
        if kind == usize::from(PRE_SHARED_KEY) {
            return offers_external(vector(&mut content, 2)?);
        }
    }
    Some(false)
}

fn has_only_psk_suites(suites: &[u8]) -> bool {
    let real = || {
        let suites = suites.chunks_exact(2).map(|suite| u16::from_be_bytes([suite[0], suite[1]]));
        // Values set aside so that servers learn to pass over what they do not know (RFC 8701): 0x0A0A, 0x1A1A…
        suites.filter(|suite| !SIGNALS.contains(suite) && suite & 0x0F0F != 0x0A0A)
    };
    let is_psk = |suite: u16| PSK_SUITES.iter().any(|(first, last)| (*first..=*last).contains(&suite));
    real().next().is_some() && real().all(is_psk)
}

/// Every identity that is no ticket has an age of nought; that of a ticket is masked by a random number.
fn offers_external(mut identities: &[u8]) -> Option<bool> {
    while !identities.is_empty() {
        vector(&mut identities, 2)?;
        if number(&mut identities, 4)? == 0 {
            return Some(true);
        }
    }
    Some(false)
}

fn take<'b>(bytes: &mut &'b [u8], len: usize) -> Option<&'b [u8]> {
    let (taken, rest) = bytes.split_at_checked(len)?;
    *bytes = rest;
    Some(taken)
}

fn number(bytes: &mut &[u8], width: usize) -> Option<usize> {
    Some(take(bytes, width)?.iter().fold(0, |number, byte| number << 8 | usize::from(*byte)))
}

/// What follows a length of so many bytes.
fn vector<'b>(bytes: &mut &'b [u8], width: usize) -> Option<&'b [u8]> {
    let len = number(bytes, width)?;
    take(bytes, len)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vector_of(width: usize, content: &[u8]) -> Vec<u8> {
        [&content.len().to_be_bytes()[8 - width..], content].concat()
    }

    fn hello(suites: &[u16], extensions: &[(u16, Vec<u8>)]) -> Vec<u8> {
        let suites: Vec<u8> = suites.iter().flat_map(|suite| suite.to_be_bytes()).collect();
        let extensions: Vec<u8> = extensions
            .iter()
            .flat_map(|(kind, content)| [&kind.to_be_bytes()[..], &vector_of(2, content)].concat())
            .collect();
        let body = [
            &[3, 3][..],
            &[7; 32],
            &vector_of(1, &[9; 32]),
            &vector_of(2, &suites),
            &vector_of(1, &[0]),
            &vector_of(2, &extensions),
        ]
        .concat();
        [&[22, 3, 1][..], &vector_of(2, &[&[1][..], &vector_of(3, &body)].concat())].concat()
    }

    fn offer(identities: &[(&[u8], u32)]) -> (u16, Vec<u8>) {
        let identities: Vec<u8> = identities
            .iter()
            .flat_map(|(identity, age)| [vector_of(2, identity), age.to_be_bytes().to_vec()].concat())
            .collect();
        (PRE_SHARED_KEY, [vector_of(2, &identities), vector_of(2, &vector_of(1, &[5; 32]))].concat())
    }

    #[test]
    fn a_key_agreed_on_elsewhere_is_told_from_a_ticket() {
        let name = (0, b"\0\x0c\0\0\x09localhost".to_vec());
        let suites = [0x1302, 0xC02C, 0x00AE];
        assert!(!wants_pre_shared_key(&hello(&suites, std::slice::from_ref(&name))));
        assert!(!wants_pre_shared_key(&hello(&suites, &[name.clone(), offer(&[(&[8; 100], 0x1234_5678)])])));
        assert!(wants_pre_shared_key(&hello(&suites, &[name.clone(), offer(&[(b"me", 0)])])));
        assert!(wants_pre_shared_key(&hello(&suites, &[name, offer(&[(&[8; 100], 77), (b"me", 0)])])));
    }

    #[test]
    fn cipher_suites_by_a_pre_shared_key_alone_are_seen() {
        for suites in [&[0x00AE, 0x00FF][..], &[0x8A8A, 0xC037, 0xCCAC, 0x5600], &[0x002C], &[0xD005]] {
            assert!(wants_pre_shared_key(&hello(suites, &[])), "{suites:x?}");
        }
        for suites in [&[0x00AE, 0xC02B][..], &[0x1301], &[0x00FF], &[]] {
            assert!(!wants_pre_shared_key(&hello(suites, &[])), "{suites:x?}");
        }
    }

    #[test]
    fn what_is_cut_short_or_no_hello_asks_for_nothing() {
        let whole = hello(&[0xC02C], &[offer(&[(b"me", 0)])]);
        for len in 0..whole.len() {
            assert!(!wants_pre_shared_key(&whole[..len]), "{len} bytes");
        }
        assert!(!wants_pre_shared_key(b"\x10\x0D\0\x04MQTT\x04\x02\0\x3C\0\x01c"));
    }
}
