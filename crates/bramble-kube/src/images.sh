if command -v ctr >/dev/null && [ -S /run/containerd/containerd.sock ]; then ctr -n k8s.io images ls -q | while read -r v; do echo "image $v"; done; fi
