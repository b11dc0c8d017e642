//! What the operating system says about the machine and about this process.

use std::fs;

/// One line for the head of the tables.
pub fn describe() -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let cpu = field("/proc/cpuinfo", "model name").unwrap_or_else(|| "unknown CPU".into());
    let memory = kib("/proc/meminfo", "MemTotal").map_or(0, |kib| kib >> 20);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let huge = fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled");
    let huge = huge.unwrap_or_default();
    let huge = huge.split(['[', ']']).nth(1).unwrap_or("unknown");
    format!(
        "{cores} cores, {cpu}, {memory} GiB, kernel {}, transparent huge pages {huge}",
        kernel.trim(),
    )
}

/// Resident bytes, exactly counted; takes the kernel a while with much memory.
pub fn resident_bytes() -> u64 {
    kib("/proc/self/smaps_rollup", "Rss").map_or_else(resident_bytes_quick, |kib| kib << 10)
}

/// Resident bytes from the kernel's running count, cheap enough to sample.
pub fn resident_bytes_quick() -> u64 {
    let text = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = text.split(' ').nth(1).and_then(|word| word.parse().ok()).unwrap_or(0);
    pages * page_bytes()
}

/// Bytes that can be allocated without swapping, if known.
pub fn available_bytes() -> Option<u64> {
    kib("/proc/meminfo", "MemAvailable").map(|kib| kib << 10)
}

/// Hands the allocator's free memory back, so that one store's remains do not serve the next.
pub fn trim_heap() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: The call has no precondition.
    unsafe {
        libc::malloc_trim(0);
    }
}

fn page_bytes() -> u64 {
    // SAFETY: The call has no precondition.
    let bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    u64::try_from(bytes).unwrap_or(4096)
}

fn kib(path: &str, name: &str) -> Option<u64> {
    field(path, name)?.split(' ').next()?.parse().ok()
}

/// The value of the first `name : value` line of a file.
fn field(path: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    text.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == name).then(|| value.trim().to_owned())
    })
}
