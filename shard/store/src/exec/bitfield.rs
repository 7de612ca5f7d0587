//! BITFIELD: integers of any width up to 64 bits at any bit of a string.

use larder_wire::Refusal;

use super::args::int_arg;
use super::bits::bit_offset;
use crate::call::Call;
use crate::events::Classes;
use crate::number::parse_i64;

#[derive(Clone, Copy)]
struct Width {
    signed: bool,
    bits: u32,
}

impl Width {
    fn parse(text: &[u8]) -> Result<Width, Refusal> {
        const WRONG: Refusal = Refusal::fixed(
            "ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported but i64 is.",
        );
        let (signed, digits) = match text {
            [b'i', rest @ ..] => (true, rest),
            [b'u', rest @ ..] => (false, rest),
            _ => return Err(WRONG),
        };
        let max = if signed { 64 } else { 63 };
        match parse_i64(digits) {
            Some(bits) if (1..=max).contains(&bits) => Ok(Width {
                signed,
                bits: bits as u32,
            }),
            Some(_) | None => Err(WRONG),
        }
    }

    fn max(self) -> i128 {
        (1i128 << (self.bits - u32::from(self.signed))) - 1
    }

    fn min(self) -> i128 {
        if self.signed {
            -(1i128 << (self.bits - 1))
        } else {
            0
        }
    }

    /// True when a signed field's greatest number less `value` is more than 64 bits hold: only saturation shows it.
    fn room_overflows(self, value: i64) -> bool {
        self.bits < 64 && self.max() - i128::from(value) > i128::from(i64::MAX)
    }

    /// The value that the lowest bits of `value` are in this width.
    fn wrap(self, value: i128) -> i128 {
        let low = value & ((1i128 << self.bits) - 1);
        if self.signed && low > self.max() {
            low - (1i128 << self.bits)
        } else {
            low
        }
    }

    /// What is written for `value`; `None` when that must fail.
    fn fit(self, value: i128, overflow: Overflow) -> Option<i128> {
        if (self.min()..=self.max()).contains(&value) {
            return Some(value);
        }
        match overflow {
            Overflow::Wrap => Some(self.wrap(value)),
            Overflow::Saturate => Some(value.clamp(self.min(), self.max())),
            Overflow::Fail => None,
        }
    }

    fn read(self, text: &[u8], offset: usize) -> i128 {
        let mut value = 0i128;
        for bit in offset..offset + self.bits as usize {
            let byte = text.get(bit / 8).copied().unwrap_or(0);
            value = value << 1 | i128::from(byte >> (7 - bit % 8) & 1);
        }
        self.wrap(value)
    }

    fn write(self, text: &mut [u8], offset: usize, value: i128) {
        for index in 0..self.bits as usize {
            let bit = offset + index;
            let mask = 0x80 >> (bit % 8);
            if value >> (self.bits as usize - 1 - index) & 1 == 1 {
                text[bit / 8] |= mask;
            } else {
                text[bit / 8] &= !mask;
            }
        }
    }
}

#[derive(Clone, Copy)]
enum Overflow {
    Wrap,
    Saturate,
    Fail,
}

#[derive(Clone, Copy)]
enum Action {
    Get,
    Set(i64),
    Add(i64),
}

struct Step {
    action: Action,
    width: Width,
    offset: usize,
    overflow: Overflow,
}

impl Step {
    /// Does it, and returns what is answered and whether anything changed.
    fn run(&self, text: &mut [u8]) -> (Option<i64>, bool) {
        let before = self.width.read(text, self.offset);
        let wanted = match self.action {
            Action::Get => return (Some(before as i64), false),
            // An unsigned field takes the bits of a negative number as those of a large one.
            Action::Set(value) if !self.width.signed => i128::from(value as u64),
            // Redis' room above such a number overflows, so that it takes the number for too large.
            Action::Set(value)
                if matches!(self.overflow, Overflow::Saturate)
                    && self.width.room_overflows(value) =>
            {
                i128::from(i64::MAX)
            }
            Action::Set(value) => i128::from(value),
            Action::Add(by) => before + i128::from(by),
        };
        let Some(after) = self.width.fit(wanted, self.overflow) else {
            return (None, false);
        };
        self.width.write(text, self.offset, after);
        let answer = match self.action {
            Action::Get | Action::Set(_) => before,
            Action::Add(_) => after,
        };
        (Some(answer as i64), before != after)
    }

    fn last_byte(&self) -> usize {
        (self.offset + self.width.bits as usize - 1) / 8
    }
}

pub fn bitfield(call: &mut Call<'_>) -> Result<(), Refusal> {
    let steps = parse(call)?;
    let write = |step: &&Step| !matches!(step.action, Action::Get);
    let Some(last_byte) = steps.iter().filter(write).map(Step::last_byte).max() else {
        return read_only(call, &steps);
    };
    let (mut changed, mut answers) = (false, Vec::with_capacity(steps.len()));
    let mut grown = false;
    let grow = |len: Option<usize>| {
        grown = len.is_none_or(|len| len <= last_byte);
        Ok(Some(len.unwrap_or(0).max(last_byte + 1)))
    };
    let key = call.key(1);
    call.keyspace.edit_string(key, call.now, grow, |bytes| {
        for step in &steps {
            let (answer, change) = step.run(bytes);
            changed |= change;
            answers.push(answer);
        }
    })?;
    // A step that failed changes nothing, but the string may have grown for it.
    let mut done = steps.iter().zip(&answers);
    let wrote = done.any(|(step, answer)| write(&step) && answer.is_some());
    if changed || (grown && wrote) {
        call.say(Classes::STRING, "setbit", key);
    }
    if grown || changed {
        call.effects.verbatim();
    }
    answer(call, &answers);
    Ok(())
}

pub fn bitfield_ro(call: &mut Call<'_>) -> Result<(), Refusal> {
    let steps = parse(call)?;
    if steps.iter().any(|step| !matches!(step.action, Action::Get)) {
        return Err(Refusal::fixed(
            "ERR BITFIELD_RO only supports the GET subcommand",
        ));
    }
    read_only(call, &steps)
}

fn read_only(call: &mut Call<'_>, steps: &[Step]) -> Result<(), Refusal> {
    let mut digits = [0; 20];
    let key = call.key(1);
    let text = match call.keyspace.string(key, call.now)? {
        Some(string) => string.text(&mut digits),
        None => b"",
    };
    let answers: Vec<Option<i64>> = steps
        .iter()
        .map(|step| Some(step.width.read(text, step.offset) as i64))
        .collect();
    answer(call, &answers);
    Ok(())
}

fn answer(call: &mut Call<'_>, answers: &[Option<i64>]) {
    call.reply.array(answers.len());
    for answer in answers {
        match answer {
            Some(value) => call.reply.int(*value),
            None => call.reply.null(),
        }
    }
}

fn parse(call: &Call<'_>) -> Result<Vec<Step>, Refusal> {
    let request = call.request;
    let mut steps = Vec::new();
    let mut overflow = Overflow::Wrap;
    let mut at = 2;
    while let Some(word) = request.get(at) {
        let left = request.len() - at - 1;
        let words = if word.eq_ignore_ascii_case(b"get") && left >= 2 {
            2
        } else if (word.eq_ignore_ascii_case(b"set") || word.eq_ignore_ascii_case(b"incrby"))
            && left >= 3
        {
            3
        } else if word.eq_ignore_ascii_case(b"overflow") && left >= 1 {
            overflow = parse_overflow(request.arg(at + 1))?;
            at += 2;
            continue;
        } else {
            return Err(Refusal::SYNTAX);
        };
        let width = Width::parse(request.arg(at + 1))?;
        let offset = match request.arg(at + 2) {
            [b'#', digits @ ..] => bit_offset(call, digits, i64::from(width.bits))?,
            digits => bit_offset(call, digits, 1)?,
        };
        let action = match words {
            2 => Action::Get,
            _ if word.eq_ignore_ascii_case(b"set") => Action::Set(int_arg(request, at + 3)?),
            _ => Action::Add(int_arg(request, at + 3)?),
        };
        steps.push(Step {
            action,
            width,
            offset,
            overflow,
        });
        at += 1 + words;
    }
    Ok(steps)
}

fn parse_overflow(word: &[u8]) -> Result<Overflow, Refusal> {
    match word.to_ascii_lowercase().as_slice() {
        b"wrap" => Ok(Overflow::Wrap),
        b"sat" => Ok(Overflow::Saturate),
        b"fail" => Ok(Overflow::Fail),
        _ => Err(Refusal::fixed("ERR Invalid OVERFLOW type specified")),
    }
}
