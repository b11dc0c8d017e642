//! Sizes, times and tables as people read them.

use std::io::{self, Write};
use std::time::Duration;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Reads a time such as `30d`.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let secs = match text.get(digits.len()..).unwrap_or_default() {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 24 * 3600,
        "w" => 7 * 24 * 3600,
        _ => return Err("give a number with s, m, h, d or w, such as 30d".to_owned()),
    };
    let number: u64 = digits.parse().map_err(|_| format!("{digits:?} is no whole number"))?;
    number.checked_mul(secs).map(Duration::from_secs).ok_or_else(|| "too long".to_owned())
}

/// A length of time, roughly.
pub(crate) fn duration(time: Duration) -> String {
    let secs = time.as_secs();
    let units = [(24 * 3600, "d"), (3600, "h"), (60, "min")];
    let unit = units.iter().find(|(unit, _)| secs >= *unit);
    unit.map_or(format!("{secs} s"), |(unit, name)| format!("{} {name}", secs / unit))
}

/// A number of bytes.
pub(crate) fn bytes(bytes: u64) -> String {
    let units = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match units.iter().find(|(unit, _)| bytes >= *unit) {
        Some((unit, name)) if bytes >= 100 * unit => format!("{} {name}", bytes / unit),
        Some((unit, name)) => format!("{:.1} {name}", bytes as f64 / *unit as f64),
        None => format!("{bytes} B"),
    }
}

/// A moment as RFC 3339 text, in UTC; as a number where that is too far away.
pub(crate) fn moment(ms: u64) -> String {
    let at = OffsetDateTime::from_unix_timestamp_nanos(i128::from(ms) * 1_000_000);
    let text = at.ok().and_then(|at| at.format(&Rfc3339).ok());
    text.unwrap_or_else(|| ms.to_string())
}

/// The Unix milliseconds of such a text.
pub(crate) fn parse_moment(text: &str) -> Result<u64, String> {
    let at = OffsetDateTime::parse(text, &Rfc3339).map_err(|error| error.to_string())?;
    let ms = at.unix_timestamp_nanos() / 1_000_000;
    u64::try_from(ms).map_err(|_| "a time before 1970".to_owned())
}

/// Prints rows in columns: the first on the left, the others by their kind.
pub(crate) fn table(out: &mut impl Write, align: &[Align], rows: &[Vec<String>]) -> io::Result<()> {
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max()
    };
    let widths: Vec<usize> = (0..align.len()).map(|column| width(column).unwrap_or(0)).collect();
    for row in rows {
        let mut line = String::new();
        for ((cell, align), width) in row.iter().zip(align).zip(&widths) {
            let width = *width;
            match align {
                Align::Left => line.push_str(&format!("{cell:<width$}  ")),
                Align::Right => line.push_str(&format!("{cell:>width$}  ")),
            }
        }
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

/// On which side a column's cells stand.
#[derive(Clone, Copy)]
pub(crate) enum Align {
    Left,
    Right,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read() {
        assert_eq!(parse_duration("30d"), Ok(Duration::from_secs(30 * 24 * 3600)));
        assert_eq!(parse_duration("0s"), Ok(Duration::ZERO));
        for wrong in ["", "d", "30", "-1d", "1.5h", "1 d", "30days", "99999999999999999999s"] {
            assert!(parse_duration(wrong).is_err(), "{wrong}");
        }
        assert!(parse_duration("18446744073709551615w").is_err());
    }

    #[test]
    fn moments_come_back() {
        for ms in [0, 1, 1_700_000_000_123, 253_402_300_799_999] {
            assert_eq!(parse_moment(&moment(ms)), Ok(ms));
        }
        assert_eq!(moment(1_700_000_000_120), "2023-11-14T22:13:20.12Z");
        assert_eq!(moment(u64::MAX), u64::MAX.to_string());
        assert!(parse_moment("1969-12-31T23:59:59Z").is_err());
    }

    #[test]
    fn sizes_and_ages_are_short() {
        assert_eq!(
            [0, 1023, 1024, 3 << 20, 500 << 30].map(bytes),
            ["0 B", "1023 B", "1.0 KiB", "3.0 MiB", "500 GiB"]
        );
        let texts = [0, 59, 60, 3600, 30 * 24 * 3600].map(|s| duration(Duration::from_secs(s)));
        assert_eq!(texts, ["0 s", "59 s", "1 min", "1 h", "30 d"]);
    }
}
