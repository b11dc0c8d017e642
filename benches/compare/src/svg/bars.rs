//! Horizontal bars in groups, one bar a contender.

use super::{Anchor, Canvas, WIDTH, short};

const LEFT: f64 = 190.0;
const RIGHT: f64 = 90.0;
const ROW: f64 = 22.0;
const TOP: f64 = 62.0;

pub struct Bar {
    pub name: String,
    pub value: f64,
    /// The least and the greatest run.
    pub spread: (f64, f64),
    pub is_ours: bool,
}

pub struct Group {
    pub name: String,
    pub bars: Vec<Bar>,
}

pub struct Bars<'a> {
    pub title: &'a str,
    /// What the numbers are, and which way is better.
    pub about: &'a str,
    pub groups: &'a [Group],
    /// Lengths by the logarithm: for numbers that differ a hundredfold.
    pub logarithmic: bool,
}

impl Bars<'_> {
    pub fn draw(&self) -> String {
        let mut canvas = Canvas::new();
        canvas.text(16.0, 28.0, Anchor::Start, "title", self.title);
        canvas.text(16.0, 48.0, Anchor::Start, "quiet", self.about);
        let mut y = TOP;
        for group in self.groups {
            y += 20.0;
            canvas.text(16.0, y, Anchor::Start, "", &group.name);
            y += 8.0;
            let scale = self.scale(group);
            for bar in &group.bars {
                let class = if bar.is_ours { "ours" } else { "" };
                canvas.text(LEFT - 8.0, y + 15.0, Anchor::End, class, &bar.name);
                canvas.bar(LEFT, y + 4.0, scale(bar.value).max(1.0), ROW - 8.0, class);
                let (least, most) = bar.spread;
                let middle = y + ROW / 2.0;
                canvas.line((LEFT + scale(least), middle), (LEFT + scale(most), middle), "spread");
                let end = LEFT + scale(bar.value.max(most));
                canvas.text(end + 8.0, y + 15.0, Anchor::Start, class, &short(bar.value));
                y += ROW;
            }
            y += 8.0;
        }
        canvas.finish(y + 12.0, self.title, self.about)
    }

    /// The length of a value's bar: of the greatest in its group, all there is room for.
    fn scale(&self, group: &Group) -> impl Fn(f64) -> f64 + use<> {
        let values = || group.bars.iter().flat_map(|bar| [bar.value, bar.spread.0, bar.spread.1]);
        let most = values().fold(f64::MIN_POSITIVE, f64::max);
        let least = values().filter(|value| *value > 0.0).fold(most, f64::min) / 2.0;
        let logarithmic = self.logarithmic && most > least;
        let room = WIDTH - LEFT - RIGHT;
        move |value| {
            let part = if logarithmic {
                (value.max(least) / least).ln() / (most / least).ln()
            } else {
                value / most
            };
            room * part.clamp(0.0, 1.0)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_keep_within_the_picture() {
        let bar = |name: &str, value| Bar {
            name: name.into(),
            value,
            spread: (value * 0.9, value * 1.2),
            is_ours: false,
        };
        let groups = [Group { name: "one".into(), bars: vec![bar("a", 1.0), bar("b", 1000.0)] }];
        for logarithmic in [false, true] {
            let bars = Bars { title: "t", about: "a", groups: &groups, logarithmic };
            let scale = bars.scale(&groups[0]);
            assert!(scale(1200.0) <= WIDTH - LEFT - RIGHT && scale(1.0) >= 0.0);
            assert!(bars.draw().contains("1000"));
        }
    }
}
