//! `[acl]`: what clients may do.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::words;
use crate::acl::{Access, Format};

/// Where the rules are, and what holds where they say nothing.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Acl {
    /// The file of rules, as seen from the working directory; `None` (written "") for none.
    #[serde(with = "words::path_or_none")]
    pub file: Option<PathBuf>,
    /// How it is written.
    pub format: Format,
    /// What holds for what no rule is about, unless the file says; `None` ("auto") denies it if there is a file, and
    /// allows it if there is none.
    #[serde(with = "access_or_auto")]
    pub default: Option<Access>,
    /// User names of administrators, who may subscribe and publish to topics that begin with `$`; `*` in one stands for
    /// any characters.
    pub admins: Vec<String>,
}

/// What holds by default, or "auto" to let the program choose.
mod access_or_auto {
    use serde::de::{Error, Unexpected};
    use serde::{Deserialize, Deserializer, Serializer};

    use super::Access;

    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Access>, D::Error> {
        match &*String::deserialize(d)? {
            "auto" => Ok(None),
            "allow" => Ok(Some(Access::Allow)),
            "deny" => Ok(Some(Access::Deny)),
            other => Err(D::Error::invalid_value(Unexpected::Str(other), &"\"auto\", \"allow\" or \"deny\"")),
        }
    }

    pub fn serialize<S: Serializer>(value: &Option<Access>, s: S) -> Result<S::Ok, S::Error> {
        match value {
            Some(access) => s.collect_str(access),
            None => s.serialize_str("auto"),
        }
    }
}
