#!/bin/bash
# Behaves like the entrypoint of the official image towards its environment: POSTGRES_USER, POSTGRES_PASSWORD,
# POSTGRES_DB, POSTGRES_INITDB_ARGS, POSTGRES_HOST_AUTH_METHOD, each also as NAME_FILE, and PGDATA; the scripts in
# /docker-entrypoint-initdb.d run once, on an empty data folder.
#
# It differs in one thing: there is always a socket in /tmp, so that the root file system may be read-only.
set -Eeuo pipefail

value_of() { # NAME DEFAULT
    local file="$1_FILE"
    if [[ -n ${!1:-} && -n ${!file:-} ]]; then
        echo >&2 "error: both $1 and $file are set; set one of them"
        exit 1
    elif [[ -n ${!file:-} ]]; then
        cat "${!file}"
    else
        echo "${!1:-$2}"
    fi
}

socket_folders() {
    if [[ -w /var/run/postgresql ]]; then echo /tmp,/var/run/postgresql; else echo /tmp; fi
}

initialize() {
    local user password database method
    user=$(value_of POSTGRES_USER postgres)
    password=$(value_of POSTGRES_PASSWORD '')
    database=$(value_of POSTGRES_DB "$user")
    method=$(value_of POSTGRES_HOST_AUTH_METHOD scram-sha-256)
    if [[ -z $password && $method != trust ]]; then
        echo >&2 "error: the database is new and has no password; set POSTGRES_PASSWORD"
        echo >&2 "(or POSTGRES_HOST_AUTH_METHOD=trust, which lets everyone in)"
        exit 1
    fi
    # The password goes through a pipe, so it is in no file and no command line.
    eval 'initdb --username="$user" --pwfile=<(printf "%s\n" "${password:-unused}") '"$(value_of POSTGRES_INITDB_ARGS '')"
    printf '\nhost all all all %s\n' "$method" >>"$PGDATA/pg_hba.conf"

    # Nobody else gets in before the scripts have run: no TCP port, and the only socket is in the data folder.
    pg_ctl --pgdata="$PGDATA" --wait start -o "-c listen_addresses='' -c unix_socket_directories='$PGDATA'"
    export PGPASSWORD=$password
    local -a sql=(psql -v ON_ERROR_STOP=1 --no-psqlrc --host="$PGDATA" --username="$user")
    if [[ $database != postgres ]]; then
        "${sql[@]}" --dbname=postgres -v name="$database" <<<'CREATE DATABASE :"name";'
    fi
    local script
    for script in /docker-entrypoint-initdb.d/*; do
        [[ -e $script ]] || continue
        echo "$0: running $script"
        case $script in
            *.sh)
                if [[ -x $script ]]; then
                    PGHOST=$PGDATA POSTGRES_USER=$user POSTGRES_DB=$database "$script"
                else
                    PGHOST=$PGDATA POSTGRES_USER=$user POSTGRES_DB=$database . "$script"
                fi
                ;;
            *.sql) "${sql[@]}" --dbname="$database" --file="$script" ;;
            *.sql.gz) gunzip -c "$script" | "${sql[@]}" --dbname="$database" ;;
            *) echo "$0: ignoring $script" ;;
        esac
    done
    unset PGPASSWORD
    pg_ctl --pgdata="$PGDATA" --mode=fast --wait stop
    echo "PostgreSQL is initialized and ready to start."
}

if [[ ${1:-} == -* ]]; then
    set -- postgres "$@"
fi
if [[ ${1:-} == postgres ]]; then
    if [[ $(id -u) == 0 ]]; then
        mkdir -p "$PGDATA"
        chown -R postgres:postgres "$PGDATA"
        exec setpriv --reuid=postgres --regid=postgres --init-groups "$BASH_SOURCE" "$@"
    fi
    mkdir -p "$PGDATA"
    chmod 0700 "$PGDATA" 2>/dev/null || true # A mounted volume may belong to root and be open by its group.
    if [[ ! -s $PGDATA/PG_VERSION ]]; then
        initialize
    fi
    shift
    set -- postgres -c listen_addresses='*' -c unix_socket_directories="$(socket_folders)" "$@"
fi
exec "$@"
