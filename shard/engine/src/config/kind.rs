//! What texts a parameter takes, and the one form in which each value is kept and shown.
//!
//! Errors are Redis' own texts, without their prefix.

/// What texts a parameter takes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    Text,
    Bool,
    Signed(Signed),
    Unsigned(Unsigned),
    OneOf(&'static [&'static str]),
    /// Several of these words, the first of which stands for none of the others.
    SomeOf(&'static [&'static str]),
    /// `normal 0 0 0 replica …`: hard and soft limit in bytes, seconds of the soft one, for each class given.
    OutputLimits,
    /// Pairs of seconds and changes.
    SavePoints,
    /// Classes of keyspace events, a letter each.
    Events,
    /// Numbers from 0 to 100.
    Percentiles,
    OomScores,
    Hostname,
    /// A switch that stays off.
    NoDefrag,
}

/// A number within limits. `memory`: takes units `k kb m mb g gb`, and no sign.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Signed {
    pub min: i64,
    pub max: i64,
    pub memory: bool,
    /// Takes `5%` too, down to `-min` percent.
    pub percent: bool,
}

/// The same, compared without its sign: -1 is the largest number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Unsigned {
    pub min: u64,
    pub max: u64,
    pub memory: bool,
}

/// Longest host name that is announced, in bytes.
const HOSTNAME_BYTES_MAX: usize = 255;
const OOM_SCORE_MAX: i64 = 2000;

impl Kind {
    /// The form in which `value` is kept. `before` is the value so far: limits of classes that are not named stay.
    pub(super) fn normal_form(self, value: &[u8], before: &str) -> Result<String, String> {
        let text = String::from_utf8_lossy(value).into_owned();
        match self {
            Kind::Text => Ok(text),
            Kind::Bool => yes_or_no(&text).map(str::to_owned),
            Kind::Signed(limits) => limits.normal_form(&text),
            Kind::Unsigned(limits) => limits.normal_form(&text),
            Kind::OneOf(words) => {
                word_of(words, &text).map_or_else(|| Err(choice(words)), |word| Ok(word.to_owned()))
            }
            Kind::SomeOf(words) => some_of(words, &text),
            Kind::OutputLimits => output_limits(&text, before),
            Kind::SavePoints => save_points(&text),
            Kind::Events => events(&text),
            Kind::Percentiles => percentiles(&text),
            Kind::OomScores => oom_scores(&text),
            Kind::Hostname => hostname(text),
            Kind::NoDefrag => match yes_or_no(&text)? {
                "yes" => Err("Active defragmentation cannot be enabled: it requires a Redis server compiled with a modified Jemalloc like the one shipped by default with the Redis source distribution".to_owned()),
                _ => Ok(text.to_ascii_lowercase()),
            },
        }
    }
}

impl Signed {
    fn normal_form(self, text: &str) -> Result<String, String> {
        if self.percent
            && let Some(number) = text.strip_suffix('%')
            && let Some(number) = integer(number)
            && number >= 0
        {
            return if number <= -self.min {
                Ok(format!("{number}%"))
            } else {
                let most = -self.min;
                Err(format!(
                    "percentage argument must be less or equal to {most}"
                ))
            };
        }
        let number = if self.memory {
            // As in C: what is too large for the type comes out negative.
            memory_bytes(text).map(|bytes| bytes as i64)
        } else {
            integer(text)
        };
        let number = number.ok_or_else(|| not_a_number(self.memory, self.percent))?;
        if (self.min..=self.max).contains(&number) {
            Ok(number.to_string())
        } else {
            Err(beyond(&self.min, &self.max))
        }
    }
}

impl Unsigned {
    fn normal_form(self, text: &str) -> Result<String, String> {
        let number = if self.memory {
            memory_bytes(text)
        } else {
            integer(text).map(|number| number as u64)
        };
        let number = number.ok_or_else(|| not_a_number(self.memory, false))?;
        if (self.min..=self.max).contains(&number) {
            Ok(number.to_string())
        } else {
            Err(beyond(&self.min, &self.max))
        }
    }
}

fn integer(text: &str) -> Option<i64> {
    larder_store::number::parse_i64(text.as_bytes())
}

fn beyond(min: &dyn std::fmt::Display, max: &dyn std::fmt::Display) -> String {
    format!("argument must be between {min} and {max} inclusive")
}

fn not_a_number(memory: bool, percent: bool) -> String {
    match (memory, percent) {
        (true, true) => "argument must be a memory or percent value",
        (true, false) => "argument must be a memory value",
        (false, true | false) => "argument couldn't be parsed into an integer",
    }
    .to_owned()
}

fn yes_or_no(text: &str) -> Result<&'static str, String> {
    word_of(&["yes", "no"], text).ok_or_else(|| "argument must be 'yes' or 'no'".to_owned())
}

fn word_of(words: &[&'static str], text: &str) -> Option<&'static str> {
    words
        .iter()
        .copied()
        .find(|word| word.eq_ignore_ascii_case(text))
}

fn choice(words: &[&str]) -> String {
    let words = words.join(", ");
    format!("argument(s) must be one of the following: {words}")
}

fn some_of(words: &'static [&'static str], text: &str) -> Result<String, String> {
    let mut chosen = Vec::new();
    for part in text.split(' ') {
        chosen.push(word_of(words, part).ok_or_else(|| choice(words))?);
    }
    if chosen.contains(&"save") && chosen.contains(&"nosave") {
        return Err("shutdown options SAVE and NOSAVE can't be used simultaneously".to_owned());
    }
    let named: Vec<&str> = words[1..]
        .iter()
        .copied()
        .filter(|word| chosen.contains(word))
        .collect();
    Ok(if named.is_empty() {
        words[0].to_owned()
    } else {
        named.join(" ")
    })
}

/// The classes of `client-output-buffer-limit`, in the order in which they are shown; `replica` is the later name of `slave`.
const OUTPUT_CLASSES: [&str; 3] = ["normal", "slave", "pubsub"];

fn output_limits(text: &str, before: &str) -> Result<String, String> {
    const FAULT: &str =
        "Error in hard, soft or soft_seconds setting in buffer limit configuration.";
    let parts: Vec<&str> = text.split(' ').collect();
    if !parts.len().is_multiple_of(4) {
        return Err("Wrong number of arguments in buffer limit configuration.".to_owned());
    }
    let mut limits: Vec<String> = before
        .split(' ')
        .collect::<Vec<_>>()
        .chunks(4)
        .map(|class| class[1..].join(" "))
        .collect();
    for class in parts.chunks(4) {
        let index = OUTPUT_CLASSES
            .iter()
            .position(|name| {
                name.eq_ignore_ascii_case(class[0])
                    || (*name == "slave" && class[0].eq_ignore_ascii_case("replica"))
            })
            .ok_or("Invalid client class specified in buffer limit configuration.")?;
        let (hard, soft) = (memory_bytes(class[1]), memory_bytes(class[2]));
        let seconds = class[3].parse::<u32>();
        let (Some(hard), Some(soft), Ok(seconds)) = (hard, soft, seconds) else {
            return Err(FAULT.to_owned());
        };
        limits[index] = format!("{hard} {soft} {seconds}");
    }
    let classes: Vec<String> = OUTPUT_CLASSES
        .iter()
        .zip(limits)
        .map(|(name, limit)| format!("{name} {limit}"))
        .collect();
    Ok(classes.join(" "))
}

fn save_points(text: &str) -> Result<String, String> {
    let fault = || "Invalid save parameters".to_owned();
    if text.is_empty() {
        return Ok(String::new());
    }
    let mut numbers = Vec::new();
    for (index, part) in text.split(' ').enumerate() {
        let least = i64::from(index % 2 == 0);
        let number = part.parse::<i64>().map_err(|_| fault())?;
        if number < least {
            return Err(fault());
        }
        numbers.push(number.to_string());
    }
    if numbers.len() % 2 == 1 {
        return Err(fault());
    }
    Ok(numbers.join(" "))
}

/// What `A` stands for, in the order in which classes are shown; then those that are named one by one.
const EVENTS_OF_A: &str = "g$lshzxetd";
const OTHER_EVENTS: &str = "nKEm";

fn events(text: &str) -> Result<String, String> {
    let known =
        |letter| letter == 'A' || EVENTS_OF_A.contains(letter) || OTHER_EVENTS.contains(letter);
    if !text.chars().all(known) {
        return Err("Invalid event class character. Use 'Ag$lshzxeKEtmdn'.".to_owned());
    }
    let named = |letters: &str| -> String {
        letters
            .chars()
            .filter(|&letter| text.contains(letter))
            .collect()
    };
    let classes = named(EVENTS_OF_A);
    let classes = if text.contains('A') || classes == EVENTS_OF_A {
        "A".to_owned()
    } else {
        classes
    };
    Ok(classes + &named(OTHER_EVENTS))
}

fn percentiles(text: &str) -> Result<String, String> {
    if text.is_empty() {
        return Ok(String::new());
    }
    let mut shown = Vec::new();
    for part in text.split(' ') {
        let number = larder_store::float::parse_double(part.as_bytes())
            .ok_or("Invalid latency-tracking-info-percentiles parameters")?;
        if !(0.0..=100.0).contains(&number) {
            return Err(
                "latency-tracking-info-percentiles parameters should sit between [0.0,100.0]"
                    .to_owned(),
            );
        }
        let digits = format!("{number:.6}");
        shown.push(
            digits
                .trim_end_matches('0')
                .trim_end_matches('.')
                .to_owned(),
        );
    }
    Ok(shown.join(" "))
}

fn oom_scores(text: &str) -> Result<String, String> {
    let parts: Vec<&str> = text.split(' ').collect();
    if parts.len() != 3 {
        return Err("wrong number of arguments".to_owned());
    }
    let mut scores = Vec::new();
    for part in parts {
        let score = part.parse::<i64>().ok();
        let score = score.filter(|score| (-OOM_SCORE_MAX..=OOM_SCORE_MAX).contains(score));
        let score = score
            .ok_or("Invalid oom-score-adj-values, elements must be between -2000 and 2000.")?;
        scores.push(score.to_string());
    }
    Ok(scores.join(" "))
}

fn hostname(text: String) -> Result<String, String> {
    if text.len() > HOSTNAME_BYTES_MAX {
        return Err("Hostnames must be less than 256 characters".to_owned());
    }
    let fit = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.';
    if !text.bytes().all(fit) {
        return Err(
            "Hostnames may only contain alphanumeric characters, hyphens or dots".to_owned(),
        );
    }
    Ok(text)
}

/// `100mb` and the like, as Redis reads them: `k` is 1000, `kb` is 1024.
pub fn memory_bytes(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit: u64 = match text[digits.len()..].to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" => 1000,
        "kb" => 1 << 10,
        "m" => 1_000_000,
        "mb" => 1 << 20,
        "g" => 1_000_000_000,
        "gb" => 1 << 30,
        _ => return None,
    };
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse::<u64>().ok()?.checked_mul(unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_values_have_units() {
        assert_eq!(memory_bytes("100"), Some(100));
        assert_eq!(memory_bytes("2K"), Some(2000));
        assert_eq!(memory_bytes("2Mb"), Some(2 << 20));
        assert_eq!(memory_bytes("x"), None);
        assert_eq!(memory_bytes("-1"), None);
        assert_eq!(memory_bytes("+1"), None);
        assert_eq!(memory_bytes("99999999999gb"), None);
    }

    #[test]
    fn limits_of_a_class_that_is_not_named_stay() {
        let kind = Kind::OutputLimits;
        let before = "normal 0 0 0 slave 1 2 3 pubsub 4 5 6";
        assert_eq!(
            kind.normal_form(b"pubsub 1kb 0 60 replica 7 8 9", before),
            Ok("normal 0 0 0 slave 7 8 9 pubsub 1024 0 60".to_owned())
        );
        for (value, fault) in [
            (
                "",
                "Wrong number of arguments in buffer limit configuration.",
            ),
            (
                "any 1 2 3",
                "Invalid client class specified in buffer limit configuration.",
            ),
            (
                "normal 1 2 -3",
                "Error in hard, soft or soft_seconds setting in buffer limit configuration.",
            ),
        ] {
            assert_eq!(
                kind.normal_form(value.as_bytes(), before),
                Err(fault.to_owned())
            );
        }
    }

    #[test]
    fn classes_of_events_are_shown_in_one_order() {
        let shown = |value: &str| Kind::Events.normal_form(value.as_bytes(), "");
        assert_eq!(shown("EKlx"), Ok("lxKE".to_owned()));
        assert_eq!(shown("KEA"), Ok("AKE".to_owned()));
        assert_eq!(shown("Kg$lshzxetd"), Ok("AK".to_owned()));
        assert_eq!(shown("mKn"), Ok("nKm".to_owned()));
        assert!(shown("Kq").is_err());
    }

    #[test]
    fn numbers_are_held_within_their_limits() {
        let unsigned = Kind::Unsigned(Unsigned {
            min: 0,
            max: 9,
            memory: false,
        });
        assert_eq!(unsigned.normal_form(b"9", ""), Ok("9".to_owned()));
        for beyond in ["10", "-1"] {
            assert_eq!(
                unsigned.normal_form(beyond.as_bytes(), ""),
                Err("argument must be between 0 and 9 inclusive".to_owned())
            );
        }
        let percent = Kind::Signed(Signed {
            min: -100,
            max: i64::MAX,
            memory: true,
            percent: true,
        });
        assert_eq!(percent.normal_form(b"5%", ""), Ok("5%".to_owned()));
        assert_eq!(percent.normal_form(b"1kb", ""), Ok("1024".to_owned()));
        assert_eq!(
            percent.normal_form(b"101%", ""),
            Err("percentage argument must be less or equal to 100".to_owned())
        );
        assert_eq!(
            percent.normal_form(b"-5", ""),
            Err("argument must be a memory or percent value".to_owned())
        );
    }

    #[test]
    fn save_points_are_pairs_and_percentiles_lose_their_zeros() {
        let save = |value: &str| Kind::SavePoints.normal_form(value.as_bytes(), "");
        assert_eq!(save("3600 1 300 100"), Ok("3600 1 300 100".to_owned()));
        assert_eq!(save(""), Ok(String::new()));
        assert!(save("3600").is_err());
        assert!(save("0 1").is_err());
        let shown = |value: &str| Kind::Percentiles.normal_form(value.as_bytes(), "");
        assert_eq!(shown("50.0 99.90 100"), Ok("50 99.9 100".to_owned()));
        assert!(shown("101").is_err());
    }
}
