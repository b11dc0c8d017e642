//! The file of figures: what each operation took when somebody last looked, and why.

use std::fmt::Write as _;

/// How much more an operation may take than its figure, as a factor.
const TOLERANCE: f64 = 1.03;

const HEAD: &str = "\
# Instructions per operation, counted by callgrind: figure | operation | why it is as it is.
# `cargo instructions check` fails when an operation takes 3 % more than its figure. If that is
# right, change the figure and say why. Figures are of this compiler on x86-64:
";

/// One line of the file.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Figure {
    pub(crate) instructions: f64,
    pub(crate) operation: String,
    pub(crate) reason: String,
}

/// The whole file.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Recorded {
    pub(crate) compiler: String,
    pub(crate) figures: Vec<Figure>,
}

/// How a count compares with its figure.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    /// Within the tolerance.
    Same,
    /// More than 3 % above.
    More,
    /// More than 3 % below: the figure should be lowered, so that it guards again.
    Less,
    /// There is no figure.
    New,
}

impl Recorded {
    /// # Errors
    /// What is wrong, with the number of the line.
    pub(crate) fn parse(text: &str) -> Result<Recorded, String> {
        let mut recorded = Recorded { compiler: String::new(), figures: Vec::new() };
        for (number, line) in text.lines().enumerate() {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            if let Some(compiler) = line.strip_prefix("compiler: ") {
                recorded.compiler = compiler.to_owned();
                continue;
            }
            let figure = figure_of(line).ok_or_else(|| {
                format!("line {}: not `figure | operation | reason`: {line}", number + 1)
            })?;
            recorded.figures.push(figure);
        }
        if recorded.compiler.is_empty() {
            return Err("no line `compiler: VERSION`".to_owned());
        }
        Ok(recorded)
    }

    pub(crate) fn to_text(&self) -> String {
        let mut text = format!("{HEAD}compiler: {}\n\n", self.compiler);
        for Figure { instructions, operation, reason } in &self.figures {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{instructions:>8.1} | {operation} | {reason}");
        }
        text
    }

    pub(crate) fn figure(&self, operation: &str) -> Option<&Figure> {
        self.figures.iter().find(|figure| figure.operation == operation)
    }

    pub(crate) fn verdict(&self, operation: &str, counted: f64) -> Verdict {
        match self.figure(operation).map(|figure| figure.instructions) {
            None => Verdict::New,
            Some(figure) if counted > figure * TOLERANCE => Verdict::More,
            Some(figure) if counted * TOLERANCE < figure => Verdict::Less,
            Some(_) => Verdict::Same,
        }
    }
}

fn figure_of(line: &str) -> Option<Figure> {
    let mut fields = line.splitn(3, " | ").map(str::trim);
    let instructions = fields.next()?.parse().ok().filter(|figure| *figure > 0.0)?;
    let (operation, reason) = (fields.next()?.to_owned(), fields.next()?.to_owned());
    (!operation.is_empty() && !reason.is_empty()).then_some(Figure {
        instructions,
        operation,
        reason,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recorded() -> Recorded {
        Recorded::parse("# x\ncompiler: 1.95.0\n\n  60.0 | read | fewer loads | and stores\n")
            .expect("it is well formed")
    }

    #[test]
    fn a_file_that_was_written_is_read_again() {
        assert_eq!(recorded().figures[0].reason, "fewer loads | and stores");
        assert_eq!(Recorded::parse(&recorded().to_text()), Ok(recorded()));
    }

    #[test]
    fn three_percent_are_tolerated_either_way() {
        for (counted, verdict) in [
            (61.7, Verdict::Same),
            (61.9, Verdict::More),
            (58.3, Verdict::Same),
            (58.2, Verdict::Less),
        ] {
            assert_eq!(recorded().verdict("read", counted), verdict, "{counted}");
        }
        assert_eq!(recorded().verdict("write", 1.0), Verdict::New);
    }

    #[test]
    fn a_line_without_a_reason_is_named() {
        for line in ["60.0 | read", "60.0 | read | ", "sixty | read | why", "-1 | read | why"] {
            let error = Recorded::parse(&format!("compiler: 1\n{line}")).unwrap_err();
            assert!(error.starts_with("line 2"), "{error}");
        }
        assert!(Recorded::parse("60.0 | read | why").is_err());
    }
}
