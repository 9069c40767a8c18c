//! What shards say to each other.

use super::message::Message;
use super::session::Outcome;
use crate::index::{Change, ShareGroup};
use std::sync::Arc;

/// A note from one shard to another. Notes of one shard arrive in the order they were written.
#[derive(Debug)]
pub enum Note {
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
        /// Whom to answer.
        ticket: Option<Ticket>,
        /// How often the message was passed on because the chosen shard had no member any more.
        hops: u8,
    },
    /// Keep this as the retained message of its topic, or clear it if the payload is empty.
    Retain {
        /// The message.
        message: Message,
        /// Whom to answer.
        ticket: Option<Ticket>,
    },
    /// What became of a message that carried a ticket.
    Answer {
        /// The ticket.
        ticket: Ticket,
        /// What became of it on the answering shard.
        outcome: Outcome,
    },
    /// Publish these changes of interest; you own their filters.
    Announce {
        /// The changes.
        changes: Vec<Change>,
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
        /// The last topic received, to go on behind it.
        after: Option<Box<str>>,
    },
    /// Retained messages that match.
    Retained {
        /// The replay that asked.
        replay: ReplayId,
        /// The messages, by topic.
        messages: Vec<Message>,
        /// The last topic looked at.
        last: Option<Box<str>>,
        /// Nothing is left on this shard.
        done: bool,
    },
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
    /// Number of the replay.
    pub number: u32,
}
