//! Lines over a few places on one axis, the values on a logarithmic one; each line bears its name
//! at its end.

use super::{Anchor, Canvas, WIDTH, short};

const LEFT: f64 = 70.0;
const RIGHT: f64 = 190.0;
const TOP: f64 = 74.0;
const HEIGHT: f64 = 320.0;
/// Names at the ends of lines keep this distance.
const NAME_DISTANCE: f64 = 16.0;

pub struct Line {
    pub name: String,
    /// The place on the axis, and the value there.
    pub points: Vec<(usize, f64)>,
    pub is_ours: bool,
}

pub struct Curves<'a> {
    pub title: &'a str,
    pub about: &'a str,
    pub places: &'a [String],
    pub lines: &'a [Line],
}

impl Curves<'_> {
    pub fn draw(&self) -> String {
        let mut canvas = Canvas::new();
        canvas.text(16.0, 28.0, Anchor::Start, "title", self.title);
        canvas.text(16.0, 48.0, Anchor::Start, "quiet", self.about);
        let values = || self.lines.iter().flat_map(|line| line.points.iter().map(|point| point.1));
        let positive = || values().filter(|value| *value > 0.0);
        let least = 10_f64.powf(positive().fold(f64::MAX, f64::min).log10().floor());
        let most = 10_f64.powf(positive().fold(f64::MIN_POSITIVE, f64::max).log10().ceil());
        let decades = (most / least).log10().round().max(1.0);
        let y = |value: f64| TOP + HEIGHT * (1.0 - (value.max(least) / least).log10() / decades);
        let gaps = self.places.len().saturating_sub(1).max(1) as f64;
        let x = |place: usize| LEFT + (WIDTH - LEFT - RIGHT) * place as f64 / gaps;
        for decade in 0..=decades as i32 {
            let value = least * 10_f64.powi(decade);
            canvas.line((LEFT, y(value)), (WIDTH - RIGHT, y(value)), "grid");
            canvas.text(LEFT - 8.0, y(value) + 4.0, Anchor::End, "quiet", &short(value));
        }
        for (place, name) in self.places.iter().enumerate() {
            canvas.text(x(place), TOP + HEIGHT + 22.0, Anchor::Middle, "quiet", name);
        }
        // Ours last, so that it lies on top.
        let mut lines: Vec<&Line> = self.lines.iter().collect();
        lines.sort_by_key(|line| line.is_ours);
        let mut ends = Vec::new();
        for line in lines {
            let class = if line.is_ours { "ours" } else { "" };
            let points: Vec<_> =
                line.points.iter().map(|&(place, value)| (x(place), y(value))).collect();
            canvas.path(&points, class);
            if let Some(&(x, y)) = points.last() {
                ends.push((x, y, class, line.name.as_str()));
            }
        }
        ends.sort_by(|a, b| a.1.total_cmp(&b.1));
        let mut above = f64::MIN;
        for (x, y, class, name) in ends {
            let y = y.max(above + NAME_DISTANCE);
            above = y;
            canvas.text(x + 10.0, y + 4.0, Anchor::Start, class, name);
        }
        let bottom = (TOP + HEIGHT + 40.0).max(above + 24.0);
        canvas.finish(bottom, self.title, self.about)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_at_the_ends_do_not_overlap() {
        let line = |name: &str, value| Line {
            name: name.into(),
            points: vec![(0, 1.0), (1, value)],
            is_ours: name == "ours",
        };
        let lines = [line("ours", 100.0), line("other", 101.0), line("third", 99.0)];
        let places = ["p50".to_owned(), "p99".to_owned()];
        let svg = Curves { title: "t", about: "a", places: &places, lines: &lines }.draw();
        let mut heights: Vec<f64> = svg
            .lines()
            .filter(|text| ["ours<", "other<", "third<"].iter().any(|name| text.contains(name)))
            .filter_map(|text| text.split("y=\"").nth(1)?.split('"').next()?.parse().ok())
            .collect();
        heights.sort_by(f64::total_cmp);
        assert_eq!(heights.len(), 3);
        assert!(heights.windows(2).all(|pair| pair[1] - pair[0] >= NAME_DISTANCE - 0.1));
    }
}
