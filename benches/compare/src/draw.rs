//! Random keys and key sequences, all drawn before the clock starts.

use clap::ValueEnum;

use crate::contender::{VALUE_BYTES, Value};

/// Draws per thread: longer than any cache remembers.
pub const SEQUENCE_LEN: usize = 1 << 22;

const ZIPF_THETA: f64 = 0.99;

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Workload {
    Uniform,
    Zipf,
}

impl Workload {
    pub fn name(self) -> &'static str {
        match self {
            Workload::Uniform => "uniform",
            Workload::Zipf => "zipf",
        }
    }

    /// One sequence of indexes below `sessions` per thread.
    pub fn sequences(self, sessions: usize, threads: usize) -> Vec<Vec<u32>> {
        let zipf = match self {
            Workload::Uniform => None,
            Workload::Zipf => Some(Zipf::new(sessions)),
        };
        let sequence = |thread: usize| {
            let mut random = Random::new(0x5EED + thread as u64);
            (0..SEQUENCE_LEN)
                .map(|_| match &zipf {
                    None => random.below(sessions) as u32,
                    Some(zipf) => zipf.draw(&mut random),
                })
                .collect()
        };
        (0..threads).map(sequence).collect()
    }
}

/// SplitMix64: a few instructions a draw, and every seed gives a good sequence.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    #[inline(always)]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        bits ^ (bits >> 31)
    }

    #[inline(always)]
    pub fn next_key(&mut self) -> u128 {
        (u128::from(self.next()) << 64) | u128::from(self.next())
    }

    #[inline(always)]
    pub fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.next()) * bound as u128) >> 64) as usize
    }

    /// Uniform in `0.0..1.0`.
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// A value whose bytes nothing can foresee.
pub fn value(random: &mut Random) -> Value {
    let mut value = [0; VALUE_BYTES];
    for chunk in value.chunks_exact_mut(8) {
        chunk.copy_from_slice(&random.next().to_le_bytes());
    }
    value
}

/// Ranks by the quick method of Gray et al. (SIGMOD 1994), then scattered over the indexes, so
/// that the popular sessions are no neighbours in memory.
struct Zipf {
    zeta: f64,
    alpha: f64,
    eta: f64,
    index_by_rank: Vec<u32>,
}

impl Zipf {
    fn new(count: usize) -> Zipf {
        let zeta: f64 = (1..=count).map(|rank| (rank as f64).powf(-ZIPF_THETA)).sum();
        let zeta_two = 1.0 + 0.5f64.powf(ZIPF_THETA);
        let eta = (1.0 - (2.0 / count as f64).powf(1.0 - ZIPF_THETA)) / (1.0 - zeta_two / zeta);
        let mut index_by_rank: Vec<u32> = (0..count as u32).collect();
        let mut random = Random::new(0x5CA7);
        for last in (1..count).rev() {
            index_by_rank.swap(last, random.below(last + 1));
        }
        Zipf { zeta, alpha: 1.0 / (1.0 - ZIPF_THETA), eta, index_by_rank }
    }

    fn draw(&self, random: &mut Random) -> u32 {
        let count = self.index_by_rank.len();
        let unit = random.unit();
        let mass = unit * self.zeta;
        let rank = if mass < 1.0 {
            0
        } else if mass < 1.0 + 0.5f64.powf(ZIPF_THETA) {
            1
        } else {
            (count as f64 * (self.eta * unit - self.eta + 1.0).powf(self.alpha)) as usize
        };
        self.index_by_rank[rank.min(count - 1)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zipf_prefers_few_and_reaches_many() {
        let count = 1000;
        let sequence = &Workload::Zipf.sequences(count, 1)[0];
        let mut hits = vec![0u32; count];
        for &index in sequence {
            hits[index as usize] += 1;
        }
        hits.sort_unstable_by(|a, b| b.cmp(a));
        let share = f64::from(hits[0]) / sequence.len() as f64;
        // The first of 1000 ranks has 1 / zeta(1000, 0.99), that is 12.9 %.
        assert!((0.12..0.14).contains(&share), "{share}");
        assert!(hits[count - 1] > 0);
    }

    #[test]
    fn uniform_stays_below_its_bound() {
        for sessions in [1, 2, 3, 10_000] {
            let sequence = &Workload::Uniform.sequences(sessions, 1)[0];
            assert!(sequence.iter().all(|&index| (index as usize) < sessions));
        }
    }
}
