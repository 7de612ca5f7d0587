//! Places in sorted sets, one by one: GEOADD, GEOPOS, GEODIST, GEOHASH. A place's score is its geohash.

use larder_wire::Refusal;
use larder_wire::resp::ReplyWriter;

use super::number_args::is;
use super::zset::{AddOptions, add_members};
use crate::call::Call;
use crate::collection::Zset;
use crate::float::parse_double;
use crate::geohash::Point;

type Done = Result<(), Refusal>;

pub fn geoadd(call: &mut Call<'_>) -> Done {
    let mut options = AddOptions::default();
    let mut first = 2;
    for word in call.request.args_from(2) {
        match word {
            word if is(word, "NX") => options.only_new = true,
            word if is(word, "XX") => options.only_existing = true,
            word if is(word, "CH") => options.count_changed = true,
            _ => break,
        }
        first += 1;
    }
    let mut rest = call.request.args_from(first);
    if !rest.len().is_multiple_of(3) || (options.only_new && options.only_existing) {
        return Err(Refusal::SYNTAX);
    }
    let mut places = Vec::with_capacity(rest.len() / 3);
    while let (Some(longitude), Some(latitude), Some(member)) =
        (rest.next(), rest.next(), rest.next())
    {
        places.push((point(longitude, latitude)?.score(), member));
    }
    if places.is_empty() {
        return Err(Refusal::SYNTAX);
    }
    add_members(call, options, places.into_iter())
}

pub(super) fn point(longitude: &[u8], latitude: &[u8]) -> Result<Point, Refusal> {
    let degrees = |text| parse_double(text).ok_or(Refusal::NOT_A_FLOAT);
    let point = Point {
        longitude: degrees(longitude)?,
        latitude: degrees(latitude)?,
    };
    if point.is_on_the_map() {
        return Ok(point);
    }
    Err(Refusal::new(format!(
        "ERR invalid longitude,latitude pair {:.6},{:.6}",
        point.longitude, point.latitude
    )))
}

/// Meters of a unit.
pub(super) fn unit(word: &[u8]) -> Result<f64, Refusal> {
    [("m", 1.0), ("km", 1000.0), ("ft", 0.3048), ("mi", 1609.34)]
        .into_iter()
        .find(|(name, _)| is(word, name))
        .map(|(_, meters)| meters)
        .ok_or(Refusal::fixed(
            "ERR unsupported unit provided. please use M, KM, FT, MI",
        ))
}

pub fn geopos(call: &mut Call<'_>) -> Done {
    let (key, members) = (call.key(1), call.request.args_from(2));
    let zset = call.keyspace.read::<Zset>(key, call.now)?;
    call.reply.array(members.len());
    for member in members {
        match zset.and_then(|zset| zset.score(member)) {
            Some(score) => put_point(&mut call.reply, Point::from_score(score)),
            None => call.reply.null_array(),
        }
    }
    Ok(())
}

pub(super) fn put_point(reply: &mut ReplyWriter<'_>, point: Point) {
    reply.array(2);
    for degrees in [point.longitude, point.latitude] {
        reply.double_text(human(degrees).as_bytes());
    }
}

/// Seventeen digits behind the point, without zeros at the end.
fn human(value: f64) -> String {
    let text = format!("{value:.17}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    match text {
        "-0" => "0".to_owned(),
        text => text.to_owned(),
    }
}

pub(super) fn put_distance(reply: &mut ReplyWriter<'_>, distance: f64) {
    reply.bulk(format!("{distance:.4}").as_bytes());
}

pub fn geodist(call: &mut Call<'_>) -> Done {
    let meters = match call.request.len() {
        ..=4 => 1.0,
        5 => unit(call.request.arg(4))?,
        6.. => return Err(Refusal::SYNTAX),
    };
    let (key, one, other) = (call.key(1), call.request.arg(2), call.request.arg(3));
    let zset = call.keyspace.read::<Zset>(key, call.now)?;
    let place = |member| Some(Point::from_score(zset?.score(member)?));
    match (place(one), place(other)) {
        (Some(one), Some(other)) => put_distance(&mut call.reply, one.distance(other) / meters),
        (None, _) | (_, None) => call.reply.null(),
    }
    Ok(())
}

pub fn geohash(call: &mut Call<'_>) -> Done {
    let (key, members) = (call.key(1), call.request.args_from(2));
    let zset = call.keyspace.read::<Zset>(key, call.now)?;
    call.reply.array(members.len());
    for member in members {
        match zset.and_then(|zset| zset.score(member)) {
            Some(score) => {
                let hash = Point::from_score(score).standard_hash();
                call.reply.bulk(&hash);
            }
            None => call.reply.null(),
        }
    }
    Ok(())
}
