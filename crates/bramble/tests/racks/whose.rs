//! Whose cluster it is, on a real cluster with real sshd: what a person may have done to the cluster file or the folder, and
//! what must not follow from it; and two people at the same boards.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use crate::common::{Rack, assert_code, program, read, text, wait_for, without};

/// A user who is not root, as every Debian has one.
const NOBODY: u32 = 65534;

/// A folder of its own with the rack's cluster file, its key and its host keys.
fn folder(rack: &Rack, name: &str, user: u32) -> PathBuf {
    let dir = rack.dir.path().join(name);
    fs::create_dir_all(dir.join(".bramble")).unwrap();
    fs::set_permissions(rack.dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(dir.join(".bramble"), fs::Permissions::from_mode(0o700)).unwrap();
    let file = read(&rack.file());
    let key = rack.state().join("racks").join(&rack.name).join("id_ed25519").display().to_string();
    assert!(file.contains(&key), "{file}");
    fs::copy(&key, dir.join("key")).unwrap();
    fs::copy(rack.dir.path().join(".bramble/known_hosts"), dir.join(".bramble/known_hosts")).unwrap();
    fs::write(dir.join("bramble.yaml"), file.replace(&key, "key")).unwrap();
    let paths = ["", ".bramble", ".bramble/known_hosts", "key", "bramble.yaml"].map(|name| dir.join(name));
    for path in paths {
        chown(path, Some(user), Some(user)).unwrap();
    }
    dir
}

fn command(dir: &Path, user: u32, args: &[&str]) -> Command {
    let mut command = Command::new("setpriv");
    let user = user.to_string();
    command.args(["--reuid", &user, "--regid", &user, "--clear-groups", "--"]).arg(program("bramble"));
    command.arg("-f").arg(dir.join("bramble.yaml")).args(args).stdin(Stdio::null());
    command.env_remove("SSH_AUTH_SOCK").env("NO_COLOR", "1").env("HOME", dir).env("XDG_CACHE_HOME", dir.join("cache"));
    command
}

fn refused(output: &Output, why: &str) {
    assert_code(output, 1);
    assert!(text(output).contains(why), "{}", text(output));
}

#[test]
#[ignore = "needs root: `make test`"]
fn what_a_file_or_a_folder_of_another_cluster_says_destroys_nothing() {
    let rack = Rack::up(
        "t-whose",
        &["--passwordless-sudo", "--control-planes", "1", "--workers", "2", "--subnet", "10.78.24.0/24"],
    );
    rack.go_up();
    let [one, two, three] = [1, 2, 3].map(|n| rack.node(n));
    let uid = rack.uid(1, "namespace kube-system");
    assert!(!uid.is_empty());
    let file = read(&rack.file());
    let unharmed = |what: &str| {
        assert_eq!(rack.uid(1, "namespace kube-system"), uid, "{what}");
        let ready = rack.kubectl(1, "get nodes --no-headers");
        assert_eq!(ready.matches(" Ready ").count(), 3, "{what}: {ready}");
    };

    // Roles swapped.
    let swap = |line: &str| match line {
        line if line.contains(&format!("name: {one},")) => line.replace("role: control-plane", "role: worker"),
        line if line.contains(&format!("name: {two},")) => line.replace("role: worker", "role: control-plane"),
        line => line.to_owned(),
    };
    fs::write(rack.file(), file.lines().map(|line| swap(line) + "\n").collect::<String>()).unwrap();
    for args in [&["up"][..], &["up", "--yes"], &["up", "--yes=t-whose"], &["plan"]] {
        refused(&rack.run(args), "it is a control-plane of the cluster, and the cluster file says worker");
    }
    unharmed("roles swapped");

    // A node renamed at the same address.
    fs::write(rack.file(), file.replace(&format!("name: {three},"), "name: other,")).unwrap();
    refused(
        &rack.run(&["up", "--yes"]),
        &format!("it is the member {three} of the cluster: a member cannot be renamed"),
    );
    unharmed("renamed");
    fs::write(rack.file(), &file).unwrap();

    // A file of another name, in another folder, that lists these nodes or some of them.
    let school = folder(&rack, "school", 0);
    let other = without(&file, &three).replace("cluster: t-whose", "cluster: school");
    fs::write(school.join("bramble.yaml"), &other).unwrap();
    for args in [&["plan"][..], &["up", "--yes"], &["down", "--yes"], &["down", "--yes=school", "--adopt"]] {
        refused(&command(&school, 0, args).output().unwrap(), "it belongs to the cluster t-whose (id ");
    }
    unharmed("a file of another name");

    // The same file in a folder that does not know the cluster.
    let again = folder(&rack, "again", 0);
    for args in [&["plan"][..], &["up", "--yes"], &["down", "--yes"]] {
        refused(&command(&again, 0, args).output().unwrap(), "or pass --adopt");
    }
    assert_code(&command(&again, 0, &["up", "--adopt"]).output().unwrap(), 0);
    assert_code(&command(&again, 0, &["plan"]).output().unwrap(), 0);
    unharmed("the same file in another folder");

    // A node that went out of the file, and then `down`: it is named, and it goes, too.
    fs::write(rack.file(), without(&file, &three)).unwrap();
    let asked = rack.run(&["down"]);
    refused(&asked, "pass --yes=t-whose to confirm");
    assert!(text(&asked).contains(&format!("from {one}, {two}, {three}")), "{}", text(&asked));
    unharmed("down without an answer");

    // The control plane is away; then the file does not list it any more.
    fs::write(rack.file(), &file).unwrap();
    assert_code(&rack.lab(&["cut", &format!("t-whose/{one}")]), 0);
    refused(&rack.run(&["up", "--yes"]), "not every node can be reached");
    let headless = without(&file, &one).replacen("role: worker", "role: control-plane", 1);
    fs::write(rack.file(), headless).unwrap();
    refused(&rack.run(&["up", "--yes"]), "is made anew on t-whose-2: its control plane is gone");
    fs::write(rack.file(), &file).unwrap();
    assert_code(&rack.lab(&["start", &format!("t-whose/{one}")]), 0);
    wait_for("the API", || rack.uid(1, "namespace kube-system") == uid);
    rack.assert_well();

    // Nobody is there, and nothing is said to be gone.
    for n in 1..=3 {
        assert_code(&rack.lab(&["cut", &format!("t-whose/{}", rack.node(n))]), 0);
    }
    refused(&rack.run(&["down", "--yes", "--partial"]), "no node can be reached");
    for n in 1..=3 {
        assert_code(&rack.lab(&["start", &format!("t-whose/{}", rack.node(n))]), 0);
    }
    wait_for("the API", || rack.uid(1, "namespace kube-system") == uid);
    fs::write(rack.file(), without(&file, &three)).unwrap();
    assert_code(&rack.run(&["down", "--yes"]), 0);
    assert_eq!(rack.shell(&three, "ls -d /var/lib/bramble /etc/kubernetes 2>/dev/null"), "");
}

/// Random enough for distances; repeatable.
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *state >> 33
}

mod lives {
    use super::*;

    #[test]
    #[ignore = "needs root, and minutes: `make test-lives`"]
    fn two_people_at_the_same_boards_make_one_cluster_and_reset_none() {
        let starts: u64 = std::env::var("BRAMBLE_STARTS").map_or(2, |text| text.parse().unwrap());
        let mut random: u64 = std::env::var("BRAMBLE_SEED").map_or(1, |text| text.parse().unwrap());
        let rack = Rack::up(
            "t-people",
            &["--passwordless-sudo", "--control-planes", "1", "--workers", "1", "--subnet", "10.78.25.0/24"],
        );
        for start in 0..starts {
            let people = [folder(&rack, &format!("root-{start}"), 0), folder(&rack, &format!("user-{start}"), NOBODY)];
            let distance = Duration::from_millis(next(&mut random) % 45_000);
            let mut first =
                command(&people[0], 0, &["up", "--yes"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
            std::thread::sleep(distance.min(Duration::from_secs(if start % 2 == 0 { 3 } else { 45 })));
            let second = command(&people[1], NOBODY, &["up", "--yes"]).output().unwrap();
            let first = {
                first.wait().unwrap();
                first.wait_with_output().unwrap()
            };
            let ups = [&first, &second].iter().filter(|output| output.status.success()).count();
            let said = format!("start {start}, {distance:?}:\n{}\n--\n{}", text(&first), text(&second));
            println!("{said}");
            assert_eq!(ups, 1, "{said}");
            let (winner, user) = if first.status.success() { (&people[0], 0) } else { (&people[1], NOBODY) };
            let births = said.matches("make the cluster t-people (kubeadm init)").count();
            assert_eq!(births, 1, "{said}");
            assert_code(&command(winner, user, &["plan"]).output().unwrap(), 0);
            let nodes = rack.kubectl(1, "get nodes --no-headers");
            assert_eq!(nodes.matches(" Ready ").count(), 2, "{nodes}");
            assert_code(&command(winner, user, &["down", "--yes"]).output().unwrap(), 0);
        }
    }
}
