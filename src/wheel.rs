//! A hierarchical timer wheel: the time-outs of a shard, a million of them, at 16 bytes each.
//!
//! Inserting costs the same however many there are. There is no cancelling: an entry is a hint to look, and its
//! owner checks on expiry whether the time-out still stands (a packet only moves a `last_seen`, and the keep
//! alive is inserted again for what remains). Varghese and Lauck, "Hashed and hierarchical timing wheels", 1987.
//!
//! Level `k` has 64 slots of `64^k` ticks. An entry lies on the level of the highest base-64 digit in which its
//! deadline differs from the present, and moves down when the present reaches its slot. So each level's entries
//! all come before those of the next, and a jump in time visits only slots with something in them.

use crate::engine::Time;
use std::time::Duration;

const SLOT_BITS: u32 = 6;
const SLOTS: usize = 1 << SLOT_BITS;
const LEVELS: usize = 8;
/// The shortest tick with which every [`Time`] fits the levels.
const TICK_MIN: Duration = Duration::from_micros(100);
const _: () = assert!((u64::MAX as u128) / TICK_MIN.as_nanos() < 1 << (SLOT_BITS as usize * LEVELS));

/// Entries ordered roughly by deadline. See the module's description.
#[derive(Debug)]
pub struct Wheel<T> {
    tick_ns: u64,
    /// The present, in ticks of [`Time`]'s origin; every deadline of an entry is at or after it.
    present: u64,
    levels: Box<[Level<T>; LEVELS]>,
    len: usize,
}

#[derive(Debug)]
struct Level<T> {
    /// A bit for each slot that has entries.
    occupied: u64,
    slots: [Vec<Entry<T>>; SLOTS],
}

#[derive(Clone, Copy, Debug)]
struct Entry<T> {
    /// First tick at which the deadline has passed.
    due: u64,
    value: T,
}

impl<T: Copy> Wheel<T> {
    /// An empty wheel. An entry fires up to one `tick` (at least 100 µs) after its deadline.
    pub fn new(tick: Duration, now: Time) -> Wheel<T> {
        assert!(tick >= TICK_MIN, "a wheel's tick is at least {TICK_MIN:?}");
        let tick_ns = u64::try_from(tick.as_nanos()).expect("a wheel's tick is shorter than 584 years");
        let level = || Level { occupied: 0, slots: std::array::from_fn(|_| Vec::new()) };
        Wheel { tick_ns, present: now.0 / tick_ns, levels: Box::new(std::array::from_fn(|_| level())), len: 0 }
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True when there is no entry.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds an entry. With a deadline that has passed already it fires at the next [`Wheel::advance`].
    pub fn insert(&mut self, deadline: Time, value: T) {
        let due = deadline.0.div_ceil(self.tick_ns).max(self.present);
        self.len += 1;
        self.place(Entry { due, value });
    }

    /// Moves to `now` and appends the value of every entry whose deadline has passed, in the order of their
    /// ticks. A `now` before the last one counts as the last one.
    pub fn advance(&mut self, now: Time, due: &mut Vec<T>) {
        let now = (now.0 / self.tick_ns).max(self.present);
        let fired_before = due.len();
        while let Some((level, slot, start)) = self.next_slot()
            && start <= now
        {
            self.present = start.max(self.present);
            let entries = self.take(level, slot);
            if level == 0 {
                due.extend(entries.into_iter().map(|entry| entry.value));
            } else {
                entries.into_iter().for_each(|entry| self.place(entry));
            }
        }
        self.present = now;
        self.len -= due.len() - fired_before;
    }

    /// When [`Wheel::advance`] is wanted next; `None` when there is no entry. May be earlier than the first
    /// deadline (each time at least one level nearer to it), and is at most one tick later.
    pub fn next_deadline(&self) -> Option<Time> {
        self.next_slot().map(|(_, _, start)| Time(start.saturating_mul(self.tick_ns)))
    }

    /// Bytes of memory held.
    pub fn memory_bytes(&self) -> usize {
        let slots = self.levels.iter().flat_map(|level| &level.slots);
        size_of_val(&*self.levels) + slots.map(|slot| slot.capacity() * size_of::<Entry<T>>()).sum::<usize>()
    }

    fn place(&mut self, entry: Entry<T>) {
        let differing = (entry.due ^ self.present) | (SLOTS as u64 - 1);
        let level = (differing.ilog2() / SLOT_BITS) as usize;
        let slot = digit(entry.due, level);
        self.levels[level].occupied |= 1 << slot;
        self.levels[level].slots[slot].push(entry);
    }

    /// The first slot with entries: its level, its number, and the tick at which it starts.
    fn next_slot(&self) -> Option<(usize, usize, u64)> {
        let level = self.levels.iter().position(|level| level.occupied != 0)?;
        // A level's entries share all higher digits with the present and come at or after its digit, so none wraps.
        let slot = self.levels[level].occupied.trailing_zeros() as usize;
        debug_assert!(slot >= digit(self.present, level));
        let shift = SLOT_BITS * level as u32;
        let higher = self.present >> shift >> SLOT_BITS << SLOT_BITS;
        Some((level, slot, (higher | slot as u64) << shift))
    }

    fn take(&mut self, level: usize, slot: usize) -> Vec<Entry<T>> {
        self.levels[level].occupied &= !(1 << slot);
        std::mem::take(&mut self.levels[level].slots[slot])
    }
}

/// The base-64 digit of a tick that names its slot on a level.
fn digit(tick: u64, level: usize) -> usize {
    (tick >> (SLOT_BITS * level as u32)) as usize % SLOTS
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    const TICK: Duration = Duration::from_millis(10);

    fn ms(ms: u64) -> Time {
        Time(ms * 1_000_000)
    }

    fn advance(wheel: &mut Wheel<u32>, now: Time) -> Vec<u32> {
        let mut due = Vec::new();
        wheel.advance(now, &mut due);
        due
    }

    #[test]
    fn nothing_fires_before_its_deadline_and_all_within_a_tick_of_it() {
        let mut wheel = Wheel::new(TICK, ms(5));
        wheel.insert(ms(101), 1);
        assert!(advance(&mut wheel, ms(100)).is_empty());
        assert!(advance(&mut wheel, Time(ms(101).0 - 1)).is_empty());
        assert_eq!(advance(&mut wheel, ms(111)), [1]);
        assert!(wheel.is_empty());
    }

    #[test]
    fn a_deadline_in_the_past_is_due_at_once() {
        let mut wheel = Wheel::new(TICK, ms(1_000));
        wheel.insert(ms(3), 1);
        assert!(wheel.next_deadline().unwrap() <= ms(1_000));
        assert_eq!(advance(&mut wheel, ms(1_000)), [1]);
        assert_eq!(wheel.next_deadline(), None);
    }

    #[test]
    fn a_jump_of_years_fires_everything_in_order() {
        let mut wheel = Wheel::new(TICK, ms(0));
        let year = 365 * 24 * 3_600_000;
        wheel.insert(ms(200 * year), 3);
        wheel.insert(ms(year), 2);
        wheel.insert(ms(20), 1);
        wheel.insert(Time(u64::MAX), 4);
        assert_eq!(advance(&mut wheel, ms(300 * year)), [1, 2, 3]);
        assert_eq!(wheel.len(), 1);
    }

    #[test]
    fn sleeping_until_the_next_deadline_needs_few_wake_ups() {
        let mut wheel = Wheel::new(TICK, ms(0));
        wheel.insert(ms(24 * 3_600_000), 1);
        let wake_ups = (1..).find(|_| {
            let now = wheel.next_deadline().unwrap();
            !advance(&mut wheel, now).is_empty()
        });
        assert!(wake_ups.unwrap() <= LEVELS);
    }

    #[test]
    fn an_entry_of_eight_bytes_takes_sixteen() {
        assert_eq!(size_of::<Entry<(u32, u32)>>(), 16);
    }

    proptest! {
        #[test]
        fn the_wheel_fires_what_an_ordered_set_fires(
            start in 0u64..1 << 40,
            steps in prop::collection::vec((0u64..4, 0u64..1 << 44, 0u32..45), 1..300),
        ) {
            let mut wheel = Wheel::new(TICK, Time(start));
            let mut twin = BTreeSet::new();
            let mut now = start;
            for (value, (kind, span, shift)) in (0u32..).zip(steps) {
                let span = span >> shift;
                if kind > 0 {
                    let deadline = if kind == 1 { now.saturating_sub(span) } else { now + span };
                    wheel.insert(Time(deadline), value);
                    twin.insert((deadline, value));
                    continue;
                }
                now += span;
                let fired: BTreeSet<u32> = advance(&mut wheel, Time(now)).into_iter().collect();
                let tick = TICK.as_nanos() as u64;
                for &(deadline, value) in &twin {
                    prop_assert!(!fired.contains(&value) || deadline <= now, "fired early");
                    prop_assert!(fired.contains(&value) || deadline + tick > now, "fired late");
                }
                twin.retain(|(_, value)| !fired.contains(value));
                prop_assert_eq!(wheel.len(), twin.len());
                let first = twin.first().map(|(deadline, _)| deadline + tick);
                prop_assert_eq!(wheel.next_deadline().is_none(), first.is_none());
                prop_assert!(wheel.next_deadline().is_none_or(|next| next.0 <= first.unwrap().max(now)));
            }
        }
    }
}
