//! A small server that passes, with a bug for each case, so that each case is known to fail.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Answer, Case, Cookie, Outcome, Report, Request, Step, Subject, run};

const TIMEOUT: Duration = Duration::from_secs(60);
const BYTES_MAX: usize = 1 << 16;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bug {
    None,
    /// Loads all, saves all, under whatever id it had: what session middlewares do.
    LoadAndSave,
    /// Loads all, saves the difference, but makes a session that is gone anew.
    Upsert,
    RemoveDoesNothing,
    EverybodyGetsACookie,
    AddIsNotAtomic,
    OldIdLivesOn,
    RotationForgets,
    AdoptsIds,
    LogoutIsTheClients,
    StateInTheCookie,
    ExpiresLate,
    ExpiresEarly,
    NeverExpires,
    PanicsWhenUnreadable,
    StuckWhenUnreadable,
    IdsIgnoreCase,
    Truncates,
    AnswersTooLittle,
}

type Data = BTreeMap<String, String>;

struct Stored {
    data: Data,
    used: Duration,
    is_spoilt: bool,
}

struct Server {
    bug: Bug,
    sessions: BTreeMap<String, Stored>,
    now: Duration,
    next: u32,
}

/// A request on its way.
struct Running<'r> {
    steps: std::slice::Iter<'r, Step>,
    id: Option<String>,
    answer: Answer,
    /// What was loaded, with what became of it, where that is saved at the end.
    loaded: Data,
    working: Data,
    is_live: bool,
    read_n: i64,
}

impl Server {
    fn new(bug: Bug) -> Server {
        Server { bug, sessions: BTreeMap::new(), now: Duration::ZERO, next: 0 }
    }

    fn deadline(&self) -> Duration {
        match self.bug {
            Bug::ExpiresLate => TIMEOUT + Duration::from_millis(1),
            Bug::ExpiresEarly => TIMEOUT - Duration::from_millis(200),
            Bug::NeverExpires => Duration::MAX,
            _ => TIMEOUT,
        }
    }

    fn find(&self, cookie: &str) -> Option<String> {
        let same = |id: &&String| match self.bug {
            Bug::IdsIgnoreCase => id.eq_ignore_ascii_case(cookie),
            _ => *id == cookie,
        };
        let id = self.sessions.keys().find(same)?;
        let stored = &self.sessions[id];
        if stored.is_spoilt && self.bug == Bug::PanicsWhenUnreadable {
            panic!("unreadable");
        }
        let is_live = self.now < stored.used.saturating_add(self.deadline());
        let is_found = !stored.is_spoilt || self.bug == Bug::StuckWhenUnreadable;
        (is_live && is_found).then(|| id.clone())
    }

    fn create(&mut self) -> String {
        self.next += 1;
        let id = format!("session{}", self.next);
        let stored = Stored { data: Data::new(), used: self.now, is_spoilt: false };
        self.sessions.insert(id.clone(), stored);
        id
    }

    fn begin<'r>(&mut self, request: &'r Request) -> Running<'r> {
        let cookie = request.cookie.as_deref();
        let mut id = cookie.and_then(|cookie| self.find(cookie));
        if let (Bug::AdoptsIds, Some(cookie), None) = (self.bug, cookie, &id) {
            let created = self.create();
            let stored = self.sessions.remove(&created).unwrap();
            self.sessions.insert(cookie.to_owned(), stored);
            id = Some(cookie.to_owned());
        }
        let data = |id: &String| self.sessions[id].data.clone();
        let loaded: Data = id.as_ref().map(data).unwrap_or_default();
        let read_n = loaded.get("n").and_then(|n| n.parse().ok()).unwrap_or(0);
        Running {
            steps: request.steps.iter(),
            answer: Answer::new(true, []),
            working: loaded.clone(),
            is_live: !matches!(self.bug, Bug::LoadAndSave | Bug::Upsert),
            loaded,
            id,
            read_n,
        }
    }

    /// Goes on with a request until it meets the others, or to its end.
    fn proceed(&mut self, running: &mut Running<'_>) {
        while let Some(step) = running.steps.next() {
            match step {
                Step::Meet => return,
                Step::Pass(time) => self.now += *time,
                Step::Rotate => self.rotate(running),
                Step::Destroy if self.is_stuck(running) => running.answer.ok = false,
                Step::Destroy => {
                    if self.bug != Bug::LogoutIsTheClients {
                        running.id.take().map(|id| self.sessions.remove(&id));
                    }
                    (running.id, running.is_live) = (None, true);
                    running.answer.cookie = Cookie::Removed;
                }
                step => self.work(running, step),
            }
        }
        self.save(running);
    }

    fn is_stuck(&self, running: &Running<'_>) -> bool {
        let stored = running.id.as_ref().and_then(|id| self.sessions.get(id));
        self.bug == Bug::StuckWhenUnreadable && stored.is_some_and(|stored| stored.is_spoilt)
    }

    fn rotate(&mut self, running: &mut Running<'_>) {
        let Some(old) = running.id.take() else { return };
        let id = self.create();
        let of_old = match self.bug {
            Bug::OldIdLivesOn => self.sessions.get(&old).map(|stored| stored.data.clone()),
            _ => self.sessions.remove(&old).map(|stored| stored.data),
        };
        let data = match self.bug {
            Bug::RotationForgets => Data::new(),
            Bug::LoadAndSave | Bug::Upsert => running.working.clone(),
            _ => of_old.unwrap_or_default(),
        };
        self.sessions.get_mut(&id).unwrap().data = data;
        running.answer.cookie = Cookie::Set(id.clone());
        running.id = Some(id);
    }

    fn work(&mut self, running: &mut Running<'_>, step: &Step) {
        let is_write = !step.reads();
        if self.bug == Bug::StateInTheCookie
            && is_write
            && let Some(stored) = running.id.as_ref().and_then(|id| self.sessions.get(id))
        {
            let data = stored.data.clone();
            let id = self.create();
            self.sessions.get_mut(&id).unwrap().data = data;
            running.answer.cookie = Cookie::Set(id.clone());
            running.id = Some(id);
        }
        let data = if running.is_live {
            match running.id.clone().filter(|id| self.sessions.contains_key(id)) {
                Some(id) => {
                    let is_gone = self.find(&id).is_none();
                    let stored = self.sessions.get_mut(&id).unwrap();
                    running.answer.ok &= !(is_write && is_gone);
                    if is_gone || stored.is_spoilt {
                        running.answer.values.extend(step.reads().then_some(None));
                        running.answer.ok &= !stored.is_spoilt;
                        return;
                    }
                    stored.used = if is_write { self.now } else { stored.used };
                    &mut stored.data
                }
                None if running.id.is_some() => {
                    running.answer.ok = false;
                    return;
                }
                None if is_write || self.bug == Bug::EverybodyGetsACookie => {
                    let id = self.create();
                    running.answer.cookie = Cookie::Set(id.clone());
                    running.id = Some(id.clone());
                    &mut self.sessions.get_mut(&id).unwrap().data
                }
                None => &mut running.working,
            }
        } else {
            &mut running.working
        };
        match step {
            Step::Get(_) if self.bug == Bug::AnswersTooLittle => {}
            Step::Get(key) => running.answer.values.push(data.get(key).cloned()),
            Step::Set(key, value) => {
                let value = match self.bug {
                    Bug::Truncates => &value[..value.len().min(BYTES_MAX)],
                    _ => value,
                };
                running.answer.ok &= value.len() <= BYTES_MAX;
                if value.len() <= BYTES_MAX {
                    data.insert(key.clone(), value.to_owned());
                }
            }
            Step::Add(key, by) => {
                let now = data.get(key).and_then(|n| n.parse().ok()).unwrap_or(0);
                let base = if self.bug == Bug::AddIsNotAtomic { running.read_n } else { now };
                data.insert(key.clone(), (base + by).to_string());
            }
            Step::Remove(_) if self.bug == Bug::RemoveDoesNothing => {}
            Step::Remove(key) => drop(data.remove(key)),
            _ => {}
        }
    }

    fn save(&mut self, running: &mut Running<'_>) {
        if running.is_live || running.working == running.loaded {
            return;
        }
        let id = running.id.clone().unwrap_or_else(|| self.create());
        running.answer.cookie = Cookie::Set(id.clone());
        let (now, working) = (self.now, running.working.clone());
        let new = Stored { data: working.clone(), used: now, is_spoilt: false };
        let stored = self.sessions.entry(id).or_insert(new);
        stored.used = now;
        if self.bug == Bug::LoadAndSave {
            stored.data = working;
            return;
        }
        stored.data.retain(|key, _| working.contains_key(key) || !running.loaded.contains_key(key));
        let changed = working.into_iter().filter(|(k, v)| running.loaded.get(k) != Some(v));
        stored.data.extend(changed);
    }
}

impl Subject for Server {
    fn answer(&mut self, request: &Request) -> Answer {
        let mut running = self.begin(request);
        while running.steps.len() > 0 {
            self.proceed(&mut running);
        }
        running.answer
    }

    fn at_once(&mut self, requests: &[Request]) -> Option<Vec<Answer>> {
        let mut running: Vec<_> = requests.iter().map(|request| self.begin(request)).collect();
        running.iter_mut().for_each(|running| self.proceed(running));
        running.iter_mut().for_each(|running| self.proceed(running));
        Some(running.into_iter().map(|running| running.answer).collect())
    }

    fn during(&mut self, outer: &Request, inner: &[Request]) -> Option<(Answer, Vec<Answer>)> {
        let mut running = self.begin(outer);
        self.proceed(&mut running);
        let inner = inner.iter().map(|request| self.answer(request)).collect();
        self.proceed(&mut running);
        Some((running.answer, inner))
    }

    fn idle_timeout(&self) -> Option<Duration> {
        Some(TIMEOUT)
    }

    fn foreign_cookie(&mut self) -> Option<String> {
        Some("session777".to_owned())
    }

    fn spoil(&mut self, cookie: &str) -> bool {
        self.sessions.get_mut(cookie).unwrap().is_spoilt = true;
        true
    }
}

fn report(bug: Bug) -> Report {
    run("a small server", || Box::new(Server::new(bug)))
}

#[test]
fn a_server_without_a_bug_passes() {
    let report = report(Bug::None);
    assert!(report.outcomes().all(|(_, how)| *how == Outcome::Passed), "{report}");
    assert_eq!(report.outcomes().len(), Case::ALL.len());
}

#[test]
fn each_case_fails_for_a_bug() {
    let bugs = [
        (Bug::RemoveDoesNothing, &[Case::Kept, Case::LostRemoval][..]),
        (Bug::EverybodyGetsACookie, &[Case::Lazy]),
        (
            Bug::LoadAndSave,
            &[
                Case::LostUpdateOtherKeys,
                Case::LostUpdateSameKey,
                Case::LostRemoval,
                Case::RaceOtherKeys,
                Case::RaceSameKey,
                Case::Resurrection,
                Case::ResurrectionAfterRotation,
                Case::RotationLosesNothing,
                Case::ExpiryInFlight,
            ],
        ),
        (Bug::Upsert, &[Case::Resurrection, Case::ResurrectionAfterRotation]),
        (Bug::AddIsNotAtomic, &[Case::LostUpdateSameKey, Case::RaceSameKey]),
        (Bug::OldIdLivesOn, &[Case::Rotation, Case::ResurrectionAfterRotation]),
        (Bug::RotationForgets, &[Case::Rotation, Case::RotationLosesNothing]),
        (Bug::AdoptsIds, &[Case::Fixation]),
        (Bug::LogoutIsTheClients, &[Case::Logout, Case::Resurrection]),
        (Bug::StateInTheCookie, &[Case::Rollback]),
        (Bug::ExpiresLate, &[Case::Expiry]),
        (Bug::ExpiresEarly, &[Case::Expiry]),
        (Bug::NeverExpires, &[Case::Expiry, Case::ExpiryInFlight]),
        (Bug::PanicsWhenUnreadable, &[Case::Unreadable]),
        (Bug::StuckWhenUnreadable, &[Case::Unreadable]),
        (Bug::IdsIgnoreCase, &[Case::Tampering]),
        (Bug::Truncates, &[Case::Oversized]),
        (Bug::AnswersTooLittle, &[Case::Kept, Case::Lazy]),
    ];
    let mut failed: Vec<Case> = Vec::new();
    for (bug, cases) in bugs {
        let report = report(bug);
        for case in cases {
            assert!(report.failed().contains(case), "{bug:?} and {case:?}:\n{report}");
        }
        failed.extend(cases);
    }
    for case in Case::ALL {
        assert!(failed.contains(&case), "nothing shows that {case:?} can fail");
    }
}

#[test]
fn a_panic_of_the_subject_is_a_failure() {
    let report = report(Bug::PanicsWhenUnreadable);
    let Outcome::Failed(why) = report.outcome(Case::Unreadable) else { panic!("{report}") };
    assert_eq!(why, "the subject panicked: unreadable");
    assert_eq!(report.failed(), [Case::Unreadable]);
    assert!(report.to_string().contains("FAILED  the subject panicked: unreadable"));
}
