#!/bin/sh
# Brings the clients that the end-to-end tests drive, if they are missing. Needs root only for what apt must install.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
venv=$here/../.venv

need() { # need COMMAND PACKAGE...: installs the Debian packages unless the command is there
    command -v "$1" >/dev/null 2>&1 && return
    shift
    if [ "$(id -u)" != 0 ]; then
        echo "missing: $* — run as root: apt-get install --no-install-recommends $*" >&2
        exit 3
    fi
    echo "installing $* (apt)"
    [ -n "${apt_updated:-}" ] || { apt-get update -qq; apt_updated=1; }
    DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "$@" >/dev/null
}

need mosquitto_sub mosquitto-clients
need python3 python3 python3-venv
need node nodejs
need npm npm
need openssl openssl
need chromium chromium
need certutil libnss3-tools

if ! cmp -s "$here/requirements.txt" "$venv/requirements.txt"; then
    echo "installing paho-mqtt into tests/.venv (pip)"
    # Debian splits venv from python3, and says so only when asked for a venv with pip in it.
    python3 -c 'import ensurepip' 2>/dev/null || need no-such-command python3-venv
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
