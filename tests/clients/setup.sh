#!/bin/sh
# Brings the clients that the end-to-end tests drive, if they are missing. Needs root only for what apt must install.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
venv=$here/../.venv

missing=
need() { # need COMMAND PACKAGE...: the Debian packages are missing unless the command is there
    command -v "$1" >/dev/null 2>&1 || { shift; missing="$missing $*"; }
}

install_missing() { # all at once: what apt does besides takes longer than the packages
    [ -n "$missing" ] || return 0
    if [ "$(id -u)" != 0 ]; then
        echo "missing:$missing — run as root: apt-get install --no-install-recommends$missing" >&2
        exit 3
    fi
    echo "installing$missing (apt)"
    apt-get update -qq
    # shellcheck disable=SC2086 # a list
    DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $missing >/dev/null
}

need mosquitto_sub mosquitto-clients
need python3 python3 python3-venv
need node nodejs
need npm npm
need openssl openssl
need chromium chromium
need certutil libnss3-tools
# Debian splits venv from python3, and says so only when asked for a venv with pip in it.
python3 -c 'import ensurepip' 2>/dev/null || need no-such-command python3-venv
install_missing

if ! cmp -s "$here/requirements.txt" "$venv/requirements.txt"; then
    echo "installing paho-mqtt into tests/.venv (pip)"
    python3 -m venv --clear "$venv"
    "$venv/bin/pip" install -q --disable-pip-version-check -r "$here/requirements.txt"
    cp "$here/requirements.txt" "$venv/requirements.txt"
fi

if ! cmp -s "$here/package-lock.json" "$here/node_modules/.installed-lock.json"; then
    echo "installing MQTT.js and playwright-core into tests/clients/node_modules (npm)"
    (cd "$here" && npm ci --silent --no-audit --no-fund)
    cp "$here/package-lock.json" "$here/node_modules/.installed-lock.json"
fi

echo "building the rumqttc suite (cargo)"
cargo build --quiet --locked --manifest-path "$here/rumqttc/Cargo.toml" --target-dir "$here/rumqttc/target"
