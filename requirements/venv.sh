#!/bin/sh
# Makes the virtual environment $1 with the first of the supported Pythons that works, or with the interpreter given as $2.
# One that already runs here (and is of the version asked for) is kept. Run from the repository root.
set -eu

# The whole suite runs on 3.12 and 3.11; on 3.13, start and training.
supported="3.12 3.13 3.11"
needed="Python 3.11, 3.12 or 3.13"
venv="$1"

# version_of CANDIDATE: prints e.g. 3.12 when the candidate runs and can make virtual environments.
# A name on PATH proves nothing: version managers put shims there for interpreters that are not installed.
# What else it prints, as a wrapper or a site's start-up file may, is dropped.
version_of() {
    answer="$("$1" -c 'import ensurepip, sys, venv; print("<%d.%d>" % sys.version_info[:2])' 2>/dev/null)" || return 0
    case "$answer" in
        *"<"*">"*)
            answer="${answer##*<}"
            echo "${answer%%>*}"
            ;;
    esac
}

find_python() {
    for version in $supported; do
        for candidate in "python$version" python3 python \
            "$HOME"/.pyenv/versions/"$version"*/bin/"python$version" \
            "$HOME"/.local/bin/"python$version" \
            "$HOME"/.local/share/uv/python/cpython-"$version"*/bin/"python$version" \
            /usr/bin/"python$version" /usr/local/bin/"python$version" /opt/homebrew/bin/"python$version"; do
            if [ "$(version_of "$candidate")" = "$version" ]; then
                echo "$candidate"
                return
            fi
        done
    done
}

asked="${2:-}"
if [ -n "$asked" ]; then
    version="$(version_of "$asked")"
    case " $supported " in
        *" ${version:-none} "*) python="$asked" ;;
        *)
            if [ -n "$version" ]; then what="Python $version"; else what="not a working Python with venv"; fi
            echo "setup: PYTHON=$asked is $what; $needed is needed" >&2
            exit 2
            ;;
    esac
fi

if [ -x "$venv/bin/python" ] && [ "$(cat "$venv/.stamp" 2>/dev/null || pwd -P)" = "$(pwd -P)" ]; then
    present="$(version_of "$venv/bin/python")"
    case " $supported " in
        *" ${present:-none} "*)
            if [ -z "$asked" ] || [ "$present" = "$version" ]; then
                exit 0
            fi
            ;;
    esac
fi

if [ -z "$asked" ]; then
    python="$(find_python)"
    if [ -z "$python" ]; then
        echo "setup: no working $needed with venv found; install one (Debian, Ubuntu: apt install python3.12-venv)" \
            "or name it: make setup PYTHON=/path/to/python3.12" >&2
        exit 2
    fi
fi
echo "setup: making $venv with $("$python" -c 'import platform, sys; print("Python", platform.python_version(), "at", sys.executable)')" >&2
"$python" -m venv --clear "$venv"
