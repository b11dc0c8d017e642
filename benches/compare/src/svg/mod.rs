//! Pictures: what every plot is drawn with. They read on light and on dark pages.

pub mod bars;
pub mod curves;

use std::fmt::Write as _;

pub const WIDTH: f64 = 840.0;
const STYLE: &str = "\
text{font:13px system-ui,-apple-system,'Segoe UI',sans-serif;fill:#24292f}
.title{font-size:17px;font-weight:600}.quiet{fill:#57606a}text.ours{fill:#bc4c00;font-weight:600}
.bar{fill:#8c959f}.bar.ours{fill:#e16f24}.grid{stroke:#d0d7de;stroke-width:1}
.line{fill:none;stroke:#8c959f;stroke-width:2}.line.ours{stroke:#e16f24;stroke-width:3}
.spread{stroke:#57606a;stroke-width:1}.dot{fill:#8c959f}.dot.ours{fill:#e16f24}
@media(prefers-color-scheme:dark){text{fill:#e6edf3}.quiet{fill:#9198a1}text.ours{fill:#ffa657}
.bar{fill:#6e7681}.bar.ours{fill:#f0883e}.grid{stroke:#3d444d}.line{stroke:#7d8590}
.line.ours{stroke:#f0883e}.spread{stroke:#c9d1d9}.dot{fill:#7d8590}.dot.ours{fill:#f0883e}}";

/// Where a text stands.
#[derive(Clone, Copy)]
pub enum Anchor {
    Start,
    Middle,
    End,
}

/// A picture in the making.
pub struct Canvas {
    body: String,
}

impl Canvas {
    pub fn new() -> Canvas {
        Canvas { body: String::new() }
    }

    pub fn text(&mut self, x: f64, y: f64, anchor: Anchor, class: &str, text: &str) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let text = escape(text);
        self.put(format_args!(
            "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" \
             class=\"{class}\">{text}</text>"
        ));
    }

    pub fn bar(&mut self, x: f64, y: f64, width: f64, height: f64, class: &str) {
        self.put(format_args!(
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" rx=\"2\" \
             class=\"bar {class}\"/>"
        ));
    }

    pub fn line(&mut self, from: (f64, f64), to: (f64, f64), class: &str) {
        self.put(format_args!(
            "<line x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\" class=\"{class}\"/>",
            from.0, from.1, to.0, to.1
        ));
    }

    /// A line through points, with a dot on each.
    pub fn path(&mut self, points: &[(f64, f64)], class: &str) {
        let text: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let text = text.join(" ");
        self.put(format_args!("<polyline points=\"{text}\" class=\"line {class}\"/>"));
        for (x, y) in points {
            self.put(format_args!(
                "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.5\" class=\"dot {class}\"/>"
            ));
        }
    }

    fn put(&mut self, element: std::fmt::Arguments<'_>) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.body, "{element}");
    }

    /// The whole file.
    pub fn finish(self, height: f64, title: &str, about: &str) -> String {
        let (title, about) = (escape(title), escape(about));
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height:.0}\" \
             width=\"{WIDTH}\" height=\"{height:.0}\" role=\"img\">\n<title>{title}</title>\n\
             <desc>{about}</desc>\n<style>{STYLE}</style>\n{}</svg>\n",
            self.body
        )
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// A number as short as it may be.
pub fn short(value: f64) -> String {
    match value.abs() {
        large if large >= 1e6 => format!("{:.1}M", value / 1e6),
        large if large >= 10_000.0 => format!("{:.0}k", value / 1e3),
        large if large >= 100.0 => format!("{value:.0}"),
        large if large >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_leave_their_text() {
        let mut canvas = Canvas::new();
        canvas.text(0.0, 0.0, Anchor::Start, "", "<script>&\"");
        let svg = canvas.finish(10.0, "a<b", "");
        assert!(svg.contains("&lt;script&gt;&amp;&quot;") && svg.contains("a&lt;b"));
        assert!(!svg.contains("<script"));
    }

    #[test]
    fn numbers_are_short() {
        for (value, text) in
            [(1.234, "1.23"), (12.34, "12.3"), (123.4, "123"), (12_340.0, "12k"), (2e6, "2.0M")]
        {
            assert_eq!(short(value), text);
        }
    }
}
