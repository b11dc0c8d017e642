//! The parts of a page that are written by the program, each between two comments.
//!
//! ```text
//! <!-- generated: ratios lookup,hot mops -->
//! ...
//! <!-- end generated -->
//! ```
//! What is outside of them is left as it is, so that a page can say what its tables mean.

const BEGIN: &str = "<!-- generated: ";
const BEGIN_END: &str = " -->";
const END: &str = "<!-- end generated -->";

/// Writes each part anew by `write`, which gets the words of its first comment.
///
/// # Errors
/// That of `write`, or a part that does not end.
pub fn fill(
    page: &str,
    mut write: impl FnMut(&[&str]) -> Result<String, String>,
) -> Result<String, String> {
    let mut text = String::new();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        text += line;
        text.push('\n');
        let words = line.strip_prefix(BEGIN).and_then(|rest| rest.strip_suffix(BEGIN_END));
        let Some(words) = words else { continue };
        let words: Vec<&str> = words.split(' ').collect();
        text.push('\n');
        text += write(&words).map_err(|problem| format!("{line}: {problem}"))?.trim_end();
        text += "\n\n";
        if !lines.any(|line| line == END) {
            return Err(format!("{line}: no `{END}` behind it"));
        }
        text += END;
        text.push('\n');
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_between_the_comments_changes() {
        let page = format!("before\n{BEGIN}table x{BEGIN_END}\n\nold\nlines\n\n{END}\nafter\n");
        let filled = fill(&page, |words| Ok(format!("{}!", words.join("+")))).unwrap();
        assert_eq!(filled, page.replace("old\nlines", "table+x!"));
        assert_eq!(fill(&filled, |_| Ok("table+x!\n".into())).unwrap(), filled, "twice the same");
    }

    #[test]
    fn a_part_without_an_end_is_refused() {
        let page = format!("{BEGIN}table{BEGIN_END}\nrest of the page");
        assert!(fill(&page, |_| Ok(String::new())).unwrap_err().contains("table"));
    }
}
