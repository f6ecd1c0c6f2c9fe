#!/bin/sh
# Builds a web site, uploads it under a new name, and switches a link when it answers.

set -eu

host="${1:?usage: deploy.sh host [branch]}"
branch="${2:-main}"
release="$(date -u +%Y%m%d%H%M%S)"
root=/srv/www
attempts=10

echo "==> building $branch"
git fetch --quiet origin "$branch"
git checkout --quiet --detach FETCH_HEAD
if [ -f package-lock.json ]; then
    npm ci --silent
else
    npm install --silent
fi
npm run build

echo "==> uploading release $release"
ssh "$host" "mkdir -p '$root/releases/$release'"
tar -C dist -czf - . | ssh "$host" "tar -C '$root/releases/$release' -xzf -"

echo "==> checking"
ssh "$host" "cp -n '$root/shared/env' '$root/releases/$release/.env' && systemctl restart preview@$release"
i=0
until curl --fail --silent --output /dev/null "https://$host/preview/health"; do
    i=$((i + 1))
    if [ "$i" -ge "$attempts" ]; then
        echo "release $release does not answer after $attempts attempts" >&2
        exit 1
    fi
    sleep 2
done

echo "==> switching"
ssh "$host" sh -s <<REMOTE
    set -e
    ln -sfn "$root/releases/$release" "$root/current.new"
    mv -T "$root/current.new" "$root/current"
    cd "$root/releases"
    ls -1 | sort -r | tail -n +6 | xargs -r rm -rf
REMOTE

for path in / /about /feed.xml; do
    status=$(curl --silent --output /dev/null --write-out '%{http_code}' "https://$host$path")
    echo "$status $path"
done
