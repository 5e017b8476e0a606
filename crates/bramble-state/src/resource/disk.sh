if [ ! -b "$f" ]; then echo "disk $f missing"; else
    r=0; v=$(blkid -p -o export "$f" 2>/dev/null) || r=$?
    t=; l=
    while IFS="=" read -r k x; do case $k in TYPE) t=$x ;; PTTYPE) t=${t:-a partition table}; ;; LABEL) l=$x ;; esac; done <<B
$v
B
    if [ "$r" = 2 ] && [ -z "$v" ]; then echo "disk $f blank"; else echo "disk $f ${t:-something} $l"; fi
    i=$(attempt disk_identity "$f")
    echo "disk-is $f $i"
fi
