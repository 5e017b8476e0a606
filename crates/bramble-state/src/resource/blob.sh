if [ -f "$f" ] && s=$(stat -c '%s %Y %Z %i' -- "$f" 2>/dev/null); then
    r=; [ ! -r "$B/blobs.seen/$h" ] || IFS= read -r r <"$B/blobs.seen/$h" || :
    if [ "${r#* }" = "$s" ]; then printf 'blob %s %s\n' "${r%% *}" "$f"
    else d=$(sha256sum <"$f"); printf 'blob %s %s\n' "${d%% *}" "$f"
        if [ -d "$B" ]; then mkdir -p "$B/blobs.seen"; printf '%s %s\n' "${d%% *}" "$s" >"$B/blobs.seen/$h"; fi
    fi
fi
