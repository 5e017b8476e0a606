use std::borrow::Cow;
use std::path::Path;

use super::*;
use crate::digest::text_digest;
use crate::signatures::PinnedKey;
use crate::signatures::samples::{IMAGE, key};
use crate::test_server::TestServer;
use crate::watcher::Silent;

const SUMS: &str = include_str!("../signatures/samples/SHA256SUMS");
const SUMS_SIGNATURE: &[u8] = include_bytes!("../signatures/samples/SHA256SUMS.gpg");
const SIGNATURE: &[u8] = include_bytes!("../signatures/samples/image.sig");
const OTHER_SIGNATURE: &[u8] = include_bytes!("../signatures/samples/image.other.sig");

/// A project whose image is at a server, which signs in this way with this key.
struct Project {
    server: TestServer,
    dir: tempfile::TempDir,
    signers: Vec<Signer>,
}

impl Project {
    /// As `raspberrypi.com` has it: a digest and a signature beside each image.
    fn beside(key: PinnedKey) -> Project {
        let project = Project::new(Way::File, key);
        project.server.serve("/os/board.img.xz", IMAGE);
        let digest = text_digest(std::str::from_utf8(IMAGE).unwrap()).unwrap();
        project.server.serve("/os/board.img.xz.sha256", format!("{digest}  board.img.xz\n"));
        project
    }

    /// As `ubuntu.com` has it: a list of digests for a folder, and its signature.
    fn listed(key: PinnedKey) -> Project {
        let project = Project::new(Way::Digests, key);
        project.server.serve("/os/board.img.xz", IMAGE);
        project.server.serve("/os/SHA256SUMS", SUMS);
        project.server.serve("/os/SHA256SUMS.gpg", SUMS_SIGNATURE);
        project
    }

    fn new(way: Way, key: PinnedKey) -> Project {
        let server = TestServer::start();
        let place = Cow::Owned(format!("{}/os/", server.address.trim_start_matches("http://")));
        Project { server, dir: tempfile::tempdir().unwrap(), signers: vec![Signer { places: vec![place], way, key }] }
    }

    fn fetch(&self) -> Result<PathBuf> {
        self.fetch_as(&format!("{{ url: \"{}\" }}", self.server.url("/os/board.img.xz")))
    }

    fn fetch_as(&self, image: &str) -> Result<PathBuf> {
        let text = format!(
            "cluster: shelf\naccess: {{ user: pi }}\ndistribution: {{ k3s: {{ version: stable }} }}\nnetwork: {{ subnet: 10.0.0.0/24 }}\nimage: {image}\n\
             nodes:\n  - {{ name: a, role: control-plane, board: rpi-cm4-4gb, address: 10.0.0.11 }}\n"
        );
        let loaded = bramble_spec::load(Path::new("bramble.yaml"), &text);
        let dir = self.dir.path();
        let sources = Sources {
            cluster: loaded.clusters.first().unwrap_or_else(|| panic!("{}", loaded.report.render(false))),
            dir,
            home: None,
            cache: dir.join("cache"),
            releases: dir.join("releases"),
            bundle: None,
        };
        fetch_signed(&sources, &mut sources.lock_file()?, &self.signers, &Silent)
    }

    fn refused(&self) -> String {
        let error = self.fetch().unwrap_err().chain();
        assert!(!self.dir.path().join("bramble.lock").exists(), "nothing is pinned");
        error
    }

    fn images(&self) -> usize {
        fs::read_dir(self.dir.path().join("images")).map_or(0, Iterator::count)
    }
}

#[test]
fn an_image_whose_signature_is_good_is_pinned_with_the_key() {
    let project = Project::beside(key("own"));
    project.server.serve("/os/board.img.xz.sig", SIGNATURE);
    assert_eq!(fs::read(project.fetch().unwrap()).unwrap(), IMAGE);
    let lock = fs::read_to_string(project.dir.path().join("bramble.lock")).unwrap();
    assert!(lock.contains("\"signed_with\": \"F27958CEFD76DC473D71BCACFBAE44CB287EFAD9\""), "{lock}");
}

#[test]
fn an_image_that_another_key_has_signed_is_refused_and_gone() {
    let project = Project::beside(key("own"));
    project.server.serve("/os/board.img.xz.sig", OTHER_SIGNATURE);
    let error = project.refused();
    assert!(error.contains("is not signed with the key of its publisher") && project.images() == 0, "{error}");
}

#[test]
fn an_image_that_was_altered_with_its_digest_is_refused() {
    let project = Project::beside(key("own"));
    project.server.serve("/os/board.img.xz", "altered");
    project.server.serve("/os/board.img.xz.sha256", text_digest("altered").unwrap().to_string());
    project.server.serve("/os/board.img.xz.sig", SIGNATURE);
    let error = project.refused();
    assert!(error.contains("it was altered"), "{error}");
}

#[test]
fn an_image_without_the_signature_that_its_publisher_makes_is_refused() {
    let error = Project::beside(key("own")).refused();
    assert!(error.contains("has no signature of its publisher") && error.contains("give its `sha256`"), "{error}");
}

#[test]
fn who_gives_the_digest_vouches_for_an_image_without_a_signature() {
    let project = Project::beside(key("own"));
    let digest = text_digest(std::str::from_utf8(IMAGE).unwrap()).unwrap();
    let image = format!("{{ url: \"{}\", sha256: {digest} }}", project.server.url("/os/board.img.xz"));
    project.fetch_as(&image).unwrap();
}

#[test]
fn a_list_of_digests_whose_signature_is_good_is_enough() {
    let project = Project::listed(key("own"));
    assert_eq!(fs::read(project.fetch().unwrap()).unwrap(), IMAGE);
}

#[test]
fn a_list_of_digests_that_was_altered_is_refused() {
    let project = Project::listed(key("own"));
    project.server.serve("/os/board.img.xz", "altered");
    project.server.serve("/os/SHA256SUMS", format!("{} *board.img.xz\n", text_digest("altered").unwrap()));
    let error = project.refused();
    assert!(error.contains("SHA256SUMS is not what"), "{error}");
}

#[test]
fn a_list_of_digests_without_a_signature_is_refused() {
    let project = Project::new(Way::Digests, key("own"));
    project.server.serve("/os/SHA256SUMS", SUMS);
    let error = project.refused();
    assert!(error.contains("has no signature of its publisher"), "{error}");
}

#[test]
fn a_catalogue_that_gives_another_digest_than_the_signed_one_is_refused() {
    let project = Project::listed(key("own"));
    let url = project.server.url("/os/board.img.xz");
    let digest = text_digest("altered").unwrap();
    let catalogue = format!(
        "{{\"os_list\": [{{\"name\": \"Board OS\", \"url\": \"{url}\", \"extract_size\": 17, \"extract_sha256\": \"{digest}\", \
         \"image_download_size\": 17, \"image_download_sha256\": \"{digest}\", \"release_date\": \"2026-01-01\", \
         \"devices\": [\"pi4-64bit\"]}}]}}"
    );
    project.server.serve("/list.json", catalogue);
    let image = format!("{{ name: Board OS, catalogue: \"{}\" }}", project.server.url("/list.json"));
    let error = project.fetch_as(&image).unwrap_err().chain();
    assert!(error.contains("its publisher has signed"), "{error}");
}

#[test]
fn a_pinned_image_whose_bytes_changed_here_is_fetched_again() {
    let project = Project::listed(key("own"));
    let path = project.fetch().unwrap();
    fs::write(&path, "an image, pocked\n").unwrap();
    assert_eq!(fs::read(project.fetch().unwrap()).unwrap(), IMAGE);
}

#[test]
fn a_pinned_image_is_not_looked_up_again() {
    let project = Project::listed(key("own"));
    project.fetch().unwrap();
    project.fetch().unwrap();
    assert_eq!(project.server.asked("/os/SHA256SUMS"), 1);
}

#[test]
fn a_lock_file_cannot_name_a_file_elsewhere() {
    let project = Project::listed(key("own"));
    let url = project.server.url("/os/board.img.xz");
    let precious = project.dir.path().join("precious");
    fs::write(&precious, "precious").unwrap();
    let lock =
        format!("{{\"files\": {{}}, \"images\": {{\"{url}\": {{\"url\": \"{url}\", \"sha512\": \"../precious\"}}}}}}");
    fs::write(project.dir.path().join("bramble.lock"), lock).unwrap();
    let error = project.fetch().unwrap_err().chain();
    assert!(error.contains("is no digest of 64 bytes") && precious.exists(), "{error}");
}
