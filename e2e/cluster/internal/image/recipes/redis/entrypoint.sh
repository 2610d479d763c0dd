#!/bin/sh
# Behaves like the entrypoint of the official image: options alone start the server, root becomes the user redis, and
# without a configuration that says otherwise the server answers to other hosts.
set -e

if [ "${1#-}" != "$1" ] || [ "${1%.conf}" != "$1" ]; then
    set -- redis-server "$@"
fi
if [ "$1" = redis-server ]; then
    if [ "$(id -u)" = 0 ]; then
        find . \! -user redis -exec chown redis '{}' +
        exec setpriv --reuid=redis --regid=redis --clear-groups "$0" "$@"
    fi
    # Debian's server protects itself against other hosts by default, the official image's does not.
    case "$* $(cat "$2" 2>/dev/null || true)" in
        *protected-mode*) ;;
        *) set -- "$@" --protected-mode no ;;
    esac
fi
exec "$@"
