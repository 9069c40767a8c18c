#!/bin/sh
# End-to-end tests with real clients (mosquitto_pub/sub, paho-mqtt, MQTT.js in node and in Chromium, rumqttc,
# bare sockets).
#
#   tests/clients/run.sh --broker "target/release/ringmq --listen 127.0.0.1:{port} --shards {shards}" --shards 4
#   tests/clients/run.sh --control            # the same against Debian's mosquitto, to test the tests
#   tests/clients/run.sh --broker ... --only will paho raw      # some suites, some tests
set -eu
here=$(cd "$(dirname "$0")" && pwd)
"$here/setup.sh"

if [ "${1:-}" = --control ]; then
    shift
    set -- --broker "mosquitto -c $here/control/mosquitto.conf -p {port}" --known "$here/control/known.txt" "$@"
fi
PYTHONPATH=$here PYTHONDONTWRITEBYTECODE=1 exec "$here/../.venv/bin/python" "$here/run.py" "$@"
