//! The bugs, each with the test that has to fail.

/// One bug: `shipped` stands exactly once in `src/{file}`.
pub(crate) struct Seed {
    pub(crate) name: &'static str,
    pub(crate) file: &'static str,
    pub(crate) shipped: &'static str,
    pub(crate) seeded: &'static str,
    pub(crate) test: Test,
}

pub(crate) enum Test {
    /// Of the crate's unit tests, or in `tests/seeded/inside.rs`.
    Unit(&'static str),
    /// In `tests/it/seeds.rs`.
    It(&'static str),
}

impl Test {
    pub(crate) fn filter(&self) -> &'static str {
        match self {
            Test::Unit(filter) | Test::It(filter) => filter,
        }
    }

    pub(crate) fn is_unit(&self) -> bool {
        matches!(self, Test::Unit(_))
    }
}

pub(crate) const SEEDS: &[Seed] = &[
    Seed {
        name: "deadline_checked_only_by_the_wheel",
        file: "sessions/look.rs",
        shipped: "\
                || life.is_live(self.clock.tick()) && (!touch || self.seen(pinned, record, life));",
        seeded: "\
                || life.is_live(Tick::FIRST) && (!touch || self.seen(pinned, record, life));",
        test: Test::It("seeds::a_session_is_gone_at_its_deadline_without_the_expiry"),
    },
    Seed {
        name: "touch_without_recheck",
        file: "life.rs",
        shipped: "&& self.0.compare_exchange(seen.0, next.0, Relaxed, Relaxed).is_ok()",
        seeded: "&& {
                self.0.store(next.0, Relaxed);
                true
            }",
        test: Test::Unit("inside::an_end_is_seen_by_readers_that_began_before"),
    },
    Seed {
        name: "wheel_node_without_generation",
        file: "shard/due.rs",
        shipped: "|record: Record<'_>| record.node() == node.0;",
        seeded: "|record: Record<'_>| record.node() != NODE_NONE || node.0 == NODE_NONE;
        use crate::record::NODE_NONE;",
        test: Test::Unit("inside::ids_with_the_same_wheel_key_expire_each_for_itself"),
    },
    Seed {
        name: "update_as_read_then_write",
        file: "sessions/write.rs",
        shipped: "\
        let (shard, found, _) = self.find_locked(pinned, id)?;
        // The result is the caller's: it is given back, or dropped, with no lock held.
        let (encoded, result) = {
            let _updating = Updating::begin();
            update(found.record)?
        };",
        seeded: "\
        let _ = Updating::begin;
        let (encoded, result) = update(self.resolve(pinned, id).map_err(Error::Missing)?)?;
        let (shard, found, _) = self.find_locked(pinned, id)?;",
        test: Test::It("seeds::nobody_writes_during_an_update"),
    },
    Seed {
        name: "grow_that_loses_an_entry",
        file: "bucket.rs",
        shipped: "\
                if !word.is_free() {
                    let tag = (control >> (slot * 8)) as u8;",
        seeded: "\
                if !word.is_free() && !(index == self.mask() && slot == 1) {
                    let tag = (control >> (slot * 8)) as u8;",
        test: Test::It("seeds::none_is_lost_while_shards_grow_and_shrink"),
    },
    Seed {
        name: "watch_waker_under_the_shard_lock",
        file: "sessions/end.rs",
        shipped: "\
        let woken = shard.end(found, reason, now, &mut self.sink(after));
        after.woken.extend(woken);",
        seeded: "\
        let woken = shard.end(found, reason, now, &mut self.sink(after));
        woken.iter().for_each(|slot| slot.wake());",
        test: Test::It("seeds::a_watch_may_use_the_store_when_it_wakes"),
    },
    Seed {
        name: "event_waker_under_the_list_lock",
        file: "events.rs",
        shipped: "\
        let queues = lock(&self.queues).clone();
        for queue in queues {
            queue.wake();
        }",
        seeded: "\
        for queue in lock(&self.queues).iter() {
            queue.wake();
        }",
        test: Test::It("seeds::a_subscriber_may_use_the_store_when_it_wakes"),
    },
    Seed {
        name: "owner_entry_left_behind",
        file: "sessions/end.rs",
        shipped: "\
        if let Some(guard) = guard {
            guard.remove(owner, id);
        }
        journaled.map(|()| Outcome::Done(found.record))",
        seeded: "\
        let _ = guard;
        journaled.map(|()| Outcome::Done(found.record))",
        test: Test::It("seeds::an_owner_without_sessions_is_forgotten"),
    },
    Seed {
        name: "owner_entry_left_by_the_expiry",
        file: "sessions/end.rs",
        shipped: "\
                    drop(shard);
                    guard.remove(owner, id);",
        seeded: "\
                    drop(shard);",
        test: Test::It("seeds::an_owner_whose_sessions_expired_is_forgotten"),
    },
    Seed {
        name: "alias_outlives_the_grace",
        file: "sessions/look.rs",
        shipped: "Kind::Alias { successor } if record.absolute() > now => {",
        seeded: "Kind::Alias { successor } if record.absolute() > Tick::FIRST => {",
        test: Test::It("seeds::an_old_token_is_dead_after_the_grace_time"),
    },
    Seed {
        name: "anonymous_evicts_authenticated",
        file: "sessions/create.rs",
        shipped: "Class::Anonymous => self.victim(pinned, true),",
        seeded: "Class::Anonymous => self.victim(pinned, false),",
        test: Test::It("seeds::visitors_evict_no_user"),
    },
    Seed {
        name: "version_not_bumped",
        file: "sessions/write.rs",
        shipped: "version: record.version().wrapping_add(1),",
        seeded: "version: record.version(),",
        test: Test::It("seeds::a_write_on_an_old_version_conflicts"),
    },
    Seed {
        name: "end_without_supersede",
        file: "shard/mod.rs",
        shipped: "\
            _ => self.state.writer.remove(table, id, found.spot),
        }
        record.life().supersede()",
        seeded: "\
            _ => self.state.writer.remove(table, id, found.spot),
        }
        record.life().load()",
        test: Test::Unit("inside::an_end_is_seen_by_readers_that_began_before"),
    },
    Seed {
        name: "update_without_supersede",
        file: "shard/mod.rs",
        shipped: "\
        let record = self.state.writer.replace(&self.common.table, found.spot, fresh);
        let last = found.record.life().supersede();",
        seeded: "\
        let record = self.state.writer.replace(&self.common.table, found.spot, fresh);
        let last = found.record.life().load();",
        test: Test::Unit("inside::an_update_is_seen_by_touches_that_began_before"),
    },
    Seed {
        name: "id_is_the_token",
        file: "token.rs",
        shipped: "first.copy_from_slice(&digest[..16]);",
        seeded: "first.copy_from_slice(&secret[..digest.len() / 2]);",
        test: Test::It("seeds::an_id_does_not_tell_its_token"),
    },
    Seed {
        name: "create_overwrites_on_collision",
        file: "shard/mod.rs",
        shipped: "self.state.writer.find(&self.common.table, pinned, id).is_some()",
        seeded: "self.state.writer.find(&self.common.table, pinned, id).is_none() && false",
        test: Test::Unit("inside::a_create_never_overwrites"),
    },
    Seed {
        name: "limbo_freed_one_epoch_early",
        file: "reclaim.rs",
        shipped: "const EPOCHS_TO_FREE: u64 = 3;",
        seeded: "const EPOCHS_TO_FREE: u64 = 2;",
        test: Test::Unit("inside::memory_waits_for_three_epochs"),
    },
    Seed {
        name: "slots_of_a_closed_collector_unmarked",
        file: "reclaim.rs",
        shipped: "            thread.outer.epoch.store(CLOSED, Relaxed);",
        seeded: "",
        test: Test::Unit("reclaim::tests::a_pin_counts_where_another_collector_was_before"),
    },
    Seed {
        name: "limbo_freed_at_once",
        file: "table.rs",
        shipped: "Some(oldest) if table.collector.is_free(oldest.stamp) => {",
        seeded: "Some(oldest) if table.collector.is_free(oldest.stamp) || true => {",
        test: Test::It("seeds::what_a_reader_sees_stays_while_it_looks"),
    },
    Seed {
        name: "event_told_twice",
        file: "shard/mod.rs",
        shipped: "sink(Change::Ended { record, reason });",
        seeded: "\
        sink(Change::Ended { record, reason });
        sink(Change::Ended { record, reason });",
        test: Test::It("seeds::each_end_is_told_once"),
    },
    Seed {
        name: "rotated_token_still_good",
        file: "sessions/rotate.rs",
        shipped: "self.change_token(id, remake, false)",
        seeded: "self.change_token(id, remake, true)",
        test: Test::It("seeds::a_rotated_token_is_dead_at_once"),
    },
    Seed {
        name: "end_of_what_only_the_file_has",
        file: "sessions/end.rs",
        shipped: "\
        self.bring(pinned, id)?;
        loop {",
        seeded: "\
        loop {",
        test: Test::It("seeds::a_session_ends_that_only_the_file_has"),
    },
    Seed {
        name: "owner_limit_without_the_file",
        file: "sessions/create.rs",
        shipped: "if owner.is_empty() || self.options.owner_limit.is_none() {",
        seeded: "if owner.is_empty() || self.options.owner_limit.is_none() || true {",
        test: Test::It("seeds::an_owners_limit_counts_what_only_the_file_has"),
    },
    Seed {
        name: "bit_set_before_the_session_is_in_memory",
        file: "sessions/bring.rs",
        shipped: "\
        shard.restore(pinned, fresh).map_err(|_| full)?;
        #[cfg(test)]
        super::backing::between();
        backing.set_loaded(at, true);",
        seeded: "\
        backing.set_loaded(at, true);
        #[cfg(test)]
        super::backing::between();
        shard.restore(pinned, fresh).map_err(|_| full)?;",
        test: Test::Unit("sessions::tests::a_session_is_found_while_it_is_brought"),
    },
    Seed {
        name: "brought_back_when_its_end_is_forgotten",
        file: "sessions/backing.rs",
        shipped: "self.loaded.has(self.snapshot.number_of(at))",
        seeded: "self.loaded.has(self.snapshot.number_of(at)) && false",
        test: Test::It("seeds::what_ended_is_not_brought_back_from_the_file"),
    },
    Seed {
        name: "migration_cut_short_locks_everybody_out",
        file: "journal/recover.rs",
        shipped: "let is_empty = || !holds_sessions(&header, frames);",
        seeded: "let is_empty = || false && !holds_sessions(&header, frames);",
        test: Test::Unit("journal::crash_tests::offline::migrating_loses_nothing"),
    },
    Seed {
        name: "undecodable_session_falls_back_to_its_older_state",
        file: "journal/fold.rs",
        shipped: "(Some(_), _) => {}",
        seeded: "(Some(_), found) => f(found)?,",
        test: Test::Unit("journal::crash_tests::offline::a_fold_is_what_a_store_recovers"),
    },
    Seed {
        name: "sealed_data_fits_any_session",
        file: "journal/cipher.rs",
        shipped: "bytes.extend_from_slice(&id_bytes(id));",
        seeded: "let _ = id_bytes(id);",
        test: Test::Unit("journal::cipher::tests::sealed_data_of_another_session_does_not_open"),
    },
];
