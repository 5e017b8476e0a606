# Keeps all cores of a board busy, as a unit of its own whose end ends all of it. Takes seconds, the limit in thousandths of a
# degree Celsius, and a folder. Ends with the time, at the limit, and when nobody has asked for 15 s: who wanted to know is gone.
n=$(nproc)
i=0
while [ "$i" -lt "$n" ]; do
    sha256sum /dev/zero &
    i=$((i + 1))
done
begun=$(cut -d . -f 1 /proc/uptime)
why='time'
while :; do
    sleep 1
    now=$(cut -d . -f 1 /proc/uptime)
    [ "$((now - begun))" -lt "$1" ] || break
    asked=$(cat "$3/asked")
    if [ "$((now - asked))" -gt 15 ]; then why=alone; break; fi
    t=$(cat /sys/class/thermal/thermal_zone*/temp 2>/dev/null | sort -n | tail -n 1)
    if [ -n "$t" ] && [ "$t" -ge "$2" ]; then why=limit; break; fi
done
echo "$why" >"$3/ended"
