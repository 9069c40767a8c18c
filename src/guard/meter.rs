//! How fast one client sends and is sent to. Exists only for clients that have a rate to keep to.
//!
//! What arrives has arrived, and is charged as it is; beyond the rate the client is read no further until its debt is
//! paid. What goes out is charged as it is written; beyond the rate nothing more is written until then.

use super::profile::PerClient;
use super::rate::Bucket;
use crate::engine::Time;

/// One client's buckets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Meter {
    messages_in: Bucket,
    bytes_in: Bucket,
    messages_out: Bucket,
    bytes_out: Bucket,
}

impl Meter {
    /// True if nothing is used up: it is as good as a new one.
    pub fn is_full(&self, now: Time) -> bool {
        [self.messages_in, self.bytes_in, self.messages_out, self.bytes_out].iter().all(|bucket| bucket.is_full(now))
    }

    /// What was used up of either is used up of this one.
    pub fn add(&mut self, other: Meter) {
        self.messages_in = self.messages_in.max(other.messages_in);
        self.bytes_in = self.bytes_in.max(other.bytes_in);
        self.messages_out = self.messages_out.max(other.messages_out);
        self.bytes_out = self.bytes_out.max(other.bytes_out);
    }

    /// So much has arrived. `Some`: the client is not to be read before then.
    pub fn received(&mut self, limits: &PerClient, now: Time, messages: u64, bytes: u64) -> Option<Time> {
        let messages = limits.messages_in.and_then(|rate| rate.charge(&mut self.messages_in, now, messages));
        let bytes = limits.bytes_in.and_then(|rate| rate.charge(&mut self.bytes_in, now, bytes));
        messages.max(bytes)
    }

    /// So much was written to it. `Some`: nothing more is to be written before then.
    pub fn sent(&mut self, limits: &PerClient, now: Time, messages: u64, bytes: u64) -> Option<Time> {
        let messages = limits.messages_out.and_then(|rate| rate.charge(&mut self.messages_out, now, messages));
        let bytes = limits.bytes_out.and_then(|rate| rate.charge(&mut self.bytes_out, now, bytes));
        messages.max(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{ClientLimits, Limits, RateLimit};
    use crate::guard::profile::{Class, Classes};
    use crate::guard::rate::Rate;
    use std::time::Duration;

    #[test]
    fn the_stricter_of_messages_and_bytes_says_when_to_read_again() {
        let rate = |amount, burst| RateLimit(Rate::new(amount, Duration::from_secs(1), burst));
        let limits = Limits { messages_in_rate: rate(10, 10), bytes_in_rate: rate(1000, 1000), ..Limits::default() };
        let classes = Classes::new(&limits, &[], [&ClientLimits::default()].into_iter(), &[]);
        let (limits, mut meter) = (&classes[Class(0)], Meter::default());
        assert_eq!(meter.received(limits, Time(0), 9, 999), None);
        assert_eq!(meter.received(limits, Time(0), 1, 1), Some(Time(100_000_000)), "a tenth of a second a message");
        assert_eq!(meter.received(limits, Time(0), 0, 499), Some(Time(500_000_000)), "half a second for 500 bytes");
        assert_eq!(meter.received(limits, Time(500_000_000), 0, 0), None, "then it is paid");
        assert_eq!(meter.sent(limits, Time(0), 1 << 40, 1 << 40), None, "no rate that way");
    }
}
