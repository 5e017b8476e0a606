    s=$(stat -L -c '%s %Y %Z %i' -- "$f" 2>/dev/null) || continue
    h=$B/certificates.seen/$(printf %s "$f" | tr / _)
    r=; [ ! -r "$h" ] || IFS= read -r r <"$h" || :
    if [ "${r#* }" != "$s" ]; then
        e=$(openssl x509 -noout -enddate -in "$f" 2>/dev/null) || continue
        r="$(date -d "${e#*=}" +%s) $s"
        if [ -d "$B" ]; then mkdir -p "$B/certificates.seen"; printf '%s\n' "$r" >"$h"; fi
    fi
    printf 'certificate %s %s\n' "${r%% *}" "$f"
done
