while read -r s p; do
    e=any w=hide
    expected "$p"
    printf 'sha %s %s\n' "$s" "$p"
    if [ "$w" = show ] && [ "$s" != "$e" ]; then printf 'content %s ' "$p"; base64 -w0 <"$p"; echo; fi
done
