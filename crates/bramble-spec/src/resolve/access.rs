//! The sections `access` and `update`.

use super::resolver::Resolver;
use super::text::is_user_byte;
use crate::cluster::{Access, Jump, Update};
use crate::document::{AccessSection, UpdateSection};

impl Resolver<'_> {
    pub(super) fn access(&mut self, section: AccessSection) -> Access {
        if let Some(user) = &section.user
            && (user.value.is_empty() || user.value.starts_with('-') || !user.value.bytes().all(is_user_byte))
        {
            self.error(format!("`{}` is not a user name", user.value), user.span, "letters, digits, `.`, `_` and `-`");
        }
        if let Some(port) = &section.port
            && port.value == 0
        {
            self.error("port 0 does not exist", port.span, "sshd usually listens on 22");
        }
        let jump = section.jump.and_then(|jump| {
            let host_ok = |host: &str| !host.is_empty() && !host.starts_with('-') && host.bytes().all(is_user_byte);
            match Jump::split(&jump.value) {
                Some(split) if host_ok(&split.host) => Some(split),
                _ => {
                    self.error(
                        format!("`{}` is not a jump host", jump.value),
                        jump.span,
                        "write it as `user@host:port`; user and port may be left out",
                    );
                    None
                }
            }
        });
        Access {
            user: section.user.map_or_else(|| "pi".to_owned(), |user| user.value),
            keys: section.keys.into_iter().map(|key| key.value).collect(),
            port: section.port.map_or(22, |port| port.value),
            jump,
            sudo: section.sudo.unwrap_or_default(),
        }
    }

    pub(super) fn update(&mut self, section: UpdateSection) -> Update {
        for (what, number) in [
            ("workers", section.workers.as_ref().map(|n| (u32::from(n.value), n.span))),
            ("drain", section.drain.as_ref().map(|n| (n.value, n.span))),
        ] {
            if let Some((0, span)) = number {
                self.error(format!("`{what}: 0` would wait for ever"), span, "use at least 1");
            }
        }
        Update { workers: section.workers.map_or(1, |n| n.value), drain: section.drain.map_or(300, |n| n.value) }
    }
}
