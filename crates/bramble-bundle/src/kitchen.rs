//! Where what is made of Go modules is made: in a Debian container that brings its own Go.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use bramble_lab::{Builder, Event, Events, Lab, PathContext, write};
use bramble_spec::{Arch, hex};
use sha2::{Digest, Sha256};

use crate::error::Error;

/// A file for the builder: its path below /build, and its text.
pub(crate) type Ingredient = (String, &'static str);

/// The files of a Go module that pin all that it is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Module {
    pub(crate) requirements: &'static str,
    pub(crate) digests: &'static str,
}

impl Module {
    /// Lists its files, for the builder to find under this name.
    pub(crate) fn ingredients(self, name: &str) -> [Ingredient; 2] {
        [(format!("modules/{name}/go.mod"), self.requirements), (format!("modules/{name}/go.sum"), self.digests)]
    }
}

macro_rules! module {
    ($name:literal) => {
        $crate::kitchen::Module {
            requirements: include_str!(concat!("../modules/", $name, "/go.mod")),
            digests: include_str!(concat!("../modules/", $name, "/go.sum")),
        }
    };
}
pub(crate) use module;

const LIBRARY: &str = include_str!("library.sh");
/// What is taken out of Debian's packages for systems of another architecture.
const FOREIGN_PACKAGES: &[&str] = &["busybox-static", "conntrack", "iptables"];
const PACKAGES: &[&str] = &[
    "binutils",
    "busybox-static",
    "ca-certificates",
    "conntrack",
    "containerd",
    "containernetworking-plugins",
    "golang-1.26-go",
    "iptables",
    "runc",
    "zstd",
];

/// Where the module proxy is, and whatever else Go is told by its users of where modules come from.
const GO_SETTINGS: [&str; 6] = ["GOPROXY", "GONOPROXY", "GOPRIVATE", "GOSUMDB", "GONOSUMDB", "GOINSECURE"];

/// The folder of all bundles.
pub(crate) fn bundles(lab: &Lab) -> PathBuf {
    lab.cache.join("bundles")
}

/// What tells bundles apart that are made in another way, for their names: the architecture and a digest.
pub(crate) fn recipe(script: &'static str, ingredients: &[Ingredient]) -> String {
    let mut recipe = Sha256::new();
    for text in
        ingredients.iter().map(|(_, text)| text).chain([&LIBRARY, &script]).chain(PACKAGES).chain(FOREIGN_PACKAGES)
    {
        recipe.update(text);
    }
    format!("{}-{}", std::env::consts::ARCH, hex(&recipe.finalize()[..4]))
}

/// A builder with its script and what that is given. There is one build at a time.
pub(crate) struct Kitchen<'a> {
    lab: &'a Lab,
    script: &'static str,
    ingredients: Vec<Ingredient>,
    events: Events<'a>,
    _lock: fs::File,
}

impl<'a> Kitchen<'a> {
    pub(crate) fn open(
        lab: &'a Lab,
        script: &'static str,
        ingredients: Vec<Ingredient>,
        events: Events<'a>,
    ) -> Result<Self, Error> {
        let parent = bundles(lab);
        fs::create_dir_all(&parent).at("create", &parent)?;
        let path = parent.join("lock");
        let lock = fs::File::create(&path).at("create", &path)?;
        if lock.try_lock().is_err() {
            events(Event::Step("Waiting for another build of a bundle".into()));
            lock.lock().at("lock", &path)?;
        }
        Ok(Kitchen { lab, script, ingredients, events, _lock: lock })
    }

    /// Runs the builder, with what it takes for systems of these other architectures, and hands out the folder that it filled.
    pub(crate) fn build(
        &self,
        foreign: &[Arch],
        arguments: &[&str],
        step: &str,
        take: impl FnOnce(&Path) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mirror = self.lab.debian_mirror()?;
        let mut builder = Builder::create(self.lab, &mirror, PACKAGES, self.events)?;
        (self.events)(Event::Step(step.to_owned()));
        let build = builder.root().join("build");
        for arch in foreign {
            builder.unpack(&mirror, *arch, FOREIGN_PACKAGES, &build.join(format!("debian/{arch}")), self.events)?;
        }
        for (path, text) in &self.ingredients {
            write(&build.join(path), text, 0o644)?;
        }
        write(&build.join("go.env"), go_settings(), 0o600)?;
        write(&build.join("library.sh"), LIBRARY, 0o644)?;
        write(&build.join("builder.sh"), self.script, 0o755)?;
        let caches = self.lab.cache.join("go");
        fs::create_dir_all(&caches).at("create", &caches)?;
        builder.bind(&caches, "/build/go");
        builder.run("/build/builder.sh", arguments, self.events)?;
        take(&build.join("out"))?;
        Ok(builder.remove()?)
    }
}

/// What Go is told on this machine, by the environment or by its own file, of where modules come from: lines for `GOENV`.
fn go_settings() -> String {
    let own = Command::new("go").arg("env").args(GO_SETTINGS).output();
    let own = own.ok().filter(|output| output.status.success()).map(|output| output.stdout).unwrap_or_default();
    let own = String::from_utf8_lossy(&own).into_owned();
    let mut own = own.lines().map(str::to_owned);
    let mut settings = String::new();
    for name in GO_SETTINGS {
        let told = own.next().unwrap_or_default();
        let value = std::env::var(name).unwrap_or(told);
        if !value.is_empty() && !value.contains('\n') {
            settings.push_str(&format!("{name}={value}\n"));
        }
    }
    settings
}
