//! Commands on one list.

use larder_wire::Refusal;

use super::element::{put, put_or_null};
use super::number_args::{at_least, int, is, pop_count, span};
use crate::call::Call;
use crate::collection::{CollectionSettings, End, Item, List, Needle};
use crate::events::Classes;
use crate::key::Key;

type Done = Result<(), Refusal>;

pub fn lpush(call: &mut Call<'_>) -> Done {
    push(call, End::Left)
}

pub fn rpush(call: &mut Call<'_>) -> Done {
    push(call, End::Right)
}

pub fn lpushx(call: &mut Call<'_>) -> Done {
    push_existing(call, End::Left)
}

pub fn rpushx(call: &mut Call<'_>) -> Done {
    push_existing(call, End::Right)
}

fn push(call: &mut Call<'_>, end: End) -> Done {
    let (key, settings) = (call.key(1), call.keyspace.collections());
    let elements = call.request.args_from(2);
    let len = call
        .keyspace
        .modify_or_create(key, call.now, |list: &mut List| {
            elements.for_each(|element| list.push(end, element, &settings));
            list.len()
        })?;
    say_push(call, end, key);
    call.effects.verbatim();
    call.reply.int(len as i64);
    Ok(())
}

/// What a push at this end is called.
pub(super) fn say_push(call: &mut Call<'_>, end: End, key: Key<'_>) {
    let event = match end {
        End::Left => "lpush",
        End::Right => "rpush",
    };
    call.say(Classes::LIST, event, key);
}

/// What a pop at this end is called.
pub(super) fn say_pop(call: &mut Call<'_>, end: End, key: Key<'_>) {
    let event = match end {
        End::Left => "lpop",
        End::Right => "rpop",
    };
    call.say_taken(Classes::LIST, event, key);
}

fn push_existing(call: &mut Call<'_>, end: End) -> Done {
    let (key, settings) = (call.key(1), call.keyspace.collections());
    let elements = call.request.args_from(2);
    let len = call.keyspace.modify(key, call.now, |list: &mut List| {
        elements.for_each(|element| list.push(end, element, &settings));
        list.len()
    })?;
    if len.is_some() {
        say_push(call, end, key);
        call.effects.verbatim();
    }
    call.reply.int(len.unwrap_or(0) as i64);
    Ok(())
}

pub fn lpop(call: &mut Call<'_>) -> Done {
    pop(call, End::Left, "lpop")
}

pub fn rpop(call: &mut Call<'_>) -> Done {
    pop(call, End::Right, "rpop")
}

fn pop(call: &mut Call<'_>, end: End, name: &str) -> Done {
    if call.request.len() > 3 {
        return Err(Refusal::wrong_arity(name));
    }
    let (key, settings) = (call.key(1), call.keyspace.collections());
    let count = call.request.get(2).map(pop_count).transpose()?;
    let reply = &mut call.reply;
    let popped = call.keyspace.modify(key, call.now, |list: &mut List| {
        let taken = count.unwrap_or(1).min(list.len());
        if count.is_some() {
            reply.array(taken);
        }
        show_end(list, end, taken, |item| put(reply, item));
        remove_end(list, end, taken, &settings);
        taken
    })?;
    match (popped, count) {
        (None, None) => call.reply.null(),
        (None, Some(_)) => call.reply.null_array(),
        (Some(0), _) => {}
        (Some(_), _) => {
            say_pop(call, end, key);
            call.effects.verbatim();
        }
    }
    Ok(())
}

/// Shows the `count` elements at `end`, the outermost first.
pub(super) fn show_end<'a>(list: &'a List, end: End, count: usize, show: impl FnMut(Item<'a>)) {
    match end {
        End::Left => list.iter().take(count).for_each(show),
        End::Right => list
            .iter_back_from(list.len().saturating_sub(1))
            .take(count)
            .for_each(show),
    }
}

/// Takes out the `count` elements at `end`, of which the list must have so many.
pub(super) fn remove_end(list: &mut List, end: End, count: usize, settings: &CollectionSettings) {
    let from = match end {
        End::Left => 0,
        End::Right => list.len() - count,
    };
    list.remove(from, count, settings);
}

pub fn llen(call: &mut Call<'_>) -> Done {
    let key = call.key(1);
    let list = call.keyspace.read::<List>(key, call.now)?;
    call.reply.int(list.map_or(0, List::len) as i64);
    Ok(())
}

pub fn lrange(call: &mut Call<'_>) -> Done {
    let key = call.key(1);
    let (start, stop) = (int(call.request.arg(2))?, int(call.request.arg(3))?);
    let list = call.keyspace.read::<List>(key, call.now)?;
    let (from, count) = span(start, stop, list.map_or(0, List::len));
    call.reply.array(count);
    for item in list
        .iter()
        .flat_map(|list| list.iter_from(from))
        .take(count)
    {
        put(&mut call.reply, item);
    }
    Ok(())
}

pub fn lindex(call: &mut Call<'_>) -> Done {
    let key = call.key(1);
    let item = match call.keyspace.read::<List>(key, call.now)? {
        None => None,
        Some(list) => place(int(call.request.arg(2))?, list.len()).and_then(|at| list.get(at)),
    };
    put_or_null(&mut call.reply, item);
    Ok(())
}

/// The place that an index means, from the end when negative; `None` outside of the list.
fn place(index: i64, len: usize) -> Option<usize> {
    let (at, count) = span(index, index, len);
    (count == 1).then_some(at)
}

pub fn lset(call: &mut Call<'_>) -> Done {
    let (key, settings) = (call.key(1), call.keyspace.collections());
    let (index, element) = (call.request.arg(2), call.request.arg(3));
    let set = call.keyspace.modify(key, call.now, |list: &mut List| {
        let at = place(int(index)?, list.len()).ok_or(Refusal::OUT_OF_RANGE)?;
        list.set(at, element, &settings);
        Ok(())
    })?;
    set.ok_or(Refusal::NO_SUCH_KEY)??;
    call.say(Classes::LIST, "lset", key);
    call.effects.verbatim();
    call.reply.ok();
    Ok(())
}

pub fn linsert(call: &mut Call<'_>) -> Done {
    let (key, settings) = (call.key(1), call.keyspace.collections());
    let after = match call.request.arg(2) {
        word if is(word, "AFTER") => 1,
        word if is(word, "BEFORE") => 0,
        _ => return Err(Refusal::SYNTAX),
    };
    let (pivot, element) = (Needle::new(call.request.arg(3)), call.request.arg(4));
    let len = call.keyspace.modify(key, call.now, |list: &mut List| {
        let at = list.iter().position(|item| pivot.is(item))?;
        list.insert(at + after, element, &settings);
        Some(list.len())
    })?;
    if let Some(Some(_)) = len {
        call.say(Classes::LIST, "linsert", key);
        call.effects.verbatim();
    }
    call.reply.int(match len {
        None => 0,
        Some(None) => -1,
        Some(Some(len)) => len as i64,
    });
    Ok(())
}

pub fn lrem(call: &mut Call<'_>) -> Done {
    let (key, settings) = (call.key(1), call.keyspace.collections());
    let (count, element) = (int(call.request.arg(2))?, call.request.arg(3));
    let (limit, end) = match count {
        0 => (usize::MAX, End::Left),
        1.. => (count as usize, End::Left),
        ..0 => (count.unsigned_abs() as usize, End::Right),
    };
    let removed = call.keyspace.modify(key, call.now, |list: &mut List| {
        list.remove_matching(element, limit, end, &settings)
    })?;
    let removed = removed.unwrap_or(0);
    if removed > 0 {
        call.say_taken(Classes::LIST, "lrem", key);
        call.effects.verbatim();
    }
    call.reply.int(removed as i64);
    Ok(())
}

pub fn ltrim(call: &mut Call<'_>) -> Done {
    let (key, settings) = (call.key(1), call.keyspace.collections());
    let (start, stop) = (int(call.request.arg(2))?, int(call.request.arg(3))?);
    let trimmed = call.keyspace.modify(key, call.now, |list: &mut List| {
        let len = list.len();
        let (from, kept) = span(start, stop, len);
        list.remove(from + kept, len - from - kept, &settings);
        list.remove(0, from, &settings);
        len - kept
    })?;
    if trimmed.is_some() {
        call.say_taken(Classes::LIST, "ltrim", key);
    }
    if trimmed.unwrap_or(0) > 0 {
        call.effects.verbatim();
    }
    call.reply.ok();
    Ok(())
}

/// What LPOS looks for.
struct Search {
    backwards: bool,
    /// Matches to pass over.
    skip: u64,
    /// Matches wanted, 0 for all; `None` when the answer is one place.
    count: Option<usize>,
    /// Elements to look at, 0 for all.
    limit: usize,
}

impl Search {
    fn parse<'a>(mut args: impl Iterator<Item = &'a [u8]>) -> Result<Search, Refusal> {
        let mut search = Search {
            backwards: false,
            skip: 0,
            count: None,
            limit: 0,
        };
        while let Some(option) = args.next() {
            let value = args.next().ok_or(Refusal::SYNTAX)?;
            if is(option, "RANK") {
                let rank = int(value)?;
                if rank == 0 {
                    return Err(Refusal::fixed(
                        "ERR RANK can't be zero: use 1 to start from the first match, 2 from the second ... or use negative to start from the end of the list",
                    ));
                }
                search.backwards = rank < 0;
                search.skip = rank.unsigned_abs() - 1;
            } else if is(option, "COUNT") {
                search.count = Some(at_least(0, value, "ERR COUNT can't be negative")?);
            } else if is(option, "MAXLEN") {
                search.limit = at_least(0, value, "ERR MAXLEN can't be negative")?;
            } else {
                return Err(Refusal::SYNTAX);
            }
        }
        Ok(search)
    }

    /// The places found, in the order of the search.
    fn run(&self, list: &List, element: &[u8]) -> Vec<usize> {
        let wanted = match self.count {
            None => 1,
            Some(0) => usize::MAX,
            Some(count) => count,
        };
        let limit = if self.limit == 0 {
            usize::MAX
        } else {
            self.limit
        };
        let skip = usize::try_from(self.skip).unwrap_or(usize::MAX);
        let needle = Needle::new(element);
        let matches = |(_, item): &(usize, Item<'_>)| needle.is(*item);
        let len = list.len();
        if self.backwards {
            let items = (0..len)
                .rev()
                .zip(list.iter_back_from(len.saturating_sub(1)));
            let found = items.take(limit).filter(matches).map(|(at, _)| at);
            found.skip(skip).take(wanted).collect()
        } else {
            let found = list
                .iter()
                .enumerate()
                .take(limit)
                .filter(matches)
                .map(|(at, _)| at);
            found.skip(skip).take(wanted).collect()
        }
    }
}

pub fn lpos(call: &mut Call<'_>) -> Done {
    let (key, element) = (call.key(1), call.request.arg(2));
    let search = Search::parse(call.request.args_from(3))?;
    let found = match call.keyspace.read::<List>(key, call.now)? {
        Some(list) => search.run(list, element),
        None => Vec::new(),
    };
    match (search.count, found.first()) {
        (Some(_), _) => {
            call.reply.array(found.len());
            found.iter().for_each(|at| call.reply.int(*at as i64));
        }
        (None, Some(at)) => call.reply.int(*at as i64),
        (None, None) => call.reply.null(),
    }
    Ok(())
}
