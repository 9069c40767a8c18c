//! A line chart as inline SVG. Written here because colours must be names that the style sheet gives a value for light
//! and dark; the plotting libraries write fixed ones into the picture.

use std::fmt::Write;

use maud::{Markup, html};

use super::scale::{Scale, Unit};

/// Units of the picture: small, so that letters stay readable when it is as wide as a telephone.
const WIDTH: f64 = 520.0;
const HEIGHT: f64 = 280.0;
const LEFT: f64 = 62.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 30.0;

/// About the width of a letter, on the safe side.
const LETTER: f64 = 7.0;

/// Colours that the style sheet has; further lines start over.
const COLOURS: usize = 8;

/// One line of a chart. A gap in it is a point that is not finite.
pub struct Line {
    /// What it shows.
    pub name: String,
    /// x and y in the axes' units, x rising.
    pub points: Vec<(f64, f64)>,
}

/// A chart.
pub struct Chart {
    /// What one sees.
    pub title: &'static str,
    /// What one must know to read it right.
    pub note: String,
    /// Along.
    pub x: Scale,
    /// Up.
    pub y: Scale,
    /// What is drawn.
    pub lines: Vec<Line>,
    /// Whether lines are likely to lie upon each other.
    pub nested: bool,
    /// The stretch of the x axis that is the measured window.
    pub window: Option<(f64, f64)>,
}

impl Chart {
    /// The figure with its legend; nothing where there is nothing to draw.
    pub fn draw(&self) -> Markup {
        if self.lines.iter().all(|line| line.points.is_empty()) {
            return html! {};
        }
        html! {
            figure.card {
                figcaption { h3 { (self.title) } @if !self.note.is_empty() { p { (self.note) } } }
                @if self.lines.len() > 1 {
                    ul.legend {
                        @for (index, line) in self.lines.iter().enumerate() {
                            li { i class=(colour(index)) {} (line.name) }
                        }
                    }
                }
                div.plot data-plot=(self.readings()) {
                    svg viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) role="img" aria-label=(self.title) {
                        (self.draw_window())
                        (self.draw_axes())
                        @for (index, line) in self.lines.iter().enumerate() { (self.draw_line(index, line)) }
                        (self.name_window())
                        line.cursor y1=(TOP) y2=(HEIGHT - BOTTOM) {}
                    }
                    output {}
                }
            }
        }
    }

    fn draw_window(&self) -> Markup {
        let Some((from, to)) = self.window else { return html! {} };
        let (from, to) = (self.across(from), self.across(to));
        html! {
            rect.window x=(tenths(from)) y=(TOP) width=(tenths(to - from)) height=(HEIGHT - TOP - BOTTOM) {}
        }
    }

    /// Upon the lines, so that it can be read where one runs along the top.
    fn name_window(&self) -> Markup {
        let (from, to) = self.window.map_or((0.0, 0.0), |(from, to)| (self.across(from), self.across(to)));
        html! {
            @if to - from > 110.0 {
                text.window x=(tenths(to - 5.0)) y=(TOP + 14.0) text-anchor="end" { "measured window" }
            }
        }
    }

    fn draw_axes(&self) -> Markup {
        let foot = HEIGHT - BOTTOM;
        html! {
            @for tick in self.y.ticks(5) {
                @let y = tenths(self.up(tick));
                line.grid x1=(LEFT) x2=(WIDTH - RIGHT) y1=(y) y2=(y) {}
                text x=(LEFT - 7.0) y=(tenths(self.up(tick) + 4.5)) text-anchor="end" { (self.y.label(tick)) }
            }
            @for (tick, label) in self.labels() {
                @let x = tenths(self.across(tick));
                line.tick x1=(x) x2=(x) y1=(foot) y2=(foot + 4.0) {}
                text x=(x) y=(foot + 20.0) text-anchor=(self.anchor(tick)) { (label) }
            }
            line.axis x1=(LEFT) x2=(WIDTH - RIGHT) y1=(foot) y2=(foot) {}
        }
    }

    /// The labels along the x axis, without those that would touch the one before.
    fn labels(&self) -> Vec<(f64, String)> {
        let mut free_from = f64::MIN;
        let mut labels = Vec::new();
        for tick in self.x.ticks(7) {
            let label = self.x.label(tick);
            let width = LETTER * label.chars().count() as f64;
            let share = if self.anchor(tick) == "end" { 1.0 } else { 0.5 };
            let left = self.across(tick) - width * share;
            if left >= free_from {
                free_from = left + width + LETTER;
                labels.push((tick, label));
            }
        }
        labels
    }

    /// A label at the right edge must not stand out of the picture.
    fn anchor(&self, tick: f64) -> &'static str {
        if self.x.place(tick) > 0.96 { "end" } else { "middle" }
    }

    fn draw_line(&self, index: usize, line: &Line) -> Markup {
        let mut path = String::new();
        let mut pen_down = false;
        for &(x, y) in &line.points {
            let finite = y.is_finite();
            if finite {
                let (x, y) = (tenths(self.across(x)), tenths(self.up(y)));
                // Writing to a String can't fail.
                let _ = write!(path, "{}{x} {y}", if pen_down { "L" } else { "M" });
            }
            pen_down = finite;
        }
        html! {
            path class={ "line " (colour(index)) } stroke-dasharray=[self.dashes(index)] d=(path) {}
            @if let [(x, y)] = line.points[..] {
                circle class={ "dot " (colour(index)) } cx=(tenths(self.across(x))) cy=(tenths(self.up(y))) r="3" {}
            }
        }
    }

    /// Of lines that lie upon each other, the upper ones let the lower ones through.
    fn dashes(&self, index: usize) -> Option<&'static str> {
        let dashes = [None, Some("9 9"), Some("4 14")];
        dashes.get(index).copied().flatten().filter(|_| self.nested)
    }

    fn across(&self, x: f64) -> f64 {
        LEFT + self.x.place(x) * (WIDTH - LEFT - RIGHT)
    }

    fn up(&self, y: f64) -> f64 {
        HEIGHT - BOTTOM - self.y.place(y) * (HEIGHT - TOP - BOTTOM)
    }

    /// What the script shows under the pointer: per x its place in the picture and the figures of all lines, in words.
    fn readings(&self) -> String {
        let longest = self.lines.iter().max_by_key(|line| line.points.len());
        let readings = longest.into_iter().flat_map(|line| &line.points).map(|&(x, _)| {
            let said = self.lines.iter().filter_map(|line| {
                let index = line.points.partition_point(|point| point.0 < x);
                let (_, y) = *line.points.get(index).or(line.points.last())?;
                y.is_finite().then(|| format!("{} {}", line.name, self.y.unit().full(y)))
            });
            let said = std::iter::once(self.x.unit().full(x)).chain(said).collect::<Vec<_>>().join(" · ");
            (tenths(self.across(x)) / WIDTH, said)
        });
        serde_json::to_string(&readings.collect::<Vec<_>>()).unwrap_or_default()
    }
}

fn colour(index: usize) -> String {
    format!("c{}", index % COLOURS)
}

fn tenths(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

/// The quantile axis for distributions of so many: as many nines as the largest count makes.
pub fn nines(count: u64) -> Scale {
    Scale::exact(Unit::Nines, 0.0, (count.max(10) as f64).log10())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(x: Scale, points: Vec<(f64, f64)>) -> Chart {
        let y = Scale::linear(Unit::Count, points.iter().map(|point| point.1).filter(|y| y.is_finite()));
        let lines = vec![Line { name: "one".to_owned(), points }];
        Chart { title: "Title", note: String::new(), x, y, lines, nested: false, window: None }
    }

    #[test]
    fn a_gap_lifts_the_pen() {
        let points = vec![(0.0, 1.0), (1.0, f64::NAN), (2.0, 1.0), (3.0, 1.0)];
        let svg = chart(Scale::exact(Unit::Seconds, 0.0, 3.0), points).draw().into_string();
        let path = svg.split("d=\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap();
        assert_eq!((path.matches('M').count(), path.matches('L').count()), (2, 1), "{path}");
        assert!(!svg.contains("NaN"), "{svg}");
    }

    #[test]
    fn labels_do_not_touch() {
        let chart = chart(nines(1_300_000), vec![(0.0, 1.0)]);
        let labels: Vec<String> = chart.labels().into_iter().map(|(_, label)| label).collect();
        assert_eq!(labels, ["0 %", "90 %", "99 %", "99.9 %", "99.99 %", "99.999 %"]);
    }

    #[test]
    fn what_the_script_reads_names_every_line() {
        let mut chart = chart(Scale::exact(Unit::Seconds, 0.0, 3.0), vec![(0.0, 1_000.0), (3.0, 2_000.0)]);
        chart.lines.push(Line { name: "two".to_owned(), points: vec![(0.0, 5.0), (3.0, f64::NAN)] });
        let readings: Vec<(f64, String)> = serde_json::from_str(&chart.readings()).unwrap();
        assert_eq!(readings[0].1, "0.0 s · one 1,000 · two 5");
        assert_eq!(readings[1].1, "3.0 s · one 2,000");
    }
}
