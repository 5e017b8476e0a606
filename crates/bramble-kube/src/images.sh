# A containerd that does not answer is started by the plan, which then imports what it does not know of.
if command -v ctr >/dev/null && [ -S /run/containerd/containerd.sock ]; then
    all=$(ctr -n k8s.io images ls -q) || all=
    # shellcheck disable=SC2086 # They are names.
    [ -z "$all" ] || printf 'image %s\n' $all
fi
