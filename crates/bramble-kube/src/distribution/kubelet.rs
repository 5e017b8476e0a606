//! What the kubelet of every distribution is told of boards that go off.

use bramble_state::File;
use serde_json::json;

/// A board that is told to halt or to boot ends its pods first, those of the system last (kubernetes.io, "Node Shutdowns").
/// Debian's unattended-upgrades lets nobody have more than 30 s.
pub(super) const GRACE: [(&str, &str); 2] =
    [("shutdownGracePeriod", "30s"), ("shutdownGracePeriodCriticalPods", "10s")];

/// The folder of what a distribution's own configuration of its kubelet is to have besides.
const FOLDER: &str = "/etc/bramble/kubelet.d";

/// Gives the file that says so to a kubelet that is told where it is: [`argument`].
pub(super) fn drop_in() -> File {
    let mut whole = json!({ "apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration" });
    for (name, value) in GRACE {
        whole[name] = json!(value);
    }
    File::new(format!("{FOLDER}/shutdown.conf"), format!("{whole:#}\n"))
}

/// Says to a kubelet where the file is, as `flag=value`. There is no flag for what is in it.
pub(super) fn argument() -> String {
    format!("config-dir={FOLDER}")
}
