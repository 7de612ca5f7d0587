//! Places on the earth as whole numbers: the bits of longitude and latitude take turns, so that what shares leading bits is near.
//!
//! Knows no sorted sets and no commands. All arithmetic is in the order in which Redis does it, for its replies show the last digit.

use std::f64::consts::PI;

pub(crate) const LONGITUDE_MAX: f64 = 180.0;
/// Of the web's Mercator projection.
pub(crate) const LATITUDE_MAX: f64 = 85.051_128_78;
/// Bits a coordinate in a score.
pub(crate) const STEPS_MAX: u32 = 26;
const SCORE_BITS: u32 = 2 * STEPS_MAX;

const EARTH_RADIUS_METERS: f64 = 6_372_797.560_856;
const MERCATOR_METERS_MAX: f64 = 20_037_726.37;

const LATITUDE_BITS: u64 = 0x5555_5555_5555_5555;
const LONGITUDE_BITS: u64 = 0xaaaa_aaaa_aaaa_aaaa;

/// In degrees.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Point {
    pub(crate) longitude: f64,
    pub(crate) latitude: f64,
}

/// A rectangle of the earth: the first `steps` bits of both coordinates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cell {
    bits: u64,
    steps: u32,
}

#[derive(Clone, Copy, Debug)]
struct Area {
    longitude: (f64, f64),
    latitude: (f64, f64),
}

impl Point {
    pub(crate) fn is_on_the_map(self) -> bool {
        (-LONGITUDE_MAX..=LONGITUDE_MAX).contains(&self.longitude)
            && (-LATITUDE_MAX..=LATITUDE_MAX).contains(&self.latitude)
    }

    pub(crate) fn from_score(score: f64) -> Point {
        let cell = Cell {
            bits: to_bits(score),
            steps: STEPS_MAX,
        };
        let area = cell.area();
        let middle = |(low, high): (f64, f64), max: f64| ((low + high) / 2.0).clamp(-max, max);
        Point {
            longitude: middle(area.longitude, LONGITUDE_MAX),
            latitude: middle(area.latitude, LATITUDE_MAX),
        }
    }

    pub(crate) fn score(self) -> f64 {
        Cell::around(self, STEPS_MAX).bits as f64
    }

    /// Great-circle distance (haversine), in meters.
    pub(crate) fn distance(self, other: Point) -> f64 {
        let (latitude, other_latitude) = (radians(self.latitude), radians(other.latitude));
        let u = ((other_latitude - latitude) / 2.0).sin();
        let v = ((radians(other.longitude) - radians(self.longitude)) / 2.0).sin();
        let a = u * u + latitude.cos() * other_latitude.cos() * v * v;
        2.0 * EARTH_RADIUS_METERS * a.sqrt().asin()
    }

    /// The geohash that everybody else writes: all latitudes, eleven characters, of which the last has no bits left.
    pub(crate) fn standard_hash(self) -> [u8; 11] {
        const ALPHABET: &[u8; 32] = b"0123456789bcdefghjkmnpqrstuvwxyz";
        let bits = Cell::within(self, STEPS_MAX, 90.0).bits;
        let mut text = [ALPHABET[0]; 11];
        for (at, character) in text[..10].iter_mut().enumerate() {
            let shift = SCORE_BITS as usize - (at + 1) * 5;
            *character = ALPHABET[(bits >> shift) as usize & 31];
        }
        text
    }
}

impl Cell {
    fn around(point: Point, steps: u32) -> Cell {
        Cell::within(point, steps, LATITUDE_MAX)
    }

    fn within(point: Point, steps: u32, latitude_max: f64) -> Cell {
        let offset = |degrees: f64, max: f64| {
            let part = (degrees - -max) / (max - -max);
            (part * (1_u64 << steps) as f64) as u32
        };
        let latitude = offset(point.latitude, latitude_max);
        let longitude = offset(point.longitude, LONGITUDE_MAX);
        Cell {
            bits: spread(latitude) | spread(longitude) << 1,
            steps,
        }
    }

    fn area(self) -> Area {
        let parts = (1_u64 << self.steps) as f64;
        let span = |place: u32, max: f64| {
            let edge = |place: u32| -max + (f64::from(place) / parts) * (max - -max);
            (edge(place), edge(place.wrapping_add(1)))
        };
        Area {
            longitude: span(gather(self.bits >> 1), LONGITUDE_MAX),
            latitude: span(gather(self.bits), LATITUDE_MAX),
        }
    }

    /// The cell so many to the east and so many to the north, each -1, 0 or 1; around the world.
    fn neighbour(self, east: i32, north: i32) -> Cell {
        let unused = 64 - self.steps * 2;
        let turn = |own: u64, other: u64, by: i32| {
            let (place, gaps) = (self.bits & own, other >> unused);
            match by {
                0 => place,
                1.. => place.wrapping_add(gaps + 1) & (own >> unused),
                ..0 => (place | gaps).wrapping_sub(gaps + 1) & (own >> unused),
            }
        };
        let longitude = turn(LONGITUDE_BITS, LATITUDE_BITS, east);
        let latitude = turn(LATITUDE_BITS, LONGITUDE_BITS, north);
        Cell {
            bits: longitude | latitude,
            steps: self.steps,
        }
    }

    /// The scores of its points: from the first, up to but without the second.
    pub(crate) fn scores(self) -> (f64, f64) {
        let score = |bits: u64| (bits << (SCORE_BITS - self.steps * 2)) as f64;
        (score(self.bits), score(self.bits + 1))
    }
}

/// What is searched, in meters.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Shape {
    Circle { radius: f64 },
    Box { width: f64, height: f64 },
}

impl Shape {
    /// The distance of a point that is within, in meters.
    pub(crate) fn distance_within(self, center: Point, point: Point) -> Option<f64> {
        match self {
            Shape::Circle { radius } => {
                let distance = center.distance(point);
                // Not `<=`: between poles of the earth the distance may be none.
                let outside = distance > radius;
                (!outside).then_some(distance)
            }
            Shape::Box { width, height } => {
                let along = |longitude, latitude| {
                    point.distance(Point {
                        longitude,
                        latitude,
                    })
                };
                let outside = along(center.longitude, point.latitude) > width / 2.0
                    || along(point.longitude, center.latitude) > height / 2.0;
                (!outside).then(|| center.distance(point))
            }
        }
    }

    /// Half of its width and of its height.
    fn halves(self) -> (f64, f64) {
        match self {
            Shape::Circle { radius } => (radius, radius),
            Shape::Box { width, height } => (width / 2.0, height / 2.0),
        }
    }

    /// From the center to the farthest point.
    fn reach(self) -> f64 {
        match self {
            Shape::Circle { radius } => radius,
            Shape::Box { width, height } => {
                ((width / 2.0) * (width / 2.0) + (height / 2.0) * (height / 2.0)).sqrt()
            }
        }
    }

    fn bounds(self, center: Point) -> Area {
        let (width, height) = self.halves();
        let up = degrees(height / EARTH_RADIUS_METERS);
        // Where circles of latitude are shortest.
        let edge = if center.latitude < 0.0 {
            center.latitude - up
        } else {
            center.latitude + up
        };
        let aside = degrees(width / EARTH_RADIUS_METERS / radians(edge).cos());
        Area {
            longitude: (center.longitude - aside, center.longitude + aside),
            latitude: (center.latitude - up, center.latitude + up),
        }
    }

    /// The cells that cover it, in the order in which they are to be looked through: the center's, then those around it.
    pub(crate) fn cells(self, center: Point) -> Vec<Cell> {
        let bounds = self.bounds(center);
        let mut steps = steps_for(self.reach(), center.latitude);
        let mut cell = Cell::around(center, steps);
        if steps > 1 && !reaches(cell, bounds) {
            steps -= 1;
            cell = Cell::around(center, steps);
        }
        let area = cell.area();
        let needed = |east: i32, north: i32| {
            steps < 2
                || !((north < 0 && area.latitude.0 < bounds.latitude.0)
                    || (north > 0 && area.latitude.1 > bounds.latitude.1)
                    || (east < 0 && area.longitude.0 < bounds.longitude.0)
                    || (east > 0 && area.longitude.1 > bounds.longitude.1))
        };
        let mut cells = vec![cell];
        let mut last = None;
        for (east, north) in AROUND {
            if !needed(east, north) {
                continue;
            }
            let neighbour = cell.neighbour(east, north);
            // Around a small world some neighbours are one.
            if last != Some(neighbour) {
                cells.push(neighbour);
                last = Some(neighbour);
            }
        }
        cells
    }
}

/// East and north of the neighbours, in the order of the search.
const AROUND: [(i32, i32); 8] = [
    (0, 1),
    (0, -1),
    (1, 0),
    (-1, 0),
    (1, 1),
    (-1, 1),
    (1, -1),
    (-1, -1),
];

/// True when the cell's neighbours reach all sides of the bounds.
fn reaches(cell: Cell, bounds: Area) -> bool {
    let latitude = |north| cell.neighbour(0, north).area().latitude;
    let longitude = |east| cell.neighbour(east, 0).area().longitude;
    !(latitude(1).1 < bounds.latitude.1
        || latitude(-1).0 > bounds.latitude.0
        || longitude(1).1 < bounds.longitude.1
        || longitude(-1).0 > bounds.longitude.0)
}

/// How fine cells may be so that nine of them cover a search so wide.
fn steps_for(mut meters: f64, latitude: f64) -> u32 {
    if meters == 0.0 {
        return STEPS_MAX;
    }
    let mut steps = 1_i32;
    while meters < MERCATOR_METERS_MAX {
        meters *= 2.0;
        steps += 1;
    }
    steps -= 2;
    // Cells are narrow towards the poles.
    steps -= i32::from(latitude.abs() > 66.0) + i32::from(latitude.abs() > 80.0);
    steps.clamp(1, STEPS_MAX as i32) as u32
}

fn radians(degrees: f64) -> f64 {
    degrees * (PI / 180.0)
}

fn degrees(radians: f64) -> f64 {
    radians / (PI / 180.0)
}

/// Any score's bits as C converts a double to an unsigned number on the usual machines: a sorted set may hold scores that are no places.
fn to_bits(score: f64) -> u64 {
    const HALF: f64 = 9_223_372_036_854_775_808.0;
    const HIGH: u64 = 1 << 63;
    let signed = |value: f64| {
        if (-HALF..HALF).contains(&value) {
            value as i64 as u64
        } else {
            HIGH
        }
    };
    if score < HALF {
        signed(score)
    } else {
        signed(score - HALF) ^ HIGH
    }
}

/// Puts a zero before each bit.
fn spread(half: u32) -> u64 {
    let mut bits = u64::from(half);
    for (shift, mask) in [
        (16, 0x0000_ffff_0000_ffff),
        (8, 0x00ff_00ff_00ff_00ff),
        (4, 0x0f0f_0f0f_0f0f_0f0f),
        (2, 0x3333_3333_3333_3333),
        (1, LATITUDE_BITS),
    ] {
        bits = (bits | bits << shift) & mask;
    }
    bits
}

/// Every second bit from the lowest on: [`spread`] undone.
fn gather(mut bits: u64) -> u32 {
    bits &= LATITUDE_BITS;
    for (shift, mask) in [
        (1, 0x3333_3333_3333_3333),
        (2, 0x0f0f_0f0f_0f0f_0f0f),
        (4, 0x00ff_00ff_00ff_00ff),
        (8, 0x0000_ffff_0000_ffff),
        (16, 0x0000_0000_ffff_ffff),
    ] {
        bits = (bits | bits >> shift) & mask;
    }
    bits as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(longitude: f64, latitude: f64) -> Point {
        Point {
            longitude,
            latitude,
        }
    }

    #[test]
    fn palermo_and_catania_are_where_redis_documents_them() {
        let (palermo, catania) = (at(13.361389, 38.115556), at(15.087269, 37.502669));
        assert_eq!(palermo.score(), 3_479_099_956_230_698.0);
        let stored = Point::from_score(palermo.score());
        assert_eq!(&stored.standard_hash(), b"sqc8b49rny0");
        let distance = stored.distance(Point::from_score(catania.score()));
        assert_eq!(format!("{distance:.4}"), "166274.1516");
    }

    #[test]
    fn a_place_comes_back_within_a_meter_and_its_bits_come_back_whole() {
        for step in 0..1000 {
            let part = f64::from(step) / 1000.0;
            let place = at(360.0 * part - 180.0, 170.0 * (1.0 - part) - 85.0);
            let back = Point::from_score(place.score());
            assert!(place.distance(back) < 1.0, "{place:?} {back:?}");
            assert_eq!(back.score(), place.score(), "{place:?}");
        }
        for bits in [0, 1, 0xffff_ffff, 0x1234_5678] {
            assert_eq!(gather(spread(bits)), bits);
        }
    }

    #[test]
    fn the_cells_of_a_search_cover_every_point_within() {
        for center in [
            at(13.0, 38.0),
            at(-73.9, 40.7),
            at(0.0, 0.0),
            at(100.0, -60.0),
        ] {
            for meters in [10.0, 1000.0, 50_000.0, 1_000_000.0] {
                let shape = Shape::Circle { radius: meters };
                let cells = shape.cells(center);
                for step in 0..64 {
                    let turn = f64::from(step) / 64.0 * 2.0 * PI;
                    let far = meters * 0.99 / EARTH_RADIUS_METERS;
                    let point = at(
                        center.longitude
                            + degrees(far * turn.cos()) / radians(center.latitude).cos(),
                        center.latitude + degrees(far * turn.sin()),
                    );
                    if shape.distance_within(center, point).is_none() {
                        continue;
                    }
                    let score = point.score();
                    let covered = cells
                        .iter()
                        .map(|cell| cell.scores())
                        .any(|(from, to)| from <= score && score < to);
                    assert!(covered, "{meters} m around {center:?}: {point:?}");
                }
            }
        }
    }

    #[test]
    fn neighbours_lead_around_the_world_and_back() {
        let cell = Cell::around(at(179.99, 10.0), 10);
        for (east, north) in AROUND {
            assert_eq!(cell.neighbour(east, north).neighbour(-east, -north), cell);
        }
        let beyond = cell.neighbour(1, 0).area();
        assert!(beyond.longitude.0 < -179.0, "{beyond:?}");
    }
}
