while read -r s p; do
    e=any w=hide
    expected "$p"
    printf 'sha %s %s\n' "$s" "$p"
    # What a link leads to may be what only root can read, and its owner another user.
    if [ "$w" = show ] && [ "$s" != "$e" ] && [ ! -L "$p" ]; then printf 'content %s ' "$p"; base64 -w0 <"$p"; echo; fi
done
