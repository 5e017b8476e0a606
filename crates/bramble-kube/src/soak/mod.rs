//! Boards under full load: how hot they get, and whether they slow down.

use std::time::Duration;

use bramble_shell::{Commands, Script};
use bramble_state::STEPS;
use serde::Serialize;

use crate::status::span;
use crate::why::{WHY, slowed_by_heat, throttled, warmer};

fn script(name: &str, call: &'static str, arguments: &[&str]) -> Script {
    let mut script = Commands::new();
    script.fixed(STEPS).set("units", "").fixed(WHY).fixed(include_str!("soak.sh")).call(call, arguments);
    Script::new(name, &script).silent_for(Duration::from_secs(30))
}

/// Gives the script that keeps all cores of a board busy, for so many seconds or until it has so many degrees Celsius. The load
/// ends by itself 15 s after the last [`soak_look_script`].
pub fn soak_begin_script(seconds: u32, limit: u32) -> Script {
    let (seconds, limit) = (seconds.to_string(), (limit * 1000).to_string());
    script("keep its cores busy", "soak_begin", &[&seconds, &limit, include_str!("load.sh")])
}

/// Gives the script that tells how hot and how fast the board is.
pub fn soak_look_script() -> Script {
    script("tell how hot it is", "soak_look", &[])
}

/// Gives the script that ends the load.
pub fn soak_end_script() -> Script {
    script("end the load", "soak_end", &[])
}

/// How a board is at a moment of its load.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Heat {
    /// Seconds since the load began.
    pub seconds: f64,
    /// The hottest sensor, in degrees Celsius.
    pub celsius: Option<f64>,
    /// The fastest core, in MHz.
    pub megahertz: Option<f64>,
    /// The bits of the firmware's `get_throttled`.
    pub throttled: Option<u32>,
    /// What the board takes, in watts, if a switch tells it.
    pub watts: Option<f64>,
    /// Why the load has ended, if it has: `time`, `limit` or `alone`.
    pub ended: Option<String>,
}

/// The bit of `get_throttled` that tells of under-voltage now (raspberrypi.com, "vcgencmd").
const UNDER_VOLTAGE: u32 = 1;
/// A board that still gets warmer by so many degrees in its last minute, or the last third of a short load, has not shown where it
/// ends.
const RISING: f64 = 1.0;
/// Without the firmware's bits, a core that lost so much of its clock was slowed down.
const KEPT: f64 = 0.9;

impl Heat {
    /// Reads what [`soak_look_script`] printed, so many seconds after the beginning.
    pub fn parse(seconds: f64, text: &str) -> Heat {
        let mut heat = Heat { seconds, ..Heat::default() };
        let mut active = None;
        for line in text.lines() {
            let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
            match word {
                "temperature" => heat.celsius = warmer(heat.celsius, rest),
                "throttled" => heat.throttled = throttled(rest),
                "clock" => heat.megahertz = rest.parse::<f64>().ok().map(|kilohertz| kilohertz / 1000.0),
                "ended" => heat.ended = Some(rest.to_owned()),
                "state" => active = Some(matches!(rest, "active" | "activating")),
                _ => {}
            }
        }
        // One that was ended by somebody else leaves no word.
        if active == Some(false) && heat.ended.is_none() {
            heat.ended = Some("alone".into());
        }
        heat
    }

    fn has_under_voltage(&self) -> bool {
        self.throttled.is_some_and(|bits| bits & UNDER_VOLTAGE != 0)
    }

    fn is_slowed_by_heat(&self) -> bool {
        self.throttled.is_some_and(|bits| slowed_by_heat(bits) != 0)
    }
}

/// What came of a load.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Soaked {
    /// How long it lasted, in seconds.
    pub seconds: f64,
    /// Degrees Celsius at the beginning, at the end, and the most.
    pub celsius: Option<[f64; 3]>,
    /// After how many seconds it was slowed down first.
    pub slowed_after: Option<f64>,
    /// The part of its fastest clock that it had in the last minute, or in the last third of a short load.
    pub clock_kept: Option<f64>,
    /// Whether its supply gave too little.
    pub under_voltage: bool,
    /// The most that it took, in watts.
    pub watts: Option<f64>,
    /// Whether its cooling is enough; `None` if that cannot be said.
    pub enough: Option<bool>,
    /// The verdict in words.
    pub verdict: String,
}

/// Says what came of a load that should have lasted so many seconds, below so many degrees Celsius.
pub fn soaked(samples: &[Heat], wanted: u32, limit: u32) -> Soaked {
    let seconds = samples.last().map_or(0.0, |last| last.seconds);
    let ended = samples.last().and_then(|last| last.ended.as_deref());
    // What is seen when it has ended is of a board that cools down already.
    let samples = if ended.is_some() && samples.len() > 1 { &samples[..samples.len() - 1] } else { samples };
    let lately = seconds - (seconds / 3.0).min(60.0);
    let known: Vec<(f64, f64)> = samples.iter().filter_map(|heat| Some((heat.seconds, heat.celsius?))).collect();
    let most = known.iter().map(|(_, celsius)| *celsius).fold(f64::MIN, f64::max);
    let celsius = match (known.first(), known.last()) {
        (Some(first), Some(last)) => Some([first.1, last.1, most]),
        _ => None,
    };
    let fastest = samples.iter().filter_map(|heat| heat.megahertz).fold(0.0, f64::max);
    let late: Vec<f64> =
        samples.iter().filter(|heat| heat.seconds >= lately).filter_map(|heat| heat.megahertz).collect();
    let clock_kept =
        (fastest > 0.0 && !late.is_empty()).then(|| late.iter().sum::<f64>() / late.len() as f64 / fastest);
    let has_bits = samples.iter().any(|heat| heat.throttled.is_some());
    let slow = |heat: &&Heat| match has_bits {
        true => heat.is_slowed_by_heat(),
        // The first seconds a core may still be on its way up.
        false => heat.seconds > 10.0 && heat.megahertz.is_some_and(|now| now < fastest * KEPT),
    };
    let slowed_after = samples.iter().find(slow).map(|heat| heat.seconds);
    let under_voltage = samples.iter().any(Heat::has_under_voltage);
    let before = known.iter().rfind(|(at, _)| *at <= lately).map(|(_, celsius)| *celsius);
    let rises = celsius.zip(before).is_some_and(|(celsius, before)| celsius[1] - before > RISING);
    let lasted = span(seconds.round() as u64);
    let (enough, verdict) = match (ended, celsius, slowed_after) {
        (Some("limit"), _, _) => {
            (Some(false), format!("not enough: it reached {limit} °C after {lasted}; a fan, or a heat sink with a fan"))
        }
        (_, _, Some(after)) => (
            Some(false),
            format!(
                "not enough: it is slowed down after {}; a fan that blows over it, or a place with air around it",
                span(after.round() as u64)
            ),
        ),
        (_, None, _) => (None, "it has no sensor that can be read".to_owned()),
        (Some("alone"), Some(_), _) => {
            (None, format!("it ended after {lasted} because nobody asked any more: say nothing by it"))
        }
        (_, Some(celsius), None) if seconds + 5.0 < f64::from(wanted) => {
            (None, format!("it was ended after {lasted} at {:.0} °C, before its time", celsius[1]))
        }
        (_, Some(celsius), None) if rises => {
            (None, format!("{:.0} °C and still getting warmer: let it run longer (--minutes)", celsius[1]))
        }
        (_, Some(celsius), None) if under_voltage => (
            None,
            format!("{:.0} °C, but with less power than it wants, so with less heat: try again then", celsius[1]),
        ),
        (_, Some(celsius), None) => {
            (Some(true), format!("enough: it stays at {:.0} °C and is never slowed down", celsius[1]))
        }
    };
    let verdict = match under_voltage {
        true => format!("{verdict}. Its supply gives too little: another one, or a shorter and thicker cable"),
        false => verdict,
    };
    let watts = samples.iter().filter_map(|heat| heat.watts).reduce(f64::max);
    Soaked { seconds, celsius, slowed_after, clock_kept, under_voltage, watts, enough, verdict }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u32, celsius: f64, bits: u32, megahertz: f64) -> Heat {
        Heat {
            seconds: f64::from(seconds),
            celsius: Some(celsius),
            megahertz: Some(megahertz),
            throttled: Some(bits),
            ..Heat::default()
        }
    }

    fn ended(mut samples: Vec<Heat>, why: &str) -> Vec<Heat> {
        samples.last_mut().unwrap().ended = Some(why.into());
        samples
    }

    #[test]
    fn what_a_board_says_is_understood() {
        let text = "temperature 48312\ntemperature 51000\nthrottled 0x50005\nclock 1500000\nstate active\n";
        let heat = Heat::parse(3.0, text);
        assert_eq!((heat.celsius, heat.megahertz, heat.throttled), (Some(51.0), Some(1500.0), Some(0x50005)));
        assert!(heat.ended.is_none() && heat.has_under_voltage() && !heat.is_slowed_by_heat());
        assert_eq!(Heat::parse(3.0, "state inactive\nended limit\n").ended.as_deref(), Some("limit"));
        assert_eq!(Heat::parse(3.0, "state inactive\n").ended.as_deref(), Some("alone"));
    }

    #[test]
    fn the_verdict_follows_from_what_was_measured() {
        let cool: Vec<Heat> =
            (0..=300).map(|second| at(second, 50.0 + f64::from(second.min(100)) / 10.0, 0, 1800.0)).collect();
        let good = soaked(&ended(cool.clone(), "time"), 300, 85);
        assert_eq!((good.enough, good.clock_kept), (Some(true), Some(1.0)), "{good:?}");
        assert_eq!(good.celsius, Some([50.0, 60.0, 60.0]));
        let warms: Vec<Heat> = (0..=300).map(|second| at(second, 40.0 + f64::from(second) / 15.0, 0, 1800.0)).collect();
        assert!(soaked(&ended(warms, "time"), 300, 85).verdict.contains("still getting warmer"));
        let slow: Vec<Heat> = (0..=300)
            .map(|second| if second < 200 { at(second, 79.0, 0, 1800.0) } else { at(second, 81.0, 0x60006, 1000.0) })
            .collect();
        let bad = soaked(&ended(slow, "time"), 300, 85);
        assert_eq!((bad.enough, bad.slowed_after), (Some(false), Some(200.0)));
        assert!(bad.clock_kept.unwrap() < 0.6 && bad.verdict.contains("3 min 20 s"), "{bad:?}");
        // Without the firmware's bits the clock tells.
        let other: Vec<Heat> = (0..=60)
            .map(|second| Heat { throttled: None, ..at(second, 70.0, 0, if second < 30 { 2000.0 } else { 1400.0 }) })
            .collect();
        assert_eq!(soaked(&ended(other, "time"), 60, 85).slowed_after, Some(30.0));
        let hot = vec![at(0, 60.0, 0, 1800.0), at(89, 84.9, 0, 1800.0), at(90, 71.0, 0, 1800.0)];
        assert!(soaked(&ended(hot.clone(), "limit"), 300, 85).verdict.contains("reached 85 °C after 90 s"));
        // The last look is at a board that cools down already.
        assert_eq!(soaked(&ended(hot, "limit"), 300, 85).celsius, Some([60.0, 84.9, 84.9]));
        // A clock that was capped for want of power says nothing of the cooling.
        let weak = soaked(&ended(vec![at(0, 50.0, 0x70007, 1200.0); 3], "time"), 0, 85);
        assert_eq!((weak.enough, weak.slowed_after, weak.under_voltage), (None, None, true));
        assert!(weak.verdict.contains("try again then. Its supply gives too little"), "{}", weak.verdict);
        let both = soaked(&ended(vec![at(0, 82.0, 0xf000f, 1000.0); 3], "time"), 0, 85);
        assert_eq!(both.enough, Some(false), "{}", both.verdict);
        assert_eq!(soaked(&ended(cool[..50].to_vec(), "alone"), 300, 85).enough, None);
        assert_eq!(soaked(&[], 300, 85).enough, None);
        let blind = vec![Heat { ended: Some("time".into()), ..Heat::default() }];
        assert!(soaked(&blind, 0, 85).verdict.contains("no sensor"));
    }
}
