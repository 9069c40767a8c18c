//! Password files.

#[path = "../../../../src/auth/password/file.rs"]
mod file;
#[path = "../../../../src/auth/password/hash.rs"]
mod hash;

/// Reads a password file: whatever is refused says where, and nothing that is read is anybody's empty password.
pub fn file(bytes: &[u8]) {
    match file::Users::parse(bytes) {
        Ok(users) => assert!(!users.find("\0").0, "no name holds a control character"),
        Err(mistakes) => assert!(!mistakes.is_empty()),
    }
    let text = String::from_utf8_lossy(bytes);
    if let Ok(hash) = hash::Hash::parse(&text) {
        let again = hash.to_string();
        assert_eq!(hash::Hash::parse(&again).map(|hash| hash.to_string()), Ok(again));
    }
}
