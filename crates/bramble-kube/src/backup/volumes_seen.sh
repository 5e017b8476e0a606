# What a node wrote down of its volumes.
if [ -s /var/lib/bramble/backups-volumes/saved ]; then
    {
        read -r s _ _ c
        echo "volumes-saved $(($(date +%s) - s)) $s $c"
        while read -r l; do echo "volumes-failed $l"; done
    } </var/lib/bramble/backups-volumes/saved
fi
