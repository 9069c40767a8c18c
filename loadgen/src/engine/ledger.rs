//! What subscribers received of each flow they follow: in order, late, twice, or not at all.
//!
//! A thread has one [`Ledger`]. A subscriber (or the members of a shared subscription together) owns some of its
//! [`Range`]s: runs of flows with neighbouring numbers, about which the same is expected. Four bytes per flow and
//! subscriber, and a little more while something is missing.

use std::collections::{BTreeMap, HashMap};

use ringmq::codec::QoS;

use crate::measure::Faults;

/// A message further ahead than this is no message of ours.
const GAP_MAX: u32 = 1 << 24;
/// What a retained message's entry holds when its subscriber has subscribed and waits for it. Above: sequence + 2.
const WAITS: u32 = 1;

/// What is expected of a flow at a subscriber.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expectation {
    /// The lower of the QoS of publication and subscription.
    pub qos: QoS,
    /// Every message has to arrive. Otherwise some may be lost: to a clean session, or with an aborted connection.
    pub owed: bool,
    /// Published before the subscriber came: exactly the last message has to arrive, as a retained one.
    pub retained: bool,
    /// How many deliveries of one message are no fault: the broker may send one for each filter of the client that
    /// matches `[MQTT-3.3.4-2]`, or one for all.
    pub copies: u16,
    /// The publisher may send a message again, at QoS 1, as it comes and goes.
    pub sender_repeats: bool,
    /// What comes is paid for, but may be missing: the broker granted a QoS at which it keeps nothing for who is away.
    pub excused: bool,
    /// Arrives in order. Members of a shared subscription do not see each other's order.
    pub ordered: bool,
}

/// A run of flows with the same expectation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// The first flow.
    pub first: u32,
    /// How many.
    pub count: u32,
    /// The publication that all belong to.
    pub publication: u16,
    /// Of the subscriber's subscriptions that match, the one with the highest QoS.
    pub subscription: u16,
    /// What is expected.
    pub expectation: Expectation,
}

impl Range {
    /// The flow after the last.
    pub fn end(&self) -> u32 {
        self.first + self.count
    }
}

/// Which of a ledger's ranges are a subscriber's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Account {
    first: u32,
    count: u32,
}

/// One flow of one account.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    at: u32,
    range: u32,
    /// The publication that the flow belongs to.
    pub publication: u16,
    /// See [`Expectation::owed`].
    pub owed: bool,
    /// See [`Expectation::retained`].
    pub retained: bool,
}

impl Entry {
    /// What no other entry of the ledger is called.
    pub fn number(self) -> u32 {
        self.at
    }
}

/// What is known of a delivery besides its number.
#[derive(Clone, Copy, Debug, Default)]
pub struct Delivery {
    /// The DUP flag.
    pub dup: bool,
    /// The receiver has come back after a connection that ended.
    pub receiver_came_back: bool,
}

/// Deliveries of what was delivered before, of a flow that several filters match.
#[derive(Clone, Copy, Debug, Default)]
struct Copies {
    /// The message that was last delivered again.
    sequence: u32,
    /// How often, one delivery after the other.
    further: u16,
    /// Of all messages together, as far as they are no fault.
    all: u64,
}

/// The accounts of one thread's subscribers.
#[derive(Debug, Default)]
pub struct Ledger {
    ranges: Vec<(Range, u32)>,
    /// For each flow of each range: the sequence number that comes next.
    next: Vec<u32>,
    /// What was skipped and has not come since, as first → end, for entries that miss something.
    gaps: HashMap<u32, BTreeMap<u32, u32>>,
    /// For entries with several filters, once a message came again.
    copies: HashMap<u32, Copies>,
    /// What went wrong so far.
    pub faults: Faults,
}

impl Ledger {
    /// Adds an account; its ranges are in rising order and do not overlap.
    pub fn open(&mut self, ranges: &[Range]) -> Account {
        let account = Account { first: self.ranges.len() as u32, count: ranges.len() as u32 };
        for range in ranges {
            self.ranges.push((*range, self.next.len() as u32));
            self.next.resize(self.next.len() + range.count as usize, 0);
        }
        account
    }

    /// The entry of a flow; `None` when nothing of it is expected.
    #[inline]
    pub fn find(&self, account: Account, flow: u32) -> Option<Entry> {
        let ranges = &self.ranges[account.first as usize..][..account.count as usize];
        let behind =
            if ranges.len() < 2 { ranges.len() } else { ranges.partition_point(|(range, _)| range.first <= flow) };
        let number = behind.checked_sub(1)?;
        let (range, at) = &ranges[number];
        let offset = flow.checked_sub(range.first).filter(|offset| *offset < range.count)?;
        let Expectation { owed, retained, .. } = range.expectation;
        let range_number = account.first + number as u32;
        Some(Entry { at: at + offset, range: range_number, publication: range.publication, owed, retained })
    }

    fn expectation(&self, entry: Entry) -> Expectation {
        self.ranges[entry.range as usize].0.expectation
    }

    /// The subscriber has subscribed, perhaps not for the first time, and gets what is retained (again): how many
    /// messages it is owed now that it was not owed before.
    pub fn subscribed(&mut self, account: Account) -> u64 {
        let mut owed = 0;
        for (range, at) in &self.ranges[account.first as usize..][..account.count as usize] {
            if !range.expectation.retained {
                continue;
            }
            for next in &mut self.next[*at as usize..][..range.count as usize] {
                owed += u64::from(*next == 0 && range.expectation.owed);
                *next = WAITS;
            }
            if range.expectation.copies > 1 {
                (*at..at + range.count).for_each(|at| _ = self.copies.remove(&at));
            }
        }
        owed
    }

    /// The broker granted some subscription of an account a lower QoS than was asked for: `granted` tells for a range
    /// the QoS that is left of it, and whether all of it has to arrive at that.
    pub fn lower(&mut self, account: Account, granted: impl Fn(&Range) -> (QoS, bool)) {
        for (range, _) in &mut self.ranges[account.first as usize..][..account.count as usize] {
            let (qos, arrives) = granted(range);
            range.expectation.qos = qos;
            range.expectation.excused |= !arrives;
        }
    }

    /// Whether an entry's messages arrive in order, also if some are left out.
    pub fn is_ordered(&self, entry: Entry) -> bool {
        self.expectation(entry).ordered
    }

    /// Whether this message was entered before.
    pub fn holds(&self, entry: Entry, sequence: u32) -> bool {
        let gaps = self.gaps.get(&entry.at);
        let before = gaps.and_then(|gaps| gaps.range(..=sequence).next_back());
        sequence < self.next[entry.at as usize] && before.is_none_or(|(_, end)| sequence >= *end)
    }

    /// Enters the delivery of a live message. True when it is new here.
    #[inline]
    pub fn enter(&mut self, entry: Entry, sequence: u32, delivery: Delivery) -> bool {
        let next = &mut self.next[entry.at as usize];
        if sequence == *next && !entry.retained {
            *next += 1;
            return true;
        }
        self.enter_unusual(entry, sequence, delivery)
    }

    #[cold]
    fn enter_unusual(&mut self, entry: Entry, sequence: u32, delivery: Delivery) -> bool {
        let next = self.next[entry.at as usize];
        // Of what is retained it asked for no live message.
        if entry.retained || sequence.saturating_sub(next) > GAP_MAX {
            self.faults.corrupted += 1;
            return false;
        }
        if sequence > next {
            self.gaps.entry(entry.at).or_default().insert(next, sequence);
            self.next[entry.at as usize] = sequence + 1;
            return true;
        }
        if self.fill_gap(entry.at, sequence) {
            self.faults.reordered += u64::from(self.expectation(entry).ordered && !delivery.dup);
            return true;
        }
        self.repeated(entry, sequence, delivery);
        false
    }

    /// Enters the delivery of a retained message. True when it is new here.
    pub fn enter_retained(&mut self, entry: Entry, sequence: u32, delivery: Delivery) -> bool {
        let next = &mut self.next[entry.at as usize];
        if *next <= WAITS {
            *next = sequence.saturating_add(2);
            return true;
        }
        self.repeated(entry, sequence, delivery);
        false
    }

    fn repeated(&mut self, entry: Entry, sequence: u32, delivery: Delivery) {
        let expectation = self.expectation(entry);
        // Sending again to the same client takes the DUP flag [MQTT-3.3.1-1]; to another member of a shared subscription
        // it is a message like any other.
        let marked = delivery.dup || !expectation.ordered;
        let receiver = delivery.receiver_came_back && expectation.qos == QoS::AtLeastOnce && marked;
        if receiver {
            self.faults.redelivered += 1;
        } else if self.is_copy(entry, sequence, expectation.copies) {
            // Whether this is how the broker does it is seen at the end.
        } else if expectation.sender_repeats {
            self.faults.redelivered += 1;
        } else {
            self.faults.duplicated += 1;
        }
    }

    /// Whether a delivery may be one for another filter. Those of one message come one after the other.
    fn is_copy(&mut self, entry: Entry, sequence: u32, copies: u16) -> bool {
        if copies < 2 {
            return false;
        }
        let seen = self.copies.entry(entry.at).or_default();
        if seen.sequence != sequence {
            *seen = Copies { sequence, further: 0, ..*seen };
        }
        seen.further = seen.further.saturating_add(1);
        let allowed = seen.further < copies;
        seen.all += u64::from(allowed);
        allowed
    }

    /// Takes a number out of what is missing.
    fn fill_gap(&mut self, at: u32, sequence: u32) -> bool {
        let Some(gaps) = self.gaps.get_mut(&at) else { return false };
        let found = gaps.range(..=sequence).next_back().map(|(first, end)| (*first, *end));
        let Some((first, end)) = found.filter(|(_, end)| sequence < *end) else { return false };
        gaps.remove(&first);
        if first < sequence {
            gaps.insert(first, sequence);
        }
        if sequence + 1 < end {
            gaps.insert(sequence + 1, end);
        }
        if gaps.is_empty() {
            self.gaps.remove(&at);
        }
        true
    }

    /// Counts what never came, given how many messages each flow has.
    pub fn close(&mut self, sent: &[u32]) {
        for (range, at) in &self.ranges {
            let flows = (range.first..).zip(&self.next[*at as usize..][..range.count as usize]);
            for ((flow, next), at) in flows.zip(*at..) {
                let sent = sent.get(flow as usize).copied().unwrap_or(0);
                let expectation = range.expectation;
                if let Some(copies) = self.copies.get(&at).filter(|_| !expectation.retained) {
                    let gaps = self.gaps.get(&at).into_iter().flatten();
                    let missing: u64 = gaps.map(|(first, end)| u64::from(end - first)).sum();
                    self.faults.duplicated += surplus(copies, expectation, u64::from(*next) - missing);
                }
                let lost = if expectation.retained {
                    // Another one than the last is as good as none.
                    u64::from(*next >= WAITS && sent > 0 && *next != sent + 1)
                } else {
                    self.faults.corrupted += u64::from(*next > sent);
                    let missing = self.gaps.get(&at).into_iter().flatten().map(|(first, end)| u64::from(end - first));
                    u64::from(sent.saturating_sub(*next)) + missing.sum::<u64>()
                };
                if expectation.owed && !expectation.excused {
                    *lost_at(&mut self.faults, expectation.qos) += lost;
                }
            }
        }
    }
}

/// How many copies are no custom of a broker, which sends one for each filter that matches, or one for all. Of one that
/// sends further ones for less than half of the messages they are faults.
fn surplus(copies: &Copies, expectation: Expectation, messages: u64) -> u64 {
    let allowed = messages * u64::from(expectation.copies - 1);
    match copies.all * 2 < messages && !expectation.sender_repeats {
        true => copies.all,
        false => copies.all.saturating_sub(allowed),
    }
}

fn lost_at(faults: &mut Faults, qos: QoS) -> &mut u64 {
    match qos {
        QoS::AtMostOnce => &mut faults.lost_qos0,
        QoS::AtLeastOnce => &mut faults.lost_qos1,
        QoS::ExactlyOnce => &mut faults.lost_qos2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWED: Expectation = Expectation {
        qos: QoS::AtLeastOnce,
        owed: true,
        retained: false,
        copies: 1,
        excused: false,
        sender_repeats: false,
        ordered: true,
    };

    fn range(first: u32, count: u32, expectation: Expectation) -> Range {
        Range { first, count, publication: 0, subscription: 0, expectation }
    }

    /// Enters deliveries of flow 3, then closes with so many sent.
    fn account_of(expectation: Expectation, sequences: &[u32], sent: u32) -> (Faults, usize) {
        let mut ledger = Ledger::default();
        let account = ledger.open(&[range(3, 1, expectation)]);
        let entry = ledger.find(account, 3).unwrap();
        let enter = |sequence: &&u32| ledger.enter(entry, **sequence, Delivery::default());
        let new = sequences.iter().filter(enter).count();
        ledger.close(&[0, 0, 0, sent]);
        (ledger.faults, new)
    }

    #[test]
    fn order_is_no_fault() {
        assert_eq!(account_of(OWED, &[0, 1, 2], 3), (Faults::default(), 3));
    }

    #[test]
    fn a_late_message_is_reordered_and_not_lost() {
        assert_eq!(account_of(OWED, &[0, 2, 1], 3), (Faults { reordered: 1, ..Faults::default() }, 3));
        let shared = Expectation { ordered: false, ..OWED };
        assert_eq!(account_of(shared, &[2, 1, 0], 3), (Faults::default(), 3));
    }

    #[test]
    fn a_second_delivery_is_a_duplicate() {
        assert_eq!(account_of(OWED, &[0, 1, 1, 0], 2), (Faults { duplicated: 2, ..Faults::default() }, 2));
    }

    #[test]
    fn filters_that_overlap_allow_one_delivery_each_or_one_for_all() {
        let of = |sequences: &[u32]| account_of(Expectation { copies: 3, ..OWED }, sequences, 4).0.duplicated;
        for (sequences, duplicated) in [
            (&[0, 1, 2, 3][..], 0),
            (&[0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3], 0),
            (&[0, 1, 2, 3, 0, 0, 1, 1, 2, 2, 3, 3], 0),
            // Once more than there are filters.
            (&[0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 3, 3, 3], 1),
            (&[0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3, 1, 1], 2),
            // One for all, but for one message.
            (&[0, 1, 1, 2, 3], 1),
        ] {
            assert_eq!(of(sequences), duplicated, "{sequences:?}");
        }
    }

    #[test]
    fn what_was_granted_at_a_lower_qos_is_missed_at_that_or_not_at_all() {
        for (arrives, lost_qos0) in [(true, 2), (false, 0)] {
            let mut ledger = Ledger::default();
            let account = ledger.open(&[range(0, 1, OWED)]);
            ledger.lower(account, |_| (QoS::AtMostOnce, arrives));
            assert!(ledger.find(account, 0).unwrap().owed, "what comes is paid for");
            ledger.close(&[2]);
            assert_eq!(ledger.faults, Faults { lost_qos0, ..Faults::default() });
        }
    }

    #[test]
    fn gaps_and_what_never_came_at_the_end_are_lost_by_qos() {
        let lost = |qos| account_of(Expectation { qos, ..OWED }, &[0, 3], 6).0;
        assert_eq!(lost(QoS::AtMostOnce), Faults { lost_qos0: 4, ..Faults::default() });
        assert_eq!(lost(QoS::AtLeastOnce), Faults { lost_qos1: 4, ..Faults::default() });
        assert_eq!(lost(QoS::ExactlyOnce), Faults { lost_qos2: 4, ..Faults::default() });
        let not_owed = Expectation { owed: false, ..OWED };
        assert_eq!(account_of(not_owed, &[0, 3], 6).0, Faults::default());
    }

    #[test]
    fn a_sequence_that_was_never_sent_is_corruption() {
        assert_eq!(account_of(OWED, &[0, 1, 2], 2).0, Faults { corrupted: 1, ..Faults::default() });
        let far = account_of(OWED, &[0, u32::MAX, 1], 2);
        assert_eq!(far, (Faults { corrupted: 1, ..Faults::default() }, 2));
    }

    #[test]
    fn a_gap_in_the_middle_can_be_filled_from_anywhere() {
        let (faults, new) = account_of(OWED, &[9, 4, 0, 8, 6, 4], 10);
        assert_eq!(new, 5);
        assert_eq!(faults, Faults { lost_qos1: 5, reordered: 4, duplicated: 1, ..Faults::default() });
    }

    #[test]
    fn at_qos_1_a_second_delivery_after_a_reconnect_is_allowed() {
        for (qos, came_back, sender_repeats, allowed) in [
            (QoS::AtLeastOnce, true, false, true),
            (QoS::AtLeastOnce, false, true, true),
            (QoS::AtLeastOnce, false, false, false),
            (QoS::ExactlyOnce, true, false, false),
            (QoS::AtMostOnce, true, false, false),
        ] {
            let mut ledger = Ledger::default();
            let account = ledger.open(&[range(0, 1, Expectation { qos, sender_repeats, ..OWED })]);
            let entry = ledger.find(account, 0).unwrap();
            let delivery = Delivery { receiver_came_back: came_back, dup: true };
            assert!(ledger.enter(entry, 0, delivery));
            assert!(!ledger.enter(entry, 0, delivery));
            assert_eq!((ledger.faults.redelivered, ledger.faults.duplicated), (allowed.into(), (!allowed).into()));
        }
    }

    #[test]
    fn a_second_delivery_without_dup_is_allowed_to_another_member_of_a_share_only() {
        let again = |ordered| {
            let mut ledger = Ledger::default();
            let account = ledger.open(&[range(0, 1, Expectation { ordered, ..OWED })]);
            let entry = ledger.find(account, 0).unwrap();
            (0..2).for_each(|_| _ = ledger.enter(entry, 0, Delivery { receiver_came_back: true, dup: false }));
            (ledger.faults.redelivered, ledger.faults.duplicated)
        };
        assert_eq!((again(true), again(false)), ((0, 1), (1, 0)));
    }

    #[test]
    fn who_comes_after_gets_exactly_the_last_message_as_a_retained_one() {
        let retained = Expectation { retained: true, ..OWED };
        for (sequences, faults) in [
            (&[4][..], Faults::default()),
            (&[], Faults { lost_qos1: 1, ..Faults::default() }),
            (&[3], Faults { lost_qos1: 1, ..Faults::default() }),
            (&[4, 4], Faults { duplicated: 1, ..Faults::default() }),
        ] {
            let mut ledger = Ledger::default();
            let account = ledger.open(&[range(0, 1, retained)]);
            assert_eq!(ledger.subscribed(account), 1);
            assert_eq!(ledger.subscribed(account), 0, "owed once");
            let entry = ledger.find(account, 0).unwrap();
            for sequence in sequences {
                ledger.enter_retained(entry, *sequence, Delivery::default());
            }
            ledger.close(&[5]);
            assert_eq!(ledger.faults, faults, "{sequences:?}");
        }
    }

    #[test]
    fn who_subscribes_again_gets_what_is_retained_again() {
        let mut ledger = Ledger::default();
        let account = ledger.open(&[range(0, 1, Expectation { retained: true, owed: false, ..OWED })]);
        for _ in 0..3 {
            assert_eq!(ledger.subscribed(account), 0);
            let entry = ledger.find(account, 0).unwrap();
            assert!(ledger.enter_retained(entry, 4, Delivery::default()));
            assert!(!ledger.enter_retained(entry, 4, Delivery::default()));
        }
        assert_eq!(ledger.faults, Faults { duplicated: 3, ..Faults::default() });
    }

    #[test]
    fn a_live_message_to_who_is_owed_only_a_retained_one_is_corruption() {
        let retained = Expectation { retained: true, ..OWED };
        assert_eq!(account_of(retained, &[0], 1).0, Faults { corrupted: 1, ..Faults::default() });
    }

    #[test]
    fn who_never_subscribed_is_owed_no_retained_message() {
        assert_eq!(account_of(Expectation { retained: true, ..OWED }, &[], 1).0, Faults::default());
    }

    #[test]
    fn an_account_knows_its_own_flows_only() {
        let mut ledger = Ledger::default();
        let one = ledger.open(&[range(3, 2, OWED), range(9, 1, OWED)]);
        let other = ledger.open(&[range(4, 1, OWED)]);
        let none = ledger.open(&[]);
        let known = |account| (0..12).filter(|flow| ledger.find(account, *flow).is_some()).collect::<Vec<_>>();
        assert_eq!(known(one), [3, 4, 9]);
        assert_eq!(known(other), [4]);
        assert!(known(none).is_empty());
    }
}
