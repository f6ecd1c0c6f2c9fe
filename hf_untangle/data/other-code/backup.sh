#!/usr/bin/env bash
# Copies folders to a disk that may be missing, keeps seven daily copies, and says what it did.

set -euo pipefail

target=${BACKUP_TARGET:-/mnt/backup}
keep=7
verbose=0

usage() {
    cat <<EOF
usage: $(basename "$0") [-v] [-k days] folder...

    -v        say what is copied
    -k days   how many copies to keep (default: $keep)
EOF
    exit 2
}

log() {
    printf '%s %s\n' "$(date +%H:%M:%S)" "$*" >&2
}

while getopts "vk:h" option; do
    case $option in
        v) verbose=1 ;;
        k) keep=$OPTARG ;;
        *) usage ;;
    esac
done
shift $((OPTIND - 1))
[ $# -gt 0 ] || usage

if ! mountpoint --quiet "$target"; then
    log "nothing is mounted at $target"
    exit 1
fi

today=$target/$(date +%Y-%m-%d)
mkdir -p "$today"

for folder in "$@"; do
    if [ ! -d "$folder" ]; then
        log "skipping $folder: no such folder"
        continue
    fi
    name=$(basename "$folder")
    previous=$(ls -1d "$target"/????-??-??/"$name" 2>/dev/null | tail -n 1 || true)
    options=(--archive --delete)
    [ "$verbose" -eq 1 ] && options+=(--verbose)
    [ -n "$previous" ] && options+=(--link-dest="$previous")
    rsync "${options[@]}" "$folder/" "$today/$name/"
    log "copied $folder ($(du -sh "$today/$name" | cut -f1))"
done

# Oldest first; all but the newest $keep go.
find "$target" -maxdepth 1 -type d -name '????-??-??' | sort | head -n "-$keep" | while read -r old; do
    log "removing $old"
    rm -rf -- "$old"
done
