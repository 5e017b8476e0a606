//! The section `power`.

use std::collections::BTreeMap;

use super::resolver::Resolver;
use super::text::is_user_byte;
use crate::cluster::{Control, ControlWay, Node, Ups};
use crate::de::Spanned;
use crate::distribution::Setting;
use crate::document::{ControlSection, NutSection, PowerSection};
use crate::hardware::{Feed, Hardware};
use crate::problem::Span;

impl Resolver<'_> {
    pub(super) fn ups(&mut self, section: PowerSection) -> Option<Ups> {
        let Spanned { value, span } = section.nut?;
        let NutSection { ups: name, user, password_file } = value.0;
        let plain = |text: &str| !text.is_empty() && text.bytes().all(is_user_byte);
        let whole = name.split_once('@').is_some_and(|(ups, server)| {
            let (host, port) = server.split_once(':').unwrap_or((server, "3493"));
            plain(ups) && plain(host) && port.parse::<u16>().is_ok_and(|port| port > 0)
        });
        if !whole {
            let help = "write `ups@host`; `upsc -l HOST` lists the names that a server has";
            self.error(format!("`{name}` is no UPS"), span, help);
        }
        if let Some(user) = user.as_ref().filter(|user| !plain(&user.value)) {
            self.error(
                format!("`{}` is not a user of NUT", user.value),
                user.span,
                "letters, digits, `.`, `_` and `-`",
            );
        }
        Some(Ups {
            name,
            user: user.map_or_else(|| "monuser".to_owned(), |user| user.value),
            password_file: password_file.map(|file| file.value),
        })
    }

    /// How power is switched: by one thing.
    pub(super) fn control(&mut self, owner: &str, section: Spanned<ControlSection>) -> Option<Control> {
        let Spanned { value, span } = section;
        let ControlSection { snmp, mib, mikrotik, turing_pi, shelly, tasmota, command, wake_on_lan, credentials } =
            value;
        if let Some(mib) = mib.as_ref().filter(|_| snmp.is_none()) {
            self.error(format!("{owner}: `mib` says nothing without `snmp`"), mib.span, "write `snmp: HOST` beside it");
        }
        let mib = mib.map(|mib| mib.value).unwrap_or_default();
        let mut ways: Vec<ControlWay> = Vec::new();
        ways.extend(self.device_address(owner, snmp).map(|host| ControlWay::Snmp { host, mib }));
        for (written, way) in [
            (mikrotik, ControlWay::Mikrotik as fn(String) -> ControlWay),
            (turing_pi, ControlWay::TuringPi),
            (shelly, ControlWay::Shelly),
            (tasmota, ControlWay::Tasmota),
        ] {
            ways.extend(self.device_address(owner, written).map(way));
        }
        if let Some(Spanned { value: words, span }) = command {
            if words.is_empty() {
                self.error(format!("{owner}: the command is empty"), span, "write a program and its arguments");
            }
            ways.push(ControlWay::Command(words));
        }
        ways.extend(wake_on_lan.filter(|wanted| wanted.value).map(|_| ControlWay::WakeOnLan));
        let count = ways.len();
        let way = ways.pop().filter(|_| count == 1);
        if way.is_none() && !self.nodes_broken {
            let what = if count == 0 { "nothing" } else { "several things" };
            let help = "write one of `snmp`, `mikrotik`, `turing-pi`, `shelly`, `tasmota`, `command` and `wake-on-lan`";
            self.error(format!("{owner}: {what} would switch its power"), span, help);
        }
        Some(Control { way: way?, credentials: credentials.map(|file| file.value) })
    }

    /// Two boards on one outlet would go off together.
    pub(super) fn shared_outlets(&mut self, hardware: &Hardware, nodes: &[Node], span: Span) {
        let mut taken: BTreeMap<(usize, &str), &Node> = BTreeMap::new();
        for node in nodes {
            let fitting = &node.fitting;
            let device = fitting.feed.as_ref().and_then(Feed::device).filter(|_| fitting.control.is_none());
            let (Some(device), Some(outlet)) = (device, fitting.outlet.as_deref()) else { continue };
            if let Some(other) = taken.insert((device, outlet), node) {
                let device = &hardware.devices[device].name;
                let what = format!("{} and {} are both on outlet {outlet} of {device}", other.name, node.name);
                self.error(what, span, "give each `hardware: { outlet: … }` of its own");
            }
        }
    }

    /// An address, `host:port`, or a web address without a user and a password.
    fn device_address(&mut self, owner: &str, written: Option<Spanned<String>>) -> Option<String> {
        let Spanned { value, span } = written?;
        let plain = value.strip_prefix("http://").or_else(|| value.strip_prefix("https://")).unwrap_or(&value);
        let host = plain.trim_end_matches('/');
        if host.contains('@') {
            let help = "put `user = …` and `password = …` into a file of mode 600, and name it as `credentials`";
            self.error(format!("{owner}: `{value}` has a user or a password in it"), span, help);
        } else if host.is_empty() || !host.bytes().all(|byte| is_user_byte(byte) || b":/[]".contains(&byte)) {
            self.error(
                format!("{owner}: `{value}` is no address"),
                span,
                "write `10.0.0.2`, `switch.lan` or `10.0.0.2:161`",
            );
        }
        Some(value)
    }

    /// The outlet of a device: a number or a word.
    pub(super) fn outlet(&mut self, owner: &str, outlet: Spanned<Setting>) -> Option<String> {
        match outlet.value {
            Setting::One(text) if !text.is_empty() && text.bytes().all(|byte| is_user_byte(byte) || byte == b'/') => {
                Some(text)
            }
            _ => {
                self.error(format!("{owner}: this is no outlet"), outlet.span, "write its number, such as `outlet: 3`");
                None
            }
        }
    }
}
