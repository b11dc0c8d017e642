/// The bugs. Each has its test in `tests/models.rs`, where it says how it shows.
const SEEDS: &[Seed] = &[
    Seed {
        name: "counter_after_tag",
        file: "bucket",
        shipped: "\
            if control >> 56 != OVERFLOW_STUCK {
                // Release keeps the counters in order before the tag that they lead to.
                bucket.control.store(control + OVERFLOW_ONE, Release);
            }",
        seeded: "\
            if distance == 0 {
                // SAFETY: masked.
                let next = unsafe { self.bucket((home + 1) & self.mask()) };
                let after = next.control.load(Relaxed);
                let slot = next.free_slot().unwrap_or(0);
                next.slots[slot].store(word.0, Release);
                let tag = u64::from(tag_of(key.hash));
                next.control.store(after | tag << (slot * 8), Release);
                bucket.control.store(control + OVERFLOW_ONE, Release);
                return true;
            }",
    },
    Seed {
        name: "insert_slot_relaxed",
        file: "bucket",
        shipped: "bucket.slots[slot].store(word.0, Release);",
        seeded: "bucket.slots[slot].store(word.0, Relaxed);",
    },
    Seed {
        name: "replace_slot_relaxed",
        file: "bucket",
        shipped: "bucket.slots[place.slot].store(word.0, Release);",
        seeded: "bucket.slots[place.slot].store(word.0, Relaxed);",
    },
    Seed {
        name: "growth_before_copy",
        file: "buckets",
        shipped: "\
        assert!(unsafe { self.arrays[0].copy_into(self.arrays[1]) });
        self.directory.store(self.arrays[1].0, Release);",
        seeded: "\
        self.directory.store(self.arrays[1].0, Release);
        assert!(unsafe { self.arrays[0].copy_into(self.arrays[1]) });",
    },
    Seed {
        name: "touch_by_store",
        file: "life",
        shipped: "&& self.0.compare_exchange(seen.0, next.0, Relaxed, Relaxed).is_ok()",
        seeded: "&& { self.0.store(next.0, Relaxed); true }",
    },
    Seed {
        name: "free_after_one_epoch",
        file: "reclaim",
        shipped: "const EPOCHS_TO_FREE: u64 = 3;",
        seeded: "const EPOCHS_TO_FREE: u64 = 1;",
    },
    Seed {
        name: "pin_without_fence",
        file: "reclaim",
        shipped: "            full_fence();\n",
        seeded: "",
    },
    Seed {
        name: "unpin_relaxed",
        file: "reclaim",
        shipped: "self.slot.epoch.store(self.idle, Release);",
        seeded: "self.slot.epoch.store(self.idle, Relaxed);",
    },
    Seed {
        name: "lent_slot_unchecked",
        file: "reclaim",
        shipped: "if taken == LENT && !returned() {",
        seeded: "if false {",
    },
    Seed {
        name: "supersede_before_update",
        file: "sessions",
        shipped: "\
        self.publish(spot, 1, Kind::Live);
        let last = spot.1.life.supersede();",
        seeded: "\
        let last = spot.1.life.supersede();
        self.publish(spot, 1, Kind::Live);",
    },
    Seed {
        name: "supersede_before_end",
        file: "sessions",
        shipped: "\
        self.publish(spot, 2, Kind::Ended);
        spot.1.life.supersede()",
        seeded: "\
        let last = spot.1.life.supersede();
        self.publish(spot, 2, Kind::Ended);
        last",
    },
    Seed {
        name: "advance_without_barrier",
        file: "reclaim",
        shipped: "let mut quiet = barrier::all_threads(self.asymmetric);",
        seeded: "let mut quiet = true;",
    },
    Seed {
        name: "stamp_without_fence",
        file: "reclaim",
        shipped: "        if !self.asymmetric {\n            // Orders the unlink",
        seeded: "        if false {\n            // Orders the unlink",
    },
];
