//! Runs the models over the shipped files, and each seed against the model that must catch it.

use std::io::Write as _;
use std::process::Command;

use cloakroom_loom::{seeded, shipped};

macro_rules! models {
    ($($module:ident :: $model:ident),* $(,)?) => {
        $(
            #[test]
            fn $model() {
                shipped::$module::$model();
            }
        )*
    };
}

models! {
    buckets::a_present_key_is_never_missed,
    buckets::an_overflowed_key_once_seen_stays,
    buckets::a_removed_key_is_gone,
    buckets::a_reused_slot_yields_its_own_id,
    buckets::a_replaced_key_is_never_missed,
    buckets::growth_loses_nothing,
    lives::touch_against_expire,
    lives::touch_against_supersede,
    lives::touches_never_go_back,
    lives::expires_once,
    pins::a_pinned_reader_is_safe,
    pins::a_reader_that_pins_again_is_safe,
    pins::slots_change_hands_safely,
    sessions::update_against_read,
    sessions::update_after_growth,
    sessions::end_against_read,
    sessions::removal_against_read,
    sessions::update_and_end_against_read,
    sessions::expiry_against_read,
    sessions::a_touch_survives_an_update,
    pins::a_second_advancer_frees_nothing_early,
    pins::an_advancer_elsewhere_frees_nothing_early,
    pins::a_lent_slot_is_taken_once,
    lives::a_reloaded_life_is_not_revived,
    buckets::a_key_of_a_reused_tag_once_seen_stays,
}

/// Guards against a model of the writes that `shard.rs` has moved away from: each function that
/// supersedes a life has replaced or removed the entry before.
#[test]
fn shard_supersedes_last() {
    let source = include_str!("../../../src/shard/mod.rs");
    let places: Vec<_> = source.match_indices(".supersede()").map(|(at, _)| at).collect();
    assert!(places.len() >= 4, "rewrite, bury, alias and withdraw supersede");
    for at in places {
        let body = source[..at].rsplit("fn ").next().unwrap();
        let changes = body.contains("writer.replace(") || body.contains("writer.remove(");
        assert!(changes, "superseded before replaced: {body}");
    }
}

/// The seed that a child process of [`caught`] runs.
const CHILD: &str = "CLOAKROOM_LOOM_SEED";

/// Fails unless the model fails with this message. In a process of its own: loom's values cannot be
/// dropped after a failure.
fn caught(seed: &str, model: fn(), message: &str) {
    if std::env::var_os(CHILD).is_some() {
        return model();
    }
    let program = std::env::current_exe().unwrap();
    let child =
        Command::new(program).args(["--exact", seed, "--nocapture"]).env(CHILD, "").output();
    let child = child.unwrap();
    let said = [child.stdout, child.stderr].map(|said| String::from_utf8_lossy(&said).into_owned());
    for line in said[0].lines().filter(|line| line.contains("interleavings")) {
        let line = line.rsplit("... ").next().unwrap_or(line);
        let _ = writeln!(std::io::stdout(), "seed {seed}: {line}");
    }
    assert!(!child.status.success(), "the bug was not caught");
    assert!(said[1].contains(message), "caught for another reason: {}", said[1]);
}

macro_rules! seeds {
    ($($seed:ident: $module:ident :: $model:ident says $message:literal),* $(,)?) => {
        $(
            #[test]
            fn $seed() {
                caught(stringify!($seed), seeded::$seed::$module::$model, $message);
            }
        )*
    };
}

seeds! {
    counter_after_tag: buckets::an_overflowed_key_once_seen_stays says "seen, then missed",
    insert_slot_relaxed: buckets::a_reused_slot_yields_its_own_id says "Causality violation",
    replace_slot_relaxed: buckets::a_replaced_key_is_never_missed says "Causality violation",
    growth_before_copy: buckets::growth_loses_nothing says "lost by growth",
    touch_by_store: lives::touch_against_expire says "touched true",
    free_after_one_epoch: pins::a_pinned_reader_is_safe says "Causality violation",
    pin_without_fence: pins::a_pinned_reader_is_safe says "Causality violation",
    unpin_relaxed: pins::a_pinned_reader_is_safe says "Causality violation",
    stamp_without_fence: pins::an_advancer_elsewhere_frees_nothing_early
        says "Causality violation",
    advance_without_barrier: pins::an_advancer_elsewhere_frees_nothing_early
        says "Causality violation",
    lent_slot_unchecked: pins::a_lent_slot_is_taken_once says "Causality violation",
    supersede_before_update: sessions::update_against_read says "superseded before replaced",
    supersede_before_end: sessions::end_against_read says "superseded before replaced",
}
