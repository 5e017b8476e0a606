//! The section `power`.

use super::resolver::Resolver;
use super::text::is_user_byte;
use crate::cluster::Ups;
use crate::de::Spanned;
use crate::document::{NutSection, PowerSection};

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
}
