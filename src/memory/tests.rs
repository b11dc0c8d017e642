#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
use super::*;

const MIB: usize = 1 << 20;

/// Tests that read the counters of the process run one at a time.
static PROCESS: Mutex<()> = Mutex::new(());

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() >> 11) as usize % bound
    }
}

fn resident_bytes() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    text.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

fn minor_faults() -> i64 {
    // SAFETY: all-zero is a valid `rusage`.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a local of the right type.
    unsafe { libc::getrusage(libc::RUSAGE_THREAD, &raw mut usage) };
    usage.ru_minflt
}

/// Whether a shadow of all memory blurs what the tests read of the process.
fn address_sanitizer() -> bool {
    option_env!("RUSTFLAGS").is_some_and(|flags| flags.contains("sanitizer=address"))
}

/// An allocation filled with a pattern of its own.
struct Filled {
    start: NonNull<u8>,
    arena: usize,
    len: usize,
    seed: u8,
}

// SAFETY: the allocation is owned.
unsafe impl Send for Filled {}

impl Filled {
    fn new(pool: &Pool, arena: usize, len: usize, seed: u8) -> Filled {
        let start = pool.allocate(arena, len).unwrap();
        assert!(start.addr().get().is_multiple_of(RECORD_ALIGN));
        let filled = Filled { start, arena, len, seed };
        for (index, byte) in filled.bytes().iter_mut().enumerate() {
            *byte = seed.wrapping_add(index as u8);
        }
        filled
    }

    #[expect(clippy::mut_from_ref)]
    fn bytes(&self) -> &mut [u8] {
        // SAFETY: the allocation is ours, that long, and borrowed once at a time in these tests.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }

    fn check_and_free(self, pool: &Pool) {
        for (index, byte) in self.bytes().iter().enumerate() {
            assert_eq!(*byte, self.seed.wrapping_add(index as u8));
        }
        // SAFETY: from `allocate` with these, freed once as `self` is consumed.
        unsafe { pool.free(self.arena, self.start, self.len) };
    }
}

/// One call that gives nothing back may have emptied spans whose pages the next one gives back.
fn drain(pool: &Pool) {
    let mut in_vain = 0;
    while in_vain < 3 {
        in_vain = if pool.trim() > 0 { 0 } else { in_vain + 1 };
    }
}

/// A record handed out twice or a lost link would mix the contents of two owners. Threads churn
/// records and arrays, and pass some to each other, so that most frees meet another's arena.
fn churn(memory: Memory, rounds: usize) -> Pool {
    let pool = Pool::new(memory, 4);
    let shared: Mutex<Vec<Filled>> = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (pool, shared) = (&pool, &shared);
            scope.spawn(move || {
                let mut random = Random(0x9E37_79B9 + thread as u64);
                let mut mine: Vec<Filled> = Vec::new();
                for round in 0..rounds {
                    let len = match random.below(200) {
                        0 => 20_000 + random.below(200_000),
                        1..20 => 40 + random.below(20_000),
                        _ => 40 + random.below(800),
                    };
                    let seed = random.next() as u8;
                    mine.push(Filled::new(pool, thread + random.below(2), len, seed));
                    let bytes = 128 << random.below(16);
                    if round % 64 == 0 {
                        let array = pool.allocate_array(bytes).unwrap();
                        assert!(array.addr().get().is_multiple_of(ARRAY_ALIGN));
                        // SAFETY: the array is that long and initialised.
                        let content = unsafe { std::slice::from_raw_parts(array.as_ptr(), bytes) };
                        assert!(content.iter().all(|&byte| byte == 0));
                        // SAFETY: from `allocate_array` just now.
                        unsafe { pool.free_array(array, bytes) };
                    }
                    if random.below(3) == 0 && !mine.is_empty() {
                        let given = mine.swap_remove(random.below(mine.len()));
                        let mut shared = shared.lock().unwrap();
                        shared.push(given);
                        let index = random.below(shared.len());
                        let taken = shared.swap_remove(index);
                        drop(shared);
                        taken.check_and_free(pool);
                    }
                    if mine.len() > 2_000 || (random.below(3) == 0 && !mine.is_empty()) {
                        mine.swap_remove(random.below(mine.len())).check_and_free(pool);
                    }
                    if round % 4096 == 0 {
                        pool.trim();
                    }
                }
                mine.into_iter().for_each(|filled| filled.check_and_free(pool));
            });
        }
    });
    shared.into_inner().unwrap().into_iter().for_each(|filled| filled.check_and_free(&pool));
    pool.validate();
    pool
}

#[test]
fn churn_keeps_contents_and_gives_all_back() {
    let _alone = lock(&PROCESS);
    let before = resident_bytes();
    let pool = churn(Memory::HugePages, 15_000);
    let high = resident_bytes();
    drain(&pool);
    pool.validate();
    let cached = page::CACHED_PAGES * PAGE_BYTES;
    assert!(pool.mapped_bytes() <= cached, "{} MiB mapped", pool.mapped_bytes() / MIB);
    let low = resident_bytes();
    println!("RSS MiB: {} before, {} after, {} trimmed", before / MIB, high / MIB, low / MIB);
    assert!(address_sanitizer() || low < before + cached + 24 * MIB);
}

#[test]
fn churn_keeps_contents_in_the_system_allocator() {
    let _alone = lock(&PROCESS);
    let pool = churn(Memory::System, 4_000);
    assert_eq!((pool.mapped_bytes(), pool.trim()), (0, 0));
}

/// A pool dropped with live records of all kinds must unmap them, and must not touch them.
#[test]
fn drop_unmaps_what_is_still_in_use() {
    let _alone = lock(&PROCESS);
    let before = resident_bytes();
    for _ in 0..20 {
        let pool = Pool::new(Memory::HugePages, 2);
        for len in [0, 40, 5_000, 30_000, 100_000, 3_000_000] {
            Filled::new(&pool, 1, len, 1);
        }
        pool.allocate_array(8 * MIB).unwrap();
        pool.validate();
        assert!(pool.mapped_bytes() >= 11 * MIB);
    }
    assert!(resident_bytes() < before + 8 * MIB);
}

/// One freed record in each span of each page keeps merging honest: pages come back whole.
#[test]
fn blocks_merge_into_whole_pages() {
    let _alone = lock(&PROCESS);
    let pages = Pages::new();
    let mut random = Random(7);
    for _ in 0..20 {
        let mut blocks = Vec::new();
        for _ in 0..2_000 {
            let bytes = UNIT_BYTES << random.below(10).min(random.below(10));
            let block = pages.take(bytes).unwrap();
            assert!(block.addr().get().is_multiple_of(bytes));
            blocks.push((block, bytes));
            if random.below(3) == 0 {
                let (block, bytes) = blocks.swap_remove(random.below(blocks.len()));
                // SAFETY: taken above, given back once.
                unsafe { pages.give(block, bytes) };
            }
        }
        pages.validate();
        let mut ranges: Vec<_> = blocks.iter().map(|(b, n)| (b.addr().get(), *n)).collect();
        ranges.sort_unstable();
        assert!(ranges.windows(2).all(|pair| pair[0].0 + pair[0].1 <= pair[1].0), "overlap");
        for (block, bytes) in blocks.drain(..) {
            // SAFETY: taken above, given back once.
            unsafe { pages.give(block, bytes) };
        }
        pages.validate();
        while pages.trim(0) > 0 {}
        pages.validate();
        assert_eq!(pages.mapped_bytes(), page::CACHED_PAGES * PAGE_BYTES);
    }
}

/// A pool that was large keeps few records, one here and one there. As they are replaced they move
/// together, and what they leave goes back.
#[test]
fn what_is_left_of_a_large_pool_moves_together() {
    let _alone = lock(&PROCESS);
    let pool = Pool::new(Memory::HugePages, 4);
    let mut random = Random(11);
    let mut records: Vec<_> = (0..200_000).map(|tag| Filled::new(&pool, tag, 240, 3)).collect();
    for left in (1..records.len()).rev() {
        records.swap(left, random.below(left + 1));
    }
    records.drain(10_000..).for_each(|filled| filled.check_and_free(&pool));
    drain(&pool);
    let scattered = pool.mapped_bytes();
    let border = pool.huge.as_ref().unwrap().pages.border();
    let beyond = |records: &[Filled]| {
        records.iter().filter(|filled| filled.start.addr().get() >= border).count()
    };
    assert!(beyond(&records) > records.len() / 4, "they are not scattered");
    for round in 0..12 {
        for (at, record) in records.iter_mut().enumerate() {
            let fresh = Filled::new(&pool, round * at, 240, 3);
            std::mem::replace(record, fresh).check_and_free(&pool);
        }
        drain(&pool);
        pool.validate();
    }
    let together = pool.mapped_bytes();
    println!("{} MiB scattered, {} together", scattered / MIB, together / MIB);
    assert!(together < scattered / 2);
    assert_eq!(beyond(&records), 0, "records beyond the border");
    // A pool that grows again uses all there is.
    records.extend((0..100_000).map(|tag| Filled::new(&pool, tag, 240, 3)));
    drain(&pool);
    pool.validate();
    records.into_iter().for_each(|filled| filled.check_and_free(&pool));
    drain(&pool);
    pool.validate();
    assert!(pool.mapped_bytes() <= page::CACHED_PAGES * PAGE_BYTES);
}

#[test]
#[should_panic(expected = "written to after it was freed")]
fn a_write_after_free_is_found() {
    let _alone = lock(&PROCESS);
    let pool = Pool::new(Memory::HugePages, 1);
    let record = pool.allocate(0, 100).unwrap();
    // SAFETY: from `allocate` above.
    unsafe { pool.free(0, record, 100) };
    // SAFETY: wrong on purpose; the memory is still mapped, as the span is the arena's spare.
    unsafe { record.cast::<[u8; 100]>().write([1; 100]) };
    pool.validate();
}

#[test]
#[should_panic(expected = "freed with its own length")]
fn a_free_with_another_length_is_found() {
    let _alone = lock(&PROCESS);
    let pool = Pool::new(Memory::HugePages, 1);
    let record = pool.allocate(0, 100).unwrap();
    // SAFETY: wrong on purpose; both lengths have spans of 16 KiB, so the header is found.
    unsafe { pool.free(0, record, 50) };
}

#[test]
fn records_cost_little_more_than_their_bytes() {
    let _alone = lock(&PROCESS);
    let pool = Pool::new(Memory::HugePages, 16);
    for index in 0..100_000 {
        pool.allocate(index, 240).unwrap();
    }
    let allowed = 100_000 * 240 * 102 / 100 + 16 * (16 << 10) + PAGE_BYTES;
    assert!(pool.mapped_bytes() <= allowed, "{} of {allowed}", pool.mapped_bytes());
}

/// Each huge page takes 2 MiB at its first touch: a small store must not touch many.
#[test]
fn a_small_store_takes_little_memory() {
    let _alone = lock(&PROCESS);
    let before = resident_bytes();
    let pool = Pool::new(Memory::HugePages, 64);
    let mut random = Random(3);
    let mut payload = 0;
    for arena in 0..100 {
        let len = 40 + random.below(if arena % 10 == 0 { 20_000 } else { 1_000 });
        payload += len;
        Filled::new(&pool, arena, len, 0);
    }
    for _ in 0..64 {
        pool.allocate_array(512).unwrap();
    }
    let taken = resident_bytes().saturating_sub(before);
    println!("100 sessions, {payload} bytes: {} KiB resident", taken >> 10);
    assert!(taken < 7 * MIB, "{} KiB", taken >> 10);
}

#[test]
fn reserved_memory_does_not_fault() {
    let _alone = lock(&PROCESS);
    let pool = Pool::new(Memory::HugePages, 16);
    pool.reserve(200_000, 240, 16 * MIB).unwrap();
    pool.validate();
    let mapped = pool.mapped_bytes();
    assert_eq!(pool.trim(), 0, "what is reserved stays");
    let before = minor_faults();
    for index in 0..200_000 {
        let record = pool.allocate(index, 240).unwrap();
        // SAFETY: a record of 240 bytes.
        unsafe { record.write_bytes(1, 240) };
    }
    for _ in 0..32 {
        pool.allocate_array(512 << 10).unwrap();
    }
    let faults = minor_faults() - before;
    println!("{faults} faults in {} MiB", pool.mapped_bytes() / MIB);
    assert!(address_sanitizer() || faults < 50, "{faults} faults");
    assert_eq!(pool.mapped_bytes(), mapped);
    pool.validate();
}
