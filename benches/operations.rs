//! Times of the store's own operations, with criterion: `cargo bench --bench operations`.
//!
//! 100,000 sessions of five attributes, chosen at random; nothing else runs. For the store beside
//! others, see `cargo compare`; for counts that a noisy machine leaves alone, `cargo
//! instructions`.

#![allow(clippy::unwrap_used, reason = "a bench that cannot go on fails")]

use std::hint::black_box;
use std::iter::Cycle;
use std::vec::IntoIter;

use cloakroom::{Attributes, Changes, CreateOptions, Reason, SessionId, Store, Token};
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};

const SESSION_COUNT: usize = 100_000;
/// Sessions of each owner.
const PER_OWNER: usize = 4;

fn data() -> Attributes {
    Attributes::from([
        ("username", "alice".into()),
        ("logged_in", true.into()),
        ("visits", 0.into()),
        ("theme", "dark".into()),
        ("cart", 12.into()),
    ])
}

/// A store with its sessions, and their tokens in an order that no prefetcher foresees.
fn filled() -> (Store, Cycle<IntoIter<(SessionId, String)>>) {
    let store: Store = Store::builder().capacity(SESSION_COUNT).in_memory().unwrap();
    let mut tokens: Vec<Token> = (0..SESSION_COUNT)
        .map(|n| {
            let owner = CreateOptions::new().owner(format!("user{}", n / PER_OWNER));
            store.create_with(data(), owner).unwrap()
        })
        .collect();
    // Ids are random: their order has nothing to do with where sessions lie.
    tokens.sort_by_key(Token::id);
    let keys: Vec<_> =
        tokens.iter().map(|token| (token.id(), token.expose().to_string())).collect();
    (store, keys.into_iter().cycle())
}

fn lookups(c: &mut Criterion) {
    let (store, mut keys) = filled();
    let mut group = c.benchmark_group("lookup");
    group.bench_function("read", |b| {
        b.iter(|| store.read(keys.next().unwrap().0, |s| s.get_i64("visits")).unwrap());
    });
    group.bench_function("peek", |b| {
        b.iter(|| store.peek(keys.next().unwrap().0, |s| s.get_i64("visits")).unwrap());
    });
    group.bench_function("touch", |b| b.iter(|| store.touch(keys.next().unwrap().0).unwrap()));
    group.bench_function("get", |b| b.iter(|| store.get(keys.next().unwrap().0).unwrap()));
    group.bench_function("info", |b| b.iter(|| store.info(keys.next().unwrap().0).unwrap()));
    group.bench_function("find by token", |b| {
        b.iter_batched(
            || keys.next().unwrap().1,
            |token| store.find(&token).unwrap(),
            BatchSize::SmallInput,
        );
    });
    group.bench_function("read of an unknown id", |b| {
        let mut number = 0_u128;
        b.iter(|| {
            number = number.wrapping_add(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
            store.read(uuid::Uuid::from_u128(number).into(), |_| ()).unwrap_err()
        });
    });
    group.finish();
}

fn writes(c: &mut Criterion) {
    let (store, mut keys) = filled();
    let mut group = c.benchmark_group("write");
    group.bench_function("update", |b| {
        b.iter(|| {
            let add_one = |s: &mut Attributes| {
                s.set("visits", 1 + s.get_i64("visits").unwrap_or(0));
            };
            store.update(keys.next().unwrap().0, add_one).unwrap();
        });
    });
    group.bench_function("replace", |b| {
        b.iter_batched(
            data,
            |data| store.replace(keys.next().unwrap().0, data).unwrap(),
            BatchSize::SmallInput,
        );
    });
    group.bench_function("get, then patch", |b| {
        b.iter(|| {
            let loaded = store.get(keys.next().unwrap().0).unwrap();
            let base = loaded.to_data().unwrap();
            let mut changed = base.clone();
            changed.set("theme", "light");
            store.patch(loaded.id(), loaded.version(), &Changes::between(&base, &changed)).unwrap()
        });
    });
    group.finish();
}

fn lives(c: &mut Criterion) {
    let (store, mut keys) = filled();
    let mut group = c.benchmark_group("life");
    group.bench_function("create and end", |b| {
        b.iter_batched(
            data,
            |data| {
                let token = store.create(data).unwrap();
                store.end(token.id(), Reason::LoggedOut).unwrap();
            },
            BatchSize::SmallInput,
        );
    });
    group.bench_function("create with an owner, and end", |b| {
        b.iter_batched(
            || (data(), CreateOptions::new().owner("alice").label("Firefox on Linux")),
            |(data, options)| {
                let token = store.create_with(data, options).unwrap();
                store.end(token.id(), Reason::LoggedOut).unwrap();
            },
            BatchSize::SmallInput,
        );
    });
    group.bench_function("rotate", |b| {
        let mut id = store.create(data()).unwrap().id();
        b.iter(|| id = store.rotate(id).unwrap().id());
    });
    group.bench_function("list the sessions of an owner", |b| {
        let mut number = 0;
        b.iter(|| {
            number = (number + 1) % (SESSION_COUNT / PER_OWNER);
            black_box(store.owner_sessions(&format!("user{number}")))
        });
    });
    group.bench_function("watch, and drop it", |b| {
        b.iter(|| drop(store.watch(keys.next().unwrap().0)));
    });
    group.finish();
}

criterion_group!(benches, lookups, writes, lives);
criterion_main!(benches);
