//! Files in folders of other users, links in the ledger, and what is mounted below folders that go.
//!
//! What another user does is done at the worst moment, by the stub of the program that runs there. The tests in
//! `other_users.rs` have a real one.

use std::path::Path;

use super::*;

const PUT: &str = "put_file h /var/pi/file 600 none YWZ0ZXI=";

/// A node with a folder of another user's, and root's file.
fn pi(body: &str, prepared: &str) -> Case {
    let node = Case::new(format!("{STEPS}{LEDGER}"), body).file("/var/pi/own", "").file("/etc/roots", "root's");
    node.after(format!("/usr/bin/chown -R 65534 $R/var/pi\n{prepared}\n"))
}

/// The other user swaps a folder for a link to `/etc` as soon as a program is called.
fn swapped(call: &str, program: &str, folder: &str) -> Case {
    let swap =
        format!("/usr/bin/{program} \"$@\"; /usr/bin/mv {folder} $R/var/pi/aside; /usr/bin/ln -s $R/etc {folder}");
    pi(PUT, "").on(call, &swap)
}

/// What a user of the board had to do for the file of root's to be his.
#[test]
fn a_link_that_was_prepared_beside_a_file_is_not_written_through() {
    for beside in ["file.bramble-new", ".file.bramble-new"] {
        let run = pi(PUT, &format!("/usr/bin/ln -s $R/etc/roots $R/var/pi/{beside}")).run(None);
        assert_eq!((run.code, run.file("etc/roots").as_deref()), (0, Some("root's")), "{beside}: {}", run.stdout);
    }
}

#[test]
fn a_folder_that_was_prepared_beside_a_file_is_replaced() {
    let run = pi(PUT, "/usr/bin/mkdir -m 777 $R/var/pi/.file.bramble-new").run(None);
    assert_eq!((run.code, run.file("var/pi/file").as_deref()), (0, Some("after")), "{}", run.stdout);
}

#[test]
fn nothing_is_left_beside_a_file() {
    let run = pi(PUT, "").run(None);
    let left: Vec<_> =
        std::fs::read_dir(run.root.path().join("var/pi")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "{left:?}");
}

#[test]
fn a_link_in_the_place_of_a_file_is_replaced_and_what_it_points_to_stays() {
    let run = pi(PUT, "/usr/bin/ln -s $R/etc/roots $R/var/pi/file").run(None);
    assert_eq!((run.file("etc/roots").as_deref(), run.file("var/pi/file").as_deref()), (Some("root's"), Some("after")));
}

#[test]
fn undoing_gives_no_file_of_roots_to_the_user_who_prepared_a_link() {
    let prepared =
        "/usr/bin/ln -s $R/etc/roots $R/var/pi/own.bramble-new; /usr/bin/ln -s $R/etc/roots $R/var/pi/.own.bramble-new";
    let body = format!(
        "put_file h /var/pi/own 600 none YWZ0ZXI=\n{prepared}\ngive_back h\n/usr/bin/stat -c %u $R/etc/roots $R/var/pi/own"
    );
    let run = pi(&body, "").run(None);
    assert_eq!((run.code, run.stdout.as_str()), (0, "0\n65534\n"), "{}", run.stderr);
}

#[test]
fn a_path_through_a_link_of_another_user_is_refused() {
    let put = "put_file h /var/pi/sub/file 600 none YWZ0ZXI=";
    let run = pi(put, "/usr/bin/ln -s $R/etc $R/var/pi/sub").refuses("/var/pi/sub leads through a symbolic link");
    assert!(run.file("etc/file").is_none());
}

#[test]
fn a_path_through_a_link_of_roots_is_followed() {
    let run = pi("put_file h /var/way/file 600 none YWZ0ZXI=", "/usr/bin/ln -s pi/../../etc $R/var/way").run(None);
    assert_eq!((run.code, run.file("etc/file").as_deref()), (0, Some("after")), "{}", run.stdout);
}

/// Root's link in a folder where others may rename it can be any of root's links there.
#[test]
fn a_link_of_roots_in_a_folder_of_another_user_is_refused() {
    let put = "put_file h /var/pi/sub/file 600 none YWZ0ZXI=";
    let links = "/usr/bin/chmod 1777 $R/var/pi; /usr/bin/chown 0 $R/var/pi; /usr/bin/ln -s $R/etc $R/var/pi/sub";
    pi(put, links).refuses("leads through a symbolic link");
}

#[test]
fn a_link_behind_a_link_of_roots_is_looked_at_too() {
    let links = "/usr/bin/ln -s $R/var/pi/sub $R/var/way; /usr/bin/ln -s $R/etc $R/var/pi/sub";
    pi("put_file h /var/way/file 600 none YWZ0ZXI=", links).refuses("leads through a symbolic link");
}

#[test]
fn links_that_go_round_in_a_circle_are_given_up() {
    pi("enter /var/way/x", "/usr/bin/ln -s way $R/var/way").refuses("leads through a symbolic link");
}

#[test]
fn the_folder_beside_a_file_that_is_swapped_for_a_link_is_not_gone_into() {
    let run = swapped("mkdir -m 700*", "mkdir", "./.file.bramble-new").refuses("swapped for a link");
    assert!(run.file("etc/new").is_none());
}

#[test]
fn the_folder_beside_a_file_that_is_swapped_for_one_of_the_user_is_not_used() {
    let swap = "/usr/bin/mkdir \"$@\"; /usr/bin/chown 65534 ./.file.bramble-new";
    pi(PUT, "").on("mkdir -m 700*", swap).refuses("swapped for another folder");
}

/// The script stands in the folder, whatever its name leads to by now.
#[test]
fn a_folder_that_is_swapped_while_a_file_is_written_leads_nowhere_else() {
    let put = "put_file h /var/pi/sub/file 600 none YWZ0ZXI=";
    let swap = "/usr/bin/base64 \"$@\"; /usr/bin/mv $R/var/pi/sub $R/var/pi/aside; /usr/bin/ln -s $R/etc $R/var/pi/sub";
    let run = pi(put, "").file("/var/pi/sub/own", "").on("base64*", swap).run(None);
    assert_eq!(
        (run.file("etc/file"), run.file("var/pi/aside/file").as_deref()),
        (None, Some("after")),
        "{}",
        run.stdout
    );
}

#[test]
fn a_relative_link_is_restored_as_it_was() {
    let body = "put_file h /etc/link 644 none YWZ0ZXI=\ngive_back h";
    let run = pi(body, "/usr/bin/ln -s ../var/pi/own $R/etc/link").run(None);
    assert_eq!(std::fs::read_link(run.root.path().join("etc/link")).unwrap(), Path::new("../var/pi/own"));
}

/// From the ledger it leads nowhere, so it cannot be synced as a file.
#[test]
fn a_relative_link_is_remembered_although_it_leads_nowhere_from_the_ledger() {
    let real = "for f in \"$@\"; do [ -e \"$f\" ] || exit 1; done";
    let run = pi("put_file h /etc/link 644 none YWZ0ZXI=", "/usr/bin/ln -s ../var/pi/own $R/etc/link")
        .on("sync*", real)
        .run(None);
    assert_eq!(run.code, 0, "{}", run.stderr);
}

#[test]
fn what_an_edited_link_points_to_stays_and_the_link_comes_back() {
    let body = "b=$(sha256sum </etc/link)\nput_edit h /etc/link \"${b%% *}\" YWZ0ZXI=\ncat $R/etc/roots /etc/link\ngive_back h\nreadlink /etc/link";
    let run = pi(body, "/usr/bin/ln -s roots $R/etc/link").run(None);
    assert_eq!((run.code, run.stdout.as_str()), (0, "root'safterroots\n"), "{}", run.stderr);
}

#[test]
fn links_in_a_folder_that_goes_are_not_followed() {
    let body = "own_folder h /var/ours\n/usr/bin/mkdir $R/var/ours\n/usr/bin/ln -s $R/etc $R/var/ours/way\ngive_back h";
    let run = pi(body, "").run(None);
    assert!(run.file("etc/roots").is_some() && !run.root.path().join("var/ours").exists(), "{}", run.stderr);
}

#[test]
fn mounts_whose_names_have_blanks_tabs_and_backslashes_are_unmounted() {
    let lines = mounted(&[r"/var/ours/a\040b", r"/var/ours/c\011d", r"/var/ours/e\134040f", r"/var/ours/g\012"]);
    let run = pi("unmount_below /var/ours/", "")
        .file("/proc/self/mountinfo", &lines)
        .on("umount*", ": >$R/proc/self/mountinfo")
        .run(None);
    let names = ["a b", "c\td", "e\\040f", "g\n"];
    assert!(names.iter().all(|name| run.calls.contains(&format!("umount -l /var/ours/{name}"))), "{:?}", run.calls);
}

#[test]
fn mounts_below_a_folder_whose_own_name_has_a_blank_are_seen() {
    let lines = mounted(&[r"/var/ou\040rs/a", r"/var/ou\040rs2/b", "/var/ou/c"]);
    let run = pi("mounts_below '/var/ou rs/'", "").file("/proc/self/mountinfo", &lines).run(None);
    assert_eq!(run.stdout, "/var/ou\\040rs/a\n");
}

#[test]
fn a_folder_that_is_itself_a_mount_point_is_unmounted() {
    let case = pi("own_folder h /var/ours\n/usr/bin/mkdir $R/var/ours\ngive_back h", "");
    let run = case.file("/proc/self/mountinfo", &mounted(&["/var/ours", "/var/ours2"])).run(None);
    assert!(run.called("umount -l /var/ours") && !run.called("umount -l /var/ours2"), "{:?}", run.calls);
}

#[test]
fn mounts_are_found_where_a_folder_is_named_through_a_link() {
    let case = pi("unmount_below /var/way/", "/usr/bin/ln -s ours $R/var/way; /usr/bin/mkdir $R/var/ours");
    let run = case.file("/proc/self/mountinfo", &mounted(&["/var/ours/a"])).run(None);
    assert!(run.called("umount -l /var/ours/a"), "{:?}", run.calls);
}

#[test]
fn a_folder_stays_whole_when_something_in_it_cannot_be_unmounted() {
    let body =
        "own_folder h /var/ours\n/usr/bin/mkdir -p \"$R/var/ours/a b\"\n: >\"$R/var/ours/a b/file\"\ngive_back h";
    let run = pi(body, "").file("/proc/self/mountinfo", &mounted(&[r"/var/ours/a\040b"])).refuses("these stay mounted");
    assert!(run.file("var/ours/a b/file").is_some());
}

#[test]
fn each_step_of_the_way_is_noticed_when_it_fails() {
    check(plan("enter /var/new make\nis_roots\nmkdir ./.x.bramble-new\nstep_in .x.bramble-new\nabandon /var/new/x"));
    check(
        plan("echo x >$R/var/x\nbeside /var/y\ncopy_here /var/x\nsettle /var/y")
            .may_fail("cp -p*", "a boot partition knows no owners"),
    );
    // What `give_back` does with an entry.
    for undo in ["undo_file", "undo_edit", "undo_folder"] {
        assert!(plan(&format!("E=/var/lib/bramble/ledger/none\n{undo}")).run(None).code != 0, "{undo}");
    }
}
