set --
for f in /boot/firmware/current/cmdline.txt /boot/firmware/cmdline.txt /boot/cmdline.txt; do [ ! -e "$f" ] || { set -- "$f"; break; }; done
for f in /boot/firmware/config.txt /boot/config.txt; do [ ! -e "$f" ] || { set -- "$@" "$f"; break; }; done
[ "$#" = 0 ] || texts "$@"
