//! Subscriptions that rules keep from a client: what SUBACK granted, and the rules of now do not, or not at that QoS.
//!
//! A client may have very many, and a SUBSCRIBE name each of them: they are found by their filters, and counted as they
//! come and go. The order of the filters is what lets `renew` look at them a piece in each turn.

use std::collections::BTreeMap;
use std::ops::Bound;

use crate::index::Subscriber;

/// The subscriptions of one session, by topic filter; `$share/` and the group before it for a shared subscription.
#[derive(Debug, Default)]
pub struct Withheld {
    by_filter: BTreeMap<Box<str>, Kept>,
    mute: usize,
}

/// A subscription that was granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// As it was granted.
    pub granted: Subscriber,
    /// It is out of the index; else it is served at a lower QoS.
    pub is_mute: bool,
}

impl Withheld {
    pub fn is_empty(&self) -> bool {
        self.by_filter.is_empty()
    }

    pub fn len(&self) -> usize {
        self.by_filter.len()
    }

    /// How many are mute.
    pub fn mute(&self) -> usize {
        self.mute
    }

    /// Whether this one is.
    pub fn is_mute(&self, filter: &str) -> bool {
        self.by_filter.get(filter).is_some_and(|kept| kept.is_mute)
    }

    /// Enters one, or says anew of one how it is kept from the client.
    pub fn keep(&mut self, filter: Box<str>, kept: Kept) {
        self.mute += usize::from(kept.is_mute);
        let former = self.by_filter.insert(filter, kept);
        self.mute -= usize::from(former.is_some_and(|former| former.is_mute));
    }

    /// Nothing is withheld of this one any more; returns how it was.
    pub fn release(&mut self, filter: &str) -> Option<Kept> {
        let kept = self.by_filter.remove(filter)?;
        self.mute -= usize::from(kept.is_mute);
        Some(kept)
    }

    /// The first behind this filter, in their order; the first of all behind `None`.
    pub fn next_behind(&self, filter: Option<&str>) -> Option<(Box<str>, Kept)> {
        let from = filter.map_or(Bound::Unbounded, Bound::Excluded);
        let (filter, kept) = self.by_filter.range::<str, _>((from, Bound::Unbounded)).next()?;
        Some((filter.clone(), *kept))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_mute_are_counted_whatever_is_kept_and_released(
            steps in prop::collection::vec((0..6_u8, any::<Option<bool>>()), 0..40),
        ) {
            let (mut withheld, mut plain) = (Withheld::default(), BTreeMap::new());
            for (name, step) in steps {
                let filter = name.to_string();
                let granted = Subscriber::new(u32::from(name), 1);
                match step {
                    Some(is_mute) => {
                        plain.insert(filter.clone(), is_mute);
                        withheld.keep(filter.into(), Kept { granted, is_mute });
                    }
                    None => {
                        let former = plain.remove(&filter).map(|is_mute| Kept { granted, is_mute });
                        prop_assert_eq!(withheld.release(&filter), former);
                    }
                }
                prop_assert_eq!((withheld.len(), withheld.is_empty()), (plain.len(), plain.is_empty()));
                prop_assert_eq!(withheld.mute(), plain.values().filter(|is_mute| **is_mute).count());
            }
            let mut at = None;
            for (filter, is_mute) in plain {
                let (next, kept) = withheld.next_behind(at.as_deref()).expect("one more");
                prop_assert_eq!((&*next, kept.is_mute, withheld.is_mute(&filter)), (&*filter, is_mute, is_mute));
                at = Some(next);
            }
            prop_assert_eq!(withheld.next_behind(at.as_deref()), None);
        }
    }
}
