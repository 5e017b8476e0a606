//! Devices that are asked over HTTP: RouterOS, the BMC of a Turing Pi, plugs of Shelly and with Tasmota.

use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bramble_spec::ControlWay;
use serde_json::{Value, json};
use ureq::http::StatusCode;
use ureq::tls::TlsConfig;

use crate::error::{PowerError, Result};
use crate::{Outlet, Reading};

const PATIENCE: Duration = Duration::from_secs(10);
/// More than any of these answers has.
const LIMIT: u64 = 1024 * 1024;

/// A device, with what lets one in there.
struct Device {
    /// `http://host`, without a `/` at its end.
    base: String,
    /// As messages name it.
    name: String,
    login: Option<(String, String)>,
    agent: ureq::Agent,
}

/// Reads an outlet.
pub(crate) async fn read(outlet: &Outlet) -> Result<Reading> {
    let device = Device::of(outlet);
    let missing = outlet.no_such_outlet();
    match &outlet.control.way {
        ControlWay::Mikrotik(_) => {
            let port = port(outlet.outlet()?);
            blocking(move || device.routeros_read(&port, missing)).await
        }
        ControlWay::TuringPi(_) => {
            let slot = outlet.outlet()?.to_owned();
            blocking(move || device.turing_read(&slot, missing)).await
        }
        ControlWay::Shelly(_) => {
            let relay = outlet.number().unwrap_or("0").to_owned();
            blocking(move || device.shelly_read(&relay, missing)).await
        }
        _ => {
            let relay = outlet.number().unwrap_or_default().to_owned();
            blocking(move || device.tasmota_read(&relay, missing)).await
        }
    }
}

/// Switches an outlet.
pub(crate) async fn set(outlet: &Outlet, on: bool) -> Result<()> {
    let device = Device::of(outlet);
    match &outlet.control.way {
        ControlWay::Mikrotik(_) => {
            let path = format!("/rest/interface/ethernet/{}", port(outlet.outlet()?));
            let body = json!({ "poe-out": if on { "auto-on" } else { "off" } });
            blocking(move || device.ask("PATCH", &path, Some(&body))).await?;
        }
        ControlWay::TuringPi(_) => {
            let path = format!("/api/bmc?opt=set&type=power&node{}={}", outlet.outlet()?, u8::from(on));
            blocking(move || device.ask("GET", &path, None)).await?;
        }
        ControlWay::Shelly(_) => {
            let relay = outlet.number().unwrap_or("0").to_owned();
            blocking(move || {
                let path = match device.shelly_speaks_rpc()? {
                    true => format!("/rpc/Switch.Set?id={relay}&on={on}"),
                    false => format!("/relay/{relay}?turn={}", if on { "on" } else { "off" }),
                };
                device.ask("GET", &path, None)
            })
            .await?;
        }
        _ => {
            let relay = outlet.number().unwrap_or_default();
            let command = format!("Power{relay}%20{}", if on { "On" } else { "Off" });
            blocking(move || device.tasmota(&command)).await?;
        }
    }
    Ok(())
}

/// RouterOS names its ports; a number is that of `ether`.
fn port(outlet: &str) -> String {
    if outlet.bytes().all(|byte| byte.is_ascii_digit()) { format!("ether{outlet}") } else { outlet.to_owned() }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(PowerError::Silent { device: "the device".into(), said: error.to_string() }),
    }
}

impl Device {
    fn of(outlet: &Outlet) -> Device {
        let (host, secure) = match &outlet.control.way {
            ControlWay::Mikrotik(host) | ControlWay::TuringPi(host) => (host.as_str(), true),
            ControlWay::Shelly(host) | ControlWay::Tasmota(host) => (host.as_str(), false),
            _ => ("", false),
        };
        let written = host.contains("://");
        let base = match (written, secure) {
            (true, _) => host.to_owned(),
            (false, true) => format!("https://{host}"),
            (false, false) => format!("http://{host}"),
        };
        // What such a device shows is signed by itself and for no name. Who writes `https://` has given it another one.
        let tls = TlsConfig::builder().disable_verification(!written).build();
        let agent = ureq::Agent::config_builder()
            .timeout_global(Some(PATIENCE))
            .http_status_as_error(false)
            .max_redirects(0)
            .tls_config(tls)
            .build()
            .into();
        let login = outlet.credentials.login().map(|(user, password)| (user.to_owned(), password.to_owned()));
        Device { base: base.trim_end_matches('/').to_owned(), name: outlet.device(), login, agent }
    }

    fn refused(&self, said: impl Into<String>) -> PowerError {
        PowerError::Refused { device: self.name.clone(), said: said.into() }
    }

    fn send(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
        entry: Option<&str>,
    ) -> Result<(StatusCode, String, String)> {
        let mut request = ureq::http::Request::builder().method(method).uri(format!("{}{path}", self.base));
        if let Some(entry) = entry {
            request = request.header("Authorization", entry);
        }
        let text = body.map(Value::to_string).unwrap_or_default();
        if body.is_some() {
            request = request.header("Content-Type", "application/json");
        }
        let silent = |error: ureq::Error| PowerError::Silent { device: self.name.clone(), said: error.to_string() };
        let request = request.body(text).map_err(|error| self.refused(error.to_string()))?;
        let mut response = self.agent.run(request).map_err(silent)?;
        let asks = response
            .headers()
            .get("www-authenticate")
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
            .to_owned();
        let said = response.body_mut().with_config().limit(LIMIT).read_to_string().map_err(silent)?;
        Ok((response.status(), asks, said))
    }

    /// Asks for something, as the user whom the credentials name.
    fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value> {
        let (status, said) = self.exchange(method, path, body)?;
        self.value(status, &said)
    }

    /// Asks for something that the device has not, where there is no such outlet.
    fn ask_for(&self, path: &str, missing: PowerError) -> Result<Value> {
        match self.exchange("GET", path, None)? {
            (StatusCode::NOT_FOUND, _) => Err(missing),
            (status, said) => self.value(status, &said),
        }
    }

    fn value(&self, status: StatusCode, said: &str) -> Result<Value> {
        if !status.is_success() {
            let first: String = said.lines().next().unwrap_or_default().chars().take(200).collect();
            return Err(self.refused(format!("it says {status} {first}").trim_end()));
        }
        serde_json::from_str(said)
            .map_err(|_| self.refused("what it answers is not JSON: is it the device that the cluster file names?"))
    }

    /// Gives what it answers to somebody whom it lets in.
    fn exchange(&self, method: &str, path: &str, body: Option<&Value>) -> Result<(StatusCode, String)> {
        let basic = |(user, password): &(String, String)| {
            format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{password}")))
        };
        let (mut status, asks, mut said) = self.send(method, path, body, None)?;
        if status == StatusCode::UNAUTHORIZED {
            let Some(login) = &self.login else {
                let said = "it asks for a user: put `user = …` and `password = …` into the file of its `credentials`";
                return Err(PowerError::NoEntry { device: self.name.clone(), said: said.into() });
            };
            let entry = match asks.starts_with("Digest") {
                true => {
                    let wrong = |error: digest_auth::Error| self.refused(error.to_string());
                    let mut prompt = digest_auth::parse(&asks).map_err(wrong)?;
                    let method = digest_auth::HttpMethod::from(method.to_owned());
                    let context = digest_auth::AuthContext::new_with_method(
                        &login.0,
                        &login.1,
                        path,
                        body.map(Value::to_string).map(String::into_bytes),
                        method,
                    );
                    prompt.respond(&context).map_err(wrong)?.to_header_string()
                }
                false => basic(login),
            };
            (status, _, said) = self.send(method, path, body, Some(&entry))?;
        }
        if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            let said = "user or password of its `credentials` is wrong, or may not do this";
            return Err(PowerError::NoEntry { device: self.name.clone(), said: said.into() });
        }
        Ok((status, said))
    }

    /// help.mikrotik.com, "REST API"; `/interface/ethernet/poe`.
    fn routeros_read(&self, port: &str, missing: PowerError) -> Result<Reading> {
        let answer = self.ask_for(&format!("/rest/interface/ethernet/{port}"), missing)?;
        let Some(mode) = answer["poe-out"].as_str() else {
            return Err(self.refused(format!("{port} gives no power: it has no `poe-out`")));
        };
        let monitor =
            self.ask("POST", "/rest/interface/ethernet/poe/monitor", Some(&json!({ "numbers": port, "once": "" })))?;
        let power = &monitor[0]["poe-out-power"];
        let watts = power.as_f64().or_else(|| power.as_str()?.trim_end_matches('W').parse().ok());
        Ok(Reading { on: Some(mode != "off"), watts })
    }

    /// docs.turingpi.com, "BMC API".
    fn turing_read(&self, slot: &str, missing: PowerError) -> Result<Reading> {
        let answer = self.ask("GET", "/api/bmc?opt=get&type=power", None)?;
        // Firmware before 2.0 has one list less around it.
        let on = find(&answer, &format!("node{slot}")).ok_or(missing)?;
        let on = on.as_str().map_or_else(|| on.as_u64() == Some(1) || on.as_bool() == Some(true), |text| text == "1");
        Ok(Reading { on: Some(on), watts: None })
    }

    /// Tells devices of the second generation and later from the first ones (shelly-api-docs.shelly.cloud).
    fn shelly_speaks_rpc(&self) -> Result<bool> {
        Ok(self.ask("GET", "/shelly", None)?["gen"].as_u64().is_some_and(|generation| generation >= 2))
    }

    fn shelly_read(&self, relay: &str, missing: PowerError) -> Result<Reading> {
        let path = match self.shelly_speaks_rpc()? {
            true => format!("/rpc/Switch.GetStatus?id={relay}"),
            false => format!("/relay/{relay}"),
        };
        let answer = self.ask_for(&path, missing)?;
        if let Some(on) = answer["output"].as_bool() {
            return Ok(Reading { on: Some(on), watts: answer["apower"].as_f64() });
        }
        let on = answer["ison"].as_bool().ok_or_else(|| self.refused("it says nothing of its relay"))?;
        // The ones without a meter have no such page.
        let meter = self.ask("GET", &format!("/meter/{relay}"), None).ok();
        Ok(Reading { on: Some(on), watts: meter.and_then(|meter| meter["power"].as_f64()) })
    }

    /// tasmota.github.io, "Commands": `Power`, `Status 8`. With a password it takes it as a parameter.
    fn tasmota(&self, command: &str) -> Result<Value> {
        let entry = match &self.login {
            Some((user, password)) => format!("user={}&password={}&", percent(user), percent(password)),
            None => String::new(),
        };
        let answer = self.ask("GET", &format!("/cm?{entry}cmnd={command}"), None)?;
        match answer["WARNING"].as_str() {
            Some(said) => Err(PowerError::NoEntry {
                device: self.name.clone(),
                said: format!("{said}: put `user = admin` and `password = …` into the file of its `credentials`"),
            }),
            None => Ok(answer),
        }
    }

    fn tasmota_read(&self, relay: &str, missing: PowerError) -> Result<Reading> {
        let answer = self.tasmota(&format!("Power{relay}"))?;
        // The only relay of a device has no number in its answer.
        let said = answer
            .get(format!("POWER{relay}"))
            .or_else(|| answer.get("POWER").filter(|_| relay.is_empty() || relay == "1"));
        let on = said.and_then(Value::as_str).ok_or(missing)? == "ON";
        let power = self.tasmota("Status%208")?;
        let power = &power["StatusSNS"]["ENERGY"]["Power"];
        let several = relay.parse::<usize>().ok().and_then(|relay| power.get(relay.checked_sub(1)?));
        Ok(Reading { on: Some(on), watts: power.as_f64().or_else(|| several?.as_f64()) })
    }
}

/// The value of a key, wherever it is.
fn find<'v>(value: &'v Value, key: &str) -> Option<&'v Value> {
    match value {
        Value::Object(map) => map.get(key).or_else(|| map.values().find_map(|inner| find(inner, key))),
        Value::Array(list) => list.iter().find_map(|inner| find(inner, key)),
        _ => None,
    }
}

/// Writes a text as a part of a web address (RFC 3986).
fn percent(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        other => format!("%{other:02X}"),
    };
    text.bytes().map(byte).collect()
}
