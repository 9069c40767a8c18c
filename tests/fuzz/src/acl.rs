//! The room of rules, all of it but what opens files.

#[path = "../../../src/acl/decisions.rs"]
mod decisions;
#[path = "../../../src/acl/explain.rs"]
mod explain;
#[path = "../../../src/acl/filter.rs"]
mod filter;
#[path = "../../../src/acl/grants.rs"]
mod grants;
#[path = "../../../src/acl/line.rs"]
mod line;
#[path = "../../../src/acl/name.rs"]
mod name;
#[path = "../../../src/acl/policy.rs"]
mod policy;
#[path = "../../../src/acl/read/mod.rs"]
mod read;
#[path = "../../../src/acl/rule.rs"]
mod rule;
#[path = "../../../src/acl/table.rs"]
mod table;
#[path = "../../../src/acl/template.rs"]
mod template;
#[path = "../../../src/acl/trie.rs"]
mod trie;
#[path = "../../../src/acl/who.rs"]
mod who;

pub use self::decisions::Decisions;
pub use self::explain::Explanation;
pub use self::grants::{Grants, Subscribing};
pub use self::policy::Policy;
pub use self::read::{Format, Mistake};
pub use self::rule::{Access, Action, Network, NetworkError, Rule, RuleError, Rules};
pub use self::who::Who;
