//! How many, and how fast, by key, for more keys than anybody wants to keep: tables of fixed size that all shards use
//! without a lock.
//!
//! Each key has one cell in each of two rows, chosen by a keyed hash that nobody outside can compute. What a key did is
//! in both of its cells, together with what others did that share one of them; so the lesser of the two is never too
//! low, and too high only where both cells are shared (count-min: Cormode and Muthukrishnan 2005). **Nothing is ever
//! evicted**: an attacker who comes from ever new addresses cannot push his own history out. The price is that those
//! who are refused wrongly, one in millions, are refused because of keys that they happen to share both cells with.

use super::rate::{Rate, SharedBucket};
use crate::engine::Time;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// Cells of a row where the caller does not ask for more.
pub const CELLS_MIN: usize = 1 << 12;
/// The most cells of a row.
pub const CELLS_MAX: usize = 1 << 22;

/// A key, hashed with the process's seed. All 64 bits are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct KeyHash(pub u64);

/// Counts what each key has at the moment.
#[derive(Debug)]
pub struct Tally {
    rows: [Box<[AtomicU32]>; 2],
}

/// Holds each key to a rate.
#[derive(Debug)]
pub struct Pacer {
    rows: [Box<[SharedBucket]>; 2],
    rate: Rate,
}

fn cells(keys: usize) -> usize {
    keys.clamp(CELLS_MIN, CELLS_MAX).next_power_of_two()
}

/// The cells of a key: each half of the hash chooses in one row.
fn places(key: KeyHash, cells: usize) -> [usize; 2] {
    [key.0 as u32 as usize & (cells - 1), (key.0 >> 32) as usize & (cells - 1)]
}

impl Tally {
    /// For about so many keys: eight bytes each, within bounds.
    pub fn new(keys: usize) -> Tally {
        let row = || (0..cells(keys)).map(|_| AtomicU32::new(0)).collect();
        Tally { rows: [row(), row()] }
    }

    fn cells(&self, key: KeyHash) -> [&AtomicU32; 2] {
        let [first, second] = places(key, self.rows[0].len());
        [&self.rows[0][first], &self.rows[1][second]]
    }

    /// How many the key has: never too few.
    pub fn count(&self, key: KeyHash) -> u32 {
        self.cells(key).into_iter().map(|cell| cell.load(Relaxed)).min().unwrap_or(0)
    }

    /// One more. Returns how many there are now.
    pub fn add(&self, key: KeyHash) -> u32 {
        self.cells(key).into_iter().map(|cell| cell.fetch_add(1, Relaxed) + 1).min().unwrap_or(0)
    }

    /// One less of those that were added.
    pub fn remove(&self, key: KeyHash) {
        for cell in self.cells(key) {
            let before = cell.fetch_sub(1, Relaxed);
            debug_assert!(before > 0, "only what was added is removed");
        }
    }
}

impl Pacer {
    /// For about so many keys that are busy at once: sixteen bytes each, within bounds.
    pub fn new(keys: usize, rate: Rate) -> Pacer {
        let row = || (0..cells(keys)).map(|_| SharedBucket::default()).collect();
        Pacer { rows: [row(), row()], rate }
    }

    /// Takes one of the key's own; else says when there will be one, and takes nothing. Shards that ask in the very same
    /// moment may each get the last one.
    ///
    /// # Errors
    ///
    /// The key has used its rate up until then.
    pub fn take(&self, key: KeyHash, now: Time) -> Result<(), Time> {
        let [first, second] = places(key, self.rows[0].len());
        let cells = [&self.rows[0][first], &self.rows[1][second]];
        let mut tried = cells.map(|cell| {
            let mut bucket = cell.look();
            (self.rate.take(&mut bucket, now).map(|()| bucket), cell)
        });
        // The fuller of the two tells; the other one has somebody else's use in it and is not charged for it again.
        tried.sort_by_key(|(taken, _)| match taken {
            Ok(bucket) => (0, self.rate.used(*bucket)),
            Err(then) => (1, then.0),
        });
        let bucket = tried[0].0?;
        cells.into_iter().for_each(|cell| cell.raise(bucket));
        Ok(())
    }
}

/// What limits by address hold together: an IPv4 address, or the /64 that one customer is given in IPv6. (Whoever has a
/// /64 has 2⁶⁴ addresses to come from.)
pub fn address_key(address: IpAddr) -> [u8; 16] {
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => (u128::from(v6) >> 64 << 64).to_be_bytes(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;
    use std::time::Duration;

    fn rate() -> Rate {
        Rate::new(10, Duration::from_secs(1), 5).unwrap()
    }

    fn hash(key: u64) -> KeyHash {
        KeyHash(
            key.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29).wrapping_mul(0xBF58_476D_1CE4_E5B9),
        )
    }

    proptest! {
        #[test]
        fn a_tally_is_never_too_low_and_mostly_right(steps in prop::collection::vec((0..300u64, any::<bool>()), 1..2000)) {
            let (tally, mut naive) = (Tally::new(0), HashMap::new());
            for (key, add) in steps {
                let there = naive.entry(key).or_insert(0u32);
                if add {
                    *there += 1;
                    tally.add(hash(key));
                } else if *there > 0 {
                    *there -= 1;
                    tally.remove(hash(key));
                }
            }
            prop_assert!(naive.iter().all(|(key, there)| tally.count(hash(*key)) >= *there));
            let exact = naive.iter().filter(|(key, there)| tally.count(hash(**key)) == **there).count();
            prop_assert!(exact * 10 >= naive.len() * 9);
        }

        #[test]
        fn no_key_gets_more_than_its_rate(steps in prop::collection::vec((0..50u64, 0..20_000_000u64), 1..500)) {
            let (pacer, mut naive, mut now) = (Pacer::new(0, rate()), HashMap::new(), 0);
            for (key, pause) in steps {
                now += pause;
                let bucket = naive.entry(key).or_default();
                let allowed = rate().take(bucket, Time(now)).is_ok();
                prop_assert!(allowed || pacer.take(hash(key), Time(now)).is_err(), "the key's own use is always seen");
                if allowed {
                    let _ = pacer.take(hash(key), Time(now));
                }
            }
        }
    }

    #[test]
    fn an_attacker_from_many_addresses_cannot_reset_his_own_bucket() {
        let pacer = Pacer::new(0, rate());
        let (own, now) = (hash(0), Time(1));
        while pacer.take(own, now).is_ok() {}
        let mut let_in = 0;
        for other in 1..100_000 {
            let_in += u32::from(pacer.take(hash(other), now).is_ok());
        }
        assert!(pacer.take(own, now).is_err(), "nothing that others do makes room for him");
        assert!(let_in >= 4096, "and until the table is full of them, others come in: {let_in}");
    }

    #[test]
    fn an_honest_client_comes_in_while_few_hundred_addresses_hammer() {
        let (pacer, now) = (Pacer::new(1 << 16, rate()), Time(1));
        for attacker in 0..500 {
            while pacer.take(hash(attacker), now).is_ok() {}
        }
        let honest = (1000..11_000).filter(|key| pacer.take(hash(*key), now).is_ok()).count();
        assert!(honest > 9_900, "{honest} of 10,000");
    }

    #[test]
    fn an_ipv6_customer_is_one_key_and_a_mapped_address_is_its_ipv4() {
        let key = |text: &str| address_key(text.parse().unwrap());
        assert_eq!(key("2001:db8:1:2::1"), key("2001:db8:1:2:ffff::9"));
        assert_ne!(key("2001:db8:1:2::1"), key("2001:db8:1:3::1"));
        assert_eq!(key("::ffff:192.0.2.1"), key("192.0.2.1"));
        assert_ne!(key("192.0.2.1"), key("192.0.2.2"));
    }
}
