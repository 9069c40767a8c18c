//! Figures as people read them: three or four digits, the unit that fits, groups of thousands.

use std::fmt;

/// A duration given in microseconds: `850 ns`, `12.3 µs`, `4.56 ms`, `1.20 s`.
pub struct Micros(pub f64);

impl fmt::Display for Micros {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let us = self.0;
        let text = match us {
            us if us < 1.0 => format!("{:.0} ns", us * 1e3),
            us if us < 1e3 => format!("{} µs", Digits(us)),
            us if us < 1e6 => format!("{} ms", Digits(us / 1e3)),
            us => format!("{} s", Digits(us / 1e6)),
        };
        f.pad(&text)
    }
}

/// Memory: `980 B`, `12.3 KiB`, `1.20 GiB`.
pub struct Bytes(pub f64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.0;
        let text = match bytes.abs() {
            size if size < 10_240.0 => format!("{} B", Count(bytes)),
            size if size < 1024f64.powi(2) => format!("{} KiB", Digits(bytes / 1024.0)),
            size if size < 1024f64.powi(3) => format!("{} MiB", Digits(bytes / 1024f64.powi(2))),
            _ => format!("{} GiB", Digits(bytes / 1024f64.powi(3))),
        };
        f.pad(&text)
    }
}

/// A whole number in groups of thousands: `1,234,567`; small ones that are not whole keep some digits.
pub struct Count(pub f64);

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.fract() != 0.0 && self.0.abs() < 100.0 {
            return f.pad(&Digits(self.0).to_string());
        }
        let digits = format!("{:.0}", self.0.abs());
        let mut text = String::from(if self.0 <= -0.5 { "-" } else { "" });
        for (index, digit) in digits.chars().enumerate() {
            if index > 0 && (digits.len() - index).is_multiple_of(3) {
                text.push(',');
            }
            text.push(digit);
        }
        f.pad(&text)
    }
}

/// At least three digits: `0.0123`, `1.23`, `12.3`, `123`, `1234`.
pub struct Digits(pub f64);

impl fmt::Display for Digits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Rounding may reach the next power of ten, which needs a decimal less.
        let decimals = match self.0.abs() {
            size if size == 0.0 || size >= 99.95 => 0,
            size if size >= 9.995 => 1,
            size if size >= 0.9995 => 2,
            size if size >= 0.09995 => 3,
            _ => 4,
        };
        f.pad(&format!("{:.decimals$}", self.0))
    }
}

/// A figure that may be missing: then a dash.
pub struct Or<T>(pub Option<T>);

impl<T: fmt::Display> fmt::Display for Or<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(value) => value.fmt(f),
            None => f.pad("–"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unit_fits_the_size() {
        let times =
            [(0.512, "512 ns"), (12.34, "12.3 µs"), (999.99, "1000 µs"), (4_560.0, "4.56 ms"), (61e6, "61.0 s")];
        times.into_iter().for_each(|(us, text)| assert_eq!(Micros(us).to_string(), text));
        let sizes = [(1_021.0, "1,021 B"), (12_595.0, "12.3 KiB"), (8_493_466.0, "8.10 MiB"), (-300.0, "-300 B")];
        sizes.into_iter().for_each(|(bytes, text)| assert_eq!(Bytes(bytes).to_string(), text));
    }

    #[test]
    fn thousands_are_grouped() {
        for (count, text) in
            [(0.0, "0"), (999.0, "999"), (1_000.0, "1,000"), (1_234_567.4, "1,234,567"), (0.4, "0.400")]
        {
            assert_eq!(Count(count).to_string(), text);
        }
    }

    #[test]
    fn three_digits_stay_three_when_rounded_up() {
        for (value, text) in [(9.996, "10.0"), (99.96, "100"), (0.9996, "1.00"), (0.0, "0"), (0.01234, "0.0123")] {
            assert_eq!(Digits(value).to_string(), text);
        }
    }

    #[test]
    fn widths_hold_for_all() {
        assert_eq!(format!("[{:>8}] [{:>4}]", Micros(12.3), Or::<Digits>(None)), "[ 12.3 µs] [   –]");
    }
}
