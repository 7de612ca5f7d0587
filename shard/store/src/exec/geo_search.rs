//! Searches around a place: GEOSEARCH, GEOSEARCHSTORE and the older GEORADIUS family.

use std::cmp::Ordering;

use larder_wire::Refusal;

use super::element::put;
use super::geo::{point, put_distance, put_point, unit};
use super::number_args::{int, is};
use super::partial_sort::partial_sort;
use super::zset_range::replace;
use crate::call::Call;
use crate::collection::{Item, Zset};
use crate::float::parse_double;
use crate::geohash::{Point, Shape};

type Done = Result<(), Refusal>;

/// Which command it is: they share options and differ in which they take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Around { may_store: bool },
    AroundMember { may_store: bool },
    Search,
    SearchStore,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Nearest,
    Farthest,
}

/// One search, understood.
#[derive(Clone, Debug)]
struct Query {
    center: Option<Point>,
    shape: Option<Shape>,
    /// Meters of the unit that distances are told in.
    meters: f64,
    with_distance: bool,
    with_hash: bool,
    with_point: bool,
    order: Option<Order>,
    count: Option<usize>,
    any: bool,
    /// Argument that names the key to store in.
    target: Option<usize>,
    store_distance: bool,
    /// FROMMEMBER was given, FROMLONLAT was given.
    from: (bool, bool),
}

/// One place found.
#[derive(Clone, Debug)]
struct Hit {
    member: Vec<u8>,
    score: f64,
    point: Point,
    /// Meters.
    distance: f64,
}

pub fn georadius(call: &mut Call<'_>) -> Done {
    search(call, Form::Around { may_store: true })
}

pub fn georadius_ro(call: &mut Call<'_>) -> Done {
    search(call, Form::Around { may_store: false })
}

pub fn georadiusbymember(call: &mut Call<'_>) -> Done {
    search(call, Form::AroundMember { may_store: true })
}

pub fn georadiusbymember_ro(call: &mut Call<'_>) -> Done {
    search(call, Form::AroundMember { may_store: false })
}

pub fn geosearch(call: &mut Call<'_>) -> Done {
    search(call, Form::Search)
}

pub fn geosearchstore(call: &mut Call<'_>) -> Done {
    search(call, Form::SearchStore)
}

impl Form {
    fn may_store(self) -> bool {
        match self {
            Form::Around { may_store } | Form::AroundMember { may_store } => may_store,
            Form::Search | Form::SearchStore => false,
        }
    }

    fn is_search(self) -> bool {
        match self {
            Form::Around { .. } | Form::AroundMember { .. } => false,
            Form::Search | Form::SearchStore => true,
        }
    }

    fn source(self) -> usize {
        match self {
            Form::Around { .. } | Form::AroundMember { .. } | Form::Search => 1,
            Form::SearchStore => 2,
        }
    }
}

fn search(call: &mut Call<'_>, form: Form) -> Done {
    let source = call.key(form.source());
    let settings = call.keyspace.collections();
    let zset = call.keyspace.read::<Zset>(source, call.now)?;
    let query = Query::parse(call.request, form, zset)?;
    let hits = match (zset, query.center, query.shape) {
        (Some(zset), Some(center), Some(shape)) => query.hits(zset, center, shape),
        // Without the key there is no member to start from.
        (None, _, _) | (_, None, _) | (_, _, None) => Vec::new(),
    };
    let Some(target) = query.target else {
        query.answer(call, &hits);
        return Ok(());
    };
    let mut result = Zset::new();
    for hit in &hits {
        let score = if query.store_distance {
            hit.distance / query.meters
        } else {
            hit.score
        };
        result.set(&hit.member, score, &settings);
    }
    let target = call.key(target);
    let event = if form.is_search() {
        "geosearchstore"
    } else {
        "georadiusstore"
    };
    replace(call, target, result, event)
}

/// A length of at least 0.
fn length(text: &[u8], refusal: &'static str) -> Result<f64, Refusal> {
    parse_double(text).ok_or(Refusal::fixed(refusal))
}

impl Query {
    fn parse(
        request: larder_wire::resp::Request<'_>,
        form: Form,
        zset: Option<&Zset>,
    ) -> Result<Query, Refusal> {
        let mut query = Query {
            center: None,
            shape: None,
            meters: 1.0,
            with_distance: false,
            with_hash: false,
            with_point: false,
            order: None,
            count: None,
            any: false,
            target: None,
            store_distance: false,
            from: (false, false),
        };
        let options = match form {
            Form::Around { .. } => {
                query.center = Some(point(request.arg(2), request.arg(3))?);
                query.circle(request.arg(4), request.arg(5))?;
                6
            }
            Form::AroundMember { .. } => {
                if let Some(zset) = zset {
                    query.center = Some(place_of(zset, request.arg(2))?);
                    query.circle(request.arg(3), request.arg(4))?;
                }
                5
            }
            Form::Search => 2,
            Form::SearchStore => {
                query.target = Some(1);
                3
            }
        };
        query.options(request, options, form, zset)?;
        query.check(request.arg(0), form)?;
        // Without a count in view all have to be found to know the nearest.
        if query.count.is_some() && !query.any {
            query.order.get_or_insert(Order::Nearest);
        }
        Ok(query)
    }

    fn circle(&mut self, radius: &[u8], unit_name: &[u8]) -> Done {
        let radius = length(radius, "ERR need numeric radius")?;
        if radius < 0.0 {
            return Err(Refusal::fixed("ERR radius cannot be negative"));
        }
        self.meters = unit(unit_name)?;
        self.shape = Some(Shape::Circle {
            radius: radius * self.meters,
        });
        Ok(())
    }

    fn rectangle(&mut self, width: &[u8], height: &[u8], unit_name: &[u8]) -> Done {
        let width = length(width, "ERR need numeric width")?;
        let height = length(height, "ERR need numeric height")?;
        if width < 0.0 || height < 0.0 {
            return Err(Refusal::fixed("ERR height or width cannot be negative"));
        }
        self.meters = unit(unit_name)?;
        self.shape = Some(Shape::Box {
            width: width * self.meters,
            height: height * self.meters,
        });
        Ok(())
    }

    fn options(
        &mut self,
        request: larder_wire::resp::Request<'_>,
        first: usize,
        form: Form,
        zset: Option<&Zset>,
    ) -> Done {
        let searches = form.is_search();
        let (mut from_member, mut from_point) = (false, false);
        let mut at = first;
        while let Some(word) = request.get(at) {
            let after = request.len() - at - 1;
            let arg = |offset: usize| request.arg(at + offset);
            let mut taken = 1;
            if is(word, "WITHDIST") {
                self.with_distance = true;
            } else if is(word, "WITHHASH") {
                self.with_hash = true;
            } else if is(word, "WITHCOORD") {
                self.with_point = true;
            } else if is(word, "ANY") {
                self.any = true;
            } else if is(word, "ASC") {
                self.order = Some(Order::Nearest);
            } else if is(word, "DESC") {
                self.order = Some(Order::Farthest);
            } else if is(word, "COUNT") && after >= 1 {
                let count = usize::try_from(int(arg(1))?)
                    .ok()
                    .filter(|count| *count > 0);
                self.count = Some(count.ok_or(Refusal::fixed("ERR COUNT must be > 0"))?);
                taken = 2;
            } else if form.may_store() && after >= 1 && is(word, "STORE") {
                (self.target, self.store_distance) = (Some(at + 1), false);
                taken = 2;
            } else if form.may_store() && after >= 1 && is(word, "STOREDIST") {
                (self.target, self.store_distance) = (Some(at + 1), true);
                taken = 2;
            } else if searches && after >= 1 && !from_point && is(word, "FROMMEMBER") {
                if let Some(zset) = zset {
                    self.center = Some(place_of(zset, arg(1))?);
                }
                from_member = true;
                taken = 2;
            } else if searches && after >= 2 && !from_member && is(word, "FROMLONLAT") {
                self.center = Some(point(arg(1), arg(2))?);
                from_point = true;
                taken = 3;
            } else if searches && after >= 2 && !self.is_box() && is(word, "BYRADIUS") {
                self.circle(arg(1), arg(2))?;
                taken = 3;
            } else if searches && after >= 3 && !self.is_circle() && is(word, "BYBOX") {
                self.rectangle(arg(1), arg(2), arg(3))?;
                taken = 4;
            } else if form == Form::SearchStore && is(word, "STOREDIST") {
                self.store_distance = true;
            } else {
                return Err(Refusal::SYNTAX);
            }
            at += taken;
        }
        self.from = (from_member, from_point);
        Ok(())
    }

    fn is_box(&self) -> bool {
        matches!(self.shape, Some(Shape::Box { .. }))
    }

    fn is_circle(&self) -> bool {
        matches!(self.shape, Some(Shape::Circle { .. }))
    }

    /// `name` is the command's as the client wrote it.
    fn check(&self, name: &[u8], form: Form) -> Done {
        let name = String::from_utf8_lossy(name);
        if self.target.is_some() && (self.with_distance || self.with_hash || self.with_point) {
            let what = match form {
                Form::SearchStore => "GEOSEARCHSTORE",
                Form::Around { .. } | Form::AroundMember { .. } | Form::Search => {
                    "STORE option in GEORADIUS"
                }
            };
            return Err(Refusal::new(format!(
                "ERR {what} is not compatible with WITHDIST, WITHHASH and WITHCOORD options"
            )));
        }
        if form.is_search() && self.from == (false, false) {
            return Err(Refusal::new(format!(
                "ERR exactly one of FROMMEMBER or FROMLONLAT can be specified for {name}"
            )));
        }
        if form.is_search() && self.shape.is_none() {
            return Err(Refusal::new(format!(
                "ERR exactly one of BYRADIUS and BYBOX can be specified for {name}"
            )));
        }
        if self.any && self.count.is_none() {
            return Err(Refusal::fixed(
                "ERR the ANY argument requires COUNT argument",
            ));
        }
        Ok(())
    }

    /// What is found, in order, no more than are wanted.
    fn hits(&self, zset: &Zset, center: Point, shape: Shape) -> Vec<Hit> {
        let enough = if self.any {
            self.count.unwrap_or(usize::MAX)
        } else {
            usize::MAX
        };
        let mut hits: Vec<Hit> = Vec::new();
        for cell in shape.cells(center) {
            let (from, to) = cell.scores();
            let first = zset.count_scores(|score| score < from);
            let within = zset.iter_from(first).take_while(|(_, score)| *score < to);
            for (member, score) in within {
                if hits.len() >= enough {
                    break;
                }
                hits.extend(hit(member, score, center, shape));
            }
        }
        let wanted = self.count.unwrap_or(usize::MAX).min(hits.len());
        if let Some(order) = self.order {
            // Among distances that are one the order of Redis, whose sort stops when the first ones stand.
            let compare = |one: &Hit, other: &Hit| match order {
                Order::Nearest => nearer(one, other),
                Order::Farthest => nearer(other, one),
            };
            if wanted == hits.len() {
                hits.sort_by(compare);
            } else {
                partial_sort(&mut hits, wanted, compare);
            }
        }
        hits.truncate(wanted);
        hits
    }

    fn answer(&self, call: &mut Call<'_>, hits: &[Hit]) {
        let reply = &mut call.reply;
        let extras = [self.with_distance, self.with_hash, self.with_point];
        let extras = extras.into_iter().filter(|wanted| *wanted).count();
        reply.array(hits.len());
        for hit in hits {
            if extras > 0 {
                reply.array(extras + 1);
            }
            put(reply, Item::Bytes(&hit.member));
            if self.with_distance {
                put_distance(reply, hit.distance / self.meters);
            }
            if self.with_hash {
                reply.int(hit.score as i64);
            }
            if self.with_point {
                put_point(reply, hit.point);
            }
        }
    }
}

fn nearer(one: &Hit, other: &Hit) -> Ordering {
    let (one, other) = (one.distance, other.distance);
    one.partial_cmp(&other)
        .unwrap_or_else(|| one.total_cmp(&other))
}

fn hit(member: Item<'_>, score: f64, center: Point, shape: Shape) -> Option<Hit> {
    let point = Point::from_score(score);
    let distance = shape.distance_within(center, point)?;
    Some(Hit {
        member: member.to_vec(),
        score,
        point,
        distance,
    })
}

fn place_of(zset: &Zset, member: &[u8]) -> Result<Point, Refusal> {
    zset.score(member)
        .map(Point::from_score)
        .ok_or(Refusal::fixed("ERR could not decode requested zset member"))
}
