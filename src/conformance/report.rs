//! What the suite found.

use std::fmt;

/// How a case went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// As it must.
    Passed,
    /// Otherwise, and how.
    Failed(String),
    /// The subject has no such thing, and which.
    NotApplicable(String),
}

macro_rules! cases {
    ($($(#[doc = $doc:literal])+ $case:ident, $name:literal;)+) => {
        /// One promise of the suite.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum Case {
            $($(#[doc = $doc])+ $case,)+
        }

        impl Case {
            /// All of them, in the order in which they run.
            pub const ALL: [Case; [$($name),+].len()] = [$(Case::$case),+];

            /// A short name.
            pub fn name(self) -> &'static str {
                match self {
                    $(Case::$case => $name,)+
                }
            }
        }
    };
}

cases! {
    /// What one request sets or removes, the next one finds so; another client finds nothing.
    Kept, "kept";
    /// A request that only reads makes no session, and gives no cookie to who has none.
    Lazy, "lazy";
    /// Two requests at a time that each set another key: both are kept.
    LostUpdateOtherKeys, "lost update, different keys";
    /// Of two requests at a time that add to one number, each that was answered with success
    /// counts.
    LostUpdateSameKey, "lost update, same key";
    /// A removal and an addition at a time: what was removed does not come back.
    LostRemoval, "lost removal";
    /// 64 requests at a time that each set another key.
    RaceOtherKeys, "race of 64, different keys";
    /// 64 requests at a time that each add 1 to one number: who was answered with success counts.
    RaceSameKey, "race of 64, same key";
    /// A session that ended while a request was under way does not come back by its save.
    Resurrection, "resurrection by a save";
    /// A session that was rotated while a request was under way does not come back under the old
    /// id.
    ResurrectionAfterRotation, "resurrection after a rotation";
    /// A rotation gives another id with the same data; the old id is dead at once.
    Rotation, "rotation";
    /// What another request set and was answered for, while one that rotates was under way, is
    /// there under the new id.
    RotationLosesNothing, "rotation loses no update";
    /// An id that the server did not give out is not adopted.
    Fixation, "fixation";
    /// After a logout the old cookie opens nothing.
    Logout, "logout, then the old cookie";
    /// The cookie of an earlier answer does not bring an earlier state back.
    Rollback, "rollback by an old cookie";
    /// A session is there just before its deadline and gone at it, at all times after it, and
    /// however it is used.
    Expiry, "expiry";
    /// A session that expired while a request was under way does not come back with its data.
    ExpiryInFlight, "expiry under way";
    /// Stored data that cannot be read is no session: no crash, no session that cannot be left.
    Unreadable, "unreadable data";
    /// No cookie with one bit changed opens anything.
    Tampering, "tampering, each bit";
    /// What is too large is refused, or kept whole; what was there before stays.
    Oversized, "oversized data";
}

/// All cases with their outcomes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    subject: String,
    outcomes: Vec<(Case, Outcome)>,
}

impl Report {
    /// With one outcome for each of [`Case::ALL`], in that order.
    pub(super) fn new(subject: String, outcomes: Vec<(Case, Outcome)>) -> Report {
        Report { subject, outcomes }
    }

    /// The subject's name, as it was given.
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// Each case with its outcome, in the order of [`Case::ALL`].
    pub fn outcomes(&self) -> impl ExactSizeIterator<Item = (Case, &Outcome)> {
        self.outcomes.iter().map(|(case, outcome)| (*case, outcome))
    }

    /// How this case went.
    pub fn outcome(&self, case: Case) -> &Outcome {
        &self.outcomes[case as usize].1
    }

    /// The cases that failed.
    pub fn failed(&self) -> Vec<Case> {
        let failed = self.outcomes.iter().filter(|(_, how)| matches!(how, Outcome::Failed(_)));
        failed.map(|&(case, _)| case).collect()
    }
}

/// A line per case: its name, how it went, why.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.subject)?;
        for (case, outcome) in self.outcomes() {
            let (how, why) = match outcome {
                Outcome::Passed => ("passed", ""),
                Outcome::Failed(why) => ("FAILED", why.as_str()),
                Outcome::NotApplicable(why) => ("n/a", why.as_str()),
            };
            writeln!(f, "  {:<30} {how:<7} {why}", case.name())?;
        }
        Ok(())
    }
}
