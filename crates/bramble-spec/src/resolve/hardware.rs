//! The section `hardware`: parts looked up, devices connected.

use std::sync::Arc;

use super::resolver::Resolver;
use crate::catalogue::{Catalogue, Part, PartKind};
use crate::cluster::Cluster;
use crate::de::{Spanned, nearest};
use crate::document::*;
use crate::hardware::{Device, Disk, Feed, Fitting, Guest, Hardware, Holds, Line};
use crate::names::DeviceName;
use crate::problem::Span;

/// Tells every cluster of the boards that the others have on the same devices.
pub(super) fn share(clusters: &mut [Cluster]) {
    for place in 0..clusters.len() {
        let here = &clusters[place].hardware;
        let mut guests = Vec::new();
        for (_, other) in clusters.iter().enumerate().filter(|(number, _)| *number != place) {
            // The same name and part is the same device: they stand on one rack.
            let same = |there: usize| {
                let device = &other.hardware.devices[there];
                here.device(device.name.as_str()).filter(|found| here.devices[*found].part.id() == device.part.id())
            };
            for node in &other.nodes {
                let feed = node.fitting.feed.as_ref().and_then(Feed::device).and_then(same);
                let switch = node.fitting.switch.and_then(same);
                if feed.is_some() || switch.is_some() {
                    let fitting = Fitting { feed: feed.map(Feed::Device), switch, ..node.fitting.clone() };
                    guests.push(Guest { name: node.name.clone(), board: node.board.clone(), fitting });
                }
            }
        }
        clusters[place].hardware.guests = guests;
    }
}

/// The word that takes away what every other node has.
const NONE: &str = "none";

impl Resolver<'_> {
    /// The hardware, and what every node has that does not say otherwise.
    pub(super) fn hardware(&mut self, section: Option<Spanned<HardwareSection>>) -> (Hardware, Fitting) {
        self.catalogue = Catalogue::built_in().clone();
        let section = section.map(|section| section.value).unwrap_or_default();
        if !section.catalogue.is_empty() {
            self.more_parts(&section.catalogue);
        }
        let names: Vec<Spanned<DeviceName>> =
            section.devices.iter().map(|(name, device)| Spanned { value: name.clone(), span: device.span }).collect();
        let mut devices = Vec::new();
        let mut wires = Vec::new();
        for (name, Spanned { value: device, span }) in section.devices {
            let part = match &device.part {
                Some(part) => self.part(
                    name.as_str(),
                    &part.value,
                    part.span,
                    &[PartKind::Switch, PartKind::Router, PartKind::Charger, PartKind::Board],
                ),
                None => {
                    self.missing("part", span, span, &format!("say what {name} is, such as `part: tl-sg105pe`"));
                    None
                }
            };
            let with = self.lines(name.as_str(), device.with);
            let control = device.control.and_then(|section| self.control(name.as_str(), section));
            // A placeholder keeps the numbers of the others; the file is refused anyway.
            let part = part.or_else(|| self.catalogue.parts().next().cloned());
            if let Some(part) = part {
                devices.push(Device { name, part, uplink: None, feed: None, control, with });
                wires.push((device.uplink, device.power));
            }
        }
        let mut hardware = Hardware {
            catalogue: self.catalogue.clone(),
            devices,
            guests: Vec::new(),
            others: self.lines("others", section.others),
            accept: section.accept.iter().map(|rule| rule.value.clone()).collect(),
        };
        for (place, (uplink, power)) in wires.into_iter().enumerate() {
            let name = hardware.devices[place].name.to_string();
            let up = uplink.as_ref().and_then(|text| self.device(&name, text, &hardware));
            if let (Some(up), Some(text)) = (up, &uplink)
                && hardware.devices[up].charger().is_some()
            {
                self.error(format!("{name}: a charger is no way out"), text.span, "name a switch, a router or a board");
            }
            hardware.devices[place].uplink = up;
            hardware.devices[place].feed = power.and_then(|text| self.feed(&name, &text, &hardware));
        }
        for (what, next) in [
            ("uplinks", (|device| device.uplink) as fn(&Device) -> Option<usize>),
            ("power supplies", |device| device.feed.as_ref().and_then(Feed::device)),
        ] {
            for start in 0..hardware.devices.len() {
                let mut at = Some(start);
                for _ in 0..hardware.devices.len() {
                    at = at.and_then(|at| next(&hardware.devices[at]));
                }
                // Whoever still goes on after as many steps as there are devices walks in a circle.
                if at == Some(start) {
                    let span = names.get(start).map_or_else(Span::default, |name| name.span);
                    self.error(
                        format!("the {what} of {} lead back to itself", hardware.devices[start].name),
                        span,
                        "one of the circle must have none",
                    );
                    break;
                }
            }
        }
        let each = self.fitting("each", section.each, &hardware, None);
        (hardware, each)
    }

    fn more_parts(&mut self, files: &[Spanned<String>]) {
        let mut catalogue = Catalogue::clone(&self.catalogue);
        for file in files {
            match (self.read)(&file.value) {
                Ok(text) => {
                    for mistake in catalogue.extend(&file.value, &text) {
                        self.error(mistake, file.span, "`bramble schema --parts` prints the schema of these files");
                    }
                }
                Err(error) => self.error(
                    format!("cannot read the parts in {}: {error}", file.value),
                    file.span,
                    "a relative path starts at the cluster file",
                ),
            }
        }
        self.catalogue = Arc::new(catalogue);
    }

    /// Looks a part up that is of one of these kinds; any, if none is named.
    fn part(&mut self, owner: &str, id: &str, span: Span, kinds: &[PartKind]) -> Option<Arc<Part>> {
        let fits = |part: &Part| kinds.is_empty() || kinds.contains(&part.kind());
        let wanted: Vec<String> = kinds.iter().map(ToString::to_string).collect();
        match self.catalogue.part(id) {
            Some(part) if fits(part) => Some(part.clone()),
            Some(part) => {
                let message = format!("{owner}: `{id}` is a {}, not a {}", part.kind(), wanted.join(" or "));
                self.error(message, span, "`bramble parts` lists all");
                None
            }
            None => {
                let known = self.catalogue.parts().filter(|part| fits(part)).map(|part| part.id());
                let help = match nearest(id, known) {
                    Some(near) => {
                        format!("did you mean `{near}`? `bramble parts` lists all; `hardware.catalogue` adds your own")
                    }
                    None => "`bramble parts` lists all; `hardware.catalogue` adds your own".to_owned(),
                };
                let kind = if wanted.is_empty() { "part".to_owned() } else { wanted.join(" or ") };
                self.error(format!("{owner}: no {kind} is called `{id}`"), span, help);
                None
            }
        }
    }

    fn device(&mut self, owner: &str, text: &Spanned<String>, hardware: &Hardware) -> Option<usize> {
        let found = hardware.device(&text.value);
        if found.is_none() {
            let help = match nearest(&text.value, hardware.devices.iter().map(|device| device.name.as_str())) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("add it to the devices: `devices: {{ {}: {{ part: … }} }}`", text.value),
            };
            self.error(format!("{owner}: no device is called `{}`", text.value), text.span, help);
        }
        found
    }

    fn feed(&mut self, owner: &str, text: &Spanned<String>, hardware: &Hardware) -> Option<Feed> {
        if let Some(place) = hardware.device(&text.value) {
            if hardware.devices[place].board().is_some() {
                self.error(
                    format!("{owner}: the board {} gives no power to others", text.value),
                    text.span,
                    "name a charger, a switch with PoE, or a power supply",
                );
            }
            return Some(Feed::Device(place));
        }
        if self.catalogue.part(&text.value).is_some() {
            return self.part(owner, &text.value, text.span, &[PartKind::Supply]).map(Feed::Supply);
        }
        let supplies = self.catalogue.parts().filter(|part| part.kind() == PartKind::Supply).map(|part| part.id());
        let known = hardware.devices.iter().map(|device| device.name.as_str()).chain(supplies);
        let help = match nearest(&text.value, known) {
            Some(near) => format!("did you mean `{near}`?"),
            None => "name a device of `hardware.devices`, or a power supply (`bramble parts`)".to_owned(),
        };
        self.error(format!("{owner}: no device and no power supply is called `{}`", text.value), text.span, help);
        None
    }

    /// What a node has: its own, and where it says nothing, what each has.
    pub(super) fn fitting(
        &mut self,
        owner: &str,
        section: FittingSection,
        hardware: &Hardware,
        each: Option<&Fitting>,
    ) -> Fitting {
        let nothing = |text: &Spanned<String>| text.value == NONE;
        Fitting {
            feed: match &section.power {
                Some(text) if nothing(text) => None,
                Some(text) => self.feed(owner, text, hardware),
                None => each.and_then(|each| each.feed.clone()),
            },
            outlet: section.outlet.and_then(|outlet| self.outlet(owner, outlet)),
            control: section
                .control
                .and_then(|section| self.control(owner, section))
                .or_else(|| each.and_then(|each| each.control.clone())),
            hat: match &section.hat {
                Some(text) if nothing(text) => None,
                Some(text) => self.part(owner, &text.value, text.span, &[PartKind::Hat]),
                None => each.and_then(|each| each.hat.clone()),
            },
            switch: match &section.switch {
                Some(text) if nothing(text) => None,
                Some(text) => {
                    let found = self.device(owner, text, hardware);
                    if found.is_some_and(|place| hardware.devices[place].network().is_none()) {
                        self.error(
                            format!("{owner}: {} is no switch and no router", text.value),
                            text.span,
                            "name the device that its cable is plugged into",
                        );
                    }
                    found
                }
                None => each.and_then(|each| each.switch),
            },
            disks: match section.disks {
                Some(disks) => self.disks(owner, disks),
                None => each.map(|each| each.disks.clone()).unwrap_or_default(),
            },
            with: match section.with {
                Some(lines) => self.lines(owner, lines),
                None => each.map(|each| each.with.clone()).unwrap_or_default(),
            },
        }
    }

    fn lines(&mut self, owner: &str, lines: Vec<Spanned<Short<LineSection>>>) -> Vec<Line> {
        lines
            .into_iter()
            .filter_map(|Spanned { value: Short(line), span }| {
                let part = self.part(owner, &line.part, span, &[])?;
                Some(Line { part, quantity: line.quantity.unwrap_or(1) })
            })
            .collect()
    }

    fn disks(&mut self, owner: &str, disks: Vec<Spanned<Short<DiskSection>>>) -> Vec<Disk> {
        let mut all: Vec<Disk> = Vec::new();
        for Spanned { value: Short(disk), span } in disks {
            let part = self.part(owner, &disk.part, span, &[PartKind::Disk]);
            let adapter = disk.adapter.and_then(|id| self.part(owner, &id, span, &[PartKind::Adapter]));
            let holds = disk.holds.unwrap_or_default();
            for what in &holds {
                if *what != Holds::Volumes && all.iter().any(|other| other.holds.contains(what)) {
                    self.error(
                        format!("{owner}: two disks hold the same"),
                        span,
                        "one disk holds `boot`, `system` and `state` each; only volumes may be on several",
                    );
                }
            }
            all.extend(part.map(|part| Disk { part, adapter, holds }));
        }
        for what in [Holds::Boot, Holds::System, Holds::State, Holds::Volumes] {
            if !all.iter().any(|disk| disk.holds.contains(&what))
                && let Some(first) = all.first_mut()
            {
                first.holds.push(what);
            }
        }
        all
    }
}
