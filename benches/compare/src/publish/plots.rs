//! Which pictures there are, and of what.

use super::record::{Record, Results};
use super::tables::{cell_name, unit};
use crate::svg::bars::{Bar, Bars, Group};
use crate::svg::curves::{Curves, Line};

/// Their file names with their contents; those without results are left out.
pub fn draw(results: &Results) -> Vec<(&'static str, String)> {
    let bars = |title, sections: &[&str], metric, better, logarithmic| {
        let groups = groups(results, sections, metric);
        let scale = if logarithmic { ", on a logarithmic scale" } else { "" };
        let about = format!(
            "{}{scale}; {better} is better; the thin line is from the least run to the most",
            unit(metric)
        );
        (!groups.is_empty())
            .then(|| Bars { title, about: &about, groups: &groups, logarithmic }.draw())
    };
    [
        ("lookup.svg", bars("Lookups of random sessions", &["lookup"], "mops", "more", false)),
        ("hot.svg", bars("Lookups of one hot session", &["hot"], "mops", "more", false)),
        ("alone.svg", bars("One lookup alone", &["lookup-alone"], "p50_ns", "less", false)),
        ("mix.svg", bars("A server's mix", &["mix"], "mops", "more", false)),
        ("memory.svg", bars("Memory per session", &["memory"], "overhead_bytes", "less", false)),
        (
            "growth.svg",
            bars("The longest insert while growing", &["growth"], "max_us", "less", true),
        ),
        (
            "growth-read.svg",
            bars("The longest lookup beside growth", &["growth-read"], "max_us", "less", true),
        ),
        ("journal.svg", bars("Updates that survive a kill", &["journal"], "kops", "more", true)),
        ("web.svg", bars("Requests to a counter page", &["web"], "kops", "more", false)),
        (
            "services.svg",
            bars("Lookups in stores asked in other ways", &["services"], "kops", "more", true),
        ),
        ("journal-latency.svg", percentiles(results)),
        ("restart.svg", restart(results)),
    ]
    .into_iter()
    .filter_map(|(name, svg)| Some((name, svg?)))
    .collect()
}

fn groups(results: &Results, sections: &[&str], metric: &str) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for record in results.of(sections, metric) {
        let name = format!("{} threads", cell_name(record.cell()));
        let name = name.replace(" 1 threads", " 1 thread");
        let bar = Bar {
            name: record.contender.clone(),
            value: record.median,
            spread: (record.min, record.max),
            is_ours: record.is_ours(),
        };
        match groups.iter_mut().find(|group| group.name == name) {
            Some(group) => group.bars.push(bar),
            None => groups.push(Group { name, bars: vec![bar] }),
        }
    }
    groups
}

/// The latency of updates on disk, from the median to one in ten thousand.
fn percentiles(results: &Results) -> Option<String> {
    const METRICS: [&str; 4] = ["p50_ns", "p99_ns", "p999_ns", "p9999_ns"];
    let mut lines: Vec<Line> = Vec::new();
    for (place, metric) in METRICS.iter().enumerate() {
        for record in results.of(&["journal"], metric).iter().filter(|record| record.threads == 1) {
            add(&mut lines, record, place, record.median / 1000.0);
        }
    }
    let places = ["p50", "p99", "p99.9", "p99.99"].map(str::to_owned);
    let curves = Curves {
        title: "How long an update that survives a kill takes",
        about: "microseconds, one thread; less is better",
        places: &places,
        lines: &lines,
    };
    (!lines.is_empty()).then(|| curves.draw())
}

/// The time of a restart, until each of two moments.
fn restart(results: &Results) -> Option<String> {
    let mut groups = Vec::new();
    for (metric, moment) in [("first_answer_ms", "first answer"), ("all_loaded_ms", "all loaded")] {
        for mut group in self::groups(results, &["restart"], metric) {
            let (sessions, _) = group.name.split_once(',').unwrap_or((&group.name, ""));
            group.name = format!("{sessions}, {moment}");
            groups.push(group);
        }
    }
    let bars = Bars {
        title: "A restart",
        about: "milliseconds, on a logarithmic scale; less is better; the thin line is from the \
                least run to the most",
        groups: &groups,
        logarithmic: true,
    };
    (!groups.is_empty()).then(|| bars.draw())
}

fn add(lines: &mut Vec<Line>, record: &Record, place: usize, value: f64) {
    let point = (place, value);
    match lines.iter_mut().find(|line| line.name == record.contender) {
        Some(line) => line.points.push(point),
        None => lines.push(Line {
            name: record.contender.clone(),
            points: vec![point],
            is_ours: record.is_ours(),
        }),
    }
}
