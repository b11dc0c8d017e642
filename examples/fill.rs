//! Fills a directory with sessions, to try the program `cloakroom` on:
//!
//! ```sh
//! cargo run --release --example fill -- /tmp/sessions 1000000
//! cargo run --release --features cli -- inspect /tmp/sessions
//! ```
//! Nine of ten sessions belong to a user, who has three of them on average. One of a hundred is
//! changed once more when a snapshot has been taken, and one of a thousand ends, so that there is
//! something in the log, too.

use std::path::PathBuf;
use std::time::Duration;

use cloakroom::{Attributes, CreateOptions, Reason, Result, Store, Value};

fn main() -> Result<()> {
    let mut args = std::env::args_os().skip(1);
    let sessions = args.next().zip(args.next()).and_then(|(directory, sessions)| {
        Some((PathBuf::from(directory), sessions.to_str()?.parse().ok()?))
    });
    let Some((directory, sessions)) = sessions else {
        eprintln!("usage: fill DIRECTORY SESSIONS");
        std::process::exit(2);
    };
    let builder = Store::builder().idle_timeout(Duration::from_secs(30 * 24 * 3600));
    let builder = builder.anonymous_idle_timeout(Duration::from_secs(24 * 3600));
    let store: Store = builder.lifetime(Duration::from_secs(90 * 24 * 3600)).open(&directory)?;
    let mut ids = Vec::new();
    for number in 0..sessions {
        let options = match number % 10 {
            0 => CreateOptions::new(),
            _ => {
                let owner = format!("user-{}", number * 7919 % (sessions * 3 / 10 + 1));
                CreateOptions::new().owner(&owner).label("Firefox on Linux")
            }
        };
        ids.push(store.create_with(data(number), options)?.id());
    }
    store.snapshot()?;
    for id in ids.iter().step_by(100) {
        store.update(*id, |s| s.set("visits", s.get_i64("visits").unwrap_or(0) + 1))?;
    }
    for id in ids.iter().skip(1).step_by(1000) {
        store.end(*id, Reason::LoggedOut)?;
    }
    println!("{}", store.stats());
    store.close()
}

/// About 200 bytes.
fn data(number: u64) -> Attributes {
    Attributes::from([
        ("visits", (number % 40).into()),
        ("language", "en-GB".into()),
        ("cart", vec![Value::from(number % 1000), Value::from(number % 777)].into()),
        ("csrf", format!("{:064x}", number.wrapping_mul(0x9E37_79B9_7F4A_7C15)).into()),
    ])
}
