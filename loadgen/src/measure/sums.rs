//! Sums of counts and faults. Each names every field, so that a new one can't be forgotten.

use std::ops::AddAssign;

use super::{Counts, Faults};

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        let Self {
            connecting,
            connected,
            reconnected,
            disconnected,
            connect_failed,
            refused,
            dropped,
            published,
            acknowledged,
            rejected,
            delivered,
            retained,
            wills,
            bytes_out,
            bytes_in,
            pings,
        } = other;
        self.connecting += connecting;
        self.connected += connected;
        self.reconnected += reconnected;
        self.disconnected += disconnected;
        self.connect_failed += connect_failed;
        self.refused += refused;
        self.dropped += dropped;
        self.published += published;
        self.acknowledged += acknowledged;
        self.rejected += rejected;
        self.delivered += delivered;
        self.retained += retained;
        self.wills += wills;
        self.bytes_out += bytes_out;
        self.bytes_in += bytes_in;
        self.pings += pings;
    }
}

impl AddAssign for Faults {
    fn add_assign(&mut self, other: Self) {
        let Self { lost_qos0, lost_qos1, lost_qos2, duplicated, redelivered, reordered, corrupted, misacknowledged } =
            other;
        self.lost_qos0 += lost_qos0;
        self.lost_qos1 += lost_qos1;
        self.lost_qos2 += lost_qos2;
        self.duplicated += duplicated;
        self.redelivered += redelivered;
        self.reordered += reordered;
        self.corrupted += corrupted;
        self.misacknowledged += misacknowledged;
    }
}
