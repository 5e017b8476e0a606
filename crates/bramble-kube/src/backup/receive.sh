# A folder that takes backups over SFTP. Takes nothing; defines: receive_backups.

# Its user can do nothing else. A folder that has something in it is somebody's.
receive_backups() { # folder
    getent passwd bramble-backup >/dev/null || useradd --system --no-create-home --home-dir /nonexistent --shell /usr/bin/false --password '*' bramble-backup
    [ -d "$1" ] || mkdir -p "$1"
    o=$(stat -c %U "$1")
    if [ "$o" != bramble-backup ]; then
        f=$(ls -A "$1")
        [ -z "$f" ] || { echo "$1 holds files of $o: name a folder for backups alone" >&2; return 1; }
    fi
    chown bramble-backup: "$1"
    chmod 700 "$1"
}
