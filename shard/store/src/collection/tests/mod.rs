//! Every structure against the std collection that it must equal, with captures taken on the way.

mod lists;
mod packed;
mod streams;
mod tables;
mod zsets;

use crate::random::Random;

/// Runs `story` with many seeds; a failure names its seed.
fn for_seeds(seeds: u64, story: impl Fn(&mut Random)) {
    for seed in 0..seeds {
        let run = std::panic::AssertUnwindSafe(|| story(&mut Random::new(seed)));
        if let Err(panic) = std::panic::catch_unwind(run) {
            eprintln!("failed with seed {seed}");
            std::panic::resume_unwind(panic);
        }
    }
}

/// Text of any length class, integers at the edges of their encodings included.
fn any_text(random: &mut Random) -> Vec<u8> {
    const EDGES: [i64; 20] = [
        0,
        127,
        128,
        -1,
        4095,
        4096,
        -4096,
        -4097,
        32767,
        32768,
        -32768,
        -32769,
        8_388_607,
        8_388_608,
        -8_388_609,
        2_147_483_647,
        2_147_483_648,
        -2_147_483_649,
        i64::MAX,
        i64::MIN,
    ];
    const LENGTHS: [usize; 12] = [0, 1, 5, 62, 63, 64, 65, 125, 126, 127, 300, 4090];
    match random.below(20) {
        0..6 => EDGES[random.below(EDGES.len())].to_string().into_bytes(),
        6..9 => (random.next_u64() as i64 >> random.below(64))
            .to_string()
            .into_bytes(),
        19 => {
            let len = [4095, 4096, 4097, 16376, 16377, 16378, 16379, 16383, 20000][random.below(9)];
            vec![b'a' + random.below(26) as u8; len]
        }
        _ => {
            let len = LENGTHS[random.below(LENGTHS.len())];
            (0..len).map(|_| random.next_u64() as u8).collect()
        }
    }
}
