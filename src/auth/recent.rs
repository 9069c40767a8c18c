//! What was answered lately, for a while and a bounded number of clients.
//!
//! An entry is named by a keyed hash of all that was asked, the password too; the key is drawn at start and leaves memory
//! with the process.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use ring::hmac;

use super::error::AuthError;

/// Names an entry.
pub(super) type Name = [u8; 32];

/// Answers by the name of their question.
pub(super) struct Recent<V> {
    key: hmac::Key,
    entries_max: usize,
    kept: Mutex<Kept<V>>,
}

struct Kept<V> {
    entries: HashMap<Name, (Instant, V)>,
    /// As they were put in; the oldest goes first.
    order: VecDeque<(Name, Instant)>,
}

impl<V: Clone> Recent<V> {
    pub(super) fn new(entries_max: usize) -> Result<Recent<V>, AuthError> {
        let mut key = [0; 32];
        getrandom::fill(&mut key).map_err(AuthError::no_random)?;
        let kept = Kept { entries: HashMap::new(), order: VecDeque::new() };
        Ok(Recent { key: hmac::Key::new(hmac::HMAC_SHA256, &key), entries_max, kept: Mutex::new(kept) })
    }

    /// The name of what was asked; each part counts with its length, so that no two questions share one.
    pub(super) fn name(&self, parts: &[Option<&[u8]>]) -> Name {
        let mut name = Name::default();
        let mut hmac = hmac::Context::with_key(&self.key);
        for part in parts {
            hmac.update(&part.map_or(u64::MAX, |part| part.len() as u64).to_le_bytes());
            hmac.update(part.unwrap_or_default());
        }
        name.copy_from_slice(hmac.sign().as_ref());
        name
    }

    /// An answer that is still good.
    pub(super) fn get(&self, name: &Name, now: Instant) -> Option<V> {
        self.kept().entries.get(name).filter(|(until, _)| *until > now).map(|(_, value)| value.clone())
    }

    /// Keeps an answer until then.
    pub(super) fn put(&self, name: Name, value: V, now: Instant, until: Instant) {
        let mut kept = self.kept();
        kept.entries.insert(name, (until, value));
        kept.order.push_back((name, until));
        while kept.order.front().is_some_and(|(_, until)| *until <= now) || kept.order.len() > self.entries_max {
            let Some((name, until)) = kept.order.pop_front() else { break };
            // An entry that was put in anew meanwhile has another place in the order.
            if kept.entries.get(&name).is_some_and(|entry| entry.0 == until) {
                kept.entries.remove(&name);
            }
        }
    }

    /// Forgets everything.
    pub(super) fn clear(&self) {
        let mut kept = self.kept();
        kept.entries.clear();
        kept.order.clear();
    }

    fn kept(&self) -> MutexGuard<'_, Kept<V>> {
        // Nothing in here panics half-way through a change.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn an_answer_is_kept_for_its_time_only() {
        let recent = Recent::new(10).unwrap();
        let (now, name) = (Instant::now(), recent.name(&[Some(b"ann")]));
        recent.put(name, 1, now, now + Duration::from_secs(5));
        assert_eq!(recent.get(&name, now + Duration::from_secs(4)), Some(1));
        assert_eq!(recent.get(&name, now + Duration::from_secs(5)), None);
        recent.clear();
        assert_eq!(recent.get(&name, now), None);
    }

    #[test]
    fn never_more_are_kept_than_allowed_and_the_oldest_go_first() {
        let recent = Recent::new(3).unwrap();
        let now = Instant::now();
        let names: Vec<Name> = (0..10u8).map(|n| recent.name(&[Some(&[n])])).collect();
        for (n, name) in names.iter().enumerate() {
            recent.put(*name, n, now, now + Duration::from_secs(5));
            assert!(recent.kept().entries.len() <= 3);
        }
        let there: Vec<usize> = names.iter().filter_map(|name| recent.get(name, now)).collect();
        assert_eq!(there, [7, 8, 9]);
    }

    #[test]
    fn putting_the_same_again_and_again_neither_grows_nor_loses_it() {
        let recent = Recent::new(3).unwrap();
        let now = Instant::now();
        let name = recent.name(&[None]);
        for n in 0..10u32 {
            recent.put(name, n, now, now + Duration::from_secs(5 + u64::from(n)));
        }
        assert_eq!(recent.get(&name, now), Some(9));
        assert!(recent.kept().order.len() <= 3);
    }

    #[test]
    fn parts_cannot_be_shifted_from_one_to_the_next() {
        let recent = Recent::<()>::new(3).unwrap();
        let names = [
            recent.name(&[Some(b"ab"), Some(b"c")]),
            recent.name(&[Some(b"a"), Some(b"bc")]),
            recent.name(&[Some(b"abc"), None]),
            recent.name(&[Some(b"abc"), Some(b"")]),
        ];
        assert!((0..4).all(|a| (0..a).all(|b| names[a] != names[b])));
    }
}
