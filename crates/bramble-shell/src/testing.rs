//! Runs functions of a shell library under dash, as a node does, with stubs of the programs that they call.
//!
//! A [`Case`] is run once with all programs succeeding, and then once for each call of a program with that call failing, and
//! all later ones like it: the function must fail as well, unless the call was declared as one that may fail. So a command
//! whose failure nobody notices is found without a test of its own.
//!
//! The script sees a folder in the place of `/etc`, `/proc`, `/run`, `/snap`, `/sys`, `/var`; its `PATH` has nothing but stubs
//! and a few real tools; `sleep` takes no time, clocks run fast, and loops give up after three rounds.

#![allow(clippy::unwrap_used, clippy::missing_panics_doc)]

mod coverage;

use std::fs;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use tempfile::TempDir;

pub use self::coverage::assert_covered;
use crate::{Commands, Script};

/// Tools that only turn text into text. They are real, and never fail.
const FILTERS: &[&str] = &[
    "awk", "basename", "comm", "cut", "dirname", "grep", "head", "od", "paste", "sed", "seq", "sort", "tail", "tr",
    "uniq", "wc", "xargs",
];
/// Tools that are real unless a case says otherwise, and can be told to fail.
const REAL: &[&str] = &[
    "base64",
    "cat",
    "chmod",
    "cmp",
    "cp",
    "env",
    "find",
    "gzip",
    "ln",
    "ls",
    "md5sum",
    "mkdir",
    "mktemp",
    "mv",
    "readlink",
    "rm",
    "rmdir",
    "sh",
    "sha256sum",
    "stat",
    "tar",
    "timeout",
    "touch",
];
/// Programs that do nothing and succeed unless a case says otherwise.
const STUBS: &[&str] = &[
    "age",
    "apt-get",
    "apt-mark",
    "blkid",
    "blockdev",
    "chattr",
    "chown",
    "ctr",
    "curl",
    "dd",
    "df",
    "dpkg",
    "dpkg-query",
    "e2fsck",
    "findmnt",
    "flock",
    "getent",
    "gluster",
    "groupdel",
    "hostname",
    "id",
    "ip",
    "ip6tables-restore",
    "ip6tables-save",
    "iptables-restore",
    "iptables-legacy-restore",
    "iptables-legacy-save",
    "iptables-save",
    "journalctl",
    "k0s",
    "k3s",
    "kill",
    "kubeadm",
    "kubectl",
    "locale",
    "lsblk",
    "mkfs.ext4",
    "mkfs.vfat",
    "modprobe",
    "mount",
    "mountpoint",
    "openssl",
    "pgrep",
    "rclone",
    "restic",
    "rpi-eeprom-config",
    "rpi-eeprom-update",
    "sfdisk",
    "sftp",
    "snap",
    "ss",
    "sshd",
    "swapoff",
    "swapon",
    "sync",
    "systemctl",
    "systemd-inhibit",
    "systemd-run",
    "timedatectl",
    "udevadm",
    "umount",
    "unshare",
    "useradd",
    "userdel",
    "visudo",
    "wget",
    "wipefs",
];
/// Folders in whose place a case has its own.
const FOLDERS: &[&str] = &["/boot/", "/etc/", "/proc/", "/run/", "/snap/", "/sys/", "/usr/local/", "/var/"];

/// What all stubs do: it logs the call, fails where it was told to, and else does what the case says, or the real program.
/// Two that are called at once may both see the higher number: then both fail. Where one ends the shell, a trap of the
/// script sees its variables: they have names of their own.
const STUB: &str = r#"stub() { # program arguments…
    _stub_p=$1
    shift
    _stub_line="$_stub_p${*:+ $*}"
    if [ "$_stub_line" = 'date +%s' ]; then
        read -r _stub_n <"$R/clock"
        _stub_n=$((_stub_n + 200))
        echo "$_stub_n" >"$R/clock"
        echo "$_stub_n"
        return 0
    fi
    [ "$_stub_p" != date ] || { /bin/date "$@" || return; return 0; }
    printf '%s\0' "$_stub_line" >>"$R/calls"
    printf . >>"$R/count"
    IFS= read -r _stub_n <"$R/count" || :
    _stub_n=${#_stub_n}
    _stub_first=${_stub_line%%"
"*}
    if [ -e "$R/failing" ]; then
        IFS= read -r _stub_f <"$R/failing" || :
        [ "$_stub_first" != "$_stub_f" ] || { echo "$_stub_p: told to fail" >&2; return 1; }
    elif [ "$_stub_n" -ge "$FAIL" ]; then
        printf '%s\n' "$_stub_first" >"$R/failing"
        echo "$_stub_p: told to fail" >&2
        return 1
    fi
    case $_stub_line in
@ANSWERS@
    esac
    case " @REAL@ " in *" $_stub_p "*) "/usr/bin/$_stub_p" "$@" || return ;; esac
    return 0
}
"#;

/// A stub as a program of its own, for those that are started by another program or by their path.
const PROGRAM: &str = "#!/bin/dash\n. \"$R/stub\"\nstub \"${0##*/}\" \"$@\"\n";

/// What [`moved`] puts in for a folder that is not known yet.
const ROOT: &str = "\0";

/// Whether a call that fails is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fine {
    /// By `@tried`.
    Told,
    /// Not at all: it is one of the answers.
    Expected,
}

/// A function of a library, with what it finds on its node.
#[derive(Debug, Clone)]
pub struct Case {
    library: String,
    before: Option<String>,
    body: String,
    files: Vec<(String, String)>,
    sockets: Vec<String>,
    programs: Vec<String>,
    without: Vec<&'static str>,
    answers: Vec<(String, String)>,
    fine: Vec<(String, Fine)>,
    patience: u32,
}

/// How a run ended.
#[derive(Debug, Clone)]
pub struct Run {
    /// The exit code; 124 if it did not end.
    pub code: i32,
    /// What it printed.
    pub stdout: String,
    /// What it complained of.
    pub stderr: String,
    /// The calls of programs with their arguments, in their order.
    pub calls: Vec<String>,
    /// Its folder.
    pub root: Arc<TempDir>,
}

impl Run {
    /// The text of a file in its folder.
    pub fn file(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.root.path().join(path.trim_start_matches('/'))).ok()
    }

    /// Whether a call of this kind was made; `*` stands for anything.
    pub fn called(&self, pattern: &str) -> bool {
        self.calls.iter().any(|call| matches(pattern, call))
    }
}

impl Case {
    /// `body`, run with the functions of `library` (the text of all files that its script has).
    pub fn new(library: impl Into<String>, body: impl Into<String>) -> Case {
        Case {
            library: library.into(),
            before: None,
            body: body.into(),
            files: Vec::new(),
            sockets: Vec::new(),
            programs: Vec::new(),
            without: Vec::new(),
            answers: Vec::new(),
            fine: Vec::new(),
            patience: 20,
        }
    }

    /// A run that takes more seconds does not end.
    pub fn patience(mut self, seconds: u32) -> Case {
        self.patience = seconds;
        self
    }

    /// These commands come first. Their programs, and those of the library itself, neither count nor fail.
    pub fn after(mut self, commands: impl Into<String>) -> Case {
        self.before = Some(commands.into());
        self
    }

    /// There is a file; a path that ends with `/` is a folder.
    pub fn file(mut self, path: &str, text: &str) -> Case {
        self.files.push((path.to_owned(), text.to_owned()));
        self
    }

    /// There is a socket.
    pub fn socket(mut self, path: &str) -> Case {
        self.sockets.push(path.to_owned());
        self
    }

    /// There is a stub at this path.
    pub fn program(mut self, path: &str) -> Case {
        self.programs.push(path.to_owned());
        self
    }

    /// A program is missing.
    pub fn without(mut self, program: &'static str) -> Case {
        self.without.push(program);
        self
    }

    /// A call like this (`*` stands for anything, the first that fits counts) does this instead: a line of shell, which sees
    /// the call as `$@`, and the folder as `$R`.
    pub fn on(mut self, call: &str, action: &str) -> Case {
        self.answers.push((call.to_owned(), action.to_owned()));
        self
    }

    /// The same, whatever was said of such calls before.
    pub fn before_all(mut self, call: &str, action: &str) -> Case {
        self.answers.insert(0, (call.to_owned(), action.to_owned()));
        self
    }

    /// A call like this prints a line.
    pub fn says(self, call: &str, line: &str) -> Case {
        let action = format!("printf '%s\\n' '{line}'");
        self.on(call, &action)
    }

    /// A call like this may fail, which is told.
    pub fn best_effort(mut self, call: &str) -> Case {
        self.fine.push((call.to_owned(), Fine::Told));
        self
    }

    /// A call like this may fail, for this reason.
    pub fn may_fail(mut self, call: &str, reason: &str) -> Case {
        assert!(!reason.is_empty());
        self.fine.push((call.to_owned(), Fine::Expected));
        self
    }

    /// Runs it; the call with this number fails, and all like it that follow.
    pub fn run(&self, fail: Option<usize>) -> Run {
        self.prepare().run(fail)
    }

    /// What all runs of it share.
    fn prepare(&self) -> Prepared<'_> {
        let stubs = TempDir::new().unwrap();
        let stub = stubs.path().join(".stub");
        fs::write(&stub, PROGRAM).unwrap();
        fs::set_permissions(&stub, fs::Permissions::from_mode(0o755)).unwrap();
        for name in FILTERS {
            symlink(format!("/usr/bin/{name}"), stubs.path().join(name)).unwrap();
        }
        // Starting a program takes longer than all that a stub does: where the script itself calls one, it is a function of
        // its shell. Functions have no hyphens in their names, but aliases do. They are read before the script is.
        let mut functions = String::new();
        for name in REAL.iter().chain(STUBS).chain(&["date"]).filter(|name| !self.without.contains(name)) {
            symlink(".stub", stubs.path().join(name)).unwrap();
            let line = if name.contains(['-', '.']) {
                format!("alias {name}='stub {name}'\n")
            } else {
                format!("{name}() {{ stub {name} \"$@\"; }}\n")
            };
            functions.push_str(&line);
        }
        let answers: String = self
            .answers
            .iter()
            .map(|(call, action)| format!("{})\n(set +eu\n{action}\n) || return\nreturn 0 ;;\n", case_pattern(call)))
            .collect();
        let stub = STUB.replace("@REAL@", &REAL.join(" ")).replace("@ANSWERS@", &moved(&answers, ROOT));
        let (held, freed) = match &self.before {
            Some(before) => {
                ("fail=$FAIL FAIL=999999\n", format!("{before}\n: >\"$R/calls\"\n: >\"$R/count\"\nFAIL=$fail\n"))
            }
            None => ("", String::new()),
        };
        // Nobody waits for a stub.
        let body = format!("sleep() {{ :; }}\n{held}{}\n{freed}{}\n", self.library, self.body);
        let script = Script::new("test", &Commands::quoted(body));
        let path = format!("PATH={}", stubs.path().display());
        let text =
            script.text().replacen("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", &path, 1);
        let text = format!("{stub}{functions}{}", moved(&hastened(&text), ROOT));
        Prepared { case: self, stubs, stub, text }
    }

    /// Runs it with all programs succeeding, and then with each call failing in its turn. Gives the first run.
    pub fn check(&self) -> Run {
        let prepared = self.prepare();
        let whole = prepared.run(None);
        assert_eq!(
            whole.code,
            0,
            "{}: fails although nothing does\nstdout: {}\nstderr: {}\ncalls:\n{}",
            self.body,
            whole.stdout,
            whole.stderr,
            whole.calls.join("\n")
        );
        let next = AtomicUsize::new(0);
        let work = || {
            let mut faults = Vec::new();
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                let Some(call) = whole.calls.get(index) else { return faults };
                let run = prepared.run(Some(index + 1));
                if let Some(fault) = self.fault(call, &run) {
                    faults.push(format!("call {}, `{call}`, {fault}\n    stderr: {}", index + 1, run.stderr.trim()));
                }
            }
        };
        let mut faults: Vec<String> = thread::scope(|scope| {
            let workers = thread::available_parallelism().map_or(1, usize::from);
            let workers: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
            workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
        });
        for (pattern, _) in &self.fine {
            if !whole.calls.iter().any(|call| matches(pattern, call)) {
                faults.push(format!("`{pattern}` is declared as one that may fail, and never called"));
            }
        }
        assert!(
            faults.is_empty(),
            "{}:\n  {}\nof the calls\n  {}",
            self.body,
            faults.join("\n  "),
            whole.calls.join("\n  ")
        );
        whole
    }

    /// What is wrong with a run in which this call failed.
    fn fault(&self, call: &str, run: &Run) -> Option<&'static str> {
        let fine = self.fine.iter().find(|(pattern, _)| matches(pattern, call)).map(|(_, fine)| *fine);
        let told = run.stdout.contains("@tried ") || run.stderr.contains("@tried ");
        match (run.code, fine) {
            (124, _) => Some("does not end"),
            (0, None) if told => Some("is told only, and not declared as one that may fail"),
            (0, None) => Some("goes unnoticed"),
            (0, Some(Fine::Told)) if !told => Some("is not told"),
            (code, Some(_)) if code != 0 => Some("stops it, and is declared as one that may fail"),
            _ => None,
        }
    }

    /// Runs it with all programs succeeding; it must fail, and say this.
    pub fn refuses(&self, why: &str) -> Run {
        let run = self.run(None);
        assert!(
            run.code != 0 && run.code != 124,
            "{}: ends with {}\n{}\n{}",
            self.body,
            run.code,
            run.stdout,
            run.stderr
        );
        let said = format!("{}{}", run.stdout, run.stderr);
        assert!(said.contains(why), "{}: does not say {why:?} but\n{said}", self.body);
        run
    }
}

/// A case with what all of its runs share.
struct Prepared<'a> {
    case: &'a Case,
    /// The folder with all that its `PATH` has.
    stubs: TempDir,
    /// The function that all stubs are, and the whole script, both with [`ROOT`] for the run's folder.
    stub: String,
    text: String,
}

impl Prepared<'_> {
    fn run(&self, fail: Option<usize>) -> Run {
        let (case, stubs) = (self.case, self.stubs.path());
        // Most of the work is small files: in memory there is no disk to wait for.
        let memory = Path::new("/dev/shm");
        let root = if memory.is_dir() { TempDir::new_in(memory) } else { TempDir::new() }.unwrap();
        let home = root.path();
        let here = home.to_str().unwrap();
        for folder in ["etc", "proc/self", "run/bramble", "sys/class/net", "sys/fs/cgroup", "var/lib/bramble"] {
            fs::create_dir_all(home.join(folder)).unwrap();
        }
        for name in ["mounts", "mountinfo"] {
            fs::write(home.join("proc/self").join(name), "").unwrap();
        }
        fs::write(home.join("clock"), "1000\n").unwrap();
        fs::write(home.join("stub"), self.stub.replace(ROOT, here)).unwrap();
        let place = |path: &str| {
            let path = home.join(path.trim_start_matches('/'));
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            path
        };
        for path in &case.programs {
            symlink(stubs.join(".stub"), place(path)).unwrap();
        }
        let _sockets: Vec<UnixListener> =
            case.sockets.iter().map(|path| UnixListener::bind(place(path)).unwrap()).collect();
        for (name, text) in &case.files {
            if name.ends_with('/') {
                fs::create_dir_all(place(name)).unwrap();
            } else {
                fs::write(place(name), moved(text, here)).unwrap();
            }
        }
        let mut child = Command::new("/bin/dash")
            .arg("-s")
            .env_clear()
            .env("PATH", stubs)
            .env("R", here)
            .env("FAIL", fail.unwrap_or(999_999).to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(self.text.replace(ROOT, here).as_bytes()).unwrap();
        let (ended, watched) = mpsc::channel::<()>();
        let (group, patience) = (format!("-{}", child.id()), Duration::from_secs(case.patience.into()));
        let watch = thread::spawn(move || {
            let late = watched.recv_timeout(patience) == Err(mpsc::RecvTimeoutError::Timeout);
            if late {
                Command::new("/bin/kill").args(["-KILL", "--", &group]).status().unwrap();
            }
            late
        });
        let output = child.wait_with_output().unwrap();
        drop(ended);
        let late = watch.join().unwrap();
        let calls = fs::read(home.join("calls")).unwrap_or_default();
        let calls = calls.split(|byte| *byte == 0).filter(|call| !call.is_empty());
        let back = |bytes: &[u8]| String::from_utf8_lossy(bytes).replace(here, "");
        Run {
            code: if late { 124 } else { output.status.code().unwrap_or(-1) },
            stdout: back(&output.stdout),
            stderr: back(&output.stderr),
            calls: calls.map(back).collect(),
            root: Arc::new(root),
        }
    }
}

/// A pattern of `case`, in which only `*` stands for something else.
fn case_pattern(call: &str) -> String {
    let plain = |c: char| c == '*' || c == '/' || c == '-' || c.is_ascii_alphanumeric();
    call.chars().flat_map(|c| (!plain(c)).then_some('\\').into_iter().chain([c])).collect()
}

/// The same text with its folders below `root`.
fn moved(text: &str, root: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('/') {
        let before = rest[..at].chars().next_back().or_else(|| out.chars().next_back());
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let joined = before.is_some_and(|c| c.is_ascii_alphanumeric() || "}.*/_-)]$~".contains(c));
        if !joined && FOLDERS.iter().any(|folder| rest.starts_with(folder)) {
            out.push_str(root);
        }
        out.push('/');
        rest = &rest[1..];
    }
    out.push_str(rest);
    out
}

/// The same text with loops that give up after three rounds.
fn hastened(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("\"$n\" -") {
        let digits = at + "\"$n\" -lt ".len();
        out.push_str(&rest[..digits]);
        rest = &rest[digits..];
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        if end > 1 {
            out.push('3');
            rest = &rest[end..];
        }
    }
    out.push_str(rest);
    out
}

/// Whether a text is like a pattern, in which `*` stands for anything.
fn matches(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = text.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
    for part in middle {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_that_nobody_notices_is_found() {
        let found = |body: &str| {
            std::panic::catch_unwind(|| Case::new("", body).says("kubectl get", "a").patience(2).check()).is_err()
        };
        assert!(!found("x=$(kubectl get)\nkubectl delete \"$x\""));
        assert!(found("kubectl get | while read -r x; do kubectl delete \"$x\"; done"));
        assert!(found("kubectl delete \"$(kubectl get)\""));
        assert!(found("f() { kubectl get; kubectl delete; }\nif f; then :; fi"));
        assert!(found("kubectl delete 2>/dev/null || :"));
        assert!(found("until kubectl get; do sleep 1; done"));
    }

    #[test]
    fn folders_move_and_other_paths_stay() {
        assert_eq!(
            moved("cat \"/run/a\" /var/b $d/etc/c >/dev/null x/proc/y", "/t"),
            "cat \"/t/run/a\" /t/var/b $d/etc/c >/dev/null x/proc/y"
        );
        assert_eq!(hastened("[ \"$n\" -lt 300 ] [ \"$n\" -ge 5 ]"), "[ \"$n\" -lt 3 ] [ \"$n\" -ge 5 ]");
        assert!(matches("kubectl * get *", "kubectl -n x get y") && !matches("kubectl get", "kubectl get x"));
    }
}
