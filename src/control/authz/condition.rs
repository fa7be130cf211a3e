//! A grant's conditions, a time and an address in; whether it counts out.
//! Invariant: what cannot be told does not hold: a zone that is not known here, a connection without an address.

use std::net::IpAddr;

use ipnet::IpNet;
use jiff::Timestamp;
use jiff::civil::{DateTime, Weekday};
use jiff::tz::TimeZone;

use crate::types::grant::{Conditions, Day};
use crate::types::limits;

/// Whether all of them hold.
pub(super) fn hold(conditions: &Conditions, now: Timestamp, address: Option<IpAddr>) -> bool {
    conditions.not_before.is_none_or(|from| from <= now)
        && conditions.expires_at.is_none_or(|end| now < end)
        && at_such_a_time(conditions, now)
        && (conditions.addresses.is_empty() || address.is_some_and(|address| within(&conditions.addresses, address)))
}

/// What is wrong with them, if anything.
pub(in crate::control) fn fault(conditions: &Conditions) -> Option<String> {
    if let (Some(from), Some(end)) = (conditions.not_before, conditions.expires_at)
        && end <= from
    {
        return Some(format!("it would end at {end}, before it begins at {from}"));
    }
    if conditions.hours.is_some_and(|hours| hours.from == hours.until) {
        return Some("its hours end when they begin; leave them out for the whole day".to_owned());
    }
    if zone(conditions).is_none() {
        let name = conditions.time_zone.as_deref().unwrap_or_default();
        return Some(format!("the time zone {name:?} is not known here; Debian has them in the package tzdata"));
    }
    if conditions.addresses.len() > limits::ACCESS_ADDRESSES {
        return Some(format!("it names more than {} addresses", limits::ACCESS_ADDRESSES));
    }
    // ::ffff:10.0.0.0/104 would never match: what comes from there is told as 10.0.0.1.
    let mapped = |net: &&IpNet| matches!(net, IpNet::V6(net) if net.addr().to_ipv4_mapped().is_some());
    conditions.addresses.iter().find(mapped).map(|net| format!("write {net} as a range of IPv4"))
}

fn at_such_a_time(conditions: &Conditions, now: Timestamp) -> bool {
    if conditions.days.is_empty() && conditions.hours.is_none() {
        return true;
    }
    let Some(zone) = zone(conditions) else { return false };
    let local = zone.to_datetime(now);
    let today = |at: DateTime| conditions.days.is_empty() || conditions.days.contains(&day(at.weekday()));
    let Some(hours) = conditions.hours else { return today(local) };
    let time = local.time();
    if hours.from < hours.until {
        return hours.from <= time && time < hours.until && today(local);
    }
    // Over midnight: what is left of yesterday's, or the beginning of today's.
    (hours.from <= time && today(local)) || (time < hours.until && local.yesterday().is_ok_and(today))
}

fn zone(conditions: &Conditions) -> Option<TimeZone> {
    match conditions.time_zone.as_deref() {
        None => Some(TimeZone::UTC),
        Some(name) if name.len() <= 64 => TimeZone::get(name).ok(),
        Some(_) => None,
    }
}

fn within(ranges: &[IpNet], address: IpAddr) -> bool {
    let address = address.to_canonical();
    ranges.iter().any(|range| range.contains(&address))
}

const fn day(weekday: Weekday) -> Day {
    match weekday {
        Weekday::Monday => Day::Mon,
        Weekday::Tuesday => Day::Tue,
        Weekday::Wednesday => Day::Wed,
        Weekday::Thursday => Day::Thu,
        Weekday::Friday => Day::Fri,
        Weekday::Saturday => Day::Sat,
        Weekday::Sunday => Day::Sun,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conditions(json: serde_json::Value) -> Conditions {
        serde_json::from_value(json).unwrap()
    }

    fn at(conditions: &Conditions, now: &str) -> bool {
        hold(conditions, now.parse().unwrap(), None)
    }

    #[test]
    fn a_grant_begins_and_ends_when_it_says() {
        let some = conditions(serde_json::json!({
            "not_before": "2026-01-01T00:00:00Z", "expires_at": "2026-02-01T00:00:00Z"
        }));
        assert!(!at(&some, "2025-12-31T23:59:59Z"));
        assert!(at(&some, "2026-01-01T00:00:00Z"));
        assert!(at(&some, "2026-01-31T23:59:59Z"));
        assert!(!at(&some, "2026-02-01T00:00:00Z"));
        assert!(at(&Conditions::default(), "1999-01-01T00:00:00Z"), "without conditions it counts always");
    }

    #[test]
    fn office_hours_are_told_in_the_zone_of_the_office() {
        let office = conditions(serde_json::json!({
            "days": ["mon", "tue", "wed", "thu", "fri"],
            "hours": { "from": "08:00", "until": "18:00" },
            "time_zone": "Europe/Berlin"
        }));
        // Wednesday; in winter Berlin is an hour ahead of UTC, in summer two.
        assert!(!at(&office, "2026-11-25T06:59:59Z"));
        assert!(at(&office, "2026-11-25T07:00:00Z"));
        assert!(!at(&office, "2026-11-25T17:00:00Z"));
        assert!(at(&office, "2026-07-01T06:00:00Z"));
        assert!(!at(&office, "2026-11-28T12:00:00Z"), "Saturday");
        let nowhere = Conditions { time_zone: Some("Europe/Nowhere".to_owned()), ..office };
        assert!(!at(&nowhere, "2026-11-25T12:00:00Z"), "what cannot be told does not hold");
        assert!(fault(&nowhere).unwrap().contains("Nowhere"));
    }

    #[test]
    fn a_night_belongs_to_the_day_on_which_it_began() {
        let night = conditions(serde_json::json!({
            "days": ["fri"], "hours": { "from": "22:00", "until": "06:00" }
        }));
        assert!(!at(&night, "2026-11-27T05:00:00Z"), "Friday morning is Thursday's night");
        assert!(at(&night, "2026-11-27T22:00:00Z"));
        assert!(at(&night, "2026-11-28T05:59:59Z"), "Saturday morning is Friday's night");
        assert!(!at(&night, "2026-11-28T06:00:00Z"));
        assert!(!at(&night, "2026-11-28T22:00:00Z"));
    }

    #[test]
    fn an_address_counts_by_what_it_is_and_none_is_in_no_range() {
        let inside = conditions(serde_json::json!({ "addresses": ["10.0.0.0/8", "2001:db8::/32", "192.0.2.7/32"] }));
        let from = |address: Option<&str>| {
            hold(&inside, Timestamp::UNIX_EPOCH, address.map(|address| address.parse().unwrap()))
        };
        assert!(from(Some("10.255.0.1")) && from(Some("2001:db8::1")) && from(Some("192.0.2.7")));
        assert!(from(Some("::ffff:10.1.2.3")), "an IPv4 address that came by an IPv6 socket is the same address");
        assert!(!from(Some("11.0.0.1")) && !from(Some("192.0.2.8")) && !from(Some("2001:db9::1")));
        assert!(!from(None), "the host's socket has no address");
        assert!(fault(&conditions(serde_json::json!({ "addresses": ["::ffff:10.0.0.0/104"] }))).is_some());
    }
}
