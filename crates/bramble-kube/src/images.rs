//! Container images in containerd's `k8s.io` namespace, out of archives.

use std::path::PathBuf;

use bramble_shell::Commands;
use bramble_spec::Sha256Digest;
use bramble_state::{Answer, BLOBS, Change, Kind, Names, Observation, Planner, Probe, Question, Upload, entry_hash};

const IMAGE: &str = "image";

/// Asks for the names of all images in that namespace.
static NAMES: Question = Question { name: IMAGE, write, records: &[(IMAGE, read)] };

fn write(_: &Names, script: &mut Commands) {
    script.fixed(include_str!("images.sh"));
}

fn read(name: &str, _: &mut Answer<'_>, seen: &mut Observation) -> Option<()> {
    seen.note(IMAGE, name, "");
    Some(())
}

/// Images that containerd has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Images(pub Vec<Image>);

/// Images out of one archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Their whole names: at least one.
    pub names: Vec<String>,
    /// The digest of the archive.
    pub sha256: Sha256Digest,
    /// The archive, here.
    pub archive: PathBuf,
}

impl Image {
    fn name(&self) -> &str {
        self.names.first().map_or("", String::as_str)
    }

    /// Names the mark that says which archive was imported last.
    fn mark(&self) -> String {
        format!("image.{}", entry_hash("image", self.name()))
    }

    fn is_there(&self, seen: &Observation) -> bool {
        // Another archive may have other bytes under the same name.
        let same = seen.done(&self.mark()).is_none_or(|digest| digest == self.sha256.as_str());
        same && self.names.iter().all(|name| seen.noted(IMAGE, name).is_some())
    }

    fn import(&self) -> Change {
        let staged = format!("{BLOBS}/{}", self.sha256);
        let mut script = Commands::new();
        script.call("ctr -n k8s.io images import", [&staged]).call("rm -f --", [&staged]);
        for name in &self.names {
            // Else the kubelet deletes what nothing uses just now from a disk that is 85 % full.
            script.call("ctr -n k8s.io images label", [name.as_str(), "io.cri-containerd.pinned=pinned"]);
        }
        script.call("step_ends", [self.mark().as_str(), self.sha256.as_str()]);
        let upload = Upload {
            name: self.name().to_owned(),
            from: self.archive.clone(),
            sha256: self.sha256.clone(),
            secret: false,
        };
        let title = format!("import the image {}", self.names.join(", "));
        Change { uploads: vec![upload], ..Change::new(title, Vec::new(), script) }
    }
}

impl Kind for Images {
    fn ask(&self, probe: &mut Probe) {
        probe.ask(&NAMES);
    }

    fn plan(&self, planner: &mut Planner<'_>) {
        let seen = planner.seen();
        for image in self.0.iter().filter(|image| !image.is_there(seen)) {
            planner.push(image.import());
        }
    }

    #[cfg(any(test, feature = "testing"))]
    fn satisfied(&self, node: &mut bramble_state::SatisfiedNode) {
        for image in &self.0 {
            node.record(format!("done {} {}", image.mark(), image.sha256));
            for name in &image.names {
                node.record(format!("{IMAGE} {name}"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use bramble_state::{Plan, Resource, observe_script, plan, satisfied};

    use super::*;

    fn images(digit: &str) -> [Resource; 1] {
        let names = ["docker.io/acme/web:1", "docker.io/acme/web:latest"].map(str::to_owned).to_vec();
        [Resource::other(Images(vec![Image {
            names,
            sha256: digit.repeat(64).parse().unwrap(),
            archive: "web.tar".into(),
        }]))]
    }

    fn planned(resources: &[Resource], answer: &str) -> Plan {
        plan(resources, &Observation::parse(answer, resources).unwrap())
    }

    #[test]
    fn an_image_is_imported_and_pinned() {
        let plan = planned(&images("a"), "image docker.io/acme/web:1\nend\n");
        let [change] = plan.changes.as_slice() else { panic!("{plan:?}") };
        assert_eq!(change.title, "import the image docker.io/acme/web:1, docker.io/acme/web:latest");
        assert_eq!(change.uploads[0].from, PathBuf::from("web.tar"));
        let digest = "a".repeat(64);
        assert_eq!(
            change.script.as_str(),
            format!(
                "ctr -n k8s.io images import /var/lib/bramble/blobs/{digest}\nrm -f -- /var/lib/bramble/blobs/{digest}\n\
                 ctr -n k8s.io images label docker.io/acme/web:1 'io.cri-containerd.pinned=pinned'\n\
                 ctr -n k8s.io images label docker.io/acme/web:latest 'io.cri-containerd.pinned=pinned'\n\
                 step_ends image.4bb87f5f12b4d2bd {digest}\n"
            )
        );
    }

    #[test]
    fn images_that_are_there_are_left_alone_unless_the_archive_is_another() {
        let answer = satisfied(&images("a"), "");
        assert!(planned(&images("a"), &answer).is_empty());
        assert_eq!(planned(&images("b"), &answer).changes.len(), 1);
    }

    #[test]
    fn a_node_is_asked_for_images_only_where_some_are_wanted() {
        assert!(observe_script(&images("a")).text().contains("images ls -q"));
        assert!(!observe_script(&[]).text().contains("ctr"));
    }
}
