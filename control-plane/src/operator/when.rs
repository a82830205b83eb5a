//! Times as an operator writes them: a span back from now, or a moment.

use chrono::{DateTime, TimeDelta, Utc};
use crochet_shared::clock;

/// Reads `90m`, `24h`, `7d` (back from now) or an RFC 3339 time.
pub fn since(text: &str) -> Result<DateTime<Utc>, String> {
    back(text, clock::now())
        .or_else(|| {
            DateTime::parse_from_rfc3339(text)
                .ok()
                .map(|time| time.to_utc())
        })
        .ok_or_else(|| "expected a span such as 90m, 24h or 7d, or an RFC 3339 time".to_owned())
}

fn back(text: &str, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let unit = text.chars().last()?;
    let number: i64 = text.strip_suffix(unit)?.parse().ok()?;
    let span = match unit {
        's' => TimeDelta::try_seconds(number),
        'm' => TimeDelta::try_minutes(number),
        'h' => TimeDelta::try_hours(number),
        'd' => TimeDelta::try_days(number),
        _ => None,
    }?;
    if number < 0 {
        return None;
    }
    now.checked_sub_signed(span)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_go_back_from_now() {
        let now = clock::now();
        assert_eq!(back("90m", now), Some(now - TimeDelta::minutes(90)));
        assert_eq!(back("7d", now), Some(now - TimeDelta::days(7)));
        for wrong in ["", "h", "-1h", "1w", "1.5h", "99999999999999d"] {
            assert_eq!(back(wrong, now), None, "{wrong}");
        }
        assert!(since("2026-01-01T00:00:00Z").is_ok());
        assert!(since("yesterday").is_err());
    }
}
