//! What shards say to each other.

use super::message::Message;
use super::parcel::Parcel;
use super::shared::Search;
use super::source::{Kept, Source};
use crate::engine::Load;
use crate::index::{Change, Interest, ScanCursor, ShareGroup};
use std::sync::Arc;

/// A note from one shard to another. Notes of one shard arrive in the order they were written. Within a parcel the
/// publications come first: one may overtake an answer that was written before it, which no client can tell.
#[derive(Debug)]
pub enum Note {
    /// Deliver each to every session of yours that wants its topic; and what became of earlier ones of yours.
    Parcel(Box<Parcel>),
    /// Deliver to every session of yours that wants this topic.
    Publish {
        /// The message.
        message: Message,
        /// Whom to answer; nobody waits at QoS 0.
        ticket: Option<Ticket>,
    },
    /// Deliver to one of your members of a shared subscription.
    PublishShared {
        /// The message.
        message: Message,
        /// The shared subscription.
        group: Arc<ShareGroup>,
        /// Chooses the member, for the strategies that hash.
        pick: u64,
        /// Whom to answer, and who was asked before.
        search: Search,
    },
    /// Keep this as the retained message of its topic, or clear it if the payload is empty.
    Retain {
        /// The message.
        message: Message,
        /// Who published it, where rules are in force.
        source: Option<Arc<Source>>,
        /// Whom to answer.
        ticket: Option<Ticket>,
    },
    /// Publish these changes of interest; you own their filters.
    Announce {
        /// The changes.
        changes: Vec<Interested>,
        /// Who waits for them, if anybody.
        waiter: Option<u64>,
    },
    /// The changes are published.
    Announced {
        /// Who waited.
        waiter: u64,
    },
    /// Send the next retained messages that match.
    AskRetained {
        /// The replay that asks.
        replay: ReplayId,
        /// Topic filter.
        filter: Box<str>,
        /// Where the last batch ended.
        cursor: ScanCursor,
    },
    /// Retained messages that match.
    Retained {
        /// The replay that asked.
        replay: ReplayId,
        /// The messages, by topic.
        messages: Vec<Kept>,
        /// Where to go on; `None` when nothing is left on this shard.
        more: Option<ScanCursor>,
    },
}

impl Load for Note {
    fn load(&self) -> usize {
        match self {
            Note::Parcel(parcel) => parcel.len(),
            _ => 1,
        }
    }
}

/// A change of the writing shard's interest, which the owner of the filter publishes.
#[derive(Debug)]
pub enum Interested {
    /// It has a subscriber to the filter now.
    Yes {
        /// Topic filter.
        filter: Box<str>,
    },
    /// It has none any more.
    No {
        /// Topic filter.
        filter: Box<str>,
    },
    /// So many members of a shared subscription are its.
    Group {
        /// Share name.
        name: Box<str>,
        /// Topic filter.
        filter: Box<str>,
        /// Members that are connected.
        online: u32,
        /// All members.
        total: u32,
    },
}

impl Interested {
    /// The shard that publishes this change.
    pub fn owner(&self, interest: &Interest) -> u16 {
        match self {
            Interested::Yes { filter } | Interested::No { filter } => interest.owner(filter),
            Interested::Group { filter, .. } => interest.shared_owner(filter),
        }
    }

    /// The change as one of this shard.
    pub fn of(&self, shard: u16) -> Change<'_> {
        match self {
            Interested::Yes { filter } => Change::Interested { filter, shard },
            Interested::No { filter } => Change::NotInterested { filter, shard },
            &Interested::Group { ref name, ref filter, online, total } => {
                Change::Group { name, filter, shard, online, total }
            }
        }
    }
}

/// Names an acknowledgement that waits on the publisher's shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// Slot of the publisher's session.
    pub session: u32,
    /// Generation of that slot.
    pub generation: u32,
    /// Number of the acknowledgement.
    pub number: u32,
}

/// Names a retained replay in progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplayId {
    /// Slot of the session.
    pub session: u32,
    /// Generation of that slot.
    pub generation: u32,
    /// Number of the batch.
    pub number: u32,
}
