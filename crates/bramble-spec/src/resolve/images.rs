//! Images: the system of the boards' disks, and where container images come from.

use std::collections::BTreeMap;

use super::resolver::Resolver;
use super::text::is_http;
use crate::cluster::ImageSource;
use crate::de::Spanned;
use crate::distribution::Distribution;
use crate::document::ImageSection;

impl Resolver<'_> {
    pub(super) fn image(&mut self, section: Spanned<ImageSection>) -> Option<ImageSource> {
        let whole = section.span;
        let ImageSection { file, url, name, catalogue, sha256 } = section.value;
        let places = [&file, &url, &name].map(|place| place.as_ref().map(|text| text.span));
        if let [_, second @ ..] = places.iter().flatten().collect::<Vec<_>>().as_slice()
            && let [.., last] = second
        {
            self.error("an image comes from one place", **last, "keep one of `file`, `url` and `name`");
            return None;
        }
        for address in [&url, &catalogue].into_iter().flatten() {
            if !is_http(&address.value) {
                self.error(
                    format!("`{}` is not a URL", address.value),
                    address.span,
                    "it starts with https:// or http://",
                );
            }
        }
        if let (Some(catalogue), None) = (&catalogue, &name) {
            self.error("a catalogue without a name", catalogue.span, "say which of its images: `name: …`");
        }
        if let (Some(sha256), Some(_)) = (&sha256, &name) {
            self.error("the catalogue has the digest of an image", sha256.span, "remove `sha256`, or give the `url`");
        }
        let sha256 = sha256.map(|sha256| sha256.value);
        match (file, url, name) {
            (Some(file), ..) => Some(ImageSource::File { path: file.value, sha256 }),
            (_, Some(url), _) => Some(ImageSource::Url { url: url.value, sha256 }),
            (.., Some(name)) => {
                Some(ImageSource::Name { name: name.value, catalogue: catalogue.map(|catalogue| catalogue.value) })
            }
            // What was said of it is wrong, and told.
            (None, None, None) if catalogue.is_some() => None,
            (None, None, None) => {
                self.missing(
                    "file",
                    whole,
                    whole,
                    "add `file: image.img.xz`, `url: https://…`, or the `name` of an image",
                );
                None
            }
        }
    }

    pub(super) fn registries(
        &mut self,
        section: BTreeMap<String, Spanned<String>>,
        distribution: Option<&Distribution>,
    ) -> BTreeMap<String, String> {
        let help = distribution.and_then(Distribution::registries_elsewhere);
        if let (Some(help), Some(first)) = (help, section.values().next()) {
            self.error("this distribution's registries are not set from here", first.span, help);
        }
        let host =
            |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b".-:".contains(&b));
        let mut found = BTreeMap::new();
        for (registry, mirror) in section {
            if !host(&registry) {
                self.error(
                    format!("`{registry}` is no registry"),
                    mirror.span,
                    "write its host, such as docker.io, quay.io or ghcr.io",
                );
            }
            if !is_http(&mirror.value) {
                self.error(
                    format!("`{}` is not a URL", mirror.value),
                    mirror.span,
                    "it starts with https:// or http://, such as http://10.0.0.10:5000",
                );
            }
            found.insert(registry, mirror.value.trim_end_matches('/').to_owned());
        }
        found
    }
}
