//! The codecs alone, from the broker's own source, so that fuzzing does not build the rest of the broker.

#[path = "../../../src/codec/mod.rs"]
pub mod codec;
#[path = "../../../src/transport/proxy/mod.rs"]
pub mod proxy;
#[path = "../../../src/transport/ws/mod.rs"]
pub mod ws;

/// Rules of who may do what; all of that room but what opens files.
pub mod acl {
    #[path = "../../../../src/acl/explain.rs"]
    mod explain;
    #[path = "../../../../src/acl/filter.rs"]
    mod filter;
    #[path = "../../../../src/acl/grants.rs"]
    mod grants;
    #[path = "../../../../src/acl/name.rs"]
    mod name;
    #[path = "../../../../src/acl/policy.rs"]
    mod policy;
    #[path = "../../../../src/acl/read/mod.rs"]
    mod read;
    #[path = "../../../../src/acl/rule.rs"]
    mod rule;
    #[path = "../../../../src/acl/template.rs"]
    mod template;
    #[path = "../../../../src/acl/who.rs"]
    mod who;

    pub use explain::Explanation;
    pub use grants::{Grants, Subscribing};
    pub use policy::Policy;
    pub use read::{Format, Mistake};
    pub use rule::{Access, Action, Network, NetworkError, Rule, RuleError, Rules};
    pub use who::Who;
}

use codec::{Frame, Framed, ProtocolVersion};

/// Every protocol version.
pub const VERSIONS: [ProtocolVersion; 3] = [ProtocolVersion::V31, ProtocolVersion::V311, ProtocolVersion::V5];

/// The packets at the front of a stream of bytes, up to the first that is malformed or incomplete.
pub fn frames(mut bytes: &[u8], maximum_packet_size: u32) -> impl Iterator<Item = Frame<'_>> {
    std::iter::from_fn(move || match codec::frame(bytes, maximum_packet_size) {
        Ok(Framed::Complete { frame, len }) => {
            bytes = &bytes[len..];
            Some(frame)
        }
        Ok(Framed::Incomplete { needed }) => {
            assert!(needed.is_none_or(|needed| needed > bytes.len() && needed <= maximum_packet_size as usize));
            None
        }
        Err(error) => {
            assert!(error.reason().is_error() && !error.label().is_empty());
            None
        }
    })
}
