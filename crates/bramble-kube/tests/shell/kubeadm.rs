//! The library of kubeadm.

use super::*;

const RUNNING: &str = "printf 'TASK PID STATUS\\nc1 7 RUNNING\\n'";

/// Containers that end when they are killed.
fn with_containers(case: Case) -> Case {
    let killed = format!("[ -e \"$R/killed\" ] || {RUNNING}");
    case.on("ctr*containers ls -q labels*", "echo c1")
        .on("ctr*containers ls -q id*", "echo c1")
        .on("ctr*containers ls -q", "echo c1")
        .on("ctr*tasks ls -q", "echo c1")
        .on("ctr*containers info*", "echo '\"io.kubernetes.container.name\": \"etcd\",'")
        .on("ctr*tasks ls", &killed)
        .on("ctr*tasks kill -s KILL*", ": >\"$R/killed\"")
}

#[test]
fn nodes_are_forgotten() {
    let case = kubeadm("forget_node n2 10.0.0.2").says(
        "kubectl*member list",
        "8e9e05c52164694d, started, n2, https://10.0.0.2:2380, https://10.0.0.2:2379, false",
    );
    assert!(check(case).called("kubectl*member remove 8e9e05c52164694d"));
    check(kubeadm("etcd_ctl endpoint health"));
    assert_eq!(
        kubeadm("if was_member; then echo yes; fi").file("/etc/kubernetes/kubelet.conf", "").run(None).stdout,
        "yes\n"
    );
}

#[test]
fn a_reset_takes_the_containers_as_far_as_it_can() {
    let case = || {
        with_pods(with_containers(kubeadm("reset_kubernetes")))
            .socket("/run/containerd/containerd.sock")
            .file("/etc/kubernetes/admin.conf", "")
            .file("/var/lib/etcd/member/x", "")
            .file("/etc/systemd/logind.conf.d/99-kubelet.conf", "")
            .best_effort("systemctl kill -s HUP systemd-logind")
            .may_fail("rmdir /etc/systemd/logind.conf.d", "others have something there")
    };
    let fine = case().best_effort("ctr*").best_effort("rm -f /run/bramble/ending").best_effort("mkdir -p /run/bramble");
    // The folder for notes is needed by what follows: only that says so.
    let run = fine.run(None);
    assert!(run.code == 0 && run.called("ctr*containers rm c1"), "{}", run.stderr);
    assert!(run.file("etc/kubernetes/admin.conf").is_none() && run.file("var/lib/etcd/member/x").is_none());
    assert!(run.file("etc/systemd/logind.conf.d/99-kubelet.conf").is_none());
    check(empty(kubeadm("reset_kubernetes")));
    let broken = with_pods(kubeadm("reset_kubernetes").on("ctr*", "echo 'no containerd' >&2; false"))
        .socket("/run/containerd/containerd.sock")
        .run(None);
    assert_eq!(broken.code, 0, "{}", broken.stderr);
    assert!(broken.stdout.contains("@tried 1 end the containers"));
    check(with_containers(kubeadm("end_containers")).best_effort("ctr*tasks rm*").best_effort("ctr*containers rm*"));
}

#[test]
fn containers_end_or_it_says_which_do_not() {
    let file = ("/run/bramble/ending", "c1\n");
    check(with_containers(kubeadm("kill_containers /run/bramble/ending")).file(file.0, file.1));
    let stubborn = kubeadm("kill_containers /run/bramble/ending").file(file.0, file.1).on("ctr*tasks ls", RUNNING);
    stubborn.refuses("these containers do not end:\nc1");
    check(with_containers(kubeadm("restart_system etcd")).best_effort("ctr*TERM*"));
    check(with_containers(kubeadm("stop_kubernetes")));
    assert_eq!(check(with_containers(kubeadm("system_containers"))).stdout, "c1\n");
    assert_eq!(check(with_containers(kubeadm("system_containers etcd"))).stdout, "c1\n");
    assert_eq!(check(with_containers(kubeadm("system_containers kube-apiserver"))).stdout, "");
    let gone =
        kubeadm("system_containers").on("ctr*containers ls -q labels*", "echo c1").on("ctr*containers info*", "false");
    assert_eq!(gone.run(None).code, 0);
    check(with_containers(kubeadm("renew_certificates")).best_effort("ctr*TERM*"));
}

#[test]
fn it_begins_a_cluster_or_joins_one() {
    let init = || {
        kubeadm("kubeadm_init --upload-certs addon/coredns 10.0.0.1 ''")
            .file("/run/bramble/kubeadm.yaml", "x")
            .file("/etc/kubernetes/pki/ca.crt", "x")
            .file("/var/lib/bramble/done/", "")
            .file("/var/lib/bramble/pending/", "")
            .on("openssl pkey*", ": >$R/run/bramble/ca.der")
            .says("kubectl*cluster-info*", "jws-kubeconfig-abcdef")
    };
    let case = init()
        .on("kubeadm init --config*", "echo '[kubelet-finalize] x'; echo 'token abcdef.0123456789abcdef'; echo good");
    let run = check(case.clone().may_fail("kubectl*cluster-info*", "those who join wait for it as well"));
    assert!(run.stdout.contains("@fact joinable yes\n[kubelet-finalize] x\ngood\n"), "{}", run.stdout);
    let failed = init().on("kubeadm init --config*", "echo why; exit 3").refuses("why");
    assert!(failed.stdout.contains("the last lines of kubelet:"));
    assert!(failed.file("var/lib/bramble/done/ca-hash").is_none());
    check(kubeadm("kubeadm_join").file("/run/bramble/kubeadm.yaml", "x"));
    assert_eq!(kubeadm("printf 'a\\nexit 3\\n' | tell_progress").run(None).code, 3);
}

#[test]
fn plugins_are_linked_beside_those_that_are_there() {
    let run = check(
        kubeadm("link_plugins /var/cni /var/bin")
            .file("/var/cni/bridge", "Debian's")
            .file("/var/cni/flannel", "Debian's")
            .file("/var/bin/flannel", "flannel's own"),
    );
    assert!(run.called("ln -sfn /var/cni/bridge /var/bin/") && !run.called("ln*flannel*"), "{:?}", run.calls);
}

#[test]
fn tokens_are_made_and_taken_back() {
    let run = check(kubeadm("tell_token").says("kubeadm token create*", "abcdef.0123456789abcdef"));
    assert_eq!(run.stdout, "@fact token abcdef.0123456789abcdef\n");
    kubeadm("tell_token").refuses("kubeadm gives no token");
    check(kubeadm("upload_certificates").file("/run/bramble/kubeadm.yaml", ""));
    let run = check(kubeadm("forget_tokens").says("kubectl*get secrets*", "bootstrap-token-abcdef"));
    assert!(run.called("kubectl*delete secret bootstrap-token-abcdef*"));
}

#[test]
fn it_goes_to_another_version() {
    let run = check(kubeadm("kubeadm_upgrade apply 1.36.1 ImagePull /patches"));
    assert!(run.called("kubectl*delete deployment,configmap coredns*"));
    assert!(run.called("kubeadm upgrade apply v1.36.1 --yes --patches /patches --ignore-preflight-errors=ImagePull"));
    let dns = kubeadm("kubeadm_upgrade apply 1.36.1 ImagePull /patches")
        .says("kubectl*get deployment*", "deployment/coredns");
    assert!(!check(dns).called("kubectl*delete*"));
    let run = check(kubeadm("kubeadm_upgrade node 1.36.1 SystemVerification,ImagePull /patches"));
    assert!(
        run.called("kubeadm upgrade node --patches /patches --ignore-preflight-errors=SystemVerification,ImagePull")
    );
}

#[test]
fn the_cluster_hears_the_tags_of_another_bundle() {
    const OLD: &str = "apiServer: {}\ndns:\n  imageTag: v1.14.2\netcd:\n  local:\n    dataDir: /srv/etcd\n    imageTag: 3.6.8-0\nkind: ClusterConfiguration\n";
    for (tags, etcd, dns) in [("3.7.3-0 v1.14.7", "3.7.3-0", "v1.14.7"), ("3.7.3-0 ''", "3.7.3-0", "v1.14.2")] {
        let told = format!("printf '{}'", OLD.replace('\n', "\\n"));
        let case = kubeadm(&format!("set_image_tags {tags}"))
            .on("kubectl*get configmap kubeadm-config*", &told)
            .on("kubectl*create configmap*", "cat \"$R/run/bramble/config/ClusterConfiguration\" >\"$R/seen\"");
        let run = check(case);
        let seen = run.file("/seen").unwrap_or_default();
        assert_eq!(seen, OLD.replace("3.6.8-0", etcd).replace("v1.14.2", dns));
        assert!(run.called("kubectl*replace -f /run/bramble/config/new.yaml"));
    }
}

#[test]
fn its_state_is_saved_and_comes_back() {
    let pki = |case: Case| {
        ["ca.crt", "front-proxy-ca.crt", "sa.key", "etcd/ca.crt"]
            .into_iter()
            .fold(case, |case, name| case.file(&format!("/etc/kubernetes/pki/{name}"), "x"))
    };
    let save = pki(kubeadm("snapshot_state /run/bramble"))
        .file("/var/lib/etcd/x", "")
        .on("kubectl*snapshot save*", "echo x >$R/var/lib/etcd/bramble.db");
    assert!(check(save).file("run/bramble/etcd.db").is_some());
    let unpack = || {
        kubeadm("unpack_state /run/bramble/b.tgz 10.0.0.1")
            .on("tar*", ":")
            .says("kubeadm config images list*", "registry.k8s.io/etcd:3.6.5-0")
            .may_fail("ctr*containers rm*", "there is none")
    };
    check(unpack().may_fail("ctr*run*etcdutl*", "then the older program does it"));
    check(unpack().says("ctr*images ls -q", "registry.k8s.io/etcd:3.6.5-0").may_fail("ctr*run*etcdutl*", "the same"));
    unpack().on("ctr*run*", "echo it is damaged; false").refuses("it is damaged");
    kubeadm("unpack_state a b").on("tar*", ":").refuses("kubeadm names no image of etcd");
    let place = kubeadm("place_state /run/bramble/b.tgz")
        .file("/var/lib/bramble/restore/pki/ca.crt", "x")
        .file("/var/lib/bramble/restore/pki/etcd/ca.crt", "x")
        .file("/var/lib/bramble/restore/out/etcd/member/x", "x");
    assert!(check(place).file("var/lib/etcd/member/x").is_some());
}

#[test]
fn settings_of_a_node_reach_programs_that_run() {
    let run = check(
        kubeadm("pod_patches /etc/bramble/kubeadm kube-apiserver '[1]' kube-scheduler '[2]'")
            .file("/etc/bramble/kubeadm/kube-controller-manager+json.json", "[0]")
            .file("/etc/bramble/kubeadm/kubeletconfiguration+merge.json", "{}"),
    );
    let patch = |name: &str| run.file(&format!("/etc/bramble/kubeadm/{name}.json"));
    assert_eq!(patch("kube-apiserver+json").as_deref(), Some("[1]\n"));
    assert_eq!(patch("kube-scheduler+json").as_deref(), Some("[2]\n"));
    assert_eq!(patch("kube-controller-manager+json"), None);
    assert_eq!(patch("kubeletconfiguration+merge").as_deref(), Some("{}"));
    let settings = |patches: &str| {
        kubeadm(&format!("pod_patches /etc/bramble/kubeadm {patches}\nkubeadm_settings /etc/bramble/kubeadm"))
            .file("/etc/kubernetes/tmp/x", "")
            .file("/etc/kubernetes/manifests/kube-apiserver.yaml", "")
    };
    let plane = check(settings("kube-apiserver '[1]'"));
    assert!(plane.called(
        "kubeadm upgrade node phase control-plane --certificate-renewal=false --etcd-upgrade=false --patches /etc/bramble/kubeadm"
    ));
    assert!(plane.called("kubeadm upgrade node phase kubelet-config --patches /etc/bramble/kubeadm"));
    assert!(plane.called("systemctl restart kubelet") && plane.file("/etc/kubernetes/tmp/x").is_none());
    // What somebody has edited in the pods' manifests is not written over for nothing.
    assert!(!check(settings("")).called("kubeadm*control-plane*"));
    let gone = settings("").file("/etc/bramble/kubeadm/kube-scheduler+json.json", "[0]");
    assert!(check(gone).called("kubeadm*control-plane*"), "what was patched goes back");
}

#[test]
fn etcd_has_its_further_flags_in_its_manifest() {
    const MANIFEST: &str = "/etc/kubernetes/manifests/etcd.yaml";
    const OLD: &str =
        "spec:\n  containers:\n  - command:\n    - etcd\n    - --name=n1\n    - --snapshot-count=9\n    image: etcd\n";
    let etcd = |patches: &str, flags: &str| {
        kubeadm(&format!("pod_patches /etc/bramble/kubeadm {patches}\n[ -z \"$patched\" ] && etcd_settings {flags}"))
            .file("/etc/bramble/kubeadm/etcd+json.json", "[{\"value\":\"--snapshot-count=9\"}]")
            .file(MANIFEST, OLD)
            .may_fail("cmp*", "what cannot be compared counts as new")
    };
    let run = check(
        etcd("etcd '[9]'", "--backend-batch-interval=5s")
            .says("pgrep*", "1")
            .file("/proc/1/cmdline", "etcd\0--name=n1\0--backend-batch-interval=5s\0"),
    );
    let text = OLD
        .replace("    - --snapshot-count=9\n", "")
        .replace("- etcd\n", "- etcd\n    - --backend-batch-interval=5s\n");
    assert_eq!(run.file(MANIFEST), Some(text));
    assert!(run.file("/etc/kubernetes/etcd.new").is_none());
    // What is there already does not start it anew.
    let there = OLD.replace("    - --snapshot-count=9\n", "").replace("- etcd\n", "- etcd\n    - --snapshot-count=9\n");
    let same = check(
        etcd("etcd '[9]'", "--snapshot-count=9")
            .file(MANIFEST, &there)
            .says("pgrep*", "1")
            .file("/proc/1/cmdline", "etcd\0--snapshot-count=9\0"),
    );
    assert!(!same.called("pgrep*"));
    // They go as they came.
    let gone = check(etcd("", "").says("pgrep*", "1").file("/proc/1/cmdline", "etcd\0--name=n1\0"));
    assert_eq!(gone.file(MANIFEST), Some(OLD.replace("    - --snapshot-count=9\n", "")));
    assert!(gone.file("/etc/bramble/kubeadm/etcd+json.json").is_none());
}
