//! The section `backup`.

use super::distribution::ENDPOINT;
use super::resolver::Resolver;
use super::text::{is_folder, is_http, is_user_byte};
use crate::cluster::{BackupPlace as Place, Backups, Jump, Node, Role};
use crate::de::Spanned;
use crate::distribution::Distribution;
use crate::document::{BackupSection, BackupServer};
use crate::problem::{Problem, Span};

/// The least time between two backups, in seconds: the timers look every two minutes at most.
const LEAST: u32 = 600;
const EVERY: &str = "write minutes, hours or days: `90m`, `6h` or `1d`";
const PLACES: &str =
    "write `kube2:/srv/backups`, or a mapping with `url: ssh://user@host/folder` or `url: s3://bucket/folder`";

impl Resolver<'_> {
    pub(super) fn backups(
        &mut self,
        section: Option<Spanned<BackupSection>>,
        distribution: Option<&Distribution>,
        nodes: &[Node],
    ) -> Option<Backups> {
        let Spanned { value: BackupSection { every, keep, to, volumes }, span } = section?;
        let elsewhere = matches!(distribution, Some(Distribution::K3s(k3s)) if k3s.server.contains_key(ENDPOINT));
        if distribution == Some(&Distribution::None) {
            self.error("without Kubernetes there is no state to save", span, "remove `backup`");
        }
        if elsewhere && volumes.is_empty() {
            self.error(
                "the state of this cluster is in a database elsewhere, of which bramble makes no backups",
                span,
                "save it with the database's own tools; with `volumes: [namespace/claim]` those alone are saved",
            );
        }
        if every.is_none() {
            self.missing("every", span, span, EVERY);
        }
        let every = every.and_then(|every| self.span_of_time(&every));
        if let Some(Spanned { value: 0, span }) = keep {
            self.error("`keep: 0` would keep none", span, "keep at least 1");
        }
        if to.is_empty() {
            self.missing("to", span, span, PLACES);
        }
        let mut places: Vec<Place> = Vec::new();
        for Spanned { value, span } in to {
            let place = self.backup_place(value.0, span, nodes);
            let Some(place) = place else { continue };
            if places.contains(&place) {
                self.error(format!("{place} is named twice"), span, "name each place once");
            }
            places.push(place);
        }
        let volumes = self.claims(volumes);
        let keep = keep.map_or(14, |keep| keep.value);
        Some(Backups { every: every?, keep, to: places, state: !elsewhere, volumes })
    }

    /// Claims of volumes; their names are those of objects of Kubernetes (kubernetes.io, "Object Names and IDs").
    fn claims(&mut self, volumes: Vec<Spanned<String>>) -> Vec<String> {
        let mut claims: Vec<String> = Vec::new();
        for Spanned { value, span } in volumes {
            let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
            let ends = |text: &str| !text.starts_with(['-', '.']) && !text.ends_with(['-', '.']);
            let is_claim = |(space, name): &(&str, &str)| {
                let space_fits = (1..=63).contains(&space.len()) && space.chars().all(plain) && ends(space);
                space_fits
                    && (1..=253).contains(&name.len())
                    && name.chars().all(|c| plain(c) || c == '.')
                    && ends(name)
            };
            if value.split_once('/').filter(is_claim).is_none() {
                let help = "write `namespace/name` of a PersistentVolumeClaim, as `kubectl get pvc -A` lists them";
                self.error(format!("`{value}` is no claim of a volume"), span, help);
            } else if claims.contains(&value) {
                self.error(format!("{value} is named twice"), span, "name each claim once");
            } else {
                claims.push(value);
            }
        }
        claims
    }

    fn span_of_time(&mut self, every: &Spanned<String>) -> Option<u32> {
        let written = every.value.trim();
        let (number, unit) = written.split_at(written.find(|c: char| !c.is_ascii_digit()).unwrap_or(written.len()));
        let seconds = match unit.trim() {
            "m" | "min" => Some(60),
            "h" => Some(3600),
            "d" => Some(86_400),
            _ => None,
        };
        let all = seconds.zip(number.parse::<u32>().ok()).and_then(|(unit, count)| count.checked_mul(unit));
        match all {
            None => self.error(format!("`{written}` is no span of time"), every.span, EVERY),
            Some(..LEAST) => self.error(format!("`{written}` is too often"), every.span, "use `10m` or more"),
            _ => {}
        }
        all
    }

    fn folder_of_node(&mut self, word: &str, span: Span, nodes: &[Node]) -> Option<Place> {
        let Some((name, folder)) = word.split_once(':').filter(|(_, folder)| folder.starts_with('/')) else {
            self.error(format!("`{word}` is no place for backups"), span, PLACES);
            return None;
        };
        let known = nodes.iter().find(|node| node.name.as_str() == name);
        let Some(node) = known else {
            // With nodes that could not be read it may be one of them.
            if !self.nodes_broken {
                let names: Vec<&str> = nodes.iter().map(|node| node.name.as_str()).collect();
                self.error(format!("there is no node `{name}`"), span, format!("the nodes are {}", names.join(", ")));
            }
            return None;
        };
        let folder = self.backup_folder(folder, span)?;
        let planes = nodes.iter().filter(|node| node.role == Role::ControlPlane).count();
        if node.role == Role::ControlPlane && planes == 1 {
            self.found.push(
                Problem::warning(format!("a backup on {name} is lost with the state that it is of"), span)
                    .next("name another place as well"),
            );
        }
        Some(Place::Node { node: node.name.clone(), folder })
    }

    /// Folders stand in configurations of sshd and in sftp's commands.
    fn backup_folder(&mut self, folder: &str, span: Span) -> Option<String> {
        let folder = folder.trim_end_matches('/');
        if !is_folder(folder) || folder.contains("//") {
            let help = "write an absolute path of letters, digits, `.`, `_` and `-`, below the root";
            self.error(format!("`{folder}` is no folder for backups"), span, help);
            return None;
        }
        Some(folder.to_owned())
    }

    fn backup_place(&mut self, server: BackupServer, span: Span, nodes: &[Node]) -> Option<Place> {
        let BackupServer { url, host_key, key, endpoint, region, credentials } = server;
        let of_ssh = [("host_key", &host_key), ("key", &key)];
        let of_s3 = [("endpoint", &endpoint), ("region", &region), ("credentials", &credentials)];
        let (of, strange) = match url.split_once("://") {
            Some(("ssh", _)) => ("an SSH server", of_s3.to_vec()),
            Some(("s3", _)) => ("S3", of_ssh.to_vec()),
            _ => ("a folder of a node", [&of_ssh[..], &of_s3].concat()),
        };
        for (what, found) in strange {
            if let Some(found) = found {
                self.error(format!("`{what}` says nothing about {of}"), found.span, format!("remove `{what}`"));
            }
        }
        match url.split_once("://") {
            Some(("ssh", rest)) => self.ssh_server(rest, span, host_key, key),
            Some(("s3", bucket)) => self.bucket(bucket, span, endpoint, region, credentials),
            Some(_) => {
                self.error(format!("`{url}` is no place for backups"), span, PLACES);
                None
            }
            None => self.folder_of_node(&url, span, nodes),
        }
    }

    fn ssh_server(
        &mut self,
        address: &str,
        span: Span,
        host_key: Option<Spanned<String>>,
        key: Option<Spanned<String>>,
    ) -> Option<Place> {
        let (to, folder) = address.split_at(address.find('/').unwrap_or(address.len()));
        let plain = |b: u8| is_user_byte(b) || b == b':';
        let fits = |text: &str| !text.is_empty() && !text.starts_with('-') && text.bytes().all(plain);
        let jump = Jump::split(to).filter(|jump| fits(&jump.host) && jump.user.as_deref().is_none_or(fits));
        let Some(Jump { user, host, port }) = jump else {
            self.error(format!("`ssh://{address}` is no place for backups"), span, PLACES);
            return None;
        };
        let folder = self.backup_folder(folder, span)?;
        let Some(host_key) = host_key else {
            let help = format!(
                "add `host_key:` with what `ssh-keyscan -t ed25519 {host}` prints behind the name, and compare it"
            );
            self.error(format!("nothing says by which key {host} is known"), span, help);
            return None;
        };
        let mut words = host_key.value.split_whitespace();
        let base64 = |text: &&str| {
            text.starts_with("AAAA") && text.chars().all(|c| c.is_ascii_alphanumeric() || "+/=".contains(c))
        };
        let kind = |text: &&str| text.chars().all(|c| c.is_ascii_alphanumeric() || "-@.".contains(c));
        let (Some(kind), Some(encoded)) = (words.next().filter(kind), words.next().filter(base64)) else {
            self.error("this is no public key", host_key.span, "write its type and its base64: `ssh-ed25519 AAAA…`");
            return None;
        };
        let user = user.unwrap_or_else(|| "root".to_owned());
        let host_key = format!("{kind} {encoded}");
        Some(Place::Ssh { user, host, port: port.unwrap_or(22), folder, host_key, key: key.map(|key| key.value) })
    }

    fn bucket(
        &mut self,
        bucket: &str,
        span: Span,
        endpoint: Option<Spanned<String>>,
        region: Option<Spanned<String>>,
        credentials: Option<Spanned<String>>,
    ) -> Option<Place> {
        let bucket = bucket.trim_end_matches('/');
        let plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
        if bucket.is_empty() || bucket.starts_with('/') || !bucket.chars().all(plain) {
            self.error(format!("`s3://{bucket}` names no bucket"), span, "write `s3://bucket/folder`");
            return None;
        }
        if let Some(endpoint) = endpoint.as_ref().filter(|endpoint| !is_http(&endpoint.value)) {
            let what = format!("`{}` is no address of a service", endpoint.value);
            self.error(what, endpoint.span, "write `https://host:port`");
        }
        let Some(credentials) = credentials else {
            let help = "add `credentials: FILE`, a file in the form of ~/.aws/credentials; the control planes get it";
            self.error("nothing says with which key S3 is opened", span, help);
            return None;
        };
        Some(Place::S3 {
            bucket: bucket.to_owned(),
            endpoint: endpoint.map(|endpoint| endpoint.value.trim_end_matches('/').to_owned()),
            region: region.map_or_else(|| "us-east-1".to_owned(), |region| region.value),
            credentials: credentials.value,
        })
    }
}
