//! Sizes in bytes as people write and read them.

/// Reads `1048576`, `512mb`, `1gb`, `64k` as Redis does: `k`, `m`, `g` are powers of 1000,
/// `kb`, `mb`, `gb` powers of 1024; case does not matter.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let wrong = || format!("'{text}' is no size (write for example 512mb or 2gb)");
    let lower = text.trim().to_ascii_lowercase();
    let digits = lower.len() - lower.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = lower.split_at(digits);
    let factor: u64 = match unit {
        "" | "b" => 1,
        "k" => 1000,
        "kb" => 1 << 10,
        "m" => 1_000_000,
        "mb" => 1 << 20,
        "g" => 1_000_000_000,
        "gb" => 1 << 30,
        "t" => 1_000_000_000_000,
        "tb" => 1 << 40,
        _ => return Err(wrong()),
    };
    let number: u64 = number.parse().map_err(|_| wrong())?;
    number.checked_mul(factor).ok_or_else(wrong)
}

/// Three figures and a unit that is a power of 1024: `812 B`, `1.50 KB`, `12.0 GB`.
pub fn show_size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["B", "KB", "MB", "GB", "TB", "PB"];
    let mut size = bytes as f64;
    let mut unit = 0;
    // 999.5 and more would round to a fourth figure.
    while size >= 999.5 && unit + 1 < UNITS.len() {
        size /= 1024.0;
        unit += 1;
    }
    let digits = match size {
        _ if unit == 0 => 0,
        s if s < 9.995 => 2,
        s if s < 99.95 => 1,
        _ => 0,
    };
    format!("{size:.digits$} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_redis_reads_them() {
        for (text, bytes) in [
            ("0", 0),
            ("100", 100),
            ("1b", 1),
            ("1k", 1000),
            ("1KB", 1024),
            ("512mb", 512 << 20),
            ("2Gb", 2 << 30),
            ("3m", 3_000_000),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for text in ["", "mb", "-1", "1.5gb", "1xb", "99999999999999gb", "1 gb x"] {
            assert!(parse_size(text).is_err(), "{text} was taken");
        }
    }

    #[test]
    fn sizes_are_shown_with_three_figures() {
        for (bytes, text) in [
            (0, "0 B"),
            (812, "812 B"),
            (1536, "1.50 KB"),
            (1023 * 1024, "1.00 MB"),
            (12 << 30, "12.0 GB"),
            (123 << 20, "123 MB"),
        ] {
            assert_eq!(show_size(bytes), text);
        }
    }
}
