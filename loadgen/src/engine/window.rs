//! One publisher's closed loop: how many messages may be under way, and which of them are through.

/// A message is under way from being sent until every subscriber that is owed it has it and, above QoS 0, the broker
/// has acknowledged it; then the next may follow. What overtakes an older message waits for it.
#[derive(Debug)]
pub struct Window {
    /// All messages before this one are through.
    first: u64,
    /// Messages sent.
    sent: u64,
    outstanding: u32,
    /// What message `n` still waits for, at `n & mask`.
    waits_for: Box<[u32]>,
}

impl Window {
    /// A window for so many messages, at least 1.
    pub fn new(outstanding: u32) -> Self {
        let waits_for = vec![0; outstanding.next_power_of_two() as usize].into();
        Self { first: 0, sent: 0, outstanding, waits_for }
    }

    /// True when another message may be sent.
    #[inline]
    pub fn has_room(&self) -> bool {
        self.sent - self.first < u64::from(self.outstanding)
    }

    /// The next message was sent, and is through after so many calls of [`Window::reached`].
    #[inline]
    pub fn send(&mut self, waits_for: u32) {
        let at = self.at(self.sent);
        self.waits_for[at] = waits_for;
        self.sent += 1;
        self.advance();
    }

    /// A subscriber has the message with (the low bits of) this number, or the broker acknowledged it.
    #[inline]
    pub fn reached(&mut self, number: u32) {
        let at = self.at(u64::from(number));
        self.waits_for[at] = self.waits_for[at].saturating_sub(1);
        self.advance();
    }

    /// Nothing more is expected of what was sent so far: the session that it was sent in is gone.
    pub fn forget(&mut self) {
        self.waits_for.fill(0);
        self.first = self.sent;
    }

    fn advance(&mut self) {
        while self.first < self.sent && self.waits_for[self.at(self.first)] == 0 {
            self.first += 1;
        }
    }

    fn at(&self, number: u64) -> usize {
        number as usize & (self.waits_for.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(window: &mut Window, waits_for: u32) -> u32 {
        let mut sent = 0;
        while window.has_room() {
            window.send(waits_for);
            sent += 1;
        }
        sent
    }

    #[test]
    fn room_returns_only_when_the_slowest_receiver_has_the_message() {
        let mut window = Window::new(3);
        assert_eq!(fill(&mut window, 2), 3);
        (0..3).for_each(|number| window.reached(number));
        assert_eq!(fill(&mut window, 2), 0);
        window.reached(0);
        assert_eq!(fill(&mut window, 2), 1);
        window.reached(2);
        assert_eq!(fill(&mut window, 2), 0, "message 1 is still under way");
        window.reached(1);
        assert_eq!(fill(&mut window, 2), 2);
    }

    #[test]
    fn numbers_go_round_for_ever() {
        let mut window = Window::new(4);
        for number in 0..10_000_u32 {
            window.send(1);
            window.reached(number);
        }
        assert_eq!(fill(&mut window, 1), 4);
    }

    #[test]
    fn what_was_forgotten_makes_room() {
        let mut window = Window::new(2);
        fill(&mut window, 5);
        window.forget();
        assert_eq!(fill(&mut window, 1), 2);
    }
}
