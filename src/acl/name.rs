//! Names in rules: of users and clients, with `*` for any characters.

/// A name, or a pattern of names.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Name {
    Exact(Box<str>),
    Pattern(Box<str>),
}

impl Name {
    /// A name in which `*` stands for any characters.
    pub fn new(text: &str) -> Name {
        if text.contains('*') { Name::Pattern(text.into()) } else { Name::Exact(text.into()) }
    }

    /// The one name it stands for; `None` for a pattern.
    pub fn exact(&self) -> Option<&str> {
        match self {
            Name::Exact(name) => Some(name),
            Name::Pattern(_) => None,
        }
    }

    /// Whether it stands for this name.
    pub fn matches(&self, name: &str) -> bool {
        match self {
            Name::Exact(exact) => **exact == *name,
            Name::Pattern(pattern) => pattern_matches(pattern, name),
        }
    }
}

fn pattern_matches(pattern: &str, name: &str) -> bool {
    let Some((first, mut rest)) = pattern.split_once('*') else { return pattern == name };
    let Some(mut name) = name.strip_prefix(first) else { return false };
    // Each piece at its first place: what is left for the others is then the most.
    while let Some((piece, behind)) = rest.split_once('*') {
        let Some(at) = name.find(piece) else { return false };
        (name, rest) = (&name[at + piece.len()..], behind);
    }
    name.ends_with(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_characters() {
        let cases = [
            ("sensor", "sensor", true),
            ("sensor", "sensor1", false),
            ("sensor*", "sensor", true),
            ("sensor*", "sensor17", true),
            ("sensor*", "asensor17", false),
            ("*-gw", "north-gw", true),
            ("*-gw", "north-gw2", false),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-c-b", false),
            ("a*a", "a", false),
            ("*", "", true),
            ("[a-z]*", "a", false),
        ];
        for (pattern, name, is_match) in cases {
            assert_eq!(Name::new(pattern).matches(name), is_match, "{pattern} {name}");
        }
    }
}
