#!/bin/sh
# Runs inside the Debian builder: compiles the programs of add-ons out of Go modules, lays out the file trees of their images,
# and writes the manifests that their projects publish.
. /build/library.sh

# Where the unpacked module is, once it is fetched and its digest compared.
unpacked() { # module path
    cd "$modules/$1"
    go mod download "$2"
    go list -m -f '{{.Dir}}' "$2"
}

# A module of which a part is left out: some mirrors lack what only that part needs.
cut() { # name path
    rm -rf "$modules/cut/$1"
    from=$(unpacked cut "$2")
    cp -r "$from" "$modules/cut/$1"
    cd "$modules/cut/$1"
    find . -name '*_test.go' -delete
}

# A package with nothing but this in it.
instead() { # folder package [declaration]
    rm -rf "$1"
    mkdir -p "$1"
    printf '// Package %s is left out.\npackage %s\n\n%s\n' "$2" "$2" "${3:-}" >"$1/none.go"
}

cut_modules() {
    # The issuer of Venafi.
    cut cert-manager github.com/cert-manager/cert-manager
    rm -rf pkg/issuer/venafi
    instead pkg/controller/certificaterequests/venafi venafi 'const CRControllerName = "certificaterequests-issuer-venafi"'
    instead pkg/controller/certificatesigningrequests/venafi venafi \
        'const CSRControllerName = "certificatesigningrequests-issuer-venafi"'
    # The providers of DNS that Traefik's own ACME can ask.
    cut lego github.com/go-acme/lego/v5
    find providers/dns -mindepth 1 -maxdepth 1 ! -name internal -exec rm -rf {} +
    cp "$modules/traefik/dns.go" providers/dns/
    # Traefik uses a fork of it with one function more.
    cut http-auth github.com/abbot/go-http-auth
    cp "$modules/traefik/stale.go" .
    # A cloud's routes, and the backend that needs a C compiler.
    cut flannel github.com/flannel-io/flannel
    instead pkg/backend/tencentvpc tencentvpc
    instead pkg/backend/udp udp
    # What an older version of it lacks of the one that MetalLB names; used only with FRR-K8s.
    cut frr-k8s github.com/metallb/frr-k8s
    field='PrefixesWithAsPathPrepend []AsPathPrependPrefixes `json:"withAsPathPrepend,omitempty"`'
    sed -i "s|^\tPrefixesWithCommunity .*|&\n\t$field|" api/v1beta1/frrconfiguration_types.go
    printf 'package v1beta1\n\ntype AsPathPrependPrefixes struct {\n\tAsPathPrepend uint8\n\tPrefixes []string\n}\n' >api/v1beta1/prepend.go
}

# The modules that are compiled, and what of each.
PROGRAMS='addons:tool cni:tool render:. cert-manager:. traefik:tool'

compile_all() {
    version=$(version_of cut github.com/cert-manager/cert-manager)
    for program in $PROGRAMS; do
        module=${program%%:*} flags=
        [ "$module" != cert-manager ] || flags="-X github.com/cert-manager/cert-manager/pkg/util.AppVersion=v$version"
        compile "$module" "$out/bin/$module" "$flags" "${program#*:}"
    done
}

image() { # name program place
    tree "$out/images/$1"
    mkdir -p "$(dirname "$out/images/$1$3")"
    cp "$out/bin/$2" "$out/images/$1$3"
}

lay_out() {
    echo "== laying out the images"
    image metallb-controller addons/controller /controller
    image metallb-speaker addons/speaker /speaker
    image metrics-server addons/metrics-server /metrics-server
    image local-path-provisioner addons/local-path-provisioner /usr/local/bin/local-path-provisioner
    image cert-manager cert-manager/bramble /cert-manager
    image traefik traefik/traefik /traefik
    image flannel-cni-plugin cni/flannel /flannel
    busybox "$out/images/flannel-cni-plugin"
    image flannel addons/flannel /opt/bin/flanneld
    cp "$out/bin/addons/install_conf" "$out/images/flannel/opt/bin/install-conf"
    mkdir -p "$out/images/flannel/usr/sbin" "$out/images/flannel/run"
    busybox "$out/images/flannel"
    closure "$out/images/flannel" /usr/sbin/xtables-nft-multi '/usr/lib/*/xtables/*.so'
    iptables_names "$out/images/flannel/usr/sbin"
    tree "$out/images/busybox"
    busybox "$out/images/busybox"

    echo "== writing the manifests"
    mkdir -p "$out/manifests"
    render=$out/bin/render/render
    from=$(unpacked addons go.universe.tf/metallb)
    cp "$from/config/manifests/metallb-native.yaml" "$out/manifests/metallb.yaml"
    from=$(unpacked addons github.com/rancher/local-path-provisioner)
    cp "$from/deploy/local-path-storage.yaml" "$out/manifests/local-path.yaml"
    from=$(unpacked cut github.com/flannel-io/flannel)
    # Its plugin is the last one that the Kubernetes project had, which speaks CNI 0.4.0 at most.
    sed 's/"cniVersion": "[0-9.]*"/"cniVersion": "0.4.0"/' "$from/Documentation/kube-flannel.yml" >"$out/manifests/flannel.yaml"
    grep -q '"cniVersion": "0.4.0"' "$out/manifests/flannel.yaml"
    from=$(unpacked traefik github.com/traefik/traefik/v3)
    cp "$from/docs/content/reference/dynamic-configuration/kubernetes-crd-definition-v1.yml" "$out/manifests/traefik.yaml"
    from=$(unpacked addons sigs.k8s.io/metrics-server)
    "$render" kustomize "$from/manifests/overlays/release" >"$out/manifests/metrics-server.yaml"
    version=$(version_of cut github.com/cert-manager/cert-manager)
    from=$(unpacked cut github.com/cert-manager/cert-manager)
    "$render" helm "$from/deploy/charts/cert-manager" cert-manager "v$version" crds.enabled >"$out/manifests/cert-manager.yaml"
}

case ${1:-all} in
all)
    rm -rf "$out"
    echo "== fetching the modules of the add-ons"
    cut_modules
    for program in $PROGRAMS; do packages "${program%%:*}" "${program#*:}"; done >/build/packages
    watched compile-all
    lay_out
    ;;
compile-all) compile_all ;;
esac
echo "== done"
