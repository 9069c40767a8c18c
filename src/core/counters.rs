//! What a shard counts. Each counter has one writer, its shard, and any number of readers.
//!
//! Conservation holds whenever a shard is between two inputs: what was matched to its sessions has been
//! delivered, is queued or in flight, was passed on to another member of a shared group, or was dropped with
//! one of the reasons below ([`DropReason`]).

use crate::counter::{Counter, counters};
use crate::guard::entry::Refused;

counters! {
    /// A shard's counters and gauges.
    Counters {
        /// Bytes received from clients.
        bytes_received,
        /// Bytes the kernel took for clients.
        bytes_sent,
        /// Control packets received.
        packets_received,
        /// Control packets written.
        packets_sent,
        /// PUBLISH packets received.
        publish_received,
        /// PUBLISH packets written.
        publish_sent,
        /// Payload bytes of PUBLISH packets received.
        publish_bytes_received,
        /// Payload bytes of PUBLISH packets written.
        publish_bytes_sent,
        /// PUBLISH packets refused with a reason code or ignored (3.x).
        publish_refused,
        /// PUBLISH packets that the rules do not allow; each is one of `publish_refused` too.
        publish_denied,
        /// Topic filters of SUBSCRIBE packets that the rules do not allow.
        subscribe_denied,
        /// Subscriptions taken away because the rules changed.
        subscriptions_revoked,
        /// Subscriptions given back because the rules changed again.
        subscriptions_restored,
        /// Deliveries that became due: one per message and session.
        matched,
        /// Deliveries complete: written at QoS 0, acknowledged at QoS 1 and 2.
        delivered,
        /// Deliveries waiting in queues (gauge).
        queued,
        /// Bytes of the messages waiting in queues (gauge).
        queued_bytes,
        /// Deliveries sent and not acknowledged (gauge).
        inflight,
        /// Bytes of the messages that are kept for them (gauge).
        inflight_bytes,
        /// Deliveries given to another member of their shared subscription.
        redispatched,
        /// Connections open, before and after CONNECT (gauge).
        connections,
        /// Connections past CONNECT (gauge).
        connected,
        /// Connections accepted with CONNACK 0.
        connects,
        /// Questions put to the authenticator.
        authentications,
        /// CONNECT packets refused.
        connects_refused,
        /// Connections accepted by the transport.
        sockets_opened,
        /// Sessions, connected or not (gauge).
        sessions,
        /// Sessions that ended because their expiry interval passed.
        sessions_expired,
        /// Sessions taken over by a new connection of the same client.
        takeovers,
        /// Subscriptions, shared ones included (gauge).
        subscriptions,
        /// Shared subscriptions (gauge).
        shared_subscriptions,
        /// About how many bytes the filters of subscriptions take, each counted once on a shard (gauge).
        filter_bytes,
        /// Retained messages (gauge).
        retained_messages,
        /// Bytes of retained messages (gauge).
        retained_bytes,
        /// Bytes of wills that are not published yet (gauge).
        will_bytes,
        /// Retained messages refused for a limit.
        retained_refused,
        /// Retained messages that expired.
        retained_expired,
        /// Wills published.
        wills_published,
        /// Wills that the rules did not allow to be published.
        wills_denied,
        /// Times a connection's reading was stopped because it or the mesh was behind.
        pauses,
        /// About how many bytes topic aliases take (gauge).
        alias_bytes,
        /// Bytes held for packets that have not arrived completely (gauge).
        reassembly_bytes,
        /// Bytes written and not yet taken by the kernel (gauge, as of the last turn).
        output_bytes,
        /// Bytes of large messages that queues, deliveries in flight and output count more than once, though each is there
        /// once (gauge, as of the last turn).
        shared_bytes,
        /// Times a connection was not read for a while because of its rate, or because memory was short.
        throttled,
        /// Times a connection was not written to for a while because of its rate.
        muted,
        /// Times that what a client had used up of its rates was not kept when it left, because others' were.
        rates_untracked,
        /// Clients that connected too often and are kept out for a while.
        flapping,
        /// Connects that were not followed as to flapping, because too many other clients connected.
        flapping_untracked,
        /// Clients that read too slowly (gauge).
        slow_readers,
        /// Times that a slow reader was not followed, because too many others were.
        slow_untracked,
        /// Subscriptions and topics that an operator may want to hear of.
        anti_patterns,
        /// Topic filters refused because their wildcard stands too far ahead.
        shallow_wildcards,
        /// Times this shard was behind and let nobody new in.
        lags,
        /// How short memory is, as a level of 0 to 4 (gauge).
        pressure,
        /// Times that this shard found the level changed.
        pressure_changes,
    } and {
        /// Connections refused by the guard, before CONNECT or at it, by [`Refused`].
        refused_at_door: [Counter; Refused::ALL.len()],
        /// Deliveries dropped, by [`DropReason`].
        dropped: [Counter; DropReason::COUNT],
        /// Connections ended, by [`EndReason`].
        ended: [Counter; EndReason::COUNT],
        /// Connections ended for a packet that breaks the protocol, by reason code.
        protocol_errors: ReasonCounters,
    }
}

macro_rules! reasons {
    ($(#[$doc:meta])* $enum:ident { $($(#[$vdoc:meta])* $name:ident = $label:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $enum { $($(#[$vdoc])* $name,)* }

        impl $enum {
            /// Every reason, in the order of the counters.
            pub const ALL: &'static [$enum] = &[$($enum::$name,)*];
            /// How many reasons there are.
            pub const COUNT: usize = Self::ALL.len();

            /// The name that counters and logs use.
            pub fn label(self) -> &'static str {
                match self { $($enum::$name => $label,)* }
            }
        }
    };
}

reasons! {
    /// Why a delivery was dropped.
    DropReason {
        /// The session's queue holds its maximum of messages.
        QueueMessages = "queue_messages",
        /// The session's queue holds its maximum of bytes.
        QueueBytes = "queue_bytes",
        /// The queues of all sessions together hold their maximum of bytes.
        QueueBytesTotal = "queue_bytes_total",
        /// QoS 0 for a connection that reads too slowly.
        SlowReader = "slow_reader",
        /// QoS 0 for a session without a connection.
        OfflineQos0 = "offline_qos0",
        /// Larger than the receiver's maximum packet size [MQTT-3.1.2-25].
        PacketTooLarge = "packet_too_large",
        /// The message expired before it could be sent [MQTT-3.3.2-5].
        Expired = "expired",
        /// The session ended with the message still in it.
        SessionEnded = "session_ended",
        /// The receiver refused it with a reason code of 0x80 or more.
        RefusedByReceiver = "refused_by_receiver",
        /// The rules do not allow the receiver to have it.
        NotAuthorized = "not_authorized",
        /// A retained message whose publisher may not publish it any more.
        PublisherNotAuthorized = "publisher_not_authorized",
        /// QoS 0 for a connection that got as much as its rate allows.
        OutRate = "out_rate",
        /// QoS 0 for a client that reads slowly or is away, while memory is short.
        Memory = "memory",
    }
}

reasons! {
    /// Why a connection ended.
    EndReason {
        /// The client sent DISCONNECT.
        ClientDisconnect = "client_disconnect",
        /// The client closed the transport without DISCONNECT.
        EndOfStream = "end_of_stream",
        /// The transport failed.
        TransportError = "transport_error",
        /// Nothing was heard for one and a half times the keep alive.
        KeepAliveTimeout = "keep_alive_timeout",
        /// A packet did not go on arriving: less than 1 KiB of it came within a minute.
        PacketTimeout = "packet_timeout",
        /// No complete CONNECT within the connect timeout.
        ConnectTimeout = "connect_timeout",
        /// The client sent something that the protocol does not allow.
        ProtocolError = "protocol_error",
        /// Another connection of the same client took the session over.
        TakenOver = "taken_over",
        /// The CONNECT was refused.
        ConnectRefused = "connect_refused",
        /// The client's authentication was over, or it failed to authenticate again.
        NotAuthenticated = "not_authenticated",
        /// The client was banned.
        Banned = "banned",
        /// What the client was let in by was taken back: its user's line, its certificate.
        CredentialsWithdrawn = "credentials_withdrawn",
        /// The broker stopped.
        ShuttingDown = "shutting_down",
    }
}

/// One counter for each reason code of 0x80 and more.
#[derive(Debug)]
pub struct ReasonCounters([Counter; 128]);

impl Default for ReasonCounters {
    fn default() -> Self {
        ReasonCounters(std::array::from_fn(|_| Counter::default()))
    }
}

impl ReasonCounters {
    /// The counter of a reason code; codes below 0x80 share that of 0x80 (unspecified error).
    pub fn of(&self, code: u8) -> &Counter {
        &self.0[usize::from(code.saturating_sub(0x80))]
    }

    /// The reason codes that were counted at all.
    pub fn counted(&self) -> impl Iterator<Item = (u8, u64)> + '_ {
        self.0.iter().enumerate().map(|(i, counter)| (0x80 + i as u8, counter.load())).filter(|&(_, count)| count > 0)
    }
}

impl Counters {
    /// Counts a dropped delivery.
    pub fn drop_delivery(&self, reason: DropReason) {
        self.dropped[reason as usize].add(1);
    }

    /// Bytes of messages that this shard holds, as the [budget](crate::guard::budget) counts them.
    pub fn message_bytes(&self) -> u64 {
        let kept = [&self.queued_bytes, &self.inflight_bytes, &self.retained_bytes, &self.will_bytes];
        let others = [&self.filter_bytes, &self.reassembly_bytes, &self.output_bytes, &self.alias_bytes];
        let counted: u64 = kept.into_iter().chain(others).map(Counter::load).sum();
        // They are not read in the same moment.
        counted.saturating_sub(self.shared_bytes.load())
    }

    /// A delivery of QoS 1 or 2 was sent, and this much is kept until it is acknowledged.
    pub fn begin_delivery(&self, bytes: u64) {
        self.inflight.add(1);
        self.inflight_bytes.add(bytes);
    }

    /// Deliveries dropped for any reason.
    pub fn dropped_total(&self) -> u64 {
        self.dropped.iter().map(Counter::load).sum()
    }

    /// Nothing disappears: `matched = delivered + queued + inflight + redispatched + dropped`.
    pub fn conservation(&self) -> Result<(), String> {
        let accounted = self.delivered.load()
            + self.queued.load()
            + self.inflight.load()
            + self.redispatched.load()
            + self.dropped_total();
        if self.matched.load() == accounted { Ok(()) } else { Err(format!("not conserved: {accounted} of {self:#?}")) }
    }
}
