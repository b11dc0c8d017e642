//! The cases.

use std::time::Duration;

use super::report::{Case, Outcome};
use super::subject::{Answer, Cookie, Request, Step, Subject};

/// Requests in a race.
const RACE: usize = 64;
/// No session is asked to keep so much.
const OVERSIZED_BYTES: usize = 1 << 20;

/// Err: the case did not pass.
type Checked<R = ()> = Result<R, Outcome>;

/// Runs one case.
pub(super) fn check(case: Case, subject: &mut dyn Subject) -> Outcome {
    let mut client = Client { subject, cookie: None };
    let checked = match case {
        Case::Kept => kept(&mut client),
        Case::Lazy => lazy(&mut client),
        Case::LostUpdateOtherKeys => race_other_keys(&mut client, 2),
        Case::LostUpdateSameKey => race_same_key(&mut client, 2),
        Case::LostRemoval => lost_removal(&mut client),
        Case::RaceOtherKeys => race_other_keys(&mut client, RACE),
        Case::RaceSameKey => race_same_key(&mut client, RACE),
        Case::Resurrection => resurrection(&mut client),
        Case::ResurrectionAfterRotation => resurrection_after_rotation(&mut client),
        Case::Rotation => rotation(&mut client),
        Case::RotationLosesNothing => rotation_loses_nothing(&mut client),
        Case::Fixation => fixation(&mut client),
        Case::Logout => logout(&mut client),
        Case::Rollback => rollback(&mut client),
        Case::Expiry => expiry(&mut client),
        Case::ExpiryInFlight => expiry_in_flight(&mut client),
        Case::Unreadable => unreadable(&mut client),
        Case::Tampering => tampering(&mut client),
        Case::Oversized => oversized(&mut client),
    };
    checked.err().unwrap_or(Outcome::Passed)
}

fn failed<R>(why: impl Into<String>) -> Checked<R> {
    Err(Outcome::Failed(why.into()))
}

fn not_applicable<R>(what: &str) -> Checked<R> {
    Err(Outcome::NotApplicable(what.to_owned()))
}

fn expect(is_so: bool, otherwise: &str) -> Checked {
    if is_so { Ok(()) } else { failed(otherwise) }
}

fn get(key: &str) -> Step {
    Step::Get(key.to_owned())
}

fn set(key: &str, value: &str) -> Step {
    Step::Set(key.to_owned(), value.to_owned())
}

/// A browser: keeps the cookie that it was given last.
struct Client<'a> {
    subject: &'a mut dyn Subject,
    cookie: Option<String>,
}

impl Client<'_> {
    fn keep(&mut self, answer: &Answer) {
        match &answer.cookie {
            Cookie::Kept => {}
            Cookie::Set(value) => self.cookie = Some(value.clone()),
            Cookie::Removed => self.cookie = None,
        }
    }

    fn request(&self, steps: impl Into<Vec<Step>>) -> Request {
        Request::new(self.cookie.as_deref(), steps)
    }

    fn ask(&mut self, steps: impl Into<Vec<Step>>) -> Answer {
        let answer = self.subject.answer(&self.request(steps));
        self.keep(&answer);
        answer
    }

    /// As [`Client::ask`], where nothing stands in the way of success.
    fn succeed(&mut self, what: &str, steps: impl Into<Vec<Step>>) -> Checked<Answer> {
        let answer = self.ask(steps);
        if answer.ok { Ok(answer) } else { failed(format!("{what} failed")) }
    }

    /// What the client reads.
    fn read(&mut self, key: &str) -> Checked<Option<String>> {
        let answer = self.succeed("a request that only reads", [get(key)])?;
        first(answer)
    }

    /// What somebody reads who shows this cookie; nothing where he is answered with an error.
    fn read_with(&mut self, cookie: &str, key: &str) -> Checked<Option<String>> {
        let answer = self.subject.answer(&Request::new(Some(cookie), [get(key)]));
        if answer.ok { first(answer) } else { Ok(None) }
    }

    /// Begins a session; the cookie.
    fn begin(&mut self, steps: impl Into<Vec<Step>>) -> Checked<String> {
        self.succeed("the first request", steps)?;
        match self.cookie.clone() {
            Some(cookie) => Ok(cookie),
            None => failed("a request that set a key got no cookie"),
        }
    }

    /// Begins a session of Alice's.
    fn log_in(&mut self) -> Checked<String> {
        self.begin([set("user", "alice")])
    }

    fn at_once(&mut self, requests: &[Request]) -> Checked<Vec<Answer>> {
        let Some(answers) = self.subject.at_once(requests) else {
            return not_applicable("requests at the same time");
        };
        expect(answers.len() == requests.len(), "not every request was answered")?;
        answers.iter().for_each(|answer| self.keep(answer));
        Ok(answers)
    }

    /// One request, during which others are answered. The others' cookies come first.
    fn during(&mut self, steps: impl Into<Vec<Step>>, inner: Request) -> Checked<[Answer; 2]> {
        let outer = self.request(steps);
        let Some((outer, inner)) = self.subject.during(&outer, &[inner]) else {
            return not_applicable("requests at the same time");
        };
        let Ok([inner]) = <[Answer; 1]>::try_from(inner) else {
            return failed("not every request was answered");
        };
        self.keep(&inner);
        self.keep(&outer);
        Ok([outer, inner])
    }

    fn timeout(&self) -> Checked<Duration> {
        self.subject.idle_timeout().map_or_else(|| not_applicable("a clock to advance"), Ok)
    }

    fn pass(&mut self, time: Duration) {
        self.subject.answer(&Request::new(None, [Step::Pass(time)]));
    }

    /// Nobody finds Alice under this cookie.
    fn expect_dead(&mut self, cookie: &str, whose: &str) -> Checked {
        let found = self.read_with(cookie, "user")?;
        expect(found.is_none(), &format!("{whose} opens the session"))
    }
}

fn first(answer: Answer) -> Checked<Option<String>> {
    match answer.values.into_iter().next() {
        Some(value) => Ok(value),
        None => failed("a value that was asked for is missing in the answer"),
    }
}

fn kept(client: &mut Client<'_>) -> Checked {
    client.begin([set("a", "1")])?;
    client.succeed("a second request", [set("b", "2"), Step::Add("n".into(), 5)])?;
    let answer = client.succeed("a third request", [get("a"), get("b"), get("n"), get("c")])?;
    let found: Vec<_> = answer.values.iter().map(Option::as_deref).collect();
    expect(found == [Some("1"), Some("2"), Some("5"), None], "what was set is not read back")?;
    for key in ["a", "b", "n"] {
        client.succeed("a removal", [Step::Remove(key.into())])?;
        expect(client.read(key)?.is_none(), "what was removed is still read")?;
    }
    client.succeed("setting a key again", [set("a", "3")])?;
    expect(client.read("a")?.as_deref() == Some("3"), "what was set again is not read back")?;
    client.cookie = None;
    expect(client.read("a")?.is_none(), "a client without a cookie reads another one's data")
}

fn lazy(client: &mut Client<'_>) -> Checked {
    client.read("a")?;
    expect(client.cookie.is_none(), "a request that only read got a cookie")
}

fn race_other_keys(client: &mut Client<'_>, count: usize) -> Checked {
    client.begin([set("base", "0")])?;
    let request = |key| client.request([get("base"), Step::Meet, set(&format!("key{key}"), "1")]);
    let requests: Vec<_> = (0..count).map(request).collect();
    let answers = client.at_once(&requests)?;
    expect(answers.iter().any(|answer| answer.ok), "every request failed")?;
    let mut lost = 0;
    for (key, answer) in answers.iter().enumerate() {
        let found = client.read(&format!("key{key}"))?;
        lost += usize::from(answer.ok && found.as_deref() != Some("1"));
    }
    expect(lost == 0, &format!("{lost} of {count} updates were lost"))
}

fn race_same_key(client: &mut Client<'_>, count: usize) -> Checked {
    client.begin([set("base", "0")])?;
    let request = client.request([get("base"), Step::Meet, Step::Add("n".into(), 1)]);
    let answers = client.at_once(&vec![request; count])?;
    let done = answers.iter().filter(|answer| answer.ok).count();
    expect(done > 0, "every request failed")?;
    let found = client.read("n")?.and_then(|text| text.parse().ok()).unwrap_or(0);
    let why = format!("{done} of {count} requests were told that they added 1, the sum is {found}");
    expect(found == done, &why)
}

fn lost_removal(client: &mut Client<'_>) -> Checked {
    client.begin([set("a", "1")])?;
    let requests = [
        client.request([get("a"), Step::Meet, Step::Remove("a".into())]),
        client.request([get("a"), Step::Meet, set("b", "2")]),
    ];
    let answers = client.at_once(&requests)?;
    expect(answers.iter().any(|answer| answer.ok), "every request failed")?;
    let (a, b) = (client.read("a")?, client.read("b")?);
    expect(!answers[0].ok || a.is_none(), "what was removed came back")?;
    expect(!answers[1].ok || b.is_some(), "the addition beside a removal was lost")
}

fn resurrection(client: &mut Client<'_>) -> Checked {
    let cookie = client.log_in()?;
    let logout = client.request([Step::Destroy]);
    let steps = [get("user"), Step::Meet, set("late", "1")];
    let [outer, inner] = client.during(steps, logout)?;
    expect(inner.ok, "the logout failed")?;
    client.expect_dead(&cookie, "after a logout during a request the old cookie")?;
    if let Cookie::Set(value) = outer.cookie {
        client.expect_dead(&value, "the cookie that the late request was given")?;
    }
    Ok(())
}

fn resurrection_after_rotation(client: &mut Client<'_>) -> Checked {
    let cookie = client.log_in()?;
    let rotate = client.request([Step::Rotate]);
    let steps = [get("user"), Step::Meet, set("late", "1")];
    let [_, inner] = client.during(steps, rotate)?;
    expect(inner.ok, "the rotation failed")?;
    client.expect_dead(&cookie, "after a rotation during a request the old cookie")?;
    let Cookie::Set(new) = inner.cookie else { return failed("a rotation set no cookie") };
    let found = client.read_with(&new, "user")?;
    expect(found.is_some(), "the session is gone after a rotation during a request")
}

fn rotation(client: &mut Client<'_>) -> Checked {
    let old = client.log_in()?;
    client.succeed("a rotation", [Step::Rotate])?;
    let new = client.cookie.clone();
    expect(new.is_some_and(|new| new != old), "a rotation gave no new cookie")?;
    expect(client.read("user")?.as_deref() == Some("alice"), "a rotation lost the data")?;
    client.expect_dead(&old, "after a rotation the old cookie")?;
    client.succeed("a second rotation", [Step::Rotate, set("a", "1")])?;
    let both = client.succeed("a request after it", [get("user"), get("a")])?;
    expect(both.values.iter().all(Option::is_some), "a second rotation lost data")?;
    client.expect_dead(&old, "after two rotations the first cookie")
}

fn rotation_loses_nothing(client: &mut Client<'_>) -> Checked {
    client.log_in()?;
    let update = client.request([set("beside", "1")]);
    let steps = [get("user"), Step::Meet, Step::Rotate];
    let [_, inner] = client.during(steps, update)?;
    let found = client.succeed("a request after it", [get("user"), get("beside")])?;
    let [user, beside] = &found.values[..] else { return failed("two values were asked for") };
    expect(user.is_some(), "the session is gone after an update during a rotation")?;
    expect(!inner.ok || beside.is_some(), "an update during a rotation was lost")
}

fn fixation(client: &mut Client<'_>) -> Checked {
    let Some(planted) = client.subject.foreign_cookie() else {
        return not_applicable("a cookie of the right form that somebody could plant");
    };
    for steps in [vec![set("user", "alice")], vec![get("user"), set("user", "alice")]] {
        client.cookie = Some(planted.clone());
        client.ask(steps);
        client.expect_dead(&planted, "the planted cookie")?;
    }
    Ok(())
}

fn logout(client: &mut Client<'_>) -> Checked {
    let cookie = client.log_in()?;
    client.succeed("the logout", [Step::Destroy])?;
    client.expect_dead(&cookie, "after a logout the old cookie")?;
    client.cookie = Some(cookie.clone());
    client.ask([set("a", "1")]);
    client.expect_dead(&cookie, "used once more after a logout, the old cookie")
}

fn rollback(client: &mut Client<'_>) -> Checked {
    let first = client.begin([set("balance", "100")])?;
    client.succeed("a second request", [set("balance", "1")])?;
    let found = client.read_with(&first, "balance")?;
    expect(found.as_deref() != Some("100"), "the first cookie brings the first state back")
}

fn expiry(client: &mut Client<'_>) -> Checked {
    let timeout = client.timeout()?;
    let tolerance = client.subject.expiry_tolerance().min(timeout);
    let mut log_in = || {
        client.cookie = None;
        client.log_in()
    };
    let [before, at, after] = [log_in()?, log_in()?, log_in()?];
    client.pass(timeout - tolerance);
    let found = client.read_with(&before, "user")?;
    expect(found.is_some(), "gone before the deadline")?;
    // So that whatever counts as a use of it is over.
    client.pass(tolerance);
    client.expect_dead(&at, "at the deadline the cookie")?;
    client.cookie = Some(at.clone());
    client.ask([set("a", "1")]);
    client.expect_dead(&at, "used once more after its end, the cookie")?;
    client.pass(timeout * 3);
    client.expect_dead(&after, "long after the deadline the cookie")?;

    client.cookie = None;
    let used = client.log_in()?;
    for round in 0..4 {
        client.pass(timeout / 2);
        client.succeed("a write of a session in use", [set("round", &round.to_string())])?;
    }
    expect(client.read("user")?.is_some(), "a session that is written to expired")?;
    client.pass(timeout);
    client.expect_dead(&used, "so long after the last write the cookie")
}

fn expiry_in_flight(client: &mut Client<'_>) -> Checked {
    let timeout = client.timeout()?;
    let cookie = client.log_in()?;
    let pass = Request::new(None, [Step::Pass(timeout)]);
    let steps = [get("user"), Step::Meet, set("late", "1")];
    let [outer, _] = client.during(steps, pass)?;
    client.expect_dead(&cookie, "expired during a request, the cookie")?;
    if let Cookie::Set(value) = outer.cookie {
        client.expect_dead(&value, "the cookie that the late request was given")?;
    }
    Ok(())
}

fn unreadable(client: &mut Client<'_>) -> Checked {
    let cookie = client.log_in()?;
    if !client.subject.spoil(&cookie) {
        return not_applicable("a way to make stored data unreadable");
    }
    client.expect_dead(&cookie, "with unreadable data the cookie")?;
    // An error is allowed, but not for good.
    client.ask([set("a", "1")]);
    client.ask([Step::Destroy]);
    client.succeed("a request after a logout from unreadable data", [set("a", "1")])?;
    expect(client.read("a")?.is_some(), "a session with unreadable data cannot be left")
}

fn tampering(client: &mut Client<'_>) -> Checked {
    let cookie = client.log_in()?;
    let mut opened = 0;
    let mut tried = 0;
    for at in 0..cookie.len() {
        for bit in 0..8 {
            let mut bytes = cookie.clone().into_bytes();
            bytes[at] ^= 1 << bit;
            // What RFC 6265 allows in a value: nothing else reaches a server.
            let is_octet =
                |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b',' | b';' | b'\\');
            let Ok(tampered) = String::from_utf8(bytes) else { continue };
            // Only the changed one: a server may write others, and read them back.
            if !is_octet(tampered.as_bytes()[at]) {
                continue;
            }
            tried += 1;
            opened += usize::from(client.read_with(&tampered, "user")?.is_some());
        }
    }
    expect(tried > 0, "the cookie is empty")?;
    expect(opened == 0, &format!("{opened} of {tried} cookies with one bit changed open it"))?;
    expect(client.read("user")?.is_some(), "the session is gone after somebody else tampered")
}

fn oversized(client: &mut Client<'_>) -> Checked {
    client.log_in()?;
    let large = "x".repeat(OVERSIZED_BYTES);
    let answer = client.ask([set("large", &large)]);
    expect(client.read("user")?.is_some(), "what was there before is gone")?;
    let kept = client.read("large")?;
    let whole = kept.as_deref() == Some(&*large);
    expect(!answer.ok || whole, "oversized data was taken, and is not there")?;
    expect(answer.ok || kept.is_none(), "oversized data was refused, and is there")
}
