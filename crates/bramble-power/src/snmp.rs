//! PoE switches that are managed by SNMP.

use std::time::Duration;

use bramble_spec::PoeMib;
use snmp2::v3::{Auth, AuthProtocol, Cipher, KeyExtension, Security};
use snmp2::{AsyncSession, Error, Oid, Value};
use tokio::time::timeout;

use crate::error::{PowerError, Result};
use crate::{Outlet, Reading};

/// How long one answer may take, and how often it is asked for: datagrams are lost.
const PATIENCE: Duration = Duration::from_secs(3);
const TRIES: u32 = 3;

/// `pethPsePortEntry` (RFC 3621): column, group and port follow.
const RFC3621: &[u64] = &[1, 3, 6, 1, 2, 1, 105, 1, 1, 1];
const ADMIN_ENABLE: u64 = 3;
/// `tpPoePortConfigEntry` (TPLINK-POWER-OVER-ETHERNET-MIB): column and port follow.
const TP_LINK: &[u64] = &[1, 3, 6, 1, 4, 1, 11863, 6, 56, 1, 1, 2, 1, 1];
const TP_LINK_STATUS: u64 = 2;
/// In tenths of a watt.
const TP_LINK_POWER: u64 = 7;
/// `agentPethOutputPower` (NETGEAR-POWER-ETHERNET-MIB), in milliwatts: managed switches, and smart ones.
const NETGEAR: [&[u64]; 2] =
    [&[1, 3, 6, 1, 4, 1, 4526, 10, 15, 1, 1, 1, 2], &[1, 3, 6, 1, 4, 1, 4526, 11, 15, 1, 1, 1, 2]];

pub(crate) async fn read(outlet: &Outlet, host: &str, mib: PoeMib) -> Result<Reading> {
    let mut agent = Agent::new(outlet, host)?;
    let (switch, on_value) = switch(outlet, mib)?;
    let on = agent.get(&switch).await?.ok_or_else(|| outlet.no_such_outlet())? == on_value;
    let place = place(outlet)?;
    let mut watts = None;
    match mib {
        PoeMib::Rfc3621 => {}
        PoeMib::TpLink => {
            let tenths = agent.get(&at(TP_LINK, &[TP_LINK_POWER, place.1])).await?;
            watts = tenths.map(|tenths| tenths as f64 / 10.0);
        }
        PoeMib::Netgear => {
            for column in NETGEAR {
                if watts.is_none() {
                    let milliwatts = agent.get(&at(column, &[place.0, place.1])).await?;
                    watts = milliwatts.map(|milliwatts| milliwatts as f64 / 1000.0);
                }
            }
        }
    }
    Ok(Reading { on: Some(on), watts })
}

pub(crate) async fn set(outlet: &Outlet, host: &str, mib: PoeMib, on: bool) -> Result<()> {
    let mut agent = Agent::new(outlet, host)?;
    let (switch, on_value) = switch(outlet, mib)?;
    // TruthValue knows 1 and 2 (RFC 2579), TP-Link 1 and 0.
    let off_value = if mib == PoeMib::TpLink { 0 } else { 2 };
    agent.set(&switch, if on { on_value } else { off_value }).await
}

/// The object that switches the port, and its value for on.
fn switch(outlet: &Outlet, mib: PoeMib) -> Result<(Vec<u64>, i64)> {
    let (group, port) = place(outlet)?;
    Ok(match mib {
        PoeMib::TpLink => (at(TP_LINK, &[TP_LINK_STATUS, port]), 1),
        PoeMib::Rfc3621 | PoeMib::Netgear => (at(RFC3621, &[ADMIN_ENABLE, group, port]), 1),
    })
}

fn at(table: &[u64], index: &[u64]) -> Vec<u64> {
    [table, index].concat()
}

/// The group and the port: `3`, or `2.3` for the third port of the second group, which is a module or a switch of a stack.
fn place(outlet: &Outlet) -> Result<(u64, u64)> {
    let text = outlet.outlet()?;
    let (group, port) = text.split_once('.').unwrap_or(("1", text));
    match (group.parse(), port.parse()) {
        (Ok(group), Ok(port)) => Ok((group, port)),
        _ => {
            let said = format!("`{text}` of {} is no port: write its number, or `GROUP.PORT`", outlet.node);
            Err(PowerError::Refused { device: outlet.device(), said })
        }
    }
}

/// The agent of a switch, and how it is spoken to.
struct Agent<'o> {
    outlet: &'o Outlet,
    address: String,
    entry: Entry,
    /// Kept from one question to the next, as long as each was answered.
    session: Option<AsyncSession>,
}

enum Entry {
    Community(String),
    User(Box<Security>),
}

impl<'o> Agent<'o> {
    fn new(outlet: &'o Outlet, host: &str) -> Result<Agent<'o>> {
        let address = if host.contains(':') { host.to_owned() } else { format!("{host}:161") };
        let credentials = &outlet.credentials;
        let entry = if let Some(community) = credentials.get("community") {
            Entry::Community(community.to_owned())
        } else if let Some(user) = credentials.get("user") {
            Entry::User(Box::new(security(outlet, user)?))
        } else {
            let said = "put `community = …` (one that may write), or `user = …` and `password = …` of SNMPv3, into the file of its `credentials`";
            return Err(PowerError::NoEntry { device: outlet.device(), said: said.into() });
        };
        Ok(Agent { outlet, address, entry, session: None })
    }

    async fn connect(&self) -> Result<AsyncSession, Failure> {
        Ok(match &self.entry {
            Entry::Community(community) => AsyncSession::new_v2c(&self.address, community.as_bytes(), 1).await?,
            Entry::User(security) => {
                let mut session = AsyncSession::new_v3(&self.address, 1, (**security).clone()).await?;
                session.init().await?;
                session
            }
        })
    }

    /// Asks until there is an answer. Each try after one that failed has a socket of its own: on the old one the late
    /// answer to the old question would be taken for a wrong answer to the new one, again and again.
    async fn ask<T>(&mut self, ask: impl AsyncFn(&mut AsyncSession) -> Result<T, Error>) -> Result<T> {
        let mut last = None;
        for _ in 0..TRIES {
            let kept = self.session.take();
            let attempt = async {
                let mut session = match kept {
                    Some(session) => session,
                    None => self.connect().await?,
                };
                let answer = ask(&mut session).await?;
                Ok((session, answer))
            };
            match timeout(PATIENCE, attempt).await {
                Ok(Ok((session, answer))) => {
                    self.session = Some(session);
                    return Ok(answer);
                }
                Ok(Err(Failure::Agent(Error::AuthFailure(why)))) => {
                    let said = format!(
                        "SNMPv3 says {why}: look at user, password and kinds of encryption in its `credentials`"
                    );
                    return Err(PowerError::NoEntry { device: self.outlet.device(), said });
                }
                Ok(Err(failure)) => last = Some(failure.to_string()),
                Err(_) => {}
            }
        }
        // An agent says nothing to whoever has the wrong community (RFC 3584 leaves it to a trap).
        let said = last.unwrap_or_else(|| {
            format!(
                "{TRIES} times nothing within {} s: is it there, is SNMP switched on, is the community right?",
                PATIENCE.as_secs()
            )
        });
        Err(PowerError::Silent { device: self.outlet.device(), said })
    }

    /// Reads a number; `None` if there is no such object.
    async fn get(&mut self, place: &[u64]) -> Result<Option<i64>> {
        let oid = oid(place);
        self.ask(async |session| {
            let mut answer = session.get(&oid).await?;
            Ok(match answer.varbinds.next() {
                Some((_, Value::Integer(number))) => Some(number),
                Some((_, Value::Unsigned32(number) | Value::Counter32(number))) => Some(i64::from(number)),
                _ => None,
            })
        })
        .await
    }

    async fn set(&mut self, place: &[u64], value: i64) -> Result<()> {
        let oid = oid(place);
        let status =
            self.ask(async |session| Ok(session.set(&[(&oid, Value::Integer(value))]).await?.error_status)).await?;
        // RFC 3416, section 3.
        let said = match status {
            0 => return Ok(()),
            6 | 16 | 17 => "it may be read, and not written: give a community or a user that may write".to_owned(),
            2 | 11 | 18 => return Err(self.outlet.no_such_outlet()),
            other => format!("it refuses to switch {} (SNMP error {other})", self.outlet.outlet_name()),
        };
        Err(PowerError::NoEntry { device: self.outlet.device(), said })
    }
}

/// Why one try has no answer.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Agent(#[from] Error),
    #[error(transparent)]
    Network(#[from] std::io::Error),
}

fn oid(place: &[u64]) -> Oid<'static> {
    // All of them begin with 1.3.6.1, which is one.
    Oid::from(place).unwrap_or_else(|_| Oid::new(std::borrow::Cow::Borrowed(&[])))
}

fn security(outlet: &Outlet, user: &str) -> Result<Security> {
    let credentials = &outlet.credentials;
    let unknown = |key: &str, value: &str, known: &str| PowerError::NoEntry {
        device: outlet.device(),
        said: format!("its credentials name `{key} = {value}`: bramble knows {known}"),
    };
    let password = credentials.get("password").unwrap_or_default();
    let protocol = match credentials.get("authentication").unwrap_or("sha1") {
        "md5" => AuthProtocol::Md5,
        "sha1" | "sha" => AuthProtocol::Sha1,
        "sha224" => AuthProtocol::Sha224,
        "sha256" => AuthProtocol::Sha256,
        "sha384" => AuthProtocol::Sha384,
        "sha512" => AuthProtocol::Sha512,
        other => return Err(unknown("authentication", other, "md5, sha1, sha224, sha256, sha384 and sha512")),
    };
    let cipher = match credentials.get("privacy").unwrap_or("aes128") {
        "des" => Cipher::Des,
        "aes128" | "aes" => Cipher::Aes128,
        "aes192" => Cipher::Aes192,
        "aes256" => Cipher::Aes256,
        other => return Err(unknown("privacy", other, "des, aes128, aes192 and aes256")),
    };
    let auth = match credentials.get("privacy-password") {
        Some(word) => Auth::AuthPriv { cipher, privacy_password: word.as_bytes().to_vec() },
        None if password.is_empty() => Auth::NoAuthNoPriv,
        None => Auth::AuthNoPriv,
    };
    Ok(Security::new(user.as_bytes(), password.as_bytes())
        .with_auth_protocol(protocol)
        .with_auth(auth)
        .with_key_extension_method(KeyExtension::Blumenthal))
}
