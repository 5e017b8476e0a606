//! What the tests on a virtual rack share. They need root: a rack is made of namespaces, cgroups and mounts.

#![allow(dead_code, unreachable_pub, clippy::print_stderr, clippy::unwrap_used)]

pub mod bench;
pub mod disk;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;

/// How many racks may be up at once: these machines are small.
static PLACES: (Mutex<u8>, Condvar) = (Mutex::new(3), Condvar::new());

/// The places of a rack until it is dropped: one of a rack without Kubernetes, two of one with it.
struct Turn(u8);

impl Turn {
    fn take(places: u8) -> Turn {
        let (free, ended) = &PLACES;
        *ended.wait_while(free.lock().unwrap(), |free| *free < places).unwrap() -= places;
        Turn(places)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        *PLACES.0.lock().unwrap() += self.0;
        PLACES.1.notify_all();
    }
}

/// A rack of its own, gone when the test ends.
pub struct Rack {
    pub name: String,
    pub dir: tempfile::TempDir,
    /// The bundle that commands are told to use.
    pub bundle: Option<String>,
    state: PathBuf,
    _turn: Turn,
}

/// A program of this workspace: tests of other crates find it beside their own folder.
pub fn program(name: &str) -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    let path = tests.parent().and_then(Path::parent).unwrap().join(name);
    assert!(path.exists(), "{} is missing: build the whole workspace first", path.display());
    path
}

pub fn bramble() -> Command {
    let mut command = Command::new(program("bramble"));
    command.stdin(Stdio::null()).env_remove("SSH_AUTH_SOCK").env("NO_COLOR", "1");
    command
}

pub fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

pub fn assert_code(output: &Output, code: i32) {
    assert_eq!(output.status.code(), Some(code), "{}", text(output));
}

/// Serves the files that are made of its address, and remembers what it was asked for.
pub fn serve<B: Into<Vec<u8>>>(files: impl FnOnce(&str) -> BTreeMap<String, B>) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let files: BTreeMap<String, Vec<u8>> =
        files(&address).into_iter().map(|(path, body)| (path, body.into())).collect();
    let asked: Arc<Mutex<Vec<String>>> = Arc::default();
    let log = asked.clone();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            let path = lines.next().unwrap().unwrap().split(' ').nth(1).unwrap().to_owned();
            while lines.next().is_some_and(|line| !line.unwrap().is_empty()) {}
            let (status, body) = match files.get(&path) {
                Some(body) => ("200 OK", body.as_slice()),
                None => ("404 Not Found", [].as_slice()),
            };
            log.lock().unwrap().push(path);
            let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
            stream.write_all(&[head.as_bytes(), body].concat()).unwrap();
        }
    });
    (address, asked)
}

/// Waits, and tells how long it took.
pub fn wait_for(what: &str, mut done: impl FnMut() -> bool) -> Duration {
    let started = Instant::now();
    while !done() {
        assert!(started.elapsed() < Duration::from_secs(240), "{what} does not come");
        std::thread::sleep(Duration::from_millis(300));
    }
    started.elapsed()
}

/// A cluster file without the line that names this node.
pub fn without(file: &str, node: &str) -> String {
    file.lines().filter(|line| !line.contains(&format!("name: {node},"))).map(|line| format!("{line}\n")).collect()
}

/// A workload that may never have fewer than three pods ready.
pub const WORK: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: { name: work }
spec:
  replicas: 4
  selector: { matchLabels: { app: work } }
  template:
    metadata: { labels: { app: work } }
    spec:
      tolerations: [{ operator: Exists, key: node-role.kubernetes.io/control-plane }]
      terminationGracePeriodSeconds: 0
      automountServiceAccountToken: false
      containers:
        - { name: work, image: "bundle.bramble/busybox:1", command: [sleep, "100000"] }
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: { name: work }
spec: { minAvailable: 3, selector: { matchLabels: { app: work } } }
"#;

impl Rack {
    /// Raises a rack; `more` are further arguments of `bramble lab up`.
    pub fn up(name: &str, more: &[&str]) -> Rack {
        let turn = Turn::take(if more.contains(&"--bare") { 1 } else { 2 });
        let root = Command::new("id").arg("-u").output().unwrap();
        assert_eq!(root.stdout, b"0\n", "the tests on a rack need root: make test asks for it");
        let state = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("lab");
        let rack = Rack { name: name.to_owned(), dir: tempfile::tempdir().unwrap(), bundle: None, state, _turn: turn };
        fs::create_dir_all(&rack.state).unwrap();
        fs::write(rack.password_file(), "raspberry\n").unwrap();
        // What an interrupted test left.
        rack.lab(&["down", name]);
        let dir = rack.dir.path().display().to_string();
        let mut args = vec!["up", "--name", name, "--dir", &dir];
        args.extend(more);
        let output = rack.lab(&args);
        assert!(output.status.success(), "{}", text(&output));
        rack
    }

    /// Raises so many boards without Kubernetes.
    pub fn bare(name: &str, boards: usize, subnet: &str, more: &[&str]) -> Rack {
        let boards = boards.to_string();
        let own = ["--bare", "--control-planes", "0", "--workers", &boards, "--subnet", subnet];
        Rack::up(name, &[&own, more].concat())
    }

    pub fn lab(&self, args: &[&str]) -> Output {
        self.lab_command(args).output().unwrap()
    }

    pub fn lab_command(&self, args: &[&str]) -> Command {
        let mut command = bramble();
        command.arg("lab").arg("--state").arg(&self.state).args(args);
        command
    }

    fn lab_node(&self, what: &str, node: &str, more: &[&str]) {
        let output = self.lab(&[&[what, &format!("{}/{node}", self.name)], more].concat());
        assert!(output.status.success(), "{}", text(&output));
    }

    /// Cuts the power of node `n`.
    pub fn cut(&self, n: usize) {
        self.lab_node("cut", &self.node(n), &[]);
    }

    /// Gives it back.
    pub fn start(&self, n: usize) {
        self.lab_node("start", &self.node(n), &[]);
    }

    /// Puts a new board in the place of node `n`, and its host keys into the folder.
    pub fn replace(&self, n: usize) {
        self.lab_node("replace", &self.node(n), &["--dir", self.dir.path().to_str().unwrap()]);
    }

    /// The folder of all racks of the tests.
    pub fn state(&self) -> &Path {
        &self.state
    }

    /// The file with what sudo on the boards asks for.
    pub fn password_file(&self) -> PathBuf {
        self.state.join("password")
    }

    pub fn file(&self) -> PathBuf {
        self.dir.path().join("bramble.yaml")
    }

    /// A command of bramble on the rack's cluster file.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = bramble();
        command.arg("-f").arg(self.file()).env("BRAMBLE_SUDO_PASSWORD_FILE", self.password_file());
        if let Some(bundle) = &self.bundle {
            command.arg("--bundle").arg(bundle);
        }
        command.args(args);
        command
    }

    pub fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// What a shell on the node's own console prints.
    pub fn shell(&self, node: &str, script: &str) -> String {
        let output = self.lab(&["shell", &format!("{}/{node}", self.name), "sh", "-c", script]);
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Lets systemd itself judge unit files of a node; `files` are patterns.
    pub fn assert_units(&self, node: &str, files: &str) {
        let verify = format!("for u in {files}; do systemd-analyze verify $u 2>&1 || echo $u; done");
        assert_eq!(self.shell(node, &verify), "", "the units of {node}");
    }

    /// kubectl as the administrator, on node `n`.
    pub fn kubectl(&self, n: usize, arguments: &str) -> String {
        let command = format!(
            "c=/etc/kubernetes/admin.conf; [ ! -e $c ] || export KUBECONFIG=$c; kubectl --cache-dir /tmp/kc {arguments} 2>&1"
        );
        self.shell(&self.node(n), &command)
    }

    pub fn uid(&self, n: usize, object: &str) -> String {
        self.kubectl(n, &format!("get {object} -o jsonpath={{.metadata.uid}}"))
    }

    /// How many pods of [`WORK`] are ready, if the API of node `n` tells.
    pub fn ready_pods(&self, n: usize) -> Option<u32> {
        self.kubectl(n, "get deployment work -o jsonpath={.status.readyReplicas}").parse().ok()
    }

    pub fn well(&self) -> Value {
        let output = self.run(&["status", "-o", "json"]);
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", text(&output)))
    }

    pub fn assert_well(&self) {
        wait_for("a cluster that is well", || self.well()["well"] == true);
        assert_eq!(self.plan().0, 0, "{:?}", self.titles());
    }

    /// `bramble up`, which must succeed, and what it said.
    pub fn go_up(&self) -> String {
        let output = self.run(&["up", "--yes"]);
        assert_code(&output, 0);
        text(&output)
    }

    /// The same, when these nodes and add-ons may go.
    pub fn go_up_without(&self, gone: &[&str]) -> String {
        let output = self.run(&["up", &format!("--yes={}", gone.join(","))]);
        assert_code(&output, 0);
        text(&output)
    }

    /// The bundle with stand-ins for releases.
    pub fn standins(&self, more: &[&str]) -> String {
        let output = self.lab(&[&["standins"], more].concat());
        let said = String::from_utf8(output.stdout.clone()).unwrap();
        said.trim().strip_prefix("Stand-ins are in ").unwrap_or_else(|| panic!("{}", text(&output))).to_owned()
    }

    pub fn node(&self, n: usize) -> String {
        format!("{}-{n}", self.name)
    }

    pub fn names(&self, numbers: &[usize]) -> BTreeSet<String> {
        numbers.iter().map(|n| self.node(*n)).collect()
    }

    /// Applies manifests on the first node.
    pub fn apply(&self, manifests: &str) {
        fs::write(self.disk(&self.node(1)).join("root/work.yaml"), manifests).unwrap();
        let said = self.kubectl(1, "apply -f /root/work.yaml");
        assert!(said.contains("created") || said.contains("configured"), "{said}");
    }

    pub fn append(&self, text: &str) {
        let old = fs::read_to_string(self.file()).unwrap();
        fs::write(self.file(), format!("{old}{text}")).unwrap();
    }

    pub fn plan(&self) -> (i32, Value) {
        let output = self.run(&["plan", "-o", "json"]);
        let value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", text(&output)));
        (output.status.code().unwrap(), value)
    }

    /// The titles of all planned changes, as `node: title`.
    pub fn titles(&self) -> Vec<String> {
        let (_, plan) = self.plan();
        let mut titles = Vec::new();
        for node in plan["nodes"].as_array().unwrap() {
            for change in node["changes"].as_array().unwrap() {
                titles.push(format!("{}: {}", node["node"].as_str().unwrap(), change["title"].as_str().unwrap()));
            }
        }
        titles
    }

    /// The node's disk as this machine sees it.
    pub fn disk(&self, node: &str) -> PathBuf {
        self.state.join("racks").join(&self.name).join("nodes").join(node).join("root")
    }

    /// Waits for the end of a node's first boot, some seconds after its sshd began: until then packages come.
    pub fn first_boot(&self, node: &str) {
        self.shell(node, "! command -v cloud-init || cloud-init status --wait");
    }

    /// Every file of a node with type, mode, owner and digest, its packages and its units, without logs and caches.
    pub fn listing(&self, node: &str) -> BTreeMap<String, String> {
        self.first_boot(node);
        // lists and status-old are apt's and dpkg's caches; sudo notes in the home that it was used; the rack's own firmware is no
        // part of a board's disk; the others
        // note each boot.
        let skip = "proc sys run dev tmp var/log var/cache var/tmp var/lib/apt/lists usr/lib/rack var/lib/cloud var/lib/NetworkManager \
                    var/lib/dhcp";
        let script = format!(
            r#"cd '{}' && set -- && for s in {skip}; do set -- "$@" -path "./$s" -prune -o; done
            find . "$@" ! -name status-old ! -name .sudo_as_admin_successful -printf '%p\t%y %m %u %g %l\n'
            find . "$@" -type f ! -name status-old ! -name .sudo_as_admin_successful -print0 | xargs -0 sha256sum | awk '{{ d = $1; $1 = ""; print "digest" $0 "\t" d }}'"#,
            self.disk(node).display()
        );
        let output = Command::new("sh").args(["-c", &script]).output().unwrap();
        assert!(output.status.success(), "{}", text(&output));
        let mut all = String::from_utf8(output.stdout).unwrap();
        all.push_str(&self.shell(node, r"dpkg-query -W -f 'package ${Package}\t${Version} ${db:Status-Abbrev}\n'"));
        all.push_str(&self.shell(node, "apt-mark showmanual | sed 's/^/manual /;s/$/\\tyes/'"));
        all.push_str(
            &self.shell(
                node,
                "systemctl list-unit-files --no-pager --no-legend | awk '{ print \"unit \" $1 \"\\t\" $2 }'",
            ),
        );
        all.lines().filter_map(|line| line.split_once('\t')).map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
    }
}

impl Rack {
    /// What a board has that it had not, after its next boot: cloud-init writes hosts files then.
    pub fn left_on(&self, node: &str, before: &BTreeMap<String, String>) -> Vec<String> {
        for what in ["cut", "start"] {
            self.lab_node(what, node, &[]);
        }
        differences(before, &self.listing(node))
    }

    /// Whether a board is the one that it was.
    pub fn assert_undone(&self, node: &str, before: &BTreeMap<String, String>) {
        let left = self.left_on(node, before);
        assert!(left.is_empty(), "{} differences on {node}, such as {:#?}", left.len(), &left[..left.len().min(30)]);
    }
}

impl Rack {
    /// Keeps what tells why a test failed: what the boards and their pods logged, their consoles, the logs of bramble.
    pub fn keep(&self) {
        let to = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("failed").join(&self.name);
        fs::remove_dir_all(&to).ok();
        fs::create_dir_all(&to).ok();
        let nodes = self.state.join("racks").join(&self.name).join("nodes");
        for node in fs::read_dir(&nodes).into_iter().flatten().flatten() {
            let name = node.file_name().to_string_lossy().into_owned();
            fs::copy(node.path().join("console.log"), to.join(format!("{name}.console"))).ok();
            let log =
                self.shell(&name, "timeout 20 journalctl --no-pager -o short-precise; dmesg 2>/dev/null | tail -n 50");
            fs::write(to.join(format!("{name}.journal")), log).ok();
            // What its pods said, those that are gone included.
            let pods =
                "for l in /var/log/pods/*/*/*.log; do [ ! -e \"$l\" ] || { echo \"== $l\"; tail -n 100 \"$l\"; }; done";
            fs::write(to.join(format!("{name}.pods")), self.shell(&name, pods)).ok();
        }
        let logs = self.dir.path().join(".bramble/log");
        for log in fs::read_dir(&logs).into_iter().flatten().flatten() {
            fs::copy(log.path(), to.join(log.file_name())).ok();
        }
        fs::copy(self.file(), to.join("bramble.yaml")).ok();
        eprintln!("what the boards and bramble logged is in {}", to.display());
    }
}

impl Drop for Rack {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.keep();
        }
        self.lab(&["down", &self.name]);
    }
}

/// The entries that differ, for the message of a failed test.
fn differences(before: &BTreeMap<String, String>, after: &BTreeMap<String, String>) -> Vec<String> {
    let mut found = Vec::new();
    for key in before.keys().chain(after.keys()) {
        if before.get(key) != after.get(key) {
            found.push(format!("{key}: {:?} -> {:?}", before.get(key), after.get(key)));
        }
    }
    found.sort();
    found.dedup();
    found
}

/// Everything on this machine that could carry a rack's name or tag.
pub fn traces(name: &str) -> Vec<String> {
    let script = format!(
        "tag=$(printf %s '{name}' | sha256sum | cut -c1-6); ip -o link | grep -F \" bl$tag\"; ip netns list | grep -- '-{name}-'; \
         grep -- '/racks/{name}/' /proc/mounts; find /sys/fs/cgroup -path '*bramble-lab/{name}*' -type d; \
         nft list tables | grep \"bramble_lab_$tag\"; pgrep -af -- '/racks/{name}' | grep -v pgrep"
    );
    let output = Command::new("bash").args(["-c", &script]).output().unwrap();
    String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
}

pub fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
