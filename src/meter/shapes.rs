//! Which values each histogram has, and the ranges that tell them apart.
//!
//! The classic ranges are those that dashboards of LLM gateways use: from the cost of a hop to the patience of a build.
//! The native ones go as far as the values can; what is past them counts as in the last.

use super::native::Shape;

/// Microseconds, of which a second has so many.
const MICROS: f64 = 1e6;

/// Of a request: from one microsecond to two hours.
pub static DURATION: Shape = Shape::new(
    &[
        5_000,
        10_000,
        25_000,
        50_000,
        100_000,
        250_000,
        500_000,
        1_000_000,
        2_000_000,
        5_000_000,
        10_000_000,
        30_000_000,
        60_000_000,
        120_000_000,
        300_000_000,
        600_000_000,
    ],
    MICROS,
    (-20, 13),
);
/// The gateway's own time, to four seconds.
pub static OVERHEAD: Shape =
    Shape::new(&[5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000], MICROS, (-20, 2));
/// To the first token, to 17 minutes.
pub static FIRST_TOKEN: Shape = Shape::new(
    &[
        20_000, 50_000, 100_000, 200_000, 400_000, 800_000, 1_500_000, 3_000_000, 6_000_000, 12_000_000,
        30_000_000, 60_000_000,
    ],
    MICROS,
    (-20, 10),
);
/// For each further token, to one minute.
pub static PER_TOKEN: Shape = Shape::new(
    &[1_000, 2_500, 5_000, 10_000, 20_000, 40_000, 80_000, 150_000, 300_000, 600_000, 1_000_000],
    MICROS,
    (-20, 6),
);
/// Tokens of a request, to eight million.
pub static TOKENS: Shape = Shape::new(
    &[1, 4, 16, 64, 256, 1_024, 4_096, 16_384, 65_536, 262_144, 1_048_576, 4_194_304],
    1.0,
    (-1, 23),
);
/// Waiting for a place, to one minute. The default bound of the wait is 100 ms.
pub static QUEUE: Shape = Shape::new(
    &[1_000, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 1_000_000, 5_000_000],
    MICROS,
    (-20, 6),
);
