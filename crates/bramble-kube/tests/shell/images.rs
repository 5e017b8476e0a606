//! Which images containerd has: `images.sh`.

use super::*;

fn images() -> Case {
    Case::new("", include_str!("../../src/images.sh"))
        .on("ctr*images ls -q", "printf '%s\\n' docker.io/a:1 b@sha256:00")
}

#[test]
fn images_are_told_where_containerd_runs() {
    let socket = "/run/containerd/containerd.sock";
    let run =
        check(images().socket(socket).may_fail("ctr*", "the plan starts containerd, and imports what is unknown"));
    assert_eq!(run.stdout, "image docker.io/a:1\nimage b@sha256:00\n");
    assert_eq!(images().run(None).stdout, "");
    assert_eq!(images().socket(socket).without("ctr").run(None).stdout, "");
    let silent = images().socket(socket).before_all("ctr*", "echo 'half/a:1'; false").run(None);
    assert_eq!((silent.code, silent.stdout.as_str()), (0, ""));
}
