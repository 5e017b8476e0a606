# What the scripts share that run inside the Debian builder: Go's settings, and how programs are compiled and laid out. Modules
# are in /build/modules, Go's own settings in /build/go.env, its caches in /build/go, and what is made goes to /build/out.
set -eu
export LC_ALL=C HOME=/root PATH="/usr/lib/go-1.26/bin:$PATH"
export GOENV=/build/go.env GOMODCACHE=/build/go/mod GOCACHE=/build/go/build GOTOOLCHAIN=local CGO_ENABLED=0
# /tmp is memory here, and not enough of it.
export GOTMPDIR=/build/tmp
mkdir -p "$GOTMPDIR"
export GOFLAGS='-trimpath -buildvcs=false -mod=readonly -modcacherw'
modules=/build/modules out=/build/out
# Where programs of Debian come from: its own tree, or one of another architecture.
debian=

# The version of what a module requires or names as a tool.
version_of() { # module path
    sed -n "s|^\(require\)\{0,1\}[[:space:]]*$2 v\([^ ]*\).*|\2|p" "$modules/$1/go.mod" | head -n 1
}

compile() { # module folder flags package…
    cd "$modules/$1"
    folder=$2 flags=$3
    shift 3
    mkdir -p "$folder"
    go build -v -o "$folder/" -ldflags "-s -w $flags" "$@"
}

# Shows what is compiled as a part of all packages: each tenth of them as a step.
progress() { # packages
    done=0 told=0
    while IFS= read -r line; do
        case $line in
        '#'* | *' '*) printf '%s\n' "$line"; continue ;;
        esac
        done=$((done + 1))
        percent=$((100 * done / $1))
        [ "$percent" -le 100 ] || percent=100
        step=
        if [ "$percent" -ge $((told + 10)) ]; then step='== ' told=$percent; fi
        printf '%s%d %% of %d packages compiled: %s\n' "$step" "$percent" "$1" "$line"
    done
}

packages() { # module what
    cd "$modules/$1"
    go list -deps -f "{{.ImportPath}} ${GOARCH:-}" "$2"
}

tree() { mkdir -p "$1/usr/local/bin" "$1/tmp" "$1/etc"; }

# Programs, each with the libraries it is linked to and what loads them, at their places.
closure() { # tree pattern…
    tree=$1
    shift
    for pattern in "$@"; do
        for file in $debian$pattern; do place "$tree" "${file#"$debian"}"; done
    done
}

place() { # tree file
    [ ! -e "$1$2" ] || return 0
    mkdir -p "$1$(dirname "$2")"
    cp -L "$debian$2" "$1$2"
    readelf -dl "$debian$2" 2>/dev/null | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p;s/.*program interpreter: \(.*\)\]/\1/p' |
        while read -r name; do
            case $name in
            /*) file=$debian$name ;;
            *) for file in "$debian"/usr/lib/*-linux-gnu/"$name"; do break; done ;;
            esac
            place "$1" "${file#"$debian"}"
        done
}

busybox() { # tree
    mkdir -p "$1/bin"
    cp "$debian/usr/bin/busybox" "$1/bin/"
    for applet in $(/bin/busybox --list); do
        [ "$applet" = busybox ] || ln -s busybox "$1/bin/$applet"
    done
}

iptables_names() { # folder
    for name in iptables iptables-save iptables-restore ip6tables ip6tables-save ip6tables-restore; do
        ln -s xtables-nft-multi "$1/$name"
    done
}

# Compiles in a shell of its own, whose failure the pipe behind it would hide.
watched() { # what, with its arguments
    rm -f /build/compiled
    all=$(sort -u /build/packages | wc -l)
    { "$0" "$@" && : >/build/compiled; } 2>&1 | progress "$all"
    [ -e /build/compiled ]
}
