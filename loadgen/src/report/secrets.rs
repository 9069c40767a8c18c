//! Reports are passed around, so no password gets into one.

use crate::plan::Plan;

/// What stands in a secret's place.
const BLANK: &str = "***";

/// A plan with passwords blanked, and with them the values of user properties that sound like credentials.
pub fn blanked_plan(plan: &Plan) -> Plan {
    let mut plan = plan.clone();
    for group in &mut plan.groups {
        if let Some(password) = &mut group.password {
            BLANK.clone_into(password);
        }
        let publications = group.publish.iter_mut().flat_map(|publication| &mut publication.user_properties);
        let will = group.will.iter_mut().flat_map(|will| &mut will.user_properties);
        for (name, value) in group.user_properties.iter_mut().chain(publications).chain(will) {
            if is_secret(name) {
                BLANK.clone_into(value);
            }
        }
    }
    plan
}

/// A command line in one string, each word quoted where a shell needs it, without secrets: values of options and
/// settings that sound like one, passwords in addresses, and whatever is one of `passwords`.
pub fn blanked_command(words: &[String], passwords: &[&str]) -> String {
    let mut blank_next = false;
    let words = words.iter().map(|word| {
        let blank = std::mem::take(&mut blank_next);
        if blank || passwords.contains(&word.as_str()) {
            return BLANK.to_owned();
        }
        if let Some((name, _)) = word.split_once('=').filter(|(name, _)| is_secret(name)) {
            return quoted(&format!("{name}={BLANK}"));
        }
        blank_next = word == "-P" || (word.starts_with('-') && is_secret(word));
        quoted(&without_password(word))
    });
    words.collect::<Vec<_>>().join(" ")
}

/// Whether the last part of a name (`--password`, `groups.cars.password`) sounds like a credential. Names of files
/// that hold one are no secret.
fn is_secret(name: &str) -> bool {
    let last = name.rsplit(['.', '/']).next().unwrap_or(name).to_lowercase();
    let sounds = ["password", "passphrase", "passwd", "secret", "token", "authorization"];
    sounds.iter().any(|sound| last.contains(sound)) && !last.ends_with("file")
}

/// `mqtt://user:password@host` without the password.
fn without_password(word: &str) -> String {
    let parts = word.split_once("://").and_then(|(scheme, rest)| {
        let (credentials, host) = rest.rsplit_once('@')?;
        let (user, _) = credentials.split_once(':')?;
        Some(format!("{scheme}://{user}:{BLANK}@{host}"))
    });
    parts.unwrap_or_else(|| word.to_owned())
}

fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "-_=./:,@%+*[]".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;

    fn blanked(words: &[&str]) -> String {
        blanked_command(&words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>(), &["hunter2"])
    }

    #[test]
    fn a_secret_is_blanked_however_it_is_given() {
        for words in [
            &["x", "--password", "s3cret", "-q", "1"][..],
            &["x", "--password=s3cret", "-q", "1"],
            &["x", "-P", "s3cret", "-q", "1"],
            &["x", "--set", "groups.cars.password=s3cret", "-q", "1"],
            &["x", "--host", "mqtt://me:s3cret@example.net:1883", "-q", "1"],
            &["x", "--api-token", "s3cret", "-q", "1"],
            &["x", "run", "hunter2", "-q", "1"],
        ] {
            let told = blanked(words);
            assert!(!told.contains("s3cret") && !told.contains("hunter2"), "{told}");
            assert!(told.starts_with("x ") && told.ends_with(" -q 1") && told.contains("***"), "{told}");
        }
    }

    #[test]
    fn the_rest_can_be_pasted_into_a_shell() {
        assert_eq!(blanked(&["x", "--user", "me", "--password-file", "/etc/p"]), "x --user me --password-file /etc/p");
        assert_eq!(blanked(&["x", "a b", "$share/g/#", "it's", ""]), r"x 'a b' '$share/g/#' 'it'\''s' ''");
        assert_eq!(blanked(&["x", "mqtt://host:1883"]), "x mqtt://host:1883");
    }

    #[test]
    fn a_plan_goes_without_passwords_and_tokens() {
        let mut plan = samples::plan();
        plan.groups[0].password = Some("s3cret".to_owned());
        plan.groups[0].user_properties =
            vec![("Authorization".to_owned(), "s3cret".to_owned()), ("site".to_owned(), "north".to_owned())];
        let told = format!("{:?}", blanked_plan(&plan));
        assert!(!told.contains("s3cret") && told.contains("north"), "{told}");
    }
}
