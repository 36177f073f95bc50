# Shared by the scripts beside this folder: the Python environments of this checkout. POSIX sh; sourced, never run.
#
# An environment is whole when its file `.made-from` is, byte for byte, the lock that it should hold; that file is
# emptied before anything else is touched and written last. So a whole environment costs one `cmp` to recognise, and
# one that was killed half-way, or that belongs to an older lock, is made again. How it is made: environment.py.
# Expects `root`, the root of the checkout.
# shellcheck shell=sh disable=SC2154

say() {
    printf '%s\n' "$*" >&2
}

# usable_python: sets `found` to a Python that can make the environment, or says in one line what is missing.
usable_python() {
    if [ -n "${PYTHON:-}" ]; then
        set -- "$PYTHON"
    else
        set -- python3.13 python3.12 python3.11 python3 python3.14 python3.15 python
    fi
    seen=
    incomplete=
    for found in "$@"; do
        # The version is printed before the imports are tried, in words that Python 2 knows too.
        if version=$("$found" -c 'import sys
print("%d.%d.%d" % sys.version_info[:3])
sys.stdout.flush()
import ensurepip, venv' 2>/dev/null); then complete=yes; else complete=no; fi
        case $version in
            3.1[1-9].* | 3.[2-9][0-9].*)
                [ "$complete" = no ] || return 0
                incomplete=${incomplete:-$found ${version%.*}}
                ;;
            [0-9]*) seen="${seen:+$seen, }$found is $version" ;;
        esac
    done
    if [ -n "$incomplete" ]; then
        say "Python ${incomplete#* } (${incomplete% *}) lacks venv or ensurepip. Try: install them" \
            "(Debian and Ubuntu: apt install python${incomplete#* }-venv)."
    elif [ -n "${PYTHON:-}" ]; then
        say "PYTHON=$PYTHON is not a Python 3.11 or later${seen:+ ($seen)}." \
            "Try: PYTHON=/path/to/python3.12, or leave PYTHON unset."
    else
        say "No Python 3.11 or later found${seen:+ ($seen)}." \
            "Try: install one, or name it with PYTHON=/path/to/python3.12."
    fi
    return 2
}

# environment PLACE LOCK SETTING: sets `python` to that of the environment in PLACE, which is made first unless it holds
# exactly what LOCK pins. SETTING is the variable that names another place. All talk goes to stderr.
environment() {
    case $1 in /*) ;; *) set -- "$PWD/$1" "$2" "$3" ;; esac
    python=$1/bin/python
    if [ -x "$python" ] && cmp -s "$1/.made-from" "$2" 2>/dev/null; then
        return 0
    fi
    usable_python || return
    # Beside this shell, which a signal reaches at once then; what was begun is ended before this shell ends.
    made=0 stopped=0 maker=
    trap 'stopped=130; [ -z "$maker" ] || kill -TERM "$maker" 2>/dev/null' INT
    trap 'stopped=143; [ -z "$maker" ] || kill -TERM "$maker" 2>/dev/null' TERM
    "$found" -I "$root/scripts/lib/environment.py" "$1" "$2" "$3" >&2 &
    maker=$!
    [ "$stopped" = 0 ] || kill -TERM "$maker" 2>/dev/null || :
    wait "$maker" || made=$?
    if [ "$stopped" != 0 ]; then
        wait "$maker" 2>/dev/null || : # the first wait ended with the signal
        exit "$stopped"
    fi
    trap - INT TERM
    return "$made"
}
