//! Lookups by the text of a cookie: decoded, hashed, found. Beside lookups by id, and the hash
//! alone as this machine computes it.

use std::hint::black_box;
use std::time::Instant;

use cloakroom::{SessionId, Store, Token};
use sha2::{Digest as _, Sha256};

use crate::cli::Cli;
use crate::contender::VALUE_BYTES;
use crate::contender::cloakroom::Payload;
use crate::draw::Workload;
use crate::durable::cloakroom::lasting;
use crate::interleave::{Cell, Lane, Metric, Point, Sample};
use crate::measure::{BATCH, on_each};
use crate::report::Report;

/// Few enough that they stay in the processor's cache.
const SESSIONS: [usize; 1] = [1000];
/// The bytes of a token.
const TOKEN_BYTES: usize = 32;

/// What a thread works on, in the order of use: the text of every session, one behind the other,
/// and their ids.
struct Turn {
    texts: String,
    ids: Vec<SessionId>,
}

type Turns = Vec<Turn>;

pub fn run(cli: &Cli, report: &mut Report) {
    for sessions in cli.sessions(&SESSIONS) {
        report.progress("filling cloakroom");
        let store = lasting().capacity(sessions).in_memory().expect("a store in memory opens");
        let create = |_| {
            let data = Payload { bytes: [7; VALUE_BYTES] };
            let token = store.create(data).expect("no limit is set");
            (token.expose(), token.id())
        };
        let created: Vec<(String, SessionId)> = (0..sessions).map(create).collect();
        for threads in cli.threads() {
            let turn = |sequence: Vec<u32>| {
                let of = |&index: &u32| &created[index as usize];
                let chosen = || sequence.iter().take(1 << 17).map(of);
                Turn {
                    texts: chosen().map(|(text, _)| text.as_str()).collect(),
                    ids: chosen().map(|&(_, id)| id).collect(),
                }
            };
            let sequences = Workload::Uniform.sequences(sessions, threads);
            let turns: Turns = sequences.into_iter().map(turn).collect();
            let mut lanes = lanes(cli, &store);
            let cell = Cell { workload: Workload::Uniform, sessions, threads };
            report.cell("token", cell, &mut lanes, &turns, cli.runs());
        }
    }
}

fn lanes<'a>(cli: &'a Cli, store: &'a Store<Payload>) -> Vec<Lane<'a, Turns>> {
    let time = cli.run_time();
    let read = |id| store.read(id, |session| session.bytes[0]).expect("every session is there");
    let lane = |name, run| Lane { name, note: String::new(), run };
    let all = [
        lane(
            "cloakroom",
            Box::new(move |turns: &Turns| {
                mops(turns, time, |text, _| {
                    read(Token::parse(text).expect("the text of a token").id());
                })
            }) as Box<dyn FnMut(&Turns) -> Sample>,
        ),
        lane(
            "cloakroom-id",
            Box::new(move |turns| {
                mops(turns, time, |_, id| {
                    read(id);
                })
            }),
        ),
        lane(
            "sha256",
            Box::new(move |turns| {
                mops(turns, time, |text, _| {
                    black_box(Sha256::digest(&text.as_bytes()[..TOKEN_BYTES]));
                })
            }),
        ),
    ];
    all.into_iter().filter(|lane| cli.admits(lane.name)).collect()
}

/// Calls a second, in millions, over all threads.
fn mops(turns: &Turns, time: std::time::Duration, call: impl Fn(&str, SessionId) + Sync) -> Sample {
    let rates = on_each(turns, time, |turn, span| {
        span.begin();
        let (start, mut done) = (Instant::now(), 0);
        let batches = turn.ids.chunks_exact(BATCH).enumerate();
        for (number, batch) in batches.cycle() {
            let from = number * BATCH;
            for (index, &id) in batch.iter().enumerate() {
                let at = (from + index) * Token::TEXT_LEN;
                call(&turn.texts[at..at + Token::TEXT_LEN], id);
            }
            done += BATCH;
            if span.requested() {
                break;
            }
        }
        done as f64 / start.elapsed().as_secs_f64()
    });
    let value = rates.iter().sum::<f64>() / 1e6;
    vec![Point { section: "token", metric: Metric::Mops, value }].into()
}
