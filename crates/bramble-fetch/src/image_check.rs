//! Whether container images run on the boards of a cluster, before a pod dies of `exec format error`.

use std::collections::{BTreeMap, BTreeSet};

use bramble_kube::{Archive, Platform, Reference, Run, has_large_pages, needs_small_pages};
use bramble_spec::{Cluster, Node, NodeName, name_ranges};

use crate::error::{Result, failure};
use crate::registry::Registries;

/// Says whether an image runs on the nodes, and why not.
pub struct ImageVerdict {
    /// Its name, as it was written.
    pub image: String,
    /// The processors that it was made for; none if that could not be looked up.
    pub platforms: Vec<Platform>,
    /// True if the registry has no such image.
    pub absent: bool,
    /// The objects that run it.
    pub objects: Vec<String>,
    /// The reasons why it cannot run, each with the next step.
    pub bad: Vec<String>,
    /// Remarks that do not keep it from running.
    pub notes: Vec<String>,
}

impl ImageVerdict {
    /// Tells whether it is certain that it cannot run: there is none, or it was made for other processors.
    pub fn is_misfit(&self) -> bool {
        !self.bad.is_empty() && (!self.platforms.is_empty() || self.absent)
    }

    /// Says in a line why it cannot run, and what runs it.
    pub fn describe(&self) -> String {
        let by = match self.objects.is_empty() {
            true => String::new(),
            false => format!(" (run by {})", self.objects.join(", ")),
        };
        format!("{}{by}: {}", self.image, self.bad.join("; "))
    }
}

/// Holds what need not be looked up.
#[derive(Default)]
pub struct KnownImages<'a> {
    /// Archives whose images no registry is asked for.
    pub archives: &'a [Archive],
    /// The architectures of nodes' systems, by Debian's names, where they were seen.
    pub systems: BTreeMap<&'a NodeName, &'a str>,
}

impl KnownImages<'_> {
    fn system(&self, node: &Node) -> String {
        self.systems.get(&node.name).map_or_else(|| node.board.arch.to_string(), |arch| (*arch).to_owned())
    }

    /// Finds for which processors an image in an archive is.
    fn platforms(&self, name: &Reference) -> Option<Vec<Platform>> {
        let name = name.to_string();
        let images = self.archives.iter().flat_map(|archive| &archive.images);
        images.filter(|(known, _)| *known == name).map(|(_, platforms)| platforms.clone()).next_back()
    }
}

/// Looks up every image, each once, and compares it with the nodes on which it may come to run. What cannot be
/// looked up is said in its verdict.
pub fn check_images(
    cluster: &Cluster,
    runs: &[Run],
    known: &KnownImages<'_>,
    registries: &Registries,
) -> Vec<ImageVerdict> {
    let mut images: BTreeMap<&str, Vec<&Run>> = BTreeMap::new();
    for run in runs {
        images.entry(&run.image).or_default().push(run);
    }
    let looked_up: Vec<(&str, Result<Vec<Platform>>)> = std::thread::scope(|scope| {
        let mut tasks = Vec::new();
        // Registries count how often they are asked.
        for chunk in images.keys().collect::<Vec<_>>().chunks(images.len().div_ceil(8).max(1)) {
            let chunk: Vec<&str> = chunk.iter().map(|name| **name).collect();
            tasks.push(scope.spawn(move || {
                let look = |name: &str| match Reference::parse(name) {
                    Some(reference) => known.platforms(&reference).map_or_else(|| registries.platforms(&reference), Ok),
                    None => Err(failure!("`{name}` is no name of an image")),
                };
                chunk.into_iter().map(|name| (name, look(name))).collect::<Vec<_>>()
            }));
        }
        tasks.into_iter().flat_map(|task| task.join().unwrap_or_default()).collect()
    });
    let mut verdicts = Vec::new();
    for (name, platforms) in looked_up {
        let runs = images.remove(name).unwrap_or_default();
        let objects: BTreeSet<String> = runs.iter().map(|run| run.object.clone()).filter(|o| !o.is_empty()).collect();
        let mut verdict = ImageVerdict {
            image: name.to_owned(),
            platforms: Vec::new(),
            absent: false,
            objects: objects.into_iter().collect(),
            bad: Vec::new(),
            notes: Vec::new(),
        };
        match platforms {
            Ok(platforms) => verdict.platforms = platforms,
            Err(error) => {
                verdict.absent = error.is_no_image();
                verdict.bad.push(error.chain());
            }
        }
        judge(cluster, &runs, known, &mut verdict);
        verdicts.push(verdict);
    }
    verdicts.sort_by(|a, b| a.image.cmp(&b.image));
    verdicts
}

fn judge(cluster: &Cluster, runs: &[&Run], known: &KnownImages<'_>, verdict: &mut ImageVerdict) {
    let reference = Reference::parse(&verdict.image);
    if let Some(reference) = &reference
        && let Some(report) = needs_small_pages(reference)
    {
        let large = cluster.members().filter(|node| has_large_pages(cluster, node));
        let large: Vec<&str> = large.map(|node| node.name.as_str()).collect();
        if !large.is_empty() {
            verdict.bad.push(format!(
                "it dies on memory pages of 16 KiB ({report}), which the kernel of {} has: say `prepare: {{ boot: {{ config: \
                 {{ kernel: kernel8.img }} }} }}`",
                name_ranges(large)
            ));
        }
    }
    if verdict.platforms.is_empty() {
        return;
    }
    let mut lost: BTreeSet<&str> = BTreeSet::new();
    let mut arches = BTreeSet::new();
    let mut elsewhere = false;
    let mut narrow = false;
    for run in runs {
        let mut nowhere = true;
        for (node, arch) in cluster.members().map(|node| (node, known.system(node))) {
            if !run.place.allows(node, &arch) {
                continue;
            }
            nowhere = false;
            if verdict.platforms.iter().any(|platform| platform.runs_on(&arch)) {
                elsewhere = true;
                narrow |= !verdict.platforms.iter().any(|platform| platform.is_own(&arch));
            } else {
                lost.insert(node.name.as_str());
                arches.insert(arch);
            }
        }
        if nowhere {
            verdict.notes.push(format!("no node of the cluster file is what it wants ({})", run.place.words()));
        }
    }
    if narrow {
        verdict.notes.push("it runs as a 32-bit program".to_owned());
    }
    if lost.is_empty() {
        return;
    }
    let arches = arches.into_iter().collect::<Vec<_>>().join(" and ");
    let way = match elsewhere {
        true => {
            let has = verdict.platforms.iter().map(|p| p.architecture.clone()).collect::<BTreeSet<_>>();
            format!(
                "keep it off them (`nodeSelector: {{ kubernetes.io/arch: {} }}`), or take an image that has {arches}",
                has.into_iter().next().unwrap_or_default()
            )
        }
        false => format!(
            "take another image or tag that has {arches}, or build it for {arches} (`docker buildx build --platform`)"
        ),
    };
    verdict
        .bad
        .push(format!("it has nothing for {arches}, so {} would say \"exec format error\": {way}", name_ranges(lost)));
}
