//! Axes: where a value stands, which values are named, and how.

use super::super::units::{Bytes, Count, Digits, Micros};

/// What an axis measures.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// So many, or so many per second.
    Count,
    /// Microseconds.
    Micros,
    /// Bytes.
    Bytes,
    /// Percent of a core.
    Percent,
    /// Seconds since the start of a run.
    Seconds,
    /// log10 of 1 / (1 - quantile): each step is one nine more.
    Nines,
}

impl Unit {
    /// A value on an axis, as short as may be.
    pub fn short(self, value: f64) -> String {
        match self {
            Self::Count => short_count(value),
            Self::Micros => trimmed(&Micros(value).to_string()),
            Self::Bytes => trimmed(&Bytes(value).to_string()),
            Self::Percent => format!("{} %", Count(value.round())),
            Self::Seconds => seconds(value),
            Self::Nines => nines(value),
        }
    }

    /// A value in full.
    pub fn full(self, value: f64) -> String {
        match self {
            Self::Count => Count(value.round()).to_string(),
            Self::Micros => Micros(value).to_string(),
            Self::Bytes => Bytes(value).to_string(),
            Self::Percent => format!("{} %", Digits(value)),
            Self::Seconds => format!("{value:.1} s"),
            Self::Nines => nines(value),
        }
    }

    /// What steps are counted in: round numbers of bytes are round in KiB or MiB.
    fn base(self, span: f64) -> f64 {
        match self {
            Self::Bytes if span >= 1024.0 => 1024f64.powf(span.log(1024.0).floor()),
            _ => 1.0,
        }
    }
}

fn short_count(value: f64) -> String {
    match value.abs() {
        size if size >= 1e6 => format!("{} M", trimmed(&Digits(value / 1e6).to_string())),
        size if size >= 1e4 => format!("{} k", trimmed(&Digits(value / 1e3).to_string())),
        _ => Count(value).to_string(),
    }
}

/// Without zeros behind the point: `10.0 ms` is `10 ms`.
fn trimmed(text: &str) -> String {
    let (number, unit) = text.split_once(' ').unwrap_or((text, ""));
    let number = if number.contains('.') { number.trim_end_matches('0').trim_end_matches('.') } else { number };
    format!("{number} {unit}").trim_end().to_owned()
}

fn seconds(value: f64) -> String {
    match value {
        value if value >= 7_200.0 => format!("{} h", trimmed(&Digits(value / 3_600.0).to_string())),
        value if value >= 300.0 => format!("{} min", trimmed(&Digits(value / 60.0).to_string())),
        _ => format!("{} s", trimmed(&format!("{value:.1}"))),
    }
}

fn nines(value: f64) -> String {
    let percent = 100.0 * (1.0 - 10f64.powf(-value));
    let decimals = (value.ceil() as usize).saturating_sub(2);
    trimmed(&format!("{percent:.decimals$} %"))
}

/// One axis.
#[derive(Clone, Copy)]
pub struct Scale {
    from: f64,
    to: f64,
    logarithmic: bool,
    unit: Unit,
}

impl Scale {
    /// From nothing to a little above the largest.
    pub fn linear(unit: Unit, values: impl Iterator<Item = f64>) -> Self {
        let most = values.fold(0.0, f64::max);
        let step = step(most.max(1e-9) * 1.04 / 4.0, unit);
        Self { from: 0.0, to: (most / step).ceil().max(1.0) * step, logarithmic: false, unit }
    }

    /// Exactly from here to there.
    pub fn exact(unit: Unit, from: f64, to: f64) -> Self {
        Self { from, to: if to > from { to } else { from + 1.0 }, logarithmic: false, unit }
    }

    /// Whole decades around all values, which are above 0.
    pub fn logarithmic(unit: Unit, values: impl Iterator<Item = f64>) -> Self {
        let (least, most) = values.fold((f64::MAX, f64::MIN_POSITIVE), |(a, b), value| (a.min(value), b.max(value)));
        let least = least.min(most).max(1e-3);
        let from = 10f64.powf(least.log10().floor());
        Self { from, to: 10f64.powf(most.log10().ceil()).max(from * 10.0), logarithmic: true, unit }
    }

    /// Where a value stands between 0 and 1.
    pub fn place(&self, value: f64) -> f64 {
        let place = if self.logarithmic {
            (value.max(self.from) / self.from).log10() / (self.to / self.from).log10()
        } else {
            (value - self.from) / (self.to - self.from)
        };
        place.clamp(0.0, 1.0)
    }

    /// The values that are named, about `wanted` of them.
    pub fn ticks(&self, wanted: usize) -> Vec<f64> {
        if self.logarithmic {
            return self.decades();
        }
        let step = step((self.to - self.from) / wanted as f64, self.unit);
        let first = (self.from / step).ceil() as i64;
        let ticks = (first..).map(|index| index as f64 * step);
        ticks.take_while(|tick| *tick <= self.to + step * 1e-6).collect()
    }

    fn decades(&self) -> Vec<f64> {
        let few = (self.to / self.from).log10() < 2.5;
        let decades = (0..).map(|power| self.from * 10f64.powi(power)).take_while(|decade| *decade <= self.to * 1.001);
        let fractions: &[f64] = if few { &[1.0, 2.0, 5.0] } else { &[1.0] };
        let ticks = decades.flat_map(|decade| fractions.iter().map(move |fraction| decade * fraction));
        ticks.filter(|tick| *tick <= self.to * 1.001).collect()
    }

    /// A value of this axis in short.
    pub fn label(&self, value: f64) -> String {
        self.unit.short(value)
    }

    /// What it measures.
    pub fn unit(&self) -> Unit {
        self.unit
    }
}

/// The smallest round step that is not below `wanted`.
fn step(wanted: f64, unit: Unit) -> f64 {
    const CLOCK: [f64; 11] =
        [60.0, 120.0, 300.0, 600.0, 900.0, 1_800.0, 3_600.0, 7_200.0, 10_800.0, 21_600.0, 43_200.0];
    if unit == Unit::Nines {
        return wanted.ceil().max(1.0);
    }
    if unit == Unit::Seconds && wanted > 20.0 {
        return CLOCK.into_iter().find(|step| *step >= wanted).unwrap_or(86_400.0);
    }
    let base = unit.base(wanted);
    let wanted = wanted / base;
    let power = 10f64.powf(wanted.log10().floor());
    let fraction = [1.0, 2.0, 5.0, 10.0].into_iter().find(|fraction| fraction * power >= wanted * (1.0 - 1e-9));
    fraction.unwrap_or(10.0) * power * base
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(scale: Scale, wanted: usize) -> Vec<String> {
        scale.ticks(wanted).into_iter().map(|tick| scale.label(tick)).collect()
    }

    #[test]
    fn steps_are_round_in_their_unit() {
        let rate = Scale::linear(Unit::Count, [98_765.0].into_iter());
        assert_eq!(labels(rate, 4), ["0", "50 k", "100 k"]);
        let memory = Scale::linear(Unit::Bytes, [9.1 * 1024.0 * 1024.0].into_iter());
        assert_eq!(labels(memory, 4), ["0 B", "5 MiB", "10 MiB"]);
        let time = Scale::exact(Unit::Seconds, 0.0, 1_000.0);
        assert_eq!(labels(time, 5), ["0 s", "5 min", "10 min", "15 min"]);
    }

    #[test]
    fn a_logarithmic_axis_has_whole_decades() {
        let times = Scale::logarithmic(Unit::Micros, [70.0, 3_000.0, 123_000.0].into_iter());
        assert_eq!(labels(times, 5), ["10 µs", "100 µs", "1 ms", "10 ms", "100 ms", "1 s"]);
        let narrow = Scale::logarithmic(Unit::Micros, [30.0].into_iter());
        assert_eq!(labels(narrow, 5), ["10 µs", "20 µs", "50 µs", "100 µs"]);
        assert!((times.place(1_000.0) - 0.4).abs() < 1e-9);
    }

    #[test]
    fn nines_are_named_as_percentiles() {
        let percentiles = Scale::exact(Unit::Nines, 0.0, 4.2);
        assert_eq!(labels(percentiles, 5), ["0 %", "90 %", "99 %", "99.9 %", "99.99 %"]);
    }

    #[test]
    fn nothing_at_all_still_makes_an_axis() {
        for unit in [Unit::Count, Unit::Bytes, Unit::Percent] {
            let scale = Scale::linear(unit, std::iter::empty());
            assert!(scale.ticks(4).len() > 1 && scale.place(0.0) == 0.0);
        }
        assert!(Scale::logarithmic(Unit::Micros, std::iter::empty()).ticks(4).len() > 1);
    }
}
