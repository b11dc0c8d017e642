//! Results as `--save` left them: one JSON object a line.

use std::path::Path;

use serde::Deserialize;

pub const OURS: &str = "cloakroom";

/// One row of one table.
#[derive(Clone, Debug, Deserialize)]
pub struct Record {
    pub section: String,
    pub workload: String,
    pub sessions: u64,
    pub threads: u64,
    pub contender: String,
    pub kind: String,
    pub metric: String,
    pub median: f64,
    pub min: f64,
    pub max: f64,
    /// Ours over it: the median of the quotients run by run.
    pub ratio: Option<f64>,
}

/// Where and with what something was measured.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Origin {
    pub machine: String,
    pub command: String,
}

/// All that was saved.
#[derive(Default)]
pub struct Results {
    pub records: Vec<Record>,
    pub origins: Vec<Origin>,
}

impl Record {
    pub fn is_ours(&self) -> bool {
        self.contender.starts_with(OURS)
    }

    /// What the contenders of one row have in common.
    pub fn cell(&self) -> (&str, &str, u64, u64) {
        (&self.section, &self.workload, self.sessions, self.threads)
    }

    pub fn more_is_better(&self) -> bool {
        matches!(self.metric.as_str(), "mops" | "kops")
    }

    /// Whether ours is the worse of the two, by how much; None where it is not.
    pub fn loss(&self) -> Option<f64> {
        let ratio = self.ratio.filter(|_| !self.is_ours() && self.kind != "noise")?;
        let loss = if self.more_is_better() { 1.0 / ratio } else { ratio };
        (loss > 1.0).then_some(loss)
    }
}

impl Results {
    /// # Errors
    /// The file, the line and what is wrong with it.
    pub fn read(directory: &Path) -> Result<Results, String> {
        let shown = directory.display();
        let entries = std::fs::read_dir(directory).map_err(|error| format!("{shown}: {error}"))?;
        let mut files: Vec<_> = entries
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.extension().is_some_and(|extension| extension == "jsonl"))
            .collect();
        files.sort();
        let mut results = Results::default();
        for file in files {
            let name = file.display();
            let text =
                std::fs::read_to_string(&file).map_err(|error| format!("{name}: {error}"))?;
            results.take(&text).map_err(|problem| format!("{name}, {problem}"))?;
        }
        // A section may have been measured in parts.
        results.records.sort_by_key(|record| (record.sessions, record.threads));
        Ok(results)
    }

    pub fn take(&mut self, text: &str) -> Result<(), String> {
        for (number, line) in text.lines().enumerate() {
            let wrong = |error: serde_json::Error| format!("line {}: {error}", number + 1);
            if line.starts_with("{\"machine\"") {
                self.origins.push(serde_json::from_str(line).map_err(wrong)?);
            } else {
                self.records.push(serde_json::from_str(line).map_err(wrong)?);
            }
        }
        Ok(())
    }

    /// The rows of these sections with this metric, in the order in which they were measured.
    pub fn of<'a>(&'a self, sections: &'a [&str], metric: &'a str) -> Vec<&'a Record> {
        let is_one = |record: &&Record| {
            record.metric == metric && sections.contains(&record.section.as_str())
        };
        self.records.iter().filter(is_one).collect()
    }
}
