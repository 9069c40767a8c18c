//! The numbers of users and groups.

use std::fs;

/// Nobody has this name.
#[derive(Debug, thiserror::Error)]
#[error("\"{name}\" is neither a number nor a name in {file}: write the number of a user or group from elsewhere")]
pub struct NoSuchName {
    name: String,
    file: &'static str,
}

/// The number of a user or group, by the system's own file of them.
pub(super) fn number_of(file: &'static str, name: &str) -> Result<u32, NoSuchName> {
    let unknown = || NoSuchName { name: name.to_owned(), file };
    if let Ok(number) = name.parse() {
        return Ok(number);
    }
    let accounts = fs::read_to_string(file).map_err(|_| unknown())?;
    let mut fields = accounts.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let found = fields.find(|fields| fields.first() == Some(&name));
    found.and_then(|fields| fields.get(2)?.parse().ok()).ok_or_else(unknown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_is_0_and_nobody_else_is_made_up() {
        assert_eq!(number_of("/etc/passwd", "root").unwrap(), 0);
        assert_eq!(number_of("/etc/group", "17").unwrap(), 17);
        assert!(number_of("/etc/group", "no such group").is_err());
    }
}
