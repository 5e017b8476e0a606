//! The scripts of a plan against a real second user and real mounts, as root: in a scratch folder, and in a mount namespace
//! that ends with the script.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use tempfile::TempDir;

const LIBRARY: &str = concat!(
    include_str!("../../bramble-shell/src/strict.sh"),
    include_str!("../src/steps.sh"),
    include_str!("../src/places.sh"),
    include_str!("../src/lock.sh"),
    include_str!("../src/ledger.sh")
);
/// The user `nobody`, whom every Debian has.
const OTHER: u32 = 65534;

/// A node in a folder, in which `home` is the other user's and `roots` is root's.
struct Node(TempDir);

impl Node {
    fn new() -> Node {
        let root = TempDir::new().unwrap();
        fs::set_permissions(root.path(), fs::Permissions::from_mode(0o755)).unwrap();
        for name in ["home", "home/app", "roots", "run", "books"] {
            fs::create_dir(root.path().join(name)).unwrap();
        }
        for name in ["home", "home/app"] {
            chown(root.path().join(name), Some(OTHER), Some(OTHER)).unwrap();
        }
        fs::write(root.path().join("roots/secret"), "root's").unwrap();
        Node(root)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// Runs commands with the functions of a plan, as a node does; `here` in them is its folder.
    fn run(&self, namespace: bool, body: &str) -> Output {
        let here = self.path().to_str().unwrap();
        let library = LIBRARY.replace("/var/lib/bramble", "here/books").replace("/run/bramble", "here/run");
        let text = format!("{library}\n{body}\n").replace("here/", &format!("{here}/"));
        let mut shell = if namespace {
            let mut shell = Command::new("unshare");
            shell.args(["--mount", "--propagation", "private", "--", "dash", "-s"]);
            shell
        } else {
            let mut shell = Command::new("dash");
            shell.arg("-s");
            shell
        };
        let pipes = shell.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = pipes.spawn().unwrap();
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    }

    /// Runs commands as the other user.
    fn other(&self, body: &str) -> Child {
        let mut shell = Command::new("setpriv");
        shell.args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "dash", "-c", body]);
        shell.current_dir(self.path()).spawn().unwrap()
    }
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// He makes a link of his folder, and a folder of the link, as fast as he can. Root's folder must never get a file: it is
/// either written into his own folder, wherever that is by then, or refused.
#[test]
fn no_file_lands_where_another_user_points_a_link_while_it_is_written() {
    let node = Node::new();
    let mut swaps = node.other("n=0; while n=$((n + 1)); do mv -T home/app home/$n; ln -s ../roots home/app; rm home/app; mv -T home/$n home/app; done 2>/dev/null");
    let put = "n=0\nwhile [ \"$n\" -lt 100 ]; do\n\
               attempt put_file \"h$n\" here/home/app/secret 666 none YWZ0ZXI= >/dev/null 2>&1\n\
               [ \"$rc\" != 0 ] || echo written\nattempt give_back \"h$n\" >/dev/null 2>&1\n\
               rm -rf here/books/ledger/*\nn=$((n + 1))\ndone";
    let output = node.run(false, put);
    swaps.kill().unwrap();
    swaps.wait().unwrap();
    assert!(said(&output).lines().any(|line| line == "written"), "{}", said(&output));
    let names: Vec<_> =
        fs::read_dir(node.path().join("roots")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    let secret = node.path().join("roots/secret");
    let there = (fs::read_to_string(&secret).unwrap(), fs::metadata(&secret).unwrap().mode() & 0o777, names.len());
    assert_eq!(there, ("root's".to_owned(), 0o644, 1), "{names:?}");
}

/// He replaces what lies beside the file, at each moment.
#[test]
fn roots_file_stays_roots_while_another_user_makes_links_beside_a_file() {
    let node = Node::new();
    fs::write(node.path().join("home/file"), "his").unwrap();
    chown(node.path().join("home/file"), Some(OTHER), Some(OTHER)).unwrap();
    let links = "cd home; while :; do for l in file.bramble-new .file.bramble-new; do ln -sfn ../roots/secret $l; mv -T $l x 2>/dev/null; done; done 2>/dev/null";
    let mut links = node.other(links);
    let put = "n=0\nwhile [ \"$n\" -lt 80 ]; do\n\
               attempt put_file \"h$n\" here/home/file 666 none YWZ0ZXI= >/dev/null 2>&1\n\
               attempt give_back \"h$n\" >/dev/null 2>&1\nrm -rf here/books/ledger/*\nn=$((n + 1))\ndone";
    let output = node.run(false, put);
    links.kill().unwrap();
    links.wait().unwrap();
    let secret = node.path().join("roots/secret");
    let now = fs::metadata(&secret).unwrap();
    let there = (fs::read_to_string(&secret).unwrap(), now.uid(), now.mode() & 0o777);
    assert_eq!(there, ("root's".to_owned(), 0, 0o644), "{}", said(&output));
}

/// What is mounted in a folder that goes: a disk, the same file system once more, and names that the kernel escapes.
#[test]
fn nothing_that_is_mounted_below_a_folder_goes_with_it() {
    let node = Node::new();
    let body = "own_folder h here/ours\n\
                t=$(printf 'x\\ty\\\\z')\n\
                mkdir -p 'here/ours/a b/c' \"here/ours/$t\" here/ours/same here/kept here/disk\n\
                mount -t tmpfs '' here/disk\n: >here/disk/file\n: >here/kept/file\n\
                mount --bind here/kept 'here/ours/a b/c'\nmount --bind here/kept here/ours/same\nmount --bind here/disk \"here/ours/$t\"\n\
                give_back h\n\
                ls here/disk here/kept\n[ ! -e here/ours ]";
    let output = node.run(true, body);
    let expected = format!("{0}/disk:\nfile\n\n{0}/kept:\nfile\n", node.path().display());
    assert_eq!((output.status.code(), said(&output)), (Some(0), expected));
}

#[test]
fn a_folder_with_a_mount_that_does_not_go_away_is_left_alone() {
    let node = Node::new();
    let body = "own_folder h here/ours\nmkdir -p 'here/ours/a b' here/kept\n: >here/kept/file\n\
                mount --bind here/kept 'here/ours/a b'\numount() { return 1; }\ngive_back h";
    let output = node.run(true, body);
    assert!(!output.status.success() && node.path().join("kept/file").exists(), "{}", said(&output));
}

/// `sync` opens what a link points to, which from the ledger is not there.
#[test]
fn a_relative_link_is_remembered_and_comes_back() {
    let node = Node::new();
    let body = "ln -s ../roots/secret here/run/link\nput_file h here/run/link 644 none YWZ0ZXI=\ngive_back h\nreadlink here/run/link\ncat here/roots/secret";
    assert_eq!(said(&node.run(false, body)), "../roots/secret\nroot's");
}
